// encoder: random checkpoints, what they hold, and what is refused of a checkpoint that is not
// whole.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "encoder/checkpoint.h"
#include "encoder/init_model.h"
#include "rotoscope/encoder.h"

static char dir[] = "/tmp/rot test XXXXXX"; // with spaces

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static const char *in_dir(const char *name)
{
    static char path[8][256];
    static int turn;
    char *out = path[turn++ % 8];
    snprintf(out, sizeof path[0], "%s/%s", dir, name);
    return out;
}

static rot_init_model_options small(const char *name)
{
    rot_init_model_options options = rot_init_model_options_default();
    options.dir = in_dir(name);
    options.depth = 2;
    options.width = 32;
    options.heads = 2;
    options.mlp_width = 40;
    options.out_width = 24;
    return options;
}

static void make(const rot_init_model_options *options)
{
    rot_err err = {0};
    if (rot_init_model(options, &err) < 0) fail_msg("%s", err.message);
}

static void file_sha(const char *path, char hex[65])
{
    uint8_t digest[32];
    assert_int_equal(rot_sha256_file(path, digest, NULL), 0);
    rot_hex(digest, 32, hex);
}

static void what_is_written_opens(void **state)
{
    (void)state;
    rot_init_model_options options = rot_init_model_options_default();
    options.dir = in_dir("tiny");
    make(&options);
    rot_checkpoint *checkpoint;
    rot_err err = {0};
    if (rot_checkpoint_open(options.dir, &checkpoint, &err) < 0) fail_msg("%s", err.message);
    const rot_vision_config *c = rot_checkpoint_config(checkpoint);
    assert_string_equal(c->model_type, "qwen3_vl");
    assert_int_equal(c->depth, 6);
    assert_int_equal(c->width / c->heads, 64);
    assert_int_equal(c->n_taps, 3);
    assert_true(c->mlp_width % 64 != 0);
    assert_int_equal(rot_checkpoint_preprocessor(checkpoint)->min_pixels, 65536);
    const rot_tensor *t = rot_checkpoint_tensor(checkpoint, "patch_embed.proj.weight");
    assert_int_equal(t->n_dims, 5);
    assert_int_equal(t->shape[4], 16);
    assert_non_null(rot_checkpoint_tensor(checkpoint, "deepstack_merger_list.2.norm.weight"));
    assert_null(rot_checkpoint_tensor(checkpoint, "deepstack_merger_list.3.norm.weight"));
    rot_checkpoint_close(&checkpoint);
    assert_true(rot_fs_is_file(in_dir("tiny/tokenizer.json")));
}

// Published numbers of parameters (Qwen3-VL-2B, 4B, 8B vision towers).
static void real_shapes_have_the_published_sizes(void **state)
{
    (void)state;
    static const struct {
        int depth, width, mlp, out, taps[3];
        long long parameters;
    } towers[] = {{24, 1024, 4096, 2048, {5, 11, 17}, 406957056},
                  {24, 1024, 4096, 2560, {5, 11, 17}, 415347712},
                  {27, 1152, 4304, 4096, {8, 16, 24}, 576388336}};
    for (int i = 0; i < 3; i++) {
        rot_init_plan plan = {.vision = {.model_type = "qwen3_vl",
                                         .depth = towers[i].depth,
                                         .used_depth = towers[i].depth,
                                         .width = towers[i].width,
                                         .heads = 16,
                                         .mlp_width = towers[i].mlp,
                                         .out_width = towers[i].out,
                                         .in_channels = 3,
                                         .patch_px = 16,
                                         .temporal = 2,
                                         .merge = 2,
                                         .n_positions = 2304,
                                         .n_taps = 3}};
        memcpy(plan.vision.taps, towers[i].taps, sizeof towers[i].taps);
        rot_init_tensor *list;
        size_t n;
        long long sum = 0;
        assert_int_equal(rot_init_tensors(&plan, false, &list, &n, NULL), 0);
        for (size_t k = 0; k < n; k++) sum += (long long)list[k].n_elements;
        assert_int_equal(n, towers[i].depth == 24 ? 315 : 351);
        assert_int_equal(sum, towers[i].parameters);
        rot_free(list);
    }
}

