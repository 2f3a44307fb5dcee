// Sizes only: how large an image becomes on its way to the tower. docs/geometry.md explains; the
// formulas are those of qwen_vl_utils 0.0.14 (vision_process.py, smart_resize) and
// transformers 4.57 (models/qwen2_vl/image_processing_qwen2_vl.py, smart_resize), in the same order
// of operations, because the results of floor and ceil hang on single bits.
#include "rotoscope/geometry.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"

enum { RELEASED_FACTOR = 28, MIN_TOKENS = 4, MAX_TOKENS = 16384, MAX_RATIO = 200 };

rot_preprocessor rot_preprocessor_default(void)
{
    return (rot_preprocessor){.patch_px = 16,
                              .temporal = 2,
                              .merge = 2,
                              .min_pixels = 65536,
                              .max_pixels = 16777216,
                              .mean = {0.5, 0.5, 0.5},
                              .std = {0.5, 0.5, 0.5}};
}

static const char *const names[] = {"released", "patch16", "native"};

const char *rot_geometry_name(rot_geometry geometry)
{
    return (unsigned)geometry < 3 ? names[geometry] : "unknown";
}

int rot_geometry_parse(const char *name, rot_geometry *out)
{
    for (int i = 0; i < 3; i++) {
        if (!name || strcmp(name, names[i])) continue;
        *out = (rot_geometry)i;
        return 0;
    }
    return ROT_ERR_CONFIG;
}

// Rounds to a multiple of `factor`, halves to even as Python's round().
static double to_multiple(double size, double factor)
{
    return rint(size / factor) * factor;
}

// Both resizes. The first (qwen_vl_utils) keeps every side at `factor` or more when it rounds, the
// second (the processor) when it shrinks.
static int smart_resize(int64_t height, int64_t width, int factor, double min_pixels,
                        double max_pixels, bool first, double out[2], rot_err *err)
{
    const double h = (double)height, w = (double)width, f = factor;
    const double ratio = h > w ? h / w : w / h;
    if (ratio > MAX_RATIO)
        ROT_FAIL(err, ROT_ERR_TOO_LARGE,
                 "an image of %lldx%lld pixels%s: its aspect ratio %.2f is over the largest, %d",
                 (long long)width, (long long)height, first ? "" : " (after the first resize)",
                 ratio, MAX_RATIO);
    double hb = to_multiple(h, f), wb = to_multiple(w, f);
    if (first) {
        hb = fmax(f, hb);
        wb = fmax(f, wb);
    }
    if (hb * wb > max_pixels) {
        double beta = sqrt(h * w / max_pixels);
        hb = floor(h / beta / f) * f;
        wb = floor(w / beta / f) * f;
        if (!first) {
            hb = fmax(f, hb);
            wb = fmax(f, wb);
        }
    } else if (hb * wb < min_pixels) {
        double beta = sqrt(min_pixels / (h * w));
        hb = ceil(h * beta / f) * f;
        wb = ceil(w * beta / f) * f;
    }
    out[0] = hb;
    out[1] = wb;
    return 0;
}

int rot_geometry_check(rot_geometry geometry, const rot_preprocessor *p, rot_err *err)
{
    static const char *const models[] = {"Qwen3-VL", "Qwen2-VL or Qwen2.5-VL", "LLaVA-1.6"};
    static const char *const takes[] = {"released, patch16 or native", "released or native",
                                        "released"};
    if ((unsigned)geometry > ROT_GEOMETRY_NATIVE || (unsigned)p->family > ROT_FAMILY_LLAVA_NEXT)
        ROT_FAIL(err, ROT_ERR_USAGE, "geometry %d of family %d", (int)geometry, (int)p->family);
    if (geometry == ROT_GEOMETRY_RELEASED || p->family == ROT_FAMILY_QWEN3_VL ||
        (geometry == ROT_GEOMETRY_NATIVE && p->family == ROT_FAMILY_QWEN2_VL))
        return 0;
    ROT_FAIL(err, ROT_ERR_CONFIG,
             "the geometry %s does not exist for a %s checkpoint, which takes %s", names[geometry],
             models[p->family], takes[p->family]);
}

static bool bad_tiles(const rot_preprocessor *p)
{
    const int32_t tile = p->tile_px;
    if (p->family != ROT_FAMILY_LLAVA_NEXT) return false;
    if (tile < 1 || tile > 4096 || tile % p->patch_px || p->merge != 1 || p->temporal != 1 ||
        p->n_pinpoints < 1 || p->n_pinpoints > ROT_MAX_PINPOINTS)
        return true;
    for (int i = 0; i < p->n_pinpoints; i++)
        for (int k = 0; k < 2; k++)
            if (p->pinpoints[i][k] < tile || p->pinpoints[i][k] > 1 << 15 ||
                p->pinpoints[i][k] % tile)
                return true;
    return false;
}

static int check(const rot_preprocessor *p, int32_t width_px, int32_t height_px, rot_err *err)
{
    if (width_px < 1 || height_px < 1)
        ROT_FAIL(err, ROT_ERR_USAGE, "an image of %dx%d pixels has no area", width_px, height_px);
    if (p->patch_px < 1 || p->patch_px > 256 || p->merge < 1 || p->merge > 16 || p->temporal < 1 ||
        p->temporal > 16 || p->min_pixels < 1 || p->max_pixels < p->min_pixels ||
        p->max_pixels > INT32_MAX || bad_tiles(p))
        ROT_FAIL(err, ROT_ERR_USAGE, "a preprocessor with sizes out of range");
    return 0;
}

