// A worker and what it draws: the text with its marks, the canvas, line mode and page mode.
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "renderer/renderer.h"

enum { MAX_PIXELS = 1 << 26, LINE_MODE_SPACING_PX = 4 }; // Pillow's default distance of lines
static const char BEGIN[] = "<|begin_of_thought|>  ", END[] = "  <|end_of_thought|>";
static const char NEWLINE_MARK[] = "\xe2\x86\xb5"; // U+21B5, downwards arrow with corner leftwards

int rot_render_worker_open(const rot_renderer *renderer, rot_render_worker **out, rot_err *err)
{
    *out = NULL;
    rot_render_worker *worker = rot_calloc(1, sizeof *worker);
    if (!worker) return rot_no_memory(err, sizeof *worker, "a render worker");
    int rc;
    worker->renderer = renderer;
    ROT_GO(rot_glyphs_open(&worker->glyphs, renderer, err));
    ROT_GO(rot_shaper_open(&worker->shaper, err));
    *out = worker;
done:
    if (rc < 0) rot_render_worker_close(&worker);
    return rc;
}

void rot_render_worker_close(rot_render_worker **worker)
{
    rot_render_worker *w = *worker;
    if (!w) return;
    rot_words_close(&w->words);
    rot_shaper_close(&w->shaper);
    rot_glyphs_close(&w->glyphs);
    rot_free(w->spots);
    rot_free(w->text);
    rot_free(w->mask);
    rot_free(w->pixels);
    rot_free(w->lines);
    rot_free(w);
    *worker = NULL;
}

void rot_render_worker_set_slow(rot_render_worker *worker, bool slow)
{
    worker->slow = slow;
}

/* ---- text ---- */

static int check_text(const char *text, size_t n_bytes, rot_err *err)
{
    size_t bad = rot_utf8_valid(text, n_bytes);
    if (bad < n_bytes) ROT_FAIL(err, ROT_ERR_INPUT, "invalid UTF-8 at byte %zu of the text", bad);
    const char *nul = n_bytes ? memchr(text, 0, n_bytes) : NULL;
    if (nul) ROT_FAIL(err, ROT_ERR_INPUT, "U+0000 at byte %zu of the text", (size_t)(nul - text));
    return 0;
}

static void put(rot_render_worker *worker, const char *bytes, size_t n_bytes)
{
    memcpy(worker->text + worker->n_text, bytes, n_bytes);
    worker->n_text += n_bytes;
}

// worker->text: the string that is drawn, with markers and newlines as the options say.
static int make_text(rot_render_worker *worker, const char *text, size_t n_bytes, rot_err *err)
{
    const rot_render_options *o = &worker->renderer->options;
    ROT_TRY(check_text(text, n_bytes, err));
    if (n_bytes > (size_t)1 << 28) ROT_FAIL(err, ROT_ERR_TOO_LARGE, "a text of %zu bytes", n_bytes);
    size_t most = n_bytes * (o->newline == ROT_NEWLINE_MARKER ? sizeof NEWLINE_MARK - 1 : 1);
    ROT_TRY(
        rot_grow(&worker->text, &worker->text_capacity, most + sizeof BEGIN + sizeof END, 1, err));
    worker->n_text = 0;
    if (o->thought_markers) put(worker, BEGIN, sizeof BEGIN - 1);
    for (size_t at = 0; at < n_bytes;) {
        const char *newline =
            o->newline == ROT_NEWLINE_KEEP ? NULL : memchr(text + at, '\n', n_bytes - at);
        size_t n = newline ? (size_t)(newline - text) - at : n_bytes - at;
        put(worker, text + at, n);
        at += n;
        if (!newline) continue;
        if (o->newline == ROT_NEWLINE_SPACE)
            put(worker, " ", 1);
        else
            put(worker, NEWLINE_MARK, sizeof NEWLINE_MARK - 1);
        at++;
    }
    if (o->thought_markers) put(worker, END, sizeof END - 1);
    return 0;
}

static int add_line(rot_render_worker *worker, const char *text, size_t n_bytes, rot_err *err)
{
    ROT_TRY(rot_grow(&worker->lines, &worker->lines_capacity, worker->n_lines + 1,
                     sizeof *worker->lines, err));
    worker->lines[worker->n_lines++] = (rot_render_line){text, n_bytes};
    return 0;
}

