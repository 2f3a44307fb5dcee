// A device that is none: the driver table of kernels/cuda/driver.h on the processor. It keeps what
// it is given in three queues and does it as late as it may, so that a missing wait shows in the
// results; it notes every call, looks behind every allocation for bytes that were written there,
// watches shared memory (kernels/cuda/shared.h), and fails where it is told to.
//
// Told by the environment, too: ROT_FAKE_CUDA=none|old|empty (no driver, an old one, no device),
// ROT_FAKE_CUDA_DEVICES, ROT_FAKE_CUDA_BYTES (memory of a device), ROT_FAKE_CUDA_TAKEN (of it, by
// others after it was looked at), ROT_FAKE_CUDA_FAIL=N (the n-th
// launch ends in an error, and so does everything after it), ROT_FAKE_CUDA_BLAS (library version),
// ROT_FAKE_CUDA_CHOICE (number of the algorithm).
#ifndef TEST_CUDA_DEVICE_H
#define TEST_CUDA_DEVICE_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/driver.h"
#include "kernels/cuda/pixels.h"
#include "kernels/cuda/rows.h"

enum { FAKE_GUARD = 256, FAKE_CHUNK = 128, FAKE_PLACE = 16384, FAKE_WAYS = 3 };

typedef enum fake_call {
    FAKE_ALLOC,
    FAKE_COPY,
    FAKE_CLEAR,
    FAKE_MARK,
    FAKE_ORDER,
    FAKE_WAIT,
    FAKE_SYNCHRONISE,
    FAKE_LAUNCH,
    FAKE_MULTIPLY,
    FAKE_RECORD,
    FAKE_REPLAY,
    FAKE_CALLS
} fake_call;

typedef struct fake_work {
    fake_call call;
    rot_cuda_launch launch;
    rot_cuda_product product;
    uint64_t algorithm;
    const uint16_t *in, *weight;
    const void *from, *bias;
    void *to;
    size_t n_bytes;
    rot_cuda_stream stream; // of FAKE_ORDER: of the mark
    size_t mark;            // of FAKE_ORDER: works of that stream before it
} fake_work;

typedef struct fake_queue {
    fake_work *works;
    size_t n, done, capacity;
} fake_queue;

typedef struct fake_event {
    bool marked;
    rot_cuda_stream stream;
    size_t n; // works of the stream before the mark
} fake_event;

struct rot_cuda_device {
    fake_queue queues[ROT_CUDA_STREAMS];
    fake_event events[ROT_CUDA_EVENTS];
    fake_queue *recording; // NULL: none
    long fail_at;          // launch that fails; 0: none
    bool failed;  // from then on everything does
    uint64_t used;
};

// What all devices of a process did since this was cleared.
static struct fake_log {
    long calls[FAKE_CALLS];
    uint32_t product_rows[4096]; // of the products in order
    size_t n_products;
    long forbidden; // calls while a graph is recorded that may not be
    bool records_nothing;
    long outside; // allocations behind which something was written
    long ran;     // kernels and products that were done, not only told
    long faults;  // of shared memory
    bool backwards; // threads and blocks from the last one on
    size_t live;  // allocations
    bool (*accepts)(const rot_cuda_product *product);  // NULL: all
    bool (*refuses)(const rot_cuda_product *product); // when it is to be computed; NULL: none
    // What a sum starts with, of an algorithm and a row; NULL: 0.
    float (*disturbs)(const rot_cuda_product *product, uint64_t algorithm, size_t row);
} fake_log;

static inline int fake_fail(rot_err *err, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (err) {
        err->code = code;
        vsnprintf(err->message, sizeof err->message, format, args);
    }
    va_end(args);
    return code;
}

static inline long fake_number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}

// ---- what the work is

static inline long fake_attention(rot_block b, const rot_cuda_launch *l)
{
    rot_shared shared;
    rot_shared_start(&shared);
    rot_cuda_attention(b, &l->args.attention,
                       l->kernel == ROT_CUDA_ATTENTION_64   ? 64
                       : l->kernel == ROT_CUDA_ATTENTION_80 ? 80
                                                            : 128,
                       &shared);
    return shared.faults;
}

