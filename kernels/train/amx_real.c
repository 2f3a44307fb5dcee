// The products with the tile instructions. Reached only where the processor has them and the
// system lets us use them (amx.c).
#ifdef __x86_64__
#include "kernels/amx/tiles.h"

#define NAME rot_train_amx_real
#include "kernels/train/amx_product.h"
#endif
typedef int rot_train_amx_real_unit; // elsewhere the file is not empty