// worker->lines at every LF.
static int split_lines(rot_render_worker *worker, rot_err *err)
{
    const char *text = worker->text, *end = text + worker->n_text;
    for (;;) {
        const char *newline = text < end ? memchr(text, '\n', (size_t)(end - text)) : NULL;
        ROT_TRY(add_line(worker, text, (size_t)((newline ? newline : end) - text), err));
        if (!newline) return 0;
        text = newline + 1;
    }
}

/* ---- canvas ---- */

static int check_size(int64_t width, int64_t height, rot_err *err)
{
    if (width * height <= MAX_PIXELS && width <= INT32_MAX && height <= INT32_MAX) return 0;
    ROT_FAIL(err, ROT_ERR_TOO_LARGE, "an image of %lld x %lld pixels is over %d pixels",
             (long long)width, (long long)height, MAX_PIXELS);
}

// A cleared mask (width, height) and room for the pixels of the image.
static int clear_mask(rot_render_worker *worker, int64_t width, int64_t height, rot_err *err)
{
    size_t n = (size_t)(width * height);
    ROT_TRY(rot_grow(&worker->mask, &worker->mask_capacity, n + ROT_COLUMN, 1, err));
    memset(worker->mask, 0, n + ROT_COLUMN);
    return 0;
}

static int reserve_pixels(rot_render_worker *worker, int64_t width, int64_t height, rot_err *err)
{
    size_t n = (size_t)(width * height) * (size_t)worker->renderer->channels;
    return rot_grow(&worker->pixels, &worker->pixels_capacity, n, 1, err);
}

// Blends a glyph whose bitmap's top left corner is (x, y) of the mask, which may cut it at any
// side.
static void draw_clipped(const rot_renderer *renderer, uint8_t *mask, int32_t width, int32_t height,
                         const rot_glyph *glyph, int32_t x, int32_t y)
{
    int32_t top = y < 0 ? -y : 0, bottom = y + glyph->height > height ? height - y : glyph->height;
    if (top >= bottom) return;
    for (int32_t c = 0; c < glyph->width; c++)
        if (x + c >= 0 && x + c < width)
            rot_blit_piece(renderer->options.blend, mask + (ptrdiff_t)(x + c) * height + y + top,
                           glyph->columns + (ptrdiff_t)c * glyph->stride + top, bottom - top);
}

// The spots of a line onto the mask (width, height), its origin at (x, baseline).
static void draw_spots(rot_render_worker *worker, const rot_laid *laid, int32_t width,
                       int32_t height, int32_t x, int32_t baseline)
{
    const rot_renderer *renderer = worker->renderer;
    bool line_canvas = height == 32 && baseline == renderer->baseline_px;
    uint8_t *mask = worker->mask;
    for (size_t i = 0; i < laid->n_spots; i++) {
        const rot_spot *spot = &worker->spots[i];
        const rot_glyph *glyph = spot->glyph;
        int32_t left = x + spot->x + glyph->left, top = baseline - spot->y - glyph->top;
        if (left < 0 || left + glyph->width > width || top < 0 || top + glyph->height > height)
            draw_clipped(renderer, mask, width, height, glyph, left, top);
        else if (line_canvas && glyph->placed && spot->y == 0)
            renderer->blit(mask + (ptrdiff_t)left * 32, 32, glyph->placed, 32, glyph->width);
        else
            renderer->blit(mask + (ptrdiff_t)left * height + top, height, glyph->columns,
                           glyph->stride, glyph->width);
    }
}

