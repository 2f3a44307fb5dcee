// The matrix product of the reference. tile_c is the specification; the others compute the same
// chains of multiply, round, add, round with wider registers, each element's k in order.
#include <string.h>

#include "kernels/ref/ref.h"

enum { K_BLOCK = 256 }; // a panel's block (32 KiB) stays in the first-level cache

static void tile_c(const float *a, size_t lda, size_t rows, const float *panel, size_t k, float *c)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t p = 0; p < k; p++)
            for (size_t j = 0; j < ROT_REF_PANEL; j++)
                c[i * ROT_REF_PANEL + j] =
                    c[i * ROT_REF_PANEL + j] + a[i * lda + p] * panel[p * ROT_REF_PANEL + j];
}

#ifdef __x86_64__
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f")))
#define INLINE static inline __attribute__((always_inline))

// c (MR, 32) += a (MR, n) panel (n, 32). MR is a literal, the loops over it unroll.
INLINE AVX512 void block_avx512(int MR, const float *a, size_t lda, const float *panel, size_t n,
                                float *c)
{
    __m512 sum[8][2];
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) {
        sum[i][0] = _mm512_loadu_ps(c + i * ROT_REF_PANEL);
        sum[i][1] = _mm512_loadu_ps(c + i * ROT_REF_PANEL + 16);
    }
    for (size_t p = 0; p < n; p++) {
        __m512 b0 = _mm512_loadu_ps(panel + p * ROT_REF_PANEL);
        __m512 b1 = _mm512_loadu_ps(panel + p * ROT_REF_PANEL + 16);
#pragma GCC unroll 8
        for (int i = 0; i < MR; i++) {
            __m512 x = _mm512_set1_ps(a[(size_t)i * lda + p]);
            sum[i][0] = _mm512_add_ps(sum[i][0], _mm512_mul_ps(x, b0));
            sum[i][1] = _mm512_add_ps(sum[i][1], _mm512_mul_ps(x, b1));
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) {
        _mm512_storeu_ps(c + i * ROT_REF_PANEL, sum[i][0]);
        _mm512_storeu_ps(c + i * ROT_REF_PANEL + 16, sum[i][1]);
    }
}

// The same on 16 of the 32 columns: AVX2 has half the registers of half the width.
INLINE AVX2 void block_avx2(int MR, const float *a, size_t lda, const float *panel, size_t n,
                            float *c)
{
    __m256 sum[4][2];
#pragma GCC unroll 4
    for (int i = 0; i < MR; i++) {
        sum[i][0] = _mm256_loadu_ps(c + i * ROT_REF_PANEL);
        sum[i][1] = _mm256_loadu_ps(c + i * ROT_REF_PANEL + 8);
    }
    for (size_t p = 0; p < n; p++) {
        __m256 b0 = _mm256_loadu_ps(panel + p * ROT_REF_PANEL);
        __m256 b1 = _mm256_loadu_ps(panel + p * ROT_REF_PANEL + 8);
#pragma GCC unroll 4
        for (int i = 0; i < MR; i++) {
            __m256 x = _mm256_set1_ps(a[(size_t)i * lda + p]);
            sum[i][0] = _mm256_add_ps(sum[i][0], _mm256_mul_ps(x, b0));
            sum[i][1] = _mm256_add_ps(sum[i][1], _mm256_mul_ps(x, b1));
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < MR; i++) {
        _mm256_storeu_ps(c + i * ROT_REF_PANEL, sum[i][0]);
        _mm256_storeu_ps(c + i * ROT_REF_PANEL + 8, sum[i][1]);
    }
}

AVX512 static void tile_avx512(const float *a, size_t lda, size_t rows, const float *panel,
                               size_t k, float *c)
{
    for (size_t p = 0; p < k; p += K_BLOCK) {
        size_t n = k - p < K_BLOCK ? k - p : K_BLOCK, i = 0;
        const float *b = panel + p * ROT_REF_PANEL;
        for (; i + 8 <= rows; i += 8)
            block_avx512(8, a + i * lda + p, lda, b, n, c + i * ROT_REF_PANEL);
        for (; i < rows; i++) block_avx512(1, a + i * lda + p, lda, b, n, c + i * ROT_REF_PANEL);
    }
}

AVX2 static void tile_avx2(const float *a, size_t lda, size_t rows, const float *panel, size_t k,
                           float *c)
{
    for (size_t p = 0; p < k; p += K_BLOCK) {
        size_t n = k - p < K_BLOCK ? k - p : K_BLOCK;
        for (size_t half = 0; half < ROT_REF_PANEL; half += 16) {
            const float *b = panel + p * ROT_REF_PANEL + half;
            size_t i = 0;
            for (; i + 4 <= rows; i += 4)
                block_avx2(4, a + i * lda + p, lda, b, n, c + half + i * ROT_REF_PANEL);
            for (; i < rows; i++)
                block_avx2(1, a + i * lda + p, lda, b, n, c + half + i * ROT_REF_PANEL);
        }
    }
}
#endif

rot_ref_tile rot_ref_tile_for(const rot_cpu *cpu)
{
#ifdef __x86_64__
    if (cpu->avx512) return tile_avx512;
    if (cpu->avx2) return tile_avx2;
#endif
    (void)cpu;
    return tile_c;
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
