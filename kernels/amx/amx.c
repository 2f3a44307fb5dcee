// The backend on AMX tiles: bfloat16 products with float32 accumulation. See kernels/backend.h. ACT
// tensors that matrix products read and write are packed; q, k and v are plain.
#include "base/err.h"
#include "kernels/amx/amx.h"

#ifdef __x86_64__
#include <assert.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "kernels/avx512.h"

typedef struct amx {
    rot_backend base;
    const rot_amx_kernels *kernels;
    unsigned char *space; // space_bytes per thread: sums of a product, a head's packed k and v
    size_t space_bytes;
    uint16_t *rows; // row_elems per thread: a plain row between a norm or a rotation and its tensor
    size_t row_elems;
    uint16_t *reshaped; // a linear's input where it is not packed in the width that it reads
    size_t reshaped_elems;
    size_t *places; // of rows in q, k, v: (2, places_rows)
    size_t places_rows;
} amx;

// An ACT buffer holds a packed tensor (rows, packed_width), or plain elements in order (0).
typedef struct amx_buffer {
    struct rot_buffer host;
    size_t packed_width, elems; // elems: allocated
} amx_buffer;

static void close_amx(rot_backend *backend)
{
    amx *a = (amx *)backend;
    rot_free(a->space);
    rot_free(a->rows);
    rot_free(a->reshaped);
    rot_free(a->places);
    rot_free(a);
}

// Makes *block hold n bytes per thread, before a parallel region.
static int reserve(unsigned char **block, size_t *have, size_t n, size_t times, rot_err *err)
{
    if (n <= *have) return 0;
    n = (n + 4095) / 4096 * 4096;
    unsigned char *more = rot_host_alloc(n * times, "work space", err);
    if (!more) return ROT_ERR_NO_MEMORY;
    rot_free(*block);
    *block = more, *have = n;
    return 0;
}

static int reserve_space(amx *a, size_t n_bytes, rot_err *err)
{
    return reserve(&a->space, &a->space_bytes, n_bytes, (size_t)a->base.threads, err);
}

static int reserve_elems(uint16_t **block, size_t *have, size_t n, size_t times, rot_err *err)
{
    unsigned char *bytes = (unsigned char *)*block;
    size_t n_bytes = *have * sizeof **block;
    ROT_TRY(reserve(&bytes, &n_bytes, n * sizeof **block, times, err));
    *block = (uint16_t *)bytes, *have = n_bytes / sizeof **block;
    return 0;
}

static size_t packed_elems(size_t rows, size_t width)
{
    return rot_amx_blocks(rows) * rot_amx_blocks(width) * ROT_AMX_ELEMS;
}

// Room for whole blocks of packed rows, also where 4 rows are seen as one or one as 4.
static int buffer_new(rot_backend *backend, rot_elem elem, size_t rows, size_t width,
                      rot_buffer **out, rot_err *err)
{
    amx *a = (amx *)backend;
    enum { CHUNK = 4 * ROT_AMX_BLOCK };
    *out = NULL;
    if (rows > SIZE_MAX / 32 || width > SIZE_MAX / 32)
        return rot_no_memory(err, SIZE_MAX, "a buffer");
    if (elem == ROT_ELEM_ACT) rows = (rows + CHUNK - 1) / CHUNK * CHUNK;
    size_t padded = elem == ROT_ELEM_ACT ? rot_amx_blocks(width) * 32 : width, n_bytes;
    size_t elem_bytes = elem == ROT_ELEM_F32 ? sizeof(float) : sizeof(uint16_t);
    if (__builtin_mul_overflow(rows, padded, &n_bytes) ||
        __builtin_mul_overflow(n_bytes, elem_bytes, &n_bytes))
        return rot_no_memory(err, SIZE_MAX, "a buffer");
    ROT_TRY(reserve_elems(&a->rows, &a->row_elems, 4 * padded, (size_t)backend->threads, err));
    amx_buffer *buffer = rot_calloc(1, sizeof *buffer);
    if (!buffer) return rot_no_memory(err, sizeof *buffer, "a buffer");
    *buffer = (amx_buffer){
        .host = {rot_host_alloc(n_bytes, "a buffer", err), elem, elem_bytes, rows, width},
        .packed_width = elem == ROT_ELEM_ACT ? width : 0,
        .elems = rows * padded};
    if (!buffer->host.data) {
        rot_free(buffer);
        return ROT_ERR_NO_MEMORY;
    }
    *out = &buffer->host;
    return 0;
}

