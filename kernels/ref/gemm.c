// The matrix product of the reference: blocks of registers over columns, k in order.
#include <string.h>

#include "kernels/ref/ref.h"
#include "kernels/vec.h"

enum { K_BLOCK = 256 }; // a panel's block (32 KiB) stays in the first-level cache

// c (MR, 16 NV of 32 columns) += a (MR, k) panel (k, 32). MR and NV are literals, the loops unroll.
ROT_INLINE void block(int MR, int NV, const float *a, size_t lda, const float *panel, size_t k, float *c)
{
    rot_v16f sum[8][2];
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
        for (int j = 0; j < NV; j++) sum[i][j] = rot_vload(c + i * ROT_REF_PANEL + j * ROT_LANES);
    for (size_t p = 0; p < k; p++) {
        rot_v16f b[2];
#pragma GCC unroll 2
        for (int j = 0; j < NV; j++) b[j] = rot_vload(panel + p * ROT_REF_PANEL + j * ROT_LANES);
#pragma GCC unroll 8
        for (int i = 0; i < MR; i++) {
            rot_v16f x = rot_vset(a[i * lda + p]);
#pragma GCC unroll 2
            for (int j = 0; j < NV; j++) sum[i][j] = sum[i][j] + x * b[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
        for (int j = 0; j < NV; j++) rot_vstore(c + i * ROT_REF_PANEL + j * ROT_LANES, sum[i][j]);
}

// 8 x 32 sums fill the 32 registers of AVX-512; others get 4 x 16.
ROT_INLINE void tile_wide(const float *a, size_t lda, size_t rows, const float *panel, size_t k, float *c)
{
    for (size_t p = 0; p < k; p += K_BLOCK) {
        size_t n = k - p < K_BLOCK ? k - p : K_BLOCK, i = 0;
        const float *b = panel + p * ROT_REF_PANEL;
        for (; i + 8 <= rows; i += 8) block(8, 2, a + i * lda + p, lda, b, n, c + i * ROT_REF_PANEL);
        for (; i < rows; i++) block(1, 2, a + i * lda + p, lda, b, n, c + i * ROT_REF_PANEL);
    }
}

ROT_INLINE void tile_narrow(const float *a, size_t lda, size_t rows, const float *panel, size_t k, float *c)
{
    for (size_t p = 0; p < k; p += K_BLOCK) {
        size_t n = k - p < K_BLOCK ? k - p : K_BLOCK;
        for (int half = 0; half < 2; half++) {
            const float *b = panel + p * ROT_REF_PANEL + half * ROT_LANES;
            float *to = c + half * ROT_LANES;
            size_t i = 0;
            for (; i + 4 <= rows; i += 4) block(4, 1, a + i * lda + p, lda, b, n, to + i * ROT_REF_PANEL);
            for (; i < rows; i++) block(1, 1, a + i * lda + p, lda, b, n, to + i * ROT_REF_PANEL);
        }
    }
}

static void tile_c(const float *a, size_t lda, size_t rows, const float *panel, size_t k, float *c)
{
    tile_narrow(a, lda, rows, panel, k, c);
}

__attribute__((target("avx2"))) static void tile_avx2(const float *a, size_t lda, size_t rows,
                                                      const float *panel, size_t k, float *c)
{
    tile_narrow(a, lda, rows, panel, k, c);
}

__attribute__((target("avx512f"))) static void tile_avx512(const float *a, size_t lda, size_t rows,
                                                           const float *panel, size_t k, float *c)
{
    tile_wide(a, lda, rows, panel, k, c);
}

rot_ref_tile rot_ref_tile_for(const rot_cpu *cpu)
{
    return cpu->avx512 ? tile_avx512 : cpu->avx2 ? tile_avx2 : tile_c;
}

void rot_ref_pack_rows(const float *b, size_t ldb, size_t n, size_t k, float *panels)
{
    for (size_t first = 0; first < n; first += ROT_REF_PANEL, panels += k * ROT_REF_PANEL)
        for (size_t p = 0; p < k; p++)
            for (size_t j = 0; j < ROT_REF_PANEL; j++)
                panels[p * ROT_REF_PANEL + j] = first + j < n ? b[(first + j) * ldb + p] : 0.0f;
}

void rot_ref_pack_columns(const float *b, size_t ldb, size_t k, size_t n, float *panels)
{
    for (size_t first = 0; first < n; first += ROT_REF_PANEL, panels += k * ROT_REF_PANEL) {
        size_t m = n - first < ROT_REF_PANEL ? n - first : ROT_REF_PANEL;
        for (size_t p = 0; p < k; p++) {
            memcpy(panels + p * ROT_REF_PANEL, b + p * ldb + first, m * sizeof *b);
            memset(panels + p * ROT_REF_PANEL + m, 0, (ROT_REF_PANEL - m) * sizeof *b);
        }
    }
}
