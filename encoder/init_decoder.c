// Decoders from scratch: shapes, config.json and generation_config.json as transformers reads them,
// and weights drawn as its _init_weights prescribes: N(0, 0.02) for linears and embeddings, zero
// biases, norms that do nothing, and in GPT-2 a smaller spread where a branch is added.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/mem.h"
#include "encoder/init_model.h"
#include "rotoscope/encoder.h"

#define INITIALIZER_RANGE 0.02

// Of GPT-2's smallest as published; the others are of our own sizes. The tiny ones are as wide as
// the embeddings of the tiny tower, and Qwen3's heads are together wider than the model, as in its
// small models.
static const rot_init_decoder decoders[] = {
    {"qwen3-tiny",
     "qwen3",
     {.layers = 4,
      .hidden = 128,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 64,
      .mlp_width = 344,
      .tied = true},
     32768},
    {"qwen3-100m",
     "qwen3",
     {.layers = 12,
      .hidden = 768,
      .heads = 12,
      .kv_heads = 6,
      .head_dim = 64,
      .mlp_width = 2816,
      .tied = true},
     32768},
    {"llama-tiny",
     "llama",
     {.layers = 4, .hidden = 128, .heads = 4, .kv_heads = 2, .head_dim = 32, .mlp_width = 344},
     8192},
    {"gpt2-tiny",
     "gpt2",
     {.layers = 4,
      .hidden = 128,
      .heads = 4,
      .kv_heads = 4,
      .head_dim = 32,
      .mlp_width = 512,
      .tied = true},
     1024},
    {"gpt2",
     "gpt2",
     {.layers = 12,
      .hidden = 768,
      .heads = 12,
      .kv_heads = 12,
      .head_dim = 64,
      .mlp_width = 3072,
      .tied = true},
     1024},
};

bool rot_init_decoder_find(const char *arch, rot_init_decoder *out)
{
    for (size_t i = 0; arch && i < sizeof decoders / sizeof decoders[0]; i++) {
        if (strcasecmp(arch, decoders[i].name)) continue;
        *out = decoders[i];
        return true;
    }
    return false;
}

bool rot_init_decoder_is_gpt2(const rot_init_decoder *decoder)
{
    return !strcmp(decoder->model_type, "gpt2");
}

int rot_init_decoder_sizes(const rot_init_model_options *options, const rot_token_ids *ids,
                           rot_init_decoder *decoder, rot_err *err)
{
    rot_text_shape *t = &decoder->text;
    const bool gpt2 = rot_init_decoder_is_gpt2(decoder);
    if (options->text || options->out_width)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: %s has no effect on a decoder", decoder->name,
                 options->text ? "text" : "out");
    const struct {
        const char *name;
        int asked, high, *field;
    } sizes[] = {{"depth", options->depth, 1000, &t->layers},
                 {"width", options->width, 65536, &t->hidden},
                 {"heads", options->heads, 4096, &t->heads},
                 {"mlp", options->mlp_width, 1 << 20, &t->mlp_width}};
    const int groups = t->heads / t->kv_heads;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].asked < 0 || sizes[i].asked > sizes[i].high)
            ROT_FAIL(err, ROT_ERR_USAGE, "%s of %d: not in 1 to %d", sizes[i].name, sizes[i].asked,
                     sizes[i].high);
        if (sizes[i].asked) *sizes[i].field = sizes[i].asked;
    }
    if (t->heads % groups)
        ROT_FAIL(err, ROT_ERR_USAGE, "heads of %d: no multiple of %d, which share keys and values",
                 t->heads, groups);
    t->kv_heads = t->heads / groups;
    if (gpt2 && t->hidden % t->heads)
        ROT_FAIL(err, ROT_ERR_USAGE, "width of %d: no multiple of the %d heads", t->hidden,
                 t->heads);
    if (gpt2) t->head_dim = t->hidden / t->heads;
    // GPT-2's embedding has a row per token, as published; the others have some to spare.
    t->vocab = gpt2 ? ids->n_tokens : rot_init_vocab(ids);
    return 0;
}

/* ---- tensors -----------------------------------------------------------------------------------
 */

