// kernels: every operation of every backend that can run here against plain double loops, and batch
// invariance.
#include "test_kernels.h"

static void assert_close(const float *got, const double *want, size_t n, double relative,
                         double absolute)
{
    for (size_t i = 0; i < n; i++) {
        double e = fabs((double)got[i] - want[i]);
        if (!(e <= absolute + relative * fabs(want[i])))
            fail_msg("element %zu of %zu: %.9g instead of %.9g", i, n, (double)got[i], want[i]);
    }
}

static double epilogue(rot_epilogue e, double y, double before)
{
    return e == ROT_EPILOGUE_ADD ? before + y : activation(e, y);
}

static void check_linear(rot_backend *b, size_t rows, size_t n_in, size_t n_out, rot_epilogue e,
                         bool bf16_bias)
{
    bool bf16 = b->precision == ROT_PRECISION_BF16;
    rot_elem out_elem = e == ROT_EPILOGUE_ADD ? ROT_ELEM_F32 : ROT_ELEM_ACT;
    float *w = random_floats(n_in * n_out, 2 / sqrtf((float)n_in)), *bias = random_floats(n_out, 1);
    float *x = random_floats(rows * n_in, 1), *before = random_floats(rows * n_out, 1);
    rot_linear *linear;
    rot_err err;
    for (size_t j = 0; bf16_bias && j < n_out; j++) bias[j] = as_bf16(bias[j]);
    if (b->ops->linear_new(b, n_in, n_out, e, w, bias, &linear, &err) < 0)
        fail_msg("%s", err.message);
    rot_buffer *in = put(b, ROT_ELEM_ACT, rows, n_in, x),
               *out = put(b, out_elem, rows, n_out, before);
    if (b->ops->linear(b, linear, rows, in, out, &err) < 0)
        fail_msg("%zu rows, %zu by %zu: %s", rows, n_out, n_in, err.message);
    float *got = get(b, out, out_elem, rows, n_out);
    double *want = malloc(rows * n_out * sizeof *want);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n_out; j++) {
            double sum = (double)bias[j];
            for (size_t k = 0; k < n_in; k++) {
                float p = x[i * n_in + k], q = w[j * n_in + k];
                sum += bf16 ? (double)as_bf16(p) * (double)as_bf16(q) : (double)p * (double)q;
            }
            want[i * n_out + j] = epilogue(e, sum, (double)before[i * n_out + j]);
        }
    bool rounded = bf16 && e != ROT_EPILOGUE_ADD;
    assert_close(got, want, rows * n_out, rounded ? 0x1.1p-8 : 2e-6, bf16 ? 2e-5 : 4e-6);
    b->ops->linear_free(b, linear);
    b->ops->buffer_free(b, in);
    b->ops->buffer_free(b, out);
    free(w), free(bias), free(x), free(before), free(got), free(want);
}

// Values that bfloat16 holds give the same bits from float32 and from bfloat16.
static void weights_of_bf16_are_packed_as_they_are(void **state)
{
    (void)state;
    enum { ROWS = 21, IN = 72, OUT = 75 };
    float *w = random_floats(IN * OUT, 0.3f), *bias = random_floats(OUT, 1),
          *x = random_floats(ROWS * IN, 1);
    uint16_t narrow[IN * OUT];
    for (int i = 0; i < IN * OUT; i++) {
        narrow[i] = i == 5 ? 1 : rot_f32_to_bf16(w[i]); // one is a denormal
        w[i] = rot_bf16_to_f32(narrow[i]);
    }
    for (int s = 0; s < N_SUBJECTS; s++) {
        rot_backend *b = open_subject(s, 2);
        rot_linear *l[2];
        rot_err err;
        float *got[2];
        if (!b || !b->ops->linear_new_bf16) {
            rot_backend_close(&b);
            continue;
        }
        rot_epilogue e = ROT_EPILOGUE_GELU_TANH;
        assert_int_equal(b->ops->linear_new(b, IN, OUT, e, w, bias, &l[0], &err), 0);
        assert_int_equal(b->ops->linear_new_bf16(b, IN, OUT, e, narrow, bias, &l[1], &err), 0);
        rot_buffer *in = put(b, ROT_ELEM_ACT, ROWS, IN, x),
                   *out = put(b, ROT_ELEM_ACT, ROWS, OUT, NULL);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(b->ops->linear(b, l[i], ROWS, in, out, &err), 0);
            got[i] = get(b, out, ROT_ELEM_ACT, ROWS, OUT);
            b->ops->linear_free(b, l[i]);
        }
        assert_memory_equal(got[0], got[1], sizeof(float) * ROWS * OUT);
        b->ops->buffer_free(b, in);
        b->ops->buffer_free(b, out);
        rot_backend_close(&b);
        free(got[0]), free(got[1]);
    }
    free(w), free(bias), free(x);
}

