// The backend on NVIDIA GPUs: buffers, order and budget. Calls return when the device has been told
// what to do; what waits for it are download, receive and synchronise. See kernels/backend.h.
#include "kernels/cuda/cuda.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/cuda/buffer.h"

// ---- errors, memory

int rot_cuda_failed(const rot_cuda *cuda, rot_err *err)
{
    return cuda->failed.code ? rot_err_set(err, cuda->failed.code, "%s", cuda->failed.message) : 0;
}

// Of calls that have no result: kept for the next one that has.
static void keep(rot_cuda *cuda, int rc, const rot_err *err)
{
    if (rc < 0 && !cuda->failed.code) cuda->failed = *err;
}

void rot_cuda_flush_kept(rot_cuda *cuda)
{
    rot_err err;
    if (!cuda->failed.code) keep(cuda, rot_cuda_flush(cuda, &err), &err);
}

static int name_device(const rot_cuda *cuda, int rc, rot_err *err)
{
    return rc < 0 ? rot_err_prefix(err, "device %d (%s): ", cuda->index, cuda->info.name) : 0;
}

int rot_cuda_alloc(rot_cuda *cuda, size_t n_bytes, const char *what, void **out, rot_err *err)
{
    *out = NULL;
    if (n_bytes > cuda->budget - cuda->used)
        ROT_FAIL(err, ROT_ERR_NO_MEMORY,
                 "device %d (%s): %s needs %zu bytes, and %llu of the %llu that may be used "
                 "(encode.device_memory) are left",
                 cuda->index, cuda->info.name, what, n_bytes,
                 (unsigned long long)(cuda->budget - cuda->used), (unsigned long long)cuda->budget);
    const int rc = cuda->driver->alloc(cuda->device, n_bytes, out, err);
    if (rc == ROT_ERR_NO_MEMORY)
        rot_err_prefix(err, "%s needs %zu bytes, %llu are in use: ", what, n_bytes,
                       (unsigned long long)cuda->used);
    ROT_TRY(name_device(cuda, rc, err));
    cuda->used += n_bytes;
    return 0;
}

void rot_cuda_free(rot_cuda *cuda, void *memory, size_t n_bytes)
{
    if (!memory) return;
    cuda->driver->free(cuda->device, memory);
    cuda->used -= n_bytes;
}

int rot_cuda_grow(rot_cuda *cuda, void **memory, size_t *have, size_t n_bytes, const char *what,
                  rot_err *err)
{
    if (n_bytes <= *have) return 0;
    rot_cuda_free(cuda, *memory, *have);
    *memory = NULL;
    *have = 0;
    n_bytes += n_bytes / 4;
    ROT_TRY(rot_cuda_alloc(cuda, n_bytes, what, memory, err));
    *have = n_bytes;
    return 0;
}

static void close_cuda(rot_backend *backend)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    const rot_cuda_driver *d = cuda->driver;
    if (cuda->device) {
        rot_cuda_programs_close(cuda);
        rot_cuda_free(cuda, cuda->sums, cuda->sums_bytes);
        rot_cuda_free(cuda, cuda->blob, cuda->blob_bytes);
        rot_cuda_free(cuda, cuda->scratch, cuda->scratch_bytes);
        rot_cuda_free(cuda, cuda->taps, cuda->taps_bytes);
        rot_cuda_staging_close(cuda);
        for (int i = 0; i < 2; i++) {
            if (cuda->slots[i].host) d->unpin(cuda->device, cuda->slots[i].host);
            rot_free(cuda->segments[i].host);
            rot_cuda_free(cuda, cuda->segments[i].device, cuda->segments[i].n_bytes);
        }
        d->close(cuda->device);
    }
    rot_free(cuda->ways);
    rot_free(cuda);
}