static void fill_background(rot_render_worker *worker, int64_t width, int64_t height)
{
    const rot_renderer *renderer = worker->renderer;
    size_t n = (size_t)(width * height);
    if (renderer->channels == 1) {
        memset(worker->pixels, renderer->options.background_color[0], n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        memcpy(worker->pixels + i * 3, renderer->options.background_color, 3);
}

/* ---- lines onto an image ---- */

static int note_missing(rot_render_worker *worker, const rot_laid *laid, rot_render_info *info,
                        rot_err *err)
{
    if (!laid->missing) return 0;
    if (!info->missing) info->first_missing = laid->first_missing;
    info->missing += laid->missing;
    if (worker->renderer->options.missing_glyph == ROT_GLYPH_DRAW) return 0;
    ROT_FAIL(err, ROT_ERR_MISSING_GLYPH, "no font of the list has a glyph for U+%04X",
             laid->first_missing);
}

// One line on a canvas of its own: its mask is the canvas.
static int draw_single(rot_render_worker *worker, rot_image *image, rot_render_info *info,
                       rot_err *err)
{
    const rot_renderer *renderer = worker->renderer;
    const rot_render_options *o = &renderer->options;
    rot_laid laid;
    ROT_TRY(rot_lay_line(worker, worker->text, worker->n_text, &laid, err));
    ROT_TRY(note_missing(worker, &laid, info, err));
    int64_t width = (int64_t)laid.x_max - laid.x_min + 2 * o->padding_px, height = o->height_px;
    if (width < 1) width = 1; // an empty text without padding
    ROT_TRY(check_size(width, height, err));
    ROT_TRY(clear_mask(worker, width, height, err));
    ROT_TRY(reserve_pixels(worker, width, height, err));
    draw_spots(worker, &laid, (int32_t)width, (int32_t)height, o->padding_px,
               renderer->baseline_px);
    rot_paint_plain(worker->pixels, worker->mask, (size_t)(width * height), renderer->channels,
                    o->text_color, o->background_color, renderer->ink);
    *image = (rot_image){worker->pixels, (int32_t)width, (int32_t)height, renderer->channels};
    return 0;
}

// One of several lines: a mask as large as its ink, blended over what the image holds, as Pillow
// draws them one after another.
static int draw_line_over(rot_render_worker *worker, const rot_laid *laid, int32_t width,
                          int32_t height, int32_t x, int64_t baseline, rot_err *err)
{
    const rot_renderer *renderer = worker->renderer;
    int64_t left = (int64_t)x + laid->x_min, right = (int64_t)x + laid->x_max;
    int64_t top = baseline - laid->y_max, bottom = baseline - laid->y_min;
    if (left < 0) left = 0;
    if (right > width) right = width;
    if (top < 0) top = 0;
    if (bottom > height) bottom = height;
    if (left >= right || top >= bottom) return 0;
    int32_t w = (int32_t)(right - left), h = (int32_t)(bottom - top);
    ROT_TRY(clear_mask(worker, w, h, err));
    draw_spots(worker, laid, w, h, (int32_t)(x - left), (int32_t)(baseline - top));
    for (int32_t c = 0; c < w; c++)
        rot_paint_over(worker->pixels + ((size_t)(left + c) * (size_t)height + (size_t)top) *
                                            (size_t)renderer->channels,
                       worker->mask + (size_t)c * (size_t)h, (size_t)h, renderer->channels,
                       renderer->options.text_color);
    return 0;
}

// worker->lines from (padding, y) downwards, `pitch` apart.
static int draw_lines(rot_render_worker *worker, int64_t width, int64_t height, int32_t y,
                      int64_t pitch, rot_image *image, rot_render_info *info, rot_err *err)
{
    const rot_renderer *renderer = worker->renderer;
    ROT_TRY(check_size(width, height, err));
    ROT_TRY(reserve_pixels(worker, width, height, err));
    fill_background(worker, width, height);
    for (size_t i = 0; i < worker->n_lines; i++) {
        rot_laid laid;
        ROT_TRY(rot_lay_line(worker, worker->lines[i].text, worker->lines[i].n_bytes, &laid, err));
        ROT_TRY(note_missing(worker, &laid, info, err));
        ROT_TRY(draw_line_over(worker, &laid, (int32_t)width, (int32_t)height,
                               renderer->options.padding_px,
                               y + (int64_t)i * pitch + renderer->fonts[0].ascender_px, err));
    }
    info->lines = (int)worker->n_lines;
    *image = (rot_image){worker->pixels, (int32_t)width, (int32_t)height, renderer->channels};
    return 0;
}

// Line mode, `newline: keep`: Pillow's multi-line text, as wide as its widest line, cut at the
// height.
static int draw_kept_newlines(rot_render_worker *worker, rot_image *image, rot_render_info *info,
                              rot_err *err)
{
    const rot_render_options *o = &worker->renderer->options;
    int32_t bottom, x_min = 0, x_max = 0;
    ROT_TRY(split_lines(worker, err));
    ROT_TRY(rot_line_bottom(worker, &bottom, err));
    for (size_t i = 0; i < worker->n_lines; i++) {
        rot_laid laid;
        ROT_TRY(rot_lay_line(worker, worker->lines[i].text, worker->lines[i].n_bytes, &laid, err));
        if (laid.x_min < x_min) x_min = laid.x_min;
        if (laid.x_max > x_max) x_max = laid.x_max;
    }
    int64_t width = (int64_t)x_max - x_min + 2 * o->padding_px;
    return draw_lines(worker, width < 1 ? 1 : width, o->height_px,
                      worker->renderer->baseline_px - worker->renderer->fonts[0].ascender_px,
                      (int64_t)bottom + LINE_MODE_SPACING_PX, image, info, err);
}

static int draw_page(rot_render_worker *worker, rot_image *image, rot_render_info *info,
                     rot_err *err)
{
    const rot_render_options *o = &worker->renderer->options;
    int32_t bottom;
    ROT_TRY(rot_line_bottom(worker, &bottom, err));
    ROT_TRY(rot_break_lines(worker, err));
    int64_t pitch = (int64_t)bottom + o->line_spacing_px;
    if (pitch < 1)
        ROT_FAIL(err, ROT_ERR_CONFIG, "line_spacing_px %d puts lines of %d px on top of each other",
                 o->line_spacing_px, bottom);
    int64_t needed = 2 * (int64_t)o->padding_px + (int64_t)worker->n_lines * pitch;
    if (o->page_height_px && needed > o->page_height_px)
        ROT_FAIL(err, ROT_ERR_TOO_LARGE,
                 "%zu lines need a page of %lld px, and page_height_px is %d", worker->n_lines,
                 (long long)needed, o->page_height_px);
    return draw_lines(worker, o->width_px, o->page_height_px ? o->page_height_px : needed,
                      o->padding_px, pitch, image, info, err);
}

// Before each text: bounded caches, whole faces.
static int start(rot_render_worker *worker, rot_err *err)
{
    if (rot_glyphs_trim(&worker->glyphs)) rot_words_forget(&worker->words);
    return rot_glyphs_mend(&worker->glyphs, err);
}

int rot_render(rot_render_worker *worker, const char *text, size_t n_bytes, rot_image *image,
               rot_render_info *info, rot_err *err)
{
    const rot_render_options *o = &worker->renderer->options;
    rot_render_info own;
    if (!info) info = &own;
    *info = (rot_render_info){.lines = 1};
    *image = (rot_image){0};
    worker->n_lines = 0;
    ROT_TRY(start(worker, err));
    ROT_TRY(make_text(worker, text, n_bytes, err));
    if (o->mode == ROT_MODE_PAGE) return draw_page(worker, image, info, err);
    if (o->newline == ROT_NEWLINE_KEEP && memchr(worker->text, '\n', worker->n_text))
        return draw_kept_newlines(worker, image, info, err);
    ROT_TRY(add_line(worker, worker->text, worker->n_text, err));
    return draw_single(worker, image, info, err);
}

int rot_render_lines(const rot_render_worker *worker, const rot_render_line **lines, int *n_lines)
{
    *lines = worker->lines;
    *n_lines = (int)worker->n_lines;
    return 0;
}

int rot_render_text_length(rot_render_worker *worker, const char *text, size_t n_bytes,
                           double *length_px, rot_err *err)
{
    int64_t advance;
    ROT_TRY(check_text(text, n_bytes, err));
    if (n_bytes && memchr(text, '\n', n_bytes))
        ROT_FAIL(err, ROT_ERR_USAGE, "a text of several lines has no length");
    ROT_TRY(start(worker, err));
    ROT_TRY(rot_measure_line(worker, text, n_bytes, &advance, err));
    *length_px = (double)advance / 64;
    return 0;
}
