// The strict config: what is accepted, what is refused and in what words.
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
#include "rotoscope/config.h"
#include "schemas/keys.h"

static char top[] = "/tmp/rot config XXXXXX"; // a space in every path
static const char start[] = "name: x\n"
                            "root: out\n"
                            "splits: {train: {files: [a.jsonl], format: jsonl}}\n"
                            "tokenizer: {path: tok}\n"; // lines 1 to 4

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
    put("b.jsonl", "");
    put("sub/c[1].jsonl", "");
    put("own.ttf", "");
    return 0;
}

static int remove_top(void **state)
{
    (void)state;
    char command[80];
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command);
}

// `start` and `more` as c.yaml, with up to two sets.
static int load(const char *more, const char *set1, const char *set2, rot_config **out,
                rot_err *err)
{
    char text[8192];
    const char *sets[] = {set1, set2};
    snprintf(text, sizeof text, "%s%s", start, more);
    put("c.yaml", text);
    *err = (rot_err){0};
    return rot_config_load(path_of("c.yaml"), sets, (set1 != NULL) + (set2 != NULL), out, err);
}

static void refused(const char *more, const char *set, int code, const char *where,
                    const char *words)
{
    rot_config *config = NULL;
    rot_err err;
    int rc = load(more, set, NULL, &config, &err);
    if (rc != code) fail_msg("%s%s: %d, not %d: %s", more, set ? set : "", rc, code, err.message);
    if (!strstr(err.message, where)) fail_msg("no '%s' in: %s", where, err.message);
    if (!strstr(err.message, words)) fail_msg("no '%s' in: %s", words, err.message);
    assert_null(config);
}

#define REFUSED(more, where, words) refused(more, NULL, ROT_ERR_CONFIG, where, words)
#define REFUSED_SET(more, set, words) refused(more, set, ROT_ERR_CONFIG, "--set " set, words)

static void unknown_keys_name_the_nearest(void **state)
{
    (void)state;
    REFUSED("render: {size_pz: 20}", "c.yaml:5:10: ", "'render.size_px'");
    REFUSED("render:\n  mode: line\n  size_pz: 20", "c.yaml:7:3: ", "'render.size_px'");
    REFUSED("encdoe: {}", "c.yaml:5:1: ", "'encode'");
    REFUSED("size_px: 3", "c.yaml:5:1: ", "'render.size_px'");
    REFUSED("render.size_px: 20", "c.yaml:5:1: ", "a section is a map");
    REFUSED("'': 20", "c.yaml:5:1: ", "no key ''");
    REFUSED_SET("", "rendr.size_px=24", "'render'");
    REFUSED_SET("", "splits.train.keys.ct=a", "'splits.train.keys.cot'");
    REFUSED_SET("", "extends=c.yaml", "in a file alone");
}

static void wrong_types_are_refused(void **state)
{
    (void)state;
    REFUSED("render: {size_px: \"24\"}", "c.yaml:5:19: ", "render.size_px takes a number");
    REFUSED("render: {size_px: large}", "c.yaml:5:19: ", "a number, not a string");
    REFUSED("render: {size_px: 0x18}", "c.yaml:5:19: ", "another notation");
    REFUSED("render: {size_px: 020}", "c.yaml:5:19: ", "another notation");
    REFUSED("render: {size_px: .inf}", "c.yaml:5:19: ", "a number");
    REFUSED("render: {size_px: }", "c.yaml:5:", "not nothing");
    REFUSED("render: {size_px: [20]}", "c.yaml:5:19: ", "not a list");
    REFUSED("render: {height_px: 32.0}", "c.yaml:5:21: ", "an integer");
    REFUSED("render: {thought_markers: yes}", "c.yaml:5:27: ", "true or false");
    REFUSED("render: {thought_markers: \"true\"}", "c.yaml:5:27: ", "true or false");
    REFUSED("render: {mode: 1}", "c.yaml:5:16: ", "a word, not a number");
    REFUSED("render: {text_color: 112233}", "c.yaml:5:22: ", "\"#rrggbb\"");
    REFUSED("render: {text_color: \"#12345\"}", "c.yaml:5:22: ", "no colour");
    REFUSED("render: {fonts: own.ttf}", "c.yaml:5:17: ", "a list of strings");
    REFUSED("render: {fonts: [1]}", "c.yaml:5:18: ", "a string");
    REFUSED("render: {fonts: []}", "c.yaml:5:17: ", "empty");
    REFUSED("render: page", "c.yaml:5:9: ", "a map of keys");
    REFUSED("render:", "c.yaml:5:", "a map of keys");
    REFUSED_SET("", "name=2024", "quotes");
    REFUSED_SET("", "name=a/b", "dash and underscore");
    REFUSED_SET("", "name=..", "no dot in front");
    REFUSED_SET("", "splits=[a]", "a map of keys");
    REFUSED_SET("", "splits.a b={files: [a.jsonl]}", "'a b'");
}

