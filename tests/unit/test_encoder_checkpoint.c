// encoder: reading checkpoints: prefixes, shards, types, and what is refused.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "encoder/checkpoint.h"
#include "rotoscope/encoder.h"

static char top[] = "/tmp/rot test XXXXXX"; // with spaces
static char dir[128];                       // the checkpoint at hand

static int make_top(void **state)
{
    (void)state;
    if (!mkdtemp(top)) return -1;
    snprintf(dir, sizeof dir, "%s/model", top);
    return 0;
}

static int remove_top(void **state)
{
    (void)state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command);
}

static const char *in_dir(const char *name)
{
    static char path[4][256];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/%s", dir, name);
    return out;
}

// A fresh small checkpoint in `dir` for each test.
static int fresh(void **state)
{
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command)) return -1;
    rot_init_model_options options = rot_init_model_options_default();
    options.dir = dir;
    options.depth = 3;
    options.width = 32;
    options.heads = 2;
    options.mlp_width = 40;
    options.out_width = 24;
    return rot_init_model(&options, NULL);
}

static rot_checkpoint *must_open(void)
{
    rot_checkpoint *checkpoint;
    rot_err err = {0};
    if (rot_checkpoint_open(dir, &checkpoint, &err) < 0) fail_msg("%s", err.message);
    return checkpoint;
}

static void wants_error(int code, const char *words)
{
    rot_checkpoint *checkpoint;
    rot_err err = {0};
    int rc = rot_checkpoint_open(dir, &checkpoint, &err);
    if (rc != code || err.code != code || !strstr(err.message, words) || !strstr(err.message, dir))
        fail_msg("wanted %d with '%s', got %d: %s", code, words, rc, err.message);
    assert_null(checkpoint);
}

// Replaces the first `from` in a file of the checkpoint by `to`.
static void edit(const char *name, const char *from, const char *to)
{
    char *text, *at;
    size_t n;
    assert_int_equal(rot_fs_read(in_dir(name), &text, &n, NULL), 0);
    at = strstr(text, from);
    if (!at) fail_msg("%s: no '%s'", name, from);
    char *out = malloc(n + strlen(to) + 1);
    size_t before = (size_t)(at - text), after = n - before - strlen(from);
    memcpy(out, text, before);
    memcpy(out + before, to, strlen(to));
    memcpy(out + before + strlen(to), at + strlen(from), after);
    assert_int_equal(rot_fs_write_atomic(in_dir(name), out, before + strlen(to) + after, NULL), 0);
    free(out);
    rot_free(text);
}

typedef struct change {
    const char *drop, *misshape,
        *retype;        // names (with prefix) to leave out, to turn, to write as I32
    const char *prefix; // instead of "model.visual."
    int shards;
    rot_tensor_type type; // of all; ROT_T_BF16: as they are
} change;

// Writes the checkpoint's tensors again, changed.
static void rewrite(const change *how)
{
    rot_safetensors *in;
    assert_int_equal(rot_safetensors_open(dir, &in, NULL), 0);
    size_t n = rot_safetensors_count(in);
    int shards = how->shards ? how->shards : 1;
    FILE *index = shards > 1 ? fopen(in_dir("model.safetensors.index.json"), "w") : NULL;
    if (index) fputs("{\"metadata\":{},\"weight_map\":{", index);
    for (int s = 0; s < shards; s++) {
        rot_tensor_decl *declared = calloc(n, sizeof *declared);
        const rot_tensor **kept = calloc(n, sizeof *kept);
        char(*names)[160] = calloc(n, sizeof *names), file[64];
        size_t m = 0;
        snprintf(file, sizeof file, shards > 1 ? "part-%d.safetensors" : "new", s);
        for (size_t i = 0; i < n; i++) {
            const rot_tensor *t = rot_safetensors_at(in, i);
            if ((how->drop && !strcmp(t->name, how->drop)) || i % (size_t)shards != (size_t)s)
                continue;
            snprintf(names[m], sizeof names[m], "%s%s", how->prefix ? how->prefix : "model.visual.",
                     t->name + 13);
            declared[m] =
                (rot_tensor_decl){.name = names[m], .type = how->type, .n_dims = t->n_dims};
            memcpy(declared[m].shape, t->shape, sizeof t->shape);
            if (how->misshape && !strcmp(t->name, how->misshape)) {
                declared[m].shape[0] = t->shape[1];
                declared[m].shape[1] = t->shape[0];
            }
            if (how->retype && !strcmp(t->name, how->retype)) declared[m].type = ROT_T_I32;
            kept[m++] = t;
            if (index) fprintf(index, "%s\"%s\":\"%s\"", i || s ? "," : "", names[m - 1], file);
        }
        rot_safetensors_writer *writer;
        assert_int_equal(rot_safetensors_create(in_dir(file), declared, m, &writer, NULL), 0);
        for (size_t i = 0; i < m; i++) {
            float *f = malloc(4 * kept[i]->n_elements);
            rot_tensor_to_f32(kept[i], 0, kept[i]->n_elements, f);
            size_t size = rot_tensor_type_bytes(declared[i].type);
            const void *bytes = size == 4 ? (const void *)f : kept[i]->data;
            assert_int_equal(rot_safetensors_write(writer, bytes, size * kept[i]->n_elements, NULL),
                             0);
            free(f);
        }
        assert_int_equal(rot_safetensors_finish(&writer, NULL), 0);
        free(declared);
        free(kept);
        free(names);
    }
    rot_safetensors_close(&in);
    if (index) {
        fputs("}}", index);
        fclose(index);
        unlink(in_dir("model.safetensors"));
    } else
        assert_int_equal(rename(in_dir("new"), in_dir("model.safetensors")), 0);
}

