// A kernel is written once and runs twice: on a device, one thread per thread; on a processor, a
// block's warps one after another, phase by phase. The processor runs the tests of the arithmetic.
//
// A kernel is a function of its block and its arguments. Work between two ROT_BARRIERs (shared.h)
// stands in ROT_EACH_WARP, and within it in ROT_EACH_LANE; values that a lane keeps from one of
// these loops to the next are in `rot_lanes` or in arrays of ROT_HELD lanes, indexed by
// ROT_AT(lane). What a warp keeps across a barrier is an array of ROT_HELD_WARPS. Within a loop no
// lane reads what another one writes: a processor may go through it from either end.
#ifndef ROT_KERNELS_CUDA_BLOCK_H
#define ROT_KERNELS_CUDA_BLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cuda/kernels.h"

typedef struct rot_block {
    int x, y, warps; // which block of the grid; warps of a block
} rot_block;

#ifdef __CUDACC__
#define ROT_KERNEL static __device__ __forceinline__
#define ROT_UNROLL _Pragma("unroll")
#define ROT_EACH_WARP(block, w)                                                                    \
    for (int w = (int)threadIdx.x / ROT_WARP, once_##w = 1; once_##w; once_##w = 0)
#define ROT_EACH_LANE(l)                                                                           \
    for (int l = (int)threadIdx.x % ROT_WARP, once_##l = 1; once_##l; once_##l = 0)
#define ROT_AT(l) ((void)(l), 0)
enum { ROT_HELD = 1, ROT_HELD_WARPS = 1 };
#else
#define ROT_KERNEL static inline
#define ROT_UNROLL
#define ROT_EACH_WARP(block, w) ROT_EACH((block).warps, w)
#define ROT_EACH_LANE(l) ROT_EACH(ROT_WARP, l)
#define ROT_EACH(n, i)                                                                             \
    for (int i = rot_backwards ? (n)-1 : 0; i >= 0 && i < (n); i += rot_backwards ? -1 : 1)
static int rot_backwards; // set between launches
#define ROT_AT(l) (l)
enum { ROT_HELD = ROT_WARP, ROT_HELD_WARPS = ROT_MAX_WARPS };
#endif
#define ROT_AT_WARP(w) ((w) % ROT_HELD_WARPS)

typedef struct rot_lanes {
    float v[ROT_HELD];
} rot_lanes;

// Adds up the lanes that differ in the bits of `from` downwards; all of them get the sum. Both
// partners add the same two numbers, so every lane has the same bits.
ROT_KERNEL void rot_lanes_sum(rot_lanes *x, int from)
{
#ifdef __CUDACC__
    for (int mask = from; mask; mask /= 2) x->v[0] += __shfl_xor_sync(0xffffffffu, x->v[0], mask);
#else
    for (int mask = from; mask; mask /= 2) {
        rot_lanes y = *x;
        for (int l = 0; l < ROT_WARP; l++) x->v[l] = y.v[l] + y.v[l ^ mask];
    }
#endif
}

ROT_KERNEL void rot_lanes_max(rot_lanes *x, int from)
{
#ifdef __CUDACC__
    for (int mask = from; mask; mask /= 2) {
        float y = __shfl_xor_sync(0xffffffffu, x->v[0], mask);
        x->v[0] = y > x->v[0] ? y : x->v[0];
    }
#else
    for (int mask = from; mask; mask /= 2) {
        rot_lanes y = *x;
        for (int l = 0; l < ROT_WARP; l++)
            x->v[l] = y.v[l ^ mask] > y.v[l] ? y.v[l ^ mask] : y.v[l];
    }
#endif
}

ROT_KERNEL uint32_t rot_bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

ROT_KERNEL float rot_float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

// As base/bf16.h.
ROT_KERNEL float rot_cuda_from_bf16(uint16_t b)
{
    return rot_float_of((uint32_t)b << 16);
}

ROT_KERNEL uint16_t rot_cuda_to_bf16(float x)
{
    uint32_t u = rot_bits_of(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

#endif
