// renderer: where page mode breaks lines, and how high its pages are.
#include "tests/unit/renderer_pen.h"

static void expect_lines(pen *p, const char *text, const char *const *expected)
{
    const rot_render_line *lines;
    int n_lines, i = 0;
    draw(p, text);
    rot_render_lines(p->worker, &lines, &n_lines);
    for (; expected[i]; i++) {
        assert_true(i < n_lines);
        if (lines[i].n_bytes != strlen(expected[i]) ||
            memcmp(lines[i].text, expected[i], lines[i].n_bytes))
            fail_msg("line %d of '%s' is '%.*s', not '%s'", i, text, (int)lines[i].n_bytes,
                     lines[i].text, expected[i]);
    }
    assert_int_equal(n_lines, i);
}

static void pages_wrap_keep_blank_lines_and_break_words(void **state)
{
    (void)state;
    rot_render_options o = plain();
    o.mode = ROT_MODE_PAGE;
    o.newline = ROT_NEWLINE_KEEP;
    o.fonts[0] = "DejaVuSansMono.ttf"; // at 20 px 12.04 px a character: ten fit into 121
    o.width_px = 129;
    pen p = pen_open(&o);
    expect_lines(&p, "one two three four", (const char *[]){"one two", "three four", NULL});
    expect_lines(&p, "a\n\nb\n", (const char *[]){"a", "", "b", "", NULL});
    expect_lines(&p, "x abcdefghijklmnopqrstuvw y",
                 (const char *[]){"x", "abcdefghij", "klmnopqrst", "uvw y", NULL});
    expect_lines(&p, "  in  two", (const char *[]){"  in  two", NULL});
    expect_lines(&p, "aaaaaaaa  bbb", (const char *[]){"aaaaaaaa ", "bbb", NULL});
    expect_lines(&p, "", (const char *[]){"", NULL});
    assert_int_equal(draw(&p, "a\n\nb").height_px, 8 + 3 * 23);
    pen_close(&p);
    o.width_px = 9; // one pixel of room: a code point per line
    p = pen_open(&o);
    expect_lines(&p,
                 "a\xc3\xa9"
                 "b",
                 (const char *[]){"a", "\xc3\xa9", "b", NULL});
    pen_close(&p);
}

static void pages_of_fixed_height_refuse_what_does_not_fit(void **state)
{
    (void)state;
    rot_render_options o = plain();
    o.mode = ROT_MODE_PAGE;
    o.newline = ROT_NEWLINE_KEEP;
    o.page_height_px = 8 + 2 * 23;
    pen p = pen_open(&o);
    rot_image image;
    assert_int_equal(draw(&p, "a\nb").height_px, 54);
    assert_int_equal(draw(&p, "a").height_px, 54);
    assert_int_equal(rot_render(p.worker, "a\nb\nc", 5, &image, NULL, &err), ROT_ERR_TOO_LARGE);
    assert_non_null(strstr(err.message, "page_height_px"));
    pen_close(&p);
}

static void lines_may_be_close_but_not_on_top_of_each_other(void **state)
{
    (void)state;
    rot_render_options o = plain();
    o.mode = ROT_MODE_PAGE;
    o.newline = ROT_NEWLINE_KEEP;
    o.line_spacing_px = -10; // below 19 px
    pen p = pen_open(&o);
    assert_int_equal(draw(&p, "a\nb").height_px, 8 + 2 * 9);
    pen_close(&p);
    o.line_spacing_px = -19;
    p = pen_open(&o);
    rot_image image;
    assert_int_equal(rot_render(p.worker, "a", 1, &image, NULL, &err), ROT_ERR_CONFIG);
    assert_non_null(strstr(err.message, "line_spacing_px"));
    pen_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_wrap_keep_blank_lines_and_break_words),
        cmocka_unit_test(pages_of_fixed_height_refuse_what_does_not_fit),
        cmocka_unit_test(lines_may_be_close_but_not_on_top_of_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
