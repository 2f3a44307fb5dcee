// Row-wise operations with AVX-512, and the inline pieces that the kernels share. Callers have
// asked rot_cpu.avx512. Rounding to bfloat16 in integers: VCVTNEPS2BF16 would flush denormals.
#ifndef ROT_KERNELS_AVX512_H
#define ROT_KERNELS_AVX512_H

#include <stddef.h>
#include <stdint.h>

// x F32 (width), gamma and beta F32 (width); out bfloat16 (width). Statistics as backend.h says.
void rot_avx512_layer_norm_row(const float *x, size_t width, float eps, const float *gamma,
                               const float *beta, uint16_t *out);
// The same, not rounded; out may be x.
void rot_avx512_layer_norm_f32_row(const float *x, size_t width, float eps, const float *gamma,
                                   const float *beta, float *out);
void rot_avx512_rms_norm_row(const float *x, size_t width, float eps, const float *gamma,
                             uint16_t *out);
// in bfloat16 (2 width), the gates first.
void rot_avx512_swiglu_row(const uint16_t *in, size_t width, uint16_t *out);
// x bfloat16 (2 half), cosines and sines F32 (half).
void rot_avx512_rope_row(const uint16_t *x, const float *cosines, const float *sines, size_t half,
                         uint16_t *out);
// p = exp(scale (score - maximum)) rounded to bfloat16; returns the sum of the exponentials before
// that. scale is positive.
float rot_avx512_softmax_row(const float *scores, size_t n, float scale, uint16_t *p);
void rot_avx512_scale_row(const float *x, size_t n, float factor,
                          uint16_t *out); // out = x * factor
void rot_avx512_round_row(const float *x, size_t n, uint16_t *out);

#ifdef __x86_64__
#include <immintrin.h>

#define ROT_AVX512_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define ROT_AVX512_INLINE                                                                          \
    static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512dq,avx512vl")))

ROT_AVX512_INLINE __mmask16 rot_avx512_lanes(size_t i, size_t n)
{
    return n - i >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << (n - i)) - 1);
}

// The nearest bfloat16 as the upper half of each lane, ties to even, zeros below; NaN stays NaN.
ROT_AVX512_INLINE __m512i rot_avx512_upper_bf16(__m512 x)
{
    __m512i u = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    r = _mm512_mask_or_epi32(r, nan, u, _mm512_set1_epi32(0x400000));
    return _mm512_and_si512(r, _mm512_set1_epi32((int)0xffff0000u));
}

// Of four chains of sums, which do not wait for each other.
ROT_AVX512_INLINE float rot_avx512_sum_of(const __m512 *sums)
{
    return _mm512_reduce_add_ps(
        _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
}

// Of (x - mean)^2 over a row. Sums run in four chains, so that they do not wait for each other; the
// rest joins the first. The row behind this one is fetched.
ROT_AVX512_INLINE float rot_avx512_sum_squares(const float *x, size_t width, __m512 mean)
{
    size_t whole = width / 64 * 64, i;
    __m512 s[4];
    for (int c = 0; c < 4; c++) s[c] = _mm512_setzero_ps();
    for (i = 0; i < whole; i += 64)
        for (size_t c = 0; c < 4; c++) {
            _mm_prefetch((const char *)(x + width + i + 16 * c), _MM_HINT_T0);
            __m512 d = _mm512_sub_ps(_mm512_loadu_ps(x + i + 16 * c), mean);
            s[c] = _mm512_fmadd_ps(d, d, s[c]);
        }
    for (; i < width; i += 16) {
        __mmask16 m = rot_avx512_lanes(i, width);
        __m512 d = _mm512_maskz_sub_ps(m, _mm512_maskz_loadu_ps(m, x + i), mean);
        s[0] = _mm512_fmadd_ps(d, d, s[0]);
    }
    return rot_avx512_sum_of(s);
}

ROT_AVX512_INLINE float rot_avx512_sum_row(const float *x, size_t width)
{
    size_t whole = width / 64 * 64, i;
    __m512 s[4];
    for (int c = 0; c < 4; c++) s[c] = _mm512_setzero_ps();
    for (i = 0; i < whole; i += 64)
        for (size_t c = 0; c < 4; c++) s[c] = _mm512_add_ps(s[c], _mm512_loadu_ps(x + i + 16 * c));
    for (; i < width; i += 16)
        s[0] = _mm512_add_ps(s[0], _mm512_maskz_loadu_ps(rot_avx512_lanes(i, width), x + i));
    return rot_avx512_sum_of(s);
}

ROT_AVX512_INLINE __m256i rot_avx512_to_bf16(__m512 x)
{
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rot_avx512_upper_bf16(x), 16));
}

// Lanes m of x, rounded. A masked store costs several whole ones, so whole vectors go without.
ROT_AVX512_INLINE void rot_avx512_store_bf16(uint16_t *p, __mmask16 m, __m512 x)
{
    if (m == 0xffff)
        _mm256_storeu_si256((__m256i *)(void *)p, rot_avx512_to_bf16(x));
    else
        _mm256_mask_storeu_epi16(p, m, rot_avx512_to_bf16(x));
}

ROT_AVX512_INLINE __m512 rot_avx512_from_bf16(const uint16_t *p, __mmask16 m)
{
    __m512i u = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
}

// 2^x for x <= 0: 2^n exp(r), as rot_vexp (kernels/ref/math.h) with fused operations.
ROT_AVX512_INLINE __m512 rot_avx512_exp2(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-160.0f), x); // in this order a NaN stays
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_mul_ps(_mm512_sub_ps(x, n), _mm512_set1_ps(0x1.62e43p-1f));
    __m512 q = _mm512_set1_ps(0x1.6db4e0p-10f);
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.123be0p-7f));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.55545ep-5f));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.55548ep-3f));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0.5f));
    __m512 p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r);
    return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1.0f)), n);
}

// The order in which lines are fetched ahead: one of each of four pages in turn. The processor's
// own prefetch, which follows each page, then has four times as long to come before us: what is far
// away takes 600 cycles.
static inline size_t rot_avx512_line(size_t line)
{
    return line / 256 * 256 + line % 4 * 64 + line % 256 / 4;
}

#endif

#endif