// The sizes after the first resize (first) and as the tower sees them (last), height before width.
static int resize_twice(rot_geometry geometry, const rot_preprocessor *p, int32_t width_px,
                        int32_t height_px, double first[2], double last[2], rot_err *err)
{
    const int factor = p->patch_px * p->merge;
    const int first_factor = geometry == ROT_GEOMETRY_RELEASED ? RELEASED_FACTOR : factor;
    const double area = (double)first_factor * first_factor;
    if (geometry == ROT_GEOMETRY_NATIVE) {
        first[0] = height_px;
        first[1] = width_px;
        last[0] = ceil(first[0] / factor) * factor;
        last[1] = ceil(first[1] / factor) * factor;
        return 0;
    }
    ROT_TRY(smart_resize(height_px, width_px, first_factor, MIN_TOKENS * area, MAX_TOKENS * area,
                         true, first, err));
    if (geometry == ROT_GEOMETRY_PATCH16) {
        last[0] = first[0];
        last[1] = first[1];
        return 0;
    }
    return smart_resize((int64_t)first[0], (int64_t)first[1], factor, (double)p->min_pixels,
                        (double)p->max_pixels, false, last, err);
}

// transformers 4.57.6, image_processing_utils.py: select_best_resolution. {height, width}; NULL:
// the image is so thin that nothing of it would be left.
static const int32_t *best_pinpoint(const rot_preprocessor *p, double height, double width)
{
    const int32_t *best = p->pinpoints[0];
    double most = 0, least_waste = INFINITY;
    for (int i = 0; i < p->n_pinpoints; i++) {
        const int32_t *at = p->pinpoints[i];
        const double scale = fmin(at[1] / width, at[0] / height);
        const double shrunk = floor(width * scale) * floor(height * scale);
        const double effective = fmin(shrunk, width * height);
        const double waste = (double)at[0] * at[1] - effective;
        if (effective > most || (effective == most && waste < least_waste)) {
            most = effective;
            least_waste = waste;
            best = at;
        }
    }
    return best;
}

// int(round(x, 7)) of a positive number. Python rounds the decimal expansion; here that matters
// where x is within 5e-8 under an integer.
static double rounded_down(double x)
{
    const double near = rint(x);
    return near > x && near - x <= 5e-8 ? near : floor(x);
}

// Tokens along one side of the tiles that unpad_image keeps: as many go at the start as at the end.
static int32_t kept(int32_t all, double content)
{
    return all - 2 * (int32_t)floor((all - rounded_down(content)) / 2);
}

// LLaVA-1.6: image_processing_llava_next_fast.py and, for K, modeling_llava_next.py (unpad_image).
static int tiled_grid(const rot_preprocessor *p, int32_t width_px, int32_t height_px, rot_grid *out)
{
    const double h = height_px, w = width_px;
    const int32_t *best = best_pinpoint(p, h, w);
    const double scale_w = best[1] / w, scale_h = best[0] / h;
    const bool wide = scale_w < scale_h; // the width fills the tiles
    const int32_t side = p->tile_px / p->patch_px,
                  tiles = best[0] / p->tile_px * (best[1] / p->tile_px);
    *out = (rot_grid){.first_height = wide ? (int32_t)fmin(ceil(h * scale_w), best[0]) : best[0],
                      .first_width = wide ? best[1] : (int32_t)fmin(ceil(w * scale_h), best[1]),
                      .height = best[0],
                      .width = best[1],
                      .grid_h = best[0] / p->patch_px,
                      .grid_w = best[1] / p->patch_px,
                      .n_patches = (1 + tiles) * side * side};
    const bool bands = w / h > (double)out->grid_w / out->grid_h;
    out->rows = bands ? kept(out->grid_h, h * (out->grid_w / w)) : out->grid_h;
    out->columns = bands ? out->grid_w : kept(out->grid_w, w * (out->grid_h / h));
    out->k = side * side + out->rows * (out->columns + 1);
    return 0;
}

int rot_geometry_grid(rot_geometry geometry, const rot_preprocessor *preprocessor, int32_t width_px,
                      int32_t height_px, rot_grid *out, rot_err *err)
{
    double first[2] = {0}, last[2] = {0};
    ROT_TRY(rot_geometry_check(geometry, preprocessor, err));
    ROT_TRY(check(preprocessor, width_px, height_px, err));
    if (preprocessor->family == ROT_FAMILY_LLAVA_NEXT)
        return tiled_grid(preprocessor, width_px, height_px, out);
    ROT_TRY(resize_twice(geometry, preprocessor, width_px, height_px, first, last, err));
    // Only an image that is not resampled can be over what the processor allows.
    const double area = last[0] * last[1];
    if (geometry == ROT_GEOMETRY_NATIVE && area > (double)preprocessor->max_pixels)
        ROT_FAIL(err, ROT_ERR_TOO_LARGE,
                 "an image of %dx%d pixels: padded to %.0f pixels, the largest area is %lld",
                 width_px, height_px, area, (long long)preprocessor->max_pixels);
    const int32_t patch = preprocessor->patch_px, cell = preprocessor->merge * preprocessor->merge;
    const double n_patches = last[0] / patch * (last[1] / patch);
    if (n_patches > INT32_MAX)
        ROT_FAIL(err, ROT_ERR_TOO_LARGE,
                 "an image of %dx%d pixels: %.0f patches are over the largest number, %d", width_px,
                 height_px, n_patches, INT32_MAX);
    *out = (rot_grid){.first_height = (int32_t)first[0],
                      .first_width = (int32_t)first[1],
                      .height = (int32_t)last[0],
                      .width = (int32_t)last[1],
                      .grid_h = (int32_t)last[0] / patch,
                      .grid_w = (int32_t)last[1] / patch};
    out->n_patches = out->grid_h * out->grid_w;
    out->k = out->n_patches / cell;
    out->rows = out->grid_h / preprocessor->merge;
    out->columns = out->grid_w / preprocessor->merge;
    return 0;
}
