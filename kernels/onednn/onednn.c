// The backend on oneDNN: bfloat16 products with float32 accumulation. See kernels/backend.h.
#include "base/err.h"
#include "kernels/backends.h"

#ifdef ROT_HAVE_ONEDNN
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/onednn/onednn.h"

struct rot_linear {
    size_t n_in, n_out;
    rot_epilogue epilogue;
    rot_dnn_product *product, *bulk; // of ROT_DNN_ROWS rows, of ROT_DNN_BULK or NULL
};

static void close_dnn(rot_backend *backend)
{
    rot_dnn *dnn = (rot_dnn *)backend;
    rot_dnn_attention_forget(dnn);
    for (int t = 0; t < backend->threads && dnn->streams; t++)
        if (dnn->streams[t]) dnnl_stream_destroy(dnn->streams[t]);
    if (dnn->engine) dnnl_engine_destroy(dnn->engine);
    rot_free(dnn->streams);
    rot_free(dnn->scratch);
    rot_free(dnn->space);
    rot_free(dnn->cache);
    rot_free(dnn->verdicts);
    rot_free(dnn);
}

// Linears run whole chunks of rows, so a buffer has room for the last one, at four times its width
// too: a merge reads 4 rows as one.
static int buffer_new(rot_backend *backend, rot_elem elem, size_t rows, size_t width,
                      rot_buffer **out, rot_err *err)
{
    (void)backend;
    enum { CHUNK = 4 * ROT_DNN_ROWS };
    rows = (rows + CHUNK - 1) / CHUNK * CHUNK;
    return rot_host_buffer_new(elem, elem == ROT_ELEM_F32 ? 4 : 2, rows, width, out, err);
}

static void buffer_free(rot_backend *backend, rot_buffer *buffer)
{
    (void)backend;
    rot_host_buffer_free(buffer);
}

static void upload(rot_backend *backend, rot_buffer *buffer, size_t row, size_t n,
                   const float *rows)
{
    size_t width = buffer->width;
#pragma omp parallel for schedule(static) num_threads(backend->threads)
    for (size_t i = 0; i < n; i++) {
        size_t at = (row + i) * width;
        if (buffer->elem == ROT_ELEM_F32)
            memcpy((float *)buffer->data + at, rows + i * width, width * sizeof *rows);
        else
            rot_avx512_round_row(rows + i * width, width, (uint16_t *)buffer->data + at);
    }
}

static void download(rot_backend *backend, const rot_buffer *buffer, size_t row, size_t n,
                     void *rows)
{
    (void)backend;
    size_t row_bytes = buffer->width * buffer->elem_bytes;
    memcpy(rows, (const unsigned char *)buffer->data + row * row_bytes, n * row_bytes);
}

static void linear_free(rot_backend *backend, rot_linear *linear)
{
    if (!linear) return;
    rot_dnn_product_free((rot_dnn *)backend, linear->bulk);
    rot_dnn_product_free((rot_dnn *)backend, linear->product);
    rot_free(linear);
}

// Whether `bulk` gives each row the bits of `product`: on random rows, where another order of
// accumulation shows in the first few.
static int compare(rot_dnn *dnn, const rot_linear *l, rot_dnn_product *bulk, bool *same,
                   rot_err *err)
{
    size_t in_elems = ROT_DNN_BULK * l->n_in, out_elems = ROT_DNN_BULK * l->n_out;
    size_t out_bytes = out_elems * (l->epilogue == ROT_EPILOGUE_ADD ? sizeof(float) : 2);
    unsigned char *block = rot_host_alloc((in_elems * 2 + 63) / 64 * 64 + 2 * out_bytes + 64,
                                          "a comparison", err); // zeros
    if (!block) return ROT_ERR_NO_MEMORY;
    uint16_t *in = (uint16_t *)block;
    unsigned char *one = block + (in_elems * 2 + 63) / 64 * 64, *other = one + out_bytes;
    uint64_t s = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < in_elems; i++) { // signs and mantissas random, from 0.5 to 2
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        in[i] = (uint16_t)(0x3f00u + (s >> 40 & 0xffu) + (s >> 60 & 1u) * 0x8000u);
    }
    dnnl_status_t status = rot_dnn_run(dnn, bulk, 0, in, NULL, one);
    for (size_t row = 0; row < ROT_DNN_BULK && !status; row += ROT_DNN_ROWS)
        status = rot_dnn_run(dnn, l->product, 0, in + row * l->n_in, NULL,
                             other + row * (out_bytes / ROT_DNN_BULK));
    *same = !memcmp(one, other, out_bytes);
    rot_free(block);
    return status ? rot_dnn_fail(err, status, "a comparison") : 0;
}

