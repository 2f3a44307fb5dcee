// kernels/cuda without a GPU: what the host decides, on the emulated device of cuda_device.h, and
// the arithmetic of the kernels against ref. test_kernels_ops.c runs every operation on it too.
#include "cuda_device.h"
#include "kernels/cuda/cuda.h"
#include "test_kernels.h"

static rot_backend *open_fake(void)
{
    rot_backend *b = NULL;
    rot_err err;
    memset(&fake_log, 0, sizeof fake_log);
    assert_int_equal(rot_cuda_open(&fake_driver, 0, 2, &b, &err), 0);
    b->precision = ROT_PRECISION_BF16;
    return b;
}

static void close_fake(rot_backend *b)
{
    rot_backend_close(&b);
    assert_int_equal(fake_log.live, 0);
    assert_int_equal(fake_log.outside, 0);
    assert_int_equal(fake_log.faults, 0);
    assert_int_equal(fake_log.forbidden, 0);
}

// ---- arithmetic

static void same_bits(float got, rot_v16f want)
{
    float w[16];
    rot_vstore(w, want);
    if (memcmp(&got, w, 4) && !(isnan(got) && isnan(w[0])))
        fail_msg("%.9g instead of %.9g", (double)got, (double)w[0]);
}

static void functions_have_the_bits_of_ref(void **state)
{
    (void)state;
    const float ends[] = {0.0f,   -0.0f,  INFINITY, -INFINITY, NAN,    200.0f, -200.0f,
                          1e-40f, 0.625f, 0.95f,    4.0f,      88.73f, -104.0f};
    enum { ENDS = sizeof ends / sizeof *ends };
    for (int i = 0; i < 200000; i++) {
        const float x = i < ENDS ? ends[i] : uniform() * (i % 2 ? 12.0f : 100.0f);
        const rot_v16f v = rot_vset(x);
        same_bits(rot_cuda_exp(x), rot_vexp(v));
        same_bits(rot_cuda_tanh(x), rot_vtanh(v));
        same_bits(rot_cuda_erf(x), rot_verf(v));
        same_bits(rot_cuda_gelu_tanh(x), rot_vgelu_tanh(v));
        same_bits(rot_cuda_gelu_erf(x), rot_vgelu_erf(v));
        same_bits(rot_cuda_swish(x, 1.702f), rot_vswish(v, 1.702f));
        assert_true(rot_cuda_to_bf16(x) == rot_f32_to_bf16(x));
    }
}

// A product of one warp: fragments go in and come out where the PTX ISA says.
static void fragments_make_a_matrix_product(void **state)
{
    (void)state;
    float a[16][16], b[16][8];
    rot_frag_a fa;
    rot_frag_c fc;
    uint32_t fb[32][2];
    for (int i = 0; i < 256; i++) a[i / 16][i % 16] = as_bf16(uniform());
    for (int i = 0; i < 128; i++) b[i / 8][i % 8] = as_bf16(uniform());
    for (int l = 0; l < 32; l++) {
        const int g = l / 4, t = 2 * (l % 4);
        for (int r = 0; r < 4; r++)
            fa.r[l][r] =
                rot_pack_bf16(a[g + r % 2 * 8][t + r / 2 * 8], a[g + r % 2 * 8][t + r / 2 * 8 + 1]);
        for (int r = 0; r < 2; r++) fb[l][r] = rot_pack_bf16(b[t + 8 * r][g], b[t + 8 * r + 1][g]);
        for (int r = 0; r < 4; r++) fc.r[l][r] = 0.5f;
    }
    rot_mma(&fc, &fa, fb);
    for (int l = 0; l < 32; l++)
        for (int r = 0; r < 4; r++) {
            const int row = l / 4 + 8 * (r / 2), column = 2 * (l % 4) + r % 2;
            double want = 0.5;
            for (int k = 0; k < 16; k++) want += (double)a[row][k] * (double)b[k][column];
            assert_true(fabs((double)fc.r[l][r] - want) < 1e-5);
        }
}

// What a missing barrier would do: each line is a fault of its own.
static void shared_memory_is_watched(void **state)
{
    (void)state;
    static const _Alignas(16) uint16_t from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    rot_shared *s = malloc(sizeof *s);
    rot_shared_start(s);
    rot_shared_row(s, 0); // never written: each of 4 words
    assert_int_equal(s->faults, 4);
    rot_shared_copy(s, 8, from, 8, 1, 0); // and read before the copy has ended
    rot_shared_row(s, 8);
    assert_int_equal(s->faults, 8);
    ROT_BARRIER(s);
    assert_memory_equal(rot_shared_row(s, 8), from, 16);
    assert_int_equal(s->faults, 8);
    rot_shared_copy(s, 10, from, 2, 1, 5); // written where it is read
    assert_int_equal(s->faults, 9);
    ROT_BARRIER(s);
    rot_shared_copy(s, 12, from, 2, 1, 5);
    rot_shared_copy(s, 12, from, 2, 0, 6); // by two threads
    assert_int_equal(s->faults, 10);
    rot_shared_copy(s, 15, from, 2, 1, 5); // not at 4 bytes
    assert_int_equal(s->faults, 11);
    free(s);
}

