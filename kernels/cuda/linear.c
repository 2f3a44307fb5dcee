// Matrix products: chosen once per shape, run in chunks of fixed sizes.
#include <stdio.h>
#include <string.h>

#include "base/bf16.h"
#include "base/err.h"
#include "base/mem.h"
#include "kernels/cuda/buffer.h"
#include "kernels/cuda/cuda.h"

struct rot_linear {
    size_t n_in, n_out, way; // way: index in rot_cuda.ways
    rot_epilogue epilogue;
    bool fused;       // bias and activation within the product; else by our kernel
    uint16_t *weight; // (n_out, n_in)
    void *bias;       // (n_out): bf16 if fused into bf16, else float
    size_t weight_bytes, bias_bytes;
};

static bool all_bf16(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (rot_bf16_to_f32(rot_f32_to_bf16(x[i])) != x[i]) return false;
    return true;
}

// cuBLASLt adds a bias of the output's type, and knows the tanh form of GELU. A bias that bf16
// would change and other activations are ours, after sums in float.
static bool can_fuse(rot_epilogue epilogue, const float *bias, size_t n_out)
{
    if (epilogue == ROT_EPILOGUE_ADD) return true;
    return (epilogue == ROT_EPILOGUE_NONE || epilogue == ROT_EPILOGUE_GELU_TANH) &&
           all_bf16(bias, n_out);
}

static rot_cuda_product product_of(const rot_linear *l, uint32_t rows)
{
    const bool add = l->epilogue == ROT_EPILOGUE_ADD;
    return (rot_cuda_product){
        .rows = rows,
        .n_in = (uint32_t)l->n_in,
        .n_out = (uint32_t)l->n_out,
        .f32 = add || !l->fused,
        .bias = l->fused,
        .add = add,
        .gelu_tanh = l->fused && l->epilogue == ROT_EPILOGUE_GELU_TANH,
    };
}

// ---- choosing

// Rows to compare ways with: 64 random ones, from 0.5 to 2 of both signs, again and again, each
// time turned by one more, so that each stands at every place of a tile.
enum { TRIES = 8 };
typedef struct trial {
    uint32_t base;            // rows that differ
    size_t in_row, out_row;   // bytes
    uint16_t *in;             // (largest, n_in)
    unsigned char *out;       // (largest, n_out)
    unsigned char *want, *is; // (base, n_out), on the host
    size_t in_bytes, out_bytes;
} trial;

static void trial_free(rot_cuda *cuda, trial *t)
{
    rot_cuda_free(cuda, t->in, t->in_bytes);
    rot_cuda_free(cuda, t->out, t->out_bytes);
    rot_free(t->want);
}

static int put_turned(rot_cuda *cuda, const trial *t, const uint16_t *rows, uint32_t n,
                      rot_err *err)
{
    for (uint32_t group = 0; group < n; group++) {
        const size_t first = group % t->base * t->in_row, whole = t->base * t->in_row;
        unsigned char *to = (unsigned char *)t->in + group * whole;
        const unsigned char *from = (const unsigned char *)rows;
        ROT_TRY(rot_cuda_put_bytes(cuda, to, from + first, whole - first, err));
        ROT_TRY(rot_cuda_put_bytes(cuda, to + whole - first, from, first, err));
    }
    return 0;
}

static int trial_new(rot_cuda *cuda, const rot_cuda_product *p, trial *t, rot_err *err)
{
    const uint32_t base = p->rows >> 2 * (ROT_CUDA_SIZES - 1);
    int rc = 0;
    uint64_t s = 0x9e3779b97f4a7c15u;
    *t = (trial){.base = base ? base : 1};
    t->in_row = (size_t)p->n_in * 2, t->out_row = (size_t)p->n_out * (p->f32 ? 4 : 2);
    t->in_bytes = p->rows * t->in_row, t->out_bytes = p->rows * t->out_row;
    const size_t n = (size_t)t->base * p->n_in, out_bytes = t->base * t->out_row;
    uint16_t *rows = rot_malloc(n * sizeof *rows);
    t->want = rot_malloc(2 * out_bytes);
    if (!rows || !t->want) ROT_GO(rot_no_memory(err, n * sizeof *rows + 2 * out_bytes, "a trial"));
    t->is = t->want + out_bytes;
    for (size_t i = 0; i < n; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        rows[i] =
            rot_f32_to_bf16((0.5f + 1.5f * (float)(s >> 40) * 0x1p-24f) * (s & 1 ? -1.0f : 1.0f));
    }
    ROT_GO(rot_cuda_alloc(cuda, t->in_bytes, "a trial", (void **)&t->in, err));
    ROT_GO(rot_cuda_alloc(cuda, t->out_bytes, "a trial", (void **)&t->out, err));
    ROT_GO(put_turned(cuda, t, rows, p->rows / t->base, err));
done:
    rot_free(rows);
    return rc;
}

