// What the backends of training that compute on the processor share: all take the drivers of ops.c
// and attention.c and bring their own matrix products.
#ifndef ROT_KERNELS_TRAIN_HOST_H
#define ROT_KERNELS_TRAIN_HOST_H

#include "base/cpu.h"
#include "kernels/train.h"
#include "kernels/train/rows.h"

typedef struct rot_train_host {
    rot_train base;
    rot_train_ops ops;
    const rot_train_rows *rows;
    rot_cpu cpu;
    unsigned char *space; // grows before a parallel region, stays until the backend closes
    size_t space_bytes;
} rot_train_host;

// How many threads are worth waking for so many multiplications: one for a few, as small models and
// decoding have them in every product.
static inline int rot_train_threads_for(const rot_train *train, size_t products)
{
    return products < 1 << 16 ? 1 : train->threads;
}
// Work space of n_bytes, shared by the calls: what the last one left is gone. NULL: no memory.
void *rot_train_space(rot_train_host *host, size_t n_bytes, rot_err *err);
// Fills in everything but the matrix products and weights.
void rot_train_host_ops(rot_train_ops *ops);
// A backend of `size` bytes that begins with a rot_train_host; closing releases it and its space.
int rot_train_host_new(size_t size, const rot_cpu *cpu, const rot_train_rows *rows,
                       const rot_train_ops *ops, const char *identity, rot_train **out,
                       rot_err *err);

// attention.c. The mask of the weights of query row r, head h.
rot_train_mask rot_train_mask_of(const rot_train_attention *shape, size_t row, size_t head);
int rot_train_attention_forward(rot_train *train, const rot_train_attention *shape, const float *q,
                                const void *k, const void *v, float *out, float *lse, rot_err *err);
int rot_train_attention_backward(rot_train *train, const rot_train_attention *shape,
                                 const int32_t *first, const float *q, const void *k, const void *v,
                                 const float *out, const float *lse, const float *dout, float *dq,
                                 float *dk, float *dv, rot_err *err);

// attention_blocks.c
int rot_train_blocks_forward(rot_train *train, const rot_train_attention *shape, const float *q,
                             const void *k, const void *v, float *out, float *lse, rot_err *err);
int rot_train_blocks_backward(rot_train *train, const rot_train_attention *shape,
                              const int32_t *first, const float *q, const void *k, const void *v,
                              const float *out, const float *lse, const float *dout, float *dq,
                              float *dk, float *dv, rot_err *err);

// ref.c, avx512.c, amx.c. ROT_ERR_UNSUPPORTED: the processor lacks what it takes.
int rot_train_ref_open(const rot_cpu *cpu, rot_precision precision, rot_train **out, rot_err *err);
int rot_train_avx512_open(const rot_cpu *cpu, rot_precision precision, rot_train **out,
                          rot_err *err);
int rot_train_amx_open(const rot_cpu *cpu, rot_precision precision, rot_train **out, rot_err *err);
// The same with its tiles in C (kernels/amx/tiles.h).
int rot_train_amx_emulated_open(const rot_cpu *cpu, rot_precision precision, rot_train **out,
                                rot_err *err);

#endif