static void ranges_and_words_are_checked(void **state)
{
    (void)state;
    REFUSED("render: {size_px: 1000}", "c.yaml:5:19: ", "1000 is out of range (4 to 256)");
    REFUSED("render: {size_px: 3.9}", "c.yaml:5:19: ", "out of range");
    REFUSED("render: {size_px: 1e999}", "c.yaml:5:19: ", "out of range");
    REFUSED("render: {padding_px: -1}", "c.yaml:5:22: ", "out of range");
    REFUSED("render: {height_px: 99999999999999999999}", "c.yaml:5:21: ", "out of range");
    REFUSED("on: {bad_row: ignore}", "c.yaml:5:15: ", "on.bad_row");
    REFUSED("on: {bad_row: skpi}", "c.yaml:5:15: ", "the nearest is 'skip'");
    REFUSED("render: {preset: rot-papre}", "c.yaml:5:18: ", "'rot-paper'");
    REFUSED("store: {shard_samples: 100, commit_samples: 64}", "c.yaml:5:24: ", "no multiple");
    REFUSED("render: {mode: page, width_px: 16, padding_px: 8}", "c.yaml:5:32: ", "no room");
}

static void keys_without_effect_are_refused(void **state)
{
    (void)state;
    REFUSED("render: {width_px: 800}", "c.yaml:5:10: ", "no effect with render.mode: line");
    REFUSED("render: {page_height_px: 300}", "c.yaml:5:10: ", "render.mode: line");
    REFUSED("render: {line_spacing_px: 5}", "c.yaml:5:10: ", "render.mode: line");
    REFUSED("render: {mode: page, height_px: 33}", "c.yaml:5:22: ", "render.mode: page");
    REFUSED("encode: {checkpoint: tok}", "c.yaml:5:1: ", "without render");
    REFUSED("on: {missing_glyph: draw}", "c.yaml:5:6: ", "without render");
    REFUSED("render: {}\nstore: {embeds_codec: zstd-bf16}", "c.yaml:6:9: ", "without encode");
    REFUSED("render: {}\nencode: {checkpoint: tok, dtype: f32}\nstore: {embeds_codec: zstd-bf16}",
            "c.yaml:7:23: ", "bf16");
    static const char *const formats[] = {"gsm8k-aug", "gsm8k", "math"};
    static const char *const keys[] = {"keys.question=q", "keys.cot=c", "strip_calculator=true"};
    for (int i = 0; i < 3; i++) {
        char format[64], key[64];
        rot_config *config = NULL;
        rot_err err;
        snprintf(format, sizeof format, "splits.train.format=%s", formats[i]);
        snprintf(key, sizeof key, "splits.train.%s", keys[i]);
        assert_int_equal(load("", format, key, &config, &err), ROT_ERR_CONFIG);
        assert_non_null(strstr(err.message, "no effect with format"));
    }
}

// What holds for a config with every default written out must hold for its parts.
static void defaults_without_effect_are_read(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "render: {page_height_px: 0, line_spacing_px: 4, width_px: 1024}",
        "render: {mode: page, height_px: 32}",
        "render: {}\nstore: {embeds_codec: none}",
        "store: {embeds_codec: none}\non: {too_large: fail, missing_glyph: fail, bad_row: fail}",
        "render: {preset: rot-released, mode: page, newline: keep, height_px: 32}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        rot_config *config = NULL;
        rot_err err;
        if (load(texts[i], "splits.train.strip_calculator=false", NULL, &config, &err) < 0)
            fail_msg("%s: %s", texts[i], err.message);
        rot_config_free(&config);
    }
}

