// To the device and back. What goes up is copied to pinned memory, from there by a stream of its
// own to a landing place on the device, and from there, in the order of the other work, to where it
// belongs: so a batch goes up while the one before is computed. Places are used in turns.
#include <string.h>

#include "base/bf16.h"
#include "base/err.h"
#include "kernels/cuda/cuda.h"

static int prepare(rot_cuda *cuda, rot_err *err)
{
    const size_t n_bytes = ROT_CUDA_PLACES * cuda->info.place_bytes;
    if (!cuda->pinned)
        ROT_TRY(cuda->driver->pin(cuda->device, n_bytes, (void **)&cuda->pinned, err));
    if (!cuda->landing)
        ROT_TRY(rot_cuda_alloc(cuda, n_bytes, "what comes up", (void **)&cuda->landing, err));
    return 0;
}

void rot_cuda_staging_close(rot_cuda *cuda)
{
    if (cuda->pinned) cuda->driver->unpin(cuda->device, cuda->pinned);
    rot_cuda_free(cuda, cuda->landing, ROT_CUDA_PLACES * cuda->info.place_bytes);
}

// The next place, once what was there has left.
static int take_place(rot_cuda *cuda, int *place, rot_err *err)
{
    *place = (int)(cuda->next_place++ % ROT_CUDA_PLACES);
    return cuda->driver->wait(cuda->device, ROT_CUDA_LEFT + *place, err);
}

static unsigned char *pinned_at(const rot_cuda *cuda, int place)
{
    return cuda->pinned + (size_t)place * cuda->info.place_bytes;
}

static int go_up(rot_cuda *cuda, int place, void *to, size_t n_bytes, rot_err *err)
{
    const rot_cuda_driver *d = cuda->driver;
    unsigned char *landing = cuda->landing + (size_t)place * cuda->info.place_bytes;
    ROT_TRY(d->copy(cuda->device, ROT_CUDA_IN, ROT_CUDA_TO_DEVICE, landing, pinned_at(cuda, place),
                    n_bytes, err));
    ROT_TRY(d->mark(cuda->device, ROT_CUDA_IN, ROT_CUDA_LANDED + place, err));
    ROT_TRY(d->order(cuda->device, ROT_CUDA_COMPUTE, ROT_CUDA_LANDED + place, err));
    ROT_TRY(d->copy(cuda->device, ROT_CUDA_COMPUTE, ROT_CUDA_WITHIN, to, landing, n_bytes, err));
    return d->mark(cuda->device, ROT_CUDA_COMPUTE, ROT_CUDA_LEFT + place, err);
}

int rot_cuda_put_bytes(rot_cuda *cuda, void *to, const void *from, size_t n_bytes, rot_err *err)
{
    ROT_TRY(prepare(cuda, err));
    for (size_t at = 0; at < n_bytes; at += cuda->info.place_bytes) {
        const size_t left = n_bytes - at,
                     n = left < cuda->info.place_bytes ? left : cuda->info.place_bytes;
        int place;
        ROT_TRY(take_place(cuda, &place, err));
        memcpy(pinned_at(cuda, place), (const unsigned char *)from + at, n);
        ROT_TRY(go_up(cuda, place, (unsigned char *)to + at, n, err));
    }
    return 0;
}

int rot_cuda_put_rounded(rot_cuda *cuda, uint16_t *to, const float *from, size_t n, rot_err *err)
{
    const size_t most = cuda->info.place_bytes / sizeof *to;
    ROT_TRY(prepare(cuda, err));
    for (size_t at = 0; at < n; at += most) {
        const size_t count = n - at < most ? n - at : most;
        int place;
        ROT_TRY(take_place(cuda, &place, err));
        uint16_t *rounded = (uint16_t *)(void *)pinned_at(cuda, place);
#pragma omp parallel for simd schedule(static) num_threads(cuda->base.threads)
        for (size_t k = 0; k < count; k++) rounded[k] = rot_f32_to_bf16(from[at + k]);
        ROT_TRY(go_up(cuda, place, to + at, count * sizeof *to, err));
    }
    return 0;
}

int rot_cuda_fetch(rot_cuda *cuda, const void *from, void *to, size_t n_bytes, rot_err *err)
{
    const rot_cuda_driver *d = cuda->driver;
    ROT_TRY(prepare(cuda, err));
    for (size_t at = 0; at < n_bytes; at += cuda->info.place_bytes) {
        const size_t left = n_bytes - at,
                     n = left < cuda->info.place_bytes ? left : cuda->info.place_bytes;
        int place;
        ROT_TRY(take_place(cuda, &place, err));
        ROT_TRY(d->copy(cuda->device, ROT_CUDA_COMPUTE, ROT_CUDA_FROM_DEVICE,
                        pinned_at(cuda, place), (const unsigned char *)from + at, n, err));
        ROT_TRY(d->mark(cuda->device, ROT_CUDA_COMPUTE, ROT_CUDA_LEFT + place, err));
        ROT_TRY(d->wait(cuda->device, ROT_CUDA_LEFT + place, err));
        memcpy((unsigned char *)to + at, pinned_at(cuda, place), n);
    }
    return 0;
}
