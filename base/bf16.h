// bfloat16 as the upper half of a float32, rounded to nearest, ties to even.
#ifndef ROT_BASE_BF16_H
#define ROT_BASE_BF16_H

#include <stdint.h>
#include <string.h>

static inline float rot_bf16_to_f32(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline uint16_t rot_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40); // NaN stays NaN
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

// IEEE half to float32, exact.
static inline float rot_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ffu;
    uint32_t u;
    float f;
    if (exponent == 31)
        u = sign | 0x7f800000u | mantissa << 13;
    else if (exponent)
        u = sign | (exponent + 112) << 23 | mantissa << 13;
    else {
        f = (float)mantissa * 0x1p-24f;
        memcpy(&u, &f, 4);
        u |= sign;
    }
    memcpy(&f, &u, 4);
    return f;
}

// To IEEE half: nearest, ties to even; what is too large becomes infinity.
static inline uint16_t rot_f32_to_f16(float f)
{
    uint32_t u, sign, a;
    memcpy(&u, &f, 4);
    sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); // 65520 and more
    if (a < 0x38800000u) { // a subnormal half: its unit is 2^-24; the sum rounds
        float magnitude, half = 0.5f;
        memcpy(&magnitude, &a, 4);
        magnitude += half;
        memcpy(&a, &magnitude, 4);
        return (uint16_t)(sign | (a - 0x3f000000u));
    }
    a += 0xfffu + (a >> 13 & 1u);
    return (uint16_t)(sign | (a - 0x38000000u) >> 13);
}

#endif
