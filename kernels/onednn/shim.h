// The few places where the C interfaces of oneDNN 2.6 and 3.x differ, as far as we use them.
#ifndef ROT_KERNELS_ONEDNN_SHIM_H
#define ROT_KERNELS_ONEDNN_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#include <oneapi/dnnl/dnnl.h>

enum { ROT_DNN_ISA_ALL = 0 }; // no limit: dnnl_cpu_isa_all in 2.6, dnnl_cpu_isa_default in 3.x

typedef enum rot_dnn_post {
    ROT_DNN_NOTHING,
    ROT_DNN_GELU_TANH,
    ROT_DNN_GELU_ERF,
    ROT_DNN_GELU_QUICK,
    ROT_DNN_SUM
} rot_dnn_post;
typedef enum rot_dnn_weights {
    ROT_DNN_W_PACKED, // whatever layout the primitive likes best
    ROT_DNN_W_KN,     // row-major (k, n)
    ROT_DNN_W_NK      // row-major (n, k)
} rot_dnn_weights;

// (m, n) = post((m, k) (k, n) + bias): bfloat16 factors, float32 accumulation and bias.
typedef struct rot_dnn_matmul {
    int64_t m, k, n;
    rot_dnn_weights weights;
    bool bias, f32_out;
    rot_dnn_post post;
} rot_dnn_matmul;

#define ROT_DNN_TRY(expr)                                                                          \
    do {                                                                                           \
        dnnl_status_t status_ = (expr);                                                            \
        if (status_ != dnnl_success) return status_;                                               \
    } while (0)

static inline dnnl_status_t rot_dnn_attr(rot_dnn_post post, dnnl_primitive_attr_t *out)
{
    dnnl_post_ops_t ops = NULL;
    ROT_DNN_TRY(dnnl_primitive_attr_create(out));
    ROT_DNN_TRY(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user));
    if (post == ROT_DNN_NOTHING) return dnnl_success;
    ROT_DNN_TRY(dnnl_post_ops_create(&ops));
    dnnl_alg_kind_t gelu = post == ROT_DNN_GELU_TANH  ? dnnl_eltwise_gelu_tanh
                           : post == ROT_DNN_GELU_ERF ? dnnl_eltwise_gelu_erf
                                                      : dnnl_eltwise_swish;
    float alpha = post == ROT_DNN_GELU_QUICK ? 1.702f : 0;
    dnnl_status_t status;
#if DNNL_VERSION_MAJOR >= 3
    status = post == ROT_DNN_SUM ? dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef)
                                 : dnnl_post_ops_append_eltwise(ops, gelu, alpha, 0);
#else
    status = post == ROT_DNN_SUM ? dnnl_post_ops_append_sum(ops, 1.0f)
                                 : dnnl_post_ops_append_eltwise(ops, 1.0f, gelu, alpha, 0);
#endif
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(*out, ops);
    dnnl_post_ops_destroy(ops);
    return status;
}

enum { ROT_DNN_LAYOUT = 6 + 2 * DNNL_MAX_NDIMS };

static inline dnnl_status_t rot_dnn_write_layout(dnnl_format_kind_t kind, const dnnl_dims_t padded,
                                                 const dnnl_dims_t strides, int n,
                                                 const dnnl_dims_t blocks, const dnnl_dims_t which,
                                                 int64_t out[ROT_DNN_LAYOUT])
{
    if (kind != dnnl_blocked || n < 0 || n > DNNL_MAX_NDIMS) return dnnl_unimplemented;
    const int64_t plain[] = {n, kind, padded[0], padded[1], strides[0], strides[1]};
    for (int i = 0; i < 6; i++) out[i] = plain[i];
    for (int i = 0; i < DNNL_MAX_NDIMS; i++) {
        out[6 + 2 * i] = i < n ? blocks[i] : 0;
        out[7 + 2 * i] = i < n ? which[i] : 0;
    }
    return dnnl_success;
}

