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

// The built-in tokenizer as GPT-2's kind: nothing is normalised, the expression is ByteLevel's own,
// <|endoftext|> is the only token beside the text's.
static int as_gpt2(rot_init_tokenizer *out, rot_err *err)
{
    static const char config[] =
        "{\n \"tokenizer_class\": \"GPT2Tokenizer\",\n \"add_prefix_space\": false,\n"
        " \"bos_token\": \"<|endoftext|>\",\n \"eos_token\": \"<|endoftext|>\",\n"
        " \"pad_token\": \"<|endoftext|>\",\n \"unk_token\": \"<|endoftext|>\",\n"
        " \"clean_up_tokenization_spaces\": false,\n \"model_max_length\": 1024\n}\n";
    struct rot_init_file *file = &out->files[0];
    json_t *root = NULL, *list = json_array(),
           *words = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                              "trim_offsets", 1, "use_regex", 1);
    int rc = rot_json_parse(file->bytes, file->n_bytes, false, "the built-in tokenizer.json", &root,
                            err);
    if (rc < 0) goto done;
    json_array_append(list, json_array_get(json_object_get(root, "added_tokens"), 0));
    json_object_set(root, "added_tokens", list);
    json_object_set_new(root, "normalizer", json_null());
    json_object_set(root, "pre_tokenizer", words);
    json_object_set(root, "post_processor", words);
    file->owned = list && words ? json_dumps(root, JSON_INDENT(1)) : NULL;
    if (!file->owned) {
        rc = rot_no_memory(err, file->n_bytes, "tokenizer");
        goto done;
    }
    file->bytes = file->owned;
    file->n_bytes = strlen(file->bytes);
    out->files[1].bytes = config;
    out->files[1].n_bytes = sizeof config - 1;
done:
    json_decref(root);
    json_decref(list);
    json_decref(words);
    return rc;
}

int rot_init_tokenizer_read(const char *dir, bool gpt2, rot_init_tokenizer *out, rot_token_ids *ids,
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
        if (gpt2) ROT_GO(as_gpt2(out, err));
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

int rot_init_dump(json_t *root, char **out, rot_err *err)
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
    const char *type = plan->vision.model_type;
    const bool qwen3 = !strcmp(type, "qwen3_vl"), llava = !strcmp(type, "llava_next");
    int side =
        t->head_dim / 2 / 8 * 5 / 2; // 24, 20, 20 of 64: time has what height and width leave
    if (!qwen3) side = t->head_dim / 2 * 3 / 8; // 16, 24, 24
    int time = t->head_dim / 2 - 2 * side;
    json_t *rope =
        qwen3   ? json_pack("{s:b, s:[iii], s:s}", "mrope_interleaved", 1, "mrope_section", time,
                            side, side, "rope_type", "default")
        : llava ? NULL
                : json_pack("{s:[iii], s:s}", "mrope_section", time, side, side, "type", "mrope");
    char text_type[64];
    snprintf(text_type, sizeof text_type, "%s_text", type);
    json_t *text = json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:i, s:f, s:f, s:b, s:f, s:o*, s:b, s:f, "
        "s:b, s:s}",
        "model_type", llava ? "llama" : text_type, "vocab_size", t->vocab, "hidden_size", t->hidden,
        "intermediate_size", t->mlp_width, "num_hidden_layers", t->layers, "num_attention_heads",
        t->heads, "num_key_value_heads", t->kv_heads, "head_dim", t->head_dim, "hidden_act", "silu",
        "max_position_embeddings",
        qwen3   ? 262144
        : llava ? 4096
                : 128000,
        "initializer_range", 0.02, "rms_norm_eps", 1e-6, "use_cache", 1, "rope_theta",
        qwen3   ? 5000000.0
        : llava ? 10000.0
                : 1000000.0,
        "rope_scaling", rope, "attention_bias", 0, "attention_dropout", 0.0, "tie_word_embeddings",
        t->tied, "dtype", plan->type_name);
    set_id(text, "bos_token_id", plan->ids.pad);
    set_id(text, "eos_token_id", plan->ids.end);
    set_id(text, "pad_token_id", plan->ids.pad);
    return text;
}

static json_t *list_of(const int *blocks, int n)
{
    json_t *list = json_array();
    for (int i = 0; list && i < n; i++) json_array_append_new(list, json_integer(blocks[i]));
    return list;
}

static json_t *pinpoints_of(const rot_vision_config *v)
{
    json_t *list = json_array();
    for (int i = 0; list && i < v->n_pinpoints; i++)
        json_array_append_new(list,
                              json_pack("[i,i]", (int)v->pinpoints[i][0], (int)v->pinpoints[i][1]));
    return list;
}

