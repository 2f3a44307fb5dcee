// What rot_buffer is in this backend.
#ifndef ROT_KERNELS_CUDA_BUFFER_H
#define ROT_KERNELS_CUDA_BUFFER_H

#include "kernels/backend.h"

struct rot_buffer {
    void *data; // on the device
    rot_elem elem;
    size_t elem_bytes, rows, width, n_bytes; // rows: as allocated
    int sent; // to slot sent - 1: not to be written before that copy has ended; 0: to none
};

#endif