#if DNNL_VERSION_MAJOR >= 3

static inline dnnl_status_t rot_dnn_matmul_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                                const rot_dnn_matmul *s, dnnl_primitive_attr_t attr)
{
    dnnl_dims_t src = {s->m, s->k}, wei = {s->k, s->n}, bias = {1, s->n}, dst = {s->m, s->n};
    dnnl_memory_desc_t md[4] = {NULL};
    dnnl_format_tag_t tag = s->weights == ROT_DNN_W_PACKED ? dnnl_format_tag_any
                            : s->weights == ROT_DNN_W_KN   ? dnnl_ab
                                                           : dnnl_ba;
    dnnl_data_type_t to = s->f32_out ? dnnl_f32 : dnnl_bf16;
    dnnl_status_t status = dnnl_memory_desc_create_with_tag(&md[0], 2, src, dnnl_bf16, dnnl_ab);
    if (!status) status = dnnl_memory_desc_create_with_tag(&md[1], 2, wei, dnnl_bf16, tag);
    if (!status && s->bias)
        status = dnnl_memory_desc_create_with_tag(&md[2], 2, bias, dnnl_f32, dnnl_ab);
    if (!status) status = dnnl_memory_desc_create_with_tag(&md[3], 2, dst, to, dnnl_ab);
    if (!status)
        status = dnnl_matmul_primitive_desc_create(out, engine, md[0], md[1], md[2], md[3], attr);
    for (int i = 0; i < 4; i++)
        if (md[i]) dnnl_memory_desc_destroy(md[i]);
    return status;
}

// A bfloat16 matrix as torch.nn.Linear keeps it: (n, k) row-major, seen as (k, n).
static inline dnnl_status_t rot_dnn_plain_weight(dnnl_memory_t *out, dnnl_engine_t engine,
                                                 int64_t n, int64_t k, void *data)
{
    dnnl_dims_t dims = {k, n};
    dnnl_memory_desc_t md;
    ROT_DNN_TRY(dnnl_memory_desc_create_with_tag(&md, 2, dims, dnnl_bf16, dnnl_ba));
    dnnl_status_t status = dnnl_memory_create(out, md, engine, data);
    dnnl_memory_desc_destroy(md);
    return status;
}

static inline dnnl_status_t rot_dnn_reorder_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                                 dnnl_memory_t from, dnnl_memory_t to)
{
    const_dnnl_memory_desc_t a, b;
    ROT_DNN_TRY(dnnl_memory_get_memory_desc(from, &a));
    ROT_DNN_TRY(dnnl_memory_get_memory_desc(to, &b));
    return dnnl_reorder_primitive_desc_create(out, a, engine, b, engine, NULL);
}

// What says how the weights of a primitive lie: padded sizes, strides, inner blocks.
static inline dnnl_status_t rot_dnn_weights_layout(const_dnnl_primitive_desc_t pd,
                                                   int64_t out[ROT_DNN_LAYOUT])
{
    const_dnnl_memory_desc_t md = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    const dnnl_dims_t *padded, *strides, *blocks, *which;
    dnnl_format_kind_t kind;
    int n;
    ROT_DNN_TRY(dnnl_memory_desc_query(md, dnnl_query_format_kind, &kind));
    ROT_DNN_TRY(dnnl_memory_desc_query(md, dnnl_query_padded_dims, &padded));
    ROT_DNN_TRY(dnnl_memory_desc_query(md, dnnl_query_strides, &strides));
    ROT_DNN_TRY(dnnl_memory_desc_query(md, dnnl_query_inner_nblks_s32, &n));
    ROT_DNN_TRY(dnnl_memory_desc_query(md, dnnl_query_inner_blks, &blocks));
    ROT_DNN_TRY(dnnl_memory_desc_query(md, dnnl_query_inner_idxs, &which));
    return rot_dnn_write_layout(kind, *padded, *strides, n, *blocks, *which, out);
}

