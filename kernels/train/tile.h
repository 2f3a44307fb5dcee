// Matrix products in registers with AVX-512: 12 rows by 32 columns at a time. The drivers that cut
// large products into such tiles are avx512.c and attention_blocks.c. Callers have asked
// rot_cpu.avx512 (and avx512_bf16 for the second kind).
#ifndef ROT_KERNELS_TRAIN_TILE_H
#define ROT_KERNELS_TRAIN_TILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ROT_TILE_ROWS = 12, ROT_TILE_COLUMNS = 32 };

// c (m, n) = a (m, k) b (k, n) [+ c] [+ bias (n)], n <= 32. Element (i, p) of a is at
// a[i * a_row + p * a_step], row p of b at b + p * b_row, of which n floats are read. Each
// element of c is one chain of fused multiply-adds over k in ascending order.
typedef struct rot_tile_f32 {
    size_t m, n, k;
    const float *a, *b, *bias;
    size_t a_row, a_step, b_row, ldc;
    float *c;
    bool add;
} rot_tile_f32;
void rot_tile_f32_run(const rot_tile_f32 *tile);

// The same of bfloat16 in pairs along k (VDPBF16PS): pair p of row i of a at a[i * a_row + p *
// a_step], pair p of 32 columns of b at b + 32 p. k counts pairs; a pair's first element is its low
// half.
typedef struct rot_tile_bf16 {
    size_t m, n, k;
    const uint32_t *a, *b;
    const float *bias;
    size_t a_row, a_step, ldc;
    float *c;
    bool add;
} rot_tile_bf16;
void rot_tile_bf16_run(const rot_tile_bf16 *tile);

// Pairs of bfloat16 out of floats, nearest even. `row`: n floats, the last pair filled with 0.
void rot_tile_pair_row(const float *x, size_t n, uint32_t *out);
// Of two rows of n floats, column by column; `second` NULL: zeros. Each `block` pairs of the result
// begin out_stride behind those before.
void rot_tile_pair_rows(const float *first, const float *second, size_t n, size_t block,
                        uint32_t *out, size_t out_stride);
// to (n, m), rows ldt apart = the transpose of from (m, n), rows ldf apart; 32-bit elements.
void rot_tile_transpose(const void *from, size_t ldf, size_t m, size_t n, void *to, size_t ldt);

#endif
