// A line to glyphs in their places, through the word cache where that is exact, else shaped whole.
#include <string.h>

#include "base/mem.h"
#include "renderer/renderer.h"

static void add_spot(rot_render_worker *worker, rot_laid *laid, const rot_glyph *glyph,
                     int32_t x_advance, int32_t x_offset, int32_t y_offset)
{
    int32_t x = rot_pixel(laid->advance_26_6 + x_offset), y = rot_pixel(y_offset);
    laid->advance_26_6 += x_advance;
    int32_t pen = rot_pixel(laid->advance_26_6);
    if (pen > laid->x_max) laid->x_max = pen;
    if (x + glyph->x_max > laid->x_max) laid->x_max = x + glyph->x_max;
    if (x + glyph->x_min < laid->x_min) laid->x_min = x + glyph->x_min;
    if (y + glyph->y_max > laid->y_max) laid->y_max = y + glyph->y_max;
    if (y + glyph->y_min < laid->y_min) laid->y_min = y + glyph->y_min;
    if (glyph->width) worker->spots[laid->n_spots++] = (rot_spot){glyph, x, y};
}

static int reserve_spots(rot_render_worker *worker, size_t n, rot_err *err)
{
    return rot_grow(&worker->spots, &worker->spots_capacity, n, sizeof *worker->spots, err);
}

static int lay_shaped(rot_render_worker *worker, const char *text, size_t n_bytes, rot_laid *out,
                      rot_err *err)
{
    ROT_TRY(rot_shape_line(worker, text, n_bytes, err));
    rot_shaper *shaper = &worker->shaper;
    ROT_TRY(reserve_spots(worker, shaper->n_glyphs, err));
    for (size_t i = 0; i < shaper->n_glyphs; i++) {
        const rot_shaped *shaped = &shaper->glyphs[i];
        const rot_glyph *glyph;
        ROT_TRY(rot_glyphs_get(&worker->glyphs, shaped->font, shaped->glyph_id, &glyph, err));
        add_spot(worker, out, glyph, shaped->x_advance, shaped->x_offset, shaped->y_offset);
    }
    out->missing = rot_count_missing(worker->renderer, shaper, &out->first_missing);
    return 0;
}

static size_t word_length(const char *text, size_t n_bytes)
{
    const char *space = memchr(text, ' ', n_bytes);
    return space ? (size_t)(space - text) : n_bytes;
}

// 1: laid out; 0: a word feels the spaces around it, the line must be shaped whole.
static int lay_words(rot_render_worker *worker, const char *text, size_t n_bytes, bool latin,
                     rot_laid *out, rot_err *err)
{
    const rot_word_classes *classes = &worker->renderer->words;
    if (!worker->words.space)
        ROT_TRY(rot_glyphs_get(&worker->glyphs, 0, classes->space_id, &worker->words.space, err));
    ROT_TRY(reserve_spots(worker, n_bytes, err));
    for (size_t at = 0; at < n_bytes;) {
        if (text[at] == ' ') {
            add_spot(worker, out, worker->words.space, classes->space_advance, 0, 0);
            at++;
            continue;
        }
        size_t n = word_length(text + at, n_bytes - at);
        const rot_word *word;
        ROT_TRY(rot_words_get(worker, text + at, n, latin, &word, err));
        if (!word) return 0;
        ROT_TRY(reserve_spots(worker, out->n_spots + word->n_glyphs + n_bytes, err));
        for (uint32_t i = 0; i < word->n_glyphs; i++) {
            const rot_word_glyph *g = &word->glyphs[i];
            add_spot(worker, out, g->glyph, g->x_advance, g->x_offset, g->y_offset);
        }
        at += n;
    }
    return 1;
}

static int words_script(const rot_render_worker *worker, const char *text, size_t n_bytes)
{
    const rot_word_classes *classes = &worker->renderer->words;
    return classes->usable && !worker->slow ? rot_words_script(classes, text, n_bytes) : -1;
}

int rot_lay_line(rot_render_worker *worker, const char *text, size_t n_bytes, rot_laid *out,
                 rot_err *err)
{
    memset(out, 0, sizeof *out);
    int script = words_script(worker, text, n_bytes);
    if (script >= 0) {
        int done = lay_words(worker, text, n_bytes, script, out, err);
        if (done != 0) return done < 0 ? done : 0;
        memset(out, 0, sizeof *out);
    }
    return lay_shaped(worker, text, n_bytes, out, err);
}

// 1: measured; 0: as lay_words.
static int measure_words(rot_render_worker *worker, const char *text, size_t n_bytes, bool latin,
                         int64_t *advance_26_6, rot_err *err)
{
    for (size_t at = 0; at < n_bytes;) {
        if (text[at] == ' ') {
            *advance_26_6 += worker->renderer->words.space_advance;
            at++;
            continue;
        }
        size_t n = word_length(text + at, n_bytes - at);
        const rot_word *word;
        ROT_TRY(rot_words_get(worker, text + at, n, latin, &word, err));
        if (!word) return 0;
        *advance_26_6 += word->advance;
        at += n;
    }
    return 1;
}

int rot_measure_line(rot_render_worker *worker, const char *text, size_t n_bytes,
                     int64_t *advance_26_6, rot_err *err)
{
    *advance_26_6 = 0;
    int script = words_script(worker, text, n_bytes);
    if (script >= 0) {
        int done = measure_words(worker, text, n_bytes, script, advance_26_6, err);
        if (done != 0) return done < 0 ? done : 0;
        *advance_26_6 = 0;
    }
    ROT_TRY(rot_shape_line(worker, text, n_bytes, err));
    for (size_t i = 0; i < worker->shaper.n_glyphs; i++)
        *advance_26_6 += worker->shaper.glyphs[i].x_advance;
    return 0;
}

int rot_line_bottom(rot_render_worker *worker, int32_t *bottom_px, rot_err *err)
{
    if (!worker->line_bottom_known) {
        rot_laid laid;
        ROT_TRY(rot_lay_line(worker, "A", 1, &laid, err));
        worker->line_bottom_px = worker->renderer->fonts[0].ascender_px - laid.y_min;
        worker->line_bottom_known = true;
    }
    *bottom_px = worker->line_bottom_px;
    return 0;
}