// One kind of tensor of a layer or of the model; cols 0: a vector.
typedef struct kind {
    const char *name;
    int64_t rows, cols;
    double mean, spread;
} kind;

static void append(rot_init_tensor *list, size_t *n, const kind *k, const char *prefix, int layer)
{
    rot_init_tensor *out = &list[(*n)++];
    *out = (rot_init_tensor){.n_dims = k->cols ? 2 : 1,
                             .shape = {k->rows, k->cols},
                             .mean = k->mean,
                             .spread = k->spread,
                             .normal = true};
    if (layer < 0)
        snprintf(out->name, sizeof out->name, "%s%s", prefix, k->name);
    else
        snprintf(out->name, sizeof out->name, "%s%d.%s", prefix, layer, k->name);
    out->n_elements = (size_t)k->rows * (size_t)(k->cols ? k->cols : 1);
    out->split = out->n_elements;
}

static void add_gpt2(const rot_init_decoder *decoder, rot_init_tensor *list, size_t *n)
{
    const rot_text_shape *t = &decoder->text;
    const double s = INITIALIZER_RANGE, branch = s / sqrt(2.0 * t->layers);
    const int64_t d = t->hidden, mlp = t->mlp_width;
    const kind ends[] = {{"wte.weight", t->vocab, d, 0, s},
                         {"wpe.weight", decoder->positions, d, 0, s},
                         {"ln_f.weight", d, 0, 1, 0},
                         {"ln_f.bias", d, 0, 0, 0}};
    const kind layer[] = {// weights (n_in, n_out)
                          {"ln_1.weight", d, 0, 1, 0},
                          {"ln_1.bias", d, 0, 0, 0},
                          {"attn.c_attn.weight", d, 3 * d, 0, s},
                          {"attn.c_attn.bias", 3 * d, 0, 0, 0},
                          {"attn.c_proj.weight", d, d, 0, branch},
                          {"attn.c_proj.bias", d, 0, 0, 0},
                          {"ln_2.weight", d, 0, 1, 0},
                          {"ln_2.bias", d, 0, 0, 0},
                          {"mlp.c_fc.weight", d, mlp, 0, s},
                          {"mlp.c_fc.bias", mlp, 0, 0, 0},
                          {"mlp.c_proj.weight", mlp, d, 0, branch},
                          {"mlp.c_proj.bias", d, 0, 0, 0}};
    for (int i = 0; i < 4; i++) append(list, n, &ends[i], "transformer.", -1);
    for (int l = 0; l < t->layers; l++)
        for (int i = 0; i < 12; i++) append(list, n, &layer[i], "transformer.h.", l);
}

static void add_llama(const rot_init_decoder *decoder, rot_init_tensor *list, size_t *n)
{
    const rot_text_shape *t = &decoder->text;
    const double s = INITIALIZER_RANGE;
    const int64_t d = t->hidden, q = (int64_t)t->heads * t->head_dim,
                  kv = (int64_t)t->kv_heads * t->head_dim, mlp = t->mlp_width;
    const kind ends[] = {{"embed_tokens.weight", t->vocab, d, 0, s}, {"norm.weight", d, 0, 1, 0}},
               head = {"lm_head.weight", t->vocab, d, 0, s};
    const kind layer[] = {{"input_layernorm.weight", d, 0, 1, 0},
                          {"self_attn.q_proj.weight", q, d, 0, s},
                          {"self_attn.k_proj.weight", kv, d, 0, s},
                          {"self_attn.v_proj.weight", kv, d, 0, s},
                          {"self_attn.o_proj.weight", d, q, 0, s},
                          {"post_attention_layernorm.weight", d, 0, 1, 0},
                          {"mlp.gate_proj.weight", mlp, d, 0, s},
                          {"mlp.up_proj.weight", mlp, d, 0, s},
                          {"mlp.down_proj.weight", d, mlp, 0, s},
                          {"self_attn.q_norm.weight", t->head_dim, 0, 1, 0},
                          {"self_attn.k_norm.weight", t->head_dim, 0, 1, 0}};
    const int n_layer = strcmp(decoder->model_type, "qwen3") ? 9 : 11;
    for (int i = 0; i < 2; i++) append(list, n, &ends[i], "model.", -1);
    for (int l = 0; l < t->layers; l++)
        for (int i = 0; i < n_layer; i++) append(list, n, &layer[i], "model.layers.", l);
    if (!t->tied) append(list, n, &head, "", -1);
}

