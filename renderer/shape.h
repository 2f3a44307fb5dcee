// Code points to glyphs with positions: raqm's way (HarfBuzz) or Pillow's basic layout.
#ifndef ROT_RENDERER_SHAPE_H
#define ROT_RENDERER_SHAPE_H

#include <hb.h>
#include <stdint.h>

#include "renderer/itemize.h"

struct rot_renderer;
struct rot_render_worker;

typedef struct rot_shaped {
    uint32_t glyph_id;
    uint32_t cluster; // index of the cluster's first code point
    int32_t font;
    int32_t x_advance, x_offset, y_offset; // 26.6 pixels
} rot_shaped;

// Scratch of one worker.
typedef struct rot_shaper {
    hb_buffer_t *buffer;
    rot_itemizer itemizer;
    uint32_t *code_points; // of the line
    uint8_t *fonts;        // of each code point
    rot_shaped *glyphs;    // of the line, in visual order
    size_t code_points_capacity, fonts_capacity, glyphs_capacity, n_code_points, n_glyphs;
} rot_shaper;

int rot_shaper_open(rot_shaper *shaper, rot_err *err);
void rot_shaper_close(rot_shaper *shaper);

// Shapes a whole line of valid UTF-8 into shaper->glyphs.
int rot_shape_line(struct rot_render_worker *worker, const char *text, size_t n_bytes,
                   rot_err *err);

// One hb_shape of text[start, start + n) with the rest as context, appended to shaper->glyphs, with
// letter spacing.
int rot_shape_run(const struct rot_renderer *renderer, rot_shaper *shaper, const uint32_t *text,
                  size_t n_text, const rot_text_run *run, rot_err *err);

// Glyphs 0 in shaper->glyphs: how many, and the code point of the first in the order of the text.
int rot_count_missing(const struct rot_renderer *renderer, const rot_shaper *shaper,
                      uint32_t *first);

#endif
