#include "trainer/decoder_family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"

enum { PATH_BYTES = 4096, MOST = 1 << 24 };

#define LLAMA_KEYS                                                                                 \
    {                                                                                              \
        "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",          \
            "head_dim", "intermediate_size", "max_position_embeddings", "rms_norm_eps",            \
            "hidden_act", "silu"                                                                   \
    }
#define LLAMA_NAMES                                                                                \
    .embedding = "embed_tokens", .final_norm = "norm", .layer = "layers.%d.", .head = "lm_head",   \
    .attention_norm = "input_layernorm", .mlp_norm = "post_attention_layernorm",                   \
    .qkv = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, .o = "self_attn.o_proj",  \
    .up = {"mlp.gate_proj", "mlp.up_proj"}, .down = "mlp.down_proj"

static const rot_decoder_family families[] = {
    {
        .model_type = "qwen3",
        .qk_norm = true,
        .keys = LLAMA_KEYS,
        .dropouts = {.attention = "attention_dropout"},
        .head_dim = 128,
        .prefixes = {"model."},
        LLAMA_NAMES,
        .q_norm = "self_attn.q_norm",
        .k_norm = "self_attn.k_norm",
    },
    {
        .model_type = "qwen3_vl",
        .text = "text_config",
        .qk_norm = true,
        .keys = LLAMA_KEYS,
        .dropouts = {.attention = "attention_dropout"},
        .head_dim = 128,
        .prefixes = {"model.language_model.", "language_model.model.", "model."},
        LLAMA_NAMES,
        .q_norm = "self_attn.q_norm",
        .k_norm = "self_attn.k_norm",
    },
    {
        .model_type = "llama",
        .keys = LLAMA_KEYS,
        .dropouts = {.attention = "attention_dropout"},
        .prefixes = {"model."},
        LLAMA_NAMES,
    },
    {
        .model_type = "gpt2",
        .layer_norm = true,
        .learned_positions = true,
        .gelu = true,
        .conv1d = true,
        .biases = true,
        .tied = true,
        .keys = {"n_embd", "n_layer", "n_head", NULL, NULL, "n_inner", "n_positions",
                 "layer_norm_epsilon", "activation_function", "gelu_new"},
        .dropouts = {"embd_pdrop", "attn_pdrop", "resid_pdrop", 0.1},
        .prefixes = {"transformer.", ""},
        .embedding = "wte",
        .position_table = "wpe",
        .final_norm = "ln_f",
        .layer = "h.%d.",
        .head = "lm_head",
        .attention_norm = "ln_1",
        .mlp_norm = "ln_2",
        .qkv = {"attn.c_attn"},
        .o = "attn.c_proj",
        .up = {"mlp.c_fc"},
        .down = "mlp.c_proj",
    },
};

static int find_family(const json_t *config, const char *path, const rot_decoder_family **out,
                       rot_err *err)
{
    const char *type = json_string_value(json_object_get(config, "model_type"));
    size_t n = sizeof families / sizeof *families, at = 0;
    char names[128] = "";
    for (size_t i = 0; i < n; i++) {
        *out = &families[i];
        if (type && !strcmp(type, families[i].model_type)) return 0;
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "",
                               families[i].model_type);
    }
    if (!type) ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'model_type' is missing", path);
    ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: model_type \"%.60s\": not one of %s", path, type,
             names);
}

// A number above 0; `fallback` where there is none, unless that is 0.
static int read_number(const json_t *object, const char *key, double fallback, double *out,
                       const char *path, rot_err *err)
{
    const json_t *value = json_object_get(object, key);
    *out = fallback;
    if ((!value || json_is_null(value)) && fallback > 0) return 0;
    if (!json_is_number(value))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is %s", path, key,
                 value ? "not a number" : "missing");
    *out = json_number_value(value);
    if (!(*out > 0) || !isfinite(*out))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is not above 0", path, key);
    return 0;
}

static int read_flag(const json_t *object, const char *key, bool fallback, bool *out,
                     const char *path, rot_err *err)
{
    const json_t *value = json_object_get(object, key);
    *out = fallback;
    if (!value || json_is_null(value)) return 0;
    if (!json_is_boolean(value))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is neither true nor false", path, key);
    *out = json_is_true(value);
    return 0;
}

// Settings that other checkpoints of the family have and that would change the results.
static int refuse(const json_t *text, const char *path, rot_err *err)
{
    static const char *const off[] = {"use_sliding_window", "scale_attn_by_inverse_layer_idx",
                                      "reorder_and_upcast_attn", "add_cross_attention"};
    bool on;
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        ROT_TRY(read_flag(text, off[i], false, &on, path, err));
        if (on) ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: '%s': true is not supported", path, off[i]);
    }
    ROT_TRY(read_flag(text, "scale_attn_weights", true, &on, path, err));
    if (!on)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: 'scale_attn_weights': false is not supported",
                 path);
    return 0;
}

