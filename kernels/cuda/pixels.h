// Grey images to patch rows: the integers of encoder/resample.c and the order of encoder/patches.c,
// so that the bytes are those of the processor.
#ifndef ROT_KERNELS_CUDA_PIXELS_H
#define ROT_KERNELS_CUDA_PIXELS_H

#include "kernels/cuda/block.h"

// An image before pass `pass`: the first one's bytes, then by turns one of two pieces of scratch.
ROT_KERNEL const uint8_t *rot_cuda_pixels(const rot_cuda_pixels_args *a, const rot_cuda_picture *p,
                                          int pass)
{
    return pass == 0 ? a->blob + p->bytes : a->scratch + p->scratch[(pass - 1) % 2];
}

// A block's row of the grid is an image, a lane makes a byte: columns of pixels, one after another.
ROT_KERNEL void rot_cuda_resample(rot_block b, const rot_cuda_pixels_args *a)
{
    const rot_cuda_picture *p = a->pictures + b.y;
    if (a->pass >= p->n_passes) return;
    const rot_cuda_pass *s = &p->passes[a->pass];
    const uint8_t *in = rot_cuda_pixels(a, p, a->pass);
    uint8_t *out = a->scratch + p->scratch[a->pass % 2];
    const int32_t *first = (const int32_t *)(const void *)(a->blob + s->tables),
                  *taps = first + s->n_out, *weights = taps + s->n_out;
    const uint32_t height = (uint32_t)(s->columns ? s->other : s->n_out),
                   n = (uint32_t)s->other * (uint32_t)s->n_out;
    ROT_EACH_WARP(b, w)
    {
        ROT_EACH_LANE(l)
        {
            const uint32_t at =
                ((uint32_t)b.x * (uint32_t)b.warps + (uint32_t)w) * ROT_WARP + (uint32_t)l;
            if (at >= n) continue;
            const uint32_t x = at / height, y = at % height, i = s->columns ? x : y;
            const uint8_t *from = s->columns ? in + (size_t)first[i] * height + y
                                             : in + (size_t)x * (uint32_t)s->n_in + first[i];
            const size_t step = s->columns ? height : 1;
            int32_t sum = 1 << (s->precision - 1);
            for (int32_t j = 0; j < taps[i]; j++)
                sum += weights[(size_t)i * (size_t)s->stride + (size_t)j] * from[(size_t)j * step];
            sum >>= s->precision;
            out[at] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
        }
    }
}

// A block makes a patch: features (channel, time, y, x).
ROT_KERNEL void rot_cuda_patches(rot_block b, const rot_cuda_pixels_args *a)
{
    int32_t low = 0, high = a->n;
    while (high - low > 1) {
        const int32_t middle = (low + high) / 2;
        if (a->pictures[middle].row <= b.x)
            low = middle;
        else
            high = middle;
    }
    const rot_cuda_picture *p = a->pictures + low;
    const uint8_t *image = rot_cuda_pixels(a, p, p->n_passes);
    const int32_t m = a->merge, side = a->patch_px, area = side * side, r = b.x - p->row,
                  cell = r % (m * m), block = r / (m * m), across = p->grid_w / m;
    const int32_t top = (block / across * m + cell / m) * side,
                  left = (block % across * m + cell % m) * side;
    uint16_t *out = a->out + (size_t)b.x * (size_t)(3 * a->temporal * area);
    ROT_EACH_WARP(b, w)
    {
        ROT_EACH_LANE(l)
        {
            for (int32_t f = w * ROT_WARP + l; f < 3 * a->temporal * area;
                 f += b.warps * ROT_WARP) {
                const int32_t x = left + f % side, y = top + f % area / side;
                const bool inside = x < p->width && y < p->height;
                const uint8_t byte =
                    inside ? image[(size_t)x * (size_t)p->height + (size_t)y] : a->background;
                out[f] = rot_cuda_to_bf16(a->table[f / (a->temporal * area) * 256 + byte]);
            }
        }
    }
}

#endif