static void prefixes_and_shards_read_alike(void **state)
{
    (void)state;
    char first[65], again[65];
    rot_checkpoint *checkpoint = must_open();
    int64_t parameters = rot_checkpoint_parameters(checkpoint);
    assert_int_equal(rot_checkpoint_hash(checkpoint, false, first, NULL), 0);
    rot_checkpoint_close(&checkpoint);
    const change changes[] = {{.prefix = "visual.", .type = ROT_T_BF16},
                              {.prefix = "", .type = ROT_T_BF16},
                              {.shards = 3, .type = ROT_T_BF16}};
    for (int i = 0; i < 3; i++) {
        fresh(NULL);
        rewrite(&changes[i]);
        checkpoint = must_open();
        assert_int_equal(rot_checkpoint_parameters(checkpoint), parameters);
        assert_int_equal(rot_checkpoint_hash(checkpoint, false, again, NULL), 0);
        assert_string_equal(first, again);
        assert_non_null(rot_checkpoint_tensor(checkpoint, "blocks.0.attn.qkv.weight"));
        rot_checkpoint_close(&checkpoint);
    }
}

static void the_hash_sees_values_and_types_but_not_the_taps(void **state)
{
    (void)state;
    char first[65], again[65];
    rot_checkpoint *checkpoint = must_open();
    assert_int_equal(rot_checkpoint_hash(checkpoint, false, first, NULL), 0);
    rot_checkpoint_close(&checkpoint);
    // Flips a byte of one tensor: of the taps it does not count, of the tower it does.
    static const char *const names[] = {"deepstack_merger_list.0.linear_fc1.weight",
                                        "merger.norm.bias"};
    for (int i = 0; i < 2; i++) {
        checkpoint = must_open();
        const rot_tensor *t = rot_checkpoint_tensor(checkpoint, names[i]);
        rot_map map;
        assert_int_equal(rot_fs_map(in_dir("model.safetensors"), &map, NULL), 0);
        const rot_tensor *base = rot_checkpoint_tensor(checkpoint, "patch_embed.proj.weight");
        uint64_t n_header;
        memcpy(&n_header, map.bytes, 8);
        long at = (long)(8 + n_header) + (long)((const char *)t->data - (const char *)base->data);
        int byte = map.bytes[at];
        rot_fs_unmap(&map);
        rot_checkpoint_close(&checkpoint);
        FILE *file = fopen(in_dir("model.safetensors"), "r+b");
        fseek(file, at, SEEK_SET);
        fputc(byte ^ 1, file);
        fclose(file);
        checkpoint = must_open();
        assert_int_equal(rot_checkpoint_hash(checkpoint, false, again, NULL), 0);
        rot_checkpoint_close(&checkpoint);
        if (i == 0)
            assert_string_equal(first, again);
        else
            assert_string_not_equal(first, again);
    }
    fresh(NULL);
    rewrite(&(change){.type = ROT_T_F32});
    checkpoint = must_open();
    assert_int_equal(rot_checkpoint_hash(checkpoint, false, again, NULL), 0);
    rot_checkpoint_close(&checkpoint);
    assert_string_not_equal(first, again);
}

