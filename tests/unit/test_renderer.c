// renderer: text to pixels against golden hashes of Pillow; keys, errors, caches, workers.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "renderer/renderer.h"

static rot_err err;

static rot_render_options plain(void)
{
    rot_render_options o = rot_render_options_default();
    o.thought_markers = false;
    return o;
}

// A renderer with one worker.
typedef struct pen {
    rot_renderer *renderer;
    rot_render_worker *worker;
} pen;

static pen pen_open(const rot_render_options *o)
{
    pen p = {0};
    if (rot_renderer_open(o, &p.renderer, &err) < 0 || rot_render_worker_open(p.renderer, &p.worker, &err) < 0)
        fail_msg("%s", err.message);
    return p;
}

static void pen_close(pen *p)
{
    rot_render_worker_close(&p->worker);
    rot_renderer_close(&p->renderer);
}

static rot_image draw(pen *p, const char *text)
{
    rot_image image;
    if (rot_render(p->worker, text, strlen(text), &image, NULL, &err) < 0) fail_msg("'%s': %s", text, err.message);
    return image;
}

// Size, channels and pixels in 32 hex digits.
static void hash_image(const rot_image *image, char hex[33])
{
    uint8_t digest[16];
    int32_t head[3] = {image->width_px, image->height_px, image->channels};
    rot_xxh128_two(head, sizeof head, image->pixels,
                   (size_t)image->width_px * (size_t)image->height_px * (size_t)image->channels, digest);
    rot_hex(digest, 16, hex);
}

static void hash_text(const rot_render_options *o, const char *text, char hex[33])
{
    pen p = pen_open(o);
    rot_image image = draw(&p, text);
    hash_image(&image, hex);
    pen_close(&p);
}

/* ---- against Pillow ------------------------------------------------------------------------------ */

static void hash_rgb_rows(const rot_image *image, char hex[65])
{
    rot_sha256 *hash = rot_sha256_new();
    for (int32_t y = 0; y < image->height_px; y++)
        for (int32_t x = 0; x < image->width_px; x++)
            for (int c = 0; c < 3; c++) {
                int channel = image->channels == 3 ? c : 0;
                rot_sha256_add(hash, image->pixels + ((size_t)x * (size_t)image->height_px + (size_t)y) *
                                                         (size_t)image->channels + channel, 1);
            }
    uint8_t digest[32];
    rot_sha256_end(hash, digest);
    rot_hex(digest, 32, hex);
}

static void unescape(char *text)
{
    for (char *at; (at = strstr(text, "\\n"));) {
        *at = '\n';
        memmove(at + 1, at + 2, strlen(at + 2) + 1);
    }
}

static void read_color(const char *hex, uint8_t color[3])
{
    assert_int_equal(rot_unhex(hex + 1, color, 3), 0);
}

// tests/golden/render.tsv: made by Pillow, see the script beside it.
static void lines_equal_golden_pixels_of_pillow(void **state)
{
    (void)state;
    FILE *file = fopen("tests/golden/render.tsv", "r");
    assert_non_null(file);
    char row[4096];
    int n = 0;
    while (fgets(row, sizeof row, file)) {
        if (*row == '#') continue;
        row[strcspn(row, "\n")] = 0;
        char *field[11], *rest = row;
        for (int i = 0; i < 11; i++) field[i] = strsep(&rest, "\t");
        assert_non_null(field[10]);
        rot_render_options o = plain();
        o.size_px = atof(field[0]);
        o.height_px = atoi(field[1]);
        o.padding_px = atoi(field[2]);
        o.newline = !strcmp(field[3], "space") ? ROT_NEWLINE_SPACE : !strcmp(field[3], "keep") ? ROT_NEWLINE_KEEP
                                                                                                : ROT_NEWLINE_MARKER;
        o.layout = !strcmp(field[4], "basic") ? ROT_LAYOUT_BASIC : ROT_LAYOUT_RAQM;
        o.thought_markers = atoi(field[5]);
        read_color(field[6], o.text_color);
        read_color(field[7], o.background_color);
        unescape(field[10]);
        pen p = pen_open(&o);
        rot_image image = draw(&p, field[10]);
        char hex[65];
        hash_rgb_rows(&image, hex);
        if (image.width_px != atoi(field[8]) || strcmp(hex, field[9]))
            fail_msg("'%s': width %d, Pillow %s; pixels differ", field[10], image.width_px, field[8]);
        pen_close(&p);
        n++;
    }
    fclose(file);
    assert_true(n >= 16);
}

static int width_of(const rot_render_options *o, const char *text)
{
    pen p = pen_open(o);
    int width = draw(&p, text).width_px;
    pen_close(&p);
    return width;
}

