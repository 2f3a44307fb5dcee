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

#endif
