#include "base/versions.h"

#ifdef ROT_HAVE_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>

int rot_kernels_versions(rot_version *out, int capacity)
{
    char text[48];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return rot_version_add(out, capacity, 0, "oneDNN", text);
}
#else
int rot_kernels_versions(rot_version *out, int capacity)
{
    return rot_version_add(out, capacity, 0, "oneDNN", "none (the onednn backend is off)");
}
#endif
