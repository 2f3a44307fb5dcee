#include "kernels/train/tile.h"

#include <string.h>

#include "kernels/avx512.h"

#ifdef __x86_64__
#define BF16_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define BF16_INLINE                                                                                \
    static inline                                                                                  \
        __attribute__((always_inline, target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define UNROLL _Pragma("GCC unroll 12")

enum { AHEAD = 64 * ROT_TILE_COLUMNS }; // of a panel that streams from memory

// MR is a literal; the loops over it unroll and the sums stay in registers.
ROT_AVX512_INLINE void rows_f32(int MR, const rot_tile_f32 *t, size_t row, __mmask16 m0,
                                __mmask16 m1)
{
    __m512 sum[12][2];
    const float *a = t->a + row * t->a_row, *b = t->b;
    float *c = t->c + row * t->ldc;
    size_t a_row = t->a_row, a_step = t->a_step, b_row = t->b_row;
    UNROLL
    for (int i = 0; i < MR; i++) {
        sum[i][0] = sum[i][1] = _mm512_setzero_ps();
        _mm_prefetch((const char *)(c + (size_t)i * t->ldc), _MM_HINT_T0); // there by the end
        _mm_prefetch((const char *)(c + (size_t)i * t->ldc + 16), _MM_HINT_T0);
    }
    for (size_t p = 0; p < t->k; p++, a += a_step, b += b_row) {
        __m512 b0 = _mm512_maskz_loadu_ps(m0, b), b1 = _mm512_maskz_loadu_ps(m1, b + 16);
        UNROLL
        for (int i = 0; i < MR; i++) {
            __m512 x = _mm512_set1_ps(a[(size_t)i * a_row]);
            sum[i][0] = _mm512_fmadd_ps(x, b0, sum[i][0]);
            sum[i][1] = _mm512_fmadd_ps(x, b1, sum[i][1]);
        }
    }
    __m512 bias0 = t->bias ? _mm512_maskz_loadu_ps(m0, t->bias) : _mm512_setzero_ps();
    __m512 bias1 = t->bias ? _mm512_maskz_loadu_ps(m1, t->bias + 16) : _mm512_setzero_ps();
    UNROLL
    for (int i = 0; i < MR; i++) {
        float *to = c + (size_t)i * t->ldc;
        __m512 y0 = _mm512_add_ps(sum[i][0], bias0), y1 = _mm512_add_ps(sum[i][1], bias1);
        if (t->add) {
            y0 = _mm512_add_ps(_mm512_maskz_loadu_ps(m0, to), y0);
            y1 = _mm512_add_ps(_mm512_maskz_loadu_ps(m1, to + 16), y1);
        }
        _mm512_mask_storeu_ps(to, m0, y0);
        _mm512_mask_storeu_ps(to + 16, m1, y1);
    }
}

BF16_INLINE void rows_bf16(int MR, const rot_tile_bf16 *t, size_t row, __mmask16 m0, __mmask16 m1)
{
    __m512 sum[12][2];
    const uint32_t *a = t->a + row * t->a_row, *b = t->b;
    float *c = t->c + row * t->ldc;
    size_t a_row = t->a_row, a_step = t->a_step;
    UNROLL
    for (int i = 0; i < MR; i++) {
        sum[i][0] = sum[i][1] = _mm512_setzero_ps();
        _mm_prefetch((const char *)(c + (size_t)i * t->ldc), _MM_HINT_T0); // there by the end
        _mm_prefetch((const char *)(c + (size_t)i * t->ldc + 16), _MM_HINT_T0);
    }
    for (size_t p = 0; p < t->k; p++, a += a_step, b += ROT_TILE_COLUMNS) {
        __m512bh b0 = (__m512bh)_mm512_loadu_si512(b), b1 = (__m512bh)_mm512_loadu_si512(b + 16);
        _mm_prefetch((const char *)(b + AHEAD), _MM_HINT_T0);
        _mm_prefetch((const char *)(b + AHEAD + 16), _MM_HINT_T0);
        UNROLL
        for (int i = 0; i < MR; i++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[(size_t)i * a_row]);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, b0);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, b1);
        }
    }
    __m512 bias0 = t->bias ? _mm512_maskz_loadu_ps(m0, t->bias) : _mm512_setzero_ps();
    __m512 bias1 = t->bias ? _mm512_maskz_loadu_ps(m1, t->bias + 16) : _mm512_setzero_ps();
    UNROLL
    for (int i = 0; i < MR; i++) {
        float *to = c + (size_t)i * t->ldc;
        __m512 y0 = _mm512_add_ps(sum[i][0], bias0), y1 = _mm512_add_ps(sum[i][1], bias1);
        if (t->add) {
            y0 = _mm512_add_ps(_mm512_maskz_loadu_ps(m0, to), y0);
            y1 = _mm512_add_ps(_mm512_maskz_loadu_ps(m1, to + 16), y1);
        }
        _mm512_mask_storeu_ps(to, m0, y0);
        _mm512_mask_storeu_ps(to + 16, m1, y1);
    }
}