static inline long fake_block(rot_block b, const rot_cuda_launch *l)
{
    switch (l->kernel) {
    case ROT_CUDA_NORM: rot_cuda_norm(b, &l->args.norm); break;
    case ROT_CUDA_EPILOGUE: rot_cuda_epilogue(b, &l->args.epilogue); break;
    case ROT_CUDA_SWIGLU: rot_cuda_swiglu(b, &l->args.swiglu); break;
    case ROT_CUDA_ROPE: rot_cuda_rope(b, &l->args.rope); break;
    case ROT_CUDA_ATTENTION_64:
    case ROT_CUDA_ATTENTION_80:
    case ROT_CUDA_ATTENTION_128: return fake_attention(b, l);
    case ROT_CUDA_RESAMPLE: rot_cuda_resample(b, &l->args.pixels); break;
    case ROT_CUDA_PATCHES: rot_cuda_patches(b, &l->args.pixels); break;
    case ROT_CUDA_INTERPOLATE: rot_cuda_interpolate(b, &l->args.interpolate); break;
    default: abort();
    }
    return 0;
}

static inline void fake_launch(const rot_cuda_launch *l)
{
    const uint32_t n = l->grid_x * l->grid_y;
    long faults = 0;
    rot_backwards = fake_log.backwards;
#pragma omp parallel for schedule(dynamic, 1) reduction(+ : faults)
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t at = fake_log.backwards ? n - 1 - i : i;
        const rot_block b = {(int)(at % l->grid_x), (int)(at / l->grid_x), (int)l->warps};
        faults += fake_block(b, l);
    }
    fake_log.faults += faults;
}

static inline void fake_finish(const fake_work *w, size_t row, const float *sums)
{
    const rot_cuda_product *p = &w->product;
    for (size_t j = 0; j < p->n_out; j++) {
        const size_t at = row * p->n_out + j;
        float y = sums[j];
        if (p->bias)
            y += p->f32 ? ((const float *)w->bias)[j]
                        : rot_cuda_from_bf16(((const uint16_t *)w->bias)[j]);
        if (p->gelu_tanh) y = rot_cuda_gelu_tanh(y);
        if (!p->f32)
            ((uint16_t *)w->to)[at] = rot_cuda_to_bf16(y);
        else
            ((float *)w->to)[at] = y + (p->add ? ((float *)w->to)[at] : 0.0f);
    }
}

// Each sum is a chain over k. Two rows at a time, so that it is not too slow.
static inline void fake_multiply(const fake_work *w)
{
    const rot_cuda_product *p = &w->product;
    const size_t n_in = p->n_in, n = p->n_out;
    float *weight = malloc(n_in * n * sizeof *weight); // (n_in, n_out)
    for (size_t i = 0; i < n_in * n; i++)
        weight[i % n_in * n + i / n_in] = rot_cuda_from_bf16(w->weight[i]);
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t row = 0; row < p->rows; row += 2) {
        const size_t more = row + 1 < p->rows;
        float *a = malloc(2 * n * sizeof *a), *b = a + n;
        for (size_t j = 0; j < 2 * n; j++)
            a[j] = fake_log.disturbs ? fake_log.disturbs(p, w->algorithm, row + j / n) : 0.0f;
        for (size_t k = 0; k < n_in; k++) {
            const float x = rot_cuda_from_bf16(w->in[row * n_in + k]);
            const float y = rot_cuda_from_bf16(w->in[(row + more) * n_in + k]);
            const float *column = weight + k * n;
            for (size_t j = 0; j < n; j++) {
                a[j] += x * column[j];
                b[j] += y * column[j];
            }
        }
        fake_finish(w, row, a);
        if (more) fake_finish(w, row + 1, b);
        free(a);
    }
    free(weight);
}

