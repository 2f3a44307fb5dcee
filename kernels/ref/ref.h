// Inside the reference backend. ACT elements are kept as float32 whose value is a bfloat16 under
// BF16, so that one piece of code serves both precisions.
#ifndef ROT_KERNELS_REF_H
#define ROT_KERNELS_REF_H

#include "kernels/backends.h"
#include "kernels/host.h"

enum {
    ROT_REF_PANEL = 32, // columns of a packed panel
    ROT_REF_ROWS = 64   // rows of a task
};

// c (rows, 32) += a (rows, k), rows lda apart, times a panel (k, 32). Each element of c is a chain
// of c = c + a * b over k in ascending order, each operation rounded: no fused multiply-add, so
// that any machine can repeat it. rows is free.
typedef void (*rot_ref_tile)(const float *a, size_t lda, size_t rows, const float *panel, size_t k,
                             float *c);
rot_ref_tile rot_ref_tile_for(const rot_cpu *cpu);

// Panels of b (n, k): panel p, row k, column j holds b[(32 p + j) ldb + k]; columns past n are 0.
void rot_ref_pack_rows(const float *b, size_t ldb, size_t n, size_t k, float *panels);
// The same of b (k, n), that is already transposed.
void rot_ref_pack_columns(const float *b, size_t ldb, size_t k, size_t n, float *panels);

typedef struct rot_ref {
    rot_backend base;
    rot_ref_tile tile;
    float *workspace; // one piece per thread, for attention
    size_t workspace_floats;
} rot_ref;

// rows.c
void rot_ref_layer_norm_row(const float *x, size_t width, float eps, const float *gamma,
                            const float *beta, bool round, float *out);
void rot_ref_rms_norm_row(const float *x, size_t width, float eps, const float *gamma, bool round,
                          float *out);
void rot_ref_swiglu_row(const float *in, size_t width, bool round, float *out);
void rot_ref_epilogue_row(rot_epilogue epilogue, bool round, const float *sum, const float *bias,
                          size_t n, float *out);
void rot_ref_rope_row(const float *x, const float *cosines, const float *sines, size_t half,
                      bool round, float *out);
// p = exp(score * scale - maximum) in place, rounded to bfloat16 if `round`; returns the sum of the
// exponentials before that. Sixteen sums, element i in sum i mod 16, then pairwise.
float rot_ref_softmax_row(float *scores, size_t n, float scale, bool round);

// attention.c
int rot_ref_attention(rot_backend *backend, const rot_segments *segments, rot_heads shape,
                      float scale, const rot_buffer *q, const rot_buffer *k, const rot_buffer *v,
                      rot_buffer *out, rot_err *err);

#endif
