// The same kernels with the tile operations in C, so that packing, tails and epilogues are tested
// where there are no tiles.
#ifdef __x86_64__
#define ROT_AMX_EMULATE
#include "kernels/amx/tiles.h"

#include "kernels/amx/rows.h"

#include "kernels/amx/attention.h"
#include "kernels/amx/product.h"

const rot_amx_kernels rot_amx_emulated = {"emulated", linear_task, attention_head, norm_row};

#endif
typedef int rot_amx_emulated_unit; // elsewhere the file is not empty
