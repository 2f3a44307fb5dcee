// Inside the oneDNN backend.
#ifndef ROT_KERNELS_ONEDNN_H
#define ROT_KERNELS_ONEDNN_H

#include "kernels/avx512.h"
#include "kernels/backends.h"
#include "kernels/host.h"
#include "kernels/onednn/shim.h"

// Rows of a matrix product. A primitive is made for exactly so many and run by one thread, so that
// a row's bits cannot depend on its neighbours or on the threads. 16 at a time give every row its
// bits; 192 are quicker, and used where they gave the same bits (onednn.c).
enum { ROT_DNN_ROWS = 16, ROT_DNN_BULK = 12 * ROT_DNN_ROWS };

// A matrix product ready to run: its primitive, and operands whose data are set before each call.
// The first three belong to one thread at a time: one set per thread.
typedef struct rot_dnn_call {
    dnnl_memory_t src, dst, scratch;
} rot_dnn_call;

typedef struct rot_dnn_product {
    dnnl_primitive_t primitive;
    dnnl_memory_t bias; // NULL: none
    size_t scratch_bytes;
    rot_dnn_call *calls;    // one per thread
    dnnl_memory_t *weights; // one that all share, or one per thread where each brings its own
    bool own_weights;
    void *packed, *bias_data; // what `weights` and `bias` point to, where they are its own
} rot_dnn_product;

typedef struct rot_dnn_shape { // a product of attention
    int64_t rows, length, dim;
    bool values; // probabilities times values, else queries times keys
} rot_dnn_shape;

typedef struct rot_dnn {
    rot_backend base;
    dnnl_engine_t engine;
    dnnl_stream_t *streams; // one per thread
    unsigned char *scratch; // scratch_bytes per thread, what the primitives ask for
    size_t scratch_bytes;
    unsigned char *space; // space_bytes per thread, scores and probabilities
    size_t space_bytes;
    struct rot_dnn_entry { // products of attention made so far
        rot_dnn_shape shape;
        rot_dnn_product *product;
    } * cache;
    size_t n_cache, cache_capacity;
    struct rot_dnn_verdict { // shapes of linears whose rows were compared
        size_t n_in, n_out;
        rot_epilogue epilogue;
        bool same;
    } * verdicts;
    size_t n_verdicts, verdicts_capacity;
} rot_dnn;

// product.c. `weight` (n, k) bfloat16 is packed if the spec says so; both are copied. With `like`,
// which must live longer, its packed weight is used instead; ROT_ERR_UNSUPPORTED: it lies
// otherwise.
int rot_dnn_product_new(rot_dnn *dnn, const rot_dnn_matmul *spec, const uint16_t *weight,
                        const float *bias, const rot_dnn_product *like, rot_dnn_product **out,
                        rot_err *err);
void rot_dnn_product_free(rot_dnn *dnn, rot_dnn_product *product);
// Makes room for the scratch of every product made so far. Before a parallel region.
int rot_dnn_reserve(rot_dnn *dnn, size_t bytes_per_thread, rot_err *err);
// By thread `thread`, on its own memory; `weights` NULL: the packed ones.
dnnl_status_t rot_dnn_run(rot_dnn *dnn, rot_dnn_product *product, int thread, const void *src,
                          const void *weights, void *dst);
int rot_dnn_fail(rot_err *err, dnnl_status_t status, const char *what);

// attention.c
int rot_dnn_attention(rot_backend *backend, const rot_segments *segments, rot_heads shape,
                      float scale, const rot_buffer *q, const rot_buffer *k, const rot_buffer *v,
                      rot_buffer *out, rot_err *err);
void rot_dnn_attention_forget(rot_dnn *dnn); // frees the cache

#endif
