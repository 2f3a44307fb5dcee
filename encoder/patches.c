// Pixels: resampled, normalised, cut into patch rows. Order and features: transformers 4.57,
// models/qwen2_vl/image_processing_qwen2_vl_fast.py and
// models/llava_next/image_processing_llava_next_fast.py.
#include <stdbool.h>
#include <string.h>

#include "base/cpu.h"
#include "base/err.h"
#include "encoder/pixel_plan.h"
#include "encoder/resample.h"
#include "rotoscope/geometry.h"

// Bytes on their way, in the arena: lines are columns of pixels or rows.
typedef struct plane {
    const uint8_t *bytes;
    int32_t n_lines, n_pixels, channels; // (n_lines, n_pixels, channels)
    bool columns;
} plane;

static uint8_t *room(rot_arena *arena, size_t lines, size_t pixels, int32_t channels, rot_err *err)
{
    uint8_t *bytes = rot_arena_alloc(arena, lines * pixels * (size_t)channels);
    if (!bytes) rot_no_memory(err, lines * pixels * (size_t)channels, "an image");
    return bytes;
}

// Makes the lines columns or rows.
static int turn(plane *image, bool columns, rot_arena *arena, rot_err *err)
{
    if (image->columns == columns) return 0;
    uint8_t *bytes =
        room(arena, (size_t)image->n_lines, (size_t)image->n_pixels, image->channels, err);
    if (!bytes) return ROT_ERR_NO_MEMORY;
    rot_transpose(image->bytes, image->n_lines, image->n_pixels, image->channels, bytes);
    *image = (plane){bytes, image->n_pixels, image->n_lines, image->channels, columns};
    return 0;
}

// One pass: over the width (of columns) or over the height (of rows).
static int pass(plane *image, rot_resampler resampler, bool columns, int32_t n_lines, bool simd,
                rot_arena *arena, rot_err *err)
{
    rot_axis axis;
    if (n_lines == (image->columns == columns ? image->n_lines : image->n_pixels)) return 0;
    ROT_TRY(turn(image, columns, arena, err));
    ROT_TRY(rot_axis_make(resampler, image->n_lines, n_lines, arena, &axis, err));
    uint8_t *bytes = room(arena, (size_t)n_lines, (size_t)image->n_pixels, image->channels, err);
    if (!bytes) return ROT_ERR_NO_MEMORY;
    rot_axis_blend(&axis, image->bytes, (size_t)image->n_pixels * (size_t)image->channels, simd,
                   bytes);
    *image = (plane){bytes, n_lines, image->n_pixels, image->channels, columns};
    return 0;
}

static int resize(plane *image, rot_resampler resampler, int32_t height, int32_t width, bool simd,
                  rot_arena *arena, rot_err *err)
{
    const int32_t old_width = image->columns ? image->n_lines : image->n_pixels;
    const int32_t old_height = image->columns ? image->n_pixels : image->n_lines;
    const bool height_first =
        rot_resample_height_first(resampler, old_height, old_width, height, width);
    if (height_first) ROT_TRY(pass(image, resampler, false, height, simd, arena, err));
    ROT_TRY(pass(image, resampler, true, width, simd, arena, err));
    return pass(image, resampler, false, height, simd, arena, err);
}

// A column-major image in height x width of the background, from (top, left) on; row-major.
static int pad(plane *image, const uint8_t background[3], int32_t height, int32_t width,
               int32_t top, int32_t left, rot_arena *arena, rot_err *err)
{
    const bool colour = background[0] != background[1] || background[1] != background[2];
    const int32_t w = image->n_lines, h = image->n_pixels, from = image->channels;
    const int32_t channels = from == 3 || (colour && (w < width || h < height)) ? 3 : 1;
    uint8_t *bytes = room(arena, (size_t)height, (size_t)width, channels, err), *to = bytes;
    if (!bytes) return ROT_ERR_NO_MEMORY;
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++, to += channels) {
            const int32_t u = x - left, v = y - top;
            const uint8_t *pixel =
                u >= 0 && u < w && v >= 0 && v < h
                    ? image->bytes + ((size_t)u * (size_t)h + (size_t)v) * (size_t)from
                    : NULL;
            for (int32_t c = 0; c < channels; c++)
                to[c] = !pixel ? background[c] : pixel[from == 3 ? c : 0];
        }
    *image = (plane){bytes, height, width, channels, false};
    return 0;
}

// float32 of each byte value in each channel. The Fast processor computes (x - mean * 255) / (std *
// 255) in float32 with both products rounded.
void rot_pixels_table(const rot_preprocessor *p, float table[3][256])
{
    for (int c = 0; c < 3; c++) {
        const float mean = (float)p->mean[c] * 255.0f, std = (float)p->std[c] * 255.0f;
        for (int x = 0; x < 256; x++) table[c][x] = ((float)x - mean) / std;
    }
}

static bool same_channels(const rot_preprocessor *p)
{
    return (float)p->mean[0] == (float)p->mean[1] && (float)p->mean[1] == (float)p->mean[2] &&
           (float)p->std[0] == (float)p->std[1] && (float)p->std[1] == (float)p->std[2];
}