// Makes linear->bulk if it exists and agrees. Each shape is compared once.
static int make_bulk(rot_dnn *dnn, rot_linear *linear, rot_dnn_matmul spec, const float *bias,
                     rot_err *err)
{
    rot_dnn_product *bulk;
    spec.m = ROT_DNN_BULK;
    rot_dnn_source shared = {.like = linear->product};
    int rc = rot_dnn_product_new(dnn, &spec, &shared, bias, &bulk, err);
    if (rc == ROT_ERR_UNSUPPORTED) return 0;
    if (rc < 0) return rc;
    const struct rot_dnn_verdict *known = NULL;
    for (size_t i = 0; i < dnn->n_verdicts; i++) {
        const struct rot_dnn_verdict *v = &dnn->verdicts[i];
        if (v->n_in == linear->n_in && v->n_out == linear->n_out && v->epilogue == linear->epilogue)
            known = v;
    }
    bool same = known && known->same;
    if (!known) {
        ROT_GO(compare(dnn, linear, bulk, &same, err));
        ROT_GO(rot_grow(&dnn->verdicts, &dnn->verdicts_capacity, dnn->n_verdicts + 1,
                        sizeof *dnn->verdicts, err));
        dnn->verdicts[dnn->n_verdicts++] =
            (struct rot_dnn_verdict){linear->n_in, linear->n_out, linear->epilogue, same};
    }
    if (same) linear->bulk = bulk, bulk = NULL;
done:
    rot_dnn_product_free(dnn, bulk);
    return rc;
}

static int make_linear(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                       const rot_dnn_source *weight, const float *bias, rot_linear **out,
                       rot_err *err)
{
    static const rot_dnn_post posts[] = {
        [ROT_EPILOGUE_NONE] = ROT_DNN_NOTHING,      [ROT_EPILOGUE_GELU_TANH] = ROT_DNN_GELU_TANH,
        [ROT_EPILOGUE_GELU_ERF] = ROT_DNN_GELU_ERF, [ROT_EPILOGUE_GELU_QUICK] = ROT_DNN_GELU_QUICK,
        [ROT_EPILOGUE_ADD] = ROT_DNN_SUM,
    };
    *out = NULL;
    rot_linear *linear = rot_calloc(1, sizeof *linear);
    if (!linear) return rot_no_memory(err, sizeof *linear, "a weight");
    *linear = (rot_linear){n_in, n_out, epilogue, NULL, NULL};
    rot_dnn_matmul spec = {.m = ROT_DNN_ROWS,
                           .k = (int64_t)n_in,
                           .n = (int64_t)n_out,
                           .weights = ROT_DNN_W_PACKED,
                           .bias = true,
                           .f32_out = epilogue == ROT_EPILOGUE_ADD,
                           .post = posts[epilogue]};
    rot_dnn *dnn = (rot_dnn *)backend;
    int rc = rot_dnn_product_new(dnn, &spec, weight, bias, &linear->product, err);
    if (rc == 0) rc = make_bulk(dnn, linear, spec, bias, err);
    if (rc < 0) {
        linear_free(backend, linear);
        return rc;
    }
    *out = linear;
    return 0;
}

static int linear_new_bf16(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                           const uint16_t *weight, const float *bias, rot_linear **out,
                           rot_err *err)
{
    rot_dnn_source source = {.plain = weight};
    return make_linear(backend, n_in, n_out, epilogue, &source, bias, out, err);
}

static int linear_new_packed(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                             const rot_packed *packed, const float *bias, rot_linear **out,
                             rot_err *err)
{
    rot_dnn_source source = {.packed = packed};
    return make_linear(backend, n_in, n_out, epilogue, &source, bias, out, err);
}

static void linear_packed(const rot_backend *backend, const rot_linear *linear, rot_packed *out)
{
    (void)backend;
    *out = (rot_packed){.bytes = linear->product->packed, .n_bytes = linear->product->packed_bytes};
    memcpy(out->layout, linear->product->layout, sizeof out->layout);
}

