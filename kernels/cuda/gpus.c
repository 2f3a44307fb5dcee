#include "base/gpus.h"

#include <stdio.h>
#include <string.h>

#include "kernels/cuda/cuda.h"

int rot_kernels_gpus(rot_gpu *out, int capacity, rot_err *err)
{
    const rot_cuda_driver *driver;
    rot_err ignored;
    int n = 0, ours = -1;
    if (rot_cuda_load(&driver, err) < 0 || driver->count(&n, err) < 0) return 0;
    if (rot_cuda_device_of_rank(driver, &ours, &ignored) < 0) ours = -1;
    if (n > capacity) n = capacity;
    for (int i = 0; i < n; i++) {
        rot_cuda_info info;
        if (driver->describe(i, &info, err) < 0) return 0;
        out[i] = (rot_gpu){.major = info.major,
                           .minor = info.minor,
                           .total_bytes = info.total_bytes,
                           .free_bytes = info.free_bytes,
                           .driver_cuda = info.driver_version,
                           .runtime_cuda = info.runtime_version,
                           .ours = i == ours};
        memcpy(out[i].name, info.name, sizeof out[i].name);
        rot_cuda_identity(&info, out[i].identity);
    }
    return n;
}
