// The families of decoders, as data: how config.json spells the sizes, how the tensors are called
// and which of the few alternatives a block takes.
#ifndef ROT_TRAINER_DECODER_FAMILY_H
#define ROT_TRAINER_DECODER_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "encoder/json.h"
#include "trainer/decoder.h"

typedef struct rot_decoder_family {
    const char *model_type;
    const char *text; // member of config.json with the text model's settings; NULL: the root
    bool layer_norm;  // else RMSNorm, without biases
    bool learned_positions; // else RoPE
    bool qk_norm;           // RMSNorm of each head's query and key
    bool gelu;              // gelu(x W), else silu(x Wg) * (x Wu)
    bool conv1d;            // weights lie transposed, (n_in, n_out)
    bool biases;            // of linears, always; else where attention_bias, mlp_bias say so
    bool tied;              // where config.json does not say

    // keys of config.json; NULL: the family has none
    struct {
        const char *d, *layers, *heads, *kv_heads, *head_dim, *mlp_width, *positions, *eps, *act;
        const char *act_value;
    } keys;
    // Of config.json: what is dropped of the sum of embeddings, of attention's weights, of what
    // attention and MLP add; and what they are where it does not say.
    struct {
        const char *embedding, *attention, *residual;
        double fallback;
    } dropouts;
    int64_t head_dim; // where config.json does not say; 0: d / heads

    // Tensors: prefix + name, prefix + layer number + name; a module's parameters are its name +
    // ".weight", ".bias". The first prefix is what transformers calls the module.
    const char *prefixes[4];
    const char *embedding, *position_table, *final_norm, *layer, *head;
    const char *attention_norm, *mlp_norm, *q_norm, *k_norm;
    const char *qkv[3], *o, *up[2], *down; // qkv[1] NULL: one linear [q | k | v]
} rot_decoder_family;

typedef struct rot_decoder_shape {
    rot_decoder_info info;
    double eps, rope_theta;
    bool attention_bias, mlp_bias;
    // rope_scaling of Llama 3; factor 0: none
    double factor, low_freq_factor, high_freq_factor, original_positions;
    double embedding_dropout, attention_dropout, residual_dropout;
} rot_decoder_shape;

// Reads DIR/config.json and, where it is, DIR/generation_config.json; *config is the former, to be
// released with json_decref. ROT_ERR_UNSUPPORTED: another model_type, or a setting that we lack.
int rot_decoder_read_config(const char *dir, json_t **config, const rot_decoder_family **family,
                            rot_decoder_shape *shape, rot_err *err);
// vocab_size alone: rows of the embedding.
int rot_decoder_read_vocab(const char *dir, int32_t *vocab, rot_err *err);
// inverse_frequencies (head_dim / 2): what a position is multiplied with, in the float32 arithmetic
// of transformers' modeling_rope_utils.py.
void rot_decoder_frequencies(const rot_decoder_shape *shape, float *inverse_frequencies);

#endif
