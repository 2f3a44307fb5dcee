// One matrix product of oneDNN: made for one thread, packed weights, operands set at each call.
#ifdef ROT_HAVE_ONEDNN
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "kernels/onednn/onednn.h"

int rot_dnn_fail(rot_err *err, dnnl_status_t status, const char *what)
{
    if (status == dnnl_out_of_memory)
        ROT_FAIL(err, ROT_ERR_NO_MEMORY, "out of memory (oneDNN, %s)", what);
    if (status == dnnl_unimplemented)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "oneDNN has no implementation on this machine (%s)",
                 what);
    ROT_FAIL(err, ROT_ERR_INTERNAL, "oneDNN: status %d (%s)", (int)status, what);
}

// Moves values alone, so that all threads may take part.
static dnnl_status_t pack(rot_dnn *dnn, const rot_dnn_matmul *spec, const uint16_t *plain,
                          dnnl_memory_t packed)
{
    dnnl_memory_t from = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_status_t status =
        rot_dnn_plain_weight(&from, dnn->engine, spec->n, spec->k, (void *)(uintptr_t)plain);
    int before = omp_get_max_threads();
    omp_set_num_threads(dnn->base.threads);
    if (!status) status = rot_dnn_reorder_desc(&pd, dnn->engine, from, packed);
    if (!status) status = dnnl_primitive_create(&reorder, pd);
    if (!status) {
        dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, packed}};
        status = dnnl_primitive_execute(reorder, dnn->streams[0], 2, args);
        if (!status) status = dnnl_stream_wait(dnn->streams[0]);
    }
    omp_set_num_threads(before);
    if (reorder) dnnl_primitive_destroy(reorder);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (from) dnnl_memory_destroy(from);
    return status;
}

// The one weight that all threads share: another's where it lies, or packed into memory of its own.
static int place_weight(rot_dnn *dnn, rot_dnn_product *product, const rot_dnn_matmul *spec,
                        dnnl_primitive_desc_t pd, const rot_dnn_source *from, rot_err *err)
{
    int64_t layout[ROT_DNN_LAYOUT];
    product->packed_bytes = rot_dnn_bytes(pd, dnnl_query_weights_md);
    dnnl_status_t status = rot_dnn_weights_layout(pd, layout);
    if (status) return rot_dnn_fail(err, status, "a weight's layout");
    rot_xxh128_bytes(layout, sizeof layout, product->layout);
    if (from->like)
        product->packed = from->like->packed;
    else if (from->packed)
        product->packed = from->packed->bytes;
    else
        product->packed = product->own_packed =
            rot_host_alloc(product->packed_bytes, "a weight", err);
    if (!product->packed) return ROT_ERR_NO_MEMORY;
    if (from->like && !rot_dnn_same_weights(from->like->weights[0], pd))
        return rot_dnn_fail(err, dnnl_unimplemented, "sharing a weight");
    if (from->packed && (from->packed->n_bytes != product->packed_bytes ||
                         memcmp(from->packed->layout, product->layout, sizeof product->layout)))
        return rot_dnn_fail(err, dnnl_unimplemented, "a packed weight of another layout");
    status = rot_dnn_operand(&product->weights[0], dnn->engine, pd, dnnl_query_weights_md,
                             (void *)(uintptr_t)product->packed);
    if (!status && product->own_packed) status = pack(dnn, spec, from->plain, product->weights[0]);
    return status ? rot_dnn_fail(err, status, "packing a weight") : 0;
}

// The operands of `product`, one set per thread, and the packed weight and bias if it has them.
static int make_operands(rot_dnn *dnn, rot_dnn_product *product, const rot_dnn_matmul *spec,
                         dnnl_primitive_desc_t pd, const rot_dnn_source *weight, const float *bias,
                         rot_err *err)
{
    int threads = dnn->base.threads;
    product->own_weights = spec->weights != ROT_DNN_W_PACKED;
    int n_weights = product->own_weights ? threads : 1;
    product->calls = rot_calloc((size_t)threads, sizeof *product->calls);
    product->weights = rot_calloc((size_t)n_weights, sizeof *product->weights);
    if (!product->calls || !product->weights)
        return rot_no_memory(err, sizeof *product->calls, "a product");
    dnnl_status_t status = dnnl_success;
    for (int t = 0; t < threads && !status; t++) {
        rot_dnn_call *call = &product->calls[t];
        status = rot_dnn_operand(&call->src, dnn->engine, pd, dnnl_query_src_md, DNNL_MEMORY_NONE);
        if (!status)
            status =
                rot_dnn_operand(&call->dst, dnn->engine, pd, dnnl_query_dst_md, DNNL_MEMORY_NONE);
        if (!status)
            status = rot_dnn_operand(&call->scratch, dnn->engine, pd, dnnl_query_scratchpad_md,
                                     DNNL_MEMORY_NONE);
        if (!status && product->own_weights)
            status = rot_dnn_operand(&product->weights[t], dnn->engine, pd, dnnl_query_weights_md,
                                     DNNL_MEMORY_NONE);
    }
    if (status) return rot_dnn_fail(err, status, "operands");
    if (!product->own_weights) ROT_TRY(place_weight(dnn, product, spec, pd, weight, err));
    if (spec->bias) {
        product->bias_data = rot_host_alloc((size_t)spec->n * sizeof *bias, "a bias", err);
        if (!product->bias_data) return ROT_ERR_NO_MEMORY;
        memcpy(product->bias_data, bias, (size_t)spec->n * sizeof *bias);
        status = dnnl_memory_create(&product->bias,
                                    dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 1),
                                    dnn->engine, product->bias_data);
        if (status) return rot_dnn_fail(err, status, "a bias");
    }
    return 0;
}

