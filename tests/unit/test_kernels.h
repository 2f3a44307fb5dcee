// What the tests of kernels share: random numbers, the backends that can run here, buffers in and
// out.
#ifndef TEST_KERNELS_H
#define TEST_KERNELS_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bf16.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "kernels/backend.h"
#include "kernels/ref/math.h"
#include "kernels/ref/ref.h"

// What an epilogue makes of y, but for what it adds to; exact where little of y is left, too.
static inline double activation(rot_epilogue e, double y)
{
    switch (e) {
    case ROT_EPILOGUE_GELU_TANH:
        return y / (1 + exp(-2 * sqrt(2 / M_PI) * (y + 0.044715 * y * y * y)));
    case ROT_EPILOGUE_GELU_ERF: return 0.5 * y * erfc(-y / sqrt(2));
    case ROT_EPILOGUE_GELU_QUICK: return y / (1 + exp(-1.702 * y));
    default: return y;
    }
}

static uint64_t seed = 88172645463325252u;

static inline float uniform(void) // (-1, 1)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (float)((double)(seed >> 11) * 0x1p-52 - 1.0);
}

static inline float *random_floats(size_t n, float scale)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = scale * uniform();
    return x;
}

static inline float as_bf16(float x)
{
    return rot_bf16_to_f32(rot_f32_to_bf16(x));
}

typedef struct subject {
    const char *name;
    rot_precision precision;
    bool emulated; // amx with its tiles in C, cuda on a device in C
} subject;
static const subject subjects[] = {{"ref", ROT_PRECISION_F32, false},
                                   {"ref", ROT_PRECISION_BF16, false},
                                   {"onednn", ROT_PRECISION_BF16, false},
                                   {"amx", ROT_PRECISION_BF16, false},
                                   {"amx", ROT_PRECISION_BF16, true},
                                   {"cuda", ROT_PRECISION_BF16, true}};
enum { N_SUBJECTS = sizeof subjects / sizeof *subjects };

// The emulated device lies beside the test; ROT_TEST_CUDA_LIB names a real one's library.
static inline void name_cuda_library(void)
{
    char path[4096];
    const char *real = getenv("ROT_TEST_CUDA_LIB");
    if (real) {
        setenv("ROT_CUDA_LIB", real, 1);
        return;
    }
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    assert_true(n > 0);
    path[n] = 0;
    strcpy(strrchr(path, '/'), "/cuda_device.so");
    setenv("ROT_CUDA_LIB", path, 1);
}

static inline rot_backend *open_subject(int i, int threads)
{
    rot_backend *b = NULL;
    rot_err err;
    setenv("ROT_AMX_EMULATE", subjects[i].emulated ? "1" : "0", 1);
    if (!strcmp(subjects[i].name, "cuda")) name_cuda_library();
    int rc = rot_backend_open(subjects[i].name, subjects[i].precision, threads, &b, &err);
    if (rc == ROT_ERR_UNSUPPORTED) return NULL; // this machine or this build lacks it
    if (rc < 0) fail_msg("%s", err.message);
    return b;
}

static inline rot_buffer *put(rot_backend *b, rot_elem elem, size_t rows, size_t width,
                              const float *x)
{
    rot_buffer *buffer;
    rot_err err;
    assert_int_equal(b->ops->buffer_new(b, elem, rows, width, &buffer, &err), 0);
    if (x) b->ops->upload(b, buffer, 0, rows, x);
    return buffer;
}

// Rows as floats, whatever the buffer keeps.
static inline float *get(rot_backend *b, const rot_buffer *buffer, rot_elem elem, size_t rows,
                         size_t width)
{
    float *x = malloc(rows * width * 4);
    b->ops->download(b, buffer, 0, rows, x);
    if (elem == ROT_ELEM_ACT && b->precision == ROT_PRECISION_BF16) {
        uint16_t *u = malloc(rows * width * 2);
        memcpy(u, x, rows * width * 2);
        for (size_t i = 0; i < rows * width; i++) x[i] = rot_bf16_to_f32(u[i]);
        free(u);
    }
    return x;
}

#endif
