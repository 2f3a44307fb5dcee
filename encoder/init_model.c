// Writes a checkpoint of the real architecture with random weights: for tests, benchmarks and demos
// where no published checkpoint is at hand.
#include "encoder/init_model.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "rotoscope/encoder.h"

enum { PIECE_ELEMENTS = 1 << 18, PATH_BYTES = 4096 };

#define QWEN3                                                                                      \
    .model_type = "qwen3_vl", .patch_px = 16, .temporal = 2, .merge = 2, .n_positions = 48 * 48
#define QWEN25                                                                                     \
    .model_type = "qwen2_5_vl", .patch_px = 14, .temporal = 2, .merge = 2, .window_px = 112
#define QWEN2 .model_type = "qwen2_vl", .patch_px = 14, .temporal = 2, .merge = 2
#define LLAVA                                                                                      \
    .model_type = "llava_next", .patch_px = 14, .temporal = 1, .merge = 1, .tile_px = 336,         \
    .n_positions = 24 * 24 + 1, .n_pinpoints = 5,                                                  \
    .pinpoints = {{336, 672}, {672, 336}, {672, 672}, {1008, 336}, {336, 1008}}

// Published shapes: the config.json of Qwen3-VL-2B, 4B and 8B, Qwen2.5-VL-3B and 7B, Qwen2-VL-2B
// and 7B, LLaVA-1.6 on Vicuna-7B; and a small one of each family.
static const struct arch {
    const char *name;
    rot_vision_config vision;
    rot_text_shape text; // hidden: the tower's output width; vocab: the tokenizer's
} arches[] = {
    {"tiny",
     {QWEN3, .depth = 6, .width = 256, .heads = 4, .mlp_width = 688, .out_width = 128,
      .taps = {0, 2, 4}, .n_taps = 3},
     {.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 32, .mlp_width = 344, .tied = true}},
    {"2b",
     {QWEN3, .depth = 24, .width = 1024, .heads = 16, .mlp_width = 4096, .out_width = 2048,
      .taps = {5, 11, 17}, .n_taps = 3},
     {.layers = 28, .heads = 16, .kv_heads = 8, .head_dim = 128, .mlp_width = 6144, .tied = true}},
    {"4b",
     {QWEN3, .depth = 24, .width = 1024, .heads = 16, .mlp_width = 4096, .out_width = 2560,
      .taps = {5, 11, 17}, .n_taps = 3},
     {.layers = 36, .heads = 32, .kv_heads = 8, .head_dim = 128, .mlp_width = 9728, .tied = true}},
    {"8b",
     {QWEN3, .depth = 27, .width = 1152, .heads = 16, .mlp_width = 4304, .out_width = 4096,
      .taps = {8, 16, 24}, .n_taps = 3},
     {.layers = 36, .heads = 32, .kv_heads = 8, .head_dim = 128, .mlp_width = 12288}},
    {"qwen2.5-tiny",
     {QWEN25, .depth = 6, .width = 320, .heads = 4, .mlp_width = 428, .out_width = 128,
      .full = {2, 5}, .n_full = 2},
     {.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 32, .mlp_width = 344}},
    {"qwen2.5-3b",
     {QWEN25, .depth = 32, .width = 1280, .heads = 16, .mlp_width = 3420, .out_width = 2048,
      .full = {7, 15, 23, 31}, .n_full = 4},
     {.layers = 36, .heads = 16, .kv_heads = 2, .head_dim = 128, .mlp_width = 11008, .tied = true}},
    {"qwen2.5-7b",
     {QWEN25, .depth = 32, .width = 1280, .heads = 16, .mlp_width = 3420, .out_width = 3584,
      .full = {7, 15, 23, 31}, .n_full = 4},
     {.layers = 28, .heads = 28, .kv_heads = 4, .head_dim = 128, .mlp_width = 18944}},
    {"qwen2-tiny",
     {QWEN2, .depth = 4, .width = 320, .heads = 4, .mlp_width = 1280, .out_width = 128},
     {.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 32, .mlp_width = 344}},
    {"qwen2-2b",
     {QWEN2, .depth = 32, .width = 1280, .heads = 16, .mlp_width = 5120, .out_width = 1536},
     {.layers = 28, .heads = 12, .kv_heads = 2, .head_dim = 128, .mlp_width = 8960, .tied = true}},
    {"qwen2-7b",
     {QWEN2, .depth = 32, .width = 1280, .heads = 16, .mlp_width = 5120, .out_width = 3584},
     {.layers = 28, .heads = 28, .kv_heads = 4, .head_dim = 128, .mlp_width = 18944}},
    {"llava-tiny",
     {LLAVA, .depth = 4, .width = 128, .heads = 2, .mlp_width = 344, .out_width = 96},
     {.layers = 2, .heads = 4, .kv_heads = 4, .head_dim = 24, .mlp_width = 344}},
    {"llava-7b",
     {LLAVA, .depth = 24, .width = 1024, .heads = 16, .mlp_width = 4096, .out_width = 4096},
     {.layers = 32, .heads = 32, .kv_heads = 32, .head_dim = 128, .mlp_width = 11008}},
};

