// The tensor-core operations of the attention kernel: as instructions, and in C over a whole warp.
// Which lane holds what: PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type" and
// "ldmatrix". With g = lane / 4 and t = lane % 4:
//   a (16, 16) bf16: r[0] row g, columns 2t, 2t + 1; r[1] row g + 8; r[2], r[3]: 8 columns on
//   b (16, 8) bf16: r[0] rows 2t, 2t + 1 of column g; r[1]: 8 rows on
//   c (16, 8) float: r[0], r[1] row g, columns 2t, 2t + 1; r[2], r[3] row g + 8
#ifndef ROT_KERNELS_CUDA_MMA_H
#define ROT_KERNELS_CUDA_MMA_H

#include "kernels/cuda/shared.h"

typedef struct rot_frag_a {
    uint32_t r[ROT_HELD][4];
} rot_frag_a;
typedef struct rot_frag_b {
    uint32_t r[ROT_HELD][2];
} rot_frag_b;
typedef struct rot_frag_c {
    float r[ROT_HELD][4];
} rot_frag_c;

// The smaller index in the lower half.
ROT_KERNEL uint32_t rot_pack_bf16(float low, float high)
{
    return (uint32_t)rot_cuda_to_bf16(low) | (uint32_t)rot_cuda_to_bf16(high) << 16;
}

#ifndef __CUDACC__
static inline float rot_half_of(uint32_t pair, int which)
{
    return rot_cuda_from_bf16((uint16_t)(pair >> 16 * which));
}
#endif

// c += a b, in float32.
ROT_KERNEL void rot_mma(rot_frag_c *c, const rot_frag_a *a, const uint32_t (*b)[2])
{
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c->r[0][0]), "+f"(c->r[0][1]), "+f"(c->r[0][2]), "+f"(c->r[0][3])
        : "r"(a->r[0][0]), "r"(a->r[0][1]), "r"(a->r[0][2]), "r"(a->r[0][3]), "r"(b[0][0]),
          "r"(b[0][1]));
#else
    float x[16][16], y[16][8], z[16][8];
    for (int l = 0; l < ROT_WARP; l++)
        for (int i = 0; i < 2; i++) { // of a pair
            const int g = l / 4, t = 2 * (l % 4) + i;
            for (int r = 0; r < 4; r++)
                x[g + 8 * (r % 2)][t + 8 * (r / 2)] = rot_half_of(a->r[l][r], i);
            for (int r = 0; r < 2; r++) y[t + 8 * r][g] = rot_half_of(b[l][r], i);
            for (int r = 0; r < 2; r++) z[g + 8 * r][t] = c->r[l][2 * r + i];
        }
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < 8; n++) z[m][n] += x[m][k] * y[k][n];
    for (int l = 0; l < ROT_WARP; l++)
        for (int r = 0; r < 4; r++) c->r[l][r] = z[l / 4 + 8 * (r / 2)][2 * (l % 4) + r % 2];
#endif
}

// Four matrices of 8 rows of 8 from shared memory: lane 8 m + i has row i of matrix m, at 16 bytes.
// r[m] of a lane: row lane / 4, columns 2 (lane % 4) and the next one; transposed, rows 2 (lane %
// 4) and the next one of column lane / 4.
ROT_KERNEL void rot_ldmatrix(rot_shared *shared, const int row[ROT_HELD], int transposed,
                             uint32_t r[ROT_HELD][4])
{
#ifdef __CUDACC__
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(shared + row[0]);
    if (transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0][0]), "=r"(r[0][1]), "=r"(r[0][2]), "=r"(r[0][3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0][0]), "=r"(r[0][1]), "=r"(r[0][2]), "=r"(r[0][3])
                     : "r"(at)
                     : "memory");
#else
    const uint16_t *rows[ROT_WARP];
    for (int l = 0; l < ROT_WARP; l++) rows[l] = rot_shared_row(shared, row[l]);
    for (int l = 0; l < ROT_WARP; l++)
        for (int m = 0; m < 4; m++) {
            const int g = l / 4, t = 2 * (l % 4);
            uint32_t low = transposed ? rows[8 * m + t][g] : rows[8 * m + g][t],
                     high = transposed ? rows[8 * m + t + 1][g] : rows[8 * m + g][t + 1];
            r[l][m] = low | high << 16;
        }
#endif
}

#endif
