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
    const void *packed; // what the one of `weights` points to
    size_t packed_bytes;
    uint8_t layout[16];           // hash of the layout of `packed`
    void *own_packed, *bias_data; // own: NULL where `packed` is another's
} rot_dnn_product;

// Where a weight that the spec wants packed comes from; one is not NULL.
typedef struct rot_dnn_source {
    const uint16_t *plain;       // (n, k) bfloat16: packed, not kept
    const rot_packed *packed;    // used where it lies if it lies as the product wants it
    const rot_dnn_product *like; // its packed weight, on the same condition
} rot_dnn_source;

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

// product.c. `bias` is copied; what `weight` names must live longer unless it is plain. NULL: each
// call brings its own. ROT_ERR_UNSUPPORTED: it lies otherwise.
int rot_dnn_product_new(rot_dnn *dnn, const rot_dnn_matmul *spec, const rot_dnn_source *weight,
                        const float *bias, rot_dnn_product **out, rot_err *err);
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