static void hash_of(bool with_taps, char out[65])
{
    rot_checkpoint *checkpoint = must_open();
    assert_int_equal(rot_checkpoint_hash(checkpoint, with_taps, out, NULL), 0);
    rot_checkpoint_close(&checkpoint);
}

// The tensors stay, and the output would not.
static void the_hash_sees_what_config_json_alone_decides(void **state)
{
    (void)state;
    char hashes[4][65], taps[4][65];
    static const char *const heads[] = {"\"num_heads\": 2", "\"num_heads\": 4", "\"num_heads\": 8"};
    for (int i = 0; i < 3; i++) {
        if (i) edit("config.json", heads[i - 1], heads[i]);
        hash_of(false, hashes[i]);
        for (int k = 0; k < i; k++) assert_string_not_equal(hashes[k], hashes[i]);
    }
    fresh(NULL);
    hash_of(true, taps[0]);
    edit("config.json", "0,\n      1,\n      2", "0,\n      2");
    hash_of(false, hashes[3]);
    hash_of(true, taps[1]);
    edit("config.json", "0,\n      2", "1,\n      2");
    hash_of(true, taps[2]);
    assert_string_equal(hashes[3], hashes[0]); // the taps are not stored
    assert_string_not_equal(taps[1], taps[0]);
    assert_string_not_equal(taps[2], taps[1]);
}

// SHA-256 over fields of name, type, shape and bytes, by hashlib: as before config.json had a part.
static void published_shapes_hash_as_they_always_did(void **state)
{
    (void)state;
    char command[256], got[65];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
    rot_init_model_options options = rot_init_model_options_default();
    options.dir = dir;
    options.depth = 3;
    options.width = 64;
    options.heads = 16;
    options.mlp_width = 40;
    options.out_width = 24;
    assert_int_equal(rot_init_model(&options, NULL), 0);
    hash_of(false, got);
    assert_string_equal(got, "bf08fc0e8ec6dba5fe7fca0c9c4938c3ab454321c53c71991944cd6a00e74628");
}

static void missing_parts_are_missing(void **state)
{
    (void)state;
    static const char *const parts[] = {"config.json", "preprocessor_config.json",
                                        "model.safetensors"};
    for (int i = 0; i < 3; i++) {
        fresh(NULL);
        unlink(in_dir(parts[i]));
        wants_error(ROT_ERR_MISSING, i == 2 ? "safetensors" : parts[i]);
    }
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
    wants_error(ROT_ERR_MISSING, "no such checkpoint folder");
}

static void tensors_that_do_not_fit_are_named(void **state)
{
    (void)state;
    rewrite(&(change){.drop = "model.visual.blocks.1.attn.qkv.bias", .type = ROT_T_BF16});
    wants_error(ROT_ERR_FORMAT, "the tensor model.visual.blocks.1.attn.qkv.bias is missing");
    fresh(NULL);
    rewrite(&(change){.drop = "model.visual.patch_embed.proj.weight", .type = ROT_T_BF16});
    wants_error(ROT_ERR_FORMAT, "the tensor model.visual.patch_embed.proj.weight is missing");
    fresh(NULL);
    rewrite(
        &(change){.drop = "model.visual.deepstack_merger_list.2.norm.bias", .type = ROT_T_BF16});
    wants_error(ROT_ERR_FORMAT, "deepstack_merger_list.2.norm.bias is missing");
    fresh(NULL);
    rewrite(&(change){.misshape = "model.visual.merger.linear_fc2.weight", .type = ROT_T_BF16});
    wants_error(ROT_ERR_FORMAT,
                "merger.linear_fc2.weight has the shape [128, 24], config.json says [24, 128]");
    fresh(NULL);
    rewrite(&(change){.retype = "model.visual.pos_embed.weight", .type = ROT_T_BF16});
    wants_error(ROT_ERR_FORMAT, "pos_embed.weight is not F32, F16 or BF16");
    fresh(NULL);
    rewrite(&(change){.prefix = "vision_tower.", .type = ROT_T_BF16});
    wants_error(ROT_ERR_FORMAT, "no vision tower");
    fresh(NULL);
    edit("config.json", "\"hidden_size\": 32", "\"hidden_size\": 64");
    wants_error(ROT_ERR_FORMAT,
                "model.visual.patch_embed.proj.weight has the shape [32, 3, 2, 16, 16]");
}