static int linear_new(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                      const float *weight, const float *bias, rot_linear **out, rot_err *err)
{
    *out = NULL;
    uint16_t *rounded = rot_aligned_malloc(n_in * n_out * sizeof *rounded);
    if (!rounded) return rot_no_memory(err, n_in * n_out * sizeof *rounded, "a weight");
#pragma omp parallel for schedule(static) num_threads(backend->threads)
    for (size_t row = 0; row < n_out; row++)
        rot_avx512_round_row(weight + row * n_in, n_in, rounded + row * n_in);
    int rc = linear_new_bf16(backend, n_in, n_out, epilogue, rounded, bias, out, err);
    rot_free(rounded);
    return rc;
}

static int run_linear(rot_backend *backend, const rot_linear *linear, size_t rows,
                      const rot_buffer *in, rot_buffer *out, rot_err *err)
{
    size_t out_bytes = linear->epilogue == ROT_EPILOGUE_ADD ? sizeof(float) : sizeof(uint16_t);
    // large chunks, as many for each thread, then small ones that even them out
    size_t threads = (size_t)backend->threads, n_bulk = linear->bulk ? rows / ROT_DNN_BULK : 0;
    n_bulk = n_bulk / threads * threads;
    size_t left = rows - n_bulk * ROT_DNN_BULK;
    size_t n_chunks = n_bulk + (left + ROT_DNN_ROWS - 1) / ROT_DNN_ROWS;
    dnnl_status_t failed = dnnl_success;
#pragma omp parallel for schedule(dynamic, 1) num_threads(backend->threads)
    for (size_t chunk = 0; chunk < n_chunks; chunk++) {
        bool large = chunk < n_bulk;
        size_t row =
            large ? chunk * ROT_DNN_BULK : n_bulk * ROT_DNN_BULK + (chunk - n_bulk) * ROT_DNN_ROWS;
        dnnl_status_t status =
            rot_dnn_run((rot_dnn *)backend, large ? linear->bulk : linear->product,
                        omp_get_thread_num(), (const uint16_t *)in->data + row * linear->n_in, NULL,
                        (unsigned char *)out->data + row * linear->n_out * out_bytes);
        if (status) {
#pragma omp atomic write
            failed = status;
        }
    }
    return failed ? rot_dnn_fail(err, failed, "a product") : 0;
}

static void layer_norm(rot_backend *backend, size_t rows, size_t width, float eps,
                       const rot_buffer *x, const rot_buffer *gamma, const rot_buffer *beta,
                       rot_buffer *out)
{
#pragma omp parallel for schedule(dynamic, 16) num_threads(backend->threads)
    for (size_t row = 0; row < rows; row++) {
        const float *from = (const float *)x->data + row * width;
        if (out->elem == ROT_ELEM_F32)
            rot_avx512_layer_norm_f32_row(from, width, eps, gamma->data, beta->data,
                                          (float *)out->data + row * width);
        else
            rot_avx512_layer_norm_row(from, width, eps, gamma->data, beta->data,
                                      (uint16_t *)out->data + row * width);
    }
}

static void rms_norm(rot_backend *backend, size_t rows, size_t width, float eps,
                     const rot_buffer *x, const rot_buffer *gamma, rot_buffer *out)
{
#pragma omp parallel for schedule(dynamic, 16) num_threads(backend->threads)
    for (size_t row = 0; row < rows; row++)
        rot_avx512_rms_norm_row((const float *)x->data + row * width, width, eps, gamma->data,
                                (uint16_t *)out->data + row * width);
}

static void swiglu(rot_backend *backend, size_t rows, size_t width, const rot_buffer *in,
                   rot_buffer *out)
{
#pragma omp parallel for schedule(dynamic, 16) num_threads(backend->threads)
    for (size_t row = 0; row < rows; row++)
        rot_avx512_swiglu_row((const uint16_t *)in->data + row * 2 * width, width,
                              (uint16_t *)out->data + row * width);
}