// Published with Render-of-Thought: six images and what their texts are.
static void widths_equal_the_published_ones(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int width;
    } cases[] = {
        {"Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 duck eggs a day.\nShe makes 9 * 2 = $<<9*2=18>>18 every day at "
         "the farmer\xe2\x80\x99s market.", 1762},
        {"He sprints 3*3=<<3*3=9>>9 times\nSo he runs 9*60=<<9*60=540>>540 meters.", 1300},
        {"She eats 3 eggs every day and there are 7 days in a week so she eats 3*7 = <<3*7=21>>21 eggs a week\n"
         "After 4 weeks she will have eaten 4*21 = <<4*21=84>>84 eggs\nThere are 12 eggs in 1 dozen and she'll "
         "eat 84 eggs so that's 84/12 = <<84/12=7>>7 dozen eggs", 3198},
        {"Let $M$ be the least positive multiple of 30 that can be written with only the digits 0 and 2. First, "
         "$M$ is a multiple of 10, so its units digit must be 0. $M$ is also a multiple of 3, which means the sum "
         "of its digits must be a multiple of 3. Therefore, we must take at least three 2's. Since $M$ is minimal, "
         "we take exactly three 2's and do not have any additional 0's: $M=\\boxed{2220}$.", 4309},
        {"If there are $S$ students at Baker Middle School, then $\\frac{2}{3}S$ students take music.  Setting "
         "$\\frac{2}{3}S$ equal to 834 and multiplying both sides by $\\frac{3}{2}$, we find that there are "
         "$\\frac{3}{2}\\times 834=\\boxed{1251}$ students at the school.", 3107},
        {"The number of $1\\times1$ squares in the diagram is $2(n-1)$, the number of $2\\times 2$ squares is "
         "$n-2$, and the number of $\\sqrt{2} \\times \\sqrt{2}$ squares is also $n-2$ (see diagram).  Solving \\[\n"
         "2(n-1)+n-2+n-2=70\n\\] we find $n=\\boxed{19}$.", 2977}};
    rot_render_options o = rot_render_options_default();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(width_of(&o, cases[i].text), cases[i].width);
}

static void basic_layout_keeps_pillows_kerning(void **state)
{
    (void)state;
    rot_render_options o = plain();
    o.layout = ROT_LAYOUT_BASIC;
    pen p = pen_open(&o);
    double length;
    assert_int_equal(rot_render_text_length(p.worker, "AV", 2, &length, &err), 0);
    assert_true(length == 27.984375); // textlength of Pillow: a kern of one pixel moves the pen by 1/64
    pen_close(&p);
    o.layout = ROT_LAYOUT_RAQM;
    p = pen_open(&o);
    assert_int_equal(rot_render_text_length(p.worker, "AVAVAVAV", 8, &length, &err), 0);
    assert_true(length > 100.4 && length < 100.6);
    pen_close(&p);
}

/* ---- keys ---------------------------------------------------------------------------------------- */

static void every_key_moves_pixels(void **state)
{
    (void)state;
    static const char text[] = "AVA fi To W/\xc3\x85\nyes jj (xx) \xe2\x98\x83 iiiiiiiiiiiiiiiiii mmmmm";
    enum { N = 13 };
    char hex[33], base[33];
    rot_render_options line = plain();
    line.missing_glyph = ROT_GLYPH_DRAW;
    hash_text(&line, text, base);
    for (int key = 0; key < N; key++) {
        rot_render_options o = line;
        switch (key) {
        case 0: o.fonts[0] = "DejaVuSans-Bold.ttf"; break;
        case 1: o.size_px = 21; break;
        case 2: o.height_px = 40; break;
        case 3: o.padding_px = 5; break;
        case 4: o.mode = ROT_MODE_PAGE; break;
        case 5: o.newline = ROT_NEWLINE_KEEP; break;
        case 6: o.newline = ROT_NEWLINE_MARKER; break;
        case 7: o.thought_markers = true; break;
        case 8: o.text_color[0] = 200; break;
        case 9: o.background_color[2] = 200; break;
        case 10: o.layout = ROT_LAYOUT_BASIC; break;
        case 11: continue; // below: letters must overlap
        case 12: o.letter_spacing_px = 0.5; break;
        }
        hash_text(&o, text, hex);
        if (!strcmp(hex, base)) fail_msg("key %d changes nothing", key);
    }
    rot_render_options tight = line;
    tight.letter_spacing_px = -4;
    hash_text(&tight, text, base);
    tight.blend = ROT_BLEND_MAX;
    hash_text(&tight, text, hex);
    assert_string_not_equal(hex, base);
    rot_render_options page = line;
    page.mode = ROT_MODE_PAGE;
    page.width_px = 200;
    hash_text(&page, text, base);
    for (int key = 0; key < 3; key++) {
        rot_render_options o = page;
        if (key == 0) o.width_px = 150;
        if (key == 1) o.page_height_px = 500;
        if (key == 2) o.line_spacing_px = 9;
        hash_text(&o, text, hex);
        if (!strcmp(hex, base)) fail_msg("page key %d changes nothing", key);
    }
}