static inline void fake_run(rot_cuda_device *d, rot_cuda_stream stream, size_t until)
{
    fake_queue *q = &d->queues[stream];
    while (q->done < until) {
        const fake_work w = q->works[q->done++];
        if (w.call == FAKE_ORDER) fake_run(d, w.stream, w.mark);
        if (d->failed) continue;
        if (w.call == FAKE_COPY) memcpy(w.to, w.from, w.n_bytes);
        if (w.call == FAKE_CLEAR) memset(w.to, 0, w.n_bytes);
        fake_log.ran += w.call == FAKE_LAUNCH || w.call == FAKE_MULTIPLY;
        if (w.call == FAKE_LAUNCH) {
            if (d->fail_at && --d->fail_at == 0)
                d->failed = true;
            else
                fake_launch(&w.launch);
            d->failed |= fake_log.faults > 0;
        }
        if (w.call == FAKE_MULTIPLY) fake_multiply(&w);
    }
}

static inline int fake_add(rot_cuda_device *d, rot_cuda_stream stream, const fake_work *w,
                           rot_err *err)
{
    const bool written = w->call == FAKE_LAUNCH || w->call == FAKE_MULTIPLY;
    fake_queue *q = d->recording && written ? d->recording : &d->queues[stream];
    fake_log.calls[w->call]++;
    fake_log.forbidden += d->recording && !written;
    if (d->failed) return fake_fail(err, ROT_ERR_IO, "CUDA: a call: the device has failed");
    if (q->n == q->capacity) {
        q->capacity = q->capacity ? 2 * q->capacity : 64;
        q->works = realloc(q->works, q->capacity * sizeof *q->works);
    }
    q->works[q->n++] = *w;
    return 0;
}

static inline int fake_verdict(const rot_cuda_device *d, rot_err *err)
{
    return d->failed ? fake_fail(err, ROT_ERR_IO,
                                 "CUDA: the work of the device: an illegal memory access")
                     : 0;
}

// ---- the table

static inline int fake_count(int *n, rot_err *err)
{
    const char *what = getenv("ROT_FAKE_CUDA");
    *n = 0;
    if (what && !strcmp(what, "none"))
        return fake_fail(err, ROT_ERR_UNSUPPORTED, "no NVIDIA driver is here");
    if (what && !strcmp(what, "old"))
        return fake_fail(
            err, ROT_ERR_UNSUPPORTED,
            "the NVIDIA driver is too old: it has CUDA 12.2, and this program needs 13.0");
    if (what && !strcmp(what, "empty"))
        return fake_fail(err, ROT_ERR_UNSUPPORTED, "no CUDA device is visible");
    *n = (int)fake_number("ROT_FAKE_CUDA_DEVICES", 1);
    return 0;
}

static inline int fake_describe(int device, rot_cuda_info *out, rot_err *err)
{
    const uint64_t bytes = (uint64_t)fake_number("ROT_FAKE_CUDA_BYTES", 4L << 30);
    if (device < 0 || device >= fake_number("ROT_FAKE_CUDA_DEVICES", 1))
        return fake_fail(err, ROT_ERR_IO, "CUDA: a device's properties: invalid device ordinal");
    *out = (rot_cuda_info){.name = "Emulated",
                           .major = 9,
                           .multiprocessors = 1,
                           .total_bytes = bytes,
                           .free_bytes = bytes,
                           .driver_version = 13000,
                           .runtime_version = 13000,
                           .blas_version = (int)fake_number("ROT_FAKE_CUDA_BLAS", 130000),
                           .chunk_rows = FAKE_CHUNK,
                           .place_bytes = FAKE_PLACE};
    return 0;
}

static inline int fake_open(int device, rot_cuda_device **out, rot_err *err)
{
    (void)device, (void)err;
    *out = calloc(1, sizeof **out);
    (*out)->fail_at = fake_number("ROT_FAKE_CUDA_FAIL", 0);
    return 0;
}

static inline void fake_close(rot_cuda_device *d)
{
    for (int i = 0; i < ROT_CUDA_STREAMS; i++) free(d->queues[i].works);
    free(d);
}