static int buffer_new(rot_backend *backend, rot_elem elem, size_t rows, size_t width,
                      rot_buffer **out, rot_err *err)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    const size_t elem_bytes = elem == ROT_ELEM_F32 ? 4 : 2;
    size_t n_bytes, padded = rot_cuda_padded(cuda->info.chunk_rows, rows);
    *out = NULL;
    ROT_TRY(rot_cuda_failed(cuda, err));
    if (padded < rows || __builtin_mul_overflow(padded, width, &n_bytes) ||
        __builtin_mul_overflow(n_bytes, elem_bytes, &n_bytes))
        return rot_no_memory(err, SIZE_MAX, "a buffer");
    rot_buffer *buffer = rot_calloc(1, sizeof *buffer);
    if (!buffer) return rot_no_memory(err, sizeof *buffer, "a buffer");
    *buffer = (rot_buffer){NULL, elem, elem_bytes, padded, width, n_bytes, 0};
    int rc = rot_cuda_alloc(cuda, n_bytes, "a buffer", &buffer->data, err);
    // rows past a batch are computed with, and thrown away
    if (rc == 0) rc = cuda->driver->clear(cuda->device, buffer->data, n_bytes, err);
    if (rc < 0) {
        rot_cuda_free(cuda, buffer->data, n_bytes);
        rot_free(buffer);
        return rc;
    }
    *out = buffer;
    return 0;
}

static void buffer_free(rot_backend *backend, rot_buffer *buffer)
{
    if (!buffer) return;
    rot_cuda_flush_kept((rot_cuda *)backend);
    rot_cuda_free((rot_cuda *)backend, buffer->data, buffer->n_bytes);
    rot_free(buffer);
}

static int limit(rot_backend *backend, uint64_t bytes, rot_err *err)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    if (bytes > cuda->info.free_bytes)
        ROT_FAIL(err, ROT_ERR_NO_MEMORY,
                 "encode.device_memory: %llu bytes of device %d (%s), which has %llu free",
                 (unsigned long long)bytes, cuda->index, cuda->info.name,
                 (unsigned long long)cuda->info.free_bytes);
    cuda->budget = bytes;
    return 0;
}

static int plan(const rot_backend *backend, uint64_t bytes, rot_err *err)
{
    const rot_cuda *cuda = (const rot_cuda *)backend;
    const uint64_t left = cuda->budget - cuda->used;
    bytes += cuda->landing ? 0 : ROT_CUDA_PLACES * cuda->info.place_bytes;
    if (bytes > left)
        ROT_FAIL(err, ROT_ERR_NO_MEMORY,
                 "device %d (%s): the tower needs %llu bytes, and %llu may be used "
                 "(encode.device_memory)",
                 cuda->index, cuda->info.name, (unsigned long long)bytes, (unsigned long long)left);
    return 0;
}

// ---- to and from the device

static void upload(rot_backend *backend, rot_buffer *buffer, size_t row, size_t n,
                   const float *rows)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    rot_err err;
    rot_cuda_flush_kept(cuda);
    if (cuda->failed.code) return;
    unsigned char *to = (unsigned char *)buffer->data + row * buffer->width * buffer->elem_bytes;
    const size_t values = n * buffer->width;
    keep(cuda,
         buffer->elem == ROT_ELEM_ACT
             ? rot_cuda_put_rounded(cuda, (uint16_t *)(void *)to, rows, values, &err)
             : rot_cuda_put_bytes(cuda, to, rows, values * sizeof *rows, &err),
         &err);
}

// After a failure the rows are zeros, and synchronise says so.
static void download(rot_backend *backend, const rot_buffer *buffer, size_t row, size_t n,
                     void *rows)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    rot_err err;
    const size_t row_bytes = buffer->width * buffer->elem_bytes;
    rot_cuda_flush_kept(cuda);
    if (!cuda->failed.code)
        keep(cuda,
             rot_cuda_fetch(cuda, (const unsigned char *)buffer->data + row * row_bytes, rows,
                            n * row_bytes, &err),
             &err);
    if (cuda->failed.code) memset(rows, 0, n * row_bytes);
}