static void yaml_beyond_maps_lists_and_scalars_is_refused(void **state)
{
    (void)state;
    REFUSED("render: &a {mode: page}", "c.yaml:5:9: ", "anchors");
    REFUSED("render: *a", "c.yaml:5:9: ", "aliases");
    REFUSED("render: !!map {}", "c.yaml:5:9: ", "tags");
    REFUSED("render: {mode: !!str page}", "c.yaml:5:16: ", "tags");
    REFUSED("---\nname: y", "c.yaml:5:1: ", "several documents");
    REFUSED("name: y", "c.yaml:5:1: ", "given twice");
    REFUSED("render: {mode: line, mode: page}", "c.yaml:5:22: ", "given twice");
    REFUSED("render: {mode: \"line\\0\"}", "c.yaml:5:16: ", "U+0000");
    REFUSED("[a]: 1", "c.yaml:5:1: ", "a key is a word");
    REFUSED("render: [", "c.yaml:", "");
    REFUSED("\xff", "c.yaml:", "");
    REFUSED_SET("", "name", "KEY=VALUE");
    REFUSED_SET("", "=3", "KEY=VALUE");
    REFUSED_SET("", "render..mode=page", "empty part");
    REFUSED_SET("", "name=", "empty");
}

static void missing_keys_and_files_are_named(void **state)
{
    (void)state;
    rot_config *config = NULL;
    rot_err err = {0};
    refused("", "splits.train.files=[no.jsonl]", ROT_ERR_MISSING, "--set ", "no.jsonl");
    refused("", "splits.train.files=[no*.jsonl]", ROT_ERR_MISSING, "--set ", "matches no file");
    refused("render: {fonts: [./no.ttf]}", NULL, ROT_ERR_MISSING, "c.yaml:5:18: ", "no.ttf");
    refused("render: {}\nencode: {checkpoint: no}", NULL, ROT_ERR_MISSING, "c.yaml:6:22: ", "/no:");
    REFUSED("render: {}\nencode: {}", "c.yaml:6:9: ", "encode.checkpoint is missing");
    put("d.yaml", "name: x\nroot: out\ntokenizer: {path: tok}\n");
    assert_int_equal(rot_config_load(path_of("d.yaml"), NULL, 0, &config, &err), ROT_ERR_CONFIG);
    assert_non_null(strstr(err.message, "splits is missing"));
    put("d.yaml", "root: out\n");
    assert_int_equal(rot_config_load(path_of("d.yaml"), NULL, 0, &config, &err), ROT_ERR_CONFIG);
    assert_non_null(strstr(err.message, "name is missing"));
    put("d.yaml", "");
    assert_int_equal(rot_config_load(path_of("d.yaml"), NULL, 0, &config, &err), ROT_ERR_CONFIG);
    assert_int_equal(rot_config_load(path_of("no.yaml"), NULL, 0, &config, &err), ROT_ERR_MISSING);
    assert_non_null(strstr(err.message, "no.yaml"));
}

static void paths_are_relative_to_the_file_that_says_them(void **state)
{
    (void)state;
    rot_config *config = NULL;
    rot_err err = {0};
    put("sub/base.yaml", "splits: {train: {files: ['c[1].jsonl'], format: jsonl}}\n"
                         "render: {fonts: [../own.ttf], size_px: 18}\nroot: deep\n");
    put("near.yaml", "extends: sub/base.yaml\nname: x\ntokenizer: {path: tok}\n"
                     "render: {fonts: [own.ttf, DejaVuSans.ttf]}\n"
                     "splits: {more: {files: ['?.{jsonl,txt}'], format: jsonl}}\n");
    assert_int_equal(rot_config_load(path_of("near.yaml"), NULL, 0, &config, &err), 0);
    assert_string_equal(config->root, path_of("sub/deep"));
    assert_int_equal(config->n_splits, 2);
    assert_string_equal(config->splits[0].files[0], path_of("sub/c[1].jsonl"));
    assert_string_equal(config->splits[1].name, "more");
    assert_int_equal(config->splits[1].n_files, 2); // sorted
    assert_string_equal(config->splits[1].files[0], path_of("a.jsonl"));
    assert_string_equal(config->splits[1].files[1], path_of("b.jsonl"));
    assert_int_equal(config->render.n_fonts, 2); // a list is replaced
    assert_string_equal(config->render.fonts[0], path_of("own.ttf"));
    assert_string_equal(config->render.fonts[1], "DejaVuSans.ttf"); // a word stays
    assert_true(config->render.size_px == 18);                      // a map is merged
    rot_config_free(&config);
    put("one.yaml", "extends: two.yaml\n");
    put("two.yaml", "extends: one.yaml\n");
    assert_int_equal(rot_config_load(path_of("one.yaml"), NULL, 0, &config, &err), ROT_ERR_CONFIG);
    put("one.yaml", "extends: no.yaml\n");
    assert_int_equal(rot_config_load(path_of("one.yaml"), NULL, 0, &config, &err), ROT_ERR_MISSING);
    assert_non_null(strstr(err.message, "one.yaml:1:10: extends"));
}