// Of the towers of the other families, as published: Qwen2.5-VL-3B and 7B, Qwen2-VL-2B and 7B; CLIP
// ViT-L/14-336 with the projector of Vicuna-7B and the newline.
static void other_families_have_the_published_sizes(void **state)
{
    (void)state;
    static const struct {
        rot_vision_config vision;
        long long tenths; // of a million parameters
    } towers[] = {
        {{"qwen2_5_vl", .mlp_width = 3420, .out_width = 2048}, 6687},
        {{"qwen2_5_vl", .mlp_width = 3420, .out_width = 3584}, 6766},
        {{"qwen2_vl", .mlp_width = 5120, .out_width = 1536}, 6653},
        {{"qwen2_vl", .mlp_width = 5120, .out_width = 3584}, 6758},
        {{"llava_next", .mlp_width = 4096, .out_width = 4096}, 3245},
    };
    for (size_t i = 0; i < sizeof towers / sizeof *towers; i++) {
        rot_init_plan plan = {.vision = towers[i].vision};
        bool clip = i == 4;
        plan.vision.depth = plan.vision.used_depth = clip ? 24 : 32;
        plan.vision.width = clip ? 1024 : 1280;
        plan.vision.heads = 16;
        plan.vision.in_channels = 3;
        plan.vision.patch_px = 14;
        plan.vision.temporal = plan.vision.merge = clip ? 1 : 2;
        plan.vision.n_positions = clip ? 577 : 0;
        rot_init_tensor *list;
        size_t n;
        long long sum = 0;
        assert_int_equal(rot_init_tensors(&plan, false, &list, &n, NULL), 0);
        for (size_t k = 0; k < n; k++) sum += (long long)list[k].n_elements;
        assert_int_equal((sum + 50000) / 100000, towers[i].tenths);
        rot_free(list);
    }
}

static void a_seed_gives_the_same_bytes(void **state)
{
    (void)state;
    char a[65], b[65], c[65];
    rot_init_model_options options = small("seed-a");
    make(&options);
    options.dir = in_dir("seed-b");
    make(&options);
    options.dir = in_dir("seed-c");
    options.seed = 1;
    make(&options);
    file_sha(in_dir("seed-a/model.safetensors"), a);
    file_sha(in_dir("seed-b/model.safetensors"), b);
    file_sha(in_dir("seed-c/model.safetensors"), c);
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
    // Written down once: a change of the generator or of a scale must be a decision.
    assert_string_equal(a, "48eadb77611c112c8d36cefb2e06f3f4222089912acaf9b5d12d11cb7fef3194");
}

static void pieces_do_not_show_in_the_draw(void **state)
{
    (void)state;
    const rot_init_tensor tensor = {
        .name = "x", .mean = 1, .spread = 2, .spread_behind = 1, .split = 70, .n_elements = 100};
    float whole[100], parts[100];
    rot_init_draw(&tensor, 5, ROT_T_F32, 0, 100, whole);
    for (size_t at = 0; at < 100; at += 20)
        rot_init_draw(&tensor, 5, ROT_T_F32, at, 20, parts + at);
    assert_memory_equal(whole, parts, sizeof whole);
}

static void draws_have_their_mean_and_spread(void **state)
{
    (void)state;
    enum { N = 200000 };
    const rot_init_tensor tensor = {
        .name = "y", .mean = 3, .spread = 0.5, .spread_behind = 2, .split = N / 2, .n_elements = N};
    float *x = malloc(N * sizeof *x);
    rot_init_draw(&tensor, 0, ROT_T_F32, 0, N, x);
    for (int half = 0; half < 2; half++) {
        double sum = 0, square = 0, spread = half ? 2 : 0.5;
        for (int i = 0; i < N / 2; i++) sum += x[half * N / 2 + i];
        for (int i = 0; i < N / 2; i++) square += pow(x[half * N / 2 + i] - sum / (N / 2), 2);
        assert_true(fabs(sum / (N / 2) - 3) < 0.02 * spread);
        assert_true(fabs(sqrt(square / (N / 2)) - spread) < 0.01 * spread);
    }
    free(x);
}

