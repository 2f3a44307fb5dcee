// Which random weights, and how they are drawn.
//
// Scales. A linear layer of n inputs with weights of spread s / sqrt(n) gives rows of rms s where
// its input has rms 1, as a LayerNorm's output does. With that:
// - patches and positions enter with rms about 1 each, so that blank patches differ by position;
// - scores q k / sqrt(head) have a spread of s_q s_k: 3, so attention is peaked, and an error in
// rotary
//   positions shows in the output;
// - each branch adds a fraction of the residual's rms: 50 blocks stay of the order 1, and rounding
// in
//   bf16 is not amplified from block to block.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bf16.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/random.h"
#include "encoder/init_model.h"

static uint64_t key_of(uint64_t seed, const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u; // FNV-1a
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return rot_mix64(rot_mix64(seed + 0x9e3779b97f4a7c15u) ^ hash);
}

// float32 to IEEE half, to nearest, ties to even.
static uint16_t to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    u &= 0x7fffffff;
    if (u >= 0x47800000) return sign | 0x7c00; // 65536 and more
    if (u < 0x38800000) {                      // under 2^-14: a multiple of 2^-24
        float magnitude;
        memcpy(&magnitude, &u, 4);
        return sign | (uint16_t)lrintf(magnitude * 0x1p24f);
    }
    u += 0xfff + (u >> 13 & 1);
    return sign | (uint16_t)((u - 0x38000000) >> 13);
}

// Four 16-bit uniforms less their mean: quick, and bell-shaped.
static float bell(uint64_t key, uint64_t n)
{
    uint64_t z = rot_random_at(key, n);
    int sum =
        (int)(z & 0xffff) + (int)(z >> 16 & 0xffff) + (int)(z >> 32 & 0xffff) + (int)(z >> 48);
    return (float)(sum - 131070);
}

void rot_init_draw(const rot_init_tensor *tensor, uint64_t seed, rot_tensor_type type, size_t from,
                   size_t n, void *out)
{
    const double sum_spread = sqrt((65536.0 * 65536.0 - 1) / 3); // of the four uniforms
    const float mean = (float)tensor->mean;
    const float before = (float)(tensor->spread / sum_spread);
    const float behind = (float)(tensor->spread_behind / sum_spread);
    const uint64_t key = key_of(seed, tensor->name);
    float *f32 = out;
    uint16_t *half = out;
    for (size_t i = 0; i < n; i++) {
        float value = mean;
        if (!tensor->normal)
            value += (from + i < tensor->split ? before : behind) * bell(key, from + i);
        else if (tensor->spread > 0)
            value += (float)(tensor->spread * rot_random_normal(key, from + i));
        if (type == ROT_T_F32)
            f32[i] = value;
        else if (type == ROT_T_BF16)
            half[i] = rot_f32_to_bf16(value);
        else
            half[i] = to_f16(value);
    }
}

// The spread of a weight [rows, n]: rms of its rows' products with an input of rms 1.
static void linear(rot_init_tensor *out, double rms)
{
    double n = 1;
    for (int i = 1; i < out->n_dims; i++) n *= (double)out->shape[i];
    out->spread = rms / sqrt(n);
}

static void set_tower_scales(rot_init_tensor *out, const rot_tower_tensor *tensor, int depth)
{
    const double branch = 1.5 / sqrt((double)(depth > 4 ? depth : 4)); // what a block adds
    switch (tensor->role) {
    case ROT_ROLE_NORM:
        out->mean = !tensor->bias;
        out->spread = 0.1;
        return;
    case ROT_ROLE_TABLE:
    case ROT_ROLE_ROW: out->spread = 1; return;
    default: break;
    }
    if (tensor->bias) {
        out->spread = 0.05;
        return;
    }
    linear(out, tensor->role == ROT_ROLE_BRANCH ? branch : 1);
    if (tensor->role == ROT_ROLE_Q_OR_K) out->spread *= sqrt(3.0);
    if (tensor->role != ROT_ROLE_QKV) return;
    out->split = out->n_elements / 3 * 2;
    out->spread_behind = out->spread;
    out->spread *= sqrt(3.0);
}

static void set_text_scales(rot_init_tensor *out)
{
    const char *name = out->name;
    if (strstr(name, ".bias"))
        out->spread = 0.05;
    else if (strstr(name, "q_norm") || strstr(name, "k_norm")) {
        out->mean = 1.5; // scores of a spread of about 2
        out->spread = 0.1;
    } else if (strstr(name, "norm")) {
        out->mean = 1;
        out->spread = 0.1;
    } else if (strstr(name, "o_proj") || strstr(name, "down_proj"))
        linear(out, 0.3);
    else
        linear(out, 1); // embeddings too: rows of norm 1
}

static rot_init_tensor *append(rot_init_tensor *list, size_t *n, int64_t rows, int64_t cols)
{
    rot_init_tensor *out = &list[(*n)++];
    *out = (rot_init_tensor){.n_dims = cols ? 2 : 1, .shape = {rows, cols}};
    return out;
}

