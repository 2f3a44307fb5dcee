// The row-wise arithmetic for any machine.
#define FN static
#define ROWS rot_train_rows_c
#include "kernels/train/rows_body.h"
