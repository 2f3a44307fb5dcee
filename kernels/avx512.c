// The row-wise operations with AVX-512: norm, rotation, softmax. Only reached where the processor
// has it (rot_cpu.avx512).
#ifdef __x86_64__
#include "kernels/avx512.h"

#define AVX512 ROT_AVX512_TARGET
#define AVX512_INLINE ROT_AVX512_INLINE

AVX512_INLINE __m512 normed(__m512 x, __m512 mean, __m512 scale, __m512 gamma, __m512 beta)
{
    __m512 y = _mm512_mul_ps(_mm512_sub_ps(x, mean), scale);
    return _mm512_fmadd_ps(y, gamma, beta);
}

AVX512 void rot_avx512_layer_norm_row(const float *x, size_t width, float eps, const float *gamma,
                                      const float *beta, uint16_t *out)
{
    __m512 mean = _mm512_set1_ps(rot_avx512_sum_row(x, width) / (float)width);
    float variance = rot_avx512_sum_squares(x, width, mean) / (float)width;
    __m512 scale = _mm512_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(variance + eps))));
    for (size_t i = 0; i < width; i += 16) {
        __mmask16 m = rot_avx512_lanes(i, width);
        rot_avx512_store_bf16(out + i, m,
                              normed(_mm512_maskz_loadu_ps(m, x + i), mean, scale,
                                     _mm512_maskz_loadu_ps(m, gamma + i),
                                     _mm512_maskz_loadu_ps(m, beta + i)));
    }
}

AVX512 void rot_avx512_rope_row(const uint16_t *x, const float *cosines, const float *sines,
                                size_t half, uint16_t *out)
{
    for (size_t i = 0; i < half; i += 16) {
        __mmask16 m = rot_avx512_lanes(i, half);
        __m512 a = rot_avx512_from_bf16(x + i, m), b = rot_avx512_from_bf16(x + half + i, m);
        __m512 c = _mm512_maskz_loadu_ps(m, cosines + i), s = _mm512_maskz_loadu_ps(m, sines + i);
        __m512 first = _mm512_fnmadd_ps(b, s, _mm512_mul_ps(a, c));
        __m512 second = _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c));
        rot_avx512_store_bf16(out + i, m, first);
        rot_avx512_store_bf16(out + half + i, m, second);
    }
}

AVX512 float rot_avx512_softmax_row(const float *scores, size_t n, float scale, uint16_t *p)
{
    __m512 most = _mm512_set1_ps(-__builtin_inff());
    for (size_t i = 0; i < n; i += 16)
        most = _mm512_mask_max_ps(most, rot_avx512_lanes(i, n), most,
                                  _mm512_maskz_loadu_ps(rot_avx512_lanes(i, n), scores + i));
    __m512 maximum = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    __m512 factor = _mm512_set1_ps(scale * 0x1.715476p+0f); // scale is positive
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = rot_avx512_lanes(i, n);
        __m512 s = _mm512_sub_ps(_mm512_maskz_loadu_ps(m, scores + i), maximum);
        __m512 e = rot_avx512_exp2(_mm512_mul_ps(s, factor));
        sum = _mm512_mask_add_ps(sum, m, sum, e);
        rot_avx512_store_bf16(p + i, m, e);
    }
    return _mm512_reduce_add_ps(sum);
}

AVX512 void rot_avx512_scale_row(const float *x, size_t n, float factor, uint16_t *out)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = rot_avx512_lanes(i, n);
        __m512 y = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_set1_ps(factor));
        rot_avx512_store_bf16(out + i, m, y);
    }
}

AVX512 void rot_avx512_round_row(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = rot_avx512_lanes(i, n);
        rot_avx512_store_bf16(out + i, m, _mm512_maskz_loadu_ps(m, x + i));
    }
}

#endif
typedef int rot_avx512_unit; // elsewhere the file is not empty