// How the text models of the families differ, as published checkpoints name their tensors.
typedef struct text_names {
    const char *model_type, *prefix, *head;
    bool qkv_bias, qk_norm;
} text_names;

static const text_names *names_of(const char *model_type)
{
    static const text_names all[] = {
        {"qwen3_vl", "model.language_model.", "lm_head.weight", false, true},
        {"qwen2_5_vl", "model.", "lm_head.weight", true, false},
        {"qwen2_vl", "model.", "lm_head.weight", true, false},
        {"llava_next", "language_model.model.", "language_model.lm_head.weight", false, false},
    };
    size_t i = sizeof all / sizeof all[0] - 1;
    while (i && strcmp(all[i].model_type, model_type)) i--;
    return &all[i];
}

// Nothing is written where `list` is NULL; *n counts.
static void add_text(const text_names *names, const rot_text_shape *t, rot_init_tensor *list,
                     size_t *n)
{
    int64_t h = t->hidden, q = (int64_t)t->heads * t->head_dim,
            kv = (int64_t)t->kv_heads * t->head_dim;
    const struct {
        const char *name;
        int64_t rows, cols;
        bool there;
    } layer[] = {
        {"input_layernorm.weight", h, 0, true},
        {"self_attn.q_proj.weight", q, h, true},
        {"self_attn.k_proj.weight", kv, h, true},
        {"self_attn.v_proj.weight", kv, h, true},
        {"self_attn.q_proj.bias", q, 0, names->qkv_bias},
        {"self_attn.k_proj.bias", kv, 0, names->qkv_bias},
        {"self_attn.v_proj.bias", kv, 0, names->qkv_bias},
        {"self_attn.o_proj.weight", h, q, true},
        {"self_attn.q_norm.weight", t->head_dim, 0, names->qk_norm},
        {"self_attn.k_norm.weight", t->head_dim, 0, names->qk_norm},
        {"post_attention_layernorm.weight", h, 0, true},
        {"mlp.gate_proj.weight", t->mlp_width, h, true},
        {"mlp.up_proj.weight", t->mlp_width, h, true},
        {"mlp.down_proj.weight", h, t->mlp_width, true},
    };
    rot_init_tensor none;
    const struct {
        const char *name;
        int64_t rows, cols;
        bool there;
    } ends[] = {{"embed_tokens.weight", t->vocab, h, true}, {"norm.weight", h, 0, true}};
    for (int e = 0; e < 2; e++) {
        rot_init_tensor *out = list ? append(list, n, ends[e].rows, ends[e].cols) : &none;
        snprintf(out->name, sizeof out->name, "%s%s", names->prefix, ends[e].name);
        *n += !list;
        for (int l = 0; e == 0 && l < t->layers; l++)
            for (size_t i = 0; i < sizeof layer / sizeof layer[0]; i++) {
                if (!layer[i].there) continue;
                out = list ? append(list, n, layer[i].rows, layer[i].cols) : &none;
                snprintf(out->name, sizeof out->name, "%slayers.%d.%s", names->prefix, l,
                         layer[i].name);
                *n += !list;
            }
    }
    if (t->tied) return;
    rot_init_tensor *out = list ? append(list, n, t->vocab, h) : &none;
    snprintf(out->name, sizeof out->name, "%s", names->head);
    *n += !list;
}

int rot_init_tensors(const rot_init_plan *plan, bool text, rot_init_tensor **out, size_t *n,
                     rot_err *err)
{
    const rot_tower_family *family = rot_tower_family_of(plan->vision.model_type);
    const text_names *names = names_of(plan->vision.model_type);
    size_t n_tower = rot_tower_tensor_count(&plan->vision), n_all = n_tower;
    if (text) add_text(names, &plan->text, NULL, &n_all);
    rot_init_tensor *list = rot_calloc(n_all, sizeof *list);
    rot_tower_tensor *tower = rot_malloc(n_tower * sizeof *tower);
    if (!list || !tower) {
        rot_free(list);
        rot_free(tower);
        return rot_no_memory(err, n_all * sizeof *list, "the list of tensors");
    }
    rot_tower_tensors(&plan->vision, tower);
    for (size_t i = 0; i < n_tower; i++) {
        snprintf(list[i].name, sizeof list[i].name, "%s%.110s", family->prefixes[0], tower[i].name);
        list[i].n_dims = tower[i].n_dims;
        memcpy(list[i].shape, tower[i].shape, sizeof list[i].shape);
    }
    size_t count = n_tower;
    if (text) add_text(names, &plan->text, list, &count);
    for (size_t i = 0; i < count; i++) {
        list[i].n_elements = 1;
        for (int d = 0; d < list[i].n_dims; d++) list[i].n_elements *= (size_t)list[i].shape[d];
        list[i].split = list[i].n_elements;
        if (i < n_tower)
            set_tower_scales(&list[i], &tower[i], plan->vision.depth);
        else
            set_text_scales(&list[i]);
    }
    rot_free(tower);
    *out = list;
    *n = count;
    return 0;
}
