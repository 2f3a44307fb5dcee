// The language model that is trained: a decoder-only transformer from a Hugging Face folder (Qwen3
// and the text part of Qwen3-VL, Llama 3, GPT-2), run forward over packed rows with a cache of keys
// and values, and backward.
//
// Everything that the methods do is made of a few calls. A context holds n sequences. A forward
// appends rows to some of them, with `save` keeping what the backward needs; a backward undoes the
// latest saved forward that was not gone back through yet, and gives the gradient of its inputs. So
//   - a rollout is a forward of the prompt and one of one row per step, without saving;
//   - a supervised pass is one saved forward and one backward;
//   - Coconut's m + 1 passes are m + 1 saved forwards and as many backwards in the opposite order:
//     the gradient of a latent's input is added to that of the hidden state that it was;
//   - RoT's Stage I answer pass keeps the question's rows of the rollout (truncate) and saves the
//     rest alone, because nothing before the first latent needs a gradient;
//   - RoT's Stage II rollout, whose fed-back inputs are detached, has the graph of ONE forward over
//     the same inputs: roll out without saving, truncate to 0, run the same rows saved.
// Gradients with respect to the keys and values of earlier rows are kept by the context and reach
// those rows when the backward comes to the forward that made them; rows that were not saved
// swallow them.
//
// Rows are F32 (rows, d), row-major, in memory of the caller. Gradients of parameters are added to
// rot_param.grad until rot_decoder_zero_grad. No result depends on the number of threads. A decoder
// and its contexts belong to one thread at a time.
#ifndef ROT_TRAINER_DECODER_H
#define ROT_TRAINER_DECODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"
#include "rotoscope/error.h"

typedef struct rot_decoder rot_decoder;
typedef struct rot_context rot_context;

typedef struct rot_lora_options {
    int r;          // 0: no adapter
    double alpha;   // scale = alpha / r
    double dropout; // of the adapter's input, in [0, 1)
    // Names of the linears as the checkpoint calls them, with commas: "q_proj,k_proj,v_proj,o_proj"
    const char *targets;
    uint64_t seed; // of A (Kaiming-uniform with a = sqrt 5, as peft); B begins as 0
} rot_lora_options;

typedef struct rot_decoder_options {
    size_t size;             // sizeof(rot_decoder_options)
    const char *checkpoint;  // folder: config.json, *.safetensors
    const char *adapter;     // PEFT adapter folder to load, or NULL
    const char *backend;     // "auto", "ref", "avx512"
    rot_precision precision; // of matrix products; F32: exact
    int threads;             // 0: as many as rot_threads_available()
    bool train_all;          // every weight has an F32 master and a gradient
    bool train_embedding;    // so has the embedding, and the tied head
    rot_lora_options lora;
    bool checkpointing; // keep the inputs of blocks alone and compute the rest again
    bool dropout; // config.json's dropouts too, where rot_context_dropout gives keys
    uint32_t extra_rows; // of the embedding and the head, behind the checkpoint's; 0 at first
} rot_decoder_options;
rot_decoder_options rot_decoder_options_default(void);

typedef struct rot_decoder_info {
    char model_type[32];
    int32_t d, layers, heads, kv_heads, head_dim, mlp_width;
    int32_t vocab;     // rows of the embedding and logits of a row, extra ones included
    int32_t positions; // sequences may be this long
    bool tied;
    int32_t eos[4], n_eos, bos, pad; // of config.json and generation_config.json; -1: none
    int64_t n_parameters, n_trained;
} rot_decoder_info;

// ROT_ERR_MISSING: no such folder or file; ROT_ERR_FORMAT: a tensor that is missing, misshapen, not
// finite or truncated, named; ROT_ERR_UNSUPPORTED: model_type, says which there are; a backend.
int rot_decoder_open(const rot_decoder_options *options, rot_decoder **out, rot_err *err);
void rot_decoder_close(rot_decoder **decoder);
const rot_decoder_info *rot_decoder_get_info(const rot_decoder *decoder);

