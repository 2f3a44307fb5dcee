// Inside the amx backend of training: what a task of a product is, and the function that runs it,
// compiled with tile instructions and with their emulation (kernels/amx/tiles.h).
#ifndef ROT_KERNELS_TRAIN_AMX_H
#define ROT_KERNELS_TRAIN_AMX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/train/parts.h"

enum {
    ROT_TRAIN_AMX_ROWS = 256, // of a task: with a chunk of k they stay in the second-level cache
    ROT_TRAIN_AMX_CHUNK = 32  // blocks of k (of one part) between loads and stores of sums
};

// c (m, n) [+]= a b [+ bias]: a in blocks (parts.h) of 32 rows by 32 of k, block row by block row;
// b in panels (panels.h), of pairs, or of floats if parts is 3. Zeros fill up k.
typedef struct rot_train_amx_product {
    int parts;
    size_t m, n, k_blocks;
    const uint32_t *a, *b;
    size_t b_panel; // words from panel to panel
    const float *bias;
    float *c;
    size_t ldc;
    bool add;
} rot_train_amx_product;

// Rows [row, last), row a multiple of 32, and the columns of panels [panel, last_panel). `space`:
// ROT_TRAIN_AMX_SPACE words of the thread's own.
enum { ROT_TRAIN_AMX_SPACE = 1024 + ROT_TRAIN_AMX_CHUNK * ROT_PART_WORDS };
typedef void rot_train_amx_run(const rot_train_amx_product *product, size_t row, size_t last,
                               size_t panel, size_t last_panel, uint32_t *space);
extern rot_train_amx_run rot_train_amx_real, rot_train_amx_emulated;

#endif