static int read_rope(const json_t *text, const char *path, rot_decoder_shape *shape, rot_err *err)
{
    ROT_TRY(read_number(text, "rope_theta", 10000, &shape->rope_theta, path, err));
    const json_t *scaling = json_object_get(text, "rope_scaling");
    if (!scaling) scaling = json_object_get(text, "rope_parameters"); // transformers 5
    if (!scaling || json_is_null(scaling)) return 0;
    ROT_TRY(read_number(scaling, "rope_theta", shape->rope_theta, &shape->rope_theta, path, err));
    const char *type = json_string_value(json_object_get(scaling, "rope_type"));
    if (!type) type = json_string_value(json_object_get(scaling, "type"));
    // With text alone the three axes of Qwen3-VL's positions are equal: plain RoPE.
    if (!type || !strcmp(type, "default") || !strcmp(type, "mrope")) return 0;
    if (strcmp(type, "llama3"))
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: rope_type \"%.40s\": not one of default, llama3",
                 path, type);
    ROT_TRY(read_number(scaling, "factor", 0, &shape->factor, path, err));
    ROT_TRY(read_number(scaling, "low_freq_factor", 0, &shape->low_freq_factor, path, err));
    ROT_TRY(read_number(scaling, "high_freq_factor", 0, &shape->high_freq_factor, path, err));
    return read_number(scaling, "original_max_position_embeddings", 0, &shape->original_positions,
                       path, err);
}

static int read_int(const json_t *text, const char *key, int64_t fallback, int64_t *out,
                    const char *path, rot_err *err)
{
    *out = fallback;
    if (!key) return 0;
    return rot_json_int(text, key, 1, MOST, fallback ? &fallback : NULL, out, path, err);
}

static int read_sizes(const json_t *text, const char *path, const rot_decoder_family *f,
                      rot_decoder_shape *shape, rot_err *err)
{
    int64_t d, layers, heads, kv, dim, mlp, vocab, positions;
    ROT_TRY(read_int(text, f->keys.d, 0, &d, path, err));
    ROT_TRY(read_int(text, f->keys.layers, 0, &layers, path, err));
    ROT_TRY(read_int(text, f->keys.heads, 0, &heads, path, err));
    ROT_TRY(read_int(text, f->keys.kv_heads, heads, &kv, path, err));
    ROT_TRY(
        read_int(text, f->keys.head_dim, f->head_dim ? f->head_dim : d / heads, &dim, path, err));
    ROT_TRY(read_int(text, f->keys.mlp_width, f->gelu ? 4 * d : 0, &mlp, path, err));
    ROT_TRY(read_int(text, "vocab_size", 0, &vocab, path, err));
    ROT_TRY(read_int(text, f->keys.positions, 0, &positions, path, err));
    if (layers > 4096 || heads % kv || (!f->keys.head_dim && d % heads) || dim % 2 ||
        heads * dim > MOST)
        ROT_FAIL(err, ROT_ERR_FORMAT,
                 "%s: %lld layers, %lld heads of %lld, %lld key heads: not a decoder's shape", path,
                 (long long)layers, (long long)heads, (long long)dim, (long long)kv);
    const char *act = json_string_value(json_object_get(text, f->keys.act));
    if (act && strcmp(act, f->keys.act_value) &&
        !(f->gelu && !strcmp(act, "gelu_pytorch_tanh"))) // another name of the same
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: '%s' is \"%.40s\", only \"%s\" is supported", path,
                 f->keys.act, act, f->keys.act_value);
    rot_decoder_info *info = &shape->info;
    info->d = (int32_t)d, info->layers = (int32_t)layers, info->heads = (int32_t)heads;
    info->kv_heads = (int32_t)kv, info->head_dim = (int32_t)dim, info->mlp_width = (int32_t)mlp;
    info->vocab = (int32_t)vocab, info->positions = (int32_t)positions;
    ROT_TRY(read_number(text, f->keys.eps, f->layer_norm ? 1e-5 : 1e-6, &shape->eps, path, err));
    ROT_TRY(read_flag(text, "attention_bias", f->biases, &shape->attention_bias, path, err));
    return read_flag(text, "mlp_bias", f->biases, &shape->mlp_bias, path, err);
}

static int read_dropout(const json_t *text, const char *key, double fallback, double *out,
                        const char *path, rot_err *err)
{
    const json_t *value = key ? json_object_get(text, key) : NULL;
    *out = key ? fallback : 0;
    if (!value || json_is_null(value)) return 0;
    *out = json_number_value(value);
    if (!json_is_number(value) || !(*out >= 0 && *out < 1))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is no number in [0, 1)", path, key);
    return 0;
}