static void a_file_cut_at_every_sixteenth_is_refused(void **state)
{
    (void)state;
    struct stat whole;
    assert_int_equal(stat(in_dir("model.safetensors"), &whole), 0);
    for (int i = 15; i >= 0; i--) {
        assert_int_equal(truncate(in_dir("model.safetensors"), whole.st_size * i / 16), 0);
        wants_error(ROT_ERR_FORMAT, "truncated");
    }
}

static void configs_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *file, *from, *to;
        int code;
        const char *words;
    } cases[] = {
        {"config.json", "\"model_type\": \"qwen3_vl\"", "\"model_type\": \"siglip\"",
         ROT_ERR_UNSUPPORTED,
         "'siglip' (supported: qwen3_vl, qwen3_vl_moe, qwen2_5_vl, qwen2_vl, llava_next)"},
        {"config.json", "\"model_type\"", "\"model_tipe\"", ROT_ERR_FORMAT,
         "'model_type' is missing"},
        {"config.json", "\"vision_config\"", "\"vision\"", ROT_ERR_FORMAT,
         "'vision_config' is missing"},
        {"config.json", "\"depth\": 3", "\"depth\": \"3\"", ROT_ERR_FORMAT,
         "'depth' is not a whole number"},
        {"config.json", "\"depth\": 3", "\"depth\": 0", ROT_ERR_FORMAT,
         "'depth' is 0, not in 1 to 1000"},
        {"config.json", "\"depth\": 3", "\"depth\": 4", ROT_ERR_FORMAT,
         "blocks.3.norm1.weight is missing"},
        {"config.json", "\"depth\": 3", "\"depth\": 1", ROT_ERR_FORMAT,
         "the tower is not that deep"},
        {"config.json", "\"depth\": 3", "\"depth\": 3, \"depth\": 3", ROT_ERR_FORMAT, "duplicate"},
        {"config.json", "\"num_heads\": 2", "\"num_heads\": 3", ROT_ERR_FORMAT,
         "no multiple of 3 heads"},
        {"config.json", "\"num_heads\": 2", "\"num_heads\": 16", ROT_ERR_UNSUPPORTED, "heads of 2"},
        {"config.json", "\"in_channels\": 3", "\"in_channels\": 1", ROT_ERR_UNSUPPORTED,
         "1 input channels"},
        {"config.json", "\"num_position_embeddings\": 2304", "\"num_position_embeddings\": 2305",
         ROT_ERR_FORMAT, "no square"},
        {"config.json", "gelu_pytorch_tanh", "quick_gelu", ROT_ERR_UNSUPPORTED, "hidden_act"},
        {"config.json", "\"deepstack_visual_indexes\": [", "\"deepstack_visual_indexes\": [2, ",
         ROT_ERR_FORMAT, "not in rising order"},
        {"config.json", "\"deepstack_visual_indexes\": [", "\"deepstack_visual_indexes\": [-1, ",
         ROT_ERR_FORMAT, "no block"},
        {"config.json", "{", "[", ROT_ERR_FORMAT, "line 2"},
        {"preprocessor_config.json", "\"patch_size\": 16", "\"patch_size\": 14", ROT_ERR_FORMAT,
         "'patch_size' is 14, config.json says 16"},
        {"preprocessor_config.json", "\"merge_size\"", "\"merge\"", ROT_ERR_FORMAT,
         "'merge_size' is missing"},
        {"preprocessor_config.json", "\"size\"", "\"sizes\"", ROT_ERR_FORMAT,
         "neither 'size' nor 'min_pixels'"},
        {"preprocessor_config.json", "\"shortest_edge\": 65536", "\"shortest_edge\": 99999999",
         ROT_ERR_FORMAT, "is over its largest"},
        {"preprocessor_config.json", "\"shortest_edge\": 65536", "\"shortest_edge\": 0",
         ROT_ERR_FORMAT, "'shortest_edge' is 0"},
        {"preprocessor_config.json", "\"image_mean\": [", "\"image_mean\": [0.5, ", ROT_ERR_FORMAT,
         "array of 3 numbers"},
        {"preprocessor_config.json", "\"image_std\": [\n    0.5", "\"image_std\": [0",
         ROT_ERR_FORMAT, "'image_std'[0] is 0"},
        {"preprocessor_config.json", "{", "{\"do_resize\": false, ", ROT_ERR_UNSUPPORTED,
         "'do_resize' is false"},
        {"preprocessor_config.json", "{", "{\"resample\": 2, ", ROT_ERR_UNSUPPORTED, "bicubic"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fresh(NULL);
        edit(cases[i].file, cases[i].from, cases[i].to);
        wants_error(cases[i].code, cases[i].words);
    }
}

