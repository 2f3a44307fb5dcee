// The reference backend: plain C, the specification of the arithmetic. See kernels/backend.h.
#include "kernels/ref/ref.h"

#include <stdio.h>
#include <string.h>

#include "base/bf16.h"
#include "base/err.h"
#include "base/mem.h"
#include "kernels/vec.h"

struct rot_linear {
    size_t n_in, n_out;
    rot_epilogue epilogue;
    const float *panels;      // [n_panels][n_in][ROT_REF_PANEL]
    float *own_panels, *bias; // own: NULL where the panels are another's
};

static bool rounds(const rot_backend *backend)
{
    return backend->precision == ROT_PRECISION_BF16;
}

static void close_ref(rot_backend *backend)
{
    rot_free(((rot_ref *)backend)->workspace);
    rot_free(backend);
}

static int buffer_new(rot_backend *backend, rot_elem elem, size_t rows, size_t width,
                      rot_buffer **out, rot_err *err)
{
    (void)backend;
    return rot_host_buffer_new(elem, sizeof(float), rows, width, out, err);
}

static void buffer_free(rot_backend *backend, rot_buffer *buffer)
{
    (void)backend;
    rot_host_buffer_free(buffer);
}

static void upload(rot_backend *backend, rot_buffer *buffer, size_t row, size_t n,
                   const float *rows)
{
    float *to = (float *)buffer->data + row * buffer->width;
    size_t count = n * buffer->width;
    if (buffer->elem == ROT_ELEM_F32 || !rounds(backend))
        memcpy(to, rows, count * sizeof *to);
    else
        for (size_t i = 0; i < count; i++) to[i] = rot_bf16_to_f32(rot_f32_to_bf16(rows[i]));
}

static void download(rot_backend *backend, const rot_buffer *buffer, size_t row, size_t n,
                     void *rows)
{
    const float *from = (const float *)buffer->data + row * buffer->width;
    size_t count = n * buffer->width;
    if (buffer->elem == ROT_ELEM_F32 || !rounds(backend))
        memcpy(rows, from, count * sizeof *from);
    else
        for (size_t i = 0; i < count; i++) ((uint16_t *)rows)[i] = rot_f32_to_bf16(from[i]);
}

static void linear_free(rot_backend *backend, rot_linear *linear)
{
    (void)backend;
    if (!linear) return;
    rot_free(linear->own_panels);
    rot_free(linear->bias);
    rot_free(linear);
}

static size_t panel_bytes(size_t n_in, size_t n_out)
{
    return (n_out + ROT_REF_PANEL - 1) / ROT_REF_PANEL * n_in * ROT_REF_PANEL * sizeof(float);
}

// Panels of its own, to be filled, if there are none.
static int make_linear(rot_backend *backend, rot_linear shape, const float *bias, rot_linear **out,
                       rot_err *err)
{
    size_t n_panels = (shape.n_out + ROT_REF_PANEL - 1) / ROT_REF_PANEL;
    *out = NULL;
    rot_linear *linear = rot_calloc(1, sizeof *linear);
    if (!linear) return rot_no_memory(err, sizeof *linear, "a weight");
    *linear = shape;
    if (!linear->panels)
        linear->panels = linear->own_panels =
            rot_host_alloc(panel_bytes(shape.n_in, shape.n_out), "a weight", err);
    if (linear->panels)
        linear->bias = rot_host_alloc(n_panels * ROT_REF_PANEL * sizeof(float), "a bias", err);
    if (!linear->bias) {
        linear_free(backend, linear);
        return ROT_ERR_NO_MEMORY;
    }
    memcpy(linear->bias, bias, shape.n_out * sizeof *bias);
    *out = linear;
    return 0;
}

static void linear_packed(const rot_backend *backend, const rot_linear *linear, rot_packed *out)
{
    (void)backend;
    *out =
        (rot_packed){.bytes = linear->panels, .n_bytes = panel_bytes(linear->n_in, linear->n_out)};
}

static int linear_new_packed(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                             const rot_packed *packed, const float *bias, rot_linear **out,
                             rot_err *err)
{
    *out = NULL;
    ROT_TRY(rot_host_check_packed(packed, panel_bytes(n_in, n_out), err));
    return make_linear(backend, (rot_linear){n_in, n_out, epilogue, packed->bytes, NULL, NULL},
                       bias, out, err);
}

static int linear_new(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                      const float *weight, const float *bias, rot_linear **out, rot_err *err)
{
    size_t n_panels = (n_out + ROT_REF_PANEL - 1) / ROT_REF_PANEL;
    rot_linear *linear;
    *out = NULL;
    ROT_TRY(make_linear(backend, (rot_linear){n_in, n_out, epilogue, NULL, NULL, NULL}, bias,
                        &linear, err));
    bool round = rounds(backend);
#pragma omp parallel for schedule(static) num_threads(backend->threads)
    for (size_t p = 0; p < n_panels; p++) {
        size_t first = p * ROT_REF_PANEL,
               n = n_out - first < ROT_REF_PANEL ? n_out - first : ROT_REF_PANEL;
        float *panel = linear->own_panels + first * n_in;
        rot_ref_pack_rows(weight + first * n_in, n_in, n, n_in, panel);
        if (round)
            for (size_t i = 0; i < n_in * ROT_REF_PANEL; i += ROT_LANES)
                rot_vstore(panel + i, rot_vround_bf16(rot_vload(panel + i)));
    }
    *out = linear;
    return 0;
}

