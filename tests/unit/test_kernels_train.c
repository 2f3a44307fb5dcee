// kernels/train.h: products against double loops, every other forward against its formula in
// double and every backward against finite differences of that formula; bits that do not depend on
// threads; nothing written outside; failing allocations.
#include "test_kernels.h"

#include "base/random.h"
#include "kernels/train.h"
#include "kernels/train/parts.h"

static const struct train_subject {
    const char *name;
    rot_precision precision;
    bool emulated; // amx with its tiles in C
} trains[] = {{"ref", ROT_PRECISION_F32, false},    {"ref", ROT_PRECISION_BF16, false},
              {"avx512", ROT_PRECISION_F32, false}, {"avx512", ROT_PRECISION_BF16, false},
              {"amx", ROT_PRECISION_F32, false},    {"amx", ROT_PRECISION_BF16, false},
              {"amx", ROT_PRECISION_F32, true},     {"amx", ROT_PRECISION_BF16, true}};
enum { N_TRAINS = sizeof trains / sizeof *trains };

static rot_train *open_train(int i, int threads)
{
    rot_train *t = NULL;
    rot_err err;
    setenv("ROT_AMX_EMULATE", trains[i].emulated ? "1" : "0", 1);
    int rc = rot_train_open(trains[i].name, trains[i].precision, threads, &t, &err);
    if (rc == ROT_ERR_UNSUPPORTED) return NULL; // this machine lacks it
    assert_int_equal(rc, 0);
    assert_int_equal(t->precision, trains[i].precision);
    return t;
}

static float read_as(const rot_train *t, float x)
{
    return t->precision == ROT_PRECISION_BF16 ? as_bf16(x) : x;
}

static void assert_near(const float *got, const double *want, size_t n, double tolerance,
                        const char *what)
{
    double norm = 0, error = 0;
    for (size_t i = 0; i < n; i++) {
        norm += want[i] * want[i];
        error += (got[i] - want[i]) * (got[i] - want[i]);
    }
    if (!(sqrt(error) <= tolerance * sqrt(norm) + 1e-30))
        fail_msg("%s: relative error %.3g", what, sqrt(error / norm));
}

// A matrix with room around it, whose room must stay as it is.
typedef struct framed {
    float *block, *at;
    size_t rows, width, stride;
} framed;

static framed frame(size_t rows, size_t width, size_t stride)
{
    framed f = {malloc((rows * stride + 64) * sizeof(float)), NULL, rows, width, stride};
    for (size_t i = 0; i < rows * stride + 64; i++) f.block[i] = 12345.0f + (float)i;
    f.at = f.block + 32;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < width; i++) f.at[r * stride + i] = uniform();
    return f;
}

static void assert_frame(framed f)
{
    for (size_t i = 0; i < f.rows * f.stride + 64; i++) {
        size_t in = i - 32; // wraps in front, where it is no row either
        if (in < f.rows * f.stride && in % f.stride < f.width) continue;
        assert_true(f.block[i] == 12345.0f + (float)i);
    }
}

