// The arithmetic of training: a table of operations per backend, as kernels/backend.h has one for
// the encoder. `ref` is the specification; the others agree with it within the rounding of their
// order of accumulation. Memory is what both the caller and the backend address (on a CPU plain
// memory, on a GPU managed memory); large blocks come from `alloc`. A weight, which products read
// again and again, is a matrix in a form of the backend's own.
//
// Tensors are F32, row-major; where a width and a stride are given, row r begins at x + r * stride.
// Under ROT_PRECISION_BF16 both factors of a matrix product are rounded to bfloat16 (nearest, ties
// to even) on their way in; sums, results and everything else are F32, but for the cache of keys
// and values, which attention reads: rows of kv_heads * head_dim elements, F32, or rounded to
// bfloat16 (rot_train_cache_bytes).
//
// No result depends on the number of threads: work is cut into fixed chunks, and what chunks add up
// is added in their order. One call at a time on a backend; a call has ended on return. Outputs
// overlap inputs only where an operation says so. `add`: the result is added to what is there.
#ifndef ROT_KERNELS_TRAIN_H
#define ROT_KERNELS_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"

typedef struct rot_train rot_train;
typedef struct rot_train_weight rot_train_weight; // matrix (n_out, n_in), in the backend's form

// Vectors to normalise: `rows` rows of `groups` vectors of `width`; rows of x and dx are x_stride
// apart, those of y and dy y_stride.
typedef struct rot_train_vectors {
    size_t rows, groups, width, x_stride, y_stride;
} rot_train_vectors;

// Causal attention of n sequences, packed: counts[i] queries of sequence i come behind those of
// sequence i - 1, and their keys and values lie in the cache from row base[i] + past[i] on, behind
// past[i] earlier ones. Query j of sequence i sees rows base[i] .. base[i] + past[i] + j. Query
// head h reads key head h / (heads / kv_heads).
typedef struct rot_train_attention {
    size_t n;
    const int32_t *counts, *past;
    const size_t *base;
    size_t heads, kv_heads, head_dim;
    float scale;
    // Weight j of head h of query row r is kept, times 1 / (1 - dropout), if element j of the draws
    // of rot_random_key(keys[r], h) is not below `dropout`, as ops->dropout has it. keys NULL: none
    // is dropped.
    double dropout;
    const uint64_t *keys; // (rows)
} rot_train_attention;

// AdamW as torch.optim.AdamW writes it: v *= 1 - lr * decay; m, s moments with bias corrections
// 1 - beta^step; v -= lr / correction1 * m / (sqrt(s) / sqrt(correction2) + eps).
typedef struct rot_train_adamw {
    double lr, beta1, beta2, eps, decay;
    int64_t step; // 1 for the first
    double scale; // of the gradient, from clipping; 1: as it is
} rot_train_adamw;

