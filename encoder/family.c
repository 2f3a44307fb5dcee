// Sources: transformers 4.57.6, models/qwen3_vl, qwen2_5_vl, qwen2_vl, clip and llava_next,
// configuration_*.py and modeling_*.py.
#include "encoder/family.h"

#include <stdio.h>
#include <string.h>

#define FIELD(name) offsetof(rot_vision_config, name)

static const rot_tower_family families[] = {
    {// the MoE models have the same tower
     .id = ROT_FAMILY_QWEN3_VL,
     .model_types = {"qwen3_vl", "qwen3_vl_moe", "qwen3_vl_vision", "qwen3_vl_moe_vision"},
     .n_whole = 2,
     .sizes = {{"depth", 1, ROT_MAX_BLOCKS, 27, FIELD(depth)},
               {"hidden_size", 4, 65536, 1152, FIELD(width)},
               {"num_heads", 1, 4096, 16, FIELD(heads)},
               {"intermediate_size", 1, 1 << 20, 4304, FIELD(mlp_width)},
               {"out_hidden_size", 1, 1 << 20, 3584, FIELD(out_width)},
               {"in_channels", 1, 16, 3, FIELD(in_channels)},
               {"patch_size", 1, 256, 16, FIELD(patch_px)},
               {"temporal_patch_size", 1, 16, 2, FIELD(temporal)},
               {"spatial_merge_size", 1, 16, 2, FIELD(merge)},
               {"num_position_embeddings", 1, 1 << 24, 2304, FIELD(n_positions)}},
     .hidden_act = "gelu_pytorch_tanh",
     .norm_eps = 1e-6f,
     .rotary = true,
     .rope_theta = 10000.0,
     .positions = ROT_POSITIONS_GRID,
     .mlp = ROT_EPILOGUE_GELU_TANH,
     .merger = ROT_EPILOGUE_GELU_ERF,
     .prefixes = {"model.visual.", "visual.", ""},
     .patch = "patch_embed.proj",
     .patch_bias = true,
     .frames = true,
     .table = "pos_embed.weight",
     .norm1 = "blocks.%d.norm1",
     .qkv = {"blocks.%d.attn.qkv"},
     .proj = "blocks.%d.attn.proj",
     .norm2 = "blocks.%d.norm2",
     .mlp_in = {"blocks.%d.mlp.linear_fc1"},
     .mlp_out = "blocks.%d.mlp.linear_fc2",
     .merger_norm = "merger.norm",
     .merger_in = "merger.linear_fc1",
     .merger_out = "merger.linear_fc2",
     .tap = "deepstack_merger_list.%d"},
    {.id = ROT_FAMILY_QWEN2_VL,
     .model_types = {"qwen2_5_vl"},
     .n_whole = 1,
     .sizes = {{"depth", 1, ROT_MAX_BLOCKS, 32, FIELD(depth)},
               {"hidden_size", 4, 65536, 3584, FIELD(width)},
               {"num_heads", 1, 4096, 16, FIELD(heads)},
               {"intermediate_size", 1, 1 << 20, 3420, FIELD(mlp_width)},
               {"out_hidden_size", 1, 1 << 20, 3584, FIELD(out_width)},
               {"in_channels", 1, 16, 3, FIELD(in_channels)},
               {"patch_size", 1, 256, 14, FIELD(patch_px)},
               {"temporal_patch_size", 1, 16, 2, FIELD(temporal)},
               {"spatial_merge_size", 1, 16, 2, FIELD(merge)},
               {"window_size", 1, 1 << 20, 112, FIELD(window_px)}},
     .hidden_act = "silu",
     .full_key = "fullatt_block_indexes",
     .full_fallback = {7, 15, 23, 31},
     .n_full_fallback = 4,
     .rms = true,
     .norm_eps = 1e-6f,
     .gated = true,
     .rotary = true,
     .rope_theta = 10000.0,
     .mlp = ROT_EPILOGUE_NONE,
     .merger = ROT_EPILOGUE_GELU_ERF,
     .prefixes = {"visual.", "model.visual.", ""},
     .patch = "patch_embed.proj",
     .frames = true,
     .norm1 = "blocks.%d.norm1",
     .qkv = {"blocks.%d.attn.qkv"},
     .proj = "blocks.%d.attn.proj",
     .norm2 = "blocks.%d.norm2",
     .mlp_in = {"blocks.%d.mlp.gate_proj", "blocks.%d.mlp.up_proj"},
     .mlp_out = "blocks.%d.mlp.down_proj",
     .merger_norm = "merger.ln_q",
     .merger_in = "merger.mlp.0",
     .merger_out = "merger.mlp.2"},
    {// its "hidden_size" is the width of the embeddings
     .id = ROT_FAMILY_QWEN2_VL,
     .model_types = {"qwen2_vl"},
     .n_whole = 1,
     .sizes = {{"depth", 1, ROT_MAX_BLOCKS, 32, FIELD(depth)},
               {"embed_dim", 4, 65536, 1280, FIELD(width)},
               {"num_heads", 1, 4096, 16, FIELD(heads)},
               {"mlp_ratio", 1, 64, 4, FIELD(mlp_width)}, // times the width: checkpoint_config.c
               {"hidden_size", 1, 1 << 20, 3584, FIELD(out_width)},
               {"in_channels", 1, 16, 3, FIELD(in_channels)},
               {"patch_size", 1, 256, 14, FIELD(patch_px)},
               {"temporal_patch_size", 1, 16, 2, FIELD(temporal)},
               {"spatial_merge_size", 1, 16, 2, FIELD(merge)}},
     .hidden_act = "quick_gelu",
     .norm_eps = 1e-6f,
     .rotary = true,
     .rope_theta = 10000.0,
     .mlp = ROT_EPILOGUE_GELU_QUICK,
     .merger = ROT_EPILOGUE_GELU_ERF,
     .prefixes = {"visual.", "model.visual.", ""},
     .patch = "patch_embed.proj",
     .frames = true,
     .norm1 = "blocks.%d.norm1",
     .qkv = {"blocks.%d.attn.qkv"},
     .proj = "blocks.%d.attn.proj",
     .norm2 = "blocks.%d.norm2",
     .mlp_in = {"blocks.%d.mlp.fc1"},
     .mlp_out = "blocks.%d.mlp.fc2",
     .merger_norm = "merger.ln_q",
     .merger_in = "merger.mlp.0",
     .merger_out = "merger.mlp.2"},
#define CLIP "vision_tower.vision_model."
    {// CLIP's vision tower without its last block or norm, then LLaVA's projector
     .id = ROT_FAMILY_LLAVA_NEXT,
     .model_types = {"llava_next"},
     .n_whole = 1,
     .sizes = {{"num_hidden_layers", 1, ROT_MAX_BLOCKS, 12, FIELD(depth)},
               {"hidden_size", 4, 65536, 768, FIELD(width)},
               {"num_attention_heads", 1, 4096, 12, FIELD(heads)},
               {"intermediate_size", 1, 1 << 20, 3072, FIELD(mlp_width)},
               {"num_channels", 1, 16, 3, FIELD(in_channels)},
               {"patch_size", 1, 256, 32, FIELD(patch_px)},
               {"image_size", 1, 4096, 224, FIELD(tile_px)}},
     .hidden_act = "quick_gelu",
     .norm_eps = 1e-5f,
     .positions = ROT_POSITIONS_CLASS,
     .mlp = ROT_EPILOGUE_GELU_QUICK,
     .merger = ROT_EPILOGUE_GELU_ERF,
     .prefixes = {"", "model."},
     .patch = CLIP "embeddings.patch_embedding",
     .table = CLIP "embeddings.position_embedding.weight",
     .class_token = CLIP "embeddings.class_embedding",
     .pre_norm = CLIP "pre_layrnorm", // so spelt
     .norm1 = CLIP "encoder.layers.%d.layer_norm1",
     .qkv = {CLIP "encoder.layers.%d.self_attn.q_proj", CLIP "encoder.layers.%d.self_attn.k_proj",
             CLIP "encoder.layers.%d.self_attn.v_proj"},
     .proj = CLIP "encoder.layers.%d.self_attn.out_proj",
     .norm2 = CLIP "encoder.layers.%d.layer_norm2",
     .mlp_in = {CLIP "encoder.layers.%d.mlp.fc1"},
     .mlp_out = CLIP "encoder.layers.%d.mlp.fc2",
     .post_norm = CLIP "post_layernorm",
     .merger_in = "multi_modal_projector.linear_1",
     .merger_out = "multi_modal_projector.linear_2",
     .newline = "image_newline"},
#undef CLIP
};
enum { N_FAMILIES = sizeof families / sizeof *families };

