// Sweeps: names, order and configs of variants, tables, and that no failing allocation is lost.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "rotoscope/sweep.h"

static char top[] = "/tmp/rot sweep XXXXXX";

static const char *path_of(const char *name)
{
    static char path[4][200];
    static int next;
    char *out = path[next++ % 4];
    snprintf(out, sizeof path[0], "%s/%s", top, name);
    return out;
}

static void put(const char *name, const char *text)
{
    rot_err err = {0};
    assert_int_equal(rot_fs_write_atomic(path_of(name), text, strlen(text), &err), 0);
}

static int make_top(void **state)
{
    (void)state;
    if (!mkdtemp(top)) return -1;
    mkdir(path_of("tok"), 0777);
    mkdir(path_of("sub"), 0777);
    put("a.jsonl", "");
    put("own.ttf", "");
    put("sub/other.ttf", "");
    put("base.yaml", "name: b\n"
                     "root: out\n"
                     "splits: {train: {files: [a.jsonl], format: jsonl}}\n"
                     "tokenizer: {path: tok}\n"
                     "render: {size_px: 18}\n");
    return 0;
}

static int remove_top(void **state)
{
    (void)state;
    char command[80];
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command);
}

static int load(const char *more, const char *set, rot_sweep **out, rot_err *err)
{
    char text[4096];
    snprintf(text, sizeof text, "base: base.yaml\n%s", more);
    put("s.yaml", text);
    *err = (rot_err){0};
    return rot_sweep_load(path_of("s.yaml"), &set, set != NULL, out, err);
}

static rot_sweep *loaded(const char *more, const char *set)
{
    rot_sweep *sweep = NULL;
    rot_err err;
    if (load(more, set, &sweep, &err) < 0) fail_msg("%s: %s", more, err.message);
    return sweep;
}

static void wants_names(const char *more, const char *const *names, int n)
{
    rot_sweep *sweep = loaded(more, NULL);
    assert_int_equal(rot_sweep_count(sweep), n);
    for (int i = 0; i < n; i++) assert_string_equal(rot_sweep_config(sweep, i)->name, names[i]);
    rot_sweep_free(&sweep);
    assert_null(sweep);
}

static void names_say_what_is_overridden(void **state)
{
    (void)state;
    static const char *const grid[] = {"b-size_px-16-mode-line", "b-size_px-16-mode-page",
                                       "b-size_px-20-mode-line", "b-size_px-20-mode-page"};
    wants_names("grid: {render: {size_px: [16, 20], mode: [line, page]}}", grid, 4);
    static const char *const list[] = {"mine-plain", "mine-text_color-_ff0000",
                                       "mine-fonts-own.ttf_DejaVuSans.ttf", "mine-base"};
    wants_names("name: mine\nvariants: [{name: plain, render.size_px: 20}, {render.text_color: "
                "'#ff0000'}, {render.fonts: [./own.ttf, DejaVuSans.ttf]}, {}]",
                list, 4);
    // Two keys that end alike are written out; two values that look alike get a hash.
    static const char *const alike[] = {"b-tokenizer.layout-plain-render.layout-basic"};
    wants_names("grid: {tokenizer.layout: [plain], render.layout: [basic]}", alike, 1);
    rot_sweep *sweep =
        loaded("grid: {render.fonts: [[own.ttf], [./own.ttf], [sub/other.ttf]]}", NULL);
    assert_string_equal(rot_sweep_config(sweep, 0)->name, "b-fonts-own.ttf");
    assert_int_equal(strlen(rot_sweep_config(sweep, 1)->name), strlen("b-fonts-own.ttf-12345678"));
    assert_int_equal(
        strncmp(rot_sweep_config(sweep, 1)->name, "b-fonts-own.ttf-", strlen("b-fonts-own.ttf-")),
        0);
    rot_sweep_free(&sweep);
}

static void a_name_is_never_too_long(void **state)
{
    (void)state;
    rot_sweep *sweep =
        loaded("name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
               "grid: {render.letter_spacing_px: [-1, 1.0000000000000001], "
               "render.line_spacing_px: [4], render.thought_markers: [true]}",
               NULL);
    assert_int_equal(rot_sweep_count(sweep), 2);
    assert_int_equal(strlen(rot_sweep_config(sweep, 0)->name), 100);
    assert_string_not_equal(rot_sweep_config(sweep, 0)->name, rot_sweep_config(sweep, 1)->name);
    rot_sweep_free(&sweep);
}

// The base, then `set`, then --set, then the variant.
static void nearer_words_win(void **state)
{
    (void)state;
    rot_sweep *sweep = loaded("set: {render.height_px: 40, render.padding_px: 1}\n"
                              "variants: [{}, {render.size_px: 22}, {render.padding_px: 3}]",
                              "render.padding_px=2");
    const int sizes[] = {18, 22, 18}, paddings[] = {2, 2, 3};
    for (int i = 0; i < 3; i++) {
        const rot_config *config = rot_sweep_config(sweep, i);
        assert_int_equal((int)config->render.size_px, sizes[i]);
        assert_int_equal(config->render.padding_px, paddings[i]);
        assert_int_equal(config->render.height_px, 40);
        assert_string_equal(config->root, path_of("out"));
    }
    rot_sweep_free(&sweep);
}

static void refused(const char *more, const char *set, int code, const char *words)
{
    rot_sweep *sweep = NULL;
    rot_err err;
    int rc = load(more, set, &sweep, &err);
    if (rc != code || !strstr(err.message, words))
        fail_msg("%s: wanted %d with '%s', got %d: %s", more, code, words, rc, err.message);
    assert_null(sweep);
}

