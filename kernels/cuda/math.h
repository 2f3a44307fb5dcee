// exp, tanh, erf, the GELUs and SiLU of one float: the operations of kernels/ref/math.h in the same
// order, so that bits are the same where nothing is contracted (nvcc -fmad=false).
#ifndef ROT_KERNELS_CUDA_MATH_H
#define ROT_KERNELS_CUDA_MATH_H

#include "kernels/cuda/block.h"

ROT_KERNEL float rot_cuda_exp(float x)
{
    float a = x < -110.0f ? -110.0f : x; // a NaN stays
    a = a > 89.0f ? 89.0f : a;
    const float magic = 0x1.8p23f;
    float n = (a * 0x1.715476p+0f + magic) - magic;
    float r = (a - n * 0x1.62ep-1f) - n * 0x1.0bfbe8p-15f;
    float q = 0x1.6db4e0p-10f;
    q = q * r + 0x1.123be0p-7f;
    q = q * r + 0x1.55545ep-5f;
    q = q * r + 0x1.55548ep-3f;
    q = q * r + 0x1p-1f;
    float p = (r * r * q + r) + 1.0f;
    int32_t k = n == n ? (int32_t)n : 0, k1 = k >> 1, k2 = k - k1;
    return p * rot_float_of((uint32_t)(k1 + 127) << 23) * rot_float_of((uint32_t)(k2 + 127) << 23);
}

// 2^x for x <= 0, under -150 it may be 0.
ROT_KERNEL float rot_cuda_exp2(float x)
{
#ifdef __CUDACC__
    float y; // 2 ulp (PTX ISA, ex2.approx.ftz)
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return rot_cuda_exp(x * 0x1.62e43p-1f);
#endif
}

ROT_KERNEL float rot_cuda_sign_of(float magnitude, float sign)
{
    return rot_float_of(rot_bits_of(magnitude) | (rot_bits_of(sign) & 0x80000000u));
}

ROT_KERNEL float rot_cuda_tanh(float x)
{
    float a = rot_float_of(rot_bits_of(x) & 0x7fffffffu), z = a * a;
    float p = -0x1.76abc6p-8f;
    p = p * z + 0x1.5256c4p-6f;
    p = p * z + -0x1.b84446p-5f;
    p = p * z + 0x1.110768p-3f;
    p = p * z + -0x1.555534p-2f;
    float y = a < 0.625f ? a + a * z * p : 1.0f - 2.0f / (rot_cuda_exp(a + a) + 1.0f);
    return rot_cuda_sign_of(y, x);
}

ROT_KERNEL float rot_cuda_erf(float x)
{
    float a = rot_float_of(rot_bits_of(x) & 0x7fffffffu), z = a * a;
    float p = 0x1.589466p-14f;
    p = p * z + -0x1.a8fc68p-11f;
    p = p * z + 0x1.54a490p-8f;
    p = p * z + -0x1.b80b0ep-6f;
    p = p * z + 0x1.ce2de2p-4f;
    p = p * z + -0x1.812742p-2f;
    p = p * z + 0x1.06eba8p-3f;
    float c = a > 4.0f ? 4.0f : a;
    float q = 0x1.218712p-18f;
    q = q * c + -0x1.3e2ffcp-15f;
    q = q * c + -0x1.74a2e6p-14f;
    q = q * c + 0x1.8e6366p-9f;
    q = q * c + -0x1.766a88p-6f;
    q = q * c + 0x1.afdb08p-4f;
    q = q * c + 0x1.456508p-1f;
    q = q * c + 0x1.20ea0ap+0f;
    return rot_cuda_sign_of(a < 0.95f ? a + a * p : 1.0f - rot_cuda_exp(-(c * q)), x);
}

ROT_KERNEL float rot_cuda_gelu_tanh(float x)
{
    float inner = 0x1.988454p-1f * (x + 0x1.6e4e26p-5f * (x * x * x));
    return 0.5f * x * (1.0f + rot_cuda_tanh(inner));
}

ROT_KERNEL float rot_cuda_gelu_erf(float x)
{
    return 0.5f * x * (1.0f + rot_cuda_erf(x * 0x1.6a09e6p-1f));
}

ROT_KERNEL float rot_cuda_swish(float x, float a)
{
    return x / (1.0f + rot_cuda_exp(x * -a));
}

#endif
