// Opening a renderer: options checked, fonts loaded, identity written down.
#include "renderer/renderer.h"

#include <fribidi.h>
#include <hb.h>
#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"

rot_render_options rot_render_options_default(void)
{
    return (rot_render_options){
        .size = sizeof(rot_render_options),
        .fonts = {"DejaVuSans.ttf"},
        .n_fonts = 1,
        .size_px = 20,
        .height_px = 32,
        .padding_px = 4,
        .mode = ROT_MODE_LINE,
        .newline = ROT_NEWLINE_SPACE,
        .thought_markers = true,
        .text_color = {0, 0, 0},
        .background_color = {255, 255, 255},
        .layout = ROT_LAYOUT_RAQM,
        .blend = ROT_BLEND_OVER,
        .letter_spacing_px = 0,
        .width_px = 1024,
        .page_height_px = 0,
        .line_spacing_px = 4,
        .missing_glyph = ROT_GLYPH_FAIL,
    };
}

static int check_int(const char *key, int value, int low, int high, rot_err *err)
{
    if (value >= low && value <= high) return 0;
    ROT_FAIL(err, ROT_ERR_CONFIG, "%s is %d, not from %d to %d", key, value, low, high);
}

static int check(const rot_render_options *o, rot_err *err)
{
    if (!o || o->size != sizeof *o)
        ROT_FAIL(err, ROT_ERR_USAGE, "render options of another version of the library");
    ROT_TRY(check_int("number of fonts", o->n_fonts, 1, ROT_MAX_FONTS, err));
    if (!(o->size_px >= 4 && o->size_px <= 256))
        ROT_FAIL(err, ROT_ERR_CONFIG, "size_px is %g, not from 4 to 256", o->size_px);
    if (!(fabs(o->letter_spacing_px) <= 256))
        ROT_FAIL(err, ROT_ERR_CONFIG, "letter_spacing_px is %g, not from -256 to 256",
                 o->letter_spacing_px);
    ROT_TRY(check_int("height_px", o->height_px, 1, 4096, err));
    ROT_TRY(check_int("padding_px", o->padding_px, 0, 1024, err));
    ROT_TRY(check_int("mode", (int)o->mode, ROT_MODE_LINE, ROT_MODE_PAGE, err));
    ROT_TRY(check_int("newline", (int)o->newline, ROT_NEWLINE_SPACE, ROT_NEWLINE_MARKER, err));
    ROT_TRY(check_int("layout", (int)o->layout, ROT_LAYOUT_RAQM, ROT_LAYOUT_BASIC, err));
    ROT_TRY(check_int("blend", (int)o->blend, ROT_BLEND_OVER, ROT_BLEND_MAX, err));
    ROT_TRY(check_int("missing_glyph", (int)o->missing_glyph, ROT_GLYPH_FAIL, ROT_GLYPH_DRAW, err));
    ROT_TRY(check_int("width_px", o->width_px, 1, 65536, err));
    ROT_TRY(check_int("page_height_px", o->page_height_px, 0, 65536, err));
    ROT_TRY(check_int("line_spacing_px", o->line_spacing_px, -64, 1024, err));
    rot_render_options plain = rot_render_options_default();
    if (o->mode == ROT_MODE_LINE &&
        (o->width_px != plain.width_px || o->page_height_px != plain.page_height_px ||
         o->line_spacing_px != plain.line_spacing_px))
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "width_px, page_height_px and line_spacing_px have no effect in mode line");
    if (o->mode == ROT_MODE_PAGE && o->height_px != plain.height_px)
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "height_px has no effect in mode page: page_height_px is the page's");
    if (o->mode == ROT_MODE_PAGE && o->width_px <= 2 * o->padding_px)
        ROT_FAIL(err, ROT_ERR_CONFIG, "width_px %d leaves no room between two paddings of %d px",
                 o->width_px, o->padding_px);
    return 0;
}

static bool is_grey(const uint8_t color[3])
{
    return color[0] == color[1] && color[1] == color[2];
}

static void write_color(rot_str *str, const char *key, const uint8_t color[3])
{
    rot_str_printf(str, ", \"%s\": \"#%02x%02x%02x\"", key, color[0], color[1], color[2]);
}