// Whether the first `rows` rows of the output are those of `want`, turned.
static int is_turned(rot_cuda *cuda, const trial *t, uint32_t rows, bool *same, rot_err *err)
{
    const size_t whole = t->base * t->out_row;
    *same = true;
    for (uint32_t group = 0; group < rows / t->base && *same; group++) {
        const size_t first = group % t->base * t->out_row;
        ROT_TRY(rot_cuda_fetch(cuda, t->out + group * whole, t->is, whole, err));
        *same = !memcmp(t->is, t->want + first, whole - first) &&
                !memcmp(t->is + whole - first, t->want, first);
    }
    return 0;
}

// Up to four products of p->rows rows, one behind the other, into an output of zeros.
static int multiply_trial(rot_cuda *cuda, const rot_linear *l, const trial *t,
                          const rot_cuda_product *p, const rot_cuda_choice *choice, int n,
                          rot_err *err)
{
    const rot_cuda_driver *d = cuda->driver;
    ROT_TRY(d->clear(cuda->device, t->out, t->out_bytes, err));
    for (size_t row = 0; n-- > 0; row += p->rows)
        ROT_TRY(d->multiply(cuda->device, p, choice, t->in + row * l->n_in, l->weight,
                            p->bias ? l->bias : NULL, t->out + row * t->out_row, err));
    return 0;
}

// The best way that gives a row the same bits wherever it stands. A way that the library names but
// does not run is passed over.
static int choose_way(rot_cuda *cuda, const rot_linear *l, const trial *t, rot_cuda_way_of *way,
                      rot_err *err)
{
    const rot_cuda_product *p = &way->product;
    bool any = false;
    for (int i = 0; i < TRIES; i++) {
        bool same;
        int rc = cuda->driver->choose(cuda->device, p, i, &way->choice, err);
        if (rc == ROT_ERR_NOT_FOUND) break;
        if (rc == 0) rc = multiply_trial(cuda, l, t, p, &way->choice, 1, err);
        if (rc == ROT_ERR_UNSUPPORTED) continue;
        ROT_TRY(rc);
        any = true;
        ROT_TRY(rot_cuda_fetch(cuda, t->out, t->want, t->base * t->out_row, err));
        ROT_TRY(is_turned(cuda, t, p->rows, &same, err));
        if (same) return 0;
    }
    ROT_FAIL(err, ROT_ERR_UNSUPPORTED,
             any ? "every way of cuBLASLt's gives a row other bits in another place"
                 : "cuBLASLt has no way to compute it");
}

// A smaller chunk serves if the way of the largest takes it and gives its rows the same bits.
static int try_size(rot_cuda *cuda, const rot_linear *l, const trial *t, rot_cuda_way_of *way,
                    int size, rot_err *err)
{
    rot_cuda_product p = way->product;
    p.rows >>= 2 * size;
    if (p.rows == 0 || !cuda->driver->accepts(cuda->device, &p, &way->choice)) return 0;
    const int rc = multiply_trial(cuda, l, t, &p, &way->choice, 4, err);
    if (rc == ROT_ERR_UNSUPPORTED) return 0; // `accepts` is no promise
    ROT_TRY(rc);
    return is_turned(cuda, t, 4 * p.rows, &way->sizes.has[size], err);
}

static int decide(rot_cuda *cuda, const rot_linear *l, rot_cuda_way_of *way, rot_err *err)
{
    trial t;
    int rc = 0;
    way->sizes = (rot_cuda_sizes){.largest = way->product.rows, .has = {true}};
    ROT_GO(trial_new(cuda, &way->product, &t, err));
    ROT_GO(choose_way(cuda, l, &t, way, err));
    for (int size = 1; size < ROT_CUDA_SIZES; size++) ROT_GO(try_size(cuda, l, &t, way, size, err));
done:
    trial_free(cuda, &t);
    return rc;
}

