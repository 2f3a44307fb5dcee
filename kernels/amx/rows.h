// What is done to rows between the products: norms into packed tensors, the rotation out of one,
// and 2^x. Included by real.c and emulated.c behind tiles.h.
#include "kernels/amx/amx.h"

// 2^x, error 3e-6: a minimax polynomial on [0, 1), scaled by the whole part. A NaN stays, -infinity
// gives 0.
ROT_AVX512_INLINE __m512 exp2_of(__m512 x)
{
    __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); // x - floor(x)
    __m512 p = _mm512_set1_ps(0x1.bb7cd4p-7f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.aa13f0p-5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.ee798ap-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.62d166p-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.00002cp+0f));
    return _mm512_scalef_ps(p, x);
}

ROT_AVX512_INLINE __m512 widen(__m256i x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

// Sixteen columns; beta NULL: RMSNorm.
ROT_AVX512_INLINE __m512 normed(const rot_amx_norm *n, const float *x, size_t i, __mmask16 m,
                                __m512 mean, __m512 scale)
{
    __m512 y = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), mean), scale);
    __m512 gamma = _mm512_maskz_loadu_ps(m, n->gamma + i);
    if (!n->beta) return _mm512_maskz_mul_ps(m, y, gamma);
    return _mm512_maskz_fmadd_ps(m, y, gamma, _mm512_maskz_loadu_ps(m, n->beta + i));
}

ROT_AVX512_TARGET static void norm_row(const rot_amx_norm *n, size_t row)
{
    const float *x = n->x + row * n->width;
    uint16_t *to = n->out + rot_amx_at(n->width, row, 0);
    __m512 mean = _mm512_setzero_ps();
    if (n->beta) mean = _mm512_set1_ps(rot_avx512_sum_row(x, n->width) / (float)n->width);
    float variance = rot_avx512_sum_squares(x, n->width, mean) / (float)n->width;
    __m512 scale = _mm512_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(variance + n->eps))));
    size_t i = 0;
    for (; i + 32 <= n->width; i += 32, to += ROT_AMX_ELEMS)
        _mm512_store_si512(to, rot_tile_round(normed(n, x, i, 0xffff, mean, scale),
                                              normed(n, x, i + 16, 0xffff, mean, scale)));
    if (i == n->width) return;
    __mmask16 upper = i + 16 < n->width ? rot_avx512_lanes(i + 16, n->width) : 0;
    __m512 y = normed(n, x, i, rot_avx512_lanes(i, n->width), mean, scale), z = _mm512_setzero_ps();
    if (upper) z = normed(n, x, i + 16, upper, mean, scale);
    _mm512_store_si512(to, rot_tile_round(y, z));
}

// 32 pairs of one row of one head: x and y are the lines of their first and second halves.
ROT_AVX512_INLINE void rotate(__m512i x, __m512i y, const float *cosines, const float *sines,
                              uint16_t *first, uint16_t *second)
{
    __m512 turned[2][2];
    for (int i = 0; i < 2; i++) {
        __m512 a = widen(i ? _mm512_extracti64x4_epi64(x, 1) : _mm512_castsi512_si256(x));
        __m512 b = widen(i ? _mm512_extracti64x4_epi64(y, 1) : _mm512_castsi512_si256(y));
        __m512 c = _mm512_loadu_ps(cosines + 16 * i), s = _mm512_loadu_ps(sines + 16 * i);
        turned[0][i] = _mm512_fnmadd_ps(b, s, _mm512_mul_ps(a, c));
        turned[1][i] = _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c));
    }
    _mm512_storeu_si512(first, rot_tile_round(turned[0][0], turned[0][1]));
    _mm512_storeu_si512(second, rot_tile_round(turned[1][0], turned[1][1]));
}