// What trains, in a fixed order; names as in the checkpoint (LoRA's as peft has them).
typedef struct rot_param {
    const char *name;
    int n_dims;
    int64_t shape[4];
    size_t n;    // elements
    float *value; // F32 master (n)
    float *grad;  // (n)
} rot_param;
const rot_param *rot_decoder_params(rot_decoder *decoder, size_t *n);
void rot_decoder_zero_grad(rot_decoder *decoder);
// After the masters were changed: the copies that compute are made again.
int rot_decoder_update(rot_decoder *decoder, rot_err *err);

// A Hugging Face folder with the current weights (of `type` of the checkpoint; masters in F32 if
// `masters`), config.json included; the same with every adapter added to its weight; and a PEFT
// adapter folder. Files are written whole and synced;
// the folder is to be empty and is the caller's to move into place.
int rot_decoder_save(const rot_decoder *decoder, const char *dir, bool masters, rot_err *err);
int rot_decoder_save_merged(const rot_decoder *decoder, const char *dir, rot_err *err);
int rot_decoder_save_adapter(const rot_decoder *decoder, const char *dir, rot_err *err);

// Embeddings of ids[n] into out (n, d), without positions (GPT-2 adds its own in the forward).
int rot_decoder_embed(const rot_decoder *decoder, const int32_t *ids, size_t n, float *out,
                      rot_err *err);
// d_rows (n, d) added to the gradient of the embedding, if it trains.
void rot_decoder_embed_backward(rot_decoder *decoder, const int32_t *ids, size_t n,
                                const float *d_rows);
// Row `id` of the embedding, and of an untied head, is replaced by row[d].
int rot_decoder_set_row(rot_decoder *decoder, int32_t id, const float *row, rot_err *err);

// A context for n sequences; capacity[i] rows of sequence i at most. `keep_grad`: forwards may be
// saved.
int rot_context_open(rot_decoder *decoder, size_t n, const int32_t *capacity, bool keep_grad,
                     rot_context **out, rot_err *err);
void rot_context_close(rot_context **context);
// The context as if it were opened anew, for other sequences. Its memory stays and grows where they
// need more. After an error it can be reset or closed, nothing else.
int rot_context_reset(rot_context *context, size_t n, const int32_t *capacity, rot_err *err);
// LoRA's dropout, and the model's if it was opened with it, from now on: masks are a function of
// this seed, keys[i] of sequence i, position, layer, module and element, so that rows run again
// have the same ones. keys NULL: no dropout,
// which is also how a context begins.
void rot_context_dropout(rot_context *context, uint64_t seed, const uint64_t *keys);
// Rows that sequence i has.
int32_t rot_context_length(const rot_context *context, size_t i);
// Forgets the rows of sequence i from lengths[i] on, and every saved forward.
void rot_context_truncate(rot_context *context, const int32_t *lengths);

// counts[i] rows are appended to sequence i (0: none), those of sequence 0 first: inputs (sum of
// counts, d). Position ids go on from the length of the sequence. hidden (sum of counts, d): after
// the final norm; may be NULL. ROT_ERR_TOO_LARGE: over a capacity or the model's positions.
int rot_context_forward(rot_context *context, const int32_t *counts, const float *inputs, bool save,
                        float *hidden, rot_err *err);
// The latest saved forward: d_hidden (rows, d), NULL: zeros; d_inputs (rows, d), or NULL if
// nobody wants it. Takes the saved forward away; the rows stay in the cache: the caller truncates
// before it goes on.
int rot_context_backward(rot_context *context, const float *d_hidden, float *d_inputs,
                         rot_err *err);

// logits (n, vocab) of hidden (n, d).
int rot_decoder_logits(rot_decoder *decoder, const float *hidden, size_t n, float *logits,
                       rot_err *err);
// Cross entropy of the next token, labels[n] in [0, vocab): losses (n) in nats. With d_hidden (n,
// d): the gradient of the sum of weights[i] * losses[i], and that of the head if it trains. Never
// holds more than a chunk of logits.
int rot_decoder_cross_entropy(rot_decoder *decoder, const float *hidden, const int32_t *labels,
                              const float *weights, size_t n, float *losses, float *d_hidden,
                              rot_err *err);

#endif
