// Shared memory of a block. Copies into it run beside the arithmetic (cp.async) until the next
// ROT_BARRIER. On a processor every access is watched: reading what was never written, and two
// threads that touch a word between two barriers, one of them to write it, are faults.
#ifndef ROT_KERNELS_CUDA_SHARED_H
#define ROT_KERNELS_CUDA_SHARED_H

#include "kernels/cuda/block.h"

enum { ROT_SHARED_MOST = 2 * ROT_CUDA_KEYS * (128 + 8) }; // elements: the widest attention's

#ifdef __CUDACC__
typedef uint16_t rot_shared;
#else
typedef struct rot_shared_word { // of two elements
    uint32_t written, read;      // the phase of the last time, from 1 on; 0: never
    int writer;                  // thread of the block
} rot_shared_word;
typedef struct rot_shared_copy_under_way {
    int at, n;
    const uint16_t *from; // NULL: zeros
} rot_shared_copy_under_way;
typedef struct rot_shared {
    _Alignas(16) uint16_t elements[ROT_SHARED_MOST];
    rot_shared_word words[ROT_SHARED_MOST / 2];
    rot_shared_copy_under_way copies[ROT_SHARED_MOST / 2];
    int n_copies;
    uint32_t phase;
    long faults;
} rot_shared;

static inline void rot_shared_start(rot_shared *s)
{
    memset(s->elements, 0xff, sizeof s->elements); // NaN
    memset(s->words, 0, sizeof s->words);
    s->n_copies = 0;
    s->phase = 1;
    s->faults = 0;
}

static inline void rot_shared_barrier(rot_shared *s)
{
    for (int i = 0; i < s->n_copies; i++) {
        const rot_shared_copy_under_way *c = &s->copies[i];
        if (c->from)
            memcpy(s->elements + c->at, c->from, (size_t)c->n * 2);
        else
            memset(s->elements + c->at, 0, (size_t)c->n * 2);
    }
    s->n_copies = 0;
    s->phase++;
}

static inline void rot_shared_will_write(rot_shared *s, int at, int n, int thread)
{
    for (int i = at / 2; i < (at + n) / 2; i++) {
        rot_shared_word *w = &s->words[i];
        s->faults += w->read == s->phase || (w->written == s->phase && w->writer != thread);
        w->written = s->phase;
        w->writer = thread;
    }
}

// Eight elements, as one row of a matrix is read.
static inline const uint16_t *rot_shared_row(rot_shared *s, int at)
{
    s->faults += at % 8 != 0;
    for (int i = at / 2; i < at / 2 + 4; i++) {
        s->faults += s->words[i].written == 0 || s->words[i].written == s->phase;
        s->words[i].read = s->phase;
    }
    return s->elements + at;
}
#endif

// All threads of the block: what each did and copied before is there for all of them afterwards.
#ifdef __CUDACC__
#define ROT_BARRIER(shared)                                                                        \
    do {                                                                                           \
        asm volatile("cp.async.wait_all;" ::: "memory");                                           \
        __syncthreads();                                                                           \
    } while (0)
#else
#define ROT_BARRIER(shared) rot_shared_barrier(shared)
#endif

// Starts to copy n elements, 8 or 2, to `at` from global memory, both at as many bytes; zeros if
// not `inside` (`from` is an address of global memory all the same).
ROT_KERNEL void rot_shared_copy(rot_shared *s, int at, const uint16_t *from, int n, int inside,
                                int thread)
{
#ifdef __CUDACC__
    const uint32_t to = (uint32_t)__cvta_generic_to_shared(s + at);
    if (n == 8)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                     "r"(inside ? 16 : 0)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from),
                     "r"(inside ? 4 : 0)
                     : "memory");
#else
    s->faults += at % n != 0 || (uintptr_t)from % (2 * (size_t)n) != 0;
    rot_shared_will_write(s, at, n, thread);
    s->copies[s->n_copies++] = (rot_shared_copy_under_way){at, n, inside ? from : NULL};
#endif
}

#endif
