// encoder: sizes, resampling and patches, against values of the real libraries and against plain
// loops.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "encoder/resample.h"
#include "rotoscope/geometry.h"

static const uint8_t white[3] = {255, 255, 255};

static rot_grid grid_of(rot_geometry geometry, int width, int height)
{
    rot_preprocessor p = rot_preprocessor_default();
    rot_grid grid = {0};
    rot_err err = {0};
    if (rot_geometry_grid(geometry, &p, width, height, &grid, &err) < 0)
        fail_msg("%s", err.message);
    return grid;
}

// K of images 32 pixels high, computed with transformers 4.57.6 and qwen-vl-utils 0.0.14.
static void released_counts_are_those_of_the_processors(void **state)
{
    (void)state;
    static const int cases[][2] = {{24, 70},    {60, 70},   {97, 72},    {98, 64},    {100, 64},
                                   {209, 88},   {210, 69},  {300, 81},   {433, 93},   {434, 64},
                                   {500, 68},   {1000, 96}, {1300, 110}, {1500, 118}, {1762, 128},
                                   {1777, 128}, {1778, 64}, {1800, 64},  {2000, 68},  {2098, 66},
                                   {2867, 89},  {3000, 94}, {4309, 135}, {5614, 175}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(grid_of(ROT_GEOMETRY_RELEASED, cases[i][0], 32).k, cases[i][1]);
}

// (width; first h x w; last h x w): halves go to the even side, ceil and floor at exact multiples.
static void released_sizes_are_those_of_the_processors(void **state)
{
    (void)state;
    static const int cases[][5] = {{98, 28, 112, 128, 512},    {100, 28, 112, 128, 512},
                                   {300, 28, 308, 96, 864},    {1000, 28, 1008, 64, 1536},
                                   {1500, 28, 1512, 64, 1888}, {1778, 28, 1792, 32, 2048},
                                   {1800, 28, 1792, 32, 2048}, {2000, 28, 1988, 32, 2176},
                                   {3000, 28, 2996, 32, 3008}, {5614, 28, 5600, 32, 5600}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rot_grid g = grid_of(ROT_GEOMETRY_RELEASED, cases[i][0], 32);
        assert_int_equal(g.first_height, cases[i][1]);
        assert_int_equal(g.first_width, cases[i][2]);
        assert_int_equal(g.height, cases[i][3]);
        assert_int_equal(g.width, cases[i][4]);
        assert_int_equal(g.grid_h * 16, g.height);
        assert_int_equal(g.grid_w * 16, g.width);
        assert_int_equal(g.n_patches, g.grid_h * g.grid_w);
        assert_int_equal(g.k * 4, g.n_patches);
    }
}

static void patch16_and_native_counts(void **state)
{
    (void)state;
    assert_int_equal(grid_of(ROT_GEOMETRY_PATCH16, 100, 32).k, 8);
    assert_int_equal(grid_of(ROT_GEOMETRY_PATCH16, 300, 32).k, 9);
    assert_int_equal(grid_of(ROT_GEOMETRY_PATCH16, 1000, 32).k, 31);
    assert_int_equal(grid_of(ROT_GEOMETRY_PATCH16, 6400, 32).k, 200);
    assert_int_equal(grid_of(ROT_GEOMETRY_NATIVE, 1000, 32).k, 32);
    assert_int_equal(grid_of(ROT_GEOMETRY_NATIVE, 1, 1).k, 1);
    assert_int_equal(grid_of(ROT_GEOMETRY_NATIVE, 64, 33).k, 4);
    assert_int_equal(grid_of(ROT_GEOMETRY_NATIVE, 64, 33).first_height, 33);
}

static void too_long_images_are_refused_with_both_numbers(void **state)
{
    (void)state;
    static const struct {
        rot_geometry geometry;
        int width, height;
        const char *words;
    } cases[] = {{ROT_GEOMETRY_RELEASED, 5615, 32, "201.00 is over the largest, 200"},
                 {ROT_GEOMETRY_RELEASED, 6400, 32, "229.00"},
                 {ROT_GEOMETRY_RELEASED, 6401, 32, "200.03"},
                 {ROT_GEOMETRY_PATCH16, 6401, 32, "200.03"},
                 {ROT_GEOMETRY_PATCH16, 1, 201, "201.00"},
                 {ROT_GEOMETRY_NATIVE, 4096, 4097, "16908288 pixels, the largest area is 16777216"},
                 {ROT_GEOMETRY_NATIVE, INT32_MAX, INT32_MAX, "16777216"}};
    rot_preprocessor p = rot_preprocessor_default();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rot_grid grid;
        rot_err err = {0};
        assert_int_equal(
            rot_geometry_grid(cases[i].geometry, &p, cases[i].width, cases[i].height, &grid, &err),
            ROT_ERR_TOO_LARGE);
        if (!strstr(err.message, cases[i].words))
            fail_msg("'%s' not in '%s'", cases[i].words, err.message);
    }
}