static void a_cycle_under_other_names_ends(void **state)
{
    (void)state;
    rot_config *config = NULL;
    rot_err err = {0};
    put("three.yaml", "extends: ./three.yaml\n");
    assert_int_equal(rot_config_load(path_of("three.yaml"), NULL, 0, &config, &err),
                     ROT_ERR_CONFIG);
    assert_non_null(strstr(err.message, "extends"));
}

static void presets_and_sections(void **state)
{
    (void)state;
    rot_config *c = NULL;
    rot_err err;
    assert_int_equal(load("", NULL, NULL, &c, &err), 0);
    assert_false(c->has_render || c->has_encode);
    rot_config_free(&c);
    assert_int_equal(load("render: {}", NULL, NULL, &c, &err), 0);
    assert_true(c->has_render && c->render.size_px == 20);
    rot_config_free(&c);
    assert_int_equal(load("render: {size_px: 18, preset: rot-released}", NULL, NULL, &c, &err), 0);
    assert_true(c->render.size_px == 18);
    assert_int_equal(c->render.newline, ROT_NEWLINE_KEEP);
    rot_config_free(&c);
    assert_int_equal(load("render: {preset: rot-released, background_color: '#102030'}\n"
                          "encode: {checkpoint: tok}\non: {missing_glyph: draw}",
                          "render.text_color=#AAbbCC", "render.letter_spacing_px=2e-1", &c, &err),
                     0);
    assert_true(c->render.size_px == 16 && c->render.letter_spacing_px == 0.2);
    assert_memory_equal(c->encode.background, ((uint8_t[]){0x10, 0x20, 0x30}), 3);
    assert_memory_equal(c->render.text_color, ((uint8_t[]){0xaa, 0xbb, 0xcc}), 3);
    assert_int_equal(c->render.missing_glyph, ROT_GLYPH_DRAW);
    rot_config_free(&c);
}

static void other_value(const rot_key *key, char out[64])
{
    double low = key->min < 16 ? 17 : key->min + 2;
    int last = 0;
    switch (key->type) {
    case ROT_KEY_INTEGER:
    case ROT_KEY_NUMBER: snprintf(out, 64, "%.0f", low); break;
    case ROT_KEY_COUNT: snprintf(out, 64, strstr(key->name, "shard") ? "8192" : "32"); break;
    case ROT_KEY_BOOL: snprintf(out, 64, "false"); break;
    case ROT_KEY_COLOR: snprintf(out, 64, "\"#012345\""); break;
    case ROT_KEY_FONTS: snprintf(out, 64, "[\"Some Family\", \"Other\"]"); break;
    case ROT_KEY_NAME: snprintf(out, 64, "\"other.name_1-x\""); break;
    case ROT_KEY_ROOT:
    case ROT_KEY_PLACE:
    case ROT_KEY_FILE:
    case ROT_KEY_FOLDER: snprintf(out, 64, "\"%s\"", top); break;
    case ROT_KEY_ENUM:
    case ROT_KEY_WORD:
    case ROT_KEY_PRESET:
        while (last + 1 < ROT_KEY_MAX_WORDS && key->words[last + 1]) last++;
        snprintf(out, 64, "%s", key->words[last]);
        break;
    default: fail_msg("%s: what value?", key->name);
    }
}

static char *written(const rot_config *config)
{
    char *text = NULL;
    rot_err err = {0};
    assert_int_equal(rot_config_write(config, &text, &err), 0);
    return text;
}