const rot_tower_family *rot_tower_family_of(const char *model_type)
{
    for (int i = 0; i < N_FAMILIES; i++)
        for (int k = 0; k < ROT_FAMILY_TYPES && families[i].model_types[k]; k++)
            if (!strcmp(families[i].model_types[k], model_type)) return &families[i];
    return NULL;
}

void rot_tower_families_list(char *out, size_t n_bytes)
{
    size_t at = 0;
    out[0] = 0;
    for (int i = 0; i < N_FAMILIES; i++)
        for (int k = 0; k < families[i].n_whole && at < n_bytes; k++)
            at += (size_t)snprintf(out + at, n_bytes - at, "%s%s", at ? ", " : "",
                                   families[i].model_types[k]);
}

// ---- tensors

typedef struct list {
    rot_tower_tensor *out; // NULL: only counted
    size_t n;
} list;

// `format` takes a block.
static void add(list *l, const char *format, int block, const char *ending, int n_dims,
                const int64_t *shape, rot_tensor_role role, rot_tensor_use use)
{
    if (!format) return;
    if (l->out) {
        rot_tower_tensor *t = &l->out[l->n];
        char stem[128];
        *t = (rot_tower_tensor){.n_dims = n_dims, .role = role, .use = use};
        const char *number = strstr(format, "%d");
        if (number)
            snprintf(stem, sizeof stem, "%.*s%d%s", (int)(number - format), format, block,
                     number + 2);
        else
            snprintf(stem, sizeof stem, "%s", format);
        snprintf(t->name, sizeof t->name, "%.110s%s", stem, ending);
        t->bias = !strcmp(ending, ".bias");
        memcpy(t->shape, shape, (size_t)n_dims * sizeof *shape);
    }
    l->n++;
}