rot_init_model_options rot_init_model_options_default(void)
{
    return (rot_init_model_options){.size = sizeof(rot_init_model_options), .arch = "tiny"};
}

// Listed blocks keep their relative depth; in a very shallow tower there are fewer of them.
static void scale_blocks(const int *from, int n, int old_depth, int depth, int *to, int *n_to)
{
    int last = -1;
    *n_to = 0;
    for (int i = 0; i < n; i++) {
        int block = (from[i] + 1) * depth / old_depth - 1;
        if (block <= last) block = last + 1;
        if (block >= depth) break;
        to[(*n_to)++] = last = block;
    }
}

static int set_sizes(const rot_init_model_options *options, const struct arch *arch,
                     bool all_needed, rot_vision_config *out, rot_err *err)
{
    *out = arch->vision;
    const struct {
        const char *name;
        int asked, high, *field;
    } sizes[] = {{"depth", options->depth, 1000, &out->depth},
                 {"width", options->width, 65536, &out->width},
                 {"heads", options->heads, 4096, &out->heads},
                 {"mlp", options->mlp_width, 1 << 20, &out->mlp_width},
                 {"out", options->out_width, 1 << 20, &out->out_width}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].asked < 0 || sizes[i].asked > sizes[i].high)
            ROT_FAIL(err, ROT_ERR_USAGE, "%s of %d: not in 1 to %d", sizes[i].name, sizes[i].asked,
                     sizes[i].high);
        if (all_needed && !sizes[i].asked)
            ROT_FAIL(err, ROT_ERR_USAGE, "arch custom needs all sizes: %s is missing",
                     sizes[i].name);
        if (sizes[i].asked) *sizes[i].field = sizes[i].asked;
    }
    const rot_vision_config *v = &arch->vision;
    out->in_channels = 3;
    out->used_depth = v->tile_px ? out->depth - 1 : out->depth; // LLaVA leaves the last block out
    scale_blocks(v->taps, v->n_taps, v->depth, out->depth, out->taps, &out->n_taps);
    scale_blocks(v->full, v->n_full, v->depth, out->depth, out->full, &out->n_full);
    if (!strcmp(out->model_type, "qwen2_vl") && out->mlp_width % out->width)
        ROT_FAIL(err, ROT_ERR_USAGE, "mlp of %d: Qwen2-VL's is a multiple of the width, %d",
                 out->mlp_width, out->width);
    if (rot_vision_config_check(out, "init-model", err) == 0) return 0;
    if (err) err->code = ROT_ERR_USAGE;
    return ROT_ERR_USAGE;
}

static int set_type(const char *name, rot_tensor_type *type, const char **type_name, rot_err *err)
{
    static const struct {
        const char *name, *torch;
        rot_tensor_type type;
    } types[] = {{"bf16", "bfloat16", ROT_T_BF16},
                 {"f16", "float16", ROT_T_F16},
                 {"f32", "float32", ROT_T_F32}};
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, types[i].name)) continue;
        *type = types[i].type;
        *type_name = types[i].torch;
        return 0;
    }
    ROT_FAIL(err, ROT_ERR_USAGE, "dtype '%s': not one of bf16, f16, f32", name);
}

int rot_init_vocab(const rot_token_ids *ids)
{
    return (ids->n_tokens + 3 + 127) / 128 * 128;
}

static int make_plan(const rot_init_model_options *options, rot_init_plan *out, rot_err *err)
{
    const char *name = options->arch ? options->arch : "tiny";
    bool custom = !strcasecmp(name, "custom");
    const struct arch *arch = custom ? &arches[0] : NULL;
    for (size_t i = 0; i < sizeof arches / sizeof arches[0]; i++)
        if (!strcasecmp(arches[i].name, name)) arch = &arches[i];
    if (!arch) {
        char known[256] = "";
        for (size_t i = 0; i < sizeof arches / sizeof arches[0]; i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s, ", arches[i].name);
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "arch '%s': not one of %scustom; nor of the decoders qwen3-tiny, qwen3-100m, "
                 "llama-tiny, gpt2-tiny, gpt2",
                 name, known);
    }
    ROT_TRY(set_sizes(options, arch, custom, &out->vision, err));
    ROT_TRY(set_type(options->dtype ? options->dtype : "bf16", &out->type, &out->type_name, err));
    out->text = arch->text;
    out->text.hidden = out->vision.out_width;
    out->text.vocab = rot_init_vocab(&out->ids);
    return 0;
}

static int write_file(const char *dir, const char *name, const char *bytes, size_t n_bytes,
                      rot_err *err)
{
    char path[PATH_BYTES];
    ROT_TRY(rot_fs_join(path, sizeof path, dir, name, err));
    return rot_fs_write_atomic(path, bytes, n_bytes, err);
}