static void images_without_area_are_refused(void **state)
{
    (void)state;
    rot_preprocessor p = rot_preprocessor_default();
    rot_grid grid;
    for (int g = 0; g < 3; g++) {
        assert_int_equal(rot_geometry_grid((rot_geometry)g, &p, 0, 32, &grid, NULL), ROT_ERR_USAGE);
        assert_int_equal(rot_geometry_grid((rot_geometry)g, &p, 32, -1, &grid, NULL),
                         ROT_ERR_USAGE);
    }
}

static void geometry_names_are_read_back(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        rot_geometry geometry = ROT_GEOMETRY_RELEASED;
        assert_int_equal(rot_geometry_parse(rot_geometry_name((rot_geometry)i), &geometry), 0);
        assert_int_equal((int)geometry, i);
    }
    rot_geometry geometry;
    assert_int_equal(rot_geometry_parse("patch14", &geometry), ROT_ERR_CONFIG);
}

static uint32_t draw(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void simd_blend_equals_plain_blend(void **state)
{
    (void)state;
    if (!__builtin_cpu_supports("avx2")) skip();
    uint32_t seed = 1;
    for (int round = 0; round < 200; round++) {
        int32_t n_in = (int32_t)(1 + draw(&seed) % 90), n_out = (int32_t)(1 + draw(&seed) % 90);
        size_t n_bytes = 1 + draw(&seed) % 70;
        uint8_t *in = malloc((size_t)n_in *
                             n_bytes); // exactly as large as it says: asan sees reads behind it
        uint8_t *plain = malloc((size_t)n_out * n_bytes), *simd = malloc((size_t)n_out * n_bytes);
        for (size_t i = 0; i < (size_t)n_in * n_bytes; i++)
            in[i] = draw(&seed) % 3 ? (uint8_t)draw(&seed) : 255;
        rot_arena arena = {0};
        rot_axis axis;
        rot_resampler resampler = round % 2 ? ROT_RESAMPLE_TORCH : ROT_RESAMPLE_PILLOW;
        assert_int_equal(rot_axis_make(resampler, n_in, n_out, &arena, &axis, NULL), 0);
        rot_axis_blend(&axis, in, n_bytes, false, plain);
        rot_axis_blend(&axis, in, n_bytes, true, simd);
        assert_memory_equal(plain, simd, (size_t)n_out * n_bytes);
        rot_arena_free(&arena);
        free(in);
        free(plain);
        free(simd);
    }
}

static void transpose_is_exact_for_all_sizes(void **state)
{
    (void)state;
    for (int32_t lines = 1; lines < 35; lines += 3)
        for (int32_t pixels = 1; pixels < 35; pixels += 2)
            for (int32_t c = 1; c <= 3; c += 2) {
                size_t n = (size_t)(lines * pixels * c);
                uint8_t *in = malloc(n), *out = malloc(n);
                for (size_t i = 0; i < n; i++) in[i] = (uint8_t)(i * 31 + i / 256);
                rot_transpose(in, lines, pixels, c, out);
                for (int32_t l = 0; l < lines; l++)
                    for (int32_t p = 0; p < pixels; p++)
                        assert_memory_equal(out + (p * lines + l) * c, in + (l * pixels + p) * c,
                                            (size_t)c);
                free(in);
                free(out);
            }
}

static void bytes_of_pillow_and_torch(void **state)
{
    (void)state;
#include "tests/unit/encoder_resample_golden.h"
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        rot_arena arena = {0};
        rot_axis axis;
        uint8_t out[32];
        assert_int_equal(rot_axis_make(golden[i].resampler, golden[i].n_in, golden[i].n_out, &arena,
                                       &axis, NULL),
                         0);
        rot_axis_blend(&axis, golden[i].in, 1, false, out);
        assert_memory_equal(out, golden[i].out, (size_t)golden[i].n_out);
        rot_arena_free(&arena);
    }
}