static bool same_product(const rot_cuda_product *a, const rot_cuda_product *b)
{
    return a->rows == b->rows && a->n_in == b->n_in && a->n_out == b->n_out && a->f32 == b->f32 &&
           a->bias == b->bias && a->add == b->add && a->gelu_tanh == b->gelu_tanh;
}

// Each shape is decided once.
static int find_way(rot_cuda *cuda, rot_linear *l, rot_err *err)
{
    const uint32_t largest = cuda->info.chunk_rows;
    const rot_cuda_product product = product_of(l, l->fused ? largest : largest / 4);
    for (l->way = 0; l->way < cuda->n_ways; l->way++)
        if (same_product(&cuda->ways[l->way].product, &product)) return 0;
    ROT_TRY(rot_grow(&cuda->ways, &cuda->ways_capacity, cuda->n_ways + 1, sizeof *cuda->ways, err));
    rot_cuda_way_of *way = &cuda->ways[cuda->n_ways];
    memset(way, 0, sizeof *way);
    way->product = product;
    if (decide(cuda, l, way, err) < 0)
        return rot_err_prefix(err, "a product of %zu by %zu: ", l->n_out, l->n_in);
    cuda->n_ways++;
    return 0;
}

// ---- the operations

static int make_sums(rot_cuda *cuda, size_t n_out, rot_err *err)
{
    const size_t n_bytes = cuda->info.chunk_rows / 4 * n_out * sizeof(float);
    if (n_bytes <= cuda->sums_bytes) return 0;
    rot_cuda_free(cuda, cuda->sums, cuda->sums_bytes);
    cuda->sums = NULL;
    cuda->sums_bytes = 0;
    ROT_TRY(rot_cuda_alloc(cuda, n_bytes, "sums of a product", (void **)&cuda->sums, err));
    cuda->sums_bytes = n_bytes;
    return cuda->driver->clear(cuda->device, cuda->sums, n_bytes, err);
}

// From one of the two.
typedef struct source {
    const float *wide;
    const uint16_t *narrow;
} source;

static int put_all(rot_cuda *cuda, const rot_linear *l, source weight, const float *bias,
                   rot_err *err)
{
    if (weight.narrow)
        ROT_TRY(rot_cuda_put_bytes(cuda, l->weight, weight.narrow, l->weight_bytes, err));
    else
        ROT_TRY(rot_cuda_put_rounded(cuda, l->weight, weight.wide, l->n_in * l->n_out, err));
    return l->bias_bytes < l->n_out * sizeof *bias
               ? rot_cuda_put_rounded(cuda, l->bias, bias, l->n_out, err)
               : rot_cuda_put_bytes(cuda, l->bias, bias, l->bias_bytes, err);
}

// Weight, bias and the way, with the epilogue fused or not.
static int fill_linear(rot_cuda *cuda, rot_linear *l, source weight, const float *bias,
                       rot_err *err)
{
    const bool bf16_bias = l->fused && l->epilogue != ROT_EPILOGUE_ADD;
    rot_cuda_free(cuda, l->bias, l->bias_bytes);
    l->bias = NULL;
    l->bias_bytes = l->n_out * (bf16_bias ? 2 : 4);
    ROT_TRY(rot_cuda_alloc(cuda, l->bias_bytes, "a bias", &l->bias, err));
    ROT_TRY(put_all(cuda, l, weight, bias, err));
    if (!l->fused) ROT_TRY(make_sums(cuda, l->n_out, err));
    return find_way(cuda, l, err);
}