static void check_product(rot_train *t, size_t rows, size_t n_in, size_t n_out, bool add)
{
    rot_err err;
    rot_train_weight *w;
    framed x = frame(rows, n_in, n_in + 3), y = frame(rows, n_out, n_out + 5);
    framed dx = frame(rows, n_in, n_in), dw = frame(n_out, n_in, n_in + 1);
    float *values = random_floats(n_out * n_in, 1), *bias = random_floats(n_out, 1);
    double *want_y = calloc(rows * n_out, sizeof *want_y);
    double *want_dx = calloc(rows * n_in, sizeof *want_dx);
    double *want_dw = calloc(n_out * n_in, sizeof *want_dw);
    float *got = malloc((rows + n_out) * (n_in + n_out) * sizeof *got);
    for (size_t o = 0; o < n_out; o++)
        for (size_t i = 0; i < n_in; i++) want_dw[o * n_in + i] = dw.at[o * dw.stride + i];
    for (size_t r = 0; r < rows; r++) {
        for (size_t o = 0; o < n_out; o++) {
            double sum = (double)bias[o] + (add ? y.at[r * y.stride + o] : 0);
            for (size_t i = 0; i < n_in; i++)
                sum +=
                    (double)read_as(t, x.at[r * x.stride + i]) * read_as(t, values[o * n_in + i]);
            want_y[r * n_out + o] = sum;
        }
        for (size_t i = 0; i < n_in && add; i++) want_dx[r * n_in + i] = dx.at[r * n_in + i];
    }
    assert_int_equal(t->ops->weight_new(t, n_out, n_in, &w, &err), 0);
    // in three pieces, the middle one transposed
    size_t a = n_out / 3, b = n_out * 3 / 4;
    float *turned = malloc(n_in * n_out * sizeof *turned);
    for (size_t o = a; o < b; o++)
        for (size_t i = 0; i < n_in; i++) turned[i * (b - a) + o - a] = values[o * n_in + i];
    t->ops->weight_set(t, w, b, n_out - b, values + b * n_in, n_in, false, &err);
    t->ops->weight_set(t, w, 0, a, values, n_in, false, &err);
    t->ops->weight_set(t, w, a, b - a, turned, b - a, true, &err);
    assert_int_equal(t->ops->linear(t, w, rows, x.at, x.stride, bias, add, y.at, y.stride, &err),
                     0);
    for (size_t r = 0; r < rows; r++)
        memcpy(got + r * n_out, y.at + r * y.stride, n_out * sizeof *got);
    assert_near(got, want_y, rows * n_out, 2e-6, "linear");
    assert_frame(y);
    for (size_t r = 0; r < rows; r++) // y is the gradient now
        for (size_t o = 0; o < n_out; o++)
            for (size_t i = 0; i < n_in; i++) {
                double d = read_as(t, y.at[r * y.stride + o]);
                want_dx[r * n_in + i] += d * read_as(t, values[o * n_in + i]);
                want_dw[o * n_in + i] += d * read_as(t, x.at[r * x.stride + i]);
            }
    for (int again = 0; again < 2; again++) { // the second time after all rows were set at once
        float *before = malloc(rows * n_in * sizeof *before);
        memcpy(before, dx.at, rows * n_in * sizeof *before);
        assert_int_equal(t->ops->linear_back(t, w, rows, y.at, y.stride, add, dx.at, n_in, &err),
                         0);
        assert_near(dx.at, want_dx, rows * n_in, 2e-6, "linear_back");
        assert_frame(dx);
        memcpy(dx.at, before, rows * n_in * sizeof *before);
        free(before);
        t->ops->weight_set(t, w, 0, n_out, values, n_in, false, &err);
    }
    assert_int_equal(
        t->ops->outer(t, rows, n_out, n_in, y.at, y.stride, x.at, x.stride, dw.at, dw.stride, &err),
        0);
    for (size_t o = 0; o < n_out; o++)
        memcpy(got + o * n_in, dw.at + o * dw.stride, n_in * sizeof *got);
    assert_near(got, want_dw, n_out * n_in, 2e-6, "outer");
    assert_frame(dw);
    t->ops->weight_free(t, w);
    free(x.block), free(y.block), free(dx.block), free(dw.block), free(values), free(bias);
    free(want_y), free(want_dx), free(want_dw), free(got), free(turned);
}

static void products_equal_double_loops(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 1, 1},    {1, 64, 96},   {2, 33, 31}, {5, 100, 7},
                                       {12, 16, 32}, {13, 65, 130}, {23, 48, 3}, {250, 34, 70}};
    for (int i = 0; i < N_TRAINS; i++) {
        rot_train *t = open_train(i, 2);
        for (size_t s = 0; t && s < sizeof shapes / sizeof *shapes; s++) {
            check_product(t, shapes[s][0], shapes[s][1], shapes[s][2], false);
            check_product(t, shapes[s][0], shapes[s][1], shapes[s][2], true);
        }
        if (t) check_product(t, 14, 1100, 40, true); // several pieces of k
        if (t) check_product(t, 40, 1100, 40, true);
        if (t) check_product(t, 150, 1100, 70, true); // and of rows, and panels
        if (t) check_product(t, 1100, 40, 36, true);  // in outer too, and several of rows
        rot_train_close(&t);
    }
}

// Products of all three kinds with `rows` rows, of which the first `kept` are returned.
static float *some_rows(rot_train *t, size_t rows, size_t kept, size_t n, const float *x,
                        const float *values)
{
    rot_err err;
    rot_train_weight *w;
    float *y = malloc(2 * rows * n * sizeof *y), *dx = y + rows * n;
    float *out = malloc(2 * kept * n * sizeof *out);
    assert_int_equal(t->ops->weight_new(t, n, n, &w, &err), 0);
    assert_int_equal(t->ops->weight_set(t, w, 0, n, values, n, false, &err), 0);
    assert_int_equal(t->ops->linear(t, w, rows, x, n, values, false, y, n, &err), 0);
    memcpy(dx, x, rows * n * sizeof *dx);
    assert_int_equal(t->ops->linear_back(t, w, rows, y, n, true, dx, n, &err), 0);
    memcpy(out, y, kept * n * sizeof *out);
    memcpy(out + kept * n, dx, kept * n * sizeof *out);
    t->ops->weight_free(t, w);
    free(y);
    return out;
}

