// What a tower is made of; shared by tower.c (the walk) and tower_weights.c (loading).
#ifndef ROT_ENCODER_TOWER_PARTS_H
#define ROT_ENCODER_TOWER_PARTS_H

#include "encoder/tower.h"

// What differs between model families of the same plan: patches, blocks of norm, attention, norm,
// MLP, then a merger of merge x merge patches.
enum { ROT_FAMILY_TYPES = 6 };

typedef struct rot_tower_family {
    const char *model_types[ROT_FAMILY_TYPES]; // as config.json spells them, the usual one first
    float norm_eps;
    double rope_theta;
    rot_epilogue mlp, merger; // activations
} rot_tower_family;

const rot_tower_family *rot_tower_family_of(const char *model_type); // NULL: none

typedef struct rot_tower_norm {
    rot_buffer *gamma, *beta; // F32 (1, width)
} rot_tower_norm;

typedef struct rot_tower_block {
    rot_tower_norm norm1, norm2;
    rot_linear *qkv;  // width -> 3 width
    rot_linear *proj; // width -> width, adds to the residual
    rot_linear *fc1;  // width -> mlp_width
    rot_linear *fc2;  // mlp_width -> width, adds to the residual
} rot_tower_block;

enum {
    STAGE_TABLES,
    STAGE_UPLOAD,
    STAGE_PATCH,
    STAGE_NORM,
    STAGE_QKV,
    STAGE_ROPE,
    STAGE_ATTENTION,
    STAGE_PROJ,
    STAGE_FC1,
    STAGE_FC2,
    STAGE_MERGER,
    STAGE_DOWNLOAD,
    N_STAGES
};

struct rot_tower {
    rot_backend *backend; // not ours
    const rot_tower_family *family;
    rot_vision_config config;
    size_t patch_values; // channels * temporal * patch^2
    int side;            // of the position table
    float *positions;    // (side * side, width)
    rot_linear *patch;   // patch_values -> width, adds to the positions
    rot_tower_block *blocks;
    rot_tower_norm merger_norm;
    rot_linear *merger_fc1, *merger_fc2; // 4 width -> 4 width -> out_width
    // activations for `capacity` patch rows
    size_t capacity;
    rot_buffer *pixels;          // ACT (rows, patch_values)
    rot_buffer *x;               // F32 (rows, width): the residual stream
    rot_buffer *h, *q, *k, *v;   // ACT (rows, width)
    rot_buffer *qkv, *hidden;    // ACT (rows, 3 width), (rows, mlp_width)
    rot_buffer *cosines, *sines; // F32 (rows, head_dim / 2)
    rot_buffer *out;             // ACT (rows / merge^2, out_width)
    rot_encoder_stage stages[N_STAGES];
};

void rot_tower_free_buffers(rot_tower *tower);

#endif