static void buffer_free(rot_backend *backend, rot_buffer *buffer)
{
    (void)backend;
    rot_host_buffer_free(buffer); // the host part comes first
}

static uint16_t *thread_row(const amx *a, size_t n)
{
    assert(n <= a->row_elems);
    return a->rows + (size_t)omp_get_thread_num() * a->row_elems;
}

// An upload is of the buffer's own width; what it held in another one is gone.
static void upload(rot_backend *backend, rot_buffer *buffer, size_t row, size_t n,
                   const float *rows)
{
    amx *a = (amx *)backend;
    size_t width = buffer->width;
    if (buffer->elem == ROT_ELEM_ACT) ((amx_buffer *)buffer)->packed_width = width;
#pragma omp parallel for schedule(static) num_threads(backend->threads)
    for (size_t i = 0; i < n; i++) {
        if (buffer->elem == ROT_ELEM_F32) {
            memcpy((float *)buffer->data + (row + i) * width, rows + i * width,
                   width * sizeof *rows);
            continue;
        }
        uint16_t *plain = thread_row(a, width);
        rot_avx512_round_row(rows + i * width, width, plain);
        rot_amx_put_row(buffer->data, width, row + i, plain);
    }
}

// Elements [first, first + n) of an ACT buffer, in row-major order.
static void get(const rot_buffer *buffer, size_t first, size_t n, uint16_t *to)
{
    size_t width = ((const amx_buffer *)buffer)->packed_width;
    if (width)
        rot_amx_get(buffer->data, width, first, n, to);
    else
        memcpy(to, (const uint16_t *)buffer->data + first, n * sizeof *to);
}

static void download(rot_backend *backend, const rot_buffer *buffer, size_t row, size_t n,
                     void *rows)
{
    (void)backend;
    size_t width = buffer->width;
    if (buffer->elem == ROT_ELEM_F32)
        memcpy(rows, (const float *)buffer->data + row * width, n * width * sizeof(float));
    else
        get(buffer, row * width, n * width, rows);
}

// `in` packed as (rows, width): as it is, or rearranged.
static int input(amx *a, const rot_buffer *in, size_t rows, size_t width, const uint16_t **out,
                 rot_err *err)
{
    *out = in->data;
    if (((const amx_buffer *)in)->packed_width == width) return 0;
    ROT_TRY(reserve_elems(&a->rows, &a->row_elems, width, (size_t)a->base.threads, err));
    ROT_TRY(reserve_elems(&a->reshaped, &a->reshaped_elems, packed_elems(rows, width), 1, err));
#pragma omp parallel for schedule(static) num_threads(a->base.threads)
    for (size_t row = 0; row < rows; row++) {
        uint16_t *plain = thread_row(a, width);
        get(in, row * width, width, plain);
        rot_amx_put_row(a->reshaped, width, row, plain);
    }
    *out = a->reshaped;
    return 0;
}

// Makes an ACT output a packed tensor (rows, width), with more memory if its own shape had less.
static int output(rot_buffer *out, size_t rows, size_t width, rot_err *err)
{
    amx_buffer *buffer = (amx_buffer *)out;
    size_t n = packed_elems(rows, width);
    if (n > buffer->elems) {
        void *more = rot_host_alloc(n * sizeof(uint16_t), "a buffer", err);
        if (!more) return ROT_ERR_NO_MEMORY;
        rot_free(out->data);
        out->data = more, buffer->elems = n;
    }
    buffer->packed_width = width;
    return 0;
}

// How a product is cut into tasks: its rows of blocks evenly, as many pieces as are a multiple of
// the threads, its columns of blocks where rows alone give too few tasks.
typedef struct cut {
    size_t row_blocks, row_tasks, columns, column_tasks;
} cut;