static void identities_differ_where_pixels_do(void **state)
{
    (void)state;
    rot_render_options a = plain(), b = plain();
    pen p = pen_open(&a), q = pen_open(&b);
    assert_string_equal(rot_renderer_identity(p.renderer), rot_renderer_identity(q.renderer));
    pen_close(&q);
    b.size_px = 21;
    q = pen_open(&b);
    assert_string_not_equal(rot_renderer_identity(p.renderer), rot_renderer_identity(q.renderer));
    pen_close(&q);
    pen_close(&p);
}

static void letter_spacing_widens_every_cluster(void **state)
{
    (void)state;
    rot_render_options o = plain();
    int width = width_of(&o, "abcdefgh x");
    o.letter_spacing_px = 3;
    assert_int_equal(width_of(&o, "abcdefgh x"), width + 30);
    assert_int_equal(width_of(&o, "e\xcc\x81"), width_of(&o, "\xc3\xa9")); // a mark is no cluster of its own
    o.layout = ROT_LAYOUT_BASIC;
    int spaced = width_of(&o, "iiii");
    o.letter_spacing_px = 0;
    assert_int_equal(spaced, width_of(&o, "iiii") + 12);
}

static void options_out_of_range_are_errors(void **state)
{
    (void)state;
    for (int key = 0; key < 14; key++) {
        rot_render_options o = plain();
        const char *word = "";
        switch (key) {
        case 0: o.size_px = 3.9; word = "size_px"; break;
        case 1: o.size_px = 0.0 / 0.0; word = "size_px"; break;
        case 2: o.height_px = 0; word = "height_px"; break;
        case 3: o.padding_px = -1; word = "padding_px"; break;
        case 4: o.n_fonts = 0; word = "fonts"; break;
        case 5: o.n_fonts = ROT_MAX_FONTS + 1; word = "fonts"; break;
        case 6: o.letter_spacing_px = 1e9; word = "letter_spacing_px"; break;
        case 7: o.mode = (rot_render_mode)7; word = "mode"; break;
        case 8: o.blend = (rot_blend)7; word = "blend"; break;
        case 9: o.newline = (rot_newline)7; word = "newline"; break;
        case 10: o.mode = ROT_MODE_PAGE; o.width_px = 8; word = "width_px"; break;
        case 11: o.mode = ROT_MODE_PAGE; o.page_height_px = -1; word = "page_height_px"; break;
        case 12: o.mode = ROT_MODE_PAGE; o.line_spacing_px = -1; word = "line_spacing_px"; break;
        case 13: o.width_px = 100; word = "width_px"; break; // no effect in line mode
        }
        rot_renderer *renderer;
        assert_int_equal(rot_renderer_open(&o, &renderer, &err), ROT_ERR_CONFIG);
        assert_null(renderer);
        assert_non_null(strstr(err.message, word));
    }
}

/* ---- bad input ----------------------------------------------------------------------------------- */

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
        assert_int_equal(rot_render(p.worker, text, strlen(text), &image, &info, &err), ROT_ERR_MISSING_GLYPH);
        assert_non_null(strstr(err.message, "U+4E2D"));
        assert_int_equal(rot_render(p.worker, "a\tb", 3, &image, &info, &err), ROT_ERR_MISSING_GLYPH);
        assert_non_null(strstr(err.message, "U+0009"));
        assert_int_equal(rot_render(p.worker, "a\xef\xbf\xbd", 4, &image, &info, &err), 0); // U+FFFD is in the font
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
    assert_int_equal(width_of(&o, "a\xef\xb8\x8f\xe2\x80\x8b" "b"), width_of(&o, "ab"));
}

