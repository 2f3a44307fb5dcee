// The JSON files of a random checkpoint: configs as transformers reads them, and the tokenizer's.
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "encoder/init_model.h"
#include "encoder/json.h"

extern const char rot_tokenizer_small_json[], rot_tokenizer_small_json_end[];
extern const char rot_tokenizer_small_config[], rot_tokenizer_small_config_end[];

static int id_of(const json_t *added, const json_t *vocab, const char *token)
{
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)added, i, entry)
    {
        const char *content = json_string_value(json_object_get(entry, "content"));
        if (content && !strcmp(content, token))
            return (int)json_integer_value(json_object_get(entry, "id"));
    }
    const json_t *id = json_object_get(vocab, token);
    return id ? (int)json_integer_value(id) : -1;
}

static int note_id(const json_t *id, const char *token, int *n_tokens, const char *where,
                   rot_err *err)
{
    int64_t n = json_is_integer(id) ? json_integer_value(id) : -1;
    if (n < 0 || n > 1 << 24)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: the token '%.60s' has no proper id", where,
                 token ? token : "");
    if (n >= *n_tokens) *n_tokens = (int)n + 1;
    return 0;
}

static int read_ids(const json_t *root, rot_token_ids *out, const char *where, rot_err *err)
{
    const json_t *model, *vocab, *added = json_object_get(root, "added_tokens");
    ROT_TRY(rot_json_object(root, "model", &model, where, err));
    ROT_TRY(rot_json_object(model, "vocab", &vocab, where, err));
    out->n_tokens = 0;
    const char *token;
    json_t *value;
    size_t i;
    json_object_foreach((json_t *)vocab, token, value)
    {
        ROT_TRY(note_id(value, token, &out->n_tokens, where, err));
    }
    json_array_foreach((json_t *)added, i, value)
    {
        token = json_string_value(json_object_get(value, "content"));
        ROT_TRY(note_id(json_object_get(value, "id"), token, &out->n_tokens, where, err));
    }
    out->end = id_of(added, vocab, "<|im_end|>");
    out->pad = id_of(added, vocab, "<|endoftext|>");
    out->image = id_of(added, vocab, "<|image_pad|>");
    out->video = id_of(added, vocab, "<|video_pad|>");
    out->vision_start = id_of(added, vocab, "<|vision_start|>");
    out->vision_end = id_of(added, vocab, "<|vision_end|>");
    return 0;
}

static int read_folder(const char *dir, rot_init_tokenizer *out, rot_err *err)
{
    static const char *const names[] = {
        "tokenizer.json",      "tokenizer_config.json",   "vocab.json",
        "merges.txt",          "special_tokens_map.json", "added_tokens.json",
        "chat_template.jinja", "chat_template.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[4096];
        ROT_TRY(rot_fs_join(path, sizeof path, dir, names[i], err));
        if (i && !rot_fs_is_file(path))
            continue; // the first is needed, so that its absence is an error
        struct rot_init_file *file = &out->files[out->n_files];
        ROT_TRY(rot_fs_read(path, &file->owned, &file->n_bytes, err));
        file->bytes = file->owned;
        file->name = names[i];
        out->n_files++;
    }
    return 0;
}

int rot_init_tokenizer_read(const char *dir, rot_init_tokenizer *out, rot_token_ids *ids,
                            rot_err *err)
{
    *out = (rot_init_tokenizer){0};
    json_t *root = NULL;
    char where[4096] = "the built-in tokenizer.json";
    int rc = 0;
    if (dir) {
        ROT_GO(read_folder(dir, out, err));
        snprintf(where, sizeof where, "%.4000s/tokenizer.json", dir);
    } else {
        out->files[0] = (struct rot_init_file){
            .name = "tokenizer.json",
            .bytes = rot_tokenizer_small_json,
            .n_bytes = (size_t)(rot_tokenizer_small_json_end - rot_tokenizer_small_json)};
        out->files[1] = (struct rot_init_file){
            .name = "tokenizer_config.json",
            .bytes = rot_tokenizer_small_config,
            .n_bytes = (size_t)(rot_tokenizer_small_config_end - rot_tokenizer_small_config)};
        out->n_files = 2;
    }
    ROT_GO(rot_json_parse(out->files[0].bytes, out->files[0].n_bytes, false, where, &root, err));
    ROT_GO(read_ids(root, ids, where, err));
done:
    json_decref(root);
    if (rc < 0) rot_init_tokenizer_free(out);
    return rc;
}

void rot_init_tokenizer_free(rot_init_tokenizer *tokenizer)
{
    for (int i = 0; i < (int)(sizeof tokenizer->files / sizeof tokenizer->files[0]); i++)
        rot_free(tokenizer->files[i].owned);
    *tokenizer = (rot_init_tokenizer){0};
}

