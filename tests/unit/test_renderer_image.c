// renderer: image files, written and read back, in every kind that PNG has, and broken ones.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "rotoscope/image.h"

static char dir[64];
static rot_err err;

static const char *in_dir(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_bytes(const char *name, const void *bytes, size_t n)
{
    assert_int_equal(rot_fs_write_atomic(in_dir(name), bytes, n, &err), 0);
}

static rot_image pattern(uint8_t *pixels, int width, int height, int channels)
{
    for (int i = 0; i < width * height * channels; i++) pixels[i] = (uint8_t)(i * 37 + i / 7);
    return (rot_image){pixels, width, height, channels};
}

static void written_files_read_back(void **state)
{
    (void)state;
    static uint8_t pixels[57 * 13 * 3];
    static const char *const names[] = {"a.png", "a.pgm", "a.ppm"};
    for (int channels = 1; channels <= 3; channels += 2)
        for (int f = 0; f < 3; f++) {
            rot_image image = pattern(pixels, 57, 13, channels), back;
            int rc = rot_image_write(&image, in_dir(names[f]), &err);
            if (f == 1 && channels == 3) {
                assert_int_equal(rc, ROT_ERR_USAGE);
                continue;
            }
            assert_int_equal(rc, 0);
            assert_int_equal(rot_image_read(in_dir(names[f]), &back, &err), 0);
            assert_int_equal(back.width_px, 57);
            assert_int_equal(back.height_px, 13);
            if (f == 2 && channels == 1) { // spread to RGB
                assert_int_equal(back.channels, 3);
                for (int i = 0; i < 57 * 13 * 3; i++)
                    assert_int_equal(back.pixels[i], pixels[i / 3]);
            } else {
                assert_int_equal(back.channels, channels);
                assert_memory_equal(back.pixels, pixels, (size_t)(57 * 13 * channels));
            }
            rot_image_release(&back);
            assert_null(back.pixels);
        }
    rot_image image = pattern(pixels, 2, 2, 1);
    assert_int_equal(rot_image_write(&image, in_dir("a.jpeg"), &err), ROT_ERR_USAGE);
    assert_int_equal(rot_image_write(&image, "/nowhere/a.png", &err) < 0, 1);
}

static void pnm_headers_may_hold_comments(void **state)
{
    (void)state;
    static const char file[] = "P5 # grey\n# two\n 3\t2 # more\n255\nabcdef";
    rot_image image;
    write_bytes("c.pgm", file, sizeof file - 1);
    assert_int_equal(rot_image_read(in_dir("c.pgm"), &image, &err), 0);
    assert_int_equal(image.width_px, 3);
    assert_memory_equal(image.pixels, "adbecf", 6); // column-major
    rot_image_release(&image);
}

static void malformed_files_are_errors(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "P",
                                      "P5",
                                      "P5\n",
                                      "P5\n3 2\n255",
                                      "P5\n3 2\n255\nabcde",
                                      "P5\n3 2\n65535\nabcdefabcdef",
                                      "P5\n0 2\n255\n",
                                      "P5\n-3 2\n255\nabcdef",
                                      "P5\n99999999999 99999999999\n255\na",
                                      "P5\n4000000 4000000\n255\na",
                                      "P2\n1 1\n255\n7\n",
                                      "P6\n1 1\n255\nab",
                                      "GIF89a",
                                      "\x89PNG\r\n\x1a\n",
                                      "P5\n3 2\n15\nabcdef",
                                      "P5\n3 x\n255\nabcdef"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rot_image image;
        write_bytes("bad", bad[i], strlen(bad[i]));
        if (rot_image_read(in_dir("bad"), &image, &err) != ROT_ERR_FORMAT)
            fail_msg("'%s' is read", bad[i]);
        assert_null(image.pixels);
        assert_non_null(strstr(err.message, "bad"));
    }
    rot_image image;
    assert_int_equal(rot_image_read(in_dir("nothing.png"), &image, &err), ROT_ERR_MISSING);
}

// Writes through libpng itself: depth and colour as told, values from `at`.
static void write_png(const char *name, int color, int depth, int interlace, const uint8_t *rows,
                      size_t n_row, int width, int height)
{
    FILE *file = fopen(in_dir(name), "wb");
    assert_non_null(file);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    if (setjmp(png_jmpbuf(png))) fail();
    png_init_io(png, file);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, depth, color, interlace,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_color palette[4] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {9, 8, 7}};
    if (color == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette, 4);
    png_bytep list[64];
    for (int y = 0; y < height; y++) list[y] = (png_bytep)(uintptr_t)(rows + (size_t)y * n_row);
    png_set_rows(png, info, list);
    png_write_png(png, info, PNG_TRANSFORM_IDENTITY, NULL);
    png_destroy_write_struct(&png, &info);
    fclose(file);
}

static void expect(const char *name, int channels, const uint8_t *pixels, size_t n)
{
    rot_image image;
    if (rot_image_read(in_dir(name), &image, &err) < 0) fail_msg("%s", err.message);
    assert_int_equal(image.channels, channels);
    assert_memory_equal(image.pixels, pixels, n);
    rot_image_release(&image);
}

