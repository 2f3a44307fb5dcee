// The row-wise arithmetic of training, sixteen floats at a time, and the table of it: rows_body.h
// is compiled once for any machine and once with AVX-512. Nothing is contracted, so both give the
// same bits.
#ifndef ROT_KERNELS_TRAIN_ROWS_H
#define ROT_KERNELS_TRAIN_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/train.h"

// Which elements of a row dropout keeps, and times what; limit 0: all, as they are.
typedef struct rot_train_mask {
    uint64_t key;
    uint32_t limit;
    float factor;
} rot_train_mask;

// Keys and values of one key head of one sequence: row j at element j * stride.
typedef struct rot_train_keys {
    const void *k, *v;
    const void *next; // keys that are asked for next; NULL: not known
    bool narrow;      // bfloat16
    size_t stride, n, head_dim;
    float scale;
    rot_train_mask mask; // of the query's weights
} rot_train_keys;

typedef struct rot_train_rows {
    void (*add)(size_t n, const float *x, float *y);           // y += x
    void (*axpy)(size_t n, float a, const float *x, float *y); // y += a x
    void (*scale)(size_t n, float a, float *x);
    void (*round_bf16)(size_t n, const float *x, float *y); // bfloat16 values, as floats
    void (*narrow)(size_t n, const float *x, uint16_t *y);  // the same as bfloat16
    void (*widen)(size_t n, const uint16_t *x, float *y);

    void (*rms_norm)(size_t n, float eps, const float *x, const float *gamma, float *y);
    // dgamma, dbeta: NULL, or added to
    void (*rms_norm_back)(size_t n, float eps, const float *x, const float *gamma, const float *dy,
                          bool add, float *dx, float *dgamma);
    void (*layer_norm)(size_t n, float eps, const float *x, const float *gamma, const float *beta,
                       float *y);
    void (*layer_norm_back)(size_t n, float eps, const float *x, const float *gamma,
                            const float *dy, bool add, float *dx, float *dgamma, float *dbeta);
    void (*rope)(size_t half, const float *cosines, const float *sines, bool inverse, float *x);

    void (*swiglu)(size_t n, const float *in, float *out);
    void (*swiglu_back)(size_t n, const float *in, const float *dout, float *din);
    void (*gelu)(size_t n, const float *in, float *out);
    void (*gelu_back)(size_t n, const float *in, const float *dout, float *din);

    // out (head_dim) of one query; scores: space for keys->n. Returns the log of the sum.
    float (*attend)(const rot_train_keys *keys, const float *q, float *scores, float *out);
    // One query's dq (head_dim) written; dk, dv (.., stride) added to for keys from `first` on.
    void (*attend_back)(const rot_train_keys *keys, size_t first, const float *q, const float *out,
                        float lse, const float *dout, float *dq, float *dk, float *dv);

    // x = exp(scale x - top), top the largest scale x; returns the sum, and log sum exp in *lse.
    float (*soften)(size_t n, float scale, float *x, float *lse);
    void (*resoften)(size_t n, float scale, float lse, float *x); // x = exp(scale x - lse)
    // ds = p (ds - delta) scale, in place
    void (*soften_back)(size_t n, float scale, float delta, const float *p, float *ds);
    float (*dot)(size_t n, const float *x, const float *y);

    // Of one row: the loss; with `gradient` logits become weight * (softmax - one-hot).
    float (*cross_entropy)(size_t n, size_t label, bool gradient, float weight, float *logits);
    void (*dropout)(size_t n, uint64_t key, uint32_t limit, float factor, const float *x, bool add,
                    float *y);
    void (*adamw)(const rot_train_adamw *options, size_t n, float *value, const float *grad,
                  float *m, float *s);
} rot_train_rows;

extern const rot_train_rows rot_train_rows_c, rot_train_rows_avx512;

#endif