static void a_row_does_not_depend_on_the_others(void **state)
{
    (void)state;
    enum { ROWS = 290, N = 390 };
    for (int i = 0; i < N_TRAINS; i++) {
        rot_train *t = open_train(i, 2);
        if (!t) continue;
        float *x = random_floats(ROWS * N, 1), *values = random_floats(N * N, 1);
        float *one = some_rows(t, 1, 1, N, x, values);
        static const size_t counts[] = {2, 16, 17, 33, ROWS};
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            float *many = some_rows(t, counts[k], 1, N, x, values);
            assert_memory_equal(many, one, 2 * N * sizeof *one);
            free(many);
        }
        free(x), free(values), free(one);
        rot_train_close(&t);
    }
}

static void emulated_tiles_give_the_bits_of_real_ones(void **state)
{
    (void)state;
    enum { ROWS = 45, N = 390 };
    for (int i = 0; i < N_TRAINS; i++) {
        if (!trains[i].emulated) continue;
        rot_train *real = open_train(i - 2, 1), *emulated = open_train(i, 1);
        assert_true(!real || (!strcmp(real->identity, "amx") &&
                              !strcmp(emulated->identity, "amx emulated")));
        float *x = random_floats(ROWS * N, 1), *values = random_floats(N * N, 1);
        float *want = real ? some_rows(real, ROWS, ROWS, N, x, values) : NULL;
        float *got = emulated ? some_rows(emulated, ROWS, ROWS, N, x, values) : NULL;
        if (want && got) assert_memory_equal(got, want, 2 * ROWS * N * sizeof *got);
        free(x), free(values), free(want), free(got);
        rot_train_close(&real);
        rot_train_close(&emulated);
    }
}

static void three_parts_make_a_float(void **state)
{
    (void)state;
    rot_cpu cpu;
    rot_err err;
    assert_int_equal(rot_cpu_detect(&cpu, &err), 0);
    if (!cpu.avx512) skip();
    for (int e = -100; e < 127; e++) {
        float x[32];
        uint32_t words[3][ROT_PART_WORDS];
        for (int i = 0; i < 32; i++) x[i] = ldexpf(uniform(), e);
        rot_parts_row(3, x, 32, words[0]);
        for (int i = 0; i < 32; i++) {
            float sum = 0;
            for (int part = 2; part >= 0; part--)
                sum += rot_bf16_to_f32((uint16_t)(words[part][i / 2] >> i % 2 * 16));
            assert_true(sum == x[i]);
        }
    }
}

// Differences: `f` maps n_in doubles to n_out; the gradient of sum c_j f_j at x.
typedef void (*formula)(const double *in, double *out, const void *shape);
enum { MOST = 8192 };

static void differences(formula f, const void *shape, const float *x, size_t n_in, const float *c,
                        size_t n_out, double *gradient)
{
    static double at[MOST], high[MOST], low[MOST];
    assert_true(n_in <= MOST && n_out <= MOST);
    for (size_t i = 0; i < n_in; i++) at[i] = x[i];
    for (size_t i = 0; i < n_in; i++) {
        const double h = 1e-5;
        double sum = 0;
        at[i] = x[i] + h;
        f(at, high, shape);
        at[i] = x[i] - h;
        f(at, low, shape);
        at[i] = x[i];
        for (size_t j = 0; j < n_out; j++) sum += c[j] * (high[j] - low[j]) / (2 * h);
        gradient[i] = sum;
    }
}

static void check_forward(formula f, const void *shape, const float *x, size_t n_in,
                          const float *got, size_t n_out, const char *what)
{
    static double at[MOST], want[MOST];
    for (size_t i = 0; i < n_in; i++) at[i] = x[i];
    f(at, want, shape);
    assert_near(got, want, n_out, 1e-6, what);
}

typedef struct norm_shape {
    size_t rows, groups, width;
    bool layer;
} norm_shape;