static void halves_are_rounded_to_nearest(void **state)
{
    (void)state;
    enum { N = 100000 };
    static const double spreads[] = {1, 1e-4, 3e-7, 3e4};
    float *x = malloc(N * sizeof *x), *back = malloc(N * sizeof *back);
    uint16_t *half = malloc(N * sizeof *half);
    for (int s = 0; s < 4; s++) {
        rot_init_tensor tensor = {.name = "z", .spread = spreads[s], .split = N, .n_elements = N};
        rot_init_draw(&tensor, 0, ROT_T_F32, 0, N, x);
        rot_init_draw(&tensor, 0, ROT_T_F16, 0, N, half);
        rot_tensor t = {.type = ROT_T_F16, .data = half};
        rot_tensor_to_f32(&t, 0, N, back);
        for (int i = 0; i < N; i++) {
            if (fabsf(x[i]) >= 65520) {
                assert_true(isinf(back[i]));
                continue;
            }
            int exponent;
            frexpf(x[i], &exponent);
            double unit = ldexp(1, exponent - 11 < -24 ? -24 : exponent - 11); // of the last place
            assert_true(fabs((double)back[i] - x[i]) <= unit / 2);
        }
    }
    free(x);
    free(back);
    free(half);
}

static void wants_init_error(rot_init_model_options options, int code, const char *words)
{
    rot_err err = {0};
    int rc = rot_init_model(&options, &err);
    if (rc != code || err.code != code || !strstr(err.message, words))
        fail_msg("wanted %d with '%s', got %d: %s", code, words, rc, err.message);
}

static void senseless_options_are_refused(void **state)
{
    (void)state;
    rot_init_model_options o = small("no");
    o.arch = "3b";
    wants_init_error(o, ROT_ERR_USAGE, "tiny, 2b, 4b, 8b, qwen2.5-tiny");
    wants_init_error(o, ROT_ERR_USAGE, "llava-7b, custom");
    o = small("no");
    o.dtype = "fp8";
    wants_init_error(o, ROT_ERR_USAGE, "bf16, f16, f32");
    o = small("no");
    o.heads = 3;
    wants_init_error(o, ROT_ERR_USAGE, "no multiple of 3 heads");
    o = small("no");
    o.width = 36; // heads of 18
    wants_init_error(o, ROT_ERR_USAGE, "multiple of 4");
    o = small("no");
    o.depth = -1;
    wants_init_error(o, ROT_ERR_USAGE, "depth of -1");
    o = small("no");
    o.arch = "custom";
    o.out_width = 0;
    wants_init_error(o, ROT_ERR_USAGE, "out is missing");
    o = small("no");
    o.tokenizer_dir = in_dir("nowhere");
    wants_init_error(o, ROT_ERR_MISSING, "tokenizer.json");
    assert_false(rot_fs_is_dir(in_dir("no"))); // refused before anything is written
}

// A name of any case is taken: what is refused here is the dtype, which is looked at after it.
static void architectures_are_named_in_any_case(void **state)
{
    (void)state;
    static const char *const names[] = {"Tiny", "4B", "Qwen2.5-7B", "LLaVA-7b"};
    for (int i = 0; i < 4; i++) {
        rot_init_model_options o = rot_init_model_options_default();
        o.dir = in_dir("no");
        o.arch = names[i];
        o.dtype = "fp8";
        wants_init_error(o, ROT_ERR_USAGE, "dtype 'fp8'");
    }
}

static void a_folder_with_a_config_is_left_alone(void **state)
{
    (void)state;
    rot_init_model_options options = small("once");
    make(&options);
    char before[65], after[65];
    file_sha(in_dir("once/model.safetensors"), before);
    options.seed = 9;
    wants_init_error(options, ROT_ERR_USAGE, "config.json is there already");
    file_sha(in_dir("once/model.safetensors"), after);
    assert_string_equal(before, after);
    unlink(in_dir("once/config.json")); // as if it had been killed before the end
    make(&options);
}

