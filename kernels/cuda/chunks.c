#include "kernels/cuda/cuda.h"

uint32_t rot_cuda_next_chunk(const rot_cuda_sizes *sizes, size_t left, size_t room)
{
    uint32_t rows = 0;
    for (int i = 0; i < ROT_CUDA_SIZES; i++) {
        const uint32_t size = sizes->largest >> 2 * i;
        if (!sizes->has[i] || size > room) continue;
        rows = size;
        if (2 * left >= rows) break;
    }
    return rows;
}

size_t rot_cuda_padded(uint32_t largest, size_t rows)
{
    const size_t whole = rows == 1 ? largest >> 2 * (ROT_CUDA_SIZES - 1) : 4 * (size_t)largest;
    return (rows + whole - 1) / whole * whole;
}