// in: x (rows, groups, width), gamma (width), beta (width)
static void norm_formula(const double *in, double *out, const void *shape)
{
    const norm_shape *s = shape;
    size_t n = s->rows * s->groups;
    const double *gamma = in + n * s->width, *beta = gamma + s->width;
    for (size_t v = 0; v < n; v++) {
        const double *x = in + v * s->width;
        double mean = 0, square = 0;
        for (size_t i = 0; i < s->width && s->layer; i++) mean += x[i] / (double)s->width;
        for (size_t i = 0; i < s->width; i++) square += (x[i] - mean) * (x[i] - mean);
        double inv = 1 / sqrt(square / (double)s->width + 1e-5);
        for (size_t i = 0; i < s->width; i++)
            out[v * s->width + i] = (x[i] - mean) * inv * gamma[i] + (s->layer ? beta[i] : 0);
    }
}

static void check_norm(rot_train *t, norm_shape s, bool add)
{
    size_t n = s.rows * s.groups * s.width, all = n + 2 * s.width;
    rot_train_vectors v = {s.rows, s.groups, s.width, s.groups * s.width, s.groups * s.width};
    float *in = random_floats(all, 2), *out = malloc(n * sizeof *out), *c = random_floats(n, 1);
    float *d = random_floats(all, 1);
    double *want = malloc(all * sizeof *want);
    float *gamma = in + n, *beta = gamma + s.width, *dgamma = d + n, *dbeta = dgamma + s.width;
    rot_err err;
    if (s.layer)
        t->ops->layer_norm(t, v, 1e-5f, in, gamma, beta, out);
    else
        t->ops->rms_norm(t, v, 1e-5f, in, gamma, out);
    check_forward(norm_formula, &s, in, all, out, n, "norm");
    differences(norm_formula, &s, in, all, c, n, want);
    for (size_t i = 0; i < all; i++)
        if (i >= n || add) want[i] += d[i];
    if (s.layer)
        t->ops->layer_norm_back(t, v, 1e-5f, in, gamma, c, add, d, dgamma, dbeta, &err);
    else
        t->ops->rms_norm_back(t, v, 1e-5f, in, gamma, c, add, d, dgamma, &err);
    assert_near(d, want, s.layer ? all : all - s.width, 1e-5, "norm_back");
    free(in), free(out), free(c), free(d), free(want);
}

static void norms_and_their_gradients(void **state)
{
    (void)state;
    for (int i = 0; i < N_TRAINS; i++) {
        rot_train *t = open_train(i, 2);
        for (int k = 0; t && k < 4; k++) {
            check_norm(t, (norm_shape){3, 1, 37, k & 1}, k & 2);
            check_norm(t, (norm_shape){70, 1, 16, k & 1}, k & 2); // several chunks
            if (!(k & 1)) check_norm(t, (norm_shape){2, 3, 24, false}, k & 2);
        }
        rot_train_close(&t);
    }
}

enum { ACT_ROWS = 3, ACT_WIDTH = 21 };

static void swiglu_formula(const double *in, double *out, const void *shape)
{
    (void)shape;
    for (size_t r = 0; r < ACT_ROWS; r++)
        for (size_t i = 0; i < ACT_WIDTH; i++) {
            double g = in[r * 2 * ACT_WIDTH + i], u = in[(2 * r + 1) * ACT_WIDTH + i];
            out[r * ACT_WIDTH + i] = g / (1 + exp(-g)) * u;
        }
}

static void gelu_formula(const double *in, double *out, const void *shape)
{
    (void)shape;
    for (size_t i = 0; i < ACT_ROWS * ACT_WIDTH; i++)
        out[i] =
            0.5 * in[i] * (1 + tanh(sqrt(2 / M_PI) * (in[i] + 0.044715 * in[i] * in[i] * in[i])));
}

static void activations_and_their_gradients(void **state)
{
    (void)state;
    enum { N = ACT_ROWS * ACT_WIDTH };
    for (int i = 0; i < N_TRAINS; i++) {
        rot_train *t = open_train(i, 2);
        if (!t) continue;
        float *in = random_floats(2 * N, 4), *c = random_floats(N, 1), out[N], d[2 * N];
        double want[2 * N];
        t->ops->swiglu(t, ACT_ROWS, ACT_WIDTH, in, out);
        check_forward(swiglu_formula, NULL, in, 2 * N, out, N, "swiglu");
        differences(swiglu_formula, NULL, in, 2 * N, c, N, want);
        t->ops->swiglu_back(t, ACT_ROWS, ACT_WIDTH, in, c, d);
        assert_near(d, want, 2 * N, 1e-6, "swiglu_back");
        t->ops->gelu(t, ACT_ROWS, ACT_WIDTH, in, out);
        check_forward(gelu_formula, NULL, in, N, out, N, "gelu");
        differences(gelu_formula, NULL, in, N, c, N, want);
        t->ops->gelu_back(t, ACT_ROWS, ACT_WIDTH, in, c, d);
        assert_near(d, want, N, 1e-6, "gelu_back");
        free(in), free(c);
        rot_train_close(&t);
    }
}

