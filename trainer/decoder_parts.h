// Inside the decoder: what decoder_*.c and lora.c share.
//
// decoder.c opens and closes; decoder_load.c declares the parameters, gives them memory and reads
// the checkpoint; decoder_block.c is one block forward and backward; decoder_context.c holds
// sequences; decoder_loss.c is the embedding and the head; lora.c the adapters; decoder_save.c
// writes.
#ifndef ROT_TRAINER_DECODER_PARTS_H
#define ROT_TRAINER_DECODER_PARTS_H

#include "base/mem.h"
#include "encoder/safetensors.h"
#include "kernels/train.h"
#include "trainer/decoder_family.h"

// A norm's gamma and beta, F32 always; gradients where they train, else NULL.
typedef struct rot_decoder_norm {
    float *gamma, *beta, *dgamma, *dbeta; // (width)
} rot_decoder_norm;

// y[first ..] += scale * (dropout(x) A^T) B^T (Hu et al. 2021, as peft computes it)
typedef struct rot_lora {
    const char *module;        // "model.layers.0.self_attn.q_proj", as transformers calls it
    size_t n_in, n_out, first; // columns [first, first + n_out) of the linear's result
    float *a, *b, *da, *db;    // (r, n_in), (n_out, r)
    rot_train_weight *wa, *wb;
    uint64_t layer, name; // of the dropout's masks
} rot_lora;

// One matrix product of a block: up to three linears of the checkpoint that read the same rows.
typedef struct rot_decoder_linear {
    size_t n_in, n_out;
    bool conv1d;
    int n_parts;
    size_t parts_out[3]; // their rows, one behind the other
    rot_train_weight *weight;
    float *value, *grad;     // master (n_out, n_in), or (n_in, n_out) if conv1d; NULL: frozen
    float *bias, *bias_grad; // (n_out) or NULL
    rot_lora lora[3];        // a NULL: none
} rot_decoder_linear;

typedef struct rot_decoder_block {
    rot_decoder_norm attention_norm, mlp_norm, q_norm, k_norm;
    rot_decoder_linear qkv, o, up, down;
} rot_decoder_block;

// A parameter as declared: where its memory is to be named, and what fills it.
typedef struct rot_declared {
    const char *name;         // of the tensor
    const rot_tensor *tensor; // NULL: a LoRA matrix
    bool trained;
    int n_dims;
    int64_t shape[4];
    size_t n;
    float **value, **grad;
} rot_declared;

typedef struct rot_row { // of the embedding, in place of the checkpoint's
    int32_t id;
    float *values;
} rot_row;

struct rot_decoder {
    rot_decoder_shape shape;
    const rot_decoder_family *family;
    rot_train *train;
    rot_safetensors *file; // stays open: frozen tensors are written from it
    json_t *config;
    char *dir;
    const char *prefix; // of the tensors in the file
    bool train_all, train_embedding, checkpointing, dropout;
    uint32_t extra_rows;
    rot_lora_options lora; // targets copied
    size_t n_lora;

    rot_decoder_block *blocks; // (layers)
    rot_decoder_norm final_norm;
    const rot_tensor *embedding, *head_tensor; // head_tensor NULL: tied
    float *embedding_value, *embedding_grad;   // (vocab, d), NULL: frozen
    float *head_value, *head_grad;             // untied and trained; else NULL
    rot_train_weight *head;                    // (vocab, d)
    float *position_table, *position_grad;     // (positions, d), GPT-2's
    rot_row *rows;                             // frozen rows that were set
    size_t n_rows, rows_capacity;
    float *frequencies; // (head_dim / 2)

    rot_declared *declared;
    size_t n_declared, declared_capacity;
    rot_param *params;
    size_t n_params;
    float *values, *grads, *frozen; // the memory of all parameters
    size_t n_trained_floats;
    rot_arena names;
};