// Contents are NaNs, and so is the guard.
static inline int fake_alloc(rot_cuda_device *d, size_t n_bytes, void **out, rot_err *err)
{
    fake_log.calls[FAKE_ALLOC]++;
    fake_log.forbidden += d->recording != NULL;
    if (d->used + n_bytes + (uint64_t)fake_number("ROT_FAKE_CUDA_TAKEN", 0) >
        (uint64_t)fake_number("ROT_FAKE_CUDA_BYTES", 4L << 30))
        return fake_fail(err, ROT_ERR_NO_MEMORY, "CUDA: memory of the device: out of memory");
    unsigned char *block = aligned_alloc(256, (n_bytes + 255) / 256 * 256 + 2 * FAKE_GUARD);
    memcpy(block, &n_bytes, sizeof n_bytes);
    memset(block + FAKE_GUARD, 0xff, n_bytes + FAKE_GUARD);
    *out = block + FAKE_GUARD;
    d->used += n_bytes;
    fake_log.live++;
    return 0;
}

static inline void fake_free(rot_cuda_device *d, void *memory)
{
    unsigned char *block = (unsigned char *)memory - FAKE_GUARD;
    size_t n_bytes;
    for (int i = 0; i < ROT_CUDA_STREAMS; i++) fake_run(d, (rot_cuda_stream)i, d->queues[i].n);
    memcpy(&n_bytes, block, sizeof n_bytes);
    for (size_t i = 0; i < FAKE_GUARD; i++)
        if (block[FAKE_GUARD + n_bytes + i] != 0xff) {
            fake_log.outside++;
            break;
        }
    d->used -= n_bytes;
    fake_log.live--;
    free(block);
}

static inline int fake_pin(rot_cuda_device *d, size_t n_bytes, void **out, rot_err *err)
{
    (void)d, (void)err;
    *out = aligned_alloc(256, (n_bytes + 255) / 256 * 256);
    memset(*out, 0xff, n_bytes);
    return 0;
}

static inline void fake_unpin(rot_cuda_device *d, void *memory)
{
    for (int i = 0; i < ROT_CUDA_STREAMS; i++) fake_run(d, (rot_cuda_stream)i, d->queues[i].n);
    free(memory);
}

static inline int fake_copy(rot_cuda_device *d, rot_cuda_stream stream, rot_cuda_way way, void *to,
                            const void *from, size_t n_bytes, rot_err *err)
{
    (void)way;
    const fake_work w = {.call = FAKE_COPY, .to = to, .from = from, .n_bytes = n_bytes};
    return fake_add(d, stream, &w, err);
}

static inline int fake_clear(rot_cuda_device *d, void *memory, size_t n_bytes, rot_err *err)
{
    const fake_work w = {.call = FAKE_CLEAR, .to = memory, .n_bytes = n_bytes};
    return fake_add(d, ROT_CUDA_COMPUTE, &w, err);
}

static inline int fake_mark(rot_cuda_device *d, rot_cuda_stream stream, int event, rot_err *err)
{
    fake_log.calls[FAKE_MARK]++;
    fake_log.forbidden += d->recording != NULL;
    d->events[event] = (fake_event){true, stream, d->queues[stream].n};
    return fake_verdict(d, err);
}

static inline int fake_order(rot_cuda_device *d, rot_cuda_stream stream, int event, rot_err *err)
{
    const fake_event *e = &d->events[event];
    const fake_work w = {.call = FAKE_ORDER, .stream = e->stream, .mark = e->n};
    return e->marked ? fake_add(d, stream, &w, err) : 0;
}

static inline int fake_wait(rot_cuda_device *d, int event, rot_err *err)
{
    const fake_event *e = &d->events[event];
    fake_log.calls[FAKE_WAIT]++;
    fake_log.forbidden += d->recording != NULL;
    if (e->marked) fake_run(d, e->stream, e->n);
    return fake_verdict(d, err);
}

static inline int fake_synchronise(rot_cuda_device *d, rot_err *err)
{
    fake_log.calls[FAKE_SYNCHRONISE]++;
    fake_log.forbidden += d->recording != NULL;
    for (int i = 0; i < ROT_CUDA_STREAMS; i++) fake_run(d, (rot_cuda_stream)i, d->queues[i].n);
    return fake_verdict(d, err);
}