// No thread reads what another one of its block or its grid writes: forwards and backwards, the
// same bits.
static void threads_run_in_any_order(void **state)
{
    (void)state;
    enum { DIM = 24, HEADS = 2, WIDTH = HEADS * DIM, ROWS = 140 };
    const int32_t starts[] = {0, 129, 133, ROWS};
    const rot_segments segments = {starts, 3};
    float *x = random_floats(ROWS * 3 * WIDTH, 2), *w = random_floats(WIDTH * WIDTH, 1), *got[2][3];
    for (int i = 0; i < 2; i++) {
        rot_linear *linear;
        rot_err err;
        rot_backend *b = open_fake();
        fake_log.backwards = i;
        rot_buffer *r = put(b, ROT_ELEM_F32, ROWS, WIDTH, x),
                   *gamma = put(b, ROT_ELEM_F32, 1, WIDTH, w),
                   *angles = put(b, ROT_ELEM_F32, ROWS, DIM / 2, x),
                   *qkv = put(b, ROT_ELEM_ACT, ROWS, 3 * WIDTH, x), *act[5];
        for (int k = 0; k < 5; k++) act[k] = put(b, ROT_ELEM_ACT, ROWS, WIDTH, NULL);
        b->ops->layer_norm(b, ROWS, WIDTH, 1e-6f, r, gamma, gamma, r); // in place
        b->ops->rope_split(b, &segments, (rot_heads){HEADS, DIM}, qkv, angles, angles, act[0],
                           act[1], act[2]);
        assert_int_equal(b->ops->attention(b, &segments, (rot_heads){HEADS, DIM}, 1.0f, act[0],
                                           act[1], act[2], act[3], &err),
                         0);
        assert_int_equal(
            b->ops->linear_new(b, WIDTH, WIDTH, ROT_EPILOGUE_GELU_ERF, w, w, &linear, &err), 0);
        assert_int_equal(b->ops->linear(b, linear, ROWS, act[3], act[4], &err), 0);
        got[i][0] = get(b, r, ROT_ELEM_F32, ROWS, WIDTH);
        got[i][1] = get(b, act[3], ROT_ELEM_ACT, ROWS, WIDTH);
        got[i][2] = get(b, act[4], ROT_ELEM_ACT, ROWS, WIDTH);
        rot_buffer *all[] = {r, gamma, angles, qkv, act[0], act[1], act[2], act[3], act[4]};
        for (int k = 0; k < 9; k++) b->ops->buffer_free(b, all[k]);
        b->ops->linear_free(b, linear);
        close_fake(b);
    }
    for (int k = 0; k < 3; k++) {
        assert_memory_equal(got[0][k], got[1][k], ROWS * WIDTH * 4);
        free(got[0][k]), free(got[1][k]);
    }
    free(x), free(w);
}

// Operations whose every element is one chain of operations have the bits of ref.
static void elements_have_the_bits_of_ref(void **state)
{
    (void)state;
    enum { ROWS = 37, DIM = 12, HEADS = 3, WIDTH = HEADS * DIM };
    const int32_t starts[] = {0, 5, 6, ROWS};
    const rot_segments segments = {starts, 3};
    rot_backend *both[2] = {open_fake(), NULL};
    rot_err err;
    assert_int_equal(rot_backend_open("ref", ROT_PRECISION_BF16, 2, &both[1], &err), 0);
    float *x = random_floats(ROWS * 3 * WIDTH, 4), *c = random_floats(ROWS * DIM / 2, 1),
          *s = random_floats(ROWS * DIM / 2, 1), *got[2][4];
    for (int i = 0; i < 2; i++) {
        rot_backend *b = both[i];
        rot_buffer *in = put(b, ROT_ELEM_ACT, ROWS, 3 * WIDTH, x),
                   *gates = put(b, ROT_ELEM_ACT, ROWS, 2 * WIDTH, x),
                   *cosines = put(b, ROT_ELEM_F32, ROWS, DIM / 2, c),
                   *sines = put(b, ROT_ELEM_F32, ROWS, DIM / 2, s), *out[4];
        for (int k = 0; k < 4; k++) out[k] = put(b, ROT_ELEM_ACT, ROWS, WIDTH, NULL);
        b->ops->rope_split(b, &segments, (rot_heads){HEADS, DIM}, in, cosines, sines, out[0],
                           out[1], out[2]);
        b->ops->swiglu(b, ROWS, WIDTH, gates, out[3]);
        for (int k = 0; k < 4; k++) {
            got[i][k] = get(b, out[k], ROT_ELEM_ACT, ROWS, WIDTH);
            b->ops->buffer_free(b, out[k]);
        }
        rot_buffer *rest[] = {in, gates, cosines, sines};
        for (int k = 0; k < 4; k++) b->ops->buffer_free(b, rest[k]);
    }
    for (int k = 0; k < 4; k++) {
        assert_memory_equal(got[0][k], got[1][k], ROWS * WIDTH * 4);
        free(got[0][k]), free(got[1][k]);
    }
    free(x), free(c), free(s);
    close_fake(both[0]);
    rot_backend_close(&both[1]);
}

