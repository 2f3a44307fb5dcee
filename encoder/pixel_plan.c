#include "encoder/pixel_plan.h"

#include <string.h>

#include "base/err.h"
#include "encoder/resample.h"

bool rot_pixel_plan_fits(const rot_preprocessor *preprocessor, const rot_image *images, size_t n,
                         const uint8_t background[3])
{
    bool fits = preprocessor->family != ROT_FAMILY_LLAVA_NEXT && background[0] == background[1] &&
                background[1] == background[2];
    for (size_t i = 0; i < n && fits; i++) fits = images[i].channels == 1;
    return fits;
}

void rot_pixel_plan_cut(const rot_preprocessor *preprocessor, const uint8_t background[3],
                        rot_pixel_cut *out)
{
    *out = (rot_pixel_cut){.background = background[0],
                           .patch_px = preprocessor->patch_px,
                           .temporal = preprocessor->temporal,
                           .merge = preprocessor->merge};
    rot_pixels_table(preprocessor, out->table);
}

// Sizes on the way.
typedef struct size {
    int32_t width, height;
} size;

static int add(rot_pixel_image *out, rot_resampler resampler, bool columns, int32_t n_out, size *at,
               rot_arena *arena, rot_err *err)
{
    int32_t *n = columns ? &at->width : &at->height;
    rot_axis axis;
    if (n_out == *n) return 0;
    ROT_TRY(rot_axis_make(resampler, *n, n_out, arena, &axis, err));
    out->passes[out->n_passes++] =
        (rot_pixel_pass){columns,        axis.n_in,  axis.n_out, axis.stride,
                         axis.precision, axis.first, axis.taps,  axis.weights};
    *n = n_out;
    return 0;
}

static int resize(rot_pixel_image *out, rot_resampler resampler, int32_t height, int32_t width,
                  size *at, rot_arena *arena, rot_err *err)
{
    const bool height_first =
        rot_resample_height_first(resampler, at->height, at->width, height, width);
    if (height_first) ROT_TRY(add(out, resampler, false, height, at, arena, err));
    ROT_TRY(add(out, resampler, true, width, at, arena, err));
    return add(out, resampler, false, height, at, arena, err);
}

int rot_pixel_plan(rot_geometry geometry, const rot_preprocessor *preprocessor,
                   const rot_image *image, const rot_grid *grid, rot_arena *arena,
                   rot_pixel_image *out, rot_err *err)
{
    rot_grid right;
    size at = {image->width_px, image->height_px};
    if (!image->pixels) ROT_FAIL(err, ROT_ERR_USAGE, "an image without pixels");
    ROT_TRY(
        rot_geometry_grid(geometry, preprocessor, image->width_px, image->height_px, &right, err));
    if (memcmp(&right, grid, sizeof right))
        ROT_FAIL(err, ROT_ERR_USAGE, "the grid of another image: %dx%d patches, not %dx%d",
                 grid->grid_w, grid->grid_h, right.grid_w, right.grid_h);
    *out = (rot_pixel_image){.bytes = image->pixels,
                             .width = image->width_px,
                             .height = image->height_px,
                             .grid_h = grid->grid_h,
                             .grid_w = grid->grid_w};
    if (geometry == ROT_GEOMETRY_NATIVE) return 0;
    ROT_TRY(
        resize(out, ROT_RESAMPLE_PILLOW, grid->first_height, grid->first_width, &at, arena, err));
    if (geometry == ROT_GEOMETRY_PATCH16) return 0;
    return resize(out, ROT_RESAMPLE_TORCH, grid->height, grid->width, &at, arena, err);
}