static int write_weights(const char *dir, const rot_init_tensor *tensors, size_t n, uint64_t seed,
                         rot_tensor_type type, rot_err *err)
{
    char path[PATH_BYTES];
    rot_safetensors_writer *writer = NULL;
    const size_t size = rot_tensor_type_bytes(type);
    int rc = 0;
    void *piece = rot_malloc(PIECE_ELEMENTS * size);
    rot_tensor_decl *declared = rot_calloc(n, sizeof *declared);
    if (!piece || !declared) {
        rc = rot_no_memory(err, PIECE_ELEMENTS * size, "weights");
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        declared[i] =
            (rot_tensor_decl){.name = tensors[i].name, .type = type, .n_dims = tensors[i].n_dims};
        memcpy(declared[i].shape, tensors[i].shape, sizeof declared[i].shape);
    }
    ROT_GO(rot_fs_join(path, sizeof path, dir, "model.safetensors", err));
    ROT_GO(rot_safetensors_create(path, declared, n, &writer, err));
    for (size_t i = 0; i < n; i++)
        for (size_t at = 0; at < tensors[i].n_elements; at += PIECE_ELEMENTS) {
            size_t left = tensors[i].n_elements - at,
                   part = left < PIECE_ELEMENTS ? left : PIECE_ELEMENTS;
            rot_init_draw(&tensors[i], seed, type, at, part, piece);
            ROT_GO(rot_safetensors_write(writer, piece, part * size, err));
        }
    rc = rot_safetensors_finish(&writer, err);
done:
    rot_safetensors_abort(&writer);
    rot_free(declared);
    rot_free(piece);
    return rc;
}

// A folder that was begun and not finished has no config.json and is written anew.
static int check_free(const char *dir, rot_err *err)
{
    static const char *const names[] = {"config.json", "model.safetensors.index.json"};
    char path[PATH_BYTES];
    for (int i = 0; i < 2; i++) {
        ROT_TRY(rot_fs_join(path, sizeof path, dir, names[i], err));
        if (rot_fs_is_file(path)) ROT_FAIL(err, ROT_ERR_USAGE, "%s is there already", path);
    }
    return 0;
}

// What a folder holds beside the tokenizer; `second` is the JSON file that is not config.json.
typedef struct parts {
    rot_init_tensor *tensors;
    size_t n_tensors;
    rot_tensor_type type;
    char *config, *second;
    const char *second_name;
} parts;

static int make_tower(const rot_init_model_options *options, const rot_token_ids *ids, parts *out,
                      rot_err *err)
{
    rot_init_plan plan = {.ids = *ids};
    ROT_TRY(make_plan(options, &plan, err));
    out->type = plan.type;
    out->second_name = "preprocessor_config.json";
    ROT_TRY(rot_init_tensors(&plan, options->text, &out->tensors, &out->n_tensors, err));
    ROT_TRY(rot_init_config_json(&plan, &out->config, err));
    return rot_init_preprocessor_json(&plan, &out->second, err);
}

// A decoder from scratch is there to be trained: F32 unless asked.
static int make_decoder(const rot_init_model_options *options, const rot_token_ids *ids,
                        rot_init_decoder *decoder, parts *out, rot_err *err)
{
    const char *type_name;
    ROT_TRY(set_type(options->dtype ? options->dtype : "f32", &out->type, &type_name, err));
    ROT_TRY(rot_init_decoder_sizes(options, ids, decoder, err));
    out->second_name = "generation_config.json";
    ROT_TRY(rot_init_decoder_tensors(decoder, &out->tensors, &out->n_tensors, err));
    return rot_init_decoder_json(decoder, ids, type_name, &out->config, &out->second, err);
}

int rot_init_model(const rot_init_model_options *options, rot_err *err)
{
    rot_init_decoder decoder;
    rot_token_ids ids;
    rot_init_tokenizer tokenizer = {0};
    parts made = {0};
    int rc = 0;
    if (!options->dir || !*options->dir)
        ROT_FAIL(err, ROT_ERR_USAGE, "init-model: no folder is named");
    const bool alone = rot_init_decoder_find(options->arch, &decoder),
               gpt2 = alone && rot_init_decoder_is_gpt2(&decoder);
    ROT_GO(check_free(options->dir, err));
    ROT_GO(rot_init_tokenizer_read(options->tokenizer_dir, gpt2, &tokenizer, &ids, err));
    ROT_GO(alone ? make_decoder(options, &ids, &decoder, &made, err)
                 : make_tower(options, &ids, &made, err));
    ROT_GO(rot_fs_mkdirs(options->dir, err));
    for (int i = 0; i < tokenizer.n_files; i++)
        ROT_GO(write_file(options->dir, tokenizer.files[i].name, tokenizer.files[i].bytes,
                          tokenizer.files[i].n_bytes, err));
    ROT_GO(write_file(options->dir, made.second_name, made.second, strlen(made.second), err));
    ROT_GO(
        write_weights(options->dir, made.tensors, made.n_tensors, options->seed, made.type, err));
    // Last, so that a folder without it is no checkpoint yet.
    ROT_GO(write_file(options->dir, "config.json", made.config, strlen(made.config), err));
done:
    rot_init_tokenizer_free(&tokenizer);
    rot_free(made.tensors);
    rot_free(made.config);
    rot_free(made.second);
    return rc;
}