// A bias that bfloat16 holds is a GPU library's own epilogue.
static void linears_equal_double(void **state)
{
    (void)state;
    const struct {
        size_t rows, n_in, n_out;
    } shapes[] = {{70, 64, 128}, {130, 144, 132}, {65, 96, 100},
                  {7, 36, 50},   {3, 1100, 33},   {1, 4, 3}};
    for (int s = 0; s < N_SUBJECTS; s++) {
        rot_backend *b = open_subject(s, 2);
        if (!b) continue;
        for (int bf16_bias = 0; bf16_bias < 2; bf16_bias++)
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
                for (int e = ROT_EPILOGUE_NONE; e <= ROT_EPILOGUE_ADD; e++)
                    check_linear(b, shapes[i].rows, shapes[i].n_in, shapes[i].n_out,
                                 (rot_epilogue)e, bf16_bias);
        rot_backend_close(&b);
    }
}

// The reference writes the rows of the batch and no other, so that a tail cannot reach a neighbour.
static void reference_writes_only_its_rows(void **state)
{
    (void)state;
    rot_backend *b = open_subject(0, 2);
    enum { ROWS = 70, MORE = 40, N = 33 };
    float *w = random_floats(N * N, 1), *bias = random_floats(N, 1),
          *x = random_floats((ROWS + MORE) * N, 1);
    rot_linear *linear;
    rot_err err;
    assert_int_equal(b->ops->linear_new(b, N, N, ROT_EPILOGUE_NONE, w, bias, &linear, &err), 0);
    rot_buffer *in = put(b, ROT_ELEM_ACT, ROWS + MORE, N, x),
               *out = put(b, ROT_ELEM_ACT, ROWS + MORE, N, x);
    assert_int_equal(b->ops->linear(b, linear, ROWS, in, out, &err), 0);
    float *got = get(b, out, ROT_ELEM_ACT, ROWS + MORE, N);
    assert_memory_equal(got + ROWS * N, x + ROWS * N, MORE * N * 4);
    assert_memory_not_equal(got, x, N * 4);
    b->ops->linear_free(b, linear);
    b->ops->buffer_free(b, in);
    b->ops->buffer_free(b, out);
    rot_backend_close(&b);
    free(w), free(bias), free(x), free(got);
}

static void layer_norm_equals_double(void **state)
{
    (void)state;
    const size_t widths[] = {4, 36, 144, 1024};
    for (int s = 0; s < N_SUBJECTS; s++) {
        rot_backend *b = open_subject(s, 2);
        if (!b) continue;
        for (size_t k = 0; k < 4; k++) {
            size_t width = widths[k], rows = 5;
            float *x = random_floats(rows * width, 3), *gamma = random_floats(width, 1),
                  *beta = random_floats(width, 1);
            for (size_t i = 0; i < width; i++)
                x[i] += 100; // a mean that is large against the spread
            rot_buffer *in = put(b, ROT_ELEM_F32, rows, width, x),
                       *g = put(b, ROT_ELEM_F32, 1, width, gamma);
            rot_buffer *be = put(b, ROT_ELEM_F32, 1, width, beta),
                       *out = put(b, ROT_ELEM_ACT, rows, width, NULL);
            b->ops->layer_norm(b, rows, width, 1e-6f, in, g, be, out);
            float *got = get(b, out, ROT_ELEM_ACT, rows, width);
            double *want = malloc(rows * width * sizeof *want);
            for (size_t r = 0; r < rows; r++) {
                double mean = 0, var = 0;
                for (size_t i = 0; i < width; i++) mean += (double)x[r * width + i] / (double)width;
                for (size_t i = 0; i < width; i++)
                    var += pow((double)x[r * width + i] - mean, 2) / (double)width;
                for (size_t i = 0; i < width; i++)
                    want[r * width + i] =
                        ((double)x[r * width + i] - mean) / sqrt(var + 1e-6) * (double)gamma[i] +
                        (double)beta[i];
            }
            bool bf16 = b->precision == ROT_PRECISION_BF16;
            assert_close(got, want, rows * width, bf16 ? 0x1.1p-8 : 1e-5, 3e-5);
            rot_buffer *all[] = {in, g, be, out};
            for (int i = 0; i < 4; i++) b->ops->buffer_free(b, all[i]);
            free(x), free(gamma), free(beta), free(got), free(want);
        }
        rot_backend_close(&b);
    }
}

