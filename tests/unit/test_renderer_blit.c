// renderer: the fast blits against the plain ones, and painting against Pillow's formula.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "renderer/blit.h"

static unsigned seed = 1;

static unsigned next(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

// Rounded division by 255, for every product of two bytes.
static void division_rounds_to_nearest(void **state)
{
    (void)state;
    for (uint32_t a = 0; a <= 255 * 255; a++) assert_int_equal(rot_div255(a), (a + 127) / 255);
}

// Every pair of bytes through both versions.
static void simd_equals_c(void **state)
{
    (void)state;
    rot_cpu cpu;
    rot_err err;
    assert_int_equal(rot_cpu_detect(&cpu, &err), 0);
    if (!cpu.avx2) skip();
    static uint8_t a[65536 + 32], b[65536 + 32], columns[65536];
    for (int blend = 0; blend < 2; blend++) {
        for (int i = 0; i < 65536; i++) {
            a[i] = b[i] = (uint8_t)(i >> 8);
            columns[i] = (uint8_t)i;
        }
        rot_blit_choose((rot_blend)blend, false)(a, 32, columns, 32, 2048);
        rot_blit_choose((rot_blend)blend, true)(b, 32, columns, 32, 2048);
        assert_memory_equal(a, b, sizeof a);
    }
}

// Columns at odd places of masks of odd heights: nothing changes but the glyph's own pixels.
static void blits_write_nothing_else(void **state)
{
    (void)state;
    rot_cpu cpu;
    rot_err err;
    assert_int_equal(rot_cpu_detect(&cpu, &err), 0);
    for (int round = 0; round < 400; round++) {
        int height = 33 + (int)(next() % 60), width = 2 + (int)(next() % 9),
            glyph = 1 + (int)(next() % 33);
        int stride = (glyph + 31) / 32 * 32, top = (int)(next() % (unsigned)(height - glyph + 1));
        uint8_t *mask = malloc((size_t)(width * height) + 32),
                *expected = malloc((size_t)(width * height) + 32);
        uint8_t *columns = calloc((size_t)width, (size_t)stride);
        for (int i = 0; i < width * height + 32; i++)
            mask[i] = expected[i] = next() % 3 ? 0 : (uint8_t)next();
        for (int x = 0; x < width; x++)
            for (int y = 0; y < glyph; y++) columns[x * stride + y] = (uint8_t)next();
        rot_blend blend = round % 2 ? ROT_BLEND_MAX : ROT_BLEND_OVER;
        for (int x = 0; x < width; x++)
            rot_blit_piece(blend, expected + x * height + top, columns + x * stride, glyph);
        rot_blit_choose(blend, cpu.avx2 && round % 4 < 2)(mask + top, height, columns, stride,
                                                          width);
        assert_memory_equal(mask, expected, (size_t)(width * height) + 32);
        free(mask);
        free(expected);
        free(columns);
    }
}

static void painting_is_pillows_blend(void **state)
{
    (void)state;
    static const uint8_t colors[][3] = {{0, 0, 0}, {255, 255, 255}, {10, 200, 77}, {128, 128, 128}};
    uint8_t mask[259], pixels[259 * 3], over[259 * 3], ink[3][256];
    for (int i = 0; i < 259; i++) mask[i] = (uint8_t)i;
    for (int t = 0; t < 4; t++)
        for (int b = 0; b < 4; b++)
            for (int channels = 1; channels <= 3; channels += 2) {
                for (int c = 0; c < 3; c++)
                    for (unsigned m = 0; m < 256; m++)
                        ink[c][m] =
                            (uint8_t)((colors[b][c] * (255 - m) + colors[t][c] * m + 127) / 255);
                rot_paint_plain(pixels, mask, 259, channels, colors[t], colors[b],
                                (const uint8_t(*)[256])ink);
                for (int i = 0; i < 259 * channels; i++) over[i] = colors[b][i % channels];
                rot_paint_over(over, mask, 259, channels, colors[t]);
                for (int i = 0; i < 259 * channels; i++) {
                    assert_int_equal(pixels[i], ink[i % channels][mask[i / channels]]);
                    assert_int_equal(over[i], pixels[i]);
                }
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(division_rounds_to_nearest),
        cmocka_unit_test(simd_equals_c),
        cmocka_unit_test(blits_write_nothing_else),
        cmocka_unit_test(painting_is_pillows_blend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