static cut cut_product(size_t rows, size_t n_blocks, size_t k_blocks, size_t threads)
{
    enum { MOST = ROT_AMX_ROWS / 32, FEWEST_COLUMNS = 4 };
    cut c = {.row_blocks = rot_amx_blocks(rows), .columns = n_blocks};
    c.row_tasks = (c.row_blocks + MOST - 1) / MOST;
    if (c.row_tasks > threads) c.row_tasks = (c.row_tasks + threads - 1) / threads * threads;
    if (c.row_tasks > c.row_blocks) c.row_tasks = c.row_blocks;
    if (c.row_tasks < threads) { // about 4 tasks a thread
        size_t pieces = (4 * threads + c.row_tasks - 1) / c.row_tasks;
        c.columns = (n_blocks + pieces - 1) / pieces;
        if (c.columns < FEWEST_COLUMNS) c.columns = FEWEST_COLUMNS;
    }
    if (k_blocks > ROT_AMX_K_WHOLE && c.columns > ROT_AMX_COLUMNS) c.columns = ROT_AMX_COLUMNS;
    if (c.columns > n_blocks) c.columns = n_blocks;
    return c;
}

// Into `out`, or into the heads of `split`.
static int multiply(amx *a, const rot_linear *l, size_t rows, const rot_buffer *in,
                    const rot_amx_split *split, rot_buffer *out, rot_err *err)
{
    const rot_backend *backend = &a->base;
    size_t n_blocks = rot_amx_blocks(l->n_out), k_blocks = rot_amx_blocks(l->n_in);
    size_t threads = (size_t)backend->threads;
    if (!rows) return 0;
    cut c = cut_product(rows, n_blocks, k_blocks, threads);
    if (split && c.columns % 2) c.columns++; // whole heads
    c.column_tasks = (n_blocks + c.columns - 1) / c.columns;
    const uint16_t *packed;
    ROT_TRY(input(a, in, rows, l->n_in, &packed, err));
    if (out && l->epilogue != ROT_EPILOGUE_ADD) ROT_TRY(output(out, rows, l->n_out, err));
    ROT_TRY(reserve_space(a, rot_amx_sums_floats(k_blocks, c.columns) * sizeof(float), err));
#pragma omp parallel for schedule(dynamic, 1) num_threads(backend->threads)
    for (size_t i = 0; i < c.row_tasks * c.column_tasks; i++) {
        size_t r = i / c.column_tasks, column = i % c.column_tasks * c.columns;
        size_t block = r * c.row_blocks / c.row_tasks, end = (r + 1) * c.row_blocks / c.row_tasks;
        size_t after = (i + threads) / c.column_tasks;
        rot_amx_task task = {
            .a = packed + block * k_blocks * ROT_AMX_ELEMS,
            .b = l->weight + column * k_blocks * ROT_AMX_ELEMS,
            .bias = l->bias + column * 32,
            .rows = (rows < end * 32 ? rows : end * 32) - block * 32,
            .k_blocks = k_blocks,
            .n_blocks = n_blocks - column < c.columns ? n_blocks - column : c.columns,
            .epilogue = l->epilogue,
            .split = split,
            .row = block * 32,
            .column = column,
            .out_blocks = n_blocks,
            .out_width = l->n_out,
            .n_columns = l->n_out - column * 32,
            .next = after < c.row_tasks && (after != r || k_blocks > ROT_AMX_K_WHOLE)
                        ? packed + after * c.row_blocks / c.row_tasks * k_blocks * ROT_AMX_ELEMS
                        : NULL,
            .sums = (float *)(a->space + (size_t)omp_get_thread_num() * a->space_bytes)};
        if (split)
            ;
        else if (l->epilogue == ROT_EPILOGUE_ADD)
            task.out_f32 = (float *)out->data + block * 32 * l->n_out + column * 32;
        else
            task.out_act = (uint16_t *)out->data + (block * n_blocks + column) * ROT_AMX_ELEMS;
        a->kernels->linear(&task);
    }
    return 0;
}

