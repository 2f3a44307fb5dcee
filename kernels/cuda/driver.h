// What the backend asks of a device, as a table of functions. librotoscope_cuda.so has the one on
// CUDA and cuBLASLt (device.cu); tests put one in its place that computes on the processor, notes
// every call and fails where it is told to.
//
// Three streams: what is given to one runs in the order in which it was given, beside the others.
// Every call returns at once unless it says that it waits, and returns 0 or a negative rot_error
// with the cause in `err`. One thread at a time.
#ifndef ROT_KERNELS_CUDA_DRIVER_H
#define ROT_KERNELS_CUDA_DRIVER_H

#include "kernels/cuda/kernels.h"
#include "rotoscope/error.h"

enum {
    ROT_CUDA_ABI = 4, // of this header; another one is refused
    ROT_CUDA_EVENTS = 40
};

typedef enum rot_cuda_stream {
    ROT_CUDA_COMPUTE,
    ROT_CUDA_IN,
    ROT_CUDA_OUT,
    ROT_CUDA_STREAMS
} rot_cuda_stream;
typedef enum rot_cuda_way {
    ROT_CUDA_TO_DEVICE,
    ROT_CUDA_FROM_DEVICE,
    ROT_CUDA_WITHIN
} rot_cuda_way;

typedef struct rot_cuda_info {
    char name[64];
    int major, minor, multiprocessors;
    uint64_t total_bytes, free_bytes;
    int driver_version, runtime_version; // as CUDA numbers them: 13000 is 13.0
    int blas_version;                    // as cuBLASLt does: 130100 is 13.1.0
    uint32_t chunk_rows;                 // rows of the largest product
    size_t place_bytes;                  // of a piece that goes up at once
} rot_cuda_info;

// out (rows, n_out) = in (rows, n_in) weight (n_out, n_in)^T + bias (n_out). bf16 in, sums in
// float32, never TF32.
typedef struct rot_cuda_product {
    uint32_t rows, n_in, n_out;
    bool f32;       // out and bias are float, else bf16, rounded once at the end
    bool bias;      // else `bias` is NULL
    bool add;       // out += instead, f32 alone
    bool gelu_tanh; // of the sum and the bias, bf16 alone
} rot_cuda_product;

// One way to compute a product; `name` says which to a reader.
typedef struct rot_cuda_choice {
    uint64_t data[8];
    char name[128];
} rot_cuda_choice;

typedef struct rot_cuda_device rot_cuda_device; // an open device; the driver's own

typedef struct rot_cuda_driver {
    int abi;
    // How many devices are visible. ROT_ERR_UNSUPPORTED: no driver, or one too old, or none.
    int (*count)(int *n, rot_err *err);
    int (*describe)(int device, rot_cuda_info *out, rot_err *err);
    int (*open)(int device, rot_cuda_device **out, rot_err *err);
    void (*close)(rot_cuda_device *device);

    // Memory of the device, at 256 bytes, or of the host where the device can copy it by itself.
    // ROT_ERR_NO_MEMORY. Freeing waits for the device.
    int (*alloc)(rot_cuda_device *device, size_t n_bytes, void **out, rot_err *err);
    void (*free)(rot_cuda_device *device, void *memory);
    int (*pin)(rot_cuda_device *device, size_t n_bytes, void **out, rot_err *err);
    void (*unpin)(rot_cuda_device *device, void *memory);

    // Copies between pinned memory and the device, or within it; sets bytes of the device to 0.
    int (*copy)(rot_cuda_device *device, rot_cuda_stream stream, rot_cuda_way way, void *to,
                const void *from, size_t n_bytes, rot_err *err);
    int (*clear)(rot_cuda_device *device, void *memory, size_t n_bytes, rot_err *err);

    // An event comes to pass when all that was given to the stream before has ended. `order` makes
    // a stream wait for it, `wait` waits itself; both at once if it was never marked.
    int (*mark)(rot_cuda_device *device, rot_cuda_stream stream, int event, rot_err *err);
    int (*order)(rot_cuda_device *device, rot_cuda_stream stream, int event, rot_err *err);
    int (*wait)(rot_cuda_device *device, int event, rot_err *err);
    int (*synchronise)(rot_cuda_device *device, rot_err *err); // waits for all streams

    int (*launch)(rot_cuda_device *device, const rot_cuda_launch *launch, rot_err *err);
    // From `record` to `recorded` launches and products are written down instead, and nothing else
    // may be called. `recorded` ends it in any case and makes a graph, which `replay` runs.
    int (*record)(rot_cuda_device *device, rot_err *err);
    int (*recorded)(rot_cuda_device *device, void **graph, rot_err *err);
    int (*replay)(rot_cuda_device *device, void *graph, rot_err *err);
    void (*forget)(rot_cuda_device *device, void *graph); // may still run

    // The n-th best way for this product, from 0 on: a function of the device, the library's
    // version and the product. ROT_ERR_NOT_FOUND: there are no more; ROT_ERR_UNSUPPORTED: it is
    // named, and does not run, which `multiply` may say too. `accepts`: whether a choice made for
    // other rows should do. in and out lie at 32 bytes, weight and bias at 256.
    int (*choose)(rot_cuda_device *device, const rot_cuda_product *product, int n,
                  rot_cuda_choice *out, rot_err *err);
    bool (*accepts)(rot_cuda_device *device, const rot_cuda_product *product,
                    const rot_cuda_choice *choice);
    int (*multiply)(rot_cuda_device *device, const rot_cuda_product *product,
                    const rot_cuda_choice *choice, const uint16_t *in, const uint16_t *weight,
                    const void *bias, void *out, rot_err *err);
} rot_cuda_driver;

// The one symbol of librotoscope_cuda.so: a table that lives as long as the library is loaded.
typedef const rot_cuda_driver *(*rot_cuda_driver_function)(void);
#define ROT_CUDA_SYMBOL "rot_cuda_driver_table"

#endif