// One patch: features (channel, time, y, x). `copies`: all channels are alike.
static void cut_patch(const plane *image, int32_t row, int32_t column, const rot_preprocessor *p,
                      const float table[3][256], bool copies, float *out)
{
    const size_t side = (size_t)p->patch_px, area = side * side, channels = (size_t)image->channels;
    const size_t pitch = (size_t)image->n_pixels * channels;
    const uint8_t *corner =
        image->bytes + (size_t)row * side * pitch + (size_t)column * side * channels;
    for (size_t c = 0; c < (copies ? 1 : 3); c++) {
        float *to = out + c * (size_t)p->temporal * area;
        for (size_t y = 0; y < side; y++)
            for (size_t x = 0; x < side; x++)
                to[y * side + x] =
                    table[c][corner[y * pitch + x * channels + (channels == 3 ? c : 0)]];
        for (size_t t = 1; t < (size_t)p->temporal; t++)
            memcpy(to + t * area, to, area * sizeof *to);
    }
    const size_t n = (size_t)p->temporal * area;
    for (size_t c = 1; copies && c < 3; c++) memcpy(out + c * n, out, n * sizeof *out);
}

// The patches of a part of the image. Rows: block row, block column, row and column within the
// merge cell.
static void cut(const plane *image, const rot_preprocessor *p, int32_t first_row,
                int32_t first_column, int32_t grid_h, int32_t grid_w, float *out)
{
    float table[3][256];
    rot_pixels_table(p, table);
    const bool copies = image->channels == 1 && same_channels(p);
    const size_t n = 3 * (size_t)p->temporal * (size_t)p->patch_px * (size_t)p->patch_px;
    const int32_t m = p->merge;
    for (int32_t br = 0; br < grid_h / m; br++)
        for (int32_t bc = 0; bc < grid_w / m; bc++)
            for (int32_t cell = 0; cell < m * m; cell++, out += n)
                cut_patch(image, first_row + br * m + cell / m, first_column + bc * m + cell % m, p,
                          table, copies, out);
}

// LLaVA-1.6: the image pressed into one view, then, its sides kept in proportion and centred on
// black, in tiles. An odd remainder of the padding goes to the right and the bottom.
static int views(const rot_preprocessor *p, const plane *image, const rot_grid *grid, bool simd,
                 rot_arena *arena, float *out, rot_err *err)
{
    static const uint8_t black[3];
    const int32_t tile = p->tile_px, side = tile / p->patch_px;
    const size_t view = (size_t)(side * side) * 3 * (size_t)p->patch_px * (size_t)p->patch_px;
    plane base = *image, tiles = *image;
    ROT_TRY(resize(&base, ROT_RESAMPLE_TORCH, tile, tile, simd, arena, err));
    ROT_TRY(turn(&base, false, arena, err));
    cut(&base, p, 0, 0, side, side, out);
    ROT_TRY(resize(&tiles, ROT_RESAMPLE_TORCH, grid->first_height, grid->first_width, simd, arena,
                   err));
    ROT_TRY(turn(&tiles, true, arena, err));
    ROT_TRY(pad(&tiles, black, grid->height, grid->width, (grid->height - grid->first_height) / 2,
                (grid->width - grid->first_width) / 2, arena, err));
    for (int32_t row = 0; row < grid->grid_h; row += side)
        for (int32_t column = 0; column < grid->grid_w; column += side)
            cut(&tiles, p, row, column, side, side, out += view);
    return 0;
}

static int pixels(rot_geometry geometry, const rot_preprocessor *p, const rot_image *image,
                  const uint8_t background[3], const rot_grid *grid, bool simd, rot_arena *arena,
                  float *out, rot_err *err)
{
    plane at = {image->pixels, image->width_px, image->height_px, image->channels, true};
    if (p->family == ROT_FAMILY_LLAVA_NEXT) return views(p, &at, grid, simd, arena, out, err);
    if (geometry == ROT_GEOMETRY_NATIVE)
        ROT_TRY(pad(&at, background, grid->height, grid->width, 0, 0, arena, err));
    else
        ROT_TRY(resize(&at, ROT_RESAMPLE_PILLOW, grid->first_height, grid->first_width, simd, arena,
                       err));
    if (geometry == ROT_GEOMETRY_RELEASED)
        ROT_TRY(resize(&at, ROT_RESAMPLE_TORCH, grid->height, grid->width, simd, arena, err));
    ROT_TRY(turn(&at, false, arena, err));
    cut(&at, p, 0, 0, grid->grid_h, grid->grid_w, out);
    return 0;
}

int rot_geometry_pixels(rot_geometry geometry, const rot_preprocessor *preprocessor,
                        const rot_image *image, const uint8_t background[3], const rot_grid *grid,
                        float *out, rot_err *err)
{
    rot_cpu cpu;
    rot_grid right;
    if (!image->pixels || (image->channels != 1 && image->channels != 3))
        ROT_FAIL(err, ROT_ERR_USAGE, "an image of %d channels", image->channels);
    ROT_TRY(
        rot_geometry_grid(geometry, preprocessor, image->width_px, image->height_px, &right, err));
    if (memcmp(&right, grid, sizeof right))
        ROT_FAIL(err, ROT_ERR_USAGE, "the grid of another image: %dx%d patches, not %dx%d",
                 grid->grid_w, grid->grid_h, right.grid_w, right.grid_h);
    ROT_TRY(rot_cpu_detect(&cpu, err));
    rot_arena arena = {.block_bytes = 1 << 20};
    int rc = pixels(geometry, preprocessor, image, background, grid, cpu.avx2, &arena, out, err);
    rot_arena_free(&arena);
    return rc;
}
