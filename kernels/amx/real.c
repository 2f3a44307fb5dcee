// The kernels with the tile instructions. Reached only where the processor has them and the system
// lets us use them (amx.c).
#ifdef __x86_64__
#include "kernels/amx/tiles.h"

#include "kernels/amx/rows.h"

#include "kernels/amx/attention.h"
#include "kernels/amx/product.h"

size_t rot_amx_sums_floats(size_t k_blocks, size_t n_blocks)
{
    size_t columns = k_blocks > ROT_AMX_K_WHOLE ? n_blocks : 4; // product.h, slots
    return columns * (ROT_AMX_ROWS / 32) * ROT_AMX_ELEMS;
}

size_t rot_amx_head_bytes(size_t n, size_t dim)
{
    head_space s;
    return lay_out(NULL, n, dim, &s);
}

const rot_amx_kernels rot_amx_real = {"amx_bf16", linear_task, attention_head, norm_row};

#endif
typedef int rot_amx_real_unit; // elsewhere the file is not empty