static int read_dropouts(const json_t *text, const char *path, const rot_decoder_family *f,
                         rot_decoder_shape *s, rot_err *err)
{
    double other = f->dropouts.fallback;
    ROT_TRY(read_dropout(text, f->dropouts.embedding, other, &s->embedding_dropout, path, err));
    ROT_TRY(read_dropout(text, f->dropouts.attention, other, &s->attention_dropout, path, err));
    return read_dropout(text, f->dropouts.residual, other, &s->residual_dropout, path, err);
}

// An id, a list of ids, or nothing; ids of the root before those of the text model.
static void read_ids(const json_t *object, rot_decoder_info *info)
{
    const json_t *eos = json_object_get(object, "eos_token_id");
    if (json_is_integer(eos)) {
        info->eos[0] = (int32_t)json_integer_value(eos);
        info->n_eos = 1;
    } else if (json_is_array(eos)) {
        info->n_eos = 0;
        for (size_t i = 0; i < json_array_size(eos) && info->n_eos < 4; i++)
            if (json_is_integer(json_array_get(eos, i)))
                info->eos[info->n_eos++] = (int32_t)json_integer_value(json_array_get(eos, i));
    }
    const json_t *bos = json_object_get(object, "bos_token_id");
    const json_t *pad = json_object_get(object, "pad_token_id");
    if (json_is_integer(bos)) info->bos = (int32_t)json_integer_value(bos);
    if (json_is_integer(pad)) info->pad = (int32_t)json_integer_value(pad);
}

static int read_generation(const char *dir, rot_decoder_info *info, rot_err *err)
{
    char path[PATH_BYTES];
    json_t *root = NULL;
    ROT_TRY(rot_fs_join(path, sizeof path, dir, "generation_config.json", err));
    if (!rot_fs_is_file(path)) return 0;
    ROT_TRY(rot_json_read(path, false, &root, err));
    read_ids(root, info);
    json_decref(root);
    return 0;
}

int rot_decoder_read_config(const char *dir, json_t **config, const rot_decoder_family **family,
                            rot_decoder_shape *shape, rot_err *err)
{
    char path[PATH_BYTES];
    int rc = 0;
    *shape = (rot_decoder_shape){.info = {.bos = -1, .pad = -1, .eos = {-1, -1, -1, -1}}};
    ROT_TRY(rot_fs_join(path, sizeof path, dir, "config.json", err));
    ROT_TRY(rot_json_read(path, false, config, err));
    const json_t *root = *config, *text = root;
    ROT_GO(find_family(root, path, family, err));
    const rot_decoder_family *f = *family;
    if (f->text) ROT_GO(rot_json_object(root, f->text, &text, path, err));
    snprintf(shape->info.model_type, sizeof shape->info.model_type, "%s", f->model_type);
    ROT_GO(refuse(text, path, err));
    ROT_GO(read_sizes(text, path, f, shape, err));
    ROT_GO(read_dropouts(text, path, f, shape, err));
    if (!f->learned_positions) ROT_GO(read_rope(text, path, shape, err));
    bool tied;
    ROT_GO(read_flag(root, "tie_word_embeddings", f->tied, &tied, path, err));
    ROT_GO(read_flag(text, "tie_word_embeddings", tied, &shape->info.tied, path, err));
    read_ids(text, &shape->info);
    if (text != root) read_ids(root, &shape->info);
    ROT_GO(read_generation(dir, &shape->info, err));
done:
    if (rc < 0) {
        json_decref(*config);
        *config = NULL;
    }
    return rc;
}

int rot_decoder_read_vocab(const char *dir, int32_t *vocab, rot_err *err)
{
    json_t *config;
    const rot_decoder_family *family;
    rot_decoder_shape shape;
    ROT_TRY(rot_decoder_read_config(dir, &config, &family, &shape, err));
    json_decref(config);
    *vocab = shape.info.vocab;
    return 0;
}

void rot_decoder_frequencies(const rot_decoder_shape *shape, float *inverse_frequencies)
{
    int dim = shape->info.head_dim;
    for (int i = 0; i < dim / 2; i++) {
        float power = (float)(2 * i) / (float)dim;
        float f = 1.0f / powf((float)shape->rope_theta, power);
        if (shape->factor > 0) { // _compute_llama3_parameters
            double low_wave = shape->original_positions / shape->low_freq_factor;
            double high_wave = shape->original_positions / shape->high_freq_factor;
            float wave = (float)(2 * M_PI) / f, slow = f / (float)shape->factor;
            if (wave > (float)low_wave)
                f = slow;
            else if (wave >= (float)high_wave) {
                float smooth =
                    ((float)shape->original_positions / wave - (float)shape->low_freq_factor) /
                    (float)(shape->high_freq_factor - shape->low_freq_factor);
                f = (1 - smooth) * slow + smooth * f;
            }
        }
        inverse_frequencies[i] = f;
    }
}