// Every key, in the file and by --set, changes its line of the effective config, which reads back.
static void every_key_is_set_and_read_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < rot_n_config_keys; i++) {
        const rot_key *key = &rot_config_keys[i];
        char value[64], set[160], line[160];
        rot_config *config = NULL, *again = NULL;
        rot_err err;
        const char *leaf = strrchr(key->name, '.') ? strrchr(key->name, '.') + 1 : key->name;
        const char *page = key->when == ROT_WHEN_PAGE_MODE ? "render.mode=page" : NULL;
        other_value(key, value);
        snprintf(set, sizeof set, "%s=%s", key->name, value);
        snprintf(line, sizeof line, "%s: %s\n", leaf, value);
        int rc = load("render: {}\nencode: {checkpoint: tok}", set, page, &config, &err);
        if (rc < 0) fail_msg("%s: %s", set, err.message);
        char *text = written(config);
        if (key->type != ROT_KEY_PRESET && !strstr(text, line))
            fail_msg("no '%s' in %s", line, text);
        put("sub/effective.yaml", text);
        rc = rot_config_load(path_of("sub/effective.yaml"), NULL, 0, &again, &err);
        if (rc < 0) fail_msg("%s: %s in\n%s", set, err.message, text);
        char *text_again = written(again);
        assert_string_equal(text, text_again);
        free(text);
        free(text_again);
        rot_config_free(&config);
        rot_config_free(&again);
    }
}

static void split_keys_are_set_and_read_back(void **state)
{
    (void)state;
    rot_config *c = NULL, *again = NULL;
    rot_err err;
    assert_int_equal(
        load("", "splits.train={files: [a.jsonl], format: math, keys: {id: \"i\\u2028\\\"d\"}}",
             "splits.train.keys.answer=ans", &c, &err),
        ROT_ERR_MISSING); // a.jsonl is not in the working folder
    char set[300];
    snprintf(set, sizeof set, "splits.train.files=['%s/a.jsonl']", top);
    assert_int_equal(
        load("", set, "splits.train.keys={id: \"i\\u2028\\\"d\", cot: solution}", &c, &err), 0);
    assert_string_equal(c->splits[0].key_id, "i\xe2\x80\xa8\"d");
    assert_string_equal(c->splits[0].key_cot, "solution");
    assert_string_equal(c->splits[0].key_question, "question");
    char *text = written(c);
    put("sub/effective.yaml", text);
    assert_int_equal(rot_config_load(path_of("sub/effective.yaml"), NULL, 0, &again, &err), 0);
    assert_string_equal(again->splits[0].key_id, c->splits[0].key_id);
    free(text);
    rot_config_free(&c);
    rot_config_free(&again);
}

static void render_keys_as_json(void **state)
{
    (void)state;
    rot_render_options o = rot_render_options_default();
    rot_strings *strings = NULL;
    rot_err err = {0};
    assert_int_equal(rot_config_set_render(&o, "size_px", "24", &strings, &err), 0);
    assert_int_equal(rot_config_set_render(&o, "render.mode", "\"page\"", &strings, &err), 0);
    assert_int_equal(rot_config_set_render(&o, "fonts", "[\"A\", \"B\"]", &strings, &err), 0);
    assert_int_equal(rot_config_set_render(&o, "text_color", "\"#ff0000\"", &strings, &err), 0);
    assert_int_equal(rot_config_set_render(&o, "missing_glyph", "\"draw\"", &strings, &err), 0);
    assert_true(o.size_px == 24 && o.mode == ROT_MODE_PAGE && o.text_color[0] == 255);
    assert_int_equal(o.n_fonts, 2);
    assert_string_equal(o.fonts[1], "B");
    assert_int_equal(rot_config_set_render(&o, "preset", "\"rot-released\"", &strings, &err), 0);
    assert_true(o.size_px == 16 && o.mode == ROT_MODE_LINE);
    assert_int_equal(o.missing_glyph, ROT_GLYPH_DRAW); // no part of a preset
    static const char *const wrong[][2] = {
        {"size_px", "\"24\""}, {"size_px", "1000"}, {"height_px", "32.0"},
        {"mode", "\"pgae\""},  {"size_pz", "24"},   {"size_px", "{"},
        {"size_px", "null"},   {"fonts", "{}"},     {"thought_markers", "1"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        err = (rot_err){0};
        assert_int_equal(rot_config_set_render(&o, wrong[i][0], wrong[i][1], &strings, &err),
                         ROT_ERR_CONFIG);
        assert_non_null(strstr(err.message, wrong[i][0]));
    }
    assert_int_equal(rot_config_set_render(&o, "mising_glyph", "1", &strings, &err),
                     ROT_ERR_CONFIG);
    assert_non_null(strstr(err.message, "'missing_glyph'"));
    rot_config_free_strings(&strings);
    assert_null(strings);
}

static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    bool succeeded = false;
    for (long n = 1; n < 60; n++) {
        rot_config *config = NULL;
        rot_err err = {0};
        put("c.yaml", start);
        rot_mem_fail_at(n);
        int rc = rot_config_load(path_of("c.yaml"), NULL, 0, &config, &err);
        rot_mem_fail_at(0);
        assert_true(rc == 0 || rc == ROT_ERR_NO_MEMORY);
        succeeded |= rc == 0;
        rot_config_free(&config);
    }
    assert_true(succeeded);
}