static inline int fake_launched(rot_cuda_device *d, const rot_cuda_launch *launch, rot_err *err)
{
    const fake_work w = {.call = FAKE_LAUNCH, .launch = *launch};
    return fake_add(d, ROT_CUDA_COMPUTE, &w, err);
}

static inline int fake_record(rot_cuda_device *d, rot_err *err)
{
    fake_log.calls[FAKE_RECORD]++;
    fake_log.forbidden += d->recording != NULL;
    d->recording = calloc(1, sizeof *d->recording);
    return d->failed ? fake_verdict(d, err) : 0;
}

static inline void fake_forget(rot_cuda_device *d, void *graph)
{
    fake_queue *q = graph;
    for (int i = 0; i < ROT_CUDA_STREAMS; i++) fake_run(d, (rot_cuda_stream)i, d->queues[i].n);
    free(q->works);
    free(q);
}

static inline int fake_recorded(rot_cuda_device *d, void **graph, rot_err *err)
{
    *graph = d->recording;
    d->recording = NULL;
    if (!fake_log.records_nothing) return 0;
    fake_forget(d, *graph);
    *graph = NULL;
    return fake_fail(err, ROT_ERR_IO, "CUDA: a graph: operation not permitted");
}

static inline int fake_replay(rot_cuda_device *d, void *graph, rot_err *err)
{
    const fake_queue *q = graph;
    int rc = 0;
    fake_log.calls[FAKE_REPLAY]++;
    for (size_t i = 0; i < q->n && rc == 0; i++)
        rc = fake_add(d, ROT_CUDA_COMPUTE, &q->works[i], err);
    return rc;
}

static inline int fake_choose(rot_cuda_device *d, const rot_cuda_product *p, int n,
                              rot_cuda_choice *out, rot_err *err)
{
    (void)d, (void)p;
    if (n >= FAKE_WAYS) return fake_fail(err, ROT_ERR_NOT_FOUND, "no further algorithm");
    out->data[0] = (uint64_t)(fake_number("ROT_FAKE_CUDA_CHOICE", 1) + n);
    snprintf(out->name, sizeof out->name, "algorithm %llu", (unsigned long long)out->data[0]);
    return 0;
}

static inline bool fake_accepts(rot_cuda_device *d, const rot_cuda_product *p,
                                const rot_cuda_choice *choice)
{
    (void)d, (void)choice;
    return !fake_log.accepts || fake_log.accepts(p);
}

static inline int fake_multiplied(rot_cuda_device *d, const rot_cuda_product *p,
                                  const rot_cuda_choice *choice, const uint16_t *in,
                                  const uint16_t *weight, const void *bias, void *out, rot_err *err)
{
    const fake_work w = {.call = FAKE_MULTIPLY,
                         .product = *p,
                         .algorithm = choice->data[0],
                         .in = in,
                         .weight = weight,
                         .bias = bias,
                         .to = out};
    if (fake_log.refuses && fake_log.refuses(p))
        return fake_fail(err, ROT_ERR_UNSUPPORTED, "cuBLASLt: a product: status 15");
    if (fake_log.n_products < 4096) fake_log.product_rows[fake_log.n_products++] = p->rows;
    return fake_add(d, ROT_CUDA_COMPUTE, &w, err);
}

static const rot_cuda_driver fake_driver = {
    .abi = ROT_CUDA_ABI,
    .count = fake_count,
    .describe = fake_describe,
    .open = fake_open,
    .close = fake_close,
    .alloc = fake_alloc,
    .free = fake_free,
    .pin = fake_pin,
    .unpin = fake_unpin,
    .copy = fake_copy,
    .clear = fake_clear,
    .mark = fake_mark,
    .order = fake_order,
    .wait = fake_wait,
    .synchronise = fake_synchronise,
    .launch = fake_launched,
    .record = fake_record,
    .recorded = fake_recorded,
    .replay = fake_replay,
    .forget = fake_forget,
    .choose = fake_choose,
    .accepts = fake_accepts,
    .multiply = fake_multiplied,
};

#endif
