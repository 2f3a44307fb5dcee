// The emulated device as a library that ROT_CUDA_LIB can name.
#include "tests/unit/cuda_device.h"

const rot_cuda_driver *rot_cuda_driver_table(void);

const rot_cuda_driver *rot_cuda_driver_table(void)
{
    return &fake_driver;
}