static void every_kind_of_png_becomes_8_bits_grey_or_rgb(void **state)
{
    (void)state;
    write_png("p.png", PNG_COLOR_TYPE_PALETTE, 2, 0, (const uint8_t[]){0x1b}, 1, 4,
              1); // indices 0 1 2 3
    expect("p.png", 3, (const uint8_t[]){255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7}, 12);
    write_png("g1.png", PNG_COLOR_TYPE_GRAY, 1, 0, (const uint8_t[]){0x50}, 1, 4, 1);
    expect("g1.png", 1, (const uint8_t[]){0, 255, 0, 255}, 4);
    write_png("g16.png", PNG_COLOR_TYPE_GRAY, 16, 0, (const uint8_t[]){0x12, 0xf4, 0xff, 0xff}, 4,
              2, 1);
    expect("g16.png", 1, (const uint8_t[]){0x12, 0xff}, 2);
    write_png("ga.png", PNG_COLOR_TYPE_GRAY_ALPHA, 8, 0, (const uint8_t[]){7, 255, 7, 0, 0, 128}, 6,
              3, 1);
    expect("ga.png", 1, (const uint8_t[]){7, 7, 0}, 3);
    // Alpha over white: full, none, half of black.
    write_png("rgba.png", PNG_COLOR_TYPE_RGB_ALPHA, 8, 0,
              (const uint8_t[]){1, 2, 3, 255, 1, 2, 3, 0, 0, 0, 0, 128}, 12, 3, 1);
    expect("rgba.png", 3, (const uint8_t[]){1, 2, 3, 255, 255, 255, 127, 127, 127}, 9);
    write_png("rgba16.png", PNG_COLOR_TYPE_RGB_ALPHA, 16, 0,
              (const uint8_t[]){1, 1, 2, 2, 3, 3, 255, 255, 1, 1, 2, 2, 3, 3, 0, 0}, 16, 2, 1);
    expect("rgba16.png", 3, (const uint8_t[]){1, 2, 3, 255, 255, 255}, 6);
    static uint8_t rows[40 * 30], columns[40 * 30];
    for (int i = 0; i < 1200; i++) rows[i] = (uint8_t)(i * 11);
    for (int x = 0; x < 40; x++)
        for (int y = 0; y < 30; y++) columns[x * 30 + y] = rows[y * 40 + x];
    write_png("i.png", PNG_COLOR_TYPE_GRAY, 8, PNG_INTERLACE_ADAM7, rows, 40, 40, 30);
    expect("i.png", 1, columns, 1200);
}

static void cut_and_flipped_pngs_never_crash(void **state)
{
    (void)state;
    static uint8_t pixels[64 * 32 * 3];
    rot_image image = pattern(pixels, 64, 32, 3), back;
    uint8_t *bytes;
    size_t n_bytes;
    assert_int_equal(rot_image_encode(&image, ROT_IMAGE_PNG, &bytes, &n_bytes, &err), 0);
    int failed = 0;
    for (size_t n = 0; n + 12 < n_bytes; n += 1 + n_bytes / 97) {
        write_bytes("cut.png", bytes, n);
        assert_int_equal(rot_image_read(in_dir("cut.png"), &back, &err), ROT_ERR_FORMAT);
    }
    for (size_t at = 8; at < n_bytes; at += 1 + n_bytes / 211) {
        bytes[at] ^= 0x41;
        write_bytes("flip.png", bytes, n_bytes);
        int rc = rot_image_read(in_dir("flip.png"), &back, &err);
        failed += rc < 0;
        rot_image_release(&back);
        bytes[at] ^= 0x41;
    }
    assert_true(failed > 100);
    free(bytes);
}

static void failed_allocations_are_reported(void **state)
{
    (void)state;
    static uint8_t pixels[64 * 32];
    rot_image image = pattern(pixels, 64, 32, 1), back;
    assert_int_equal(rot_image_write(&image, in_dir("m.png"), &err), 0);
    int failed = 0;
    for (long n = 1; n < 40; n++) {
        uint8_t *bytes;
        size_t n_bytes;
        rot_mem_fail_at(n);
        int rc = rot_image_read(in_dir("m.png"), &back, &err);
        rot_mem_fail_at(0);
        assert_true(rc == 0 || rc == ROT_ERR_NO_MEMORY);
        failed += rc < 0;
        rot_image_release(&back);
        rot_mem_fail_at(n);
        rc = rot_image_encode(&image, ROT_IMAGE_PNG, &bytes, &n_bytes, &err);
        rot_mem_fail_at(0);
        assert_true(rc == 0 || rc == ROT_ERR_NO_MEMORY);
        failed += rc < 0;
        free(bytes);
    }
    assert_true(failed >= 8);
}

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/rot image XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_files_read_back),
        cmocka_unit_test(pnm_headers_may_hold_comments),
        cmocka_unit_test(malformed_files_are_errors),
        cmocka_unit_test(every_kind_of_png_becomes_8_bits_grey_or_rgb),
        cmocka_unit_test(cut_and_flipped_pngs_never_crash),
        cmocka_unit_test(failed_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