static void rope_turns_and_its_inverse_turns_back(void **state)
{
    (void)state;
    enum { ROWS = 5, HEADS = 3, HALF = 20, WIDTH = HEADS * 2 * HALF };
    for (int k = 0; k < N_TRAINS; k++) {
        rot_train *t = open_train(k, 2);
        if (!t) continue;
        float *x = random_floats(ROWS * WIDTH, 1), y[ROWS * WIDTH], c[ROWS * HALF], s[ROWS * HALF];
        double want[ROWS * WIDTH];
        for (int i = 0; i < ROWS * HALF; i++) c[i] = cosf((float)i), s[i] = sinf((float)i);
        for (int r = 0; r < ROWS; r++)
            for (int h = 0; h < HEADS; h++)
                for (int i = 0; i < HALF; i++) {
                    int a = r * WIDTH + h * 2 * HALF + i, b = a + HALF, at = r * HALF + i;
                    want[a] = (double)x[a] * c[at] - (double)x[b] * s[at];
                    want[b] = (double)x[b] * c[at] + (double)x[a] * s[at];
                }
        memcpy(y, x, sizeof y);
        t->ops->rope(t, ROWS, HEADS, HALF, c, s, false, y, WIDTH);
        assert_near(y, want, ROWS * WIDTH, 1e-6, "rope");
        t->ops->rope(t, ROWS, HEADS, HALF, c, s, true, y, WIDTH);
        for (int i = 0; i < ROWS * WIDTH; i++) want[i] = x[i];
        assert_near(y, want, ROWS * WIDTH, 1e-6, "rope, inverse");
        free(x);
        rot_train_close(&t);
    }
}

typedef struct attention_case {
    rot_train_attention a;
    size_t rows, cache; // of q; of the cache
} attention_case;

static double kept(uint64_t key, size_t i, double p)
{
    return (uint32_t)(rot_random_at(key, i / 2) >> (i % 2 * 32)) >= p * 0x1p32;
}

// in: q (rows, heads, dim), k, v (cache, kv_heads, dim); out (rows, heads, dim)
static void attention_formula(const double *in, double *out, const void *shape)
{
    const attention_case *s = shape;
    const rot_train_attention *a = &s->a;
    size_t dim = a->head_dim, kv = a->kv_heads * dim, row = 0;
    const double *k = in + s->rows * a->heads * dim, *v = k + s->cache * kv;
    double p[256];
    for (size_t i = 0; i < a->n; i++)
        for (size_t j = 0; j < (size_t)a->counts[i]; j++, row++)
            for (size_t h = 0; h < a->heads; h++) {
                size_t n = (size_t)a->past[i] + j + 1, at = (row * a->heads + h) * dim;
                size_t key = a->base[i] * kv + h / (a->heads / a->kv_heads) * dim;
                double sum = 0;
                for (size_t x = 0; x < n; x++) {
                    double dot = 0;
                    for (size_t e = 0; e < dim; e++) dot += in[at + e] * k[key + x * kv + e];
                    sum += p[x] = exp(dot * a->scale);
                }
                for (size_t x = 0; a->keys && x < n; x++)
                    p[x] *= kept(rot_random_key(a->keys[row], h), x, a->dropout) / (1 - a->dropout);
                for (size_t e = 0; e < dim; e++) {
                    out[at + e] = 0;
                    for (size_t x = 0; x < n; x++) out[at + e] += p[x] / sum * v[key + x * kv + e];
                }
            }
}

// n rows of `width` as a cache has them, put there from the last one to the first.
static void *cache_of(rot_train *t, const float *rows, size_t n, size_t width)
{
    void *cache = malloc(n * width * rot_train_cache_bytes(t));
    for (size_t r = n; r-- > 0;) {
        int32_t index = (int32_t)r;
        t->ops->cache_put(t, 1, width, rows + r * width, width, &index, cache);
    }
    return cache;
}

