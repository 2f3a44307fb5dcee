#include "renderer/shape.h"

#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "renderer/renderer.h"

int rot_shaper_open(rot_shaper *shaper, rot_err *err)
{
    memset(shaper, 0, sizeof *shaper);
    shaper->buffer = hb_buffer_create();
    if (!hb_buffer_allocation_successful(shaper->buffer))
        return rot_no_memory(err, 64, "an hb_buffer");
    return 0;
}

void rot_shaper_close(rot_shaper *shaper)
{
    if (shaper->buffer) hb_buffer_destroy(shaper->buffer);
    rot_itemizer_free(&shaper->itemizer);
    rot_free(shaper->code_points);
    rot_free(shaper->fonts);
    rot_free(shaper->glyphs);
    memset(shaper, 0, sizeof *shaper);
}

static int decode(rot_shaper *shaper, const char *text, size_t n_bytes, rot_err *err)
{
    ROT_TRY(rot_grow(&shaper->code_points, &shaper->code_points_capacity, n_bytes,
                     sizeof *shaper->code_points, err));
    size_t n = 0;
    for (size_t at = 0; at < n_bytes; n++) {
        int32_t c = rot_utf8_next(text, n_bytes, &at);
        if (c < 0) ROT_FAIL(err, ROT_ERR_INPUT, "invalid UTF-8 at byte %zu", at);
        shaper->code_points[n] = (uint32_t)c;
    }
    shaper->n_code_points = n;
    return 0;
}

static bool has_glyph(const rot_font *font, uint32_t code_point)
{
    hb_codepoint_t glyph;
    return hb_font_get_nominal_glyph(font->hb, code_point, &glyph) && glyph;
}

static bool is_format(uint32_t code_point) // hidden by HarfBuzz if there is no glyph
{
    hb_unicode_funcs_t *unicode = hb_unicode_funcs_get_default();
    return hb_unicode_general_category(unicode, code_point) == HB_UNICODE_GENERAL_CATEGORY_FORMAT ||
           (code_point >= 0xfe00 && code_point <= 0xfe0f) ||
           (code_point >= 0xe0100 && code_point <= 0xe01ef) || code_point == 0x034f;
}

static bool continues_cluster(uint32_t code_point)
{
    hb_unicode_general_category_t category =
        hb_unicode_general_category(hb_unicode_funcs_get_default(), code_point);
    return is_format(code_point) || category == HB_UNICODE_GENERAL_CATEGORY_NON_SPACING_MARK ||
           category == HB_UNICODE_GENERAL_CATEGORY_SPACING_MARK ||
           category == HB_UNICODE_GENERAL_CATEGORY_ENCLOSING_MARK ||
           (code_point >= 0x1f3fb && code_point <= 0x1f3ff); // skin tones
}

// Whether `font` draws text[0, n) without its box: composed or decomposed, as HarfBuzz finds it.
static bool draws_cluster(rot_shaper *shaper, const rot_font *font, const uint32_t *text, size_t n)
{
    hb_buffer_t *buffer = shaper->buffer;
    hb_buffer_clear_contents(buffer);
    hb_buffer_add_utf32(buffer, text, (int)n, 0, (int)n);
    hb_buffer_guess_segment_properties(buffer);
    hb_shape(font->hb, buffer, NULL, 0);
    unsigned n_glyphs;
    const hb_glyph_info_t *infos = hb_buffer_get_glyph_infos(buffer, &n_glyphs);
    for (unsigned i = 0; i < n_glyphs; i++)
        if (!infos[i].codepoint) return false;
    return true;
}

// Fonts of the code points: font 0, but a cluster that it cannot draw goes to the first that can.
// Returns NULL if all stay with font 0. Basic layout knows no clusters: there each code point is
// one.
static const uint8_t *choose_fonts(const rot_renderer *renderer, rot_shaper *shaper)
{
    const uint32_t *text = shaper->code_points;
    size_t n = shaper->n_code_points;
    bool basic = renderer->options.layout == ROT_LAYOUT_BASIC, any = false;
    memset(shaper->fonts, 0, n);
    for (size_t start = 0, end; start < n; start = end) {
        bool covered = has_glyph(&renderer->fonts[0], text[start]);
        for (end = start + 1; !basic && end < n && continues_cluster(text[end]); end++)
            covered =
                covered && (is_format(text[end]) || has_glyph(&renderer->fonts[0], text[end]));
        if (covered ||
            (!basic && draws_cluster(shaper, &renderer->fonts[0], text + start, end - start)))
            continue;
        for (int f = 1; f < renderer->n_fonts; f++) {
            const rot_font *font = &renderer->fonts[f];
            if (basic ? !has_glyph(font, text[start])
                      : !draws_cluster(shaper, font, text + start, end - start))
                continue;
            memset(shaper->fonts + start, f, end - start);
            any = true;
            break;
        }
    }
    return any ? shaper->fonts : NULL;
}