static int run_linear(rot_backend *backend, const rot_linear *linear, size_t rows,
                      const rot_buffer *in, rot_buffer *out, rot_err *err)
{
    (void)err;
    rot_ref_tile tile = ((rot_ref *)backend)->tile;
    bool round = rounds(backend);
    size_t n_in = linear->n_in, n_out = linear->n_out,
           n_panels = (n_out + ROT_REF_PANEL - 1) / ROT_REF_PANEL;
    size_t n_chunks = (rows + ROT_REF_ROWS - 1) / ROT_REF_ROWS;
#pragma omp parallel for collapse(2) schedule(dynamic, 8) num_threads(backend->threads)
    for (size_t chunk = 0; chunk < n_chunks; chunk++)
        for (size_t p = 0; p < n_panels; p++) {
            size_t row = chunk * ROT_REF_ROWS,
                   n = rows - row < ROT_REF_ROWS ? rows - row : ROT_REF_ROWS;
            size_t first = p * ROT_REF_PANEL,
                   m = n_out - first < ROT_REF_PANEL ? n_out - first : ROT_REF_PANEL;
            float c[ROT_REF_ROWS * ROT_REF_PANEL]; // (n, 32)
            memset(c, 0, n * ROT_REF_PANEL * sizeof *c);
            tile((const float *)in->data + row * n_in, n_in, n, linear->panels + first * n_in, n_in,
                 c);
            for (size_t i = 0; i < n; i++)
                rot_ref_epilogue_row(linear->epilogue, round, c + i * ROT_REF_PANEL,
                                     linear->bias + first, m,
                                     (float *)out->data + (row + i) * n_out + first);
        }
    return 0;
}

static void layer_norm(rot_backend *backend, size_t rows, size_t width, float eps,
                       const rot_buffer *x, const rot_buffer *gamma, const rot_buffer *beta,
                       rot_buffer *out)
{
    bool round = rounds(backend) && out->elem == ROT_ELEM_ACT;
#pragma omp parallel for schedule(dynamic, 16) num_threads(backend->threads)
    for (size_t row = 0; row < rows; row++)
        rot_ref_layer_norm_row((const float *)x->data + row * width, width, eps, gamma->data,
                               beta->data, round, (float *)out->data + row * width);
}

static void rms_norm(rot_backend *backend, size_t rows, size_t width, float eps,
                     const rot_buffer *x, const rot_buffer *gamma, rot_buffer *out)
{
    bool round = rounds(backend);
#pragma omp parallel for schedule(dynamic, 16) num_threads(backend->threads)
    for (size_t row = 0; row < rows; row++)
        rot_ref_rms_norm_row((const float *)x->data + row * width, width, eps, gamma->data, round,
                             (float *)out->data + row * width);
}

static void swiglu(rot_backend *backend, size_t rows, size_t width, const rot_buffer *in,
                   rot_buffer *out)
{
    bool round = rounds(backend);
#pragma omp parallel for schedule(dynamic, 16) num_threads(backend->threads)
    for (size_t row = 0; row < rows; row++)
        rot_ref_swiglu_row((const float *)in->data + row * 2 * width, width, round,
                           (float *)out->data + row * width);
}

static void rope_split(rot_backend *backend, const rot_segments *segments, rot_heads shape,
                       const rot_buffer *qkv, const rot_buffer *cosines, const rot_buffer *sines,
                       rot_buffer *q, rot_buffer *k, rot_buffer *v)
{
    bool round = rounds(backend);
    size_t dim = (size_t)shape.head_dim, half = dim / 2, heads = (size_t)shape.heads,
           width = heads * dim;
    for (int s = 0; s < segments->n; s++) {
        size_t start = (size_t)segments->starts[s], n = (size_t)segments->starts[s + 1] - start;
#pragma omp parallel for schedule(dynamic, 16) num_threads(backend->threads)
        for (size_t i = 0; i < n; i++) {
            const float *row = (const float *)qkv->data + (start + i) * 3 * width;
            const float *c = (const float *)cosines->data + (start + i) * half;
            const float *sn = (const float *)sines->data + (start + i) * half;
            for (size_t h = 0; h < heads; h++) {
                size_t to = (start * heads + h * n + i) * dim;
                rot_ref_rope_row(row + h * dim, c, sn, half, round, (float *)q->data + to);
                rot_ref_rope_row(row + width + h * dim, c, sn, half, round, (float *)k->data + to);
                memcpy((float *)v->data + to, row + 2 * width + h * dim, dim * sizeof(float));
            }
        }
    }
}

static const rot_backend_ops ops = {
    .close = close_ref,
    .buffer_new = buffer_new,
    .buffer_free = buffer_free,
    .upload = upload,
    .download = download,
    .linear_new = linear_new,
    .linear_packed = linear_packed,
    .linear_new_packed = linear_new_packed,
    .linear_free = linear_free,
    .linear = run_linear,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .rope_split = rope_split,
    .attention = rot_ref_attention,
};

static int identify(const rot_cpu *cpu, rot_precision precision, char identity[128], rot_err *err)
{
    (void)cpu, (void)err;
    snprintf(identity, 128, "ref plain %s v1", precision == ROT_PRECISION_BF16 ? "bf16" : "f32");
    return 0;
}

static int open_ref(const rot_cpu *cpu, rot_precision precision, int threads, rot_backend **out,
                    rot_err *err)
{
    rot_ref *ref = rot_calloc(1, sizeof *ref);
    if (!ref) return rot_no_memory(err, sizeof *ref, "the backend");
    ref->base = (rot_backend){.ops = &ops, .precision = precision, .threads = threads};
    ref->tile = rot_ref_tile_for(cpu);
    *out = &ref->base;
    return 0;
}

const rot_backend_entry rot_backend_ref = {"ref", identify, open_ref};
