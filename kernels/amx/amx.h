// Inside the amx backend: packed layouts, weights, the kernels' interface, the emulation that tests
// open.
//
// Rows of a matrix product (A) lie in blocks of 32 x 32: block row, block column, then two tiles of
// 16 rows, each row 64 bytes. Columns past the width are zero, rows past the last one are nobody's.
// Weights (B) lie in blocks of 32 columns x 32 k: block column, block of k, then two tiles of 16
// columns, each row of a tile 16 columns of one pair of k (VNNI). Both are 2 KB a block.
#ifndef ROT_KERNELS_AMX_H
#define ROT_KERNELS_AMX_H

#include "kernels/backends.h"
#include "kernels/host.h"

enum {
    ROT_AMX_BLOCK = 32,   // rows and columns of a block of two by two tiles
    ROT_AMX_ELEMS = 1024, // of a block
    ROT_AMX_TILE = 512,   // elements of a tile
    ROT_AMX_ROWS = 256,   // most rows of a task: with 1024 of k they stay in the second-level cache
    ROT_AMX_K_CHUNK = 16, // blocks of k whose weights (32 KB) stay in the first-level cache
    ROT_AMX_K_WHOLE = 32, // most blocks of k that a task takes in one pass over its rows
    ROT_AMX_COLUMNS = 8   // most block columns of a task of several passes: their sums (256 KB) and
                          // a pass of its rows (256 KB) stay in the second-level cache
};

static inline size_t rot_amx_blocks(size_t n)
{
    return (n + ROT_AMX_BLOCK - 1) / ROT_AMX_BLOCK;
}

// Blocks of k of a pass over a task's rows.
static inline size_t rot_amx_pass(size_t k_blocks)
{
    return k_blocks > ROT_AMX_K_WHOLE ? ROT_AMX_K_CHUNK : ROT_AMX_K_WHOLE;
}

static inline size_t rot_amx_at(size_t width, size_t row, size_t column)
{
    return (row / 32 * rot_amx_blocks(width) + column / 32) * ROT_AMX_ELEMS + row % 32 * 32 +
           column % 32;
}

// layout.c. Plain rows of n elements from or to packed ones; to: also zeros up to the block's end.
void rot_amx_put_row(uint16_t *packed, size_t width, size_t row, const uint16_t *from);
// n elements of the tensor (rows, width) in row-major order, the first being element `first`.
void rot_amx_get(const uint16_t *packed, size_t width, size_t first, size_t n, uint16_t *to);
// Columns [from, from + n) of b (columns, k), row-major, as n / 32 block columns of weights.
void rot_amx_pack_rows(const uint16_t *b, size_t columns, size_t k, uint16_t *packed);
// The same of b (k, columns).
void rot_amx_pack_columns(const uint16_t *b, size_t k, size_t columns, uint16_t *packed);

// Where a product's rows of [q | k | v] go, heads of 64: element of a row's first head, and the
// step to its next one. Tables (rows, 32).
typedef struct rot_amx_split {
    const float *cosines, *sines;
    size_t heads;
    uint16_t *q, *k, *v;
    const size_t *to, *step; // (rows)
} rot_amx_split;

struct rot_linear {
    size_t n_in, n_out;
    rot_epilogue epilogue;
    const uint16_t *weight; // [n_blocks][k_blocks][1024]
    uint16_t *own_weight;   // the same, or NULL where it is another's
    float *bias;            // (32 n_blocks)
};

// weights.c: as kernels/backend.h says.
int rot_amx_linear_new(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                       const float *weight, const float *bias, rot_linear **out, rot_err *err);
int rot_amx_linear_new_bf16(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                            const uint16_t *weight, const float *bias, rot_linear **out,
                            rot_err *err);
void rot_amx_linear_packed(const rot_backend *backend, const rot_linear *linear, rot_packed *out);
int rot_amx_linear_new_packed(rot_backend *backend, size_t n_in, size_t n_out,
                              rot_epilogue epilogue, const rot_packed *packed, const float *bias,
                              rot_linear **out, rot_err *err);
void rot_amx_linear_free(rot_backend *backend, rot_linear *linear);

// One task of a linear: up to 256 rows by some block columns.
typedef struct rot_amx_task {
    const uint16_t *a; // packed (rows, k): [row block][k_blocks][1024]
    const uint16_t *b; // packed weight of the task's columns: [n_blocks][k_blocks][1024]
    const float *bias; // of the task's columns
    size_t rows, k_blocks, n_blocks;
    rot_epilogue epilogue;
    const rot_amx_split *split; // NULL: out as the epilogue says; else its only output
    size_t row, column;         // of the whole product: the task's first row and first block column
    uint16_t *out_act;          // the task's first row block and column block
    size_t out_blocks;          // block columns of that tensor
    float *out_f32;             // its first row and column, for ROT_EPILOGUE_ADD
    size_t out_width;           // of that tensor
    size_t n_columns;           // of the task, not padded
    const uint16_t *next; // the rows that this thread's next task is likely to read; NULL: none
    float *sums;          // rot_amx_sums_floats
} rot_amx_task;

size_t rot_amx_sums_floats(size_t k_blocks, size_t n_blocks);

// Attention of one head of one segment: q, k, v (n, dim) plain; out packed (rows, width), from
// `row` and `column` on.
typedef struct rot_amx_head {
    const uint16_t *q, *k, *v;
    size_t n, dim;
    float scale;
    uint16_t *out;
    size_t width, row, column;
    unsigned char *space;    // rot_amx_head_bytes
    const uint16_t *next[3]; // q, k, v of the head that this thread is likely to take next,
    size_t next_elems;       // of each; 0: none
} rot_amx_head;

size_t rot_amx_head_bytes(size_t n, size_t dim);

// LayerNorm of rows of x (rows, width), or RMSNorm where beta is NULL; out packed.
typedef struct rot_amx_norm {
    const float *x, *gamma, *beta;
    size_t width;
    float eps;
    uint16_t *out;
} rot_amx_norm;

// The functions that contain tile operations or their rounding, compiled with instructions and with
// the emulation.
typedef struct rot_amx_kernels {
    const char *isa; // in the identity
    // Each sets the tiles up and releases them: what else ran in between does not matter.
    void (*linear)(const rot_amx_task *task);
    void (*attention)(const rot_amx_head *head);
    void (*norm)(const rot_amx_norm *norm, size_t row);
} rot_amx_kernels;

extern const rot_amx_kernels rot_amx_real, rot_amx_emulated;

#endif