static void rope_split(rot_backend *backend, const rot_segments *segments, rot_heads shape,
                       const rot_buffer *qkv, const rot_buffer *cosines, const rot_buffer *sines,
                       rot_buffer *q, rot_buffer *k, rot_buffer *v)
{
    size_t dim = (size_t)shape.head_dim, half = dim / 2, heads = (size_t)shape.heads,
           width = heads * dim;
#pragma omp parallel num_threads(backend->threads)
    for (int s = 0; s < segments->n; s++) {
        size_t start = (size_t)segments->starts[s], n = (size_t)segments->starts[s + 1] - start;
#pragma omp for schedule(dynamic, 16) nowait
        for (size_t i = 0; i < n; i++) {
            const uint16_t *row = (const uint16_t *)qkv->data + (start + i) * 3 * width;
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

static const rot_backend_ops ops = {
    .close = close_dnn,
    .buffer_new = buffer_new,
    .buffer_free = buffer_free,
    .upload = upload,
    .download = download,
    .linear_new = linear_new,
    .linear_new_bf16 = linear_new_bf16,
    .linear_packed = linear_packed,
    .linear_new_packed = linear_new_packed,
    .linear_free = linear_free,
    .linear = run_linear,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .rope_split = rope_split,
    .attention = rot_dnn_attention,
};

static const char *isa_name(dnnl_cpu_isa_t isa)
{
    switch ((int)isa) {
    case dnnl_cpu_isa_avx512_core: return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni: return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16: return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx: return "avx512_core_amx";
    default: return NULL;
    }
}

static int identify(const rot_cpu *cpu, rot_precision precision, char identity[128], rot_err *err)
{
    if (precision != ROT_PRECISION_BF16)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED,
                 "backend onednn computes in bf16 only: dtype f32 takes backend ref");
    if (!cpu->avx512)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "backend onednn needs AVX-512 (%s%s)", cpu->name,
                 getenv("ROT_CPU") ? ", under ROT_CPU" : " lacks it");
    // What ROT_CPU forbids us, oneDNN shall not use either. It takes a limit only before its first
    // use.
    int most = cpu->amx           ? ROT_DNN_ISA_ALL
               : cpu->avx512_bf16 ? dnnl_cpu_isa_avx512_core_bf16
                                  : dnnl_cpu_isa_avx512_core_vnni;
    if (most != ROT_DNN_ISA_ALL) (void)dnnl_set_max_cpu_isa((dnnl_cpu_isa_t)most);
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    if (most != ROT_DNN_ISA_ALL && ((int)isa & ~most))
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "oneDNN was in use with more than ROT_CPU allows");
    if (((int)isa & dnnl_cpu_isa_avx512_core) != dnnl_cpu_isa_avx512_core)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "oneDNN does not use AVX-512 here");
    const dnnl_version_t *v = dnnl_version();
    char other[16];
    snprintf(other, sizeof other, "isa%x", (unsigned)isa);
    snprintf(identity, 128, "onednn %s %d.%d.%d v2", isa_name(isa) ? isa_name(isa) : other,
             v->major, v->minor, v->patch);
    return 0;
}

static int open_dnn(const rot_cpu *cpu, rot_precision precision, int threads, rot_backend **out,
                    rot_err *err)
{
    (void)cpu;
    rot_dnn *dnn = rot_calloc(1, sizeof *dnn);
    if (!dnn) return rot_no_memory(err, sizeof *dnn, "the backend");
    dnn->base = (rot_backend){.ops = &ops, .precision = precision, .threads = threads};
    int rc = 0;
    dnn->streams = rot_calloc((size_t)threads, sizeof *dnn->streams);
    if (!dnn->streams)
        rc = rot_no_memory(err, (size_t)threads * sizeof *dnn->streams, "the backend");
    dnnl_status_t status = rc < 0 ? dnnl_success : dnnl_engine_create(&dnn->engine, dnnl_cpu, 0);
    for (int t = 0; t < threads && rc == 0 && !status; t++)
        status = dnnl_stream_create(&dnn->streams[t], dnn->engine, dnnl_stream_default_flags);
    if (status) rc = rot_dnn_fail(err, status, "its engine");
    if (rc < 0) {
        close_dnn(&dnn->base);
        return rc;
    }
    *out = &dnn->base;
    return 0;
}

#else

static int identify(const rot_cpu *cpu, rot_precision precision, char identity[128], rot_err *err)
{
    (void)cpu, (void)precision, (void)identity;
    ROT_FAIL(err, ROT_ERR_UNSUPPORTED,
             "backend onednn: this build has no oneDNN (package libdnnl-dev)");
}

static int open_dnn(const rot_cpu *cpu, rot_precision precision, int threads, rot_backend **out,
                    rot_err *err)
{
    (void)threads, (void)out;
    return identify(cpu, precision, NULL, err);
}

#endif

const rot_backend_entry rot_backend_onednn = {"onednn", identify, open_dnn};