// The sizes under the keys of the family; what its own code needs beside them.
static json_t *vision_config(const rot_init_plan *plan)
{
    const rot_vision_config *v = &plan->vision;
    const rot_tower_family *f = rot_tower_family_of(v->model_type);
    const bool clip = f->newline;
    json_t *out =
        json_pack("{s:s, s:s, s:f}", "model_type", clip ? "clip_vision_model" : v->model_type,
                  "hidden_act", f->hidden_act, "initializer_range", 0.02);
    for (int i = 0; out && i < ROT_FAMILY_SIZES && f->sizes[i].key; i++) {
        int n = *(const int *)(const void *)((const char *)v + f->sizes[i].offset);
        if (!strcmp(f->sizes[i].key, "mlp_ratio")) n /= v->width;
        json_object_set_new(out, f->sizes[i].key, json_integer(n));
    }
    if (out && f->tap)
        json_object_set_new(out, "deepstack_visual_indexes", list_of(v->taps, v->n_taps));
    if (out && f->full_key) json_object_set_new(out, f->full_key, list_of(v->full, v->n_full));
    if (out && clip) json_object_set_new(out, "layer_norm_eps", json_real(1e-5));
    return out;
}

int rot_init_config_json(const rot_init_plan *plan, char **out, rot_err *err)
{
    static const struct {
        const char *model_type, *class;
    } classes[] = {{"qwen3_vl", "Qwen3VLForConditionalGeneration"},
                   {"qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"},
                   {"qwen2_vl", "Qwen2VLForConditionalGeneration"},
                   {"llava_next", "LlavaNextForConditionalGeneration"}};
    const rot_vision_config *v = &plan->vision;
    size_t i = sizeof classes / sizeof classes[0] - 1;
    while (i && strcmp(classes[i].model_type, v->model_type)) i--;
    json_t *root = json_pack("{s:[s], s:s, s:s, s:b, s:o*, s:o*}", "architectures",
                             classes[i].class, "model_type", v->model_type, "dtype",
                             plan->type_name, "tie_word_embeddings", plan->text.tied, "text_config",
                             text_config(plan), "vision_config", vision_config(plan));
    if (root &&
        (!json_object_get(root, "text_config") || !json_object_get(root, "vision_config"))) {
        json_decref(root);
        root = NULL;
    }
    if (root && v->tile_px) {
        json_t *more =
            json_pack("{s:s, s:s, s:i, s:b, s:i, s:o}", "projector_hidden_act", "gelu",
                      "vision_feature_select_strategy", "default", "vision_feature_layer", -2,
                      "multimodal_projector_bias", 1, "image_seq_length", v->n_positions - 1,
                      "image_grid_pinpoints", pinpoints_of(v));
        if (!more || json_object_update(root, more) < 0) {
            json_decref(root);
            root = NULL;
        }
        json_decref(more);
        set_id(root, "image_token_index", plan->ids.image);
        return rot_init_dump(root, out, err);
    }
    set_id(root, "image_token_id", plan->ids.image);
    set_id(root, "video_token_id", plan->ids.video);
    set_id(root, "vision_start_token_id", plan->ids.vision_start);
    set_id(root, "vision_end_token_id", plan->ids.vision_end);
    return rot_init_dump(root, out, err);
}

// CLIP's mean and spread of the channels, which all but Qwen3-VL take.
static const double clip_mean[3] = {0.48145466, 0.4578275, 0.40821073},
                    clip_std[3] = {0.26862954, 0.26130258, 0.27577711};

int rot_init_preprocessor_json(const rot_init_plan *plan, char **out, rot_err *err)
{
    const rot_vision_config *v = &plan->vision;
    rot_preprocessor p = rot_preprocessor_default();
    const char *processor = "Qwen3VLProcessor";
    if (strcmp(v->model_type, "qwen3_vl")) {
        memcpy(p.mean, clip_mean, sizeof p.mean);
        memcpy(p.std, clip_std, sizeof p.std);
        p.min_pixels = 3136;
        p.max_pixels = 12845056;
        processor = !strcmp(v->model_type, "qwen2_vl") ? "Qwen2VLProcessor" : "Qwen2_5_VLProcessor";
    }
    if (v->tile_px)
        return rot_init_dump(
            json_pack("{s:{s:i}, s:{s:i, s:i}, s:o, s:[fff], s:[fff], s:i, s:s, s:s, s:s}", "size",
                      "shortest_edge", v->tile_px, "crop_size", "height", v->tile_px, "width",
                      v->tile_px, "image_grid_pinpoints", pinpoints_of(v), "image_mean", p.mean[0],
                      p.mean[1], p.mean[2], "image_std", p.std[0], p.std[1], p.std[2], "resample",
                      3, "aspect_ratio_setting", "anyres", "processor_class", "LlavaNextProcessor",
                      "image_processor_type", "LlavaNextImageProcessorFast"),
            out, err);
    return rot_init_dump(json_pack("{s:{s:I, s:I}, s:i, s:i, s:i, s:[fff], s:[fff], s:s, s:s}",
                                   "size", "longest_edge", (json_int_t)p.max_pixels,
                                   "shortest_edge", (json_int_t)p.min_pixels, "patch_size",
                                   v->patch_px, "temporal_patch_size", v->temporal, "merge_size",
                                   v->merge, "image_mean", p.mean[0], p.mean[1], p.mean[2],
                                   "image_std", p.std[0], p.std[1], p.std[2], "processor_class",
                                   processor, "image_processor_type", "Qwen2VLImageProcessorFast"),
                         out, err);
}