// Not rounded where the output is F32, and in place.
static void layer_norm_of_the_residual_stays_in_f32(void **state)
{
    (void)state;
    enum { WIDTH = 100, ROWS = 5 };
    for (int s = 0; s < N_SUBJECTS; s++) {
        rot_backend *b = open_subject(s, 2);
        if (!b) continue;
        float *x = random_floats(ROWS * WIDTH, 3), *gamma = random_floats(WIDTH, 1),
              *beta = random_floats(WIDTH, 1);
        rot_buffer *in = put(b, ROT_ELEM_F32, ROWS, WIDTH, x),
                   *g = put(b, ROT_ELEM_F32, 1, WIDTH, gamma),
                   *be = put(b, ROT_ELEM_F32, 1, WIDTH, beta);
        b->ops->layer_norm(b, ROWS, WIDTH, 1e-5f, in, g, be, in);
        float *got = get(b, in, ROT_ELEM_F32, ROWS, WIDTH);
        double want[ROWS * WIDTH];
        for (size_t r = 0; r < ROWS; r++) {
            double mean = 0, var = 0;
            for (size_t i = 0; i < WIDTH; i++) mean += (double)x[r * WIDTH + i] / WIDTH;
            for (size_t i = 0; i < WIDTH; i++)
                var += pow((double)x[r * WIDTH + i] - mean, 2) / WIDTH;
            for (size_t i = 0; i < WIDTH; i++)
                want[r * WIDTH + i] =
                    ((double)x[r * WIDTH + i] - mean) / sqrt(var + 1e-5) * (double)gamma[i] +
                    (double)beta[i];
        }
        assert_close(got, want, ROWS * WIDTH, 1e-6, 2e-6);
        rot_buffer *all[] = {in, g, be};
        for (int i = 0; i < 3; i++) b->ops->buffer_free(b, all[i]);
        free(x), free(gamma), free(beta), free(got);
        rot_backend_close(&b);
    }
}

static void rms_norm_equals_double(void **state)
{
    (void)state;
    const size_t widths[] = {4, 36, 320, 1280};
    for (int s = 0; s < N_SUBJECTS; s++) {
        rot_backend *b = open_subject(s, 2);
        if (!b) continue;
        for (size_t k = 0; k < 4; k++) {
            size_t width = widths[k], rows = 5;
            float *x = random_floats(rows * width, 3), *gamma = random_floats(width, 1);
            for (size_t i = 0; i < width; i++) x[i] += 5000; // activations as large as real ones
            for (size_t i = 0; i < width; i++) x[width + i] *= 1e-4f; // where eps counts
            rot_buffer *in = put(b, ROT_ELEM_F32, rows, width, x),
                       *g = put(b, ROT_ELEM_F32, 1, width, gamma),
                       *out = put(b, ROT_ELEM_ACT, rows, width, NULL);
            b->ops->rms_norm(b, rows, width, 1e-6f, in, g, out);
            float *got = get(b, out, ROT_ELEM_ACT, rows, width);
            double *want = malloc(rows * width * sizeof *want);
            for (size_t r = 0; r < rows; r++) {
                double square = 0;
                for (size_t i = 0; i < width; i++)
                    square += pow((double)x[r * width + i], 2) / (double)width;
                for (size_t i = 0; i < width; i++)
                    want[r * width + i] =
                        (double)x[r * width + i] / sqrt(square + 1e-6) * (double)gamma[i];
            }
            assert_close(got, want, rows * width,
                         b->precision == ROT_PRECISION_BF16 ? 0x1.1p-8 : 1e-6, 1e-7);
            rot_buffer *all[] = {in, g, out};
            for (int i = 0; i < 3; i++) b->ops->buffer_free(b, all[i]);
            free(x), free(gamma), free(got), free(want);
        }
        rot_backend_close(&b);
    }
}