// Only what has an effect: settings that draw the same pixels should be one stage.
static int make_identity(rot_renderer *renderer, rot_err *err)
{
    const rot_render_options *o = &renderer->options;
    static const char *const newlines[] = {"space", "keep", "marker"};
    rot_str str = {0};
    FT_Int major = 0, minor = 0, patch = 0;
    rot_faces faces;
    ROT_TRY(rot_faces_open(&faces, err));
    FT_Library_Version(faces.library, &major, &minor, &patch);
    rot_faces_close(&faces);
    rot_str_puts(&str, "{\"fonts\": [");
    for (int i = 0; i < renderer->n_fonts; i++) {
        char hex[65];
        rot_hex(renderer->fonts[i].sha256, 32, hex);
        rot_str_printf(&str, "%s\"%s%s%.0d\"", i ? ", " : "", hex,
                       renderer->fonts[i].index ? "#" : "", renderer->fonts[i].index);
    }
    rot_str_printf(&str, "], \"freetype\": \"%d.%d.%d\", \"harfbuzz\": \"%s\", \"fribidi\": \"%s\"",
                   major, minor, patch, hb_version_string(), FRIBIDI_VERSION);
    rot_str_printf(
        &str, ", \"size_px\": %.17g, \"padding_px\": %d, \"mode\": \"%s\", \"newline\": \"%s\"",
        (double)(long)(o->size_px * 64) / 64, o->padding_px,
        o->mode == ROT_MODE_PAGE ? "page" : "line", newlines[o->newline]);
    rot_str_printf(&str, ", \"thought_markers\": %s", o->thought_markers ? "true" : "false");
    write_color(&str, "text_color", o->text_color);
    write_color(&str, "background_color", o->background_color);
    rot_str_printf(&str, ", \"layout\": \"%s\", \"blend\": \"%s\", \"letter_spacing_px\": %.17g",
                   o->layout == ROT_LAYOUT_BASIC ? "basic" : "raqm",
                   o->blend == ROT_BLEND_MAX ? "max" : "over",
                   renderer->letter_spacing_26_6 / 64.0);
    if (o->mode ==
        ROT_MODE_LINE) // the height and, through the size in whole pixels, where the text sits
        rot_str_printf(&str, ", \"height_px\": %d, \"baseline_px\": %d", o->height_px,
                       renderer->baseline_px);
    else
        rot_str_printf(&str, ", \"width_px\": %d, \"page_height_px\": %d, \"line_spacing_px\": %d",
                       o->width_px, o->page_height_px, o->line_spacing_px);
    rot_str_puts(&str, "}");
    return rot_str_take(&str, &renderer->identity, err);
}

static void make_ink(rot_renderer *renderer)
{
    const rot_render_options *o = &renderer->options;
    for (int c = 0; c < 3; c++)
        for (uint32_t m = 0; m < 256; m++)
            renderer->ink[c][m] =
                (uint8_t)rot_div255(o->background_color[c] * (255 - m) + o->text_color[c] * m);
    renderer->channels = is_grey(o->text_color) && is_grey(o->background_color) ? 1 : 3;
}

int rot_renderer_open(const rot_render_options *options, rot_renderer **out, rot_err *err)
{
    *out = NULL;
    ROT_TRY(check(options, err));
    rot_cpu cpu;
    ROT_TRY(rot_cpu_detect(&cpu, err));
    rot_renderer *renderer = rot_calloc(1, sizeof *renderer);
    if (!renderer) return rot_no_memory(err, sizeof *renderer, "a renderer");
    int rc = 0;
    renderer->options = *options;
    for (int i = 0; i < options->n_fonts; i++) {
        ROT_GO(rot_font_open(options->fonts[i], options->size_px, &renderer->fonts[i], err));
        renderer->n_fonts++;
        renderer->options.fonts[i] = renderer->fonts[i].path;
    }
    renderer->letter_spacing_26_6 = (int32_t)lround(options->letter_spacing_px * 64);
    // Text origin at y = floor((height - size) / 2), anchored by the ascender.
    renderer->baseline_px = (int32_t)floor((options->height_px - options->size_px) / 2) +
                            renderer->fonts[0].ascender_px;
    renderer->blit = rot_blit_choose(options->blend, cpu.avx2);
    rot_word_classes_make(renderer);
    make_ink(renderer);
    ROT_GO(make_identity(renderer, err));
    *out = renderer;
done:
    if (rc < 0) rot_renderer_close(&renderer);
    return rc;
}

void rot_renderer_close(rot_renderer **renderer)
{
    if (!*renderer) return;
    for (int i = 0; i < (*renderer)->n_fonts; i++) rot_font_close(&(*renderer)->fonts[i]);
    rot_free((*renderer)->identity);
    rot_free(*renderer);
    *renderer = NULL;
}

const char *rot_renderer_identity(const rot_renderer *renderer)
{
    return renderer->identity;
}

const char *rot_renderer_font_path(const rot_renderer *renderer, int i)
{
    return i >= 0 && i < renderer->n_fonts ? renderer->fonts[i].path : NULL;
}
