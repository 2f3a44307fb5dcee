// exp, tanh, erf, the GELUs and SiLU on sixteen floats, in plain arithmetic: the same bits on every
// machine, with every compiler and C library. Errors against the exact functions, tested over their
// whole ranges: exp 1 ulp, tanh 2 ulp, erf 2 ulp. The polynomials are minimax fits (Lawson's
// weighted least squares on Chebyshev nodes in double, rounded to float once).
#ifndef ROT_KERNELS_REF_MATH_H
#define ROT_KERNELS_REF_MATH_H

#include "kernels/vec.h"

// exp(x) = 2^n exp(r), n = rint(x / ln 2), |r| <= ln(2) / 2; ln 2 in two pieces, the first of which
// has so few bits that n times it is exact (Cody and Waite). Under -104 the result is 0, over 88.73
// infinity.
ROT_INLINE rot_v16f rot_vexp(rot_v16f x)
{
    rot_v16f a = rot_vmin(rot_vmax(x, rot_vset(-110.0f)), rot_vset(89.0f));
    rot_v16f magic = rot_vset(0x1.8p23f); // adding and taking it away rounds to an integer
    rot_v16f n = (a * 0x1.715476p+0f + magic) - magic;
    rot_v16f r = (a - n * 0x1.62ep-1f) - n * 0x1.0bfbe8p-15f;
    rot_v16f q = rot_vset(0x1.6db4e0p-10f);
    q = q * r + 0x1.123be0p-7f;
    q = q * r + 0x1.55545ep-5f;
    q = q * r + 0x1.55548ep-3f;
    q = q * r + 0x1p-1f;
    rot_v16f p = (r * r * q + r) + 1.0f;
    // 2^n in two steps, so that neither over- nor underflows before the product does; a NaN has no
    // integer, and must not reach the conversion
    rot_v16f whole = rot_vselect((rot_v16i)(n == n), n, rot_vset(0.0f));
    rot_v16i k = __builtin_convertvector(whole, rot_v16i);
    rot_v16i k1 = k >> 1, k2 = k - k1;
    rot_v16f s1 = (rot_v16f)((k1 + 127) << 23), s2 = (rot_v16f)((k2 + 127) << 23);
    return p * s1 * s2;
}

ROT_INLINE rot_v16f rot_vabs(rot_v16f x)
{
    return (rot_v16f)((rot_v16u)x & 0x7fffffffu);
}

ROT_INLINE rot_v16f rot_vcopysign(rot_v16f magnitude, rot_v16f sign)
{
    return (rot_v16f)((rot_v16u)magnitude | ((rot_v16u)sign & 0x80000000u));
}

// |x| < 0.625: x + x^3 P(x^2); beyond: 1 - 2 / (exp(2 |x|) + 1).
ROT_INLINE rot_v16f rot_vtanh(rot_v16f x)
{
    rot_v16f a = rot_vabs(x), z = a * a;
    rot_v16f p = rot_vset(-0x1.76abc6p-8f);
    p = p * z + 0x1.5256c4p-6f;
    p = p * z + -0x1.b84446p-5f;
    p = p * z + 0x1.110768p-3f;
    p = p * z + -0x1.555534p-2f;
    rot_v16f small = a + a * z * p;
    rot_v16f large = 1.0f - 2.0f / (rot_vexp(a + a) + 1.0f);
    return rot_vcopysign(rot_vselect((rot_v16i)(a < 0.625f), small, large), x);
}

// |x| < 0.95: x + x P(x^2); beyond: 1 - exp(-x Q(x)), Q fitted to -log(erfc(x)) / x on [0.95, 4];
// over 4 the result is 1 in float.
ROT_INLINE rot_v16f rot_verf(rot_v16f x)
{
    rot_v16f a = rot_vabs(x), z = a * a;
    rot_v16f p = rot_vset(0x1.589466p-14f);
    p = p * z + -0x1.a8fc68p-11f;
    p = p * z + 0x1.54a490p-8f;
    p = p * z + -0x1.b80b0ep-6f;
    p = p * z + 0x1.ce2de2p-4f;
    p = p * z + -0x1.812742p-2f;
    p = p * z + 0x1.06eba8p-3f;
    rot_v16f small = a + a * p;
    rot_v16f c = rot_vmin(a, rot_vset(4.0f));
    rot_v16f q = rot_vset(0x1.218712p-18f);
    q = q * c + -0x1.3e2ffcp-15f;
    q = q * c + -0x1.74a2e6p-14f;
    q = q * c + 0x1.8e6366p-9f;
    q = q * c + -0x1.766a88p-6f;
    q = q * c + 0x1.afdb08p-4f;
    q = q * c + 0x1.456508p-1f;
    q = q * c + 0x1.20ea0ap+0f;
    rot_v16f large = 1.0f - rot_vexp(-(c * q));
    return rot_vcopysign(rot_vselect((rot_v16i)(a < 0.95f), small, large), x);
}

// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): torch.nn.functional.gelu(approximate="tanh")
ROT_INLINE rot_v16f rot_vgelu_tanh(rot_v16f x)
{
    rot_v16f inner = 0x1.988454p-1f * (x + 0x1.6e4e26p-5f * (x * x * x));
    return 0.5f * x * (1.0f + rot_vtanh(inner));
}

// 0.5 x (1 + erf(x / sqrt 2)): torch.nn.GELU()
ROT_INLINE rot_v16f rot_vgelu_erf(rot_v16f x)
{
    return 0.5f * x * (1.0f + rot_verf(x * 0x1.6a09e6p-1f));
}

// x / (1 + exp(-a x)): SiLU for a = 1, transformers' QuickGELUActivation for a = 1.702
ROT_INLINE rot_v16f rot_vswish(rot_v16f x, float a)
{
    return x / (1.0f + rot_vexp(x * -a));
}

#endif