static int synchronise(rot_backend *backend, rot_err *err)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    rot_err mine;
    rot_cuda_flush_kept(cuda);
    if (!cuda->failed.code) keep(cuda, cuda->driver->synchronise(cuda->device, &mine), &mine);
    return name_device(cuda, rot_cuda_failed(cuda, err), err);
}

static int grow_slot(rot_cuda *cuda, rot_cuda_slot *slot, size_t n_bytes, rot_err *err)
{
    if (n_bytes <= slot->n_bytes) return 0;
    if (slot->host) cuda->driver->unpin(cuda->device, slot->host);
    *slot = (rot_cuda_slot){0};
    ROT_TRY(cuda->driver->pin(cuda->device, n_bytes, &slot->host, err));
    slot->n_bytes = n_bytes;
    return 0;
}

static int send(rot_backend *backend, rot_buffer *const *buffers, int n, size_t rows, int slot,
                rot_err *err)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    const rot_cuda_driver *d = cuda->driver;
    size_t n_bytes = 0, at = 0;
    rot_cuda_flush_kept(cuda);
    ROT_TRY(rot_cuda_failed(cuda, err));
    for (int i = 0; i < n; i++) n_bytes += rows * buffers[i]->width * buffers[i]->elem_bytes;
    ROT_TRY(grow_slot(cuda, &cuda->slots[slot], n_bytes, err));
    ROT_TRY(d->mark(cuda->device, ROT_CUDA_COMPUTE, ROT_CUDA_READY + slot, err));
    ROT_TRY(d->order(cuda->device, ROT_CUDA_OUT, ROT_CUDA_READY + slot, err));
    for (int i = 0; i < n; i++) {
        const size_t bytes = rows * buffers[i]->width * buffers[i]->elem_bytes;
        ROT_TRY(d->copy(cuda->device, ROT_CUDA_OUT, ROT_CUDA_FROM_DEVICE,
                        (unsigned char *)cuda->slots[slot].host + at, buffers[i]->data, bytes,
                        err));
        buffers[i]->sent = slot + 1;
        at += bytes;
    }
    return d->mark(cuda->device, ROT_CUDA_OUT, ROT_CUDA_SENT + slot, err);
}

int rot_cuda_may_write(rot_cuda *cuda, rot_buffer *buffer, rot_err *err)
{
    if (!buffer->sent) return 0;
    ROT_TRY(rot_cuda_flush(cuda, err)); // which need not wait
    const int event = ROT_CUDA_SENT + buffer->sent - 1;
    buffer->sent = 0;
    return cuda->driver->order(cuda->device, ROT_CUDA_COMPUTE, event, err);
}

static int receive(rot_backend *backend, int slot, const void **rows, rot_err *err)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    rot_err mine;
    *rows = cuda->slots[slot].host;
    if (!cuda->failed.code)
        keep(cuda, cuda->driver->wait(cuda->device, ROT_CUDA_SENT + slot, &mine), &mine);
    return name_device(cuda, rot_cuda_failed(cuda, err), err);
}

// ---- row-wise operations

// Blocks for so many warps; more than a grid takes are not asked for (rows are counted in int32).
int rot_cuda_launch_rows(rot_cuda *cuda, rot_cuda_launch *launch, size_t warps_needed, rot_err *err)
{
    launch->grid_x = (uint32_t)((warps_needed + launch->warps - 1) / launch->warps);
    launch->grid_y = 1;
    return rot_cuda_launch_later(cuda, launch, err);
}

// Rows to compute with: whole units, as far as both have them.
static size_t rows_of(const rot_cuda *cuda, size_t rows, const rot_buffer *a, size_t a_width,
                      const rot_buffer *b, size_t b_width)
{
    const size_t whole = rot_cuda_whole_rows(cuda, rows),
                 in_a = a->n_bytes / a->elem_bytes / a_width,
                 in_b = b->n_bytes / b->elem_bytes / b_width;
    return whole <= in_a && whole <= in_b ? whole : rows;
}

static void launch_rows(rot_cuda *cuda, rot_cuda_launch *launch, size_t warps_needed)
{
    rot_err err;
    if (cuda->failed.code) return;
    keep(cuda, rot_cuda_launch_rows(cuda, launch, warps_needed, &err), &err);
}

