// Floats as bfloat16 parts, in the order of tiles of AMX. One part: rounded to nearest, ties to
// even. Three: the float is their sum (Henry, Tang and Heinecke 2019, "Leveraging the bfloat16
// artificial intelligence datatype for higher-precision computations"): 8 bits each, the first two
// rounded to nearest. An infinity becomes NaN, and so does what rounds to one, from 3.395e38 on.
// Callers have asked rot_cpu.avx512.
//
// A block is 32 rows (or columns) by 32 elements of k: part after part, each 512 words of two
// bfloat16, neighbours along k, the first in the low half.
#ifndef ROT_KERNELS_TRAIN_PARTS_H
#define ROT_KERNELS_TRAIN_PARTS_H

#include <stddef.h>
#include <stdint.h>

enum { ROT_PART_WORDS = 512, ROT_PARTS_F32 = 3 };

// A row of a left factor, n floats; blocks of k are parts * 512 words apart, the row's 16 words of
// each begin at `out`. Past n: zeros up to the block's end.
void rot_parts_row(int parts, const float *x, size_t n, uint32_t *out);
// 16 rows of a left factor that are columns of x (k <= 32, n <= 16): row i is column i of x.
void rot_parts_columns(int parts, const float *x, size_t stride, size_t k, size_t n, uint32_t *out);
// Three parts of a right factor: blocks of a panel of floats (32 k_blocks, 32).
void rot_parts_panel(const float *panel, size_t k_blocks, uint32_t *out);

#endif
