// A font as all threads share it: bytes, hash, HarfBuzz tables, vertical metrics.
#ifndef ROT_RENDERER_FONT_H
#define ROT_RENDERER_FONT_H

#include <hb.h>
#include <stdint.h>

#include "base/err.h"
#include "renderer/face.h"

typedef struct rot_font {
    char *path;  // as resolved
    char *bytes; // the whole file; FreeType faces and the blob point into it
    size_t n_bytes;
    int index;          // face of a collection
    uint8_t sha256[32]; // of the file
    hb_font_t *hb;      // scaled to 26.6 pixels, immutable
    uint32_t n_glyphs;
    int32_t ascender_px; // PIXEL(size metrics): row of the baseline under the text's origin
} rot_font;

// `name`: a file with or without folder, or a family name (rot_font_find). ROT_ERR_MISSING: not
// there, or no scalable font.
int rot_font_open(const char *name, double size_px, rot_font *out, rot_err *err);
void rot_font_close(rot_font *font);

// Path and face index of `name`: a file of that name; else, if it has no slash, a file so named in
// fontconfig's folders; else a family that fontconfig really has. *path is the caller's.
int rot_font_find(const char *name, char **path, int *index, rot_err *err);

#endif