// What the backward of a block reads, one row per row of the pass.
typedef struct rot_block_state {
    float *x;   // (rows, d) what came in
    float *qkv; // (rows, heads + 2 kv_heads, head_dim) as the linear gave it
    float *q;   // (rows, heads, head_dim) normed and turned
    float *o;   // (rows, heads, head_dim) of the attention
    float *lse; // (rows, heads)
    float *x2;  // (rows, d) between attention and MLP
    float *gu;  // (rows, 2 mlp_width) gates and ups, (rows, mlp_width) under GELU
} rot_block_state;

// Work space of a pass, not kept.
typedef struct rot_block_work {
    float *norm, *dnorm, *dx; // (rows, d)
    float *k;                 // (rows, kv_heads, head_dim)
    float *act, *dact;        // (rows, mlp_width)
    float *dqkv, *dq, *d_o, *dgu;
    float *t, *dropped, *ddropped; // (rows, r), (rows, widest input) twice
    float *cosines, *sines;        // (rows, head_dim / 2)
} rot_block_work;

// Names of draws within a layer, behind those of adapters (lora.name).
typedef enum rot_drop {
    ROT_DROP_EMBEDDING = 16,
    ROT_DROP_ATTENTION,
    ROT_DROP_RESIDUAL,
    ROT_DROP_MLP
} rot_drop;

// One pass over rows of n sequences.
typedef struct rot_pass {
    size_t rows;
    rot_train_attention attention;
    const int32_t *cache_rows, *positions; // (rows)
    const int32_t *first;                  // (n) the first row of each sequence with a gradient
    const uint64_t *keys;                  // (rows) of dropout; NULL: none
    uint64_t *module_keys;                 // (rows) space
    rot_block_work work;
} rot_pass;

// decoder_block.c: y = dropout(x), or is added to, rows of d; x may be y. False: nothing is dropped
// in this pass, and y stays.
bool rot_decoder_drop(const rot_decoder *decoder, const rot_pass *pass, int64_t layer,
                      rot_drop drop, double p, const float *x, bool add, float *y);
// decoder_load.c
int rot_decoder_load(rot_decoder *decoder, rot_err *err);
// decoder_block.c. k, v: the cache of the layer. `again`: the cache has the rows already. `next`
// (rows, d): what goes into the next block; NULL: not wanted.
int rot_block_forward(rot_decoder *decoder, const rot_decoder_block *block, const rot_pass *pass,
                      const rot_block_state *state, void *k, void *v, bool again, float *next,
                      rot_err *err);
// work.dx (rows, d): the gradient of `next` on entry, of state->x on return.
int rot_block_backward(rot_decoder *decoder, rot_decoder_block *block, const rot_pass *pass,
                       const rot_block_state *state, const void *k, const void *v, float *dk,
                       float *dv, rot_err *err);
void rot_decoder_norm_forward(const rot_decoder *decoder, const rot_decoder_norm *norm, size_t rows,
                              const float *x, float *y);
int rot_decoder_norm_back(const rot_decoder *decoder, const rot_decoder_norm *norm, size_t rows,
                          const float *x, const float *dy, bool add, float *dx, rot_err *err);
// decoder_loss.c: row `id` of a frozen embedding or head, F32.
void rot_decoder_row(const rot_decoder *decoder, const rot_tensor *tensor, int32_t id, float *out);
// lora.c
bool rot_lora_wants(const rot_decoder *decoder, const char *module);
// ROT_ERR_USAGE: a target that no linear is called.
int rot_lora_check_targets(const rot_decoder *decoder, rot_err *err);
int rot_lora_read_config(rot_decoder *decoder, const char *adapter, rot_err *err);
// Initial values of every adapter, or those of the folder `adapter`.
int rot_lora_start(rot_decoder *decoder, const char *adapter, rot_err *err);
int rot_lora_update(rot_decoder *decoder, rot_lora *lora, rot_err *err);
int rot_lora_forward(const rot_decoder *decoder, const rot_lora *lora, const rot_pass *pass,
                     const float *x, float *y, size_t y_stride, rot_err *err);
int rot_lora_backward(const rot_decoder *decoder, const rot_lora *lora, const rot_pass *pass,
                      const float *x, const float *dy, size_t dy_stride, float *dx, rot_err *err);

#endif
