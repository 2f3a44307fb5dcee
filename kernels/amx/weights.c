// Weights of the amx backend: packed for its tiles, or taken as they were packed before.
#include "base/err.h"
#include "kernels/amx/amx.h"

#ifdef __x86_64__
#include <omp.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/avx512.h"

void rot_amx_linear_free(rot_backend *backend, rot_linear *linear)
{
    (void)backend;
    if (!linear) return;
    rot_free(linear->own_weight);
    rot_free(linear->bias);
    rot_free(linear);
}

static size_t packed_bytes(size_t n_in, size_t n_out)
{
    return rot_amx_blocks(n_out) * rot_amx_blocks(n_in) * ROT_AMX_ELEMS * 2;
}

// A weight of its own, to be filled, if there is none.
static int new_linear(rot_backend *backend, rot_linear shape, const float *bias, rot_linear **out,
                      rot_err *err)
{
    *out = NULL;
    rot_linear *linear = rot_calloc(1, sizeof *linear);
    if (!linear) return rot_no_memory(err, sizeof *linear, "a weight");
    *linear = shape;
    if (!linear->weight)
        linear->weight = linear->own_weight =
            rot_host_alloc(packed_bytes(shape.n_in, shape.n_out), "a weight", err);
    if (linear->weight)
        linear->bias =
            rot_host_alloc(rot_amx_blocks(shape.n_out) * 32 * sizeof(float), "a bias", err);
    if (!linear->bias) {
        rot_amx_linear_free(backend, linear);
        return ROT_ERR_NO_MEMORY;
    }
    memcpy(linear->bias, bias, shape.n_out * sizeof *bias);
    *out = linear;
    return 0;
}

void rot_amx_linear_packed(const rot_backend *backend, const rot_linear *linear, rot_packed *out)
{
    (void)backend;
    *out =
        (rot_packed){.bytes = linear->weight, .n_bytes = packed_bytes(linear->n_in, linear->n_out)};
}

int rot_amx_linear_new_packed(rot_backend *backend, size_t n_in, size_t n_out,
                              rot_epilogue epilogue, const rot_packed *packed, const float *bias,
                              rot_linear **out, rot_err *err)
{
    *out = NULL;
    ROT_TRY(rot_host_check_packed(packed, packed_bytes(n_in, n_out), err));
    return new_linear(backend, (rot_linear){n_in, n_out, epilogue, packed->bytes, NULL, NULL}, bias,
                      out, err);
}

// From `wide`, or from `narrow` where that is NULL.
static int make_linear(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                       const float *wide, const uint16_t *narrow, const float *bias,
                       rot_linear **out, rot_err *err)
{
    size_t n_blocks = rot_amx_blocks(n_out), k_blocks = rot_amx_blocks(n_in);
    size_t plain_elems = 32 * n_in; // of a block column, per thread
    rot_linear *linear;
    *out = NULL;
    ROT_TRY(new_linear(backend, (rot_linear){n_in, n_out, epilogue, NULL, NULL, NULL}, bias,
                       &linear, err));
    uint16_t *plain = rot_host_alloc((size_t)backend->threads * plain_elems * 2, "packing", err);
    if (!plain) {
        rot_amx_linear_free(backend, linear);
        return ROT_ERR_NO_MEMORY;
    }
#pragma omp parallel for schedule(static) num_threads(backend->threads)
    for (size_t block = 0; block < n_blocks; block++) {
        uint16_t *rounded = plain + (size_t)omp_get_thread_num() * plain_elems;
        size_t n = n_out - block * 32 < 32 ? n_out - block * 32 : 32;
        if (wide) rot_avx512_round_row(wide + block * 32 * n_in, n * n_in, rounded);
        rot_amx_pack_rows(wide ? rounded : narrow + block * 32 * n_in, n, n_in,
                          linear->own_weight + block * k_blocks * ROT_AMX_ELEMS);
    }
    rot_free(plain);
    *out = linear;
    return 0;
}

int rot_amx_linear_new(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                       const float *weight, const float *bias, rot_linear **out, rot_err *err)
{
    return make_linear(backend, n_in, n_out, epilogue, weight, NULL, bias, out, err);
}

int rot_amx_linear_new_bf16(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                            const uint16_t *weight, const float *bias, rot_linear **out,
                            rot_err *err)
{
    return make_linear(backend, n_in, n_out, epilogue, NULL, weight, bias, out, err);
}

#endif