static void taps_keep_their_depth(void **state)
{
    (void)state;
    static const int cases[][4] = {{24, 5, 11, 17}, {4, 0, 1, 2}, {12, 2, 5, 8}};
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "taps-%d", i);
        rot_init_model_options options = small(name);
        options.arch = "4b";
        options.depth = cases[i][0];
        make(&options);
        rot_checkpoint *checkpoint;
        assert_int_equal(rot_checkpoint_open(options.dir, &checkpoint, NULL), 0);
        assert_memory_equal(rot_checkpoint_config(checkpoint)->taps, &cases[i][1], 3 * sizeof(int));
        rot_checkpoint_close(&checkpoint);
    }
    rot_init_model_options options = small("taps-1-block");
    options.depth = 1;
    make(&options);
    rot_checkpoint *checkpoint;
    assert_int_equal(rot_checkpoint_open(options.dir, &checkpoint, NULL), 0);
    assert_int_equal(rot_checkpoint_config(checkpoint)->n_taps, 1);
    rot_checkpoint_close(&checkpoint);
}

static void init_survives_failing_allocations(void **state)
{
    (void)state;
    int rc = ROT_ERR_NO_MEMORY, n = 1;
    rot_init_model_options options = small("alloc");
    for (; n < 200 && rc == ROT_ERR_NO_MEMORY; n++) {
        rot_mem_fail_at(n);
        rc = rot_init_model(&options, NULL);
        rot_mem_fail_at(0);
        if (rc < 0) assert_false(rot_fs_is_file(in_dir("alloc/config.json")));
    }
    assert_int_equal(rc, 0);
    assert_true(n > 5);
}

// As published: GPT-2 without its embedding of 50,257 tokens; ours have the sizes that they name.
static void decoders_have_their_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *arch;
        long long low, high;
    } all[] = {{"GPT2", 124439808 - 50257 * 768, 124439808 - 50257 * 768},
               {"qwen3-100m", 98000000, 101000000},
               {"Llama-Tiny", 700000, 900000}};
    for (size_t i = 0; i < 3; i++) {
        rot_init_model_options options = rot_init_model_options_default();
        rot_token_ids ids = {.n_tokens = 0, .end = 1, .pad = 0};
        rot_init_decoder decoder;
        rot_init_tensor *list;
        size_t n;
        long long sum = 0;
        assert_true(rot_init_decoder_find(all[i].arch, &decoder));
        assert_int_equal(rot_init_decoder_sizes(&options, &ids, &decoder, NULL), 0);
        assert_int_equal(rot_init_decoder_tensors(&decoder, &list, &n, NULL), 0);
        for (size_t k = 0; k < n; k++) sum += (long long)list[k].n_elements;
        assert_in_range(sum, all[i].low, all[i].high);
        rot_free(list);
    }
    rot_init_decoder none;
    assert_false(rot_init_decoder_find("tiny", &none));
}

static void decoders_survive_failing_allocations(void **state)
{
    (void)state;
    int rc = ROT_ERR_NO_MEMORY, n = 1;
    rot_init_model_options options = small("alloc2");
    options.arch = "gpt2-tiny";
    options.out_width = 0;
    for (; n < 400 && rc == ROT_ERR_NO_MEMORY; n++) {
        rot_mem_fail_at(n);
        rc = rot_init_model(&options, NULL);
        rot_mem_fail_at(0);
        if (rc < 0) assert_false(rot_fs_is_file(in_dir("alloc2/config.json")));
    }
    assert_int_equal(rc, 0);
    assert_true(n > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_opens),
        cmocka_unit_test(real_shapes_have_the_published_sizes),
        cmocka_unit_test(other_families_have_the_published_sizes),
        cmocka_unit_test(a_seed_gives_the_same_bytes),
        cmocka_unit_test(pieces_do_not_show_in_the_draw),
        cmocka_unit_test(draws_have_their_mean_and_spread),
        cmocka_unit_test(halves_are_rounded_to_nearest),
        cmocka_unit_test(senseless_options_are_refused),
        cmocka_unit_test(architectures_are_named_in_any_case),
        cmocka_unit_test(a_folder_with_a_config_is_left_alone),
        cmocka_unit_test(taps_keep_their_depth),
        cmocka_unit_test(init_survives_failing_allocations),
        cmocka_unit_test(decoders_have_their_sizes),
        cmocka_unit_test(decoders_survive_failing_allocations),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