static void senseless_sweeps_are_refused(void **state)
{
    (void)state;
    refused("grdi: {}", NULL, ROT_ERR_CONFIG,
            "s.yaml:2:1: a sweep has no key 'grdi'; the nearest is 'grid'");
    refused("grid: {}", NULL, ROT_ERR_CONFIG, "s.yaml:2:7: the grid is empty");
    refused("grid: [16]", NULL, ROT_ERR_CONFIG, "a map of config keys");
    refused("grid: {render.size_px: []}", NULL, ROT_ERR_CONFIG, "a list of values");
    refused("variants: []", NULL, ROT_ERR_CONFIG, "a list of maps");
    refused("variants: [16]", NULL, ROT_ERR_CONFIG, "a variant is a map");
    refused("variants: [{name: a/b}]", NULL, ROT_ERR_CONFIG, "s.yaml:2:19: a variant's name");
    refused("grid: {name: [a]}", NULL, ROT_ERR_CONFIG, "'name' cannot stand here");
    refused("set: {name: a}\ngrid: {render.size_px: [16]}", NULL, ROT_ERR_CONFIG, "cannot stand");
    refused("set: {extends: a}\ngrid: {render.size_px: [16]}", NULL, ROT_ERR_CONFIG, "use `base`");
    refused("grid: {render..size_px: [16]}", NULL, ROT_ERR_CONFIG, "an empty part");
    refused("grid: {render.size_px: [16]}\nk: [released]", NULL, ROT_ERR_CONFIG,
            "k takes a string");
    refused("grid: {render.size_px: [16]}\nk: square", NULL, ROT_ERR_CONFIG, "no 'square'");
    refused("set: {render.size_px: 30}\ngrid: {render.size_px: [16]}", NULL, ROT_ERR_CONFIG,
            "s.yaml:2:7: render.size_px has no effect");
    refused("grid: {render.size_px: [16]}", "render.size_px=3", ROT_ERR_CONFIG,
            "--set render.size_px=3: render.size_px has no effect");
    refused("grid: {render.size_px: [1000]}", NULL, ROT_ERR_CONFIG, "s.yaml:2:25: ");
    refused("grid: {tokenizer.path: [gone]}", NULL, ROT_ERR_MISSING, "s.yaml:2:25: ");
    char many[4096] = "grid: {render.height_px: [";
    for (int i = 1; i <= 40; i++) sprintf(many + strlen(many), "%d,", i);
    strcat(many, "], render.padding_px: [");
    for (int i = 1; i <= 40; i++) sprintf(many + strlen(many), "%d,", i);
    strcat(many, "]}");
    refused(many, NULL, ROT_ERR_CONFIG, "over 1000 variants");
}

static void tables_have_a_cell_for_everything(void **state)
{
    (void)state;
    static const char json[] =
        "{\"what\": \"table\", \"variants\": [{\"variant\": \"a\", \"state\": \"done\", \"k\": "
        "{\"mean\": 12.34567, \"p5\": 3}, \"bytes\": 10000000}, {\"variant\": \"bb\", \"state\": "
        "\"failed\", \"error\": \"no\\tgood|\\n\"}]}";
    char *text = NULL;
    rot_err err = {0};
    assert_int_equal(rot_sweep_table(json, ROT_TABLE_TSV, &text, &err), 0);
    assert_non_null(strstr(text, "\na\tdone\t\t\t\t\t12.35\t3\t\t\t\t\t10000000\t\t\n"));
    assert_non_null(strstr(text, "\nbb\tfailed\t\t\t\t\t\t\t\t\t\t\t\t\tno good  \n"));
    free(text);
    assert_int_equal(rot_sweep_table(json, ROT_TABLE_MARKDOWN, &text, &err), 0);
    assert_non_null(strstr(text, "| a       |   done |  12.35 |    3 | 10000000 |           |\n"));
    assert_null(strstr(text, "width"));
    free(text);
    assert_int_equal(rot_sweep_table("{\"what\": 1}", ROT_TABLE_TSV, &text, &err), ROT_ERR_FORMAT);
    assert_int_equal(rot_sweep_table("{", ROT_TABLE_TSV, &text, &err), ROT_ERR_FORMAT);
}

static void loading_survives_failing_allocations(void **state)
{
    (void)state;
    rot_sweep *sweep = loaded("set: {render.height_px: 40}\nvariants: [{}, {render.size_px: 22}]",
                              "render.padding_px=2");
    rot_sweep_free(&sweep);
    const char *set = "render.padding_px=2";
    int rc = -1;
    for (long n = 1; rc < 0; n++) {
        rot_err err = {0};
        rot_mem_fail_at(n);
        rc = rot_sweep_load(path_of("s.yaml"), &set, 1, &sweep, &err);
        rot_mem_fail_at(0);
        if (rc < 0 && err.code != ROT_ERR_NO_MEMORY) fail_msg("%ld: %s", n, err.message);
        assert_true(n < 10000);
    }
    rot_sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_say_what_is_overridden),
        cmocka_unit_test(a_name_is_never_too_long),
        cmocka_unit_test(nearer_words_win),
        cmocka_unit_test(senseless_sweeps_are_refused),
        cmocka_unit_test(tables_have_a_cell_for_everything),
        cmocka_unit_test(loading_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, make_top, remove_top);
}
