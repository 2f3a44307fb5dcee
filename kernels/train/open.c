// Choosing a backend of training.
#include <string.h>

#include "base/err.h"
#include "base/threads.h"
#include "kernels/train/host.h"

// The quickest first.
static const struct entry {
    const char *name;
    int (*open)(const rot_cpu *cpu, rot_precision precision, rot_train **out, rot_err *err);
} entries[] = {{"avx512", rot_train_avx512_open}, {"ref", rot_train_ref_open}};
enum { N_ENTRIES = sizeof entries / sizeof *entries };

int rot_train_open(const char *name, rot_precision precision, int threads, rot_train **out,
                   rot_err *err)
{
    rot_cpu cpu;
    *out = NULL;
    ROT_TRY(rot_cpu_detect(&cpu, err));
    bool any = !name || !strcmp(name, "auto"), known = any;
    for (int i = 0; i < N_ENTRIES && !*out; i++) {
        bool meant = !any && !strcmp(name, entries[i].name);
        if (!any && !meant) continue;
        known = true;
        int rc = entries[i].open(&cpu, precision, out, err);
        if (rc < 0 && (meant || rc != ROT_ERR_UNSUPPORTED)) return rc;
    }
    if (!known) ROT_FAIL(err, ROT_ERR_USAGE, "backend \"%s\": not one of auto, avx512, ref", name);
    (*out)->precision = precision;
    (*out)->threads = rot_threads_or_default(threads);
    return 0;
}

void rot_train_close(rot_train **train)
{
    if (*train) (*train)->ops->close(*train);
    *train = NULL;
}
