// The row-wise and element-wise kernels.
#ifndef ROT_KERNELS_CUDA_ROWS_H
#define ROT_KERNELS_CUDA_ROWS_H

#ifndef __CUDACC__
#include <math.h>
#endif

#include "kernels/cuda/math.h"

// Element of a lane where every lane of a grid has one.
ROT_KERNEL uint32_t rot_cuda_element(rot_block b, int w, int l)
{
    return ((uint32_t)b.x * (uint32_t)b.warps + (uint32_t)w) * ROT_WARP + (uint32_t)l;
}

// Mean of (x - centre)^power over a row, power 1 or 2; the same in all lanes.
ROT_KERNEL float rot_cuda_moment(const float *x, uint32_t width, float centre, int power)
{
    rot_lanes sum;
    ROT_EACH_LANE(l)
    {
        float s = 0.0f;
        for (uint32_t i = (uint32_t)l; i < width; i += ROT_WARP) {
            float d = x[i] - centre;
            s += power == 2 ? d * d : d;
        }
        sum.v[ROT_AT(l)] = s;
    }
    rot_lanes_sum(&sum, ROT_WARP / 2);
    return sum.v[0] / (float)width;
}

ROT_KERNEL void rot_cuda_norm(rot_block b, const rot_cuda_norm_args *a)
{
    ROT_EACH_WARP(b, w)
    {
        const uint32_t row = (uint32_t)b.x * (uint32_t)b.warps + (uint32_t)w;
        if (row >= a->rows) continue;
        const size_t at = (size_t)row * a->width;
        const float *x = a->x + at;
        const float mean = a->beta ? rot_cuda_moment(x, a->width, 0.0f, 1) : 0.0f;
        const float scale = 1.0f / sqrtf(rot_cuda_moment(x, a->width, mean, 2) + a->eps);
        ROT_EACH_LANE(l)
        {
            for (uint32_t i = (uint32_t)l; i < a->width; i += ROT_WARP) {
                float y = (x[i] - mean) * scale * a->gamma[i] + (a->beta ? a->beta[i] : 0.0f);
                if (a->f32)
                    ((float *)a->out)[at + i] = y;
                else
                    ((uint16_t *)a->out)[at + i] = rot_cuda_to_bf16(y);
            }
        }
    }
}

ROT_KERNEL float rot_cuda_activate(int activation, float y)
{
    if (activation == ROT_CUDA_GELU_TANH) return rot_cuda_gelu_tanh(y);
    if (activation == ROT_CUDA_GELU_ERF) return rot_cuda_gelu_erf(y);
    if (activation == ROT_CUDA_GELU_QUICK) return rot_cuda_swish(y, 1.702f);
    return y;
}

ROT_KERNEL void rot_cuda_epilogue(rot_block b, const rot_cuda_epilogue_args *a)
{
    ROT_EACH_WARP(b, w)
    {
        ROT_EACH_LANE(l)
        {
            const uint32_t i = rot_cuda_element(b, w, l);
            if (i < a->rows * a->width)
                a->out[i] = rot_cuda_to_bf16(
                    rot_cuda_activate(a->activation, a->sum[i] + a->bias[i % a->width]));
        }
    }
}

ROT_KERNEL void rot_cuda_swiglu(rot_block b, const rot_cuda_swiglu_args *a)
{
    ROT_EACH_WARP(b, w)
    {
        ROT_EACH_LANE(l)
        {
            const uint32_t i = rot_cuda_element(b, w, l), column = i % a->width;
            if (i >= a->rows * a->width) continue;
            const uint16_t *row = a->in + (size_t)(i / a->width) * 2 * a->width;
            a->out[i] = rot_cuda_to_bf16(rot_cuda_swish(rot_cuda_from_bf16(row[column]), 1.0f) *
                                         rot_cuda_from_bf16(row[a->width + column]));
        }
    }
}

ROT_KERNEL void rot_cuda_interpolate(rot_block b, const rot_cuda_interpolate_args *a)
{
    const rot_cuda_taps taps = a->taps[b.x];
    const float *row[4];
    ROT_UNROLL
    for (int i = 0; i < 4; i++) row[i] = a->table + (size_t)taps.at[i] * a->width;
    float *out = a->out + (size_t)b.x * a->width;
    ROT_EACH_WARP(b, w)
    {
        ROT_EACH_LANE(l)
        {
            for (uint32_t i = (uint32_t)(w * ROT_WARP + l); i < a->width;
                 i += (uint32_t)b.warps * ROT_WARP)
                out[i] = row[0][i] * taps.part[0] + row[1][i] * taps.part[1] +
                         row[2][i] * taps.part[2] + row[3][i] * taps.part[3];
        }
    }
}

// The segment that a row lies in.
ROT_KERNEL int32_t rot_cuda_segment_of(const int32_t *starts, int32_t n, int32_t row)
{
    int32_t low = 0, high = n; // starts[low] <= row < starts[high]
    while (high - low > 1) {
        const int32_t middle = (low + high) / 2;
        if (starts[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

ROT_KERNEL void rot_cuda_rotate(const uint16_t *x, int32_t half, float c, float s, uint16_t *out)
{
    const float p = rot_cuda_from_bf16(x[0]), q = rot_cuda_from_bf16(x[half]);
    out[0] = rot_cuda_to_bf16(p * c - q * s);
    out[half] = rot_cuda_to_bf16(q * c + p * s);
}

ROT_KERNEL void rot_cuda_rope(rot_block b, const rot_cuda_rope_args *a)
{
    const int32_t n_segments = a->list[0], *starts = a->list + 2;
    if (b.x >= starts[n_segments]) return;
    const int32_t half = a->dim / 2, width = a->heads * a->dim,
                  segment = rot_cuda_segment_of(starts, n_segments, b.x);
    const size_t start = (size_t)starts[segment], n = (size_t)starts[segment + 1] - start,
                 i = (size_t)b.x - start;
    const uint16_t *row = a->qkv + (size_t)b.x * 3 * (size_t)width;
    const float *cosines = a->cosines + (size_t)b.x * (size_t)half;
    const float *sines = a->sines + (size_t)b.x * (size_t)half;
    ROT_EACH_WARP(b, w)
    {
        ROT_EACH_LANE(l)
        {
            for (int32_t pair = w * ROT_WARP + l; pair < a->heads * half;
                 pair += b.warps * ROT_WARP) {
                const int32_t head = pair / half, d = pair % half, from = head * a->dim + d;
                const size_t to =
                    (start * (size_t)a->heads + (size_t)head * n + i) * (size_t)a->dim + (size_t)d;
                rot_cuda_rotate(row + from, half, cosines[d], sines[d], a->q + to);
                rot_cuda_rotate(row + width + from, half, cosines[d], sines[d], a->k + to);
                a->v[to] = row[2 * width + from];
                a->v[to + (size_t)half] = row[2 * width + from + half];
            }
        }
    }
}

#endif