static void check_attention(rot_train *t, const attention_case *s)
{
    const rot_train_attention *a = &s->a;
    size_t q = s->rows * a->heads * a->head_dim, kv = s->cache * a->kv_heads * a->head_dim;
    size_t all = q + 2 * kv;
    float *in = random_floats(all, 1), *c = random_floats(q, 1), *lse = malloc(q * sizeof *lse);
    float *out = malloc(q * sizeof *out), *d = calloc(all, sizeof *d);
    double *want = malloc(all * sizeof *want);
    rot_err err;
    void *k = cache_of(t, in + q, s->cache, kv / s->cache);
    void *v = cache_of(t, in + q + kv, s->cache, kv / s->cache);
    for (size_t i = q; i < all; i++) in[i] = read_as(t, in[i]);
    assert_int_equal(t->ops->attention(t, a, in, k, v, out, lse, &err), 0);
    check_forward(attention_formula, s, in, all, out, q, "attention");
    differences(attention_formula, s, in, all, c, q, want);
    int32_t first[4] = {0, 2, 0, 0}; // the first rows of sequence 1 swallow theirs
    for (size_t i = 0; i < 2 * kv; i++) {
        size_t row = i % kv / (a->kv_heads * a->head_dim);
        if (row >= a->base[1] && row < a->base[1] + 2) want[q + i] = 0;
    }
    assert_int_equal(
        t->ops->attention_back(t, a, first, in, k, v, out, lse, c, d, d + q, d + q + kv, &err), 0);
    assert_near(d, want, all, 1e-5, "attention_back");
    free(k), free(v), free(in), free(c), free(lse), free(out), free(d), free(want);
}

static void attention_and_its_gradients(void **state)
{
    (void)state;
    static const int32_t counts[] = {3, 1, 0, 2}, past[] = {0, 4, 2, 1};
    static const int32_t more[] = {9, 0, 5, 1}, more_past[] = {0, 3, 6, 2};
    static const size_t base[] = {0, 4, 10, 12}, more_base[] = {0, 9, 12, 24};
    static const int32_t many[] = {53, 2, 0, 0}, zero[] = {1, 3, 0, 0};
    static const size_t many_base[] = {0, 54, 60, 60};
    uint64_t keys[55];
    for (uint64_t r = 0; r < 55; r++) keys[r] = rot_random_key(7, r);
    const attention_case cases[] = {
        {{4, counts, past, base, 4, 2, 6, 0.4f, 0, NULL}, 6, 16},
        {{4, counts, past, base, 1, 1, 70, 0.2f, 0, NULL}, 6, 16}, // 64 columns and some
        {{4, more, more_past, more_base, 2, 1, 20, 0.3f, 0, NULL}, 15, 28},
        {{4, more, more_past, more_base, 2, 2, 36, 0.2f, 0, NULL}, 15, 28},
        {{4, many, zero, many_base, 1, 1, 8, 0.3f, 0, NULL}, 55, 60}, // several blocks of queries
    };
    for (int i = 0; i < N_TRAINS; i++) {
        rot_train *t = open_train(i, 2);
        for (size_t k = 0; t && k < sizeof cases / sizeof *cases; k++) {
            attention_case dropped = cases[k];
            dropped.a.dropout = 0.3;
            dropped.a.keys = keys;
            check_attention(t, &cases[k]);
            check_attention(t, &dropped);
        }
        rot_train_close(&t);
    }
}

enum { CE_ROWS = 3, CE_N = 35 };
static const int32_t ce_labels[CE_ROWS] = {0, 34, 17};

static void ce_formula(const double *in, double *out, const void *shape)
{
    (void)shape;
    for (size_t r = 0; r < CE_ROWS; r++) {
        double sum = 0;
        for (size_t i = 0; i < CE_N; i++) sum += exp(in[r * CE_N + i]);
        out[r] = log(sum) - in[r * CE_N + (size_t)ce_labels[r]];
    }
}

static void cross_entropy_and_its_gradient(void **state)
{
    (void)state;
    for (int i = 0; i < N_TRAINS; i++) {
        rot_train *t = open_train(i, 2);
        if (!t) continue;
        float *logits = random_floats(CE_ROWS * CE_N, 5), *c = random_floats(CE_ROWS, 1);
        float *d = malloc(CE_ROWS * CE_N * sizeof *d), losses[CE_ROWS], again[CE_ROWS];
        double want[CE_ROWS * CE_N];
        memcpy(d, logits, CE_ROWS * CE_N * sizeof *d);
        t->ops->cross_entropy(t, CE_ROWS, CE_N, ce_labels, NULL, d, losses);
        assert_memory_equal(d, logits, CE_ROWS * CE_N * sizeof *d);
        check_forward(ce_formula, NULL, logits, CE_ROWS * CE_N, losses, CE_ROWS, "cross entropy");
        differences(ce_formula, NULL, logits, CE_ROWS * CE_N, c, CE_ROWS, want);
        t->ops->cross_entropy(t, CE_ROWS, CE_N, ce_labels, c, d, again);
        assert_memory_equal(losses, again, sizeof again);
        assert_near(d, want, CE_ROWS * CE_N, 1e-6, "its gradient");
        free(logits), free(c), free(d);
        rot_train_close(&t);
    }
}