// A weight [rows, cols] and its bias [rows].
static void linear(list *l, const char *format, int block, int64_t rows, int64_t cols,
                   rot_tensor_role role, rot_tensor_use use)
{
    add(l, format, block, ".weight", 2, (int64_t[]){rows, cols}, role, use);
    add(l, format, block, ".bias", 1, &rows, role, use);
}

static void norm(list *l, const rot_tower_family *f, const char *format, int block, int64_t width,
                 rot_tensor_use use)
{
    add(l, format, block, ".weight", 1, &width, ROT_ROLE_NORM, use);
    if (!f->rms) add(l, format, block, ".bias", 1, &width, ROT_ROLE_NORM, use);
}

static void block_tensors(list *l, const rot_tower_family *f, const rot_vision_config *c, int i)
{
    int64_t d = c->width, m = c->mlp_width;
    rot_tensor_use use = i < c->used_depth ? ROT_USE_OUTPUT : ROT_USE_NONE;
    norm(l, f, f->norm1, i, d, use);
    if (!f->qkv[1])
        linear(l, f->qkv[0], i, 3 * d, d, ROT_ROLE_QKV, use);
    else
        for (int k = 0; k < 3; k++)
            linear(l, f->qkv[k], i, d, d, k < 2 ? ROT_ROLE_Q_OR_K : ROT_ROLE_LINEAR, use);
    linear(l, f->proj, i, d, d, ROT_ROLE_BRANCH, use);
    norm(l, f, f->norm2, i, d, use);
    linear(l, f->mlp_in[0], i, m, d, ROT_ROLE_LINEAR, use);
    linear(l, f->mlp_in[1], i, m, d, ROT_ROLE_LINEAR, use);
    linear(l, f->mlp_out, i, d, m, ROT_ROLE_BRANCH, use);
}

static void tower_tensors(list *l, const rot_tower_family *f, const rot_vision_config *c)
{
    int64_t d = c->width, wide = d * c->merge * c->merge, o = c->out_width;
    int64_t patch[] = {d, c->in_channels, c->temporal, c->patch_px, c->patch_px};
    if (!f->frames) memmove(patch + 2, patch + 3, 2 * sizeof *patch);
    add(l, f->patch, 0, ".weight", f->frames ? 5 : 4, patch, ROT_ROLE_PATCH, ROT_USE_OUTPUT);
    if (f->patch_bias) add(l, f->patch, 0, ".bias", 1, &d, ROT_ROLE_PATCH, ROT_USE_OUTPUT);
    add(l, f->class_token, 0, "", 1, &d, ROT_ROLE_TABLE, ROT_USE_OUTPUT);
    add(l, f->table, 0, "", 2, (int64_t[]){c->n_positions, d}, ROT_ROLE_TABLE, ROT_USE_OUTPUT);
    norm(l, f, f->pre_norm, 0, d, ROT_USE_OUTPUT);
    for (int i = 0; i < c->depth; i++) block_tensors(l, f, c, i);
    norm(l, f, f->post_norm, 0, d, ROT_USE_NONE);
    norm(l, f, f->merger_norm, 0, d, ROT_USE_OUTPUT);
    int64_t between = f->merger_norm ? wide : o; // of a merger; a projector's is the output's
    linear(l, f->merger_in, 0, between, wide, ROT_ROLE_LINEAR, ROT_USE_OUTPUT);
    linear(l, f->merger_out, 0, o, between, ROT_ROLE_LINEAR, ROT_USE_OUTPUT);
    add(l, f->newline, 0, "", 1, &o, ROT_ROLE_ROW, ROT_USE_OUTPUT);
    for (int j = 0; f->tap && j < c->n_taps; j++) { // these norms are as wide as a merge cell
        char name[3][64];
        static const char *const parts[] = {"norm", "linear_fc1", "linear_fc2"};
        for (int k = 0; k < 3; k++) snprintf(name[k], sizeof name[k], "%s.%s", f->tap, parts[k]);
        norm(l, f, name[0], j, wide, ROT_USE_CHECK);
        linear(l, name[1], j, wide, wide, ROT_ROLE_LINEAR, ROT_USE_CHECK);
        linear(l, name[2], j, o, wide, ROT_ROLE_LINEAR, ROT_USE_CHECK);
    }
}

size_t rot_tower_tensor_count(const rot_vision_config *config)
{
    list l = {0};
    tower_tensors(&l, rot_tower_family_of(config->model_type), config);
    return l.n;
}

void rot_tower_tensors(const rot_vision_config *config, rot_tower_tensor *out)
{
    list l = {out, 0};
    tower_tensors(&l, rot_tower_family_of(config->model_type), config);
}