// Spacing goes behind the last glyph of a cluster; from right to left that is its first in visual
// order, which moves by as much. Optional ligatures are off then, as in CSS and raqm.
static void space_letters(rot_shaped *glyphs, size_t n, int32_t spacing, bool backward)
{
    for (size_t i = 0; i < n; i++) {
        bool last = backward ? i == 0 || glyphs[i].cluster != glyphs[i - 1].cluster
                             : i == n - 1 || glyphs[i].cluster != glyphs[i + 1].cluster;
        if (!last) continue;
        glyphs[i].x_advance += spacing;
        if (backward) glyphs[i].x_offset += spacing;
    }
}

int rot_shape_run(const rot_renderer *renderer, rot_shaper *shaper, const uint32_t *text,
                  size_t n_text, const rot_text_run *run, rot_err *err)
{
    static const hb_feature_t spaced[] = {
        {HB_TAG('l', 'i', 'g', 'a'), 0, HB_FEATURE_GLOBAL_START, HB_FEATURE_GLOBAL_END},
        {HB_TAG('c', 'l', 'i', 'g'), 0, HB_FEATURE_GLOBAL_START, HB_FEATURE_GLOBAL_END},
        {HB_TAG('h', 'l', 'i', 'g'), 0, HB_FEATURE_GLOBAL_START, HB_FEATURE_GLOBAL_END},
        {HB_TAG('d', 'l', 'i', 'g'), 0, HB_FEATURE_GLOBAL_START, HB_FEATURE_GLOBAL_END},
        {HB_TAG('c', 'a', 'l', 't'), 0, HB_FEATURE_GLOBAL_START, HB_FEATURE_GLOBAL_END}};
    hb_buffer_t *buffer = shaper->buffer;
    hb_buffer_clear_contents(buffer);
    hb_buffer_add_utf32(buffer, text, (int)n_text, run->start, (int)run->n);
    hb_buffer_set_script(buffer, run->script);
    hb_buffer_set_direction(buffer, run->backward ? HB_DIRECTION_RTL : HB_DIRECTION_LTR);
    hb_buffer_set_language(buffer, HB_LANGUAGE_INVALID); // the font's default, whatever the locale
    hb_buffer_set_flags(buffer, HB_BUFFER_FLAG_BOT | HB_BUFFER_FLAG_EOT);
    hb_shape(renderer->fonts[run->font].hb, buffer, spaced,
             renderer->letter_spacing_26_6 ? (unsigned)(sizeof spaced / sizeof *spaced) : 0);
    if (!hb_buffer_allocation_successful(buffer)) return rot_no_memory(err, n_text * 40, "shaping");
    unsigned n;
    const hb_glyph_info_t *infos = hb_buffer_get_glyph_infos(buffer, &n);
    const hb_glyph_position_t *positions = hb_buffer_get_glyph_positions(buffer, &n);
    ROT_TRY(rot_grow(&shaper->glyphs, &shaper->glyphs_capacity, shaper->n_glyphs + n,
                     sizeof *shaper->glyphs, err));
    rot_shaped *out = shaper->glyphs + shaper->n_glyphs;
    for (unsigned i = 0; i < n; i++)
        out[i] = (rot_shaped){infos[i].codepoint,     infos[i].cluster,      run->font,
                              positions[i].x_advance, positions[i].x_offset, positions[i].y_offset};
    shaper->n_glyphs += n;
    if (renderer->letter_spacing_26_6)
        space_letters(out, n, renderer->letter_spacing_26_6, run->backward);
    return 0;
}