static void pillow_makes_a_strongly_shrunk_height_first(void **state)
{
    (void)state;
    assert_true(rot_resample_height_first(ROT_RESAMPLE_PILLOW, 32, 1057, 28, 1064));
    assert_true(rot_resample_height_first(ROT_RESAMPLE_PILLOW, 254, 169, 219, 159));
    assert_false(rot_resample_height_first(ROT_RESAMPLE_PILLOW, 32, 332, 28,
                                           330)); // 4 is not over 2 times 2
    assert_false(rot_resample_height_first(ROT_RESAMPLE_PILLOW, 28, 100, 32, 112));
    assert_false(rot_resample_height_first(ROT_RESAMPLE_TORCH, 32, 1057, 28, 1064));
}

static float *pixels_of(rot_geometry geometry, const rot_image *image, const uint8_t background[3],
                        rot_grid *grid)
{
    rot_preprocessor p = rot_preprocessor_default();
    rot_err err = {0};
    *grid = grid_of(geometry, image->width_px, image->height_px);
    float *out = malloc((size_t)grid->n_patches * 1536 * sizeof *out);
    if (rot_geometry_pixels(geometry, &p, image, background, grid, out, &err) < 0)
        fail_msg("%s", err.message);
    return out;
}

static void grey_equals_rgb_of_equal_channels(void **state)
{
    (void)state;
    enum { W = 333, H = 32 };
    uint8_t *grey = malloc(W * H), *rgb = malloc(W * H * 3);
    uint32_t seed = 7;
    for (size_t i = 0; i < W * H; i++) {
        grey[i] = (uint8_t)draw(&seed);
        memset(rgb + 3 * i, grey[i], 3);
    }
    for (int g = 0; g < 3; g++) {
        rot_grid grid;
        float *a = pixels_of((rot_geometry)g, &(rot_image){grey, W, H, 1}, white, &grid);
        float *b = pixels_of((rot_geometry)g, &(rot_image){rgb, W, H, 3}, white, &grid);
        assert_memory_equal(a, b, (size_t)grid.n_patches * 1536 * sizeof *a);
        free(a);
        free(b);
    }
    free(grey);
    free(rgb);
}

// native: where each pixel goes, and what stands around it.
static void native_patches_have_the_processors_order(void **state)
{
    (void)state;
    enum { W = 70, H = 40 }; // padded to 96 x 64: 6 x 4 patches
    uint8_t *rgb = malloc(W * H * 3);
    for (int x = 0; x < W; x++)
        for (int y = 0; y < H; y++)
            for (int c = 0; c < 3; c++) rgb[(x * H + y) * 3 + c] = (uint8_t)(x * 3 + y * 5 + c * 7);
    static const uint8_t background[3] = {10, 20, 30};
    rot_grid grid;
    float *out = pixels_of(ROT_GEOMETRY_NATIVE, &(rot_image){rgb, W, H, 3}, background, &grid);
    assert_int_equal(grid.grid_w, 6);
    assert_int_equal(grid.grid_h, 4);
    const float *at = out;
    for (int block_row = 0; block_row < 2; block_row++)
        for (int block_column = 0; block_column < 3; block_column++)
            for (int row = 0; row < 2; row++)
                for (int column = 0; column < 2; column++)
                    for (int c = 0; c < 3; c++)
                        for (int t = 0; t < 2; t++)
                            for (int py = 0; py < 16; py++)
                                for (int px = 0; px < 16; px++, at++) {
                                    int x = (block_column * 2 + column) * 16 + px;
                                    int y = (block_row * 2 + row) * 16 + py;
                                    int value = x < W && y < H ? (uint8_t)(x * 3 + y * 5 + c * 7)
                                                               : background[c];
                                    assert_true(*at == ((float)value - 127.5f) / 127.5f);
                                }
    free(out);
    free(rgb);
}