static void interpolated_rows_are_sums_of_four(void **state)
{
    (void)state;
    enum { ROWS = 300, WIDTH = 150, TABLE = 40 };
    rot_backend *b = open_fake();
    rot_err err;
    float *table = random_floats(TABLE * WIDTH, 1), *parts = random_floats(4 * ROWS, 1);
    rot_taps taps[ROWS];
    for (int i = 0; i < 4 * ROWS; i++) {
        taps[i / 4].at[i % 4] = i * 7 % TABLE;
        taps[i / 4].part[i % 4] = parts[i];
    }
    rot_buffer *from = put(b, ROT_ELEM_F32, TABLE, WIDTH, table),
               *out = put(b, ROT_ELEM_F32, ROWS, WIDTH, NULL);
    assert_int_equal(b->ops->interpolate(b, ROWS, WIDTH, from, taps, out, &err), 0);
    float *got = get(b, out, ROT_ELEM_F32, ROWS, WIDTH);
    for (int i = 0; i < ROWS * WIDTH; i++) {
        const rot_taps *t = &taps[i / WIDTH];
        double want = 0;
        for (int k = 0; k < 4; k++)
            want += (double)t->part[k] * (double)table[t->at[k] * WIDTH + i % WIDTH];
        assert_true(fabs((double)got[i] - want) < 1e-6);
    }
    b->ops->buffer_free(b, from);
    b->ops->buffer_free(b, out);
    close_fake(b);
    free(table), free(parts), free(got);
}

// ---- chunks

static void chunks_are_at_least_half_full(void **state)
{
    (void)state;
    const rot_cuda_sizes all = {8192, {true, true, true, true}},
                         few = {8192, {true, false, false, true}}, one = {8192, {true}};
    const size_t far = 1 << 20;
    assert_int_equal(rot_cuda_next_chunk(&all, 9000, far), 8192);
    assert_int_equal(rot_cuda_next_chunk(&all, 4096, far), 8192);
    assert_int_equal(rot_cuda_next_chunk(&all, 4095, far), 2048);
    assert_int_equal(rot_cuda_next_chunk(&all, 1023, far), 512);
    assert_int_equal(rot_cuda_next_chunk(&all, 1, far), 128);
    assert_int_equal(rot_cuda_next_chunk(&few, 4095, far), 128);
    assert_int_equal(rot_cuda_next_chunk(&one, 1, far), 8192);
    assert_int_equal(rot_cuda_next_chunk(&all, 8192, 8191), 2048); // what the buffer holds
    assert_int_equal(rot_cuda_next_chunk(&one, 8192, 8191), 0);
    for (size_t rows = 2; rows < 100000; rows += 997) { // a merge of four rows stays inside too
        const size_t padded = rot_cuda_padded(8192, rows);
        size_t row = 0, merged = 0;
        while (row < rows) row += rot_cuda_next_chunk(&one, rows - row, padded - row);
        while (merged < rows / 4)
            merged += rot_cuda_next_chunk(&one, rows / 4 - merged, padded / 4 - merged);
        assert_true(row <= padded && 4 * merged <= padded);
    }
}

static bool not_of_32_rows(const rot_cuda_product *p)
{
    return p->rows != 32;
}

static float of_8_rows(const rot_cuda_product *p, uint64_t algorithm, size_t row)
{
    (void)algorithm, (void)row;
    return p->rows == 8 ? 1e-3f : 0.0f;
}

// As where a tile at the end is summed up by several blocks.
static float of_the_last_row(const rot_cuda_product *p, uint64_t algorithm, size_t row)
{
    return algorithm == 1 && row == p->rows - 1 ? 1e-3f : 0.0f;
}

static float of_odd_rows(const rot_cuda_product *p, uint64_t algorithm, size_t row)
{
    (void)p, (void)algorithm;
    return row % 2 ? 1e-3f : 0.0f;
}

static void ways_that_know_a_rows_place_are_not_used(void **state)
{
    (void)state;
    enum { N = 16 };
    rot_backend *b = open_fake();
    rot_linear *linear;
    rot_err err;
    char text[512];
    float *w = random_floats(N * N, 1), bias[N] = {0};
    fake_log.disturbs = of_the_last_row;
    assert_int_equal(b->ops->linear_new(b, N, N, ROT_EPILOGUE_NONE, w, bias, &linear, &err), 0);
    b->ops->choices(b, text, sizeof text);
    assert_non_null(strstr(text, "algorithm 2, rows 128 32 8 2\n"));
    b->ops->linear_free(b, linear);
    close_fake(b);
    b = open_fake();
    fake_log.disturbs = of_odd_rows;
    assert_int_equal(b->ops->linear_new(b, N, N, ROT_EPILOGUE_NONE, w, bias, &linear, &err),
                     ROT_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "16 by 16: every way"));
    close_fake(b);
    free(w);
}

