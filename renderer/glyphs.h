// Glyph bitmaps of one worker, rendered once, as columns.
#ifndef ROT_RENDERER_GLYPHS_H
#define ROT_RENDERER_GLYPHS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "renderer/face.h"

struct rot_renderer;

enum { ROT_COLUMN = 32 }; // columns are padded with zeros to a multiple of this

typedef struct rot_glyph {
    int32_t left, top;     // bitmap's left edge right of the pen, its top row above the baseline
    int32_t width, height; // of the bitmap
    int32_t stride;        // height, padded
    int32_t x_min, x_max, y_min, y_max; // hinted outline's box in whole pixels, y upwards
    const uint8_t *columns;             // (width, stride), 0 to 255; zero under `height`
    const uint8_t
        *placed; // (width, 32): on a canvas 32 rows high, baseline where line mode has it; or NULL
} rot_glyph;

typedef struct rot_glyphs {
    const struct rot_renderer *renderer;
    rot_faces faces;
    const rot_glyph **table[ROT_MAX_FONTS]; // by glyph id; NULL: not drawn yet
    rot_arena arena;
    size_t n_bytes; // in the arena
} rot_glyphs;

int rot_glyphs_open(rot_glyphs *glyphs, const struct rot_renderer *renderer, rot_err *err);
void rot_glyphs_close(rot_glyphs *glyphs);
// Opens the faces again after FreeType ran out of memory (face.h).
int rot_glyphs_mend(rot_glyphs *glyphs, rot_err *err);
// Forgets all bitmaps if they take more than a fixed amount of memory; true if so (pointers are
// stale).
bool rot_glyphs_trim(rot_glyphs *glyphs);

// The bitmap as FT_LOAD_DEFAULT | FT_LOAD_RENDER gives it; valid until rot_glyphs_trim.
// ROT_ERR_FORMAT: the font's data for this glyph are broken.
int rot_glyphs_get(rot_glyphs *glyphs, int font, uint32_t glyph_id, const rot_glyph **out,
                   rot_err *err);

#endif