// The rows that are left over after whole tiles, by the kernel of their number.
#define REST(rows, t, row)                                                                         \
    switch ((t)->m - (row)) {                                                                      \
    case 1: rows(1, t, row, m0, m1); break;                                                        \
    case 2: rows(2, t, row, m0, m1); break;                                                        \
    case 3: rows(3, t, row, m0, m1); break;                                                        \
    case 4: rows(4, t, row, m0, m1); break;                                                        \
    case 5: rows(5, t, row, m0, m1); break;                                                        \
    case 6: rows(6, t, row, m0, m1); break;                                                        \
    case 7: rows(7, t, row, m0, m1); break;                                                        \
    case 8: rows(8, t, row, m0, m1); break;                                                        \
    case 9: rows(9, t, row, m0, m1); break;                                                        \
    case 10: rows(10, t, row, m0, m1); break;                                                      \
    case 11: rows(11, t, row, m0, m1); break;                                                      \
    default: break;                                                                                \
    }

static void masks(size_t n, uint16_t *m0, uint16_t *m1)
{
    *m0 = n >= 16 ? 0xffff : (uint16_t)((1u << n) - 1);
    *m1 = n >= 32 ? 0xffff : n > 16 ? (uint16_t)((1u << (n - 16)) - 1) : 0;
}

ROT_AVX512_TARGET void rot_tile_f32_run(const rot_tile_f32 *tile)
{
    uint16_t m0, m1;
    size_t row = 0;
    masks(tile->n, &m0, &m1);
    for (; row + 12 <= tile->m; row += 12) rows_f32(12, tile, row, m0, m1);
    REST(rows_f32, tile, row)
}

BF16_TARGET void rot_tile_bf16_run(const rot_tile_bf16 *tile)
{
    uint16_t m0, m1;
    size_t row = 0;
    masks(tile->n, &m0, &m1);
    for (; row + 12 <= tile->m; row += 12) rows_bf16(12, tile, row, m0, m1);
    REST(rows_bf16, tile, row)
}

ROT_AVX512_TARGET void rot_tile_pair_row(const float *x, size_t n, uint32_t *out)
{
    uint16_t *halves = (uint16_t *)out;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = rot_avx512_lanes(i, n);
        __m512 v = m == 0xffff ? _mm512_loadu_ps(x + i) : _mm512_maskz_loadu_ps(m, x + i);
        rot_avx512_store_bf16(halves + i, m, v);
    }
    if (n % 2) halves[n] = 0;
}

ROT_AVX512_TARGET void rot_tile_pair_rows(const float *first, const float *second, size_t n,
                                          size_t block, uint32_t *out, size_t out_stride)
{
    for (size_t at = 0; at < n; at += block, out += out_stride)
        for (size_t i = 0; i < block && at + i < n; i += 16) {
            size_t left = n - at - i < block - i ? n - at - i : block - i;
            __mmask16 m = rot_avx512_lanes(0, left);
            __m512i low = rot_avx512_upper_bf16(_mm512_maskz_loadu_ps(m, first + at + i));
            __m512i high = second ? rot_avx512_upper_bf16(_mm512_maskz_loadu_ps(m, second + at + i))
                                  : _mm512_setzero_si512();
            _mm512_mask_storeu_epi32(out + i, m, _mm512_or_si512(_mm512_srli_epi32(low, 16), high));
        }
}

// 16 x 16: interleave 32-bit, then 64-bit lanes, then quarters.
ROT_AVX512_INLINE void transpose_16(const uint32_t *from, size_t ldf, uint32_t *to, size_t ldt)
{
    __m512i r[16], s[16];
    UNROLL
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(from + (size_t)i * ldf);
    UNROLL
    for (int i = 0; i < 16; i += 2) {
        s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(s[i], s[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(s[i], s[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(s[i + 1], s[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(s[i + 1], s[i + 3]);
    }
    UNROLL
    for (int i = 0; i < 4; i++) { // r[i + 4 j]: column i of each quarter, rows 4 j ..
        s[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        s[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        s[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        s[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_si512(to + (size_t)i * ldt, _mm512_shuffle_i32x4(s[i], s[i + 8], 0x88));
        _mm512_storeu_si512(to + (size_t)(i + 8) * ldt, _mm512_shuffle_i32x4(s[i], s[i + 8], 0xdd));
        _mm512_storeu_si512(to + (size_t)(i + 4) * ldt,
                            _mm512_shuffle_i32x4(s[i + 4], s[i + 12], 0x88));
        _mm512_storeu_si512(to + (size_t)(i + 12) * ldt,
                            _mm512_shuffle_i32x4(s[i + 4], s[i + 12], 0xdd));
    }
}

ROT_AVX512_TARGET void rot_tile_transpose(const void *from, size_t ldf, size_t m, size_t n,
                                          void *to, size_t ldt)
{
    const uint32_t *source = from;
    uint32_t *target = to;
    for (size_t i = 0; i < m; i += 16)
        for (size_t j = 0; j < n; j += 16) {
            if (m - i >= 16 && n - j >= 16) {
                transpose_16(source + i * ldf + j, ldf, target + j * ldt + i, ldt);
                continue;
            }
            for (size_t y = i; y < m && y < i + 16; y++)
                for (size_t x = j; x < n && x < j + 16; x++)
                    target[x * ldt + y] = source[y * ldf + x];
        }
}
#endif