static bool is_of_32_rows(const rot_cuda_product *p)
{
    return p->rows == 32;
}

static bool has_bias(const rot_cuda_product *p)
{
    return p->bias;
}

static bool is_any(const rot_cuda_product *p)
{
    (void)p;
    return true;
}

// A size that the way does not take, or whose bits differ, is never used; bits are those of all.
static void sizes_with_other_bits_are_not_used(void **state)
{
    (void)state;
    enum { ROWS = 203, IN = 24, OUT = 40 };
    float *w = random_floats(IN * OUT, 1), bias[OUT] = {0.5f, -2.0f},
          *x = random_floats(ROWS * IN, 1), *got[3];
    for (int i = 0; i < 3; i++) {
        rot_backend *b = open_fake();
        rot_linear *linear;
        rot_err err;
        fake_log.accepts = i == 1 ? not_of_32_rows : NULL;
        fake_log.disturbs = i == 2 ? of_8_rows : NULL;
        assert_int_equal(b->ops->linear_new(b, IN, OUT, ROT_EPILOGUE_NONE, w, bias, &linear, &err),
                         0);
        rot_buffer *in = put(b, ROT_ELEM_ACT, ROWS, IN, x),
                   *out = put(b, ROT_ELEM_ACT, ROWS, OUT, NULL);
        fake_log.n_products = 0;
        assert_int_equal(b->ops->linear(b, linear, ROWS, in, out, &err), 0);
        assert_int_equal(b->ops->synchronise(b, &err), 0);
        const uint32_t want[] = {FAKE_CHUNK, FAKE_CHUNK}; // 75 left: more than half
        assert_int_equal(fake_log.n_products, 2);
        assert_memory_equal(fake_log.product_rows, want, sizeof want);
        fake_log.n_products = 0;
        assert_int_equal(b->ops->linear(b, linear, 21, in, out, &err), 0);
        assert_int_equal(b->ops->synchronise(b, &err), 0);
        assert_int_equal(fake_log.product_rows[0], i == 1 ? 8 : 32);
        assert_int_equal(b->ops->linear(b, linear, 5, in, out, &err), 0);
        assert_int_equal(b->ops->synchronise(b, &err), 0);
        for (size_t k = 0; k < fake_log.n_products; k++) {
            if (i == 1) assert_int_not_equal(fake_log.product_rows[k], 32);
            if (i == 2) assert_int_not_equal(fake_log.product_rows[k], 8);
        }
        got[i] = get(b, out, ROT_ELEM_ACT, ROWS, OUT);
        b->ops->linear_free(b, linear);
        b->ops->buffer_free(b, in);
        b->ops->buffer_free(b, out);
        close_fake(b);
    }
    assert_memory_equal(got[0], got[1], ROWS * OUT * 4);
    assert_memory_equal(got[0], got[2], ROWS * OUT * 4);
    for (int i = 0; i < 3; i++) free(got[i]);
    free(w), free(x);
}

// What the library takes when it is asked and refuses when it is to compute: a size is not used,
// and an epilogue becomes ours, with its own bits. One that it refuses in every form is an error.
static void what_is_refused_is_done_without(void **state)
{
    (void)state;
    enum { ROWS = 40, IN = 24, OUT = 40 };
    float *w = random_floats(IN * OUT, 1), bias[OUT] = {0.5f, -2.0f},
          *x = random_floats(ROWS * IN, 1), *got[4];
    bool (*const refuses[4])(const rot_cuda_product *) = {NULL, is_of_32_rows, has_bias, is_any};
    for (int i = 0; i < 4; i++) {
        rot_backend *b = open_fake();
        rot_linear *linear;
        rot_err err;
        char text[512];
        fake_log.refuses = refuses[i];
        const int rc =
            b->ops->linear_new(b, IN, OUT, ROT_EPILOGUE_GELU_TANH, w, bias, &linear, &err);
        if (i == 3) {
            assert_int_equal(rc, ROT_ERR_UNSUPPORTED);
            assert_non_null(strstr(err.message, "40 by 24: cuBLASLt has no way"));
            close_fake(b);
            break;
        }
        assert_int_equal(rc, 0);
        b->ops->choices(b, text, sizeof text);
        assert_int_equal(!strstr(text, " gelu"), i == 2);
        assert_int_equal(!strstr(text, " 32"), i == 1);
        rot_buffer *in = put(b, ROT_ELEM_ACT, ROWS, IN, x),
                   *out = put(b, ROT_ELEM_ACT, ROWS, OUT, NULL);
        assert_int_equal(b->ops->linear(b, linear, ROWS, in, out, &err), 0);
        got[i] = get(b, out, ROT_ELEM_ACT, ROWS, OUT);
        b->ops->linear_free(b, linear);
        b->ops->buffer_free(b, in);
        b->ops->buffer_free(b, out);
        close_fake(b);
    }
    assert_memory_equal(got[0], got[1], ROWS * OUT * 4);
    for (int k = 0; k < ROWS * OUT; k++)
        assert_true(fabsf(got[2][k] - got[0][k]) <= 0x1p-7f * fabsf(got[0][k]) + 1e-4f);
    free(got[0]), free(got[1]), free(got[2]);
    free(w), free(x);
}