// Pillow's basic layout: hinted advances; a kern is rounded to whole pixels and then added to
// a 26.6 field, so that it moves the pen by 64ths. Kerning stays within one font.
static int shape_basic(rot_render_worker *worker, const uint8_t *fonts, rot_err *err)
{
    rot_shaper *shaper = &worker->shaper;
    const rot_renderer *renderer = worker->renderer;
    uint32_t last_glyph = 0;
    int last_font = -1;
    for (size_t i = 0; i < shaper->n_code_points; i++) {
        int font = fonts ? fonts[i] : 0;
        FT_Face face = worker->glyphs.faces.face[font];
        uint32_t glyph_id = FT_Get_Char_Index(face, shaper->code_points[i]);
        FT_Vector kern;
        if (FT_HAS_KERNING(face) && last_glyph && glyph_id && font == last_font &&
            FT_Get_Kerning(face, last_glyph, glyph_id, FT_KERNING_DEFAULT, &kern) == 0)
            shaper->glyphs[i - 1].x_advance += rot_pixel(kern.x);
        FT_Error error = FT_Load_Glyph(face, glyph_id, FT_LOAD_DEFAULT);
        if (error)
            return rot_face_error(error, ROT_ERR_FORMAT, renderer->fonts[font].path, "a glyph",
                                  err);
        shaper->glyphs[i] = (rot_shaped){.glyph_id = glyph_id,
                                         .cluster = (uint32_t)i,
                                         .font = font,
                                         .x_advance = (int32_t)face->glyph->metrics.horiAdvance +
                                                      renderer->letter_spacing_26_6};
        last_glyph = glyph_id;
        last_font = font;
    }
    shaper->n_glyphs = shaper->n_code_points;
    return 0;
}

static int shape_basic_guarded(rot_render_worker *worker, const uint8_t *fonts, rot_err *err)
{
    if (!rot_faces_guard(&worker->glyphs.faces))
        return rot_no_memory(err, sizeof(void *), "a glyph");
    int rc = shape_basic(worker, fonts, err);
    rot_faces_unguard(&worker->glyphs.faces);
    return rc;
}

int rot_shape_line(rot_render_worker *worker, const char *text, size_t n_bytes, rot_err *err)
{
    rot_shaper *shaper = &worker->shaper;
    const rot_renderer *renderer = worker->renderer;
    shaper->n_glyphs = 0;
    ROT_TRY(decode(shaper, text, n_bytes, err));
    size_t n = shaper->n_code_points;
    if (!n) return 0;
    const uint8_t *fonts = NULL;
    if (renderer->n_fonts > 1) {
        ROT_TRY(rot_grow(&shaper->fonts, &shaper->fonts_capacity, n, 1, err));
        fonts = choose_fonts(renderer, shaper);
    }
    ROT_TRY(rot_grow(&shaper->glyphs, &shaper->glyphs_capacity, n, sizeof *shaper->glyphs, err));
    if (renderer->options.layout == ROT_LAYOUT_BASIC)
        return shape_basic_guarded(worker, fonts, err);
    const rot_text_run *runs;
    size_t n_runs;
    ROT_TRY(rot_itemize(&shaper->itemizer, shaper->code_points, n, fonts, &runs, &n_runs, err));
    for (size_t i = 0; i < n_runs; i++)
        ROT_TRY(rot_shape_run(renderer, shaper, shaper->code_points, n, &runs[i], err));
    return 0;
}

// The code point that a glyph 0 of the cluster from `at` on stands for: the first that the font
// lacks.
static uint32_t blame(const rot_renderer *renderer, const rot_shaper *shaper,
                      const rot_shaped *glyph)
{
    size_t end = shaper->n_code_points;
    for (size_t i = 0; i < shaper->n_glyphs; i++)
        if (shaper->glyphs[i].cluster > glyph->cluster && shaper->glyphs[i].cluster < end)
            end = shaper->glyphs[i].cluster;
    for (size_t i = glyph->cluster; i < end; i++)
        if (!is_format(shaper->code_points[i]) &&
            !has_glyph(&renderer->fonts[glyph->font], shaper->code_points[i]))
            return shaper->code_points[i];
    return shaper->code_points[glyph->cluster];
}

int rot_count_missing(const rot_renderer *renderer, const rot_shaper *shaper, uint32_t *first)
{
    int n = 0;
    const rot_shaped *earliest = NULL;
    for (size_t i = 0; i < shaper->n_glyphs; i++) {
        const rot_shaped *glyph = &shaper->glyphs[i];
        if (glyph->glyph_id) continue;
        n++;
        if (!earliest || glyph->cluster < earliest->cluster) earliest = glyph;
    }
    *first = earliest ? blame(renderer, shaper, earliest) : 0;
    return n;
}