static void swiglu_equals_double(void **state)
{
    (void)state;
    enum { ROWS = 9 };
    const size_t widths[] = {3, 16, 428};
    for (int s = 0; s < N_SUBJECTS; s++) {
        rot_backend *b = open_subject(s, 2);
        if (!b) continue;
        bool bf16 = b->precision == ROT_PRECISION_BF16;
        for (size_t k = 0; k < 3; k++) {
            size_t width = widths[k];
            float *x = random_floats(ROWS * 2 * width, 4);
            x[0] = 300, x[1] = -300, x[2] = 0; // the ends: the gate wide open, shut, half
            rot_buffer *in = put(b, ROT_ELEM_ACT, ROWS, 2 * width, x),
                       *out = put(b, ROT_ELEM_ACT, ROWS, width, NULL);
            b->ops->swiglu(b, ROWS, width, in, out);
            float *got = get(b, out, ROT_ELEM_ACT, ROWS, width);
            double *want = malloc(ROWS * width * sizeof *want);
            for (size_t r = 0; r < ROWS; r++)
                for (size_t i = 0; i < width; i++) {
                    float g = x[r * 2 * width + i], u = x[r * 2 * width + width + i];
                    double y = (double)(bf16 ? as_bf16(g) : g);
                    want[r * width + i] = y / (1 + exp(-y)) * (double)(bf16 ? as_bf16(u) : u);
                }
            assert_close(got, want, ROWS * width, bf16 ? 0x1.1p-8 : 1e-6, 1e-30);
            b->ops->buffer_free(b, in);
            b->ops->buffer_free(b, out);
            free(x), free(got), free(want);
        }
        rot_backend_close(&b);
    }
}

// ---- rotation and attention

typedef struct attention_run {
    size_t rows, width;
    float *q, *k, *v, *out; // head-major three, (rows, width)
} attention_run;

// rope_split, then attention, on packed segments; angles of row r of a segment: r times a constant.
static attention_run run_attention(rot_backend *b, const int32_t *starts, int32_t n,
                                   rot_heads shape, const float *qkv, const float *cosines,
                                   const float *sines)
{
    rot_segments segments = {starts, n};
    size_t rows = (size_t)starts[n], width = (size_t)(shape.heads * shape.head_dim),
           half = (size_t)shape.head_dim / 2;
    rot_buffer *in = put(b, ROT_ELEM_ACT, rows, 3 * width, qkv);
    rot_buffer *c = put(b, ROT_ELEM_F32, rows, half, cosines),
               *s = put(b, ROT_ELEM_F32, rows, half, sines);
    rot_buffer *q = put(b, ROT_ELEM_ACT, rows, width, NULL),
               *k = put(b, ROT_ELEM_ACT, rows, width, NULL);
    rot_buffer *v = put(b, ROT_ELEM_ACT, rows, width, NULL),
               *out = put(b, ROT_ELEM_ACT, rows, width, NULL);
    rot_err err;
    b->ops->rope_split(b, &segments, shape, in, c, s, q, k, v);
    assert_int_equal(b->ops->attention(b, &segments, shape, 1 / sqrtf((float)shape.head_dim), q, k,
                                       v, out, &err),
                     0);
    attention_run run = {rows,
                         width,
                         get(b, q, ROT_ELEM_ACT, rows, width),
                         get(b, k, ROT_ELEM_ACT, rows, width),
                         get(b, v, ROT_ELEM_ACT, rows, width),
                         get(b, out, ROT_ELEM_ACT, rows, width)};
    rot_buffer *all[] = {in, c, s, q, k, v, out};
    for (int i = 0; i < 7; i++) b->ops->buffer_free(b, all[i]);
    return run;
}

static void free_run(attention_run *run)
{
    free(run->q), free(run->k), free(run->v), free(run->out);
}

