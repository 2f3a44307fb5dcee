// What GPUs there are and what a backend would do with them: asked by doctor, answered by kernels/.
#ifndef ROT_BASE_GPUS_H
#define ROT_BASE_GPUS_H

#include <stdbool.h>
#include <stdint.h>

#include "rotoscope/error.h"

typedef struct rot_gpu {
    char name[64];
    int major, minor; // compute capability
    uint64_t total_bytes, free_bytes;
    int driver_cuda, runtime_cuda; // 13000 is CUDA 13.0
    char identity[128];            // of a backend on it
    bool ours;                     // the one that this process would take
} rot_gpu;

// Up to `capacity` of them; returns how many. 0: none, and `err` says why.
int rot_kernels_gpus(rot_gpu *out, int capacity, rot_err *err);

#endif