static void layer_norm(rot_backend *backend, size_t rows, size_t width, float eps,
                       const rot_buffer *x, const rot_buffer *gamma, const rot_buffer *beta,
                       rot_buffer *out)
{
    rot_cuda_launch launch = {.kernel = ROT_CUDA_NORM, .warps = 4};
    rows = rows_of((rot_cuda *)backend, rows, x, width, out, width);
    launch.args.norm = (rot_cuda_norm_args){.x = x->data,
                                            .gamma = gamma->data,
                                            .beta = beta ? beta->data : NULL,
                                            .out = out->data,
                                            .rows = (uint32_t)rows,
                                            .width = (uint32_t)width,
                                            .eps = eps,
                                            .f32 = out->elem == ROT_ELEM_F32};
    launch_rows((rot_cuda *)backend, &launch, rows);
}

static void rms_norm(rot_backend *backend, size_t rows, size_t width, float eps,
                     const rot_buffer *x, const rot_buffer *gamma, rot_buffer *out)
{
    layer_norm(backend, rows, width, eps, x, gamma, NULL, out);
}

// In pieces whose elements can be counted in 31 bits.
static void swiglu(rot_backend *backend, size_t rows, size_t width, const rot_buffer *in,
                   rot_buffer *out)
{
    const size_t most = INT32_MAX / width;
    rows = rows_of((rot_cuda *)backend, rows, in, 2 * width, out, width);
    for (size_t row = 0; row < rows; row += most) {
        const size_t n = rows - row < most ? rows - row : most;
        rot_cuda_launch launch = {.kernel = ROT_CUDA_SWIGLU, .warps = 8};
        launch.args.swiglu = (rot_cuda_swiglu_args){(const uint16_t *)in->data + row * 2 * width,
                                                    (uint16_t *)out->data + row * width,
                                                    (uint32_t)n, (uint32_t)width};
        launch_rows((rot_cuda *)backend, &launch, (n * width + ROT_WARP - 1) / ROT_WARP);
    }
}

static int interpolate(rot_backend *backend, size_t rows, size_t width, const rot_buffer *table,
                       const rot_taps *taps, rot_buffer *out, rot_err *err)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    rot_cuda_launch launch = {
        .kernel = ROT_CUDA_INTERPOLATE, .grid_x = (uint32_t)rows, .grid_y = 1, .warps = 4};
    static_assert(sizeof(rot_taps) == sizeof(rot_cuda_taps), "one is copied to the other");
    rot_cuda_flush_kept(cuda);
    ROT_TRY(rot_cuda_failed(cuda, err));
    ROT_TRY(
        rot_cuda_grow(cuda, &cuda->taps, &cuda->taps_bytes, rows * sizeof *taps, "positions", err));
    ROT_TRY(rot_cuda_put_bytes(cuda, cuda->taps, taps, rows * sizeof *taps, err));
    launch.args.interpolate =
        (rot_cuda_interpolate_args){table->data, cuda->taps, out->data, (uint32_t)width};
    return cuda->driver->launch(cuda->device, &launch, err);
}

// ---- attention

static int32_t count_tasks(const rot_segments *segments)
{
    int32_t n = 0;
    for (int32_t i = 0; i < segments->n; i++)
        n += (segments->starts[i + 1] - segments->starts[i] + ROT_CUDA_QUERIES - 1) /
             ROT_CUDA_QUERIES;
    return n;
}

static int reserve_segments(rot_cuda *cuda, rot_cuda_segments *s, size_t n_bytes, rot_err *err)
{
    s->n = -1;
    if (n_bytes <= s->n_bytes) return 0;
    rot_free(s->host);
    rot_cuda_free(cuda, s->device, s->n_bytes);
    *s = (rot_cuda_segments){.n = -1};
    n_bytes = (n_bytes + 65535) / 65536 * 65536;
    s->host = rot_malloc(n_bytes);
    if (!s->host) return rot_no_memory(err, n_bytes, "a list of segments");
    ROT_TRY(rot_cuda_alloc(cuda, n_bytes, "a list of segments", (void **)&s->device, err));
    s->n_bytes = n_bytes;
    return 0;
}

