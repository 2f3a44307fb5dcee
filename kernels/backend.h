// One interface to all arithmetic: a backend owns its buffers, operations take them. `ref` is the
// specification (kernels/ref), `onednn` and `amx` the quick ones, `cuda` the one on GPUs; a backend
// for other hardware adds a table of its own and nothing else.
//
// Tensors are row-major (rows, width). Two kinds of element: ROT_ELEM_F32 (residual stream, tables)
// and ROT_ELEM_ACT, what matrix products read: bfloat16 values under ROT_PRECISION_BF16, float32
// under ROT_PRECISION_F32. Rounding points under BF16, the same in every backend: weights and
// inputs of a matrix product are bfloat16, products are accumulated in float32; an ACT result is
// rounded once, after its epilogue; residual, norm statistics and softmax are float32.
//
// Exactness. Every backend is batch-invariant: the bits of a row (of a segment, for attention)
// depend on that row (segment) alone, not on the other rows, on where in the buffer it lies or on
// the number of threads. `ref` gives the same bits on every machine. Other backends agree with
// `ref` within the rounding of their accumulation order, and with themselves wherever
// rot_backend.identity is equal.
//
// Threads: one call at a time on a backend; a call uses up to `threads` threads and has ended on
// return. Aliasing: outputs never overlap inputs, except where an operation says that it works in
// place.
#ifndef ROT_KERNELS_BACKEND_H
#define ROT_KERNELS_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/pixels.h"
#include "rotoscope/error.h"

typedef enum rot_precision { ROT_PRECISION_F32, ROT_PRECISION_BF16 } rot_precision;
typedef enum rot_elem { ROT_ELEM_F32, ROT_ELEM_ACT } rot_elem;

// What a linear does with its sum y = in W^T + b before it writes.
typedef enum rot_epilogue {
    ROT_EPILOGUE_NONE,       // ACT out = y
    ROT_EPILOGUE_GELU_TANH,  // ACT out = y (1 + tanh(sqrt(2/pi) (y + 0.044715 y^3))) / 2
    ROT_EPILOGUE_GELU_ERF,   // ACT out = y (1 + erf(y / sqrt 2)) / 2
    ROT_EPILOGUE_GELU_QUICK, // ACT out = y / (1 + exp(-1.702 y))
    ROT_EPILOGUE_ADD         // F32 out += y, in place
} rot_epilogue;

typedef struct rot_backend rot_backend;
typedef struct rot_buffer rot_buffer; // memory of a backend
typedef struct rot_linear rot_linear; // packed weight (n_out, n_in), bias (n_out), epilogue

// Rows of a packed batch: segment i holds rows [starts[i], starts[i + 1]); starts[0] is 0.
typedef struct rot_segments {
    const int32_t *starts; // n + 1
    int32_t n;
} rot_segments;

// Shape of the attention operations: width = heads * head_dim; `half` = head_dim / 2.
typedef struct rot_heads {
    int32_t heads, head_dim;
} rot_heads;

// A packed weight as bytes that a file may keep. What they mean is the backend's: the same where
// its identity, its precision, the processor and `layout` are the same.
typedef struct rot_packed {
    const void *bytes; // at 64
    size_t n_bytes;
    uint8_t layout[16];
} rot_packed;
enum { ROT_PACKED_VERSION = 1 }; // another one where a backend packs otherwise

// What interpolate adds up: rows `at` of a table, times `part`.
typedef struct rot_taps {
    int32_t at[4];
    float part[4];
} rot_taps;

enum { ROT_SPLIT_DIM = 64 }; // the head_dim that linear_split takes