// A shape is decided once; what was decided is told.
static void shapes_are_decided_once(void **state)
{
    (void)state;
    enum { N = 16 };
    rot_backend *b = open_fake();
    rot_linear *l[3];
    rot_err err;
    char text[512];
    float *w = random_floats(N * N, 1), *bias = random_floats(N, 1);
    assert_int_equal(b->ops->linear_new(b, N, N, ROT_EPILOGUE_ADD, w, bias, &l[0], &err), 0);
    const size_t products = fake_log.n_products;
    assert_true(products > 3);
    assert_int_equal(b->ops->linear_new(b, N, N, ROT_EPILOGUE_ADD, w, bias, &l[1], &err), 0);
    assert_int_equal(fake_log.n_products, products);
    assert_int_equal(b->ops->linear_new(b, N, N, ROT_EPILOGUE_GELU_ERF, w, bias, &l[2], &err), 0);
    assert_true(fake_log.n_products > products);
    b->ops->choices(b, text, sizeof text);
    assert_non_null(strstr(text, "16 x 16 f32 bias add: algorithm 1, rows 128 32 8 2\n"));
    b->ops->choices(b, text, 20); // cut, not written behind
    assert_int_equal(strlen(text), 19);
    for (int i = 0; i < 3; i++) b->ops->linear_free(b, l[i]);
    close_fake(b);
    free(w), free(bias);
}

// ---- order

// Two batches under way: the second must not write what the first has not yet been copied out of.
static void results_on_their_way_are_not_overwritten(void **state)
{
    (void)state;
    enum { ROWS = 50, N = 16 };
    rot_backend *b = open_fake();
    rot_linear *linear;
    rot_err err;
    const void *rows;
    float *w = random_floats(N * N, 1), bias[N] = {0}, *x[4];
    uint16_t *want[4], *got[4];
    assert_int_equal(b->ops->linear_new(b, N, N, ROT_EPILOGUE_NONE, w, bias, &linear, &err), 0);
    rot_buffer *in = put(b, ROT_ELEM_ACT, ROWS, N, NULL),
               *out = put(b, ROT_ELEM_ACT, ROWS, N, NULL);
    for (int i = 0; i < 4; i++) {
        x[i] = random_floats(ROWS * N, 1);
        want[i] = malloc(ROWS * N * 2), got[i] = malloc(ROWS * N * 2);
        b->ops->upload(b, in, 0, ROWS, x[i]);
        assert_int_equal(b->ops->linear(b, linear, ROWS, in, out, &err), 0);
        b->ops->download(b, out, 0, ROWS, want[i]);
    }
    for (int i = 0; i < 5; i++) {
        if (i < 4) {
            b->ops->upload(b, in, 0, ROWS, x[i]);
            assert_int_equal(b->ops->linear(b, linear, ROWS, in, out, &err), 0);
            assert_int_equal(b->ops->send(b, &out, 1, ROWS, i % 2, &err), 0);
        }
        if (i == 0) continue;
        assert_int_equal(b->ops->receive(b, (i - 1) % 2, &rows, &err), 0);
        memcpy(got[i - 1], rows, ROWS * N * 2);
    }
    for (int i = 0; i < 4; i++) {
        assert_memory_equal(got[i], want[i], ROWS * N * 2);
        free(x[i]), free(want[i]), free(got[i]);
    }
    b->ops->linear_free(b, linear);
    b->ops->buffer_free(b, in);
    b->ops->buffer_free(b, out);
    close_fake(b);
    free(w);
}

// A batch goes up while the one before is computed: nothing waits for that.
static void uploads_do_not_wait_for_what_is_computed(void **state)
{
    (void)state;
    enum { ROWS = 20, N = 16 };
    rot_backend *b = open_fake();
    rot_linear *linear;
    rot_err err;
    const void *rows;
    float *w = random_floats(N * N, 1), bias[N] = {0}, *x = random_floats(ROWS * N, 1);
    assert_int_equal(b->ops->linear_new(b, N, N, ROT_EPILOGUE_NONE, w, bias, &linear, &err), 0);
    rot_buffer *in = put(b, ROT_ELEM_ACT, ROWS, N, x), *out = put(b, ROT_ELEM_ACT, ROWS, N, NULL);
    assert_int_equal(b->ops->synchronise(b, &err), 0);
    const long ran = fake_log.ran;
    assert_int_equal(b->ops->linear(b, linear, ROWS, in, out, &err), 0);
    assert_int_equal(b->ops->send(b, &out, 1, ROWS, 0, &err), 0);
    for (int i = 0; i < ROT_CUDA_PLACES; i++) b->ops->upload(b, in, 0, ROWS, x);
    assert_int_equal(b->ops->linear(b, linear, ROWS, in, out, &err), 0);
    assert_int_equal(b->ops->send(b, &out, 1, ROWS, 1, &err), 0);
    assert_int_equal(fake_log.ran, ran);
    assert_int_equal(b->ops->receive(b, 0, &rows, &err), 0);
    assert_int_equal(fake_log.ran, ran + 1); // the first batch alone
    b->ops->linear_free(b, linear);
    b->ops->buffer_free(b, in);
    b->ops->buffer_free(b, out);
    close_fake(b);
    free(w), free(x);
}