int rot_init_decoder_tensors(const rot_init_decoder *decoder, rot_init_tensor **out, size_t *n,
                             rot_err *err)
{
    const size_t most = 4 + 12 * (size_t)decoder->text.layers;
    *n = 0;
    *out = rot_calloc(most, sizeof **out);
    if (!*out) return rot_no_memory(err, most * sizeof **out, "the list of tensors");
    if (rot_init_decoder_is_gpt2(decoder))
        add_gpt2(decoder, *out, n);
    else
        add_llama(decoder, *out, n);
    return 0;
}

/* ---- JSON --------------------------------------------------------------------------------------
 */

static json_t *gpt2_config(const rot_init_decoder *decoder)
{
    const rot_text_shape *t = &decoder->text;
    json_t *inner = t->mlp_width == 4 * t->hidden ? json_null() : json_integer(t->mlp_width);
    return json_pack(
        "{s:[s], s:s, s:i, s:i, s:i, s:i, s:o, s:i, s:s, s:f, s:f, s:f, s:f, s:f, s:b}",
        "architectures", "GPT2LMHeadModel", "activation_function", "gelu_new", "n_embd", t->hidden,
        "n_layer", t->layers, "n_head", t->heads, "n_positions", decoder->positions, "n_inner",
        inner, "vocab_size", t->vocab, "model_type", "gpt2", "layer_norm_epsilon", 1e-5,
        "initializer_range", INITIALIZER_RANGE, "attn_pdrop", 0.0, "embd_pdrop", 0.0, "resid_pdrop",
        0.0, "tie_word_embeddings", 1);
}

static json_t *llama_config(const rot_init_decoder *decoder)
{
    const rot_text_shape *t = &decoder->text;
    const bool qwen3 = !strcmp(decoder->model_type, "qwen3");
    return json_pack(
        "{s:[s], s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:b, s:f, s:b}",
        "architectures", qwen3 ? "Qwen3ForCausalLM" : "LlamaForCausalLM", "model_type",
        decoder->model_type, "hidden_act", "silu", "hidden_size", t->hidden, "num_hidden_layers",
        t->layers, "num_attention_heads", t->heads, "num_key_value_heads", t->kv_heads, "head_dim",
        t->head_dim, "intermediate_size", t->mlp_width, "max_position_embeddings",
        decoder->positions, "vocab_size", t->vocab, "rms_norm_eps", qwen3 ? 1e-6 : 1e-5,
        "rope_theta", qwen3 ? 1000000.0 : 500000.0, "initializer_range", INITIALIZER_RANGE,
        "attention_bias", 0, "attention_dropout", 0.0, "tie_word_embeddings", t->tied);
}

// The end of an answer in a chat, or the end of a text where the tokenizer knows no chats.
static void set_ids(json_t *object, const rot_token_ids *ids)
{
    int end = ids->end >= 0 ? ids->end : ids->pad;
    if (object && end >= 0) json_object_set_new(object, "eos_token_id", json_integer(end));
    if (object && ids->pad >= 0)
        json_object_set_new(object, "bos_token_id", json_integer(ids->pad));
}

int rot_init_decoder_json(const rot_init_decoder *decoder, const rot_token_ids *ids,
                          const char *type_name, char **config, char **generation, rot_err *err)
{
    json_t *root = rot_init_decoder_is_gpt2(decoder) ? gpt2_config(decoder) : llama_config(decoder);
    if (root) json_object_set_new(root, "dtype", json_string(type_name));
    set_ids(root, ids);
    ROT_TRY(rot_init_dump(root, config, err));
    root = json_object();
    set_ids(root, ids);
    if (root && ids->pad >= 0) json_object_set_new(root, "pad_token_id", json_integer(ids->pad));
    return rot_init_dump(root, generation, err);
}