static int run_linear(rot_backend *backend, const rot_linear *l, size_t rows, const rot_buffer *in,
                      rot_buffer *out, rot_err *err)
{
    return multiply((amx *)backend, l, rows, in, NULL, out, err);
}

static void norm_packed(rot_backend *backend, size_t rows, const rot_amx_norm *norm,
                        rot_buffer *out)
{
    amx *a = (amx *)backend;
    assert(packed_elems(rows, norm->width) <= ((amx_buffer *)out)->elems);
    ((amx_buffer *)out)->packed_width = norm->width;
#pragma omp parallel for schedule(dynamic, 32) num_threads(backend->threads)
    for (size_t row = 0; row < rows; row++) a->kernels->norm(norm, row);
}

static void layer_norm(rot_backend *backend, size_t rows, size_t width, float eps,
                       const rot_buffer *x, const rot_buffer *gamma, const rot_buffer *beta,
                       rot_buffer *out)
{
    if (out->elem == ROT_ELEM_ACT) {
        norm_packed(backend, rows,
                    &(rot_amx_norm){x->data, gamma->data, beta->data, width, eps, out->data}, out);
        return;
    }
#pragma omp parallel for schedule(dynamic, 16) num_threads(backend->threads)
    for (size_t row = 0; row < rows; row++)
        rot_avx512_layer_norm_f32_row((const float *)x->data + row * width, width, eps, gamma->data,
                                      beta->data, (float *)out->data + row * width);
}

static void rms_norm(rot_backend *backend, size_t rows, size_t width, float eps,
                     const rot_buffer *x, const rot_buffer *gamma, rot_buffer *out)
{
    norm_packed(backend, rows, &(rot_amx_norm){x->data, gamma->data, NULL, width, eps, out->data},
                out);
}

// A thread's row holds four of the widest buffer's: the gates' and the result's.
static void swiglu(rot_backend *backend, size_t rows, size_t width, const rot_buffer *in,
                   rot_buffer *out)
{
    amx *a = (amx *)backend;
    assert(packed_elems(rows, width) <= ((amx_buffer *)out)->elems);
    ((amx_buffer *)out)->packed_width = width;
#pragma omp parallel for schedule(dynamic, 16) num_threads(backend->threads)
    for (size_t row = 0; row < rows; row++) {
        uint16_t *gates = thread_row(a, 3 * width), *plain = gates + 2 * width;
        get(in, row * 2 * width, 2 * width, gates);
        rot_avx512_swiglu_row(gates, width, plain);
        rot_amx_put_row(out->data, width, row, plain);
    }
}

static void rope_split(rot_backend *backend, const rot_segments *segments, rot_heads shape,
                       const rot_buffer *qkv, const rot_buffer *cosines, const rot_buffer *sines,
                       rot_buffer *q, rot_buffer *k, rot_buffer *v)
{
    amx *a = (amx *)backend;
    size_t dim = (size_t)shape.head_dim, half = dim / 2, heads = (size_t)shape.heads,
           width = heads * dim;
    rot_buffer *parts[] = {q, k, v};
    for (int p = 0; p < 3; p++) ((amx_buffer *)parts[p])->packed_width = 0;
#pragma omp parallel num_threads(backend->threads)
    for (int s = 0; s < segments->n; s++) {
        size_t start = (size_t)segments->starts[s], n = (size_t)segments->starts[s + 1] - start;
#pragma omp for schedule(dynamic, 16) nowait
        for (size_t i = 0; i < n; i++) {
            uint16_t *row = thread_row(a, 3 * width);
            get(qkv, (start + i) * 3 * width, 3 * width, row);
            const float *c = (const float *)cosines->data + (start + i) * half;
            const float *sn = (const float *)sines->data + (start + i) * half;
            for (size_t h = 0; h < heads; h++) {
                size_t to = (start * heads + h * n + i) * dim;
                rot_avx512_rope_row(row + h * dim, c, sn, half, (uint16_t *)q->data + to);
                rot_avx512_rope_row(row + width + h * dim, c, sn, half, (uint16_t *)k->data + to);
                memcpy((uint16_t *)v->data + to, row + 2 * width + h * dim, dim * sizeof(uint16_t));
            }
        }
    }
}