static int dump(json_t *root, char **out, rot_err *err)
{
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(root);
    if (!text) return rot_no_memory(err, 0, "a JSON file");
    *out = text;
    return 0;
}

// A token that the tokenizer lacks is left out.
static void set_id(json_t *object, const char *key, int id)
{
    if (object && id >= 0) json_object_set_new(object, key, json_integer(id));
}

static json_t *text_config(const rot_init_plan *plan)
{
    const rot_text_shape *t = &plan->text;
    int side =
        t->head_dim / 2 / 8 * 5 / 2; // 24, 20, 20 of 64: time has what height and width leave
    json_t *rope = json_pack("{s:b, s:[iii], s:s}", "mrope_interleaved", 1, "mrope_section",
                             t->head_dim / 2 - 2 * side, side, side, "rope_type", "default");
    json_t *text = json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:i, s:f, s:f, s:b, s:f, s:o, s:b, s:f, "
        "s:b, s:s}",
        "model_type", "qwen3_vl_text", "vocab_size", t->vocab, "hidden_size", t->hidden,
        "intermediate_size", t->mlp_width, "num_hidden_layers", t->layers, "num_attention_heads",
        t->heads, "num_key_value_heads", t->kv_heads, "head_dim", t->head_dim, "hidden_act", "silu",
        "max_position_embeddings", 262144, "initializer_range", 0.02, "rms_norm_eps", 1e-6,
        "use_cache", 1, "rope_theta", 5000000.0, "rope_scaling", rope, "attention_bias", 0,
        "attention_dropout", 0.0, "tie_word_embeddings", t->tied, "dtype", plan->type_name);
    set_id(text, "bos_token_id", plan->ids.pad);
    set_id(text, "eos_token_id", plan->ids.end);
    set_id(text, "pad_token_id", plan->ids.pad);
    return text;
}

static json_t *vision_config(const rot_init_plan *plan)
{
    const rot_vision_config *v = &plan->vision;
    json_t *taps = json_array();
    for (int i = 0; taps && i < v->n_taps; i++)
        json_array_append_new(taps, json_integer(v->taps[i]));
    return json_pack("{s:s, s:i, s:i, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:o, s:f}",
                     "model_type", "qwen3_vl", "depth", v->depth, "hidden_size", v->width,
                     "hidden_act", "gelu_pytorch_tanh", "intermediate_size", v->mlp_width,
                     "num_heads", v->heads, "in_channels", v->in_channels, "patch_size",
                     v->patch_px, "spatial_merge_size", v->merge, "temporal_patch_size",
                     v->temporal, "out_hidden_size", v->out_width, "num_position_embeddings",
                     v->n_positions, "deepstack_visual_indexes", taps, "initializer_range", 0.02);
}

int rot_init_config_json(const rot_init_plan *plan, char **out, rot_err *err)
{
    json_t *root = json_pack("{s:[s], s:s, s:s, s:b, s:o*, s:o*}", "architectures",
                             "Qwen3VLForConditionalGeneration", "model_type", "qwen3_vl", "dtype",
                             plan->type_name, "tie_word_embeddings", plan->text.tied, "text_config",
                             text_config(plan), "vision_config", vision_config(plan));
    if (root &&
        (!json_object_get(root, "text_config") || !json_object_get(root, "vision_config"))) {
        json_decref(root);
        root = NULL;
    }
    set_id(root, "image_token_id", plan->ids.image);
    set_id(root, "video_token_id", plan->ids.video);
    set_id(root, "vision_start_token_id", plan->ids.vision_start);
    set_id(root, "vision_end_token_id", plan->ids.vision_end);
    return dump(root, out, err);
}

int rot_init_preprocessor_json(const rot_init_plan *plan, char **out, rot_err *err)
{
    rot_preprocessor p = rot_preprocessor_default();
    return dump(json_pack("{s:{s:I, s:I}, s:i, s:i, s:i, s:[fff], s:[fff], s:s, s:s}", "size",
                          "longest_edge", (json_int_t)p.max_pixels, "shortest_edge",
                          (json_int_t)p.min_pixels, "patch_size", plan->vision.patch_px,
                          "temporal_patch_size", plan->vision.temporal, "merge_size",
                          plan->vision.merge, "image_mean", p.mean[0], p.mean[1], p.mean[2],
                          "image_std", p.std[0], p.std[1], p.std[2], "processor_class",
                          "Qwen3VLProcessor", "image_processor_type", "Qwen2VLImageProcessorFast"),
                out, err);
}