// Batches of other sizes and contents: told alike, and replayed from the second time on, with the
// bits of a device that makes no graphs.
static void batches_that_are_told_alike_are_replayed(void **state)
{
    (void)state;
    enum { DIM = 16, ROWS = 60, BLOCKS = 12, BATCHES = 5 };
    static const int32_t starts[BATCHES][4] = {
        {0, 9, 50, 57}, {0, 1, 49, 58}, {0, 20, 40, 58}, {0, 2, 4, 5}, {0, 30, 31, 57}};
    const rot_heads heads = {1, DIM};
    float *w = random_floats(DIM * DIM, 1), bias[DIM] = {0}, *x[BATCHES], *got[2][BATCHES];
    for (int i = 0; i < BATCHES; i++) x[i] = random_floats(ROWS * 3 * DIM, 1);
    for (int graphs = 0; graphs < 2; graphs++) {
        rot_backend *b = open_fake();
        rot_linear *linear;
        rot_err err;
        fake_log.records_nothing = !graphs;
        assert_int_equal(
            b->ops->linear_new(b, DIM, DIM, ROT_EPILOGUE_GELU_QUICK, w, bias, &linear, &err), 0);
        rot_buffer *r = put(b, ROT_ELEM_F32, ROWS, DIM, NULL),
                   *gamma = put(b, ROT_ELEM_F32, 1, DIM, w),
                   *angles = put(b, ROT_ELEM_F32, ROWS, DIM / 2, x[0]),
                   *qkv = put(b, ROT_ELEM_ACT, ROWS, 3 * DIM, NULL), *act[4];
        for (int k = 0; k < 4; k++) act[k] = put(b, ROT_ELEM_ACT, ROWS, DIM, NULL);
        for (int i = 0; i < BATCHES; i++) {
            const rot_segments segments = {starts[i], 3};
            const size_t rows = (size_t)starts[i][3];
            b->ops->upload(b, r, 0, rows, x[i]);
            b->ops->upload(b, qkv, 0, rows, x[i]);
            for (int block = 0; block < BLOCKS; block++) {
                b->ops->rope_split(b, &segments, heads, qkv, angles, angles, act[0], act[1],
                                   act[2]);
                assert_int_equal(b->ops->attention(b, &segments, heads, 0.5f, act[0], act[1],
                                                   act[2], act[3], &err),
                                 0);
                b->ops->rms_norm(b, rows, DIM, 1e-6f, r, gamma, act[0]);
                assert_int_equal(b->ops->linear(b, linear, rows, act[3], act[0], &err), 0);
            }
            got[graphs][i] = get(b, act[0], ROT_ELEM_ACT, rows, DIM);
        }
        assert_int_equal(fake_log.calls[FAKE_RECORD], 1); // the fourth batch is a smaller one
        assert_int_equal(fake_log.calls[FAKE_REPLAY], graphs ? 3 : 0);
        char note[512];
        b->ops->note(b, note, sizeof note);
        assert_string_equal(note, graphs ? "3 replays of graphs"
                                         : "no graph can be made: CUDA: a graph: operation not "
                                           "permitted");
        rot_buffer *all[] = {r, gamma, angles, qkv, act[0], act[1], act[2], act[3]};
        for (int k = 0; k < 8; k++) b->ops->buffer_free(b, all[k]);
        b->ops->linear_free(b, linear);
        close_fake(b);
    }
    for (int i = 0; i < BATCHES; i++) {
        assert_memory_equal(got[0][i], got[1][i], (size_t)starts[i][3] * DIM * 4);
        free(got[0][i]), free(got[1][i]), free(x[i]);
    }
    free(w);
}

// More than all places hold, before the device has done anything.
static void large_uploads_arrive_whole(void **state)
{
    (void)state;
    enum { ROWS = 1000, N = 5000 };
    rot_backend *b = open_fake();
    float *x = random_floats((size_t)ROWS * N, 1);
    rot_buffer *f32 = put(b, ROT_ELEM_F32, ROWS, N, x), *act = put(b, ROT_ELEM_ACT, ROWS, N, x);
    float *back = get(b, f32, ROT_ELEM_F32, ROWS, N), *rounded = get(b, act, ROT_ELEM_ACT, ROWS, N);
    assert_memory_equal(back, x, (size_t)ROWS * N * 4);
    for (size_t i = 0; i < (size_t)ROWS * N; i++) assert_true(rounded[i] == as_bf16(x[i]));
    b->ops->buffer_free(b, f32);
    b->ops->buffer_free(b, act);
    close_fake(b);
    free(x), free(back), free(rounded);
}

