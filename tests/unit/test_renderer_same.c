// renderer: whatever the caches, canvases, workers and threads, the same pixels; fallback fonts.
#include "tests/unit/renderer_pen.h"

// Texts of pieces; two kinds of four are for the word cache: Latin from the first letter on, or
// Common alone. The pieces are in that order: what is of other scripts, Latin, Common.
static void random_text(unsigned *seed, char *text, size_t n)
{
    static const char *const pieces[] = {"\xce\xb1",
                                         "\xd7\x90",
                                         "a",
                                         "e",
                                         "T",
                                         "V",
                                         "AV",
                                         "fi",
                                         "ffi",
                                         "To",
                                         "y.",
                                         "x",
                                         "l",
                                         "\xc3\xa9",
                                         "(",
                                         ")",
                                         "<",
                                         ">",
                                         "[",
                                         "]",
                                         "1",
                                         "23",
                                         "\xe2\x80\x99",
                                         "\xe2\x89\xa4",
                                         "{",
                                         "}",
                                         ".",
                                         ",",
                                         "\xe2\x80\x9c",
                                         "\xe2\x80\x9d",
                                         "$",
                                         "\\",
                                         " ",
                                         " ",
                                         "  "};
    enum { N = sizeof pieces / sizeof *pieces, FIRST_LATIN = 2, FIRST_COMMON = 14 };
    unsigned kind = *seed >> 20 & 3;
    size_t used = 0, first = kind == 3 ? FIRST_COMMON : kind == 2 ? FIRST_LATIN : 0;
    text[0] = 0;
    if (kind == 2) used = (size_t)sprintf(text, "w");
    while (used + 8 < n) {
        *seed = *seed * 1664525u + 1013904223u;
        const char *piece = pieces[first + (*seed >> 10) % (N - first)];
        strcpy(text + used, piece);
        used += strlen(piece);
    }
}

static void word_cache_draws_what_whole_lines_do(void **state)
{
    (void)state;
    static const char *const fonts[] = {"DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf"};
    unsigned seed = 11;
    int n_cached = 0;
    for (int f = 0; f < 6; f++) {
        rot_render_options o = plain();
        o.fonts[0] = fonts[f % 3];
        o.missing_glyph = ROT_GLYPH_DRAW;
        o.size_px = f < 3 ? 20 : 13;
        o.letter_spacing_px = f == 4 ? 1.25 : 0;
        pen fast = pen_open(&o), slow = pen_open(&o);
        rot_render_worker_set_slow(slow.worker, true);
        for (int i = 0; i < 1500; i++) {
            char text[120], a[33], b[33];
            random_text(&seed, text, 16 + seed % 104);
            rot_image image = draw(&fast, text);
            hash_image(&image, a);
            image = draw(&slow, text);
            hash_image(&image, b);
            if (strcmp(a, b)) fail_msg("'%s' in %s", text, fonts[f % 3]);
        }
        n_cached += (int)fast.worker->words.n_words;
        assert_int_equal(slow.worker->words.n_words, 0);
        pen_close(&fast);
        pen_close(&slow);
    }
    assert_true(n_cached > 3000); // the cache was used at all
}

static void canvas_of_32_rows_draws_what_others_do(void **state)
{
    (void)state;
    // 32 rows have a path of their own; 34 rows move the text down by one and show one row more
    // above.
    rot_render_options o = plain(), taller = plain();
    taller.height_px = 34;
    pen p = pen_open(&o), q = pen_open(&taller);
    unsigned seed = 3;
    for (int i = 0; i < 300; i++) {
        char text[100];
        random_text(&seed, text, sizeof text);
        rot_image a = draw(&p, text), b = draw(&q, text);
        assert_int_equal(a.width_px, b.width_px);
        for (int32_t x = 0; x < a.width_px; x++)
            assert_memory_equal(a.pixels + x * 32, b.pixels + x * 34 + 1, 32);
    }
    pen_close(&p);
    pen_close(&q);
}

static void workers_and_their_past_change_nothing(void **state)
{
    (void)state;
    rot_render_options o = plain();
    o.blend = ROT_BLEND_OVER;
    pen p = pen_open(&o);
    rot_render_worker *fresh;
    unsigned seed = 17;
    for (int i = 0; i < 40; i++) {
        char text[100], a[33], b[33], c[33];
        random_text(&seed, text, sizeof text);
        rot_image image = draw(&p, text);
        hash_image(&image, a);
        image = draw(&p, text);
        hash_image(&image, b);
        assert_int_equal(rot_render_worker_open(p.renderer, &fresh, &err), 0);
        assert_int_equal(rot_render(fresh, text, strlen(text), &image, NULL, &err), 0);
        hash_image(&image, c);
        rot_render_worker_close(&fresh);
        assert_string_equal(a, b);
        assert_string_equal(a, c);
    }
    pen_close(&p);
}

static void threads_share_a_renderer(void **state)
{
    (void)state;
    rot_render_options o = plain();
    pen p = pen_open(&o);
    enum { N = 200 };
    static char texts[N][100], alone[N][33], together[N][33];
    unsigned seed = 23;
    for (int i = 0; i < N; i++) {
        random_text(&seed, texts[i], sizeof texts[i]);
        rot_image image = draw(&p, texts[i]);
        hash_image(&image, alone[i]);
    }
    int failures = 0;
#pragma omp parallel num_threads(4) reduction(+ : failures)
    {
        rot_render_worker *worker = NULL;
        rot_err own;
        failures += rot_render_worker_open(p.renderer, &worker, &own) < 0;
#pragma omp for schedule(dynamic)
        for (int i = 0; i < N; i++) {
            rot_image image;
            if (!worker || rot_render(worker, texts[i], strlen(texts[i]), &image, NULL, &own) < 0)
                failures++;
            else
                hash_image(&image, together[i]);
        }
        rot_render_worker_close(&worker);
    }
    assert_int_equal(failures, 0);
    for (int i = 0; i < N; i++) assert_string_equal(alone[i], together[i]);
    pen_close(&p);
}

static void fallback_fonts_draw_what_the_first_lacks(void **state)
{
    (void)state;
    rot_render_options o = plain();
    rot_image image;
    rot_render_info info;
    const char *hebrew =
        "abc \xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d 12"; // DejaVuSansMono has no Hebrew, DejaVuSans has
    o.fonts[0] = "DejaVuSansMono.ttf";
    for (int layout = 0; layout < 2; layout++) {
        o.layout = (rot_text_layout)layout;
        o.n_fonts = 1;
        pen p = pen_open(&o);
        assert_int_equal(rot_render(p.worker, hebrew, strlen(hebrew), &image, &info, &err),
                         ROT_ERR_MISSING_GLYPH);
        pen_close(&p);
        char one[33], two[33];
        hash_text(&o, "plain text", one);
        o.n_fonts = 2;
        o.fonts[1] = "DejaVuSans.ttf";
        hash_text(&o, "plain text", two);
        assert_string_equal(one, two);
        p = pen_open(&o);
        assert_int_equal(rot_render(p.worker, hebrew, strlen(hebrew), &image, &info, &err), 0);
        assert_int_equal(info.missing, 0);
        pen_close(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(word_cache_draws_what_whole_lines_do),
        cmocka_unit_test(canvas_of_32_rows_draws_what_others_do),
        cmocka_unit_test(workers_and_their_past_change_nothing),
        cmocka_unit_test(threads_share_a_renderer),
        cmocka_unit_test(fallback_fonts_draw_what_the_first_lacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
