// The embeds stage: equal images are encoded once and give the bytes they would alone, rows stay in
// order whatever the unit, the profile and the progress say what was done; the table of what was
// met lately.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/fs.h"
#include "base/mem.h"
#include "pipeline/same_images.h"
#include "rotoscope/rotoscope.h"

static char top[64], checkpoint[128];

static int make_top(void **state)
{
    (void)state;
    rot_err err;
    snprintf(top, sizeof top, "/tmp/rot embeds XXXXXX");
    if (!mkdtemp(top)) return -1;
    snprintf(checkpoint, sizeof checkpoint, "%s/tiny", top);
    rot_init_model_options options = rot_init_model_options_default();
    options.dir = checkpoint;
    options.depth = 4, options.width = 32, options.heads = 1, options.mlp_width = 32;
    int rc = rot_init_model(&options, &err);
    if (rc < 0) fprintf(stderr, "%s\n", err.message);
    return rc;
}

static int remove_top(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command);
}

static void count(void *user, const rot_progress *progress)
{
    if (!strcmp(progress->stage, "embeds")) *(rot_progress *)user = *progress;
}

// Builds `traces` into the root `name`; the JSON of the profile's embeds stage, and the last
// progress.
static json_t *build(const char *name, const char *const *traces, int n, const char *extra,
                     rot_progress *last)
{
    char sets[8][400], file[200];
    const char *list[8];
    rot_err err = {0};
    snprintf(file, sizeof file, "%s/%s.jsonl", top, name);
    FILE *out = fopen(file, "w");
    for (int i = 0; i < n; i++)
        fprintf(out, "{\"question\": \"%d\", \"cot\": \"%s\", \"answer\": \"0\"}\n", i, traces[i]);
    fclose(out);
    snprintf(sets[0], sizeof sets[0], "name=set");
    snprintf(sets[1], sizeof sets[1], "root=%s/%s", top, name);
    snprintf(sets[2], sizeof sets[2], "splits.train.files=[\"%s\"]", file);
    snprintf(sets[3], sizeof sets[3], "splits.train.format=jsonl");
    snprintf(sets[4], sizeof sets[4], "tokenizer.path=%s", checkpoint);
    snprintf(sets[5], sizeof sets[5], "render.preset=rot-paper");
    snprintf(sets[6], sizeof sets[6], "encode.checkpoint=%s", checkpoint);
    snprintf(sets[7], sizeof sets[7], "%s", extra);
    for (int i = 0; i < 8; i++) list[i] = sets[i];
    rot_config *config;
    if (rot_config_load(NULL, list, 8, &config, &err) < 0) fail_msg("%s", err.message);
    char *json = NULL, *profile = NULL;
    rot_build_options options = rot_build_options_default();
    options.profile = &profile;
    options.progress = count;
    options.user = last;
    if (rot_build(config, &options, &json, &err) < 0) fail_msg("%s", err.message);
    free(json);
    rot_config_free(&config);
    json_t *all = json_loads(profile, 0, NULL), *stages = json_object_get(all, "stages");
    free(profile);
    assert_int_equal(json_array_size(stages), 3);
    json_t *stage = json_incref(json_array_get(stages, 2));
    json_decref(all);
    assert_string_equal(json_string_value(json_object_get(stage, "stage")), "embeds");
    return stage;
}

static rot_reader *reader_of(const char *name)
{
    char path[200];
    rot_err err = {0};
    rot_reader *reader;
    snprintf(path, sizeof path, "%s/%s/set.json", top, name);
    if (rot_reader_open(path, NULL, NULL, &reader, &err) < 0) fail_msg("%s", err.message);
    return reader;
}

static long integer(const json_t *stage, const char *key)
{
    return (long)json_integer_value(json_object_get(stage, key));
}

// `row` of one dataset and of another hold the same embeddings.
static void assert_same(rot_reader *a, uint64_t row_a, rot_reader *b, uint64_t row_b)
{
    rot_record one, other;
    rot_err err = {0};
    assert_int_equal(rot_reader_view(a, "embeds", row_a, &one, &err), 0);
    assert_int_equal(rot_reader_view(b, "embeds", row_b, &other, &err), 0);
    assert_memory_equal(one.shape, other.shape, sizeof one.shape);
    assert_memory_equal(one.payload, other.payload, one.n_bytes);
}