static size_t tasks_at(const rot_cuda_segments *s)
{
    return s->n_bytes / sizeof *s->host / 2;
}

static void fill_segments(const rot_segments *segments, int32_t n_tasks, rot_cuda_segments *s)
{
    int32_t *task = s->host + tasks_at(s);
    s->host[0] = segments->n;
    s->host[1] = n_tasks;
    memcpy(s->host + 2, segments->starts, ((size_t)segments->n + 1) * sizeof *s->host);
    for (int32_t i = 0; i < segments->n; i++)
        for (int32_t first = 0; first < segments->starts[i + 1] - segments->starts[i];
             first += ROT_CUDA_QUERIES)
            *task++ = i, *task++ = first;
}

static bool has_segments(const rot_cuda_segments *s, const rot_segments *segments)
{
    return s->device && s->n == segments->n &&
           !memcmp(s->host + 2, segments->starts, ((size_t)s->n + 1) * sizeof *s->host);
}

// The segments on the device. A batch has one or two lists, which every block asks for again.
static int find_segments(rot_cuda *cuda, const rot_segments *segments, rot_cuda_segments **out,
                         rot_err *err)
{
    rot_cuda_segments *s = cuda->segments;
    for (int i = 0; i < 2; i++) {
        *out = &s[i];
        if (!has_segments(*out, segments)) continue;
        s[i].in_program = true;
        return 0;
    }
    if (s[0].in_program && s[1].in_program) ROT_TRY(rot_cuda_flush(cuda, err));
    s = *out = &s[s[0].in_program];
    const int32_t n_tasks = count_tasks(segments);
    const size_t n = (size_t)segments->n + 3, n_all = 2 * (size_t)n_tasks;
    ROT_TRY(reserve_segments(cuda, s, 2 * (n > n_all ? n : n_all) * sizeof *s->host, err));
    fill_segments(segments, n_tasks, s);
    ROT_TRY(
        rot_cuda_put_bytes(cuda, s->device, s->host, (tasks_at(s) + n_all) * sizeof *s->host, err));
    s->n = segments->n;
    s->in_program = true;
    return 0;
}

static int run_rope(rot_cuda *cuda, const rot_segments *segments, rot_cuda_rope_args args,
                    rot_err *err)
{
    rot_cuda_segments *s;
    rot_cuda_launch launch = {.kernel = ROT_CUDA_ROPE, .warps = 4, .grid_y = 1};
    ROT_TRY(find_segments(cuda, segments, &s, err));
    args.list = s->device;
    launch.args.rope = args;
    launch.grid_x = (uint32_t)rot_cuda_whole_rows(cuda, (size_t)segments->starts[segments->n]);
    return rot_cuda_launch_later(cuda, &launch, err);
}

static void rope_split(rot_backend *backend, const rot_segments *segments, rot_heads shape,
                       const rot_buffer *qkv, const rot_buffer *cosines, const rot_buffer *sines,
                       rot_buffer *q, rot_buffer *k, rot_buffer *v)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    rot_err err;
    const rot_cuda_rope_args args = {.qkv = qkv->data,
                                     .cosines = cosines->data,
                                     .sines = sines->data,
                                     .q = q->data,
                                     .k = k->data,
                                     .v = v->data,
                                     .heads = shape.heads,
                                     .dim = shape.head_dim};
    if (!cuda->failed.code) keep(cuda, run_rope(cuda, segments, args, &err), &err);
}

