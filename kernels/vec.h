// Sixteen floats at a time in plain C (vector extensions of gcc and clang). Each lane is an IEEE
// single operation and nothing is contracted, so the bits do not depend on how wide the machine's
// registers are.
#ifndef ROT_KERNELS_VEC_H
#define ROT_KERNELS_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Vectors are passed between inlined functions only, so that no call with another idea of the ABI
// can exist (the Makefile's -Wno-psabi).
#define ROT_INLINE static inline __attribute__((always_inline))

enum { ROT_LANES = 16 };

typedef float rot_v16f __attribute__((vector_size(64)));
typedef int32_t rot_v16i __attribute__((vector_size(64)));
typedef uint32_t rot_v16u __attribute__((vector_size(64)));

ROT_INLINE rot_v16f rot_vset(float x)
{
    return x - (rot_v16f){0}; // exact, -0 and NaN too
}

ROT_INLINE rot_v16f rot_vload(const float *p)
{
    rot_v16f v;
    memcpy(&v, p, sizeof v);
    return v;
}

ROT_INLINE void rot_vstore(float *p, rot_v16f v)
{
    memcpy(p, &v, sizeof v);
}

// The first n lanes (n < 16), the others `fill`.
ROT_INLINE rot_v16f rot_vload_n(const float *p, size_t n, float fill)
{
    float t[ROT_LANES];
    for (size_t i = 0; i < ROT_LANES; i++) t[i] = i < n ? p[i] : fill;
    return rot_vload(t);
}

ROT_INLINE void rot_vstore_n(float *p, rot_v16f v, size_t n)
{
    float t[ROT_LANES];
    rot_vstore(t, v);
    for (size_t i = 0; i < n; i++) p[i] = t[i];
}

// mask lanes are 0 or -1, as comparisons give them
ROT_INLINE rot_v16f rot_vselect(rot_v16i mask, rot_v16f yes, rot_v16f no)
{
    return (rot_v16f)((mask & (rot_v16i)yes) | (~mask & (rot_v16i)no));
}

// A NaN in `a` stays.
ROT_INLINE rot_v16f rot_vmin(rot_v16f a, rot_v16f b)
{
    return rot_vselect((rot_v16i)(b < a), b, a);
}

ROT_INLINE rot_v16f rot_vmax(rot_v16f a, rot_v16f b)
{
    return rot_vselect((rot_v16i)(b > a), b, a);
}

// Lanes are added pairwise: 16, 8, 4, 2, 1.
ROT_INLINE float rot_vsum(rot_v16f v)
{
    float t[ROT_LANES];
    rot_vstore(t, v);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) t[i] += t[i + half];
    return t[0];
}

ROT_INLINE float rot_vmax_all(rot_v16f v)
{
    float t[ROT_LANES];
    rot_vstore(t, v);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) t[i] = t[i + half] > t[i] ? t[i + half] : t[i];
    return t[0];
}

// To bfloat16 and back: nearest, ties to even, as rot_f32_to_bf16 (NaN stays NaN).
ROT_INLINE rot_v16f rot_vround_bf16(rot_v16f v)
{
    rot_v16u u = (rot_v16u)v;
    rot_v16u rounded = (u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u;
    rot_v16u quiet = (u & 0xffff0000u) | 0x400000u;
    rot_v16i nan = (rot_v16i)((u & 0x7fffffffu) > 0x7f800000u);
    return rot_vselect(nan, (rot_v16f)quiet, (rot_v16f)rounded);
}

#endif