static void equal_images_are_encoded_once(void **state)
{
    (void)state;
    const char *traces[90];
    static const char *const few[] = {"1+1=2", "2*3=6", "1+1=2", "10-4=6 and more of it", "2*3=6"};
    for (int i = 0; i < 90; i++) traces[i] = few[i % 5];
    rot_progress last = {0}, ignored;
    json_t *stage = build("same", traces, 90, "store.commit_samples=4096", &last);
    assert_int_equal(integer(stage, "images"), 90);
    assert_int_equal(integer(stage, "images_encoded"), 3);
    assert_int_equal(last.done, 90);
    assert_int_equal(last.images, 90);
    assert_int_equal(last.merged_tokens, integer(stage, "merged_tokens"));
    assert_true(last.flop > 0 && last.encoding_seconds > 0);
    rot_reader *many = reader_of("same");
    for (int i = 0; i < 5; i++) { // each alone
        char name[16];
        snprintf(name, sizeof name, "alone%d", i);
        json_t *one = build(name, &few[i], 1, "store.commit_samples=4096", &ignored);
        assert_int_equal(integer(one, "images_encoded"), 1);
        json_decref(one);
        rot_reader *alone = reader_of(name);
        for (int k = i; k < 90; k += 5) assert_same(many, (uint64_t)k, alone, 0);
        rot_reader_close(&alone);
    }
    rot_reader_close(&many);
    json_decref(stage);
}

// Rows of many lengths, so that groups end within units, at their ends and beyond them.
static void units_and_shards_of_any_size_hold_the_same_rows(void **state)
{
    (void)state;
    enum { N = 83 };
    static char texts[N][200];
    const char *traces[N];
    for (int i = 0; i < N; i++) {
        int n = snprintf(texts[i], 200, "%d", i);
        for (int k = 0; k < i * 7 % 23; k++)
            n += snprintf(texts[i] + n, (size_t)(200 - n), " %d", k);
        traces[i] = texts[i];
    }
    static const char *const layouts[] = {"store.commit_samples=4096", "store.commit_samples=1",
                                          "store.commit_samples=32", "store.shard_samples=64"};
    rot_reader *readers[4];
    rot_progress last = {0};
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "units%d", i);
        json_t *stage = build(name, traces, N, layouts[i], &last);
        assert_int_equal(integer(stage, "images_encoded"), N);
        assert_int_equal(last.done, N);
        json_decref(stage);
        readers[i] = reader_of(name);
        for (uint64_t row = 0; i && row < N; row++) assert_same(readers[0], row, readers[i], row);
    }
    assert_string_equal(rot_reader_get_info(readers[0])->root,
                        rot_reader_get_info(readers[1])->root);
    for (int i = 0; i < 4; i++) rot_reader_close(&readers[i]);
}

// Of each merged token its embedding, the same bits as without taps, then three taps.
static void taps_lie_behind_the_embedding(void **state)
{
    (void)state;
    static const char *const traces[] = {"1+1=2", "2*3=6"};
    rot_progress last;
    json_decref(build("plain", traces, 2, "encode.deepstack=false", &last));
    json_decref(build("taps", traces, 2, "encode.deepstack=true", &last));
    rot_reader *plain = reader_of("plain"), *taps = reader_of("taps");
    uint32_t d = rot_reader_get_info(plain)->embeds_width;
    assert_int_equal(rot_reader_get_info(plain)->embeds_taps, 0);
    assert_int_equal(rot_reader_get_info(taps)->embeds_taps, 3);
    assert_int_equal(rot_reader_get_info(taps)->embeds_width, 4 * d);
    for (uint64_t i = 0; i < 2; i++) {
        rot_record one, four;
        rot_err err;
        assert_int_equal(rot_reader_view(plain, "embeds", i, &one, &err), 0);
        assert_int_equal(rot_reader_view(taps, "embeds", i, &four, &err), 0);
        assert_int_equal(one.shape[0], four.shape[0]);
        for (uint32_t k = 0; k < one.shape[0]; k++) {
            const uint16_t *a = (const uint16_t *)one.payload + k * d,
                           *b = (const uint16_t *)four.payload + k * 4 * d;
            assert_memory_equal(a, b, d * sizeof *a);
            for (int t = 1; t < 4; t++)
                assert_memory_not_equal(a, b + (size_t)t * d, d * sizeof *a);
        }
    }
    rot_reader_close(&plain);
    rot_reader_close(&taps);
}