#else

static inline dnnl_status_t rot_dnn_matmul_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                                const rot_dnn_matmul *s, dnnl_primitive_attr_t attr)
{
    dnnl_dims_t src = {s->m, s->k}, wei = {s->k, s->n}, bias = {1, s->n}, dst = {s->m, s->n};
    dnnl_memory_desc_t md[4];
    dnnl_matmul_desc_t desc;
    dnnl_format_tag_t tag = s->weights == ROT_DNN_W_PACKED ? dnnl_format_tag_any
                            : s->weights == ROT_DNN_W_KN ? dnnl_ab
                                                         : dnnl_ba;
    ROT_DNN_TRY(dnnl_memory_desc_init_by_tag(&md[0], 2, src, dnnl_bf16, dnnl_ab));
    ROT_DNN_TRY(dnnl_memory_desc_init_by_tag(&md[1], 2, wei, dnnl_bf16, tag));
    ROT_DNN_TRY(dnnl_memory_desc_init_by_tag(&md[2], 2, bias, dnnl_f32, dnnl_ab));
    ROT_DNN_TRY(
        dnnl_memory_desc_init_by_tag(&md[3], 2, dst, s->f32_out ? dnnl_f32 : dnnl_bf16, dnnl_ab));
    ROT_DNN_TRY(dnnl_matmul_desc_init(&desc, &md[0], &md[1], s->bias ? &md[2] : NULL, &md[3]));
    return dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
}

static inline dnnl_status_t rot_dnn_plain_weight(dnnl_memory_t *out, dnnl_engine_t engine,
                                                 int64_t n, int64_t k, void *data)
{
    dnnl_dims_t dims = {k, n};
    dnnl_memory_desc_t md;
    ROT_DNN_TRY(dnnl_memory_desc_init_by_tag(&md, 2, dims, dnnl_bf16, dnnl_ba));
    return dnnl_memory_create(out, &md, engine, data);
}

static inline dnnl_status_t rot_dnn_reorder_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                                 dnnl_memory_t from, dnnl_memory_t to)
{
    const dnnl_memory_desc_t *a, *b;
    ROT_DNN_TRY(dnnl_memory_get_memory_desc(from, &a));
    ROT_DNN_TRY(dnnl_memory_get_memory_desc(to, &b));
    return dnnl_reorder_primitive_desc_create(out, a, engine, b, engine, NULL);
}

static inline dnnl_status_t rot_dnn_weights_layout(const_dnnl_primitive_desc_t pd,
                                                   int64_t out[ROT_DNN_LAYOUT])
{
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
    return rot_dnn_write_layout(md->format_kind, md->padded_dims, b->strides, b->inner_nblks,
                                b->inner_blks, b->inner_idxs, out);
}

#endif

// Whether `memory` lies as the weights of a primitive must.
static inline bool rot_dnn_same_weights(dnnl_memory_t memory, const_dnnl_primitive_desc_t pd)
{
#if DNNL_VERSION_MAJOR >= 3
    const_dnnl_memory_desc_t md;
#else
    const dnnl_memory_desc_t *md;
#endif
    return dnnl_memory_get_memory_desc(memory, &md) == dnnl_success &&
           dnnl_memory_desc_equal(md, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0));
}

// A memory object over `data` for one operand of a primitive (same calls in both generations).
static inline dnnl_status_t rot_dnn_operand(dnnl_memory_t *out, dnnl_engine_t engine,
                                            const_dnnl_primitive_desc_t pd, dnnl_query_t what,
                                            void *data)
{
    return dnnl_memory_create(out, dnnl_primitive_desc_query_md(pd, what, 0), engine, data);
}

static inline size_t rot_dnn_bytes(const_dnnl_primitive_desc_t pd, dnnl_query_t what)
{
    return dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(pd, what, 0));
}

#endif
