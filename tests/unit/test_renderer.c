// renderer: text to pixels against golden hashes of Pillow, and what each key does.
#include "tests/unit/renderer_pen.h"

static void hash_rgb_rows(const rot_image *image, char hex[65])
{
    rot_sha256 *hash = rot_sha256_new();
    for (int32_t y = 0; y < image->height_px; y++)
        for (int32_t x = 0; x < image->width_px; x++)
            for (int c = 0; c < 3; c++) {
                int channel = image->channels == 3 ? c : 0;
                rot_sha256_add(hash,
                               image->pixels +
                                   ((size_t)x * (size_t)image->height_px + (size_t)y) *
                                       (size_t)image->channels +
                                   channel,
                               1);
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
        o.newline = !strcmp(field[3], "space")  ? ROT_NEWLINE_SPACE
                    : !strcmp(field[3], "keep") ? ROT_NEWLINE_KEEP
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
            fail_msg("'%s': width %d, Pillow %s; pixels differ", field[10], image.width_px,
                     field[8]);
        pen_close(&p);
        n++;
    }
    fclose(file);
    assert_true(n >= 19);
}

// Published with Render-of-Thought: six images and what their texts are.
static void widths_equal_the_published_ones(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int width;
    } cases[] = {
        {"Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 duck eggs a day.\nShe makes 9 * 2 = $<<9*2=18>>18 "
         "every day at "
         "the farmer\xe2\x80\x99s market.",
         1762},
        {"He sprints 3*3=<<3*3=9>>9 times\nSo he runs 9*60=<<9*60=540>>540 meters.", 1300},
        {"She eats 3 eggs every day and there are 7 days in a week so she eats 3*7 = <<3*7=21>>21 "
         "eggs a week\n"
         "After 4 weeks she will have eaten 4*21 = <<4*21=84>>84 eggs\nThere are 12 eggs in 1 "
         "dozen and she'll "
         "eat 84 eggs so that's 84/12 = <<84/12=7>>7 dozen eggs",
         3198},
        {"Let $M$ be the least positive multiple of 30 that can be written with only the digits 0 "
         "and 2. First, "
         "$M$ is a multiple of 10, so its units digit must be 0. $M$ is also a multiple of 3, "
         "which means the sum "
         "of its digits must be a multiple of 3. Therefore, we must take at least three 2's. Since "
         "$M$ is minimal, "
         "we take exactly three 2's and do not have any additional 0's: $M=\\boxed{2220}$.",
         4309},
        {"If there are $S$ students at Baker Middle School, then $\\frac{2}{3}S$ students take "
         "music.  Setting "
         "$\\frac{2}{3}S$ equal to 834 and multiplying both sides by $\\frac{3}{2}$, we find that "
         "there are "
         "$\\frac{3}{2}\\times 834=\\boxed{1251}$ students at the school.",
         3107},
        {"The number of $1\\times1$ squares in the diagram is $2(n-1)$, the number of $2\\times 2$ "
         "squares is "
         "$n-2$, and the number of $\\sqrt{2} \\times \\sqrt{2}$ squares is also $n-2$ (see "
         "diagram).  Solving \\[\n"
         "2(n-1)+n-2+n-2=70\n\\] we find $n=\\boxed{19}$.",
         2977}};
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
    assert_true(length ==
                27.984375); // textlength of Pillow: a kern of one pixel moves the pen by 1/64
    pen_close(&p);
    o.layout = ROT_LAYOUT_RAQM;
    p = pen_open(&o);
    assert_int_equal(rot_render_text_length(p.worker, "AVAVAVAV", 8, &length, &err), 0);
    assert_true(length > 100.4 && length < 100.6);
    pen_close(&p);
}

static void every_key_moves_pixels(void **state)
{
    (void)state;
    static const char text[] =
        "AVA fi To W/\xc3\x85\nyes jj (xx) \xe2\x98\x83 iiiiiiiiiiiiiiiiii mmmmm";
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
    assert_int_equal(width_of(&o, "e\xcc\x81"),
                     width_of(&o, "\xc3\xa9")); // a mark is no cluster of its own
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
        case 0:
            o.size_px = 3.9;
            word = "size_px";
            break;
        case 1:
            o.size_px = 0.0 / 0.0;
            word = "size_px";
            break;
        case 2:
            o.height_px = 0;
            word = "height_px";
            break;
        case 3:
            o.padding_px = -1;
            word = "padding_px";
            break;
        case 4:
            o.n_fonts = 0;
            word = "fonts";
            break;
        case 5:
            o.n_fonts = ROT_MAX_FONTS + 1;
            word = "fonts";
            break;
        case 6:
            o.letter_spacing_px = 1e9;
            word = "letter_spacing_px";
            break;
        case 7:
            o.mode = (rot_render_mode)7;
            word = "mode";
            break;
        case 8:
            o.blend = (rot_blend)7;
            word = "blend";
            break;
        case 9:
            o.newline = (rot_newline)7;
            word = "newline";
            break;
        case 10:
            o.mode = ROT_MODE_PAGE;
            o.width_px = 8;
            word = "width_px";
            break;
        case 11:
            o.mode = ROT_MODE_PAGE;
            o.page_height_px = -1;
            word = "page_height_px";
            break;
        case 12:
            o.mode = ROT_MODE_PAGE;
            o.line_spacing_px = -65;
            word = "line_spacing_px";
            break;
        case 13:
            o.width_px = 100;
            word = "width_px";
            break; // no effect in line mode
        }
        rot_renderer *renderer;
        assert_int_equal(rot_renderer_open(&o, &renderer, &err), ROT_ERR_CONFIG);
        assert_null(renderer);
        assert_non_null(strstr(err.message, word));
    }
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
