// The row-wise operations beside oneDNN: norm, rotation, softmax, with AVX-512. Only reached where
// the processor has it (onednn.c). Rounding to bfloat16 in integers: VCVTNEPS2BF16 would flush
// denormals.
#ifdef ROT_HAVE_ONEDNN
#include <immintrin.h>

#include "kernels/onednn/onednn.h"

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define AVX512_INLINE                                                                              \
    static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512dq,avx512vl")))

AVX512_INLINE __mmask16 lanes(size_t i, size_t n)
{
    return n - i >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << (n - i)) - 1);
}

AVX512_INLINE __m256i to_bf16(__m512 x)
{
    __m512i u = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    r = _mm512_mask_or_epi32(r, nan, u, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16));
}

AVX512_INLINE __m512 from_bf16(const uint16_t *p, __mmask16 m)
{
    __m512i u = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
}

AVX512 void rot_dnn_layer_norm_row(const float *x, size_t width, float eps, const float *gamma,
                                   const float *beta, uint16_t *out)
{
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < width; i += 16)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lanes(i, width), x + i));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)width);
    sum = _mm512_setzero_ps();
    for (size_t i = 0; i < width; i += 16) {
        __mmask16 m = lanes(i, width);
        __m512 d = _mm512_maskz_sub_ps(m, _mm512_maskz_loadu_ps(m, x + i), mean);
        sum = _mm512_fmadd_ps(d, d, sum);
    }
    float variance = _mm512_reduce_add_ps(sum) / (float)width;
    __m512 scale = _mm512_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(variance + eps))));
    for (size_t i = 0; i < width; i += 16) {
        __mmask16 m = lanes(i, width);
        __m512 y = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), mean), scale);
        y = _mm512_fmadd_ps(y, _mm512_maskz_loadu_ps(m, gamma + i),
                            _mm512_maskz_loadu_ps(m, beta + i));
        _mm256_mask_storeu_epi16(out + i, m, to_bf16(y));
    }
}

AVX512 void rot_dnn_rope_row(const uint16_t *x, const float *cosines, const float *sines,
                             size_t half, uint16_t *out)
{
    for (size_t i = 0; i < half; i += 16) {
        __mmask16 m = lanes(i, half);
        __m512 a = from_bf16(x + i, m), b = from_bf16(x + half + i, m);
        __m512 c = _mm512_maskz_loadu_ps(m, cosines + i), s = _mm512_maskz_loadu_ps(m, sines + i);
        __m512 first = _mm512_fnmadd_ps(b, s, _mm512_mul_ps(a, c));
        __m512 second = _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c));
        _mm256_mask_storeu_epi16(out + i, m, to_bf16(first));
        _mm256_mask_storeu_epi16(out + half + i, m, to_bf16(second));
    }
}

// 2^x for x <= 0: 2^n exp(r), as rot_vexp (kernels/ref/math.h) with fused operations.
AVX512_INLINE __m512 exp2_ps(__m512 x)
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

AVX512 float rot_dnn_softmax_row(const float *scores, size_t n, float scale, uint16_t *p)
{
    __m512 most = _mm512_set1_ps(-__builtin_inff());
    for (size_t i = 0; i < n; i += 16)
        most = _mm512_mask_max_ps(most, lanes(i, n), most,
                                  _mm512_maskz_loadu_ps(lanes(i, n), scores + i));
    __m512 maximum = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    __m512 factor = _mm512_set1_ps(scale * 0x1.715476p+0f); // scale is positive
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = lanes(i, n);
        __m512 s = _mm512_sub_ps(_mm512_maskz_loadu_ps(m, scores + i), maximum);
        __m512 e = exp2_ps(_mm512_mul_ps(s, factor));
        sum = _mm512_mask_add_ps(sum, m, sum, e);
        _mm256_mask_storeu_epi16(p + i, m, to_bf16(e));
    }
    return _mm512_reduce_add_ps(sum);
}

AVX512 void rot_dnn_scale_row(const float *x, size_t n, float factor, uint16_t *out)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = lanes(i, n);
        __m512 y = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_set1_ps(factor));
        _mm256_mask_storeu_epi16(out + i, m, to_bf16(y));
    }
}

AVX512 void rot_dnn_round_row(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = lanes(i, n);
        _mm256_mask_storeu_epi16(out + i, m, to_bf16(_mm512_maskz_loadu_ps(m, x + i)));
    }
}

#endif
typedef int rot_dnn_rows_unit; // without oneDNN the file is not empty