static int linear_split(rot_backend *backend, const rot_linear *l, const rot_buffer *in,
                        const rot_segments *segments, rot_heads shape, const rot_buffer *cosines,
                        const rot_buffer *sines, rot_buffer *q, rot_buffer *k, rot_buffer *v,
                        rot_err *err)
{
    amx *a = (amx *)backend;
    size_t rows = (size_t)segments->starts[segments->n], heads = (size_t)shape.heads,
           dim = (size_t)shape.head_dim;
    rot_buffer *parts[] = {q, k, v};
    for (int p = 0; p < 3; p++) ((amx_buffer *)parts[p])->packed_width = 0;
    if (rows > a->places_rows) {
        size_t *more = rot_malloc(2 * rows * sizeof *more);
        if (!more) return rot_no_memory(err, 2 * rows * sizeof *more, "places of rows");
        rot_free(a->places);
        a->places = more, a->places_rows = rows;
    }
    size_t *to = a->places, *step = to + rows;
    for (int s = 0; s < segments->n; s++) {
        size_t start = (size_t)segments->starts[s], end = (size_t)segments->starts[s + 1];
        for (size_t i = start; i < end; i++)
            to[i] = (start * heads + i - start) * dim, step[i] = (end - start) * dim;
    }
    const rot_amx_split split = {cosines->data, sines->data, heads, q->data,
                                 k->data,       v->data,     to,    step};
    return multiply(a, l, rows, in, &split, NULL, err);
}

// Buffers of q, k, v as attention reads them; what was uploaded is packed, and becomes plain.
static int plain(amx *a, const rot_buffer *in, size_t n, const uint16_t **out, uint16_t **made,
                 rot_err *err)
{
    (void)a;
    *made = NULL;
    *out = in->data;
    if (((const amx_buffer *)in)->packed_width == 0) return 0;
    *made = rot_host_alloc(n * sizeof **made, "attention", err);
    if (!*made) return ROT_ERR_NO_MEMORY;
    get(in, 0, n, *made);
    *out = *made;
    return 0;
}

// The first element of a head in q, k and v, and the rows of its segment.
static size_t head_at(const rot_segments *segments, rot_heads shape, int task, size_t *n)
{
    int s = task / shape.heads, h = task % shape.heads;
    size_t start = (size_t)segments->starts[s];
    *n = (size_t)segments->starts[s + 1] - start;
    return (start * (size_t)shape.heads + (size_t)h * *n) * (size_t)shape.head_dim;
}

static int attention(rot_backend *backend, const rot_segments *segments, rot_heads shape,
                     float scale, const rot_buffer *q, const rot_buffer *k, const rot_buffer *v,
                     rot_buffer *out, rot_err *err)
{
    amx *a = (amx *)backend;
    size_t dim = (size_t)shape.head_dim, heads = (size_t)shape.heads, width = heads * dim;
    size_t rows = (size_t)segments->starts[segments->n], longest = 0;
    for (int s = 0; s < segments->n; s++) {
        size_t n = (size_t)(segments->starts[s + 1] - segments->starts[s]);
        if (n > longest) longest = n;
    }
    const uint16_t *from[3];
    uint16_t *made[3] = {NULL, NULL, NULL};
    int rc = 0, n_tasks = segments->n * shape.heads;
    ROT_GO(reserve_space(a, rot_amx_head_bytes(longest, dim), err));
    ROT_GO(plain(a, q, rows * width, &from[0], &made[0], err));
    ROT_GO(plain(a, k, rows * width, &from[1], &made[1], err));
    ROT_GO(plain(a, v, rows * width, &from[2], &made[2], err));
    ROT_GO(output(out, rows, width, err));
#pragma omp parallel for schedule(dynamic, 1) num_threads(backend->threads)
    for (int task = 0; task < n_tasks; task++) {
        size_t n, next_n = 0, at = head_at(segments, shape, task, &n), next = 0;
        int after = task + backend->threads;
        if (after < n_tasks) next = head_at(segments, shape, after, &next_n);
        rot_amx_head head = {.q = from[0] + at,
                             .k = from[1] + at,
                             .v = from[2] + at,
                             .n = n,
                             .dim = dim,
                             .scale = scale,
                             .out = out->data,
                             .width = width,
                             .row = (size_t)segments->starts[task / shape.heads],
                             .column = (size_t)(task % shape.heads) * dim,
                             .space = a->space + (size_t)omp_get_thread_num() * a->space_bytes,
                             .next = {from[0] + next, from[1] + next, from[2] + next},
                             .next_elems = next_n * dim};
        a->kernels->attention(&head);
    }
done:
    for (int i = 0; i < 3; i++) rot_free(made[i]);
    return rc;
}