// ---- memory and failures

static void memory_over_the_budget_is_refused(void **state)
{
    (void)state;
    rot_backend *b = open_fake();
    rot_buffer *buffer;
    rot_err err;
    assert_int_equal(b->ops->limit(b, UINT64_C(5) << 30, &err), ROT_ERR_NO_MEMORY);
    assert_non_null(strstr(err.message, "5368709120"));
    assert_non_null(strstr(err.message, "4294967296"));
    assert_int_equal(b->ops->limit(b, 1000000, &err), 0);
    const long before = fake_log.calls[FAKE_ALLOC];
    assert_int_equal(b->ops->buffer_new(b, ROT_ELEM_F32, 512, 500, &buffer, &err),
                     ROT_ERR_NO_MEMORY);
    assert_non_null(strstr(err.message, "1024000"));
    assert_non_null(strstr(err.message, "1000000"));
    assert_int_equal(fake_log.calls[FAKE_ALLOC], before);
    assert_int_equal(b->ops->buffer_new(b, ROT_ELEM_ACT, 512, 500, &buffer, &err), 0);
    b->ops->buffer_free(b, buffer);
    close_fake(b);
}

static void heads_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    const int32_t starts[] = {0, 4};
    const rot_segments segments = {starts, 1};
    rot_backend *b = open_fake();
    rot_buffer *x = put(b, ROT_ELEM_ACT, 4, 136, NULL);
    rot_err err;
    assert_int_equal(b->ops->attention(b, &segments, (rot_heads){1, 136}, 1.0f, x, x, x, x, &err),
                     ROT_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "136"));
    b->ops->buffer_free(b, x);
    close_fake(b);
}

// Whichever launch fails, it is said before results are used, and closing is clean.
static void a_failing_device_is_reported(void **state)
{
    (void)state;
    enum { ROWS = 9, N = 16 };
    float *w = random_floats(N * N, 1), *x = random_floats(ROWS * N, 1);
    const int32_t starts[] = {0, ROWS};
    const rot_segments segments = {starts, 1};
    int failures = 0, n = 1;
    for (;; n++) {
        char text[16];
        rot_err err = {0};
        rot_linear *linear;
        const void *rows;
        rot_backend *b;
        uint16_t out[ROWS * N];
        snprintf(text, sizeof text, "%d", n);
        setenv("ROT_FAKE_CUDA_FAIL", text, 1);
        b = open_fake();
        unsetenv("ROT_FAKE_CUDA_FAIL");
        assert_int_equal(b->ops->linear_new(b, N, N, ROT_EPILOGUE_GELU_ERF, w, w, &linear, &err),
                         0);
        rot_buffer *r = put(b, ROT_ELEM_F32, ROWS, N, x), *gamma = put(b, ROT_ELEM_F32, 1, N, w),
                   *h = put(b, ROT_ELEM_ACT, ROWS, N, x), *y = put(b, ROT_ELEM_ACT, ROWS, N, x);
        b->ops->rms_norm(b, ROWS, N, 1e-6f, r, gamma, h);
        int rc = b->ops->attention(b, &segments, (rot_heads){1, N}, 1.0f, h, h, h, y, &err);
        if (rc == 0) rc = b->ops->linear(b, linear, ROWS, y, h, &err);
        if (rc == 0) rc = b->ops->send(b, &h, 1, ROWS, 0, &err);
        if (rc == 0) rc = b->ops->receive(b, 0, &rows, &err);
        if (rc < 0) {
            assert_int_equal(rc, ROT_ERR_IO);
            assert_non_null(strstr(err.message, "an illegal memory access"));
            assert_non_null(strstr(err.message, "device 0 (Emulated)"));
            assert_int_equal(b->ops->synchronise(b, &err), ROT_ERR_IO); // and stays said
            b->ops->download(b, h, 0, ROWS, out);
            for (int i = 0; i < ROWS * N; i++) assert_int_equal(out[i], 0);
        }
        failures += rc < 0;
        b->ops->linear_free(b, linear);
        rot_buffer *all[] = {r, gamma, h, y};
        for (int i = 0; i < 4; i++) b->ops->buffer_free(b, all[i]);
        close_fake(b);
        if (rc == 0) break;
    }
    assert_int_equal(failures, 4); // norm, attention, two chunks of an epilogue
    free(w), free(x);
}

// ---- which device

static int open_named(const char *fake, char identity[128], rot_err *err)
{
    name_cuda_library();
    setenv("ROT_FAKE_CUDA", fake, 1);
    const int rc = rot_backend_identity("cuda", ROT_PRECISION_BF16, identity, err);
    unsetenv("ROT_FAKE_CUDA");
    return rc;
}