static void a_tower_without_taps_is_named_with_the_line(void **state)
{
    (void)state;
    char llava[200], config[200], text[1200];
    rot_err err = {0};
    rot_config *loaded;
    snprintf(llava, sizeof llava, "%s/llava", top);
    snprintf(config, sizeof config, "%s/llava.yaml", top);
    rot_init_model_options options = rot_init_model_options_default();
    options.dir = llava;
    options.arch = "llava-tiny";
    assert_int_equal(rot_init_model(&options, &err), 0);
    snprintf(text, sizeof text,
             "name: n\nroot: r\nsplits:\n  train: {files: [plain.jsonl], format: jsonl}\n"
             "tokenizer: {path: llava}\nrender: {}\nencode:\n  checkpoint: llava\n"
             "  deepstack: true\n");
    assert_int_equal(rot_fs_write_atomic(config, text, strlen(text), &err), 0);
    assert_int_equal(rot_config_load(config, NULL, 0, &loaded, &err), ROT_ERR_CONFIG);
    assert_non_null(strstr(err.message, "llava.yaml:9:"));
    assert_non_null(strstr(err.message, "llava_next"));
    rot_encoder_options o = rot_encoder_options_default();
    rot_encoder_info info;
    rot_encoder *encoder;
    o.checkpoint = llava;
    o.deepstack = true;
    assert_int_equal(rot_encoder_inspect(&o, false, &info, &err), ROT_ERR_USAGE);
    assert_int_equal(rot_encoder_open(&o, &encoder, &err), ROT_ERR_USAGE);
}

static void what_was_used_longest_ago_goes_first(void **state)
{
    (void)state;
    rot_same *same;
    rot_err err;
    uint8_t key[3][ROT_SAME_KEY] = {{1}, {2}, {3}};
    char bytes[3][40] = {"one", "two", "three"};
    assert_int_equal(rot_same_open(100, &same, &err), 0);
    assert_null(rot_same_find(same, key[0], 40));
    rot_same_put(same, key[0], bytes[0], 40);
    rot_same_put(same, key[1], bytes[1], 40);
    assert_memory_equal(rot_same_find(same, key[0], 40), bytes[0], 40);
    assert_null(rot_same_find(same, key[0], 39));
    rot_same_put(same, key[2], bytes[2], 40); // key[1] is the older one now
    assert_null(rot_same_find(same, key[1], 40));
    assert_memory_equal(rot_same_find(same, key[0], 40), bytes[0], 40);
    assert_memory_equal(rot_same_find(same, key[2], 40), bytes[2], 40);
    char large[101] = {0};
    rot_same_put(same, key[1], large, sizeof large); // never fits
    assert_null(rot_same_find(same, key[1], sizeof large));
    rot_mem_fail_at(1);
    rot_same_put(same, key[1], bytes[1], 10); // no memory: not kept
    rot_mem_fail_at(0);
    assert_null(rot_same_find(same, key[1], 10));
    rot_same_close(&same);
    assert_null(same);
}

static void keys_tell_shapes_and_pixels_apart(void **state)
{
    (void)state;
    uint8_t pixels[12] = {0}, other[12] = {[11] = 1}, keys[4][ROT_SAME_KEY];
    rot_record r = {.kind = ROT_KIND_IMAGE, .shape = {4, 3, 1}, .payload = pixels, .n_bytes = 12};
    rot_same_key(&r, keys[0]);
    rot_same_key(&r, keys[1]);
    assert_memory_equal(keys[0], keys[1], ROT_SAME_KEY);
    r.shape[0] = 3, r.shape[1] = 4;
    rot_same_key(&r, keys[2]);
    assert_memory_not_equal(keys[0], keys[2], ROT_SAME_KEY);
    r.shape[0] = 4, r.shape[1] = 3, r.payload = other;
    rot_same_key(&r, keys[3]);
    assert_memory_not_equal(keys[0], keys[3], ROT_SAME_KEY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_images_are_encoded_once),
        cmocka_unit_test(units_and_shards_of_any_size_hold_the_same_rows),
        cmocka_unit_test(taps_lie_behind_the_embedding),
        cmocka_unit_test(a_tower_without_taps_is_named_with_the_line),
        cmocka_unit_test(what_was_used_longest_ago_goes_first),
        cmocka_unit_test(keys_tell_shapes_and_pixels_apart),
    };
    return cmocka_run_group_tests(tests, make_top, remove_top);
}
