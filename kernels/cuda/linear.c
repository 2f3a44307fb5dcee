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

// Operands to compare ways with: random, from 0.5 to 2, both signs.
typedef struct trial {
    uint16_t *in;          // (largest, n_in)
    unsigned char *out[2]; // (largest, n_out)
    size_t in_bytes, out_bytes;
} trial;

static void trial_free(rot_cuda *cuda, trial *t)
{
    rot_cuda_free(cuda, t->in, t->in_bytes);
    for (int i = 0; i < 2; i++) rot_cuda_free(cuda, t->out[i], t->out_bytes);
}

static int trial_new(rot_cuda *cuda, const rot_cuda_product *p, trial *t, rot_err *err)
{
    enum { N = 1 << 16 };
    const size_t n_in = (size_t)p->rows * p->n_in;
    uint64_t s = 0x9e3779b97f4a7c15u;
    int rc = 0;
    *t = (trial){.in_bytes = n_in * 2, .out_bytes = (size_t)p->rows * p->n_out * (p->f32 ? 4 : 2)};
    float *x = rot_malloc(N * sizeof *x);
    if (!x) return rot_no_memory(err, N * sizeof *x, "a comparison");
    for (size_t i = 0; i < N; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        x[i] = (0.5f + 1.5f * (float)(s >> 40) * 0x1p-24f) * (s & 1 ? -1.0f : 1.0f);
    }
    ROT_GO(rot_cuda_alloc(cuda, t->in_bytes, "a comparison", (void **)&t->in, err));
    for (int i = 0; i < 2; i++)
        ROT_GO(rot_cuda_alloc(cuda, t->out_bytes, "a comparison", (void **)&t->out[i], err));
    for (size_t at = 0; at < n_in; at += N)
        ROT_GO(rot_cuda_put(cuda, t->in + at, true, x, n_in - at < N ? n_in - at : N, err));
done:
    rot_free(x);
    return rc;
}

// Rows [from, from + n_bytes / row) of both outputs, compared on the host.
static int same_bytes(rot_cuda *cuda, const trial *t, size_t n_bytes, bool *same, rot_err *err)
{
    const rot_cuda_driver *d = cuda->driver;
    *same = true;
    enum { PIECE = ROT_CUDA_STAGING_BYTES };
    ROT_TRY(d->synchronise(cuda->device, err)); // both staging buffers are free
    for (size_t at = 0; at < n_bytes && *same; at += PIECE) {
        const size_t n = n_bytes - at < PIECE ? n_bytes - at : PIECE;
        for (int i = 0; i < 2; i++)
            ROT_TRY(d->copy(cuda->device, ROT_CUDA_COMPUTE, ROT_CUDA_FROM_DEVICE, cuda->staging[i],
                            t->out[i] + at, n, err));
        ROT_TRY(d->synchronise(cuda->device, err));
        *same = !memcmp(cuda->staging[0], cuda->staging[1], n);
    }
    return 0;
}

// A smaller chunk serves if the way of the largest takes it and gives its rows the same bits.
static int try_size(rot_cuda *cuda, const rot_linear *l, const trial *t, rot_cuda_way_of *way,
                    int size, rot_err *err)
{
    const rot_cuda_driver *d = cuda->driver;
    rot_cuda_product p = way->product;
    p.rows >>= 2 * size;
    if (p.rows == 0 || !d->accepts(cuda->device, &p, &way->choice)) return 0;
    const size_t row = t->out_bytes / way->product.rows, n = 4;
    ROT_TRY(d->clear(cuda->device, t->out[1], t->out_bytes, err));
    for (size_t i = 0; i < n; i++)
        ROT_TRY(d->multiply(cuda->device, &p, &way->choice, t->in + i * p.rows * l->n_in, l->weight,
                            l->bias, t->out[1] + i * p.rows * row, err));
    return same_bytes(cuda, t, n * p.rows * row, &way->sizes.has[size], err);
}

static int decide(rot_cuda *cuda, const rot_linear *l, rot_cuda_way_of *way, rot_err *err)
{
    const rot_cuda_driver *d = cuda->driver;
    const rot_cuda_product *p = &way->product;
    trial t;
    int rc = 0;
    way->sizes = (rot_cuda_sizes){.largest = p->rows, .has = {true}};
    ROT_TRY(d->choose(cuda->device, p, &way->choice, err));
    ROT_GO(trial_new(cuda, p, &t, err));
    ROT_GO(d->clear(cuda->device, t.out[0], t.out_bytes, err));
    ROT_GO(d->multiply(cuda->device, p, &way->choice, t.in, l->weight, l->bias, t.out[0], err));
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
    return 0;
}

int rot_cuda_linear_new(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                        const float *weight, const float *bias, rot_linear **out, rot_err *err)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    int rc = rot_cuda_failed(cuda, err);
    *out = NULL;
    if (rc < 0) return rc;
    if (n_in > INT32_MAX || n_out > INT32_MAX / cuda->info.chunk_rows)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "backend cuda: a weight of %zu x %zu", n_out, n_in);
    rot_linear *l = rot_calloc(1, sizeof *l);
    if (!l) return rot_no_memory(err, sizeof *l, "a weight");
    *l = (rot_linear){.n_in = n_in, .n_out = n_out, .epilogue = epilogue};
    l->fused = can_fuse(epilogue, bias, n_out);
    const bool bf16_bias = l->fused && epilogue != ROT_EPILOGUE_ADD;
    const size_t weight_bytes = n_in * n_out * 2, bias_bytes = n_out * (bf16_bias ? 2 : 4);
    ROT_GO(rot_cuda_alloc(cuda, weight_bytes, "a weight", (void **)&l->weight, err));
    l->weight_bytes = weight_bytes;
    ROT_GO(rot_cuda_alloc(cuda, bias_bytes, "a bias", &l->bias, err));
    l->bias_bytes = bias_bytes;
    ROT_GO(rot_cuda_put(cuda, l->weight, true, weight, n_in * n_out, err));
    ROT_GO(rot_cuda_put(cuda, l->bias, bf16_bias, bias, n_out, err));
    if (!l->fused) ROT_GO(make_sums(cuda, n_out, err));
    ROT_GO(find_way(cuda, l, err));
    *out = l;
    l = NULL;
done:
    rot_cuda_linear_free(backend, l);
    return rc;
}

void rot_cuda_linear_free(rot_backend *backend, rot_linear *linear)
{
    if (!linear) return;
    rot_cuda_free((rot_cuda *)backend, linear->weight, linear->weight_bytes);
    rot_cuda_free((rot_cuda *)backend, linear->bias, linear->bias_bytes);
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
        cuda->sums, l->bias, out, rows, (uint32_t)l->n_out, activations[l->epilogue]};
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
        const rot_cuda_product p = product_of(linear, n);
        unsigned char *to = (unsigned char *)out->data + row * linear->n_out * out_bytes;
        if (n == 0)
            ROT_FAIL(err, ROT_ERR_INTERNAL, "a product of %zu rows leaves its buffer", rows);
        ROT_TRY(cuda->driver->multiply(cuda->device, &p, &way->choice,
                                       (const uint16_t *)in->data + row * linear->n_in,
                                       linear->weight, linear->fused ? linear->bias : NULL,
                                       linear->fused ? (void *)to : cuda->sums, err));
        if (!linear->fused) ROT_TRY(finish_chunk(cuda, linear, n, (uint16_t *)(void *)to, err));
        row += n;
    }
    return 0;
}