static void check_rotation(const attention_run *run, const int32_t *starts, int32_t n,
                           rot_heads shape, const float *qkv, const float *cosines,
                           const float *sines, bool bf16)
{
    size_t dim = (size_t)shape.head_dim, half = dim / 2, heads = (size_t)shape.heads,
           width = run->width;
    for (int32_t s = 0; s < n; s++) {
        size_t start = (size_t)starts[s], length = (size_t)starts[s + 1] - start;
        for (size_t i = 0; i < length; i++)
            for (size_t h = 0; h < heads; h++)
                for (size_t d = 0; d < dim; d++) {
                    const float *row = qkv + (start + i) * 3 * width + h * dim;
                    size_t p = d % half, to = (start * heads + h * length + i) * dim + d;
                    double cs = (double)cosines[(start + i) * half + p],
                           sn = (double)sines[(start + i) * half + p];
                    for (int part = 0; part < 2; part++) {
                        const float *x = row + (size_t)part * width;
                        double a = (double)(bf16 ? as_bf16(x[p]) : x[p]),
                               e = (double)(bf16 ? as_bf16(x[p + half]) : x[p + half]);
                        double want = d < half ? a * cs - e * sn : e * cs + a * sn;
                        float got = (part ? run->k : run->q)[to];
                        assert_close(&got, &want, 1, bf16 ? 0x1.1p-8 : 1e-6, 1e-6);
                    }
                    float v = row[2 * width + d];
                    assert_true(run->v[to] == (bf16 ? as_bf16(v) : v));
                }
    }
}

// From the q, k, v that the backend itself wrote.
static void check_softmax(const attention_run *run, const int32_t *starts, int32_t n,
                          rot_heads shape, bool bf16)
{
    size_t dim = (size_t)shape.head_dim, heads = (size_t)shape.heads;
    for (int32_t s = 0; s < n; s++) {
        size_t start = (size_t)starts[s], length = (size_t)starts[s + 1] - start;
        double *p = malloc(length * sizeof *p);
        for (size_t h = 0; h < heads; h++)
            for (size_t i = 0; i < length; i += 1 + length / 9) {
                const float *q = run->q + (start * heads + h * length + i) * dim;
                const float *k = run->k + (start * heads + h * length) * dim,
                            *v = run->v + (start * heads + h * length) * dim;
                double most = -INFINITY, sum = 0;
                for (size_t j = 0; j < length; j++) {
                    p[j] = 0;
                    for (size_t d = 0; d < dim; d++)
                        p[j] += (double)q[d] * (double)k[j * dim + d] / sqrt((double)dim);
                    if (p[j] > most) most = p[j];
                }
                for (size_t j = 0; j < length; j++) sum += p[j] = exp(p[j] - most);
                for (size_t d = 0; d < dim; d++) {
                    double y = 0;
                    for (size_t j = 0; j < length; j++) y += p[j] / sum * (double)v[j * dim + d];
                    assert_close(&run->out[(start + i) * run->width + h * dim + d], &y, 1,
                                 bf16 ? 0x1.8p-8 : 1e-5, bf16 ? 3 * 0x1p-8 : 2e-5); // |v| <= 3
                }
            }
        free(p);
    }
}

// Scores far below zero, where a maximum that counts the padding behind the last key leaves
// nothing. In quarters, so that their sums are exact.
static void oppose(float *qkv, size_t rows, size_t width, float *cosines, float *sines, size_t half)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < width; c++) {
            float *q = qkv + r * 3 * width + c, *k = q + width;
            *q = 2 + rintf(fabsf(4 * *q)) / 4, *k = -2 - rintf(fabsf(4 * *k)) / 4;
        }
    for (size_t i = 0; i < rows * half; i++) cosines[i] = 1, sines[i] = 0;
}

static void attention_equals_double(void **state)
{
    (void)state;
    const int32_t starts[] = {0, 4, 40, 361, 365, 1665};
    enum { N = 5 };
    const rot_heads shapes[] = {{2, 64}, {3, 72}, {1, 4}};
    for (int s = 0; s < N_SUBJECTS; s++) {
        rot_backend *b = open_subject(s, 2);
        if (!b) continue;
        for (int i = 0; i < 6; i++) {
            rot_heads shape = shapes[i % 3];
            size_t width = (size_t)(shape.heads * shape.head_dim),
                   half = (size_t)shape.head_dim / 2, rows = (size_t)starts[N];
            float *qkv = random_floats(rows * 3 * width, 3),
                  *cosines = random_floats(rows * half, 1), *sines = random_floats(rows * half, 1);
            if (i >= 3) oppose(qkv, rows, width, cosines, sines, half);
            attention_run run = run_attention(b, starts, N, shape, qkv, cosines, sines);
            bool bf16 = b->precision == ROT_PRECISION_BF16;
            check_rotation(&run, starts, N, shape, qkv, cosines, sines, bf16);
            check_softmax(&run, starts, N, shape, bf16);
            free_run(&run);
            free(qkv), free(cosines), free(sines);
        }
        rot_backend_close(&b);
    }
}