static int make_linear(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                       source weight, const float *bias, rot_linear **out, rot_err *err)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    int rc = 0;
    *out = NULL;
    ROT_TRY(rot_cuda_failed(cuda, err));
    ROT_TRY(rot_cuda_flush(cuda, err));
    if (n_in > INT32_MAX || n_out > INT32_MAX / cuda->info.chunk_rows)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "backend cuda: a weight of %zu x %zu", n_out, n_in);
    rot_linear *l = rot_calloc(1, sizeof *l);
    if (!l) return rot_no_memory(err, sizeof *l, "a weight");
    *l = (rot_linear){.n_in = n_in, .n_out = n_out, .epilogue = epilogue};
    l->fused = can_fuse(epilogue, bias, n_out);
    l->weight_bytes = n_in * n_out * 2;
    ROT_GO(rot_cuda_alloc(cuda, l->weight_bytes, "a weight", (void **)&l->weight, err));
    rc = fill_linear(cuda, l, weight, bias, err);
    if (rc == ROT_ERR_UNSUPPORTED && l->fused && epilogue != ROT_EPILOGUE_ADD) {
        l->fused = false; // the library has no such epilogue for this shape
        rc = fill_linear(cuda, l, weight, bias, err);
    }
    if (rc < 0) goto done;
    *out = l;
    l = NULL;
done:
    rot_cuda_linear_free(backend, l);
    return rc;
}

int rot_cuda_linear_new(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                        const float *weight, const float *bias, rot_linear **out, rot_err *err)
{
    return make_linear(backend, n_in, n_out, epilogue, (source){.wide = weight}, bias, out, err);
}

int rot_cuda_linear_new_bf16(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                             const uint16_t *weight, const float *bias, rot_linear **out,
                             rot_err *err)
{
    return make_linear(backend, n_in, n_out, epilogue, (source){.narrow = weight}, bias, out, err);
}

void rot_cuda_linear_free(rot_backend *backend, rot_linear *linear)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    if (!linear) return;
    rot_cuda_flush_kept(cuda);
    rot_cuda_free(cuda, linear->weight, linear->weight_bytes);
    rot_cuda_free(cuda, linear->bias, linear->bias_bytes);
    rot_free(linear);
}

static int finish_chunk(rot_cuda *cuda, const rot_linear *l, uint32_t rows, uint16_t *out,
                        rot_err *err)
{
    static const int activations[] = {
        [ROT_EPILOGUE_NONE] = ROT_CUDA_IDENTITY,
        [ROT_EPILOGUE_GELU_TANH] = ROT_CUDA_GELU_TANH,
        [ROT_EPILOGUE_GELU_ERF] = ROT_CUDA_GELU_ERF,
        [ROT_EPILOGUE_GELU_QUICK] = ROT_CUDA_GELU_QUICK,
    };
    rot_cuda_launch launch = {.kernel = ROT_CUDA_EPILOGUE, .warps = 8};
    launch.args.epilogue = (rot_cuda_epilogue_args){
        cuda->sums, l->bias, out, rows, (uint32_t)l->n_out, activations[l->epilogue], 0};
    return rot_cuda_launch_rows(cuda, &launch, (rows * l->n_out + ROT_WARP - 1) / ROT_WARP, err);
}

int rot_cuda_linear(rot_backend *backend, const rot_linear *linear, size_t rows,
                    const rot_buffer *in, rot_buffer *out, rot_err *err)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    const rot_cuda_way_of *way = &cuda->ways[linear->way];
    const size_t out_bytes = linear->epilogue == ROT_EPILOGUE_ADD ? 4 : 2;
    const size_t in_rows = in->n_bytes / 2 / linear->n_in,
                 out_rows = out->n_bytes / out_bytes / linear->n_out,
                 room = in_rows < out_rows ? in_rows : out_rows;
    ROT_TRY(rot_cuda_failed(cuda, err));
    ROT_TRY(rot_cuda_may_write(cuda, out, err));
    for (size_t row = 0; row < rows;) {
        const uint32_t n =
            row < room ? rot_cuda_next_chunk(&way->sizes, rows - row, room - row) : 0;
        unsigned char *to = (unsigned char *)out->data + row * linear->n_out * out_bytes;
        if (n == 0)
            ROT_FAIL(err, ROT_ERR_INTERNAL, "a product of %zu rows leaves its buffer", rows);
        const rot_cuda_multiply multiply = {
            .product = product_of(linear, n),
            .way = linear->way,
            .in = (const uint16_t *)in->data + row * linear->n_in,
            .weight = linear->weight,
            .bias = linear->fused ? linear->bias : NULL,
            .out = linear->fused ? (void *)to : cuda->sums,
        };
        ROT_TRY(rot_cuda_multiply_later(cuda, &multiply, err));
        if (!linear->fused) ROT_TRY(finish_chunk(cuda, linear, n, (uint16_t *)(void *)to, err));
        row += n;
    }
    return 0;
}