static void lack_of_a_device_is_an_error(void **state)
{
    (void)state;
    char identity[128];
    rot_err err;
    assert_int_equal(open_named("none", identity, &err), ROT_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "no NVIDIA driver"));
    assert_int_equal(open_named("old", identity, &err), ROT_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "12.2"));
    assert_int_equal(open_named("empty", identity, &err), ROT_ERR_UNSUPPORTED);
    assert_int_equal(open_named("", identity, &err), 0);
    assert_string_equal(identity, "cuda sm_90 Emulated cublasLt 13.0.0 v1");
    assert_int_equal(rot_backend_identity("cuda", ROT_PRECISION_F32, identity, &err),
                     ROT_ERR_UNSUPPORTED);
    setenv("ROT_CUDA_LIB", "/nowhere.so", 1);
    assert_int_equal(rot_backend_identity("cuda", ROT_PRECISION_BF16, identity, &err),
                     ROT_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "/nowhere.so"));
}

static void auto_takes_a_device_that_is_there(void **state)
{
    (void)state;
    char identity[128];
    rot_err err;
    name_cuda_library();
    unsetenv("ROT_CPU");
    assert_int_equal(rot_backend_identity("auto", ROT_PRECISION_BF16, identity, &err), 0);
    assert_non_null(strstr(identity, "cuda"));
    assert_int_equal(rot_backend_identity("auto", ROT_PRECISION_F32, identity, &err), 0);
    assert_non_null(strstr(identity, "ref"));
    setenv("ROT_FAKE_CUDA", "old", 1);
    assert_int_equal(rot_backend_identity("auto", ROT_PRECISION_BF16, identity, &err), 0);
    assert_null(strstr(identity, "cuda"));
    unsetenv("ROT_FAKE_CUDA");
    setenv("ROT_CPU", "ref", 1);
    assert_int_equal(rot_backend_identity("auto", ROT_PRECISION_BF16, identity, &err), 0);
    assert_null(strstr(identity, "cuda"));
    unsetenv("ROT_CPU");
}

static void a_rank_takes_its_device(void **state)
{
    (void)state;
    const struct {
        const char *name, *value, *devices, *visible;
        int rc, device;
    } cases[] = {
        {"LOCAL_RANK", "3", "4", NULL, 0, 3},
        {"OMPI_COMM_WORLD_LOCAL_RANK", "1", "4", NULL, 0, 1},
        {"SLURM_LOCALID", "2", "4", "0,1,2,3", 0, 2},
        {"SLURM_LOCALID", "2", "1", "5", 0, 0}, // bound by the launcher
        {"LOCAL_RANK", "2", "2", NULL, ROT_ERR_UNSUPPORTED, 0},
        {"LOCAL_RANK", "1", "1", NULL, ROT_ERR_UNSUPPORTED, 0},
        {"LOCAL_RANK", "x", "2", NULL, ROT_ERR_USAGE, 0},
        {"LOCAL_RANK", "", "2", NULL, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int device = -1;
        rot_err err;
        setenv(cases[i].name, cases[i].value, 1);
        setenv("ROT_FAKE_CUDA_DEVICES", cases[i].devices, 1);
        if (cases[i].visible) setenv("CUDA_VISIBLE_DEVICES", cases[i].visible, 1);
        assert_int_equal(rot_cuda_device_of_rank(&fake_driver, &device, &err), cases[i].rc);
        if (cases[i].rc == 0) assert_int_equal(device, cases[i].device);
        if (cases[i].rc < 0) assert_non_null(strstr(err.message, cases[i].value));
        unsetenv(cases[i].name);
        unsetenv("ROT_FAKE_CUDA_DEVICES");
        unsetenv("CUDA_VISIBLE_DEVICES");
    }
}

int main(void)
{
    const char *ranks[] = {"LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID",
                           "CUDA_VISIBLE_DEVICES"};
    for (int i = 0; i < 4; i++) unsetenv(ranks[i]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_have_the_bits_of_ref),
        cmocka_unit_test(fragments_make_a_matrix_product),
        cmocka_unit_test(shared_memory_is_watched),
        cmocka_unit_test(threads_run_in_any_order),
        cmocka_unit_test(elements_have_the_bits_of_ref),
        cmocka_unit_test(interpolated_rows_are_sums_of_four),
        cmocka_unit_test(chunks_are_at_least_half_full),
        cmocka_unit_test(sizes_with_other_bits_are_not_used),
        cmocka_unit_test(ways_that_know_a_rows_place_are_not_used),
        cmocka_unit_test(what_is_refused_is_done_without),
        cmocka_unit_test(shapes_are_decided_once),
        cmocka_unit_test(results_on_their_way_are_not_overwritten),
        cmocka_unit_test(uploads_do_not_wait_for_what_is_computed),
        cmocka_unit_test(batches_that_are_told_alike_are_replayed),
        cmocka_unit_test(large_uploads_arrive_whole),
        cmocka_unit_test(memory_over_the_budget_is_refused),
        cmocka_unit_test(heads_that_do_not_fit_are_refused),
        cmocka_unit_test(a_failing_device_is_reported),
        cmocka_unit_test(lack_of_a_device_is_an_error),
        cmocka_unit_test(auto_takes_a_device_that_is_there),
        cmocka_unit_test(a_rank_takes_its_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