static void fonts_that_are_missing_or_none_are_errors(void **state)
{
    (void)state;
    static const char *const names[] = {"/nowhere/DejaVuSans.ttf", "NoSuchFile.ttf", "No Such Family", "Makefile",
                                        "tests", ""};
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
    o.fonts[0] = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"; // no fontconfig: its memory is its own
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
        if (worker && rc < 0) assert_int_equal(rot_render(worker, text, strlen(text), &image, NULL, &err), 0);
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

/* ---- sameness ------------------------------------------------------------------------------------ */

static void random_text(unsigned *seed, char *text, size_t n)
{
    static const char *const pieces[] = {"a", "e", "T", "V", "AV", "fi", "ffi", " ", " ", "  ", "(", ")", "<", ">", "[", "]",
                                         "1", "23", "\xc3\xa9", "\xe2\x80\x99", "\xce\xb1", "\xd7\x90", "\xe2\x89\xa4", "{",
                                         "}", ".", ",", "To", "y.", "\xe2\x80\x9c", "\xe2\x80\x9d", "$", "\\", "x", "l"};
    size_t used = 0;
    int simple = *seed >> 20 & 1; // half of the texts for the word cache alone
    text[0] = 0;
    if (simple) used = (size_t)sprintf(text, "w");
    while (used + 8 < n) {
        *seed = *seed * 1664525u + 1013904223u;
        const char *piece = pieces[(*seed >> 10) % (sizeof pieces / sizeof *pieces)];
        if (simple && (unsigned char)piece[0] > 0xcd && (unsigned char)piece[0] < 0xe0) continue;
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
    // 32 rows have a path of their own; 34 rows move the text down by one and show one row more above.
    rot_render_options o = plain(), taller = plain();
    taller.height_px = 34;
    pen p = pen_open(&o), q = pen_open(&taller);
    unsigned seed = 3;
    for (int i = 0; i < 300; i++) {
        char text[100];
        random_text(&seed, text, sizeof text);
        rot_image a = draw(&p, text), b = draw(&q, text);
        assert_int_equal(a.width_px, b.width_px);
        for (int32_t x = 0; x < a.width_px; x++) assert_memory_equal(a.pixels + x * 32, b.pixels + x * 34 + 1, 32);
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
            if (!worker || rot_render(worker, texts[i], strlen(texts[i]), &image, NULL, &own) < 0) failures++;
            else hash_image(&image, together[i]);
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
    const char *hebrew = "abc \xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d 12"; // DejaVuSansMono has no Hebrew, DejaVuSans has
    o.fonts[0] = "DejaVuSansMono.ttf";
    for (int layout = 0; layout < 2; layout++) {
        o.layout = (rot_text_layout)layout;
        o.n_fonts = 1;
        pen p = pen_open(&o);
        assert_int_equal(rot_render(p.worker, hebrew, strlen(hebrew), &image, &info, &err), ROT_ERR_MISSING_GLYPH);
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

/* ---- pages --------------------------------------------------------------------------------------- */

static void expect_lines(pen *p, const char *text, const char *const *expected)
{
    const rot_render_line *lines;
    int n_lines, i = 0;
    draw(p, text);
    rot_render_lines(p->worker, &lines, &n_lines);
    for (; expected[i]; i++) {
        assert_true(i < n_lines);
        if (lines[i].n_bytes != strlen(expected[i]) || memcmp(lines[i].text, expected[i], lines[i].n_bytes))
            fail_msg("line %d of '%s' is '%.*s', not '%s'", i, text, (int)lines[i].n_bytes, lines[i].text, expected[i]);
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
    expect_lines(&p, "x abcdefghijklmnopqrstuvw y", (const char *[]){"x", "abcdefghij", "klmnopqrst", "uvw y", NULL});
    expect_lines(&p, "  in  two", (const char *[]){"  in  two", NULL});
    expect_lines(&p, "aaaaaaaa  bbb", (const char *[]){"aaaaaaaa ", "bbb", NULL});
    expect_lines(&p, "", (const char *[]){"", NULL});
    assert_int_equal(draw(&p, "a\n\nb").height_px, 8 + 3 * 23);
    pen_close(&p);
    o.width_px = 9; // one pixel of room: a code point per line
    p = pen_open(&o);
    expect_lines(&p, "a\xc3\xa9" "b", (const char *[]){"a", "\xc3\xa9", "b", NULL});
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_equal_golden_pixels_of_pillow),
        cmocka_unit_test(widths_equal_the_published_ones),
        cmocka_unit_test(basic_layout_keeps_pillows_kerning),
        cmocka_unit_test(every_key_moves_pixels),
        cmocka_unit_test(identities_differ_where_pixels_do),
        cmocka_unit_test(letter_spacing_widens_every_cluster),
        cmocka_unit_test(options_out_of_range_are_errors),
        cmocka_unit_test(bad_text_is_named),
        cmocka_unit_test(missing_glyphs_follow_the_policy),
        cmocka_unit_test(fonts_that_are_missing_or_none_are_errors),
        cmocka_unit_test(broken_fonts_never_crash),
        cmocka_unit_test(nth_allocation_fails_cleanly),
        cmocka_unit_test(empty_and_very_long_texts_are_drawn),
        cmocka_unit_test(word_cache_draws_what_whole_lines_do),
        cmocka_unit_test(canvas_of_32_rows_draws_what_others_do),
        cmocka_unit_test(workers_and_their_past_change_nothing),
        cmocka_unit_test(threads_share_a_renderer),
        cmocka_unit_test(fallback_fonts_draw_what_the_first_lacks),
        cmocka_unit_test(pages_wrap_keep_blank_lines_and_break_words),
        cmocka_unit_test(pages_of_fixed_height_refuse_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