static void dropout_keeps_what_its_keys_say(void **state)
{
    (void)state;
    enum { ROWS = 4, N = 5001 };
    const uint64_t keys[ROWS] = {1, 2, 1, 3};
    for (int k = 0; k < N_TRAINS; k++) {
        rot_train *t = open_train(k, 2);
        if (!t) continue;
        float *x = malloc(ROWS * N * sizeof *x), *y = malloc(ROWS * N * sizeof *y);
        for (int i = 0; i < ROWS * N; i++) x[i] = 1, y[i] = 2;
        t->ops->dropout(t, ROWS, N, 0.25, keys, x, N, false, y, N);
        int kept = 0, differ = 0;
        for (int i = 0; i < ROWS * N; i++) {
            assert_true(y[i] == 0 || y[i] == (float)(1 / 0.75));
            kept += y[i] != 0;
        }
        assert_true(fabs(kept / (double)(ROWS * N) - 0.75) < 0.02);
        assert_memory_equal(y, y + 2 * N, N * sizeof *y);
        for (int i = 0; i < N; i++) differ += y[i] != y[N + i];
        assert_true(differ > N / 4);
        memcpy(x, y, ROWS * N * sizeof *x);
        t->ops->dropout(t, ROWS, N, 0.25, keys, x, N, true, y, N); // x is 0 where it is dropped
        for (int i = 0; i < ROWS * N; i++)
            assert_true(y[i] == 0 || fabs(y[i] - 1 / 0.75 - 1 / 0.75 / 0.75) < 1e-5);
        free(x), free(y);
        rot_train_close(&t);
    }
}

static void adamw_steps_as_its_formula(void **state)
{
    (void)state;
    enum { N = 37 };
    for (int k = 0; k < N_TRAINS; k++) {
        rot_train *t = open_train(k, 2);
        if (!t) continue;
        float *value = random_floats(N, 1), m[N] = {0}, s[N] = {0};
        double want[N], wm[N] = {0}, ws[N] = {0};
        for (int i = 0; i < N; i++) want[i] = value[i];
        rot_train_adamw o = {1e-2, 0.9, 0.95, 1e-8, 0.1, 0, 0.5};
        for (o.step = 1; o.step <= 5; o.step++) {
            float *grad = random_floats(N, 1);
            t->ops->adamw(t, &o, N, value, grad, m, s);
            for (int i = 0; i < N; i++) {
                double g = grad[i] * o.scale, step = (double)o.step;
                want[i] *= 1 - o.lr * o.decay;
                wm[i] = o.beta1 * wm[i] + (1 - o.beta1) * g;
                ws[i] = o.beta2 * ws[i] + (1 - o.beta2) * g * g;
                want[i] -= o.lr * wm[i] / (1 - pow(o.beta1, step)) /
                           (sqrt(ws[i] / (1 - pow(o.beta2, step))) + o.eps);
            }
            free(grad);
        }
        assert_near(value, want, N, 1e-6, "adamw");
        free(value);
        rot_train_close(&t);
    }
}

// Everything that adds over rows, over what threads share.
static void run_all(rot_train *t, const float *x, size_t rows, size_t width, float *out)
{
    rot_err err;
    rot_train_vectors v = {rows, 1, width, width, width};
    rot_train_weight *w;
    size_t n = rows * width;
    int32_t *index = malloc(rows * sizeof *index);
    for (size_t r = 0; r < rows; r++) index[r] = (int32_t)(r * 7 % 5);
    memset(out, 0, 6 * n * sizeof *out);
    t->ops->column_sums(t, rows, width, x, width, out);
    t->ops->layer_norm_back(t, v, 1e-5f, x, x, x, false, out + n, out + width, out + 2 * width,
                            &err);
    t->ops->rms_norm_back(t, v, 1e-5f, x, x, x, false, out + 2 * n, out + 3 * width, &err);
    t->ops->scatter(t, rows, width, x, width, index, true, out + 3 * n, width);
    t->ops->outer(t, rows, width, width, x, width, x, width, out + 4 * n, width, &err);
    t->ops->weight_new(t, width, width, &w, &err);
    t->ops->weight_set(t, w, 0, width, x, width, false, &err);
    t->ops->linear(t, w, rows, x, width, NULL, false, out + 5 * n, width, &err);
    t->ops->linear_back(t, w, rows, x, width, true, out + 5 * n, width, &err);
    t->ops->weight_free(t, w);
    free(index);
}

