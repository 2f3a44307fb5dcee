// Between the files of init-model: what a random checkpoint will hold.
#ifndef ROT_ENCODER_INIT_MODEL_H
#define ROT_ENCODER_INIT_MODEL_H

#include <jansson.h>
#include <stdbool.h>

#include "encoder/checkpoint_config.h"
#include "rotoscope/encoder.h"

typedef struct rot_text_shape {
    int layers, hidden, heads, kv_heads, head_dim, mlp_width, vocab;
    bool tied; // the output head is the embedding
} rot_text_shape;

// Ids of the tokens that config.json names; -1: the tokenizer has none.
typedef struct rot_token_ids {
    int n_tokens; // largest id + 1
    int end, pad, image, video, vision_start, vision_end;
} rot_token_ids;

typedef struct rot_init_plan {
    rot_vision_config vision;
    rot_text_shape text;
    rot_token_ids ids;
    rot_tensor_type type;
    const char *type_name; // as torch calls it: "bfloat16"
} rot_init_plan;

// A tensor to draw: element i is mean + spread * n_i, where n_i is about normal, or normal if
// `normal`; from element `split` on it is mean + spread_behind * n_i.
typedef struct rot_init_tensor {
    char name[128];
    int n_dims;
    int64_t shape[ROT_TENSOR_DIMS];
    double mean, spread, spread_behind;
    size_t split, n_elements;
    bool normal;
} rot_init_tensor;

// The tower's tensors, and the text model's if `text`; the caller frees *out.
int rot_init_tensors(const rot_init_plan *plan, bool text, rot_init_tensor **out, size_t *n,
                     rot_err *err);
// Elements [from, from + n) of the tensor for `seed`, as `type` (F32, F16 or BF16), into `out`. The
// bytes depend on the arguments alone: integer arithmetic and single IEEE operations.
void rot_init_draw(const rot_init_tensor *tensor, uint64_t seed, rot_tensor_type type, size_t from,
                   size_t n, void *out);

// The tokenizer's files: read from `dir` (NULL: the built-in one), written into another folder.
typedef struct rot_init_tokenizer {
    struct rot_init_file {
        const char *name;
        const char *bytes;
        size_t n_bytes;
        char *owned; // NULL: built in
    } files[8];
    int n_files;
} rot_init_tokenizer;
// `gpt2`: the built-in one with GPT-2's expression and its one special token.
int rot_init_tokenizer_read(const char *dir, bool gpt2, rot_init_tokenizer *out, rot_token_ids *ids,
                            rot_err *err);
void rot_init_tokenizer_free(rot_init_tokenizer *tokenizer);

// JSON texts; the caller frees *out.
int rot_init_config_json(const rot_init_plan *plan, char **out, rot_err *err);
int rot_init_preprocessor_json(const rot_init_plan *plan, char **out, rot_err *err);
// `root` (taken; NULL: no memory) as the text of a file.
int rot_init_dump(json_t *root, char **out, rot_err *err);
// Rows of an embedding: the tokens, three more (<img_begin>, <img>, <img_end>), rounded up to 128.
int rot_init_vocab(const rot_token_ids *ids);

// A decoder alone (init_decoder.c): no tower, no preprocessor.
typedef struct rot_init_decoder {
    const char *name, *model_type;
    rot_text_shape text;
    int positions;
} rot_init_decoder;
bool rot_init_decoder_find(const char *arch, rot_init_decoder *out);
bool rot_init_decoder_is_gpt2(const rot_init_decoder *decoder);
// Sizes that the options replace, and the vocabulary. ROT_ERR_USAGE: they do not fit.
int rot_init_decoder_sizes(const rot_init_model_options *options, const rot_token_ids *ids,
                           rot_init_decoder *decoder, rot_err *err);
// The caller frees *out.
int rot_init_decoder_tensors(const rot_init_decoder *decoder, rot_init_tensor **out, size_t *n,
                             rot_err *err);
// config.json and generation_config.json; the caller frees both, of a failed call too.
int rot_init_decoder_json(const rot_init_decoder *decoder, const rot_token_ids *ids,
                          const char *type_name, char **config, char **generation, rot_err *err);

#endif
