#include "base/versions.h"

#include <ft2build.h>
#include FT_FREETYPE_H
#include <fontconfig/fontconfig.h>
#include <fribidi.h>
#include <hb.h>
#include <png.h>
#include <stdio.h>
#include <string.h>

// fribidi_version_info is several lines: "(GNU FriBidi) 1.0.8\ninterface version 4,\n...".
static void fribidi_number(char *out, size_t capacity)
{
    const char *at = strstr(fribidi_version_info, ") ");
    snprintf(out, capacity, "%s", at ? at + 2 : fribidi_version_info);
    out[strcspn(out, "\n")] = 0;
}

int rot_renderer_versions(rot_version *out, int capacity)
{
    char text[48];
    FT_Library freetype;
    int n = 0, major, minor, patch;
    if (FT_Init_FreeType(&freetype) == 0) {
        FT_Library_Version(freetype, &major, &minor, &patch);
        snprintf(text, sizeof text, "%d.%d.%d", major, minor, patch);
        n = rot_version_add(out, capacity, n, "FreeType", text);
        FT_Done_FreeType(freetype);
    }
    n = rot_version_add(out, capacity, n, "HarfBuzz", hb_version_string());
    fribidi_number(text, sizeof text);
    n = rot_version_add(out, capacity, n, "FriBidi", text);
    int v = FcGetVersion();
    snprintf(text, sizeof text, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    n = rot_version_add(out, capacity, n, "fontconfig", text);
    return rot_version_add(out, capacity, n, "libpng", png_get_libpng_ver(NULL));
}
