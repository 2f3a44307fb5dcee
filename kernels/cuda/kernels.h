// The kernels there are and what each is given. Arrays are row-major and on the device; bf16 is
// uint16_t. What each computes stands in kernels/backend.h, at the operation of its name.
#ifndef ROT_KERNELS_CUDA_KERNELS_H
#define ROT_KERNELS_CUDA_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ROT_WARP = 32, ROT_MAX_WARPS = 8 }; // lanes of a warp, warps of a block

typedef enum rot_cuda_kernel {
    ROT_CUDA_NORM,
    ROT_CUDA_EPILOGUE,
    ROT_CUDA_SWIGLU,
    ROT_CUDA_ROPE,
    ROT_CUDA_ATTENTION_64, // heads of at most 64
    ROT_CUDA_ATTENTION_80,
    ROT_CUDA_ATTENTION_128,
    ROT_CUDA_RESAMPLE,
    ROT_CUDA_PATCHES,
    ROT_CUDA_INTERPOLATE,
    ROT_CUDA_KERNELS
} rot_cuda_kernel;

// A warp per row.
typedef struct rot_cuda_norm_args {
    const float *x;            // (rows, width)
    const float *gamma, *beta; // (width); beta NULL: RMSNorm
    void *out;                 // (rows, width) bf16, or float where `f32`; may be x then
    uint32_t rows, width;
    float eps;
    int f32;
} rot_cuda_norm_args;

typedef enum rot_cuda_activation {
    ROT_CUDA_IDENTITY,
    ROT_CUDA_GELU_TANH,
    ROT_CUDA_GELU_ERF,
    ROT_CUDA_GELU_QUICK
} rot_cuda_activation;

// out = act(sum + bias), an element per lane. rows * width < 2^31.
typedef struct rot_cuda_epilogue_args {
    const float *sum;  // (rows, width)
    const float *bias; // (width)
    uint16_t *out;     // (rows, width)
    uint32_t rows, width;
    int activation, unused; // so that no byte lies between: programs are compared
} rot_cuda_epilogue_args;

// An element per lane. rows * width < 2^31.
typedef struct rot_cuda_swiglu_args {
    const uint16_t *in; // (rows, 2 width)
    uint16_t *out;      // (rows, width)
    uint32_t rows, width;
} rot_cuda_swiglu_args;

// A block per row; more blocks than rows do nothing. A list of segments: how many, how many tasks,
// then where they start (n + 1).
typedef struct rot_cuda_rope_args {
    const uint16_t *qkv;          // (rows, 3 heads dim)
    const float *cosines, *sines; // (rows, dim / 2)
    uint16_t *q, *k, *v;          // head-major, as backend.h has it
    const int32_t *list;
    int32_t heads, dim;
} rot_cuda_rope_args;

// Queries [first, first + ROT_CUDA_QUERIES) of a segment.
typedef struct rot_cuda_task {
    int32_t segment, first;
} rot_cuda_task;

// A block per task and head: x the task, y the head; more blocks than tasks do nothing.
typedef struct rot_cuda_attention_args {
    const uint16_t *q, *k, *v;
    uint16_t *out; // (rows, heads dim)
    const int32_t *list;
    const rot_cuda_task *tasks;
    int32_t heads, dim;
    float scale;
    int unused;
} rot_cuda_attention_args;

// A pass of kernels/pixels.h. Offsets are into a blob of bytes.
typedef struct rot_cuda_pass {
    uint64_t tables;                    // first (n_out), taps (n_out), weights (n_out, stride)
    int32_t n_in, n_out, other, stride; // other: length of the axis that stays
    int32_t precision, columns;
} rot_cuda_pass;

typedef struct rot_cuda_picture {
    uint64_t bytes, scratch[2]; // offsets; scratch into another blob
    int32_t row;                // of its first patch
    int32_t width, height;      // after the passes
    int32_t grid_w, n_passes;
    rot_cuda_pass passes[4];
} rot_cuda_picture;

// RESAMPLE: pass `pass` of all images. PATCHES: a block per patch.
typedef struct rot_cuda_pixels_args {
    const uint8_t *blob;
    uint8_t *scratch;
    const rot_cuda_picture *pictures; // (n)
    const float *table;               // (3, 256)
    uint16_t *out;                    // (patches, 3 temporal patch_px^2)
    int32_t n, pass, patch_px, temporal, merge;
    uint8_t background;
} rot_cuda_pixels_args;

// Four rows of a table and their shares, as rot_taps (kernels/backend.h).
typedef struct rot_cuda_taps {
    int32_t at[4];
    float part[4];
} rot_cuda_taps;

// A block per row.
typedef struct rot_cuda_interpolate_args {
    const float *table; // (..., width)
    const rot_cuda_taps *taps;
    float *out; // (rows, width)
    uint32_t width;
} rot_cuda_interpolate_args;

enum { ROT_CUDA_QUERIES = 64, ROT_CUDA_KEYS = 64 };

typedef union rot_cuda_args {
    rot_cuda_norm_args norm;
    rot_cuda_epilogue_args epilogue;
    rot_cuda_swiglu_args swiglu;
    rot_cuda_rope_args rope;
    rot_cuda_attention_args attention;
    rot_cuda_pixels_args pixels;
    rot_cuda_interpolate_args interpolate;
} rot_cuda_args;

typedef struct rot_cuda_launch {
    rot_cuda_kernel kernel;
    uint32_t grid_x, grid_y, warps;
    rot_cuda_args args;
} rot_cuda_launch;

#endif