static void grey_native_takes_a_coloured_background(void **state)
{
    (void)state;
    uint8_t grey[40] = {0};
    static const uint8_t background[3] = {255, 0, 51};
    rot_grid grid;
    float *out = pixels_of(ROT_GEOMETRY_NATIVE, &(rot_image){grey, 8, 5, 1}, background, &grid);
    for (int c = 0; c < 3; c++) {
        assert_true(out[c * 512] == -1);
        assert_true(out[c * 512 + 8] == ((float)background[c] - 127.5f) / 127.5f);
    }
    free(out);
}

static void another_images_grid_is_refused(void **state)
{
    (void)state;
    uint8_t grey[32 * 64] = {0};
    rot_preprocessor p = rot_preprocessor_default();
    rot_grid grid = grid_of(ROT_GEOMETRY_NATIVE, 96, 32);
    float out[1];
    rot_err err;
    assert_int_equal(rot_geometry_pixels(ROT_GEOMETRY_NATIVE, &p, &(rot_image){grey, 64, 32, 1},
                                         white, &grid, out, &err),
                     ROT_ERR_USAGE);
}

static void pixels_survive_failing_allocations(void **state)
{
    (void)state;
    uint8_t *grey = calloc(32, 600);
    rot_preprocessor p = rot_preprocessor_default();
    rot_grid grid = grid_of(ROT_GEOMETRY_RELEASED, 600, 32);
    float *out = malloc((size_t)grid.n_patches * 1536 * sizeof *out);
    int rc = ROT_ERR_NO_MEMORY, n = 1;
    for (; n < 100 && rc == ROT_ERR_NO_MEMORY; n++) {
        rot_err err = {0};
        rot_mem_fail_at(n);
        rc = rot_geometry_pixels(ROT_GEOMETRY_RELEASED, &p, &(rot_image){grey, 600, 32, 1}, white,
                                 &grid, out, &err);
        rot_mem_fail_at(0);
        if (rc < 0) assert_int_equal(err.code, ROT_ERR_NO_MEMORY);
    }
    assert_int_equal(rc, 0);
    assert_true(n > 2);
    free(out);
    free(grey);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(released_counts_are_those_of_the_processors),
        cmocka_unit_test(released_sizes_are_those_of_the_processors),
        cmocka_unit_test(patch16_and_native_counts),
        cmocka_unit_test(too_long_images_are_refused_with_both_numbers),
        cmocka_unit_test(images_without_area_are_refused),
        cmocka_unit_test(geometry_names_are_read_back),
        cmocka_unit_test(simd_blend_equals_plain_blend),
        cmocka_unit_test(transpose_is_exact_for_all_sizes),
        cmocka_unit_test(bytes_of_pillow_and_torch),
        cmocka_unit_test(pillow_makes_a_strongly_shrunk_height_first),
        cmocka_unit_test(grey_equals_rgb_of_equal_channels),
        cmocka_unit_test(native_patches_have_the_processors_order),
        cmocka_unit_test(grey_native_takes_a_coloured_background),
        cmocka_unit_test(another_images_grid_is_refused),
        cmocka_unit_test(pixels_survive_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