typedef struct rot_train_ops {
    void (*close)(rot_train *train);

    // n floats, zero. NULL: no memory (the message names `what`).
    float *(*alloc)(rot_train *train, size_t n, const char *what, rot_err *err);
    void (*release)(rot_train *train, float *block);

    // Its values are set before it is read.
    int (*weight_new)(rot_train *train, size_t n_out, size_t n_in, rot_train_weight **out,
                      rot_err *err);
    void (*weight_free)(rot_train *train, rot_train_weight *weight);
    // Rows [first, first + n) become `values`: (n, n_in), or its transpose (n_in, n) if
    // `transposed`; rows of `values` are `stride` apart.
    int (*weight_set)(rot_train *train, rot_train_weight *weight, size_t first, size_t n,
                      const float *values, size_t stride, bool transposed, rot_err *err);

    // y (rows, n_out) = x (rows, n_in) W^T + bias (n_out); bias may be NULL.
    int (*linear)(rot_train *train, const rot_train_weight *weight, size_t rows, const float *x,
                  size_t x_stride, const float *bias, bool add, float *y, size_t y_stride,
                  rot_err *err);
    // dx (rows, n_in) = dy (rows, n_out) W
    int (*linear_back)(rot_train *train, rot_train_weight *weight, size_t rows, const float *dy,
                       size_t dy_stride, bool add, float *dx, size_t dx_stride, rot_err *err);
    // dw (m, n) += a^T b with a (rows, m), b (rows, n)
    int (*outer)(rot_train *train, size_t rows, size_t m, size_t n, const float *a, size_t a_stride,
                 const float *b, size_t b_stride, float *dw, size_t dw_stride, rot_err *err);
    // sums (n) += the sum over the rows of x (rows, n)
    void (*column_sums)(rot_train *train, size_t rows, size_t n, const float *x, size_t stride,
                        float *sums);

    // y = x / sqrt(mean of x^2 + eps) * gamma (width). y may be x if the strides are equal.
    void (*rms_norm)(rot_train *train, rot_train_vectors shape, float eps, const float *x,
                     const float *gamma, float *y);
    // dx (x_stride) from dy; dgamma (width) += its gradient, unless NULL. dx may be dy if the
    // strides are equal and nothing is added.
    int (*rms_norm_back)(rot_train *train, rot_train_vectors shape, float eps, const float *x,
                         const float *gamma, const float *dy, bool add, float *dx, float *dgamma,
                         rot_err *err);
    // y = (x - mean) / sqrt(variance + eps) * gamma + beta
    void (*layer_norm)(rot_train *train, rot_train_vectors shape, float eps, const float *x,
                       const float *gamma, const float *beta, float *y);
    int (*layer_norm_back)(rot_train *train, rot_train_vectors shape, float eps, const float *x,
                           const float *gamma, const float *dy, bool add, float *dx, float *dgamma,
                           float *dbeta, rot_err *err);

    // In place on x (rows, heads * 2 half): pair (i, i + half) of each head turns by the angle with
    // the cosine and sine in row r of the tables (rows, half); the other way if `inverse`, which is
    // also the backward.
    void (*rope)(rot_train *train, size_t rows, size_t heads, size_t half, const float *cosines,
                 const float *sines, bool inverse, float *x, size_t stride);

    // out (rows, heads * head_dim) = softmax(q k^T scale) v; lse (rows, heads) is the logarithm of
    // the sum of the exponentials, for the backward. k, v: the cache.
    int (*attention)(rot_train *train, const rot_train_attention *shape, const float *q,
                     const void *k, const void *v, float *out, float *lse, rot_err *err);
    // dq (rows, heads * head_dim) is written; dk, dv, F32 in the shape of the cache, are added to,
    // from row first[i] of sequence i on alone (nobody asks for those before).
    int (*attention_back)(rot_train *train, const rot_train_attention *shape, const int32_t *first,
                          const float *q, const void *k, const void *v, const float *out,
                          const float *lse, const float *dout, float *dq, float *dk, float *dv,
                          rot_err *err);
    // Row index[r] of the cache, of `width` elements, = from[r]; no index comes twice.
    void (*cache_put)(rot_train *train, size_t rows, size_t width, const float *from,
                      size_t from_stride, const int32_t *index, void *cache);

    // out (rows, width) = g / (1 + exp(-g)) * u of in (rows, 2 width), each row [g | u]
    void (*swiglu)(rot_train *train, size_t rows, size_t width, const float *in, float *out);
    // din (rows, 2 width) from dout (rows, width)
    void (*swiglu_back)(rot_train *train, size_t rows, size_t width, const float *in,
                        const float *dout, float *din);
    // out (rows, width) = in (1 + tanh(sqrt(2/pi) (in + 0.044715 in^3))) / 2
    void (*gelu)(rot_train *train, size_t rows, size_t width, const float *in, float *out);
    void (*gelu_back)(rot_train *train, size_t rows, size_t width, const float *in,
                      const float *dout, float *din);

    // to[r] = table[index[r]] (or +=), rows of `width`
    void (*gather)(rot_train *train, size_t rows, size_t width, const float *table,
                   size_t table_stride, const int32_t *index, bool add, float *to,
                   size_t to_stride);
    // table[index[r]] = from[r] (or +=, in the order of r)
    void (*scatter)(rot_train *train, size_t rows, size_t width, const float *from,
                    size_t from_stride, const int32_t *index, bool add, float *table,
                    size_t table_stride);
    // y = x, rows of `width`
    void (*take)(rot_train *train, size_t rows, size_t width, const float *x, size_t x_stride,
                 float *y, size_t y_stride);
    void (*copy)(rot_train *train, size_t n, const float *x, float *y);          // y = x
    void (*axpy)(rot_train *train, size_t n, float a, const float *x, float *y); // y += a x
    void (*scale)(rot_train *train, size_t n, float a, float *x);                // x *= a

    // y = x where element i of row r is kept, times 1 / (1 - p), else 0 (or += that): kept if the
    // draw of (keys[r], i) is not below p.
    void (*dropout)(rot_train *train, size_t rows, size_t width, double p, const uint64_t *keys,
                    const float *x, size_t x_stride, bool add, float *y, size_t y_stride);

    // losses[r] = log(sum exp(logits[r])) - logits[r][labels[r]]; with `weights` logits (rows, n)
    // become the gradient of the sum of weights[r] * losses[r].
    void (*cross_entropy)(rot_train *train, size_t rows, size_t n, const int32_t *labels,
                          const float *weights, float *logits, float *losses);

    void (*adamw)(rot_train *train, const rot_train_adamw *options, size_t n, float *value,
                  const float *grad, float *m, float *s);
} rot_train_ops;

struct rot_train {
    const rot_train_ops *ops;
    rot_precision precision;
    int threads;
    char identity[128];
};

// Of an element of the cache of keys and values.
static inline size_t rot_train_cache_bytes(const rot_train *train)
{
    return train->precision == ROT_PRECISION_BF16 ? sizeof(uint16_t) : sizeof(float);
}

// name: "auto" (the quickest that runs here), "ref", or another of the table in train/open.c.
// Honours ROT_CPU. threads 0: rot_threads_available(). ROT_ERR_USAGE: no such name.
int rot_train_open(const char *name, rot_precision precision, int threads, rot_train **out,
                   rot_err *err);
void rot_train_close(rot_train **train);

#endif
