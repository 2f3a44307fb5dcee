// More row-wise operations with AVX-512: RMSNorm, SwiGLU, and LayerNorm of the residual stream
// itself (Qwen2.5-VL, CLIP). Only reached where the processor has it (rot_cpu.avx512).
#ifdef __x86_64__
#include "kernels/avx512.h"

#define AVX512 ROT_AVX512_TARGET

static inline float inverse_root(float x)
{
    return 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

AVX512 void rot_avx512_layer_norm_f32_row(const float *x, size_t width, float eps,
                                          const float *gamma, const float *beta, float *out)
{
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < width; i += 16)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(rot_avx512_lanes(i, width), x + i));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)width);
    sum = _mm512_setzero_ps();
    for (size_t i = 0; i < width; i += 16) {
        __mmask16 m = rot_avx512_lanes(i, width);
        __m512 d = _mm512_maskz_sub_ps(m, _mm512_maskz_loadu_ps(m, x + i), mean);
        sum = _mm512_fmadd_ps(d, d, sum);
    }
    __m512 scale = _mm512_set1_ps(inverse_root(_mm512_reduce_add_ps(sum) / (float)width + eps));
    for (size_t i = 0; i < width; i += 16) {
        __mmask16 m = rot_avx512_lanes(i, width);
        __m512 y = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), mean), scale);
        y = _mm512_fmadd_ps(y, _mm512_maskz_loadu_ps(m, gamma + i),
                            _mm512_maskz_loadu_ps(m, beta + i));
        _mm512_mask_storeu_ps(out + i, m, y);
    }
}

AVX512 void rot_avx512_rms_norm_row(const float *x, size_t width, float eps, const float *gamma,
                                    uint16_t *out)
{
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < width; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(rot_avx512_lanes(i, width), x + i);
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    __m512 scale = _mm512_set1_ps(inverse_root(_mm512_reduce_add_ps(sum) / (float)width + eps));
    for (size_t i = 0; i < width; i += 16) {
        __mmask16 m = rot_avx512_lanes(i, width);
        __m512 y = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), scale);
        y = _mm512_mul_ps(y, _mm512_maskz_loadu_ps(m, gamma + i));
        _mm256_mask_storeu_epi16(out + i, m, rot_avx512_to_bf16(y));
    }
}

// g u / (1 + exp(-g)), with exp(-|g|), which is at most 1; for g under 0 the mirrored form.
AVX512 void rot_avx512_swiglu_row(const uint16_t *in, size_t width, uint16_t *out)
{
    const __m512 one = _mm512_set1_ps(1.0f), zero = _mm512_setzero_ps();
    for (size_t i = 0; i < width; i += 16) {
        __mmask16 m = rot_avx512_lanes(i, width);
        __m512 g = rot_avx512_from_bf16(in + i, m), u = rot_avx512_from_bf16(in + width + i, m);
        __m512 e =
            rot_avx512_exp2(_mm512_mul_ps(_mm512_abs_ps(g), _mm512_set1_ps(-0x1.715476p+0f)));
        __mmask16 below = _mm512_cmp_ps_mask(g, zero, _CMP_LT_OQ);
        __m512 share = _mm512_div_ps(_mm512_mask_blend_ps(below, one, e), _mm512_add_ps(one, e));
        __m512 y = _mm512_mul_ps(_mm512_mul_ps(g, share), u);
        _mm256_mask_storeu_epi16(out + i, m, rot_avx512_to_bf16(y));
    }
}

#endif
typedef int rot_avx512_rows_unit; // elsewhere the file is not empty