int rot_dnn_product_new(rot_dnn *dnn, const rot_dnn_matmul *spec, const rot_dnn_source *weight,
                        const float *bias, rot_dnn_product **out, rot_err *err)
{
    int rc = 0;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    *out = NULL;
    rot_dnn_product *product = rot_calloc(1, sizeof *product);
    if (!product) return rot_no_memory(err, sizeof *product, "a product");
    // A primitive keeps the number of threads that it was made under.
    int before = omp_get_max_threads();
    omp_set_num_threads(1);
    dnnl_status_t status = rot_dnn_attr(spec->post, &attr);
    if (!status) status = rot_dnn_matmul_desc(&pd, dnn->engine, spec, attr);
    if (!status) status = dnnl_primitive_create(&product->primitive, pd);
    if (status) {
        char what[96];
        snprintf(what, sizeof what, "a product %lld x %lld x %lld", (long long)spec->m,
                 (long long)spec->k, (long long)spec->n);
        rc = rot_dnn_fail(err, status, what);
        goto done;
    }
    product->scratch_bytes = rot_dnn_bytes(pd, dnnl_query_scratchpad_md);
    ROT_GO(make_operands(dnn, product, spec, pd, weight, bias, err));
    ROT_GO(rot_dnn_reserve(dnn, product->scratch_bytes, err));
    *out = product;
    product = NULL;
done:
    omp_set_num_threads(before);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attr) dnnl_primitive_attr_destroy(attr);
    rot_dnn_product_free(dnn, product);
    return rc;
}

void rot_dnn_product_free(rot_dnn *dnn, rot_dnn_product *product)
{
    if (!product) return;
    int threads = dnn->base.threads;
    for (int t = 0; t < threads && product->calls; t++) {
        rot_dnn_call *call = &product->calls[t];
        if (call->src) dnnl_memory_destroy(call->src);
        if (call->dst) dnnl_memory_destroy(call->dst);
        if (call->scratch) dnnl_memory_destroy(call->scratch);
    }
    for (int t = 0; t < (product->own_weights ? threads : 1) && product->weights; t++)
        if (product->weights[t]) dnnl_memory_destroy(product->weights[t]);
    if (product->bias) dnnl_memory_destroy(product->bias);
    if (product->primitive) dnnl_primitive_destroy(product->primitive);
    rot_free(product->calls);
    rot_free(product->weights);
    rot_free(product->own_packed);
    rot_free(product->bias_data);
    rot_free(product);
}

int rot_dnn_reserve(rot_dnn *dnn, size_t bytes_per_thread, rot_err *err)
{
    if (bytes_per_thread <= dnn->scratch_bytes && dnn->scratch) return 0;
    size_t rounded = (bytes_per_thread + 4096) / 4096 * 4096;
    void *scratch = rot_host_alloc(rounded * (size_t)dnn->base.threads, "oneDNN's scratch", err);
    if (!scratch) return ROT_ERR_NO_MEMORY;
    rot_free(dnn->scratch);
    dnn->scratch = scratch;
    dnn->scratch_bytes = rounded;
    return 0;
}

dnnl_status_t rot_dnn_run(rot_dnn *dnn, rot_dnn_product *product, int thread, const void *src,
                          const void *weights, void *dst)
{
    rot_dnn_call *call = &product->calls[thread];
    dnnl_memory_t weight = product->weights[product->own_weights ? thread : 0];
    ROT_DNN_TRY(dnnl_memory_set_data_handle(call->src, (void *)(uintptr_t)src));
    ROT_DNN_TRY(dnnl_memory_set_data_handle(call->dst, dst));
    ROT_DNN_TRY(dnnl_memory_set_data_handle(call->scratch,
                                            dnn->scratch + (size_t)thread * dnn->scratch_bytes));
    if (product->own_weights)
        ROT_DNN_TRY(dnnl_memory_set_data_handle(weight, (void *)(uintptr_t)weights));
    dnnl_exec_arg_t args[5] = {{DNNL_ARG_SRC, call->src},
                               {DNNL_ARG_WEIGHTS, weight},
                               {DNNL_ARG_DST, call->dst},
                               {DNNL_ARG_SCRATCHPAD, call->scratch},
                               {DNNL_ARG_BIAS, product->bias}};
    ROT_DNN_TRY(dnnl_primitive_execute(product->primitive, dnn->streams[thread],
                                       product->bias ? 5 : 4, args));
    return dnnl_stream_wait(dnn->streams[thread]);
}

#endif
typedef int rot_dnn_product_unit; // without oneDNN the file is not empty