static void both_ways_of_writing_areas_are_read(void **state)
{
    (void)state;
    static const char *const sizes[] = {
        "\"size\": {\"min_pixels\": 1000, \"max_pixels\": 2000}",
        "\"size\": {\"shortest_edge\": 1000, \"longest_edge\": 2000}",
        "\"min_pixels\": 1000, \"max_pixels\": 2000",
        "\"size\": {\"shortest_edge\": 7, \"longest_edge\": 8}, \"min_pixels\": 1000, "
        "\"max_pixels\": 2000"};
    for (int i = 0; i < 4; i++) {
        char to[256];
        fresh(NULL);
        edit("preprocessor_config.json", "\"size\"", "\"old_size\"");
        snprintf(to, sizeof to, "{%s,", sizes[i]);
        edit("preprocessor_config.json", "{", to);
        rot_checkpoint *checkpoint = must_open();
        assert_int_equal(rot_checkpoint_preprocessor(checkpoint)->min_pixels, 1000);
        assert_int_equal(rot_checkpoint_preprocessor(checkpoint)->max_pixels, 2000);
        rot_checkpoint_close(&checkpoint);
    }
}

static void moe_and_bare_vision_configs_are_read(void **state)
{
    (void)state;
    edit("config.json", "\"model_type\": \"qwen3_vl\"", "\"model_type\": \"qwen3_vl_moe\"");
    rot_checkpoint *checkpoint = must_open();
    assert_string_equal(rot_checkpoint_config(checkpoint)->model_type, "qwen3_vl_moe");
    rot_checkpoint_close(&checkpoint);
    const char *bare =
        "{\"model_type\": \"qwen3_vl\", \"depth\": 3, \"hidden_size\": 32, \"num_heads\": 2, "
        "\"intermediate_size\": 40, \"out_hidden_size\": 24, \"deepstack_visual_indexes\": [0, 1, "
        "2]}";
    assert_int_equal(rot_fs_write_atomic(in_dir("config.json"), bare, strlen(bare), NULL), 0);
    checkpoint = must_open();
    assert_int_equal(rot_checkpoint_config(checkpoint)->mlp_width, 40);
    assert_int_equal(rot_checkpoint_config(checkpoint)->n_positions, 2304);
    rot_checkpoint_close(&checkpoint);
}

static void opening_survives_failing_allocations(void **state)
{
    (void)state;
    int rc = ROT_ERR_NO_MEMORY, n = 1;
    for (; n < 1000 && rc == ROT_ERR_NO_MEMORY; n++) {
        rot_checkpoint *checkpoint;
        rot_mem_fail_at(n);
        rc = rot_checkpoint_open(dir, &checkpoint, NULL);
        rot_mem_fail_at(0);
        rot_checkpoint_close(&checkpoint);
    }
    assert_int_equal(rc, 0);
    assert_true(n > 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(prefixes_and_shards_read_alike, fresh),
        cmocka_unit_test_setup(the_hash_sees_values_and_types_but_not_the_taps, fresh),
        cmocka_unit_test_setup(the_hash_sees_what_config_json_alone_decides, fresh),
        cmocka_unit_test(published_shapes_hash_as_they_always_did),
        cmocka_unit_test_setup(missing_parts_are_missing, fresh),
        cmocka_unit_test_setup(tensors_that_do_not_fit_are_named, fresh),
        cmocka_unit_test_setup(a_file_cut_at_every_sixteenth_is_refused, fresh),
        cmocka_unit_test_setup(configs_that_do_not_fit_are_refused, fresh),
        cmocka_unit_test_setup(both_ways_of_writing_areas_are_read, fresh),
        cmocka_unit_test_setup(moe_and_bare_vision_configs_are_read, fresh),
        cmocka_unit_test_setup(opening_survives_failing_allocations, fresh),
    };
    return cmocka_run_group_tests(tests, make_top, remove_top);
}