static void attention_of_a_segment_ignores_the_others(void **state)
{
    (void)state;
    const int32_t all[] = {0, 12, 300, 1000}, alone[] = {0, 288};
    rot_heads shape = {2, 64};
    size_t width = 128, half = 32;
    float *qkv = random_floats(1000 * 3 * width, 3), *cosines = random_floats(1000 * half, 1),
          *sines = random_floats(1000 * half, 1);
    for (int s = 0; s < N_SUBJECTS; s++) {
        rot_backend *two = open_subject(s, 2), *one = open_subject(s, 1);
        if (!two) continue;
        attention_run a = run_attention(two, all, 3, shape, qkv, cosines, sines);
        attention_run b = run_attention(one, alone, 1, shape, qkv + 12 * 3 * width,
                                        cosines + 12 * half, sines + 12 * half);
        attention_run c = run_attention(one, all, 3, shape, qkv, cosines, sines);
        assert_memory_equal(a.out + 12 * width, b.out, 288 * width * 4);
        assert_memory_equal(a.out, c.out, 1000 * width * 4);
        free_run(&a), free_run(&b), free_run(&c);
        rot_backend_close(&two);
        rot_backend_close(&one);
    }
    free(qkv), free(cosines), free(sines);
}

static void row_of_a_linear_ignores_the_others(void **state)
{
    (void)state;
    enum { ROWS = 603, IN = 136, OUT = 260 }; // more than one large chunk per thread
    float *w = random_floats(IN * OUT, 0.3f), *bias = random_floats(OUT, 1),
          *x = random_floats(ROWS * IN, 1);
    for (int s = 0; s < N_SUBJECTS; s++)
        for (int e = ROT_EPILOGUE_NONE; e < ROT_EPILOGUE_ADD; e++) {
            rot_backend *two = open_subject(s, 2), *one = open_subject(s, 1);
            if (!two) continue;
            rot_linear *l2, *l1;
            rot_err err;
            assert_int_equal(
                two->ops->linear_new(two, IN, OUT, (rot_epilogue)e, w, bias, &l2, &err), 0);
            assert_int_equal(
                one->ops->linear_new(one, IN, OUT, (rot_epilogue)e, w, bias, &l1, &err), 0);
            rot_buffer *in = put(two, ROT_ELEM_ACT, ROWS, IN, x),
                       *out = put(two, ROT_ELEM_ACT, ROWS, OUT, NULL);
            assert_int_equal(two->ops->linear(two, l2, ROWS, in, out, &err), 0);
            float *want = get(two, out, ROT_ELEM_ACT, ROWS, OUT);
            for (size_t row = 0; row < ROWS;
                 row += 37) { // alone, as the first row of a batch of one
                rot_buffer *in1 = put(one, ROT_ELEM_ACT, 1, IN, x + row * IN),
                           *out1 = put(one, ROT_ELEM_ACT, 1, OUT, NULL);
                assert_int_equal(one->ops->linear(one, l1, 1, in1, out1, &err), 0);
                float *got = get(one, out1, ROT_ELEM_ACT, 1, OUT);
                assert_memory_equal(got, want + row * OUT, OUT * 4);
                one->ops->buffer_free(one, in1);
                one->ops->buffer_free(one, out1);
                free(got);
            }
            two->ops->linear_free(two, l2);
            one->ops->linear_free(one, l1);
            two->ops->buffer_free(two, in);
            two->ops->buffer_free(two, out);
            rot_backend_close(&two);
            rot_backend_close(&one);
            free(want);
        }
    free(w), free(bias), free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linears_equal_double),
        cmocka_unit_test(weights_of_bf16_are_packed_as_they_are),
        cmocka_unit_test(reference_writes_only_its_rows),
        cmocka_unit_test(layer_norm_equals_double),
        cmocka_unit_test(layer_norm_of_the_residual_stays_in_f32),
        cmocka_unit_test(rms_norm_equals_double),
        cmocka_unit_test(swiglu_equals_double),
        cmocka_unit_test(attention_equals_double),
        cmocka_unit_test(attention_of_a_segment_ignores_the_others),
        cmocka_unit_test(row_of_a_linear_ignores_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
