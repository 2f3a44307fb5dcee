// Buffers of the backends that compute on the processor: plain memory.
#ifndef ROT_KERNELS_HOST_H
#define ROT_KERNELS_HOST_H

#include "kernels/backend.h"

struct rot_buffer {
    void *data;
    rot_elem elem;
    size_t elem_bytes, rows, width; // rows: as allocated
};

// Zeroed memory at 64 bytes, in huge pages where the system grants them: a tower walks hundreds of
// megabytes of weights per batch. Released with rot_free.
void *rot_host_alloc(size_t n_bytes, const char *what, rot_err *err);
// 0 if `packed` is n_bytes long and of the one layout that a backend has.
int rot_host_check_packed(const rot_packed *packed, size_t n_bytes, rot_err *err);
int rot_host_buffer_new(rot_elem elem, size_t elem_bytes, size_t rows, size_t width,
                        rot_buffer **out, rot_err *err);
void rot_host_buffer_free(rot_buffer *buffer);

#endif