static const rot_backend_ops ops = {
    .close = close_amx,
    .buffer_new = buffer_new,
    .buffer_free = buffer_free,
    .upload = upload,
    .download = download,
    .linear_new = rot_amx_linear_new,
    .linear_new_bf16 = rot_amx_linear_new_bf16,
    .linear_packed = rot_amx_linear_packed,
    .linear_new_packed = rot_amx_linear_new_packed,
    .linear_free = rot_amx_linear_free,
    .linear = run_linear,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .rope_split = rope_split,
    .linear_split = linear_split,
    .attention = attention,
};

static int open_with(const rot_amx_kernels *kernels, rot_precision precision, int threads,
                     rot_backend **out, rot_err *err)
{
    amx *a = rot_calloc(1, sizeof *a);
    if (!a) return rot_no_memory(err, sizeof *a, "the backend");
    a->base = (rot_backend){.ops = &ops, .precision = precision, .threads = threads};
    a->kernels = kernels;
    *out = &a->base;
    return 0;
}

static int check(const rot_cpu *cpu, bool have, const char *what, rot_precision precision,
                 rot_err *err)
{
    if (precision != ROT_PRECISION_BF16)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED,
                 "backend amx computes in bf16 only: dtype f32 takes backend ref");
    if (!have)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "backend amx needs %s (%s%s)", what, cpu->name,
                 getenv("ROT_CPU") ? ", under ROT_CPU" : " lacks it");
    return 0;
}

static int identify(const rot_cpu *cpu, rot_precision precision, char identity[128], rot_err *err)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    ROT_TRY(check(cpu, cpu->amx, "AMX", precision, err));
    // for the whole process, once; the system keeps 8 KB more for each thread that uses tiles
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA))
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED,
                 "backend amx: the system does not grant the use of tiles");
    snprintf(identity, 128, "amx %s v3", rot_amx_real.isa);
    return 0;
}

static int open_real(const rot_cpu *cpu, rot_precision precision, int threads, rot_backend **out,
                     rot_err *err)
{
    (void)cpu;
    return open_with(&rot_amx_real, precision, threads, out, err);
}

static int identify_emulated(const rot_cpu *cpu, rot_precision precision, char identity[128],
                             rot_err *err)
{
    ROT_TRY(check(cpu, cpu->avx512, "AVX-512 to be emulated", precision, err));
    snprintf(identity, 128, "amx %s v3", rot_amx_emulated.isa);
    return 0;
}

static int open_emulated(const rot_cpu *cpu, rot_precision precision, int threads,
                         rot_backend **out, rot_err *err)
{
    (void)cpu;
    return open_with(&rot_amx_emulated, precision, threads, out, err);
}

#else

static int identify(const rot_cpu *cpu, rot_precision precision, char identity[128], rot_err *err)
{
    (void)cpu, (void)precision, (void)identity;
    ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "backend amx: not on this processor");
}

static int open_real(const rot_cpu *cpu, rot_precision precision, int threads, rot_backend **out,
                     rot_err *err)
{
    (void)threads, (void)out;
    return identify(cpu, precision, NULL, err);
}

#define identify_emulated identify
#define open_emulated open_real

#endif

const rot_backend_entry rot_backend_amx = {"amx", identify, open_real};
const rot_backend_entry rot_backend_amx_emulated = {"amx", identify_emulated, open_emulated};