// Bytes at random, and a good config with some bytes changed: an error or a config, never a crash.
static void random_bytes_never_crash(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < 300; round++) {
        char text[400];
        rot_config *config = NULL;
        rot_err err = {0};
        size_t n = strlen(start);
        memcpy(text, start, n);
        for (int k = 0; k < 1 + round % 5; k++) text[(size_t)rand() % n] = (char)rand();
        if (round % 3 == 0)
            for (size_t i = 0; i < n; i++) text[i] = (char)rand();
        assert_int_equal(rot_fs_write_atomic(path_of("r.yaml"), text, n, &err), 0);
        int rc = rot_config_load(path_of("r.yaml"), NULL, 0, &config, &err);
        assert_true(rc == 0 || (rc < 0 && err.message[0]));
        rot_config_free(&config);
    }
}

// Every config in configs/ is read without error once the files it names are there.
static void examples_are_read(void **state)
{
    (void)state;
    static const char *const names[] = {"demo", "gsm8k",      "gsm8k-aug", "gsm8k-aug-released",
                                        "math", "tokens-only"};
    char command[2000];
    snprintf(command, sizeof command,
             "cp -r configs samples '%s' && cd '%s' && mkdir -p out/demo/tiny data/gsm8k "
             "data/gsm8k-aug data/math checkpoints/qwen3-vl-4b && touch data/gsm8k/train.jsonl "
             "data/gsm8k/test.jsonl data/gsm8k-aug/train.txt data/gsm8k-aug/valid.txt "
             "data/gsm8k-aug/test.txt data/math/train1.jsonl data/traces-1.jsonl.gz",
             top, top);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        rot_config *config = NULL;
        rot_err err = {0};
        snprintf(name, sizeof name, "configs/%s.yaml", names[i]);
        if (rot_config_load(path_of(name), NULL, 0, &config, &err) < 0) fail_msg("%s", err.message);
        assert_string_equal(config->name, strcmp(names[i], "tokens-only") ? names[i] : "tokens");
        rot_config_free(&config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_keys_name_the_nearest),
        cmocka_unit_test(wrong_types_are_refused),
        cmocka_unit_test(ranges_and_words_are_checked),
        cmocka_unit_test(keys_without_effect_are_refused),
        cmocka_unit_test(defaults_without_effect_are_read),
        cmocka_unit_test(yaml_beyond_maps_lists_and_scalars_is_refused),
        cmocka_unit_test(missing_keys_and_files_are_named),
        cmocka_unit_test(paths_are_relative_to_the_file_that_says_them),
        cmocka_unit_test(a_cycle_under_other_names_ends),
        cmocka_unit_test(presets_and_sections),
        cmocka_unit_test(every_key_is_set_and_read_back),
        cmocka_unit_test(split_keys_are_set_and_read_back),
        cmocka_unit_test(render_keys_as_json),
        cmocka_unit_test(examples_are_read),
        cmocka_unit_test(lack_of_memory_is_an_error),
        cmocka_unit_test(random_bytes_never_crash),
    };
    return cmocka_run_group_tests(tests, make_top, remove_top);
}
