// What a tower is made of; shared by tower.c (the walk) and tower_weights.c (loading).
#ifndef ROT_ENCODER_TOWER_PARTS_H
#define ROT_ENCODER_TOWER_PARTS_H

#include "encoder/tower.h"
#include "encoder/tower_order.h"

typedef struct rot_tower_norm {
    rot_buffer *gamma, *beta; // F32 (1, width); RMSNorm has no beta
} rot_tower_norm;

typedef struct rot_tower_block {
    rot_tower_norm norm1, norm2;
    rot_linear *qkv;  // width -> 3 width
    rot_linear *proj; // width -> width, adds to the residual
    rot_linear *fc1;  // width -> mlp_width; gated: -> 2 mlp_width, the gate first
    rot_linear *fc2;  // mlp_width -> width, adds to the residual
    bool windows;     // attention within windows
} rot_tower_block;

// From the residual stream after a block, or after the last one, to rows of the output.
typedef struct rot_tower_merger {
    int block;             // a tap's; the norm comes after the merge there
    rot_tower_norm norm;   // none: a projector
    rot_linear *fc1, *fc2; // 4 width -> between -> out_width
    rot_buffer *out;       // ACT (rows / merge^2, out_width)
} rot_tower_merger;

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
    STAGE_GATE,
    STAGE_FC2,
    STAGE_MERGER,
    STAGE_TAPS,
    STAGE_DOWNLOAD,
    N_STAGES
};

struct rot_tower {
    rot_backend *backend; // not ours
    const rot_tower_family *family;
    rot_vision_config config;
    size_t patch_values;     // channels * temporal * patch^2
    int side;                // of the position table
    float *positions;        // (n_positions, width); a class token is added to its first row
    rot_buffer *position_table; // the same, F32, where the backend interpolates; else NULL
    float *newline;          // (out_width), or NULL
    rot_linear *patch;       // patch_values -> width, adds to the positions
    rot_tower_norm pre_norm; // of the residual stream, before the first block
    rot_tower_block *blocks;
    size_t between; // width of the merger's middle
    rot_tower_merger merger;
    rot_tower_merger taps[ROT_MAX_LISTED]; // (n_taps) in the order of their blocks
    int n_taps;                            // 0 unless asked for
    // activations for `capacity` patch rows
    size_t capacity;
    rot_buffer *pixels;          // ACT (rows, patch_values)
    rot_buffer *x;               // F32 (rows, width): the residual stream
    rot_buffer *h, *q, *k, *v;   // ACT (rows, width)
    rot_buffer *qkv, *hidden;    // ACT (rows, 3 width), (rows, mlp_width)
    rot_buffer *gates;           // ACT (rows, 2 mlp_width), or NULL
    rot_buffer *cosines, *sines; // F32 (rows, head_dim / 2)
    rot_tower_order orders[2];   // of the batches under way
    bool profiled;
    rot_encoder_stage stages[N_STAGES];
    rot_map packed;         // what linears read that own no weight
    double packing_seconds; // of opening
    size_t weight_bytes;
};

void rot_tower_free_buffers(rot_tower *tower);
// Buffers for so many patch rows; what the weights take may not be there yet. ROT_ERR_NO_MEMORY
// tells a device's numbers.
int rot_tower_reserve(rot_tower *tower, size_t rows, rot_err *err);
// Bytes of the buffers that rot_tower_reserve would make.
uint64_t rot_tower_buffer_bytes(rot_tower *tower, size_t rows);

// tower_tables.c
void rot_tower_upload_runs(rot_tower *tower, rot_buffer *to, const rot_runs *runs, size_t width,
                           const float *from);
// Fills x, cosines and sines for a batch of this order; where a class token lies, the pixels too.
int rot_tower_upload_tables(rot_tower *tower, const rot_grid *grids, size_t n,
                            const rot_tower_order *order, rot_err *err);

#endif