static int attention(rot_backend *backend, const rot_segments *segments, rot_heads shape,
                     float scale, const rot_buffer *q, const rot_buffer *k, const rot_buffer *v,
                     rot_buffer *out, rot_err *err)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    const int dim = shape.head_dim;
    rot_cuda_segments *s;
    ROT_TRY(rot_cuda_failed(cuda, err));
    if (dim > 128 || dim % 2)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "backend cuda: heads of %d; it has even ones up to 128",
                 dim);
    ROT_TRY(find_segments(cuda, segments, &s, err));
    const uint32_t n_tasks = (uint32_t)s->host[1], unit = n_tasks > 64 ? 64 : 8;
    rot_cuda_launch launch = {.kernel = dim <= 64   ? ROT_CUDA_ATTENTION_64
                                        : dim <= 80 ? ROT_CUDA_ATTENTION_80
                                                    : ROT_CUDA_ATTENTION_128,
                              .grid_x = (n_tasks + unit - 1) / unit * unit,
                              .grid_y = (uint32_t)shape.heads,
                              .warps = ROT_CUDA_QUERIES / 16};
    launch.args.attention = (rot_cuda_attention_args){
        .q = q->data,
        .k = k->data,
        .v = v->data,
        .out = out->data,
        .list = s->device,
        .tasks = (const rot_cuda_task *)(s->device + tasks_at(s)),
        .heads = shape.heads,
        .dim = dim,
        .scale = scale,
    };
    return rot_cuda_launch_later(cuda, &launch, err);
}

// ---- the backend

// One line per shape; the shapes are in the order in which the tower has them.
static void choices(const rot_backend *backend, char *out, size_t capacity)
{
    const rot_cuda *cuda = (const rot_cuda *)backend;
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < cuda->n_ways && at < capacity; i++) {
        const rot_cuda_way_of *w = &cuda->ways[i];
        const rot_cuda_product *p = &w->product;
        const int n = snprintf(out + at, capacity - at, "%u x %u%s%s%s%s: %s, rows", p->n_out,
                               p->n_in, p->f32 ? " f32" : " bf16", p->bias ? " bias" : "",
                               p->add ? " add" : "", p->gelu_tanh ? " gelu" : "", w->choice.name);
        at += (size_t)n;
        for (int size = 0; size < ROT_CUDA_SIZES && at < capacity; size++)
            if (w->sizes.has[size])
                at += (size_t)snprintf(out + at, capacity - at, " %u", p->rows >> 2 * size);
        if (at < capacity) at += (size_t)snprintf(out + at, capacity - at, "\n");
    }
}

static const rot_backend_ops ops = {
    .close = close_cuda,
    .buffer_new = buffer_new,
    .buffer_free = buffer_free,
    .upload = upload,
    .download = download,
    .linear_new = rot_cuda_linear_new,
    .linear_new_bf16 = rot_cuda_linear_new_bf16,
    .linear_free = rot_cuda_linear_free,
    .linear = rot_cuda_linear,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .rope_split = rope_split,
    .attention = attention,
    .limit = limit,
    .plan = plan,
    .synchronise = synchronise,
    .send = send,
    .receive = receive,
    .choices = choices,
    .note = rot_cuda_note,
    .cut = rot_cuda_cut,
    .interpolate = interpolate,
};

int rot_cuda_open(const rot_cuda_driver *driver, int device, int threads, rot_backend **out,
                  rot_err *err)
{
    int rc = 0;
    *out = NULL;
    rot_cuda *cuda = rot_calloc(1, sizeof *cuda);
    if (!cuda) return rot_no_memory(err, sizeof *cuda, "the backend");
    cuda->base = (rot_backend){.ops = &ops, .precision = ROT_PRECISION_BF16, .threads = threads};
    cuda->driver = driver;
    cuda->index = device;
    cuda->records = true;
    ROT_GO(driver->describe(device, &cuda->info, err));
    cuda->base.batch_rows = rot_cuda_padded(cuda->info.chunk_rows, 2);
    cuda->budget = cuda->info.free_bytes / 10 * 9; // the rest is cuBLASLt's, the context's, others'
    ROT_GO(driver->open(device, &cuda->device, err));
    *out = &cuda->base;
    return 0;
done:
    rc = name_device(cuda, rc, err);
    close_cuda(&cuda->base);
    return rc;
}