static void one_thread_gives_the_bits_of_three(void **state)
{
    (void)state;
    enum { ROWS = 300, WIDTH = 96, N = ROWS * WIDTH };
    for (int k = 0; k < N_TRAINS; k++) {
        rot_train *one = open_train(k, 1), *three = open_train(k, 3);
        if (!one) continue;
        float *x = random_floats(N, 1), *a = malloc(6 * N * sizeof *a);
        float *b = malloc(6 * N * sizeof *b);
        run_all(one, x, ROWS, WIDTH, a);
        run_all(three, x, ROWS, WIDTH, b);
        assert_memory_equal(a, b, 6 * N * sizeof *a);
        free(x), free(a), free(b);
        rot_train_close(&one);
        rot_train_close(&three);
    }
}

static void no_memory_is_an_error(void **state)
{
    (void)state;
    for (int k = 0; k < N_TRAINS; k++) {
        int failures = 0, rc = -1;
        setenv("ROT_AMX_EMULATE", trains[k].emulated ? "1" : "0", 1);
        for (long at = 1; rc < 0; at++) {
            rot_err err = {0};
            rot_train *t = NULL;
            rot_train_weight *w = NULL;
            float x[64] = {1}, y[64];
            rot_mem_fail_at(at);
            rc = rot_train_open(trains[k].name, trains[k].precision, 1, &t, &err);
            if (rc == ROT_ERR_UNSUPPORTED) break;
            if (rc == 0) rc = t->ops->weight_new(t, 8, 8, &w, &err);
            if (rc == 0) rc = t->ops->weight_set(t, w, 0, 8, x, 8, false, &err);
            if (rc == 0) rc = t->ops->linear(t, w, 8, x, 8, NULL, false, y, 8, &err);
            if (rc == 0) rc = t->ops->linear_back(t, w, 8, x, 8, false, y, 8, &err);
            if (rc == 0) rc = t->ops->outer(t, 8, 8, 8, x, 8, x, 8, y, 8, &err);
            rot_mem_fail_at(0);
            if (rc < 0) assert_int_equal(rc, ROT_ERR_NO_MEMORY);
            failures += rc < 0;
            if (w) t->ops->weight_free(t, w);
            rot_train_close(&t);
        }
        rot_mem_fail_at(0);
        assert_true(rc == ROT_ERR_UNSUPPORTED || failures >= 3);
    }
}

static void names_are_checked(void **state)
{
    (void)state;
    rot_train *t;
    rot_err err;
    assert_int_equal(rot_train_open("cuda", ROT_PRECISION_F32, 1, &t, &err), ROT_ERR_USAGE);
    assert_null(t);
    setenv("ROT_CPU", "ref", 1);
    setenv("ROT_AMX_EMULATE", "0", 1);
    assert_int_equal(rot_train_open("amx", ROT_PRECISION_BF16, 1, &t, &err), ROT_ERR_UNSUPPORTED);
    assert_int_equal(rot_train_open("avx512", ROT_PRECISION_F32, 1, &t, &err), ROT_ERR_UNSUPPORTED);
    assert_int_equal(rot_train_open("auto", ROT_PRECISION_F32, 1, &t, &err), 0);
    assert_string_equal(t->identity, "ref");
    rot_train_close(&t);
    setenv("ROT_CPU", "avx512", 1); // AMX is forbidden; AVX-512 may be missing
    if (!rot_train_open("auto", ROT_PRECISION_F32, 1, &t, &err))
        assert_string_equal(t->identity, "avx512");
    rot_train_close(&t);
    unsetenv("ROT_CPU");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_equal_double_loops),
        cmocka_unit_test(a_row_does_not_depend_on_the_others),
        cmocka_unit_test(emulated_tiles_give_the_bits_of_real_ones),
        cmocka_unit_test(three_parts_make_a_float),
        cmocka_unit_test(norms_and_their_gradients),
        cmocka_unit_test(activations_and_their_gradients),
        cmocka_unit_test(rope_turns_and_its_inverse_turns_back),
        cmocka_unit_test(attention_and_its_gradients),
        cmocka_unit_test(cross_entropy_and_its_gradient),
        cmocka_unit_test(dropout_keeps_what_its_keys_say),
        cmocka_unit_test(adamw_steps_as_its_formula),
        cmocka_unit_test(one_thread_gives_the_bits_of_three),
        cmocka_unit_test(no_memory_is_an_error),
        cmocka_unit_test(names_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