typedef struct rot_backend_ops {
    void (*close)(rot_backend *backend);

    // A buffer of at least `rows` rows; a backend rounds the rows up as its operations need, so
    // that they may write rows past the last one of a batch. Contents are undefined.
    int (*buffer_new)(rot_backend *backend, rot_elem elem, size_t rows, size_t width,
                      rot_buffer **out, rot_err *err);
    void (*buffer_free)(rot_backend *backend, rot_buffer *buffer);
    // Rows [row, row + n) from float32; an ACT buffer rounds to nearest even.
    void (*upload)(rot_backend *backend, rot_buffer *buffer, size_t row, size_t n,
                   const float *rows);
    // Rows [row, row + n) in the buffer's own type: float32, or bfloat16 for ACT under BF16.
    void (*download)(rot_backend *backend, const rot_buffer *buffer, size_t row, size_t n,
                     void *rows);

    // Packs a weight (n_out, n_in), row-major as torch.nn.Linear keeps it, and a bias (n_out). Both
    // may be released afterwards. All values are finite.
    int (*linear_new)(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                      const float *weight, const float *bias, rot_linear **out, rot_err *err);
    // The same from bfloat16 values, without a copy in float32. NULL: use linear_new.
    int (*linear_new_bf16)(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                           const uint16_t *weight, const float *bias, rot_linear **out,
                           rot_err *err);
    // The packed weight of a linear; valid as long as the linear. NULL: the backend gives none.
    void (*linear_packed)(const rot_backend *backend, const rot_linear *linear, rot_packed *out);
    // A linear over such bytes, which are read where they lie and must live longer.
    // ROT_ERR_UNSUPPORTED: not the size or the layout that this backend packs this weight in.
    int (*linear_new_packed)(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                             const rot_packed *packed, const float *bias, rot_linear **out,
                             rot_err *err);
    void (*linear_free)(rot_backend *backend, rot_linear *linear);
    // in: ACT (rows, n_in); out (rows, n_out) as the epilogue says. Either buffer may be of another
    // width as long as it holds that many elements: merging 4 rows into one is a reshape.
    int (*linear)(rot_backend *backend, const rot_linear *linear, size_t rows, const rot_buffer *in,
                  rot_buffer *out, rot_err *err);

    // out (rows, width) = (x - mean) / sqrt(var + eps) * gamma + beta, x F32 (rows, width), gamma
    // and beta F32 (1, width); statistics over each row in float32, variance by the second pass.
    // out is ACT, or F32 and not rounded: then it may be x itself.
    void (*layer_norm)(rot_backend *backend, size_t rows, size_t width, float eps,
                       const rot_buffer *x, const rot_buffer *gamma, const rot_buffer *beta,
                       rot_buffer *out);
    // out ACT (rows, width) = x / sqrt(mean of x^2 + eps) * gamma: F32 x and gamma as above, one
    // rounding, after gamma.
    void (*rms_norm)(rot_backend *backend, size_t rows, size_t width, float eps,
                     const rot_buffer *x, const rot_buffer *gamma, rot_buffer *out);
    // out ACT (rows, width) = g / (1 + exp(-g)) * u of in ACT (rows, 2 width), each row [g | u];
    // in float32, rounded once.
    void (*swiglu)(rot_backend *backend, size_t rows, size_t width, const rot_buffer *in,
                   rot_buffer *out);

    // Splits qkv ACT (rows, 3 width), each row [q | k | v], into head-major q, k, v ACT: segment s,
    // head h is one block (rows of s, head_dim) at element (starts[s] * heads + h * rows of s) *
    // head_dim. q and k are rotated on the way: with c, s = cosines and sines F32 (rows, half) of
    // the row, pair (i, i + half) becomes (x_i c_i - x_{i+half} s_i, x_{i+half} c_i + x_i s_i), in
    // float32, rounded once.
    void (*rope_split)(rot_backend *backend, const rot_segments *segments, rot_heads shape,
                       const rot_buffer *qkv, const rot_buffer *cosines, const rot_buffer *sines,
                       rot_buffer *q, rot_buffer *k, rot_buffer *v);

    // linear and rope_split in one, with the same bits, where head_dim is ROT_SPLIT_DIM; rows are
    // those of the segments. NULL: one after the other.
    int (*linear_split)(rot_backend *backend, const rot_linear *linear, const rot_buffer *in,
                        const rot_segments *segments, rot_heads shape, const rot_buffer *cosines,
                        const rot_buffer *sines, rot_buffer *q, rot_buffer *k, rot_buffer *v,
                        rot_err *err);

    // out ACT (rows, width), head h in columns [h head_dim, (h + 1) head_dim): softmax(q k^T scale)
    // v within each segment and head, no mask. Scores, exp and sum in float32; exp(score -
    // maximum), not divided yet, is rounded to ACT for the product with v, whose float32 sum is
    // divided by the sum of the exponentials before their rounding. q, k, v: as rope_split writes
    // them.
    int (*attention)(rot_backend *backend, const rot_segments *segments, rot_heads shape,
                     float scale, const rot_buffer *q, const rot_buffer *k, const rot_buffer *v,
                     rot_buffer *out, rot_err *err);

    // What only backends on a device of their own have; NULL elsewhere. There a call may return
    // before it has ended, in the order of the calls all the same, and what a call without a result
    // met is told by the next one that has one.

    // Bytes of the device that buffers and weights may take; before the first of them.
    // ROT_ERR_NO_MEMORY: more than are free.
    int (*limit)(rot_backend *backend, uint64_t bytes, rot_err *err);
    // ROT_ERR_NO_MEMORY, with both numbers, where so many bytes more are not to be had.
    int (*plan)(const rot_backend *backend, uint64_t bytes, rot_err *err);
    // Waits until all calls have ended.
    int (*synchronise)(rot_backend *backend, rot_err *err);
    // Starts to download rows [0, rows) of n ACT buffers, as they are after the calls before, and
    // returns; slot is 0 or 1. `receive` waits for them: rows, one buffer's after another's, valid
    // until the next `send` to the slot. In between only products write these buffers.
    int (*send)(rot_backend *backend, rot_buffer *const *buffers, int n, size_t rows, int slot,
                rot_err *err);
    int (*receive)(rot_backend *backend, int slot, const void **rows, rot_err *err);
    // out ACT (sum of grid_h * grid_w, 3 temporal patch_px^2): the patch rows of grey images, one
    // image after another, as rot_geometry_pixels makes them and upload rounds them.
    int (*cut)(rot_backend *backend, const rot_pixel_image *images, size_t n,
               const rot_pixel_cut *cut, rot_buffer *out, rot_err *err);
    // out F32 (rows, width) = a p0 + b p1 + c p2 + d p3 of rows a to d of table F32 (.., width), in
    // this order and without fused multiply-adds.
    int (*interpolate)(rot_backend *backend, size_t rows, size_t width, const rot_buffer *table,
                       const rot_taps *taps, rot_buffer *out, rot_err *err);
    // How products are computed, a line per shape that linear_new has seen: bits depend on it.
    void (*choices)(const rot_backend *backend, char *out, size_t capacity);
    // What a benchmark should say beside its figures, in a line: bits do not depend on it.
    void (*note)(const rot_backend *backend, char *out, size_t capacity);
} rot_backend_ops;

struct rot_backend {
    const rot_backend_ops *ops;
    rot_precision precision;
    int threads;
    size_t batch_rows;  // that keep a device busy, and for which buffers are made; 0: as one likes
    char identity[128]; // name, instruction set, library version, version of the numerics
};

// name: "auto", "ref", "onednn", "amx" or "cuda". auto is for BF16 the first of cuda, amx, onednn
// that can run, else ref. Honours ROT_CPU, under which auto leaves cuda out. ROT_ERR_UNSUPPORTED: a
// pair that does not exist (only ref computes in float32) or that this machine or this build lacks;
// ROT_ERR_USAGE: another name.
int rot_backend_open(const char *name, rot_precision precision, int threads, rot_backend **out,
                     rot_err *err);
void rot_backend_close(rot_backend **backend);
// The identity that rot_backend_open would give, without opening.
int rot_backend_identity(const char *name, rot_precision precision, char identity[128],
                         rot_err *err);

#endif
