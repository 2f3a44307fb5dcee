// The families of vision towers as data: one table row per family says which tensors it has, how
// its config.json spells its sizes, and what differs in the walk. checkpoint*.c, tower*.c and
// init_model*.c read the row; none of them knows a family by name.
#ifndef ROT_ENCODER_FAMILY_H
#define ROT_ENCODER_FAMILY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"
#include "rotoscope/geometry.h"

enum {
    ROT_FAMILY_TYPES = 6,
    ROT_FAMILY_PREFIXES = 3,
    ROT_FAMILY_SIZES = 14,
    ROT_MAX_BLOCKS = 1000, // of a tower
    ROT_MAX_LISTED = 64    // blocks that a key of config.json lists
};

// Sizes of one tower; what a family lacks is 0.
typedef struct rot_vision_config {
    char model_type[32]; // "qwen3_vl"
    int depth, width, heads, mlp_width, out_width, in_channels;
    int used_depth;                   // blocks that the embeddings depend on: the first of them
    int patch_px, temporal, merge;    // pixels, frames, patches a side of a merge cell
    int n_positions;                  // rows of the learned table
    int taps[ROT_MAX_LISTED], n_taps; // deepstack: 0-based blocks
    int full[ROT_MAX_LISTED], n_full; // blocks whose attention has no windows
    int window_px;                    // side of a window of attention
    int tile_px;                      // side of a view of the tower; 0: as large as the image
    int n_pinpoints;
    int32_t pinpoints[ROT_MAX_PINPOINTS][2]; // heights and widths that tiles are laid in
    float norm_eps;
} rot_vision_config;

// Where the residual stream gets its positions from, before any rotation.
typedef enum rot_positions {
    ROT_POSITIONS_NONE,
    ROT_POSITIONS_GRID, // a square learned table, interpolated to the grid
    ROT_POSITIONS_CLASS // a learned row per patch of a view, and a class token before them
} rot_positions;

// A size of config.json: its key, range, transformers' default, and where it goes.
typedef struct rot_family_size {
    const char *key;
    int64_t low, high, fallback;
    size_t offset; // of an int in rot_vision_config
} rot_family_size;

typedef struct rot_tower_family {
    rot_model_family id;
    const char *model_types[ROT_FAMILY_TYPES]; // as config.json spells them, the usual ones first
    int n_whole; // of them: types of a whole model; the others are types of a tower's own config

    // config.json
    rot_family_size sizes[ROT_FAMILY_SIZES];
    const char *hidden_act; // the only one; the default too
    const char *full_key;   // list of blocks with full attention
    int full_fallback[4], n_full_fallback;

    // arithmetic
    bool rms;       // RMSNorm without bias instead of LayerNorm
    float norm_eps; // unless config.json says otherwise
    bool gated;     // MLP: mlp_out(silu(mlp_in[0]) * mlp_in[1])
    bool rotary;
    double rope_theta;
    rot_positions positions;
    rot_epilogue mlp, merger; // activations

    // Tensors; %d is the block. A name without an ending has a ".weight" and a ".bias", except for
    // RMSNorm, and for the patch embedding if patch_bias is not set.
    const char *prefixes[ROT_FAMILY_PREFIXES]; // "" counts; the published one first
    const char *patch, *table, *class_token, *pre_norm, *norm1, *qkv[3], *proj, *norm2, *mlp_in[2],
        *mlp_out, *post_norm, *merger_norm, *merger_in, *merger_out, *newline, *tap;
    bool patch_bias, frames; // frames: the patch kernel has a time axis
} rot_tower_family;

const rot_tower_family *rot_tower_family_of(const char *model_type); // NULL: none
// The usual model_types, separated by commas.
void rot_tower_families_list(char *out, size_t n_bytes);

// What a tensor is for: how random ones are drawn, and what counts.
typedef enum rot_tensor_role {
    ROT_ROLE_PATCH,
    ROT_ROLE_TABLE, // positions, class token
    ROT_ROLE_NORM,
    ROT_ROLE_QKV, // all three in one
    ROT_ROLE_Q_OR_K,
    ROT_ROLE_BRANCH, // adds to the residual stream
    ROT_ROLE_LINEAR,
    ROT_ROLE_ROW // a row of the output
} rot_tensor_role;

typedef enum rot_tensor_use {
    ROT_USE_OUTPUT, // the embeddings depend on it
    ROT_USE_CHECK,  // part of the tower, and must be there (deepstack mergers)
    ROT_USE_NONE    // written with a random checkpoint, never read
} rot_tensor_use;

typedef struct rot_tower_tensor {
    char name[128]; // canonical: without the prefix
    int n_dims;
    int64_t shape[8];
    rot_tensor_role role;
    rot_tensor_use use;
    bool bias;
} rot_tower_tensor;

// Every tensor of the tower, deepstack mergers last.
size_t rot_tower_tensor_count(const rot_vision_config *config);
void rot_tower_tensors(const rot_vision_config *config, rot_tower_tensor *out);

#endif
