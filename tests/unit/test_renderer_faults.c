// renderer: bad text, missing glyphs, bad fonts, failed allocations, extreme texts.
#include "tests/unit/renderer_pen.h"
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"

static void bad_text_is_named(void **state)
{
    (void)state;
    rot_render_options o = plain();
    pen p = pen_open(&o);
    rot_image image;
    assert_int_equal(rot_render(p.worker, "abc\xff", 4, &image, NULL, &err), ROT_ERR_INPUT);
    assert_non_null(strstr(err.message, "byte 3"));
    assert_int_equal(rot_render(p.worker, "ab\0c", 4, &image, NULL, &err), ROT_ERR_INPUT);
    assert_non_null(strstr(err.message, "U+0000"));
    assert_int_equal(draw(&p, "still works").channels, 1);
    pen_close(&p);
}

static void missing_glyphs_follow_the_policy(void **state)
{
    (void)state;
    rot_render_options o = plain();
    rot_render_info info;
    rot_image image;
    for (int layout = 0; layout < 2; layout++) {
        o.layout = (rot_text_layout)layout;
        o.missing_glyph = ROT_GLYPH_FAIL;
        pen p = pen_open(&o);
        const char *text = "a \xe4\xb8\xad\xe6\x96\x87";
        assert_int_equal(rot_render(p.worker, text, strlen(text), &image, &info, &err),
                         ROT_ERR_MISSING_GLYPH);
        assert_non_null(strstr(err.message, "U+4E2D"));
        assert_int_equal(rot_render(p.worker, "a\tb", 3, &image, &info, &err),
                         ROT_ERR_MISSING_GLYPH);
        assert_non_null(strstr(err.message, "U+0009"));
        assert_int_equal(rot_render(p.worker, "a\xef\xbf\xbd", 4, &image, &info, &err),
                         0); // U+FFFD is in the font
        pen_close(&p);
        o.missing_glyph = ROT_GLYPH_DRAW;
        p = pen_open(&o);
        assert_int_equal(rot_render(p.worker, text, strlen(text), &image, &info, &err), 0);
        assert_int_equal(info.missing, 2);
        assert_int_equal(info.first_missing, 0x4e2d);
        assert_int_equal(info.lines, 1);
        pen_close(&p);
    }
    // What HarfBuzz hides is not missing: a variation selector, a zero width space.
    o.layout = ROT_LAYOUT_RAQM;
    o.missing_glyph = ROT_GLYPH_FAIL;
    assert_int_equal(width_of(&o, "a\xef\xb8\x8f\xe2\x80\x8b"
                                  "b"),
                     width_of(&o, "ab"));
}

static void fonts_that_are_missing_or_none_are_errors(void **state)
{
    (void)state;
    static const char *const names[] = {
        "/nowhere/DejaVuSans.ttf", "NoSuchFile.ttf", "No Such Family", "Makefile", "tests", ""};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        rot_render_options o = plain();
        rot_renderer *renderer;
        o.fonts[0] = names[i];
        int rc = rot_renderer_open(&o, &renderer, &err);
        assert_int_equal(rc, i == 5 ? ROT_ERR_CONFIG : ROT_ERR_MISSING);
        assert_non_null(strstr(err.message, i == 5 ? "fonts" : names[i]));
    }
    rot_render_options by_file = plain(), by_family = plain();
    by_family.fonts[0] = "DejaVu Sans";
    assert_int_equal(width_of(&by_file, "family"), width_of(&by_family, "family"));
}

