// What the files of this module share: the renderer (immutable, shared) and the worker (one
// thread's).
#ifndef ROT_RENDERER_RENDERER_H
#define ROT_RENDERER_RENDERER_H

#include <hb.h>

#include "renderer/blit.h"
#include "renderer/font.h"
#include "renderer/glyphs.h"
#include "renderer/shape.h"
#include "renderer/words.h"
#include "rotoscope/render.h"

struct rot_renderer {
    rot_render_options options; // font names replaced by the paths of `fonts`
    rot_font fonts[ROT_MAX_FONTS];
    int n_fonts;
    int channels; // of the images: 1 if both colours are grey
    int32_t letter_spacing_26_6;
    int32_t baseline_px; // row of the baseline on the canvas of line mode
    rot_blit_fn *blit;
    rot_word_classes words; // which texts the word cache may shape
    uint8_t ink[3][256];    // mask value to pixel, per channel, over the background
    char *identity;
};

// A glyph where it is drawn, in whole pixels relative to the line's origin on the baseline, y
// upwards.
typedef struct rot_spot {
    const rot_glyph *glyph;
    int32_t x, y;
} rot_spot;

// One line laid out: what Pillow's textbbox and textlength measure, and what was not in the fonts.
typedef struct rot_laid {
    int32_t x_min, x_max, y_min, y_max; // always holds the origin; pixels, y upwards
    int64_t advance_26_6;
    size_t n_spots;
    int missing;
    uint32_t first_missing;
} rot_laid;

struct rot_render_worker {
    const rot_renderer *renderer;
    rot_glyphs glyphs;
    rot_shaper shaper;
    rot_words words;
    rot_spot *spots;
    size_t spots_capacity;
    char *text; // the string that is drawn
    size_t n_text, text_capacity;
    uint8_t *mask; // (w, h) of one line, with ROT_COLUMN spare bytes behind
    size_t mask_capacity;
    uint8_t *pixels; // (w, h, channels)
    size_t pixels_capacity;
    rot_render_line *lines;
    size_t n_lines, lines_capacity;
    int32_t line_bottom_px; // bottom of textbbox("A"), once known
    bool line_bottom_known;
    bool slow; // tests: never use the word cache
};

// Lays out one line (no LF in it) of valid UTF-8 into worker->spots. Shapes as options.layout says.
int rot_lay_line(rot_render_worker *worker, const char *text, size_t n_bytes, rot_laid *out,
                 rot_err *err);
// Its advance alone.
int rot_measure_line(rot_render_worker *worker, const char *text, size_t n_bytes,
                     int64_t *advance_26_6, rot_err *err);
// Distance of lines without extra spacing: the bottom of Pillow's textbbox of "A".
int rot_line_bottom(rot_render_worker *worker, int32_t *bottom_px, rot_err *err);

// Breaks worker->text into worker->lines as page mode does (page.c).
int rot_break_lines(rot_render_worker *worker, rot_err *err);

// Tests: forces every line of this worker through whole-line shaping.
void rot_render_worker_set_slow(rot_render_worker *worker, bool slow);

#endif
