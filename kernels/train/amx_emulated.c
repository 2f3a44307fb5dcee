// The same products with the tile operations in C, so that packing and tails are tested where there
// are no tiles.
#ifdef __x86_64__
#define ROT_AMX_EMULATE
#include "kernels/amx/tiles.h"

#define NAME rot_train_amx_emulated
#include "kernels/train/amx_product.h"
#endif
typedef int rot_train_amx_emulated_unit; // elsewhere the file is not empty