// Cut and flipped fonts: an error or a picture, never a crash.
static void broken_fonts_never_crash(void **state)
{
    (void)state;
    rot_render_options o = plain();
    pen p = pen_open(&o);
    char *bytes, path[] = "/tmp/rot font XXXXXX";
    size_t n_bytes;
    assert_int_equal(rot_fs_read(rot_renderer_font_path(p.renderer, 0), &bytes, &n_bytes, &err), 0);
    pen_close(&p);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unsigned seed = 5;
    int failed = 0;
    for (int i = 0; i < 60; i++) {
        char *copy = rot_malloc(n_bytes);
        memcpy(copy, bytes, n_bytes);
        size_t n = i < 20 ? n_bytes * (size_t)i / 20 : n_bytes;
        for (int k = 0; k < 200 && i >= 20; k++) {
            seed = seed * 1664525u + 1013904223u;
            copy[seed % (i < 40 ? 4000 : n_bytes)] ^= (char)(1 << (seed >> 29));
        }
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, copy, n, 0), (ssize_t)n);
        rot_free(copy);
        o.fonts[0] = path;
        o.missing_glyph = ROT_GLYPH_DRAW;
        rot_renderer *renderer = NULL;
        rot_render_worker *worker = NULL;
        rot_image image;
        int rc = rot_renderer_open(&o, &renderer, &err);
        if (rc == 0) rc = rot_render_worker_open(renderer, &worker, &err);
        if (rc == 0) rc = rot_render(worker, "AVA 123 fi \xd7\x90", 13, &image, NULL, &err);
        if (rc < 0) assert_true(err.message[0] != 0);
        failed += rc < 0;
        rot_render_worker_close(&worker);
        rot_renderer_close(&renderer);
    }
    assert_true(failed >= 10);
    close(fd);
    unlink(path);
    rot_free(bytes);
}

static void nth_allocation_fails_cleanly(void **state)
{
    (void)state;
    rot_render_options o = plain();
    o.fonts[0] =
        "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"; // no fontconfig: its memory is its own
    if (!rot_fs_is_file(o.fonts[0])) skip();
    const char *text = "one (two) \xd7\x90\xd7\x91";
    char good[33], hex[33];
    hash_text(&o, text, good);
    int failed = 0;
    for (long n = 1; n < 400; n++) {
        rot_renderer *renderer = NULL;
        rot_render_worker *worker = NULL;
        rot_image image;
        rot_mem_fail_at(n);
        int rc = rot_renderer_open(&o, &renderer, &err);
        if (rc == 0) rc = rot_render_worker_open(renderer, &worker, &err);
        if (rc == 0) rc = rot_render(worker, text, strlen(text), &image, NULL, &err);
        rot_mem_fail_at(0);
        failed += rc < 0;
        if (rc < 0 && rc != ROT_ERR_NO_MEMORY) fail_msg("allocation %ld: %s", n, err.message);
        // A worker that ran out of memory once goes on.
        if (worker && rc < 0)
            assert_int_equal(rot_render(worker, text, strlen(text), &image, NULL, &err), 0);
        if (worker) {
            hash_image(&image, hex);
            if (strcmp(hex, good)) fail_msg("allocation %ld: other pixels", n);
        }
        rot_render_worker_close(&worker);
        rot_renderer_close(&renderer);
    }
    assert_true(failed > 50);
}

static void empty_and_very_long_texts_are_drawn(void **state)
{
    (void)state;
    rot_render_options o = plain();
    pen p = pen_open(&o);
    assert_int_equal(draw(&p, "").width_px, 8);
    char *text = rot_malloc(12001);
    memset(text, 'm', 12000); // one word
    text[12000] = 0;
    int word = draw(&p, text).width_px;
    for (int i = 4; i < 12000; i += 5) text[i] = ' ';
    int words = draw(&p, text).width_px;
    assert_true(word > 200000 && words > 150000 && words < word);
    pen_close(&p);
    o.padding_px = 0;
    assert_int_equal(width_of(&o, ""), 1);
    o.height_px = 4096; // 12,000 * 19 * 4,096 pixels
    p = pen_open(&o);
    rot_image image;
    assert_int_equal(rot_render(p.worker, text, 12000, &image, NULL, &err), ROT_ERR_TOO_LARGE);
    pen_close(&p);
    o = plain();
    o.mode = ROT_MODE_PAGE;
    o.width_px = 400;
    p = pen_open(&o);
    memset(text, 'm', 12000);
    rot_image page = draw(&p, text);
    const rot_render_line *lines;
    int n_lines;
    rot_render_lines(p.worker, &lines, &n_lines);
    assert_true(n_lines > 500 && page.height_px == 8 + n_lines * 23);
    rot_free(text);
    pen_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_text_is_named),
        cmocka_unit_test(missing_glyphs_follow_the_policy),
        cmocka_unit_test(fonts_that_are_missing_or_none_are_errors),
        cmocka_unit_test(broken_fonts_never_crash),
        cmocka_unit_test(nth_allocation_fails_cleanly),
        cmocka_unit_test(empty_and_very_long_texts_are_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
