// kernels: the amx backend with its tiles in C, so that packing, tails, epilogues and attention are
// tested on every machine with AVX-512: the emulation against the manual's pseudo-code, the backend
// against ref on random shapes, what lies outside an output, and invariance. The real tiles take
// their turn where the processor has them.
#define ROT_AMX_EMULATE
#include "test_kernels.h"

#include "kernels/amx/tiles.h"

enum { REF_BF16 = 1, AMX_REAL = 3, AMX_EMULATED = 4 };

// ---- one tile product

static float flushed(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}

static float fused(float a, float b, float c)
{
    return flushed(fmaf(flushed(a), flushed(b), flushed(c)));
}

static uint16_t random_bf16(int span)
{
    return rot_f32_to_bf16(ldexpf(uniform(), (int)(uniform() * (float)span)));
}

// SDM volume 2, TDPBF16PS, with the exponents of `span`: 140 reaches denormals and infinity.
static void check_dot(int span)
{
    static rot_tiles tiles;
    static uint16_t a[16][32], b[16][32];
    static float c[16][16], got[16][16];
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 32; j++) {
            a[i][j] = random_bf16(span), b[i][j] = random_bf16(span);
            c[i][j / 2] = ldexpf(uniform(), (int)(uniform() * (float)span));
        }
    unsigned before = _mm_getcsr();
    rot_tiles_begin(&tiles);
    rot_tile_load(&tiles, 2, a, 64);
    rot_tile_stream(&tiles, 5, b, 64);
    rot_tile_load(&tiles, 7, c, 64);
    rot_tile_dot(&tiles, 7, 2, 5);
    rot_tile_store(&tiles, 7, got, 64);
    assert_int_equal(_mm_getcsr() & 0xffc0, before & 0xffc0);
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++) {
            float even = 0, odd = 0;
            for (int k = 0; k < 16; k++) {
                even = fused(rot_bf16_to_f32(a[m][2 * k]), rot_bf16_to_f32(b[k][2 * n]), even);
                odd =
                    fused(rot_bf16_to_f32(a[m][2 * k + 1]), rot_bf16_to_f32(b[k][2 * n + 1]), odd);
            }
            float want = flushed(flushed(c[m][n]) + flushed(even + odd));
            if (isnan(want))
                assert_true(isnan(got[m][n]));
            else
                assert_memory_equal(&got[m][n], &want, 4);
        }
}

static void tile_products_follow_the_manual(void **state)
{
    (void)state;
    rot_cpu cpu;
    rot_err err;
    assert_int_equal(rot_cpu_detect(&cpu, &err), 0);
    if (!cpu.avx512) skip();
    for (int i = 0; i < 20; i++) check_dot(0), check_dot(10), check_dot(70), check_dot(140);
}

// ---- the backend against ref

typedef struct shape {
    size_t rows, n_in, n_out;
    rot_epilogue epilogue;
} shape;

typedef struct linear_case {
    shape s;
    float *w, *bias, *x, *before; // before: (rows + 40, n_out), what the output held
} linear_case;

static linear_case make_case(shape s)
{
    return (linear_case){s, random_floats(s.n_in * s.n_out, 2 / sqrtf((float)s.n_in)),
                         random_floats(s.n_out, 1), random_floats(s.rows * s.n_in, 1),
                         random_floats((s.rows + 40) * s.n_out, 1)};
}

static void free_case(linear_case *c)
{
    free(c->w), free(c->bias), free(c->x), free(c->before);
}

// All rows + 40 rows of the output. `in_width`: of the buffer that holds x.
static float *run_case(rot_backend *b, const linear_case *c, size_t rows, size_t in_width)
{
    rot_elem elem = c->s.epilogue == ROT_EPILOGUE_ADD ? ROT_ELEM_F32 : ROT_ELEM_ACT;
    rot_linear *linear;
    rot_err err;
    assert_int_equal(
        b->ops->linear_new(b, c->s.n_in, c->s.n_out, c->s.epilogue, c->w, c->bias, &linear, &err),
        0);
    rot_buffer *in = put(b, ROT_ELEM_ACT, rows * c->s.n_in / in_width, in_width, c->x);
    rot_buffer *out = put(b, elem, c->s.rows + 40, c->s.n_out, c->before);
    assert_int_equal(b->ops->linear(b, linear, rows, in, out, &err), 0);
    float *got = get(b, out, elem, c->s.rows + 40, c->s.n_out);
    b->ops->linear_free(b, linear);
    b->ops->buffer_free(b, in);
    b->ops->buffer_free(b, out);
    return got;
}

static size_t between(size_t from, size_t to)
{
    return from + (size_t)((double)(to - from + 1) * (0.5 + 0.5 * (double)uniform()) * 0.999999);
}

static void check_against_ref(rot_backend *amx, rot_backend *ref, shape s, size_t in_width)
{
    linear_case c = make_case(s);
    float *got = run_case(amx, &c, s.rows, in_width), *want = run_case(ref, &c, s.rows, in_width);
    bool rounded = s.epilogue != ROT_EPILOGUE_ADD;
    for (size_t i = 0; i < s.rows * s.n_out; i++) {
        double most = 3e-5 + (rounded ? 0x1.1p-7 : 2e-6) * fabs((double)want[i]);
        if (!(fabs((double)got[i] - (double)want[i]) <= most))
            fail_msg("%zu x %zu x %zu, epilogue %d, element %zu: %.9g instead of %.9g", s.rows,
                     s.n_in, s.n_out, (int)s.epilogue, i, (double)got[i], (double)want[i]);
    }
    // nothing behind the last row, which ref is known to leave alone
    assert_memory_equal(got + s.rows * s.n_out, want + s.rows * s.n_out, 40 * s.n_out * 4);
    free(got), free(want);
    free_case(&c);
}

static void linears_equal_ref_on_random_shapes(void **state)
{
    (void)state;
    for (int which = AMX_REAL; which <= AMX_EMULATED; which++) {
        rot_backend *amx = open_subject(which, 2), *ref = open_subject(REF_BF16, 2);
        for (int i = 0; amx && i < 40; i++) {
            rot_epilogue e = (rot_epilogue)(i % (ROT_EPILOGUE_ADD + 1));
            shape s = {between(1, 300), between(1, 200), between(1, 200), e};
            if (i % 8 == 0) s.n_in = between(500, 540); // around a chunk of k
            check_against_ref(amx, ref, s, s.n_in);
        }
        for (int e = 0; amx && e <= ROT_EPILOGUE_ADD; e++) { // several passes over k, several tasks
            check_against_ref(amx, ref, (shape){33, 2100, 70, (rot_epilogue)e}, 2100);
            check_against_ref(amx, ref, (shape){520, 1056, 300, (rot_epilogue)e}, 1056);
        }
        if (amx) rot_backend_close(&amx);
        rot_backend_close(&ref);
    }
}

// The product is 0, the bias what they are taken of: to little more than bfloat16's own rounding.
static void activations_are_exact_over_their_range(void **state)
{
    (void)state;
    enum { N = 8192 };
    const float ends[] = {0, -0.0f, 1e-30f, -1e-30f, 1e30f, -1e30f, NAN, 7, -7, 127, -127};
    for (int which = AMX_REAL; which <= AMX_EMULATED; which++) {
        rot_backend *amx = open_subject(which, 1);
        for (int e = 0; amx && e <= ROT_EPILOGUE_ADD; e++) {
            if (e == ROT_EPILOGUE_NONE || e == ROT_EPILOGUE_ADD) continue;
            linear_case c = make_case((shape){1, 1, N, (rot_epilogue)e});
            c.x[0] = 0;
            for (size_t i = 0; i < N; i++) c.bias[i] = (float)(12 * i) / (N / 2) - 12;
            memcpy(c.bias, ends, sizeof ends);
            float *got = run_case(amx, &c, 1, 1);
            for (size_t i = 0; i < N; i++) {
                double y = (double)c.bias[i], want = activation((rot_epilogue)e, y);
                if (isnan(y) && isnan(got[i])) continue;
                double most = (0x1p-8 + 0x1p-12) * fabs(want) + 1e-11 * fabs(y) + 1e-37;
                if (!(fabs((double)got[i] - want) <= most))
                    fail_msg("epilogue %d of %g: %.9g instead of %.9g", e, y, (double)got[i], want);
            }
            free(got);
            free_case(&c);
        }
        if (amx) rot_backend_close(&amx);
    }
}

// The merger reads 4 rows as one, whose parts then lie in other blocks.
static void inputs_of_another_width_are_rearranged(void **state)
{
    (void)state;
    for (int which = AMX_REAL; which <= AMX_EMULATED; which++) {
        rot_backend *amx = open_subject(which, 2), *ref = open_subject(REF_BF16, 2);
        const size_t widths[] = {8, 36, 64, 72};
        for (int i = 0; amx && i < 4; i++) {
            check_against_ref(amx, ref, (shape){37, 4 * widths[i], 50, ROT_EPILOGUE_NONE},
                              widths[i]);
            check_against_ref(amx, ref, (shape){12, widths[i] / 4, 50, ROT_EPILOGUE_NONE},
                              widths[i]);
        }
        if (amx) rot_backend_close(&amx);
        rot_backend_close(&ref);
    }
}

// The output's buffer has 7 columns, the product writes 100 wide rows into it.
static void outputs_of_another_width_hold_their_elements(void **state)
{
    (void)state;
    rot_backend *amx = open_subject(AMX_EMULATED, 1);
    if (!amx) skip();
    enum { ROWS = 14, IN = 40, OUT = 100 };
    float *w = random_floats(IN * OUT, 0.3f), *bias = random_floats(OUT, 1),
          *x = random_floats(ROWS * IN, 1);
    rot_linear *linear;
    rot_err err;
    assert_int_equal(
        amx->ops->linear_new(amx, IN, OUT, ROT_EPILOGUE_GELU_ERF, w, bias, &linear, &err), 0);
    rot_buffer *in = put(amx, ROT_ELEM_ACT, ROWS, IN, x),
               *narrow = put(amx, ROT_ELEM_ACT, 200, 7, NULL),
               *own = put(amx, ROT_ELEM_ACT, ROWS, OUT, NULL);
    assert_int_equal(amx->ops->linear(amx, linear, ROWS, in, narrow, &err), 0);
    assert_int_equal(amx->ops->linear(amx, linear, ROWS, in, own, &err), 0);
    float *a = get(amx, narrow, ROT_ELEM_ACT, 200, 7), *b = get(amx, own, ROT_ELEM_ACT, ROWS, OUT);
    assert_memory_equal(a, b, ROWS * OUT * sizeof *a);
    rot_buffer *all[] = {in, narrow, own};
    for (int i = 0; i < 3; i++) amx->ops->buffer_free(amx, all[i]);
    amx->ops->linear_free(amx, linear);
    rot_backend_close(&amx);
    free(w), free(bias), free(x), free(a), free(b);
}

// ---- invariance

// Tasks are cut by rows, columns and threads; k is walked in passes and chunks.
static void bits_ignore_rows_and_threads(void **state)
{
    (void)state;
    const shape shapes[] = {{530, 100, 200, ROT_EPILOGUE_GELU_TANH},
                            {290, 1100, 96, ROT_EPILOGUE_ADD},
                            {290, 600, 96, ROT_EPILOGUE_GELU_ERF}};
    for (int which = AMX_REAL; which <= AMX_EMULATED; which++) {
        rot_backend *one = open_subject(which, 1), *three = open_subject(which, 3);
        for (int i = 0; one && i < 3; i++) {
            linear_case c = make_case(shapes[i]);
            size_t n_in = c.s.n_in, few = 5 * c.s.n_out * sizeof(float);
            float *a = run_case(one, &c, c.s.rows, n_in), *b = run_case(three, &c, c.s.rows, n_in),
                  *d = run_case(three, &c, 5, n_in);
            assert_memory_equal(a, b, c.s.rows * c.s.n_out * sizeof *a);
            assert_memory_equal(a, d, few);
            free(a), free(b), free(d);
            free_case(&c);
        }
        if (one) rot_backend_close(&one);
        if (three) rot_backend_close(&three);
    }
}

// The same buffers with a long batch, then a short one: nothing of the first shows in the second.
static void short_batches_ignore_what_was_there(void **state)
{
    (void)state;
    rot_backend *amx = open_subject(AMX_EMULATED, 2);
    if (!amx) skip();
    enum { ROWS = 100, FEW = 35, WIDTH = 72 };
    float *x = random_floats(ROWS * WIDTH, 1), *zero = calloc(ROWS * WIDTH, sizeof *zero);
    float *q = random_floats(ROWS * WIDTH, 2);
    const int32_t starts[] = {0, ROWS}, few_starts[] = {0, FEW};
    rot_segments all = {starts, 1}, few = {few_starts, 1};
    rot_heads heads = {1, WIDTH};
    rot_err err;
    float *out[2];
    for (int used = 0; used < 2; used++) {
        rot_buffer *a = put(amx, ROT_ELEM_ACT, ROWS, WIDTH, used ? x : zero),
                   *b = put(amx, ROT_ELEM_ACT, ROWS, WIDTH, zero);
        if (used) assert_int_equal(amx->ops->attention(amx, &all, heads, 3, a, a, a, b, &err), 0);
        amx->ops->upload(amx, a, 0, FEW, q);
        assert_int_equal(amx->ops->attention(amx, &few, heads, 1, a, a, a, b, &err), 0);
        out[used] = get(amx, b, ROT_ELEM_ACT, FEW, WIDTH);
        amx->ops->buffer_free(amx, a);
        amx->ops->buffer_free(amx, b);
    }
    assert_memory_equal(out[0], out[1], FEW * WIDTH * sizeof(float));
    rot_backend_close(&amx);
    free(x), free(zero), free(q), free(out[0]), free(out[1]);
}

// ---- fused, and emulated

// The heads of x (rows, 3 heads 64) W^T as they are in q, k, v, one behind the other: by one call,
// or by two.
static float *split_heads(rot_backend *b, bool fused, const rot_segments *segments, int heads,
                          const linear_case *c, const float *cosines, const float *sines)
{
    size_t rows = c->s.rows, width = (size_t)heads * ROT_SPLIT_DIM;
    const rot_heads form = {heads, ROT_SPLIT_DIM};
    rot_linear *linear;
    rot_err err;
    assert_int_equal(b->ops->linear_new(b, c->s.n_in, 3 * width, ROT_EPILOGUE_NONE, c->w, c->bias,
                                        &linear, &err),
                     0);
    rot_buffer *in = put(b, ROT_ELEM_ACT, rows, c->s.n_in, c->x),
               *qkv = put(b, ROT_ELEM_ACT, rows, 3 * width, NULL),
               *cos_rows = put(b, ROT_ELEM_F32, rows, ROT_SPLIT_DIM / 2, cosines),
               *sin_rows = put(b, ROT_ELEM_F32, rows, ROT_SPLIT_DIM / 2, sines), *parts[3];
    for (int i = 0; i < 3; i++) parts[i] = put(b, ROT_ELEM_ACT, rows, width, NULL);
    if (fused)
        assert_int_equal(b->ops->linear_split(b, linear, in, segments, form, cos_rows, sin_rows,
                                              parts[0], parts[1], parts[2], &err),
                         0);
    else {
        assert_int_equal(b->ops->linear(b, linear, rows, in, qkv, &err), 0);
        b->ops->rope_split(b, segments, form, qkv, cos_rows, sin_rows, parts[0], parts[1],
                           parts[2]);
    }
    float *all = malloc(3 * rows * width * sizeof *all);
    for (int i = 0; i < 3; i++) {
        float *got = get(b, parts[i], ROT_ELEM_ACT, rows, width);
        memcpy(all + (size_t)i * rows * width, got, rows * width * sizeof *got);
        free(got);
        b->ops->buffer_free(b, parts[i]);
    }
    rot_buffer *others[] = {in, qkv, cos_rows, sin_rows};
    for (int i = 0; i < 4; i++) b->ops->buffer_free(b, others[i]);
    b->ops->linear_free(b, linear);
    return all;
}

static void split_products_equal_their_two_parts(void **state)
{
    (void)state;
    const int32_t starts[] = {0, 1, 34, 300, 333};
    const rot_segments segments = {starts, 4};
    for (int which = AMX_REAL; which <= AMX_EMULATED; which++)
        for (int heads = 1; heads <= 5; heads += 2) {
            rot_backend *one = open_subject(which, 1), *three = open_subject(which, 3);
            if (!one) continue;
            size_t rows = (size_t)starts[4], n = 3 * rows * (size_t)heads * ROT_SPLIT_DIM;
            linear_case c =
                make_case((shape){rows, 70, 3 * (size_t)heads * ROT_SPLIT_DIM, ROT_EPILOGUE_NONE});
            float *cosines = random_floats(rows * ROT_SPLIT_DIM / 2, 1),
                  *sines = random_floats(rows * ROT_SPLIT_DIM / 2, 1);
            float *want = split_heads(one, false, &segments, heads, &c, cosines, sines);
            for (int threads = 0; threads < 2; threads++) {
                float *got =
                    split_heads(threads ? three : one, true, &segments, heads, &c, cosines, sines);
                assert_memory_equal(got, want, n * sizeof *got);
                free(got);
            }
            free(want), free(cosines), free(sines);
            free_case(&c);
            rot_backend_close(&one);
            rot_backend_close(&three);
        }
}

// Where there are tiles: the emulation gives their bits, so what passes on it elsewhere is true.
static void the_emulation_gives_the_bits_of_the_tiles(void **state)
{
    (void)state;
    rot_backend *real = open_subject(AMX_REAL, 2), *emulated = open_subject(AMX_EMULATED, 2);
    if (!real || !emulated) skip();
    for (int i = 0; i < 20; i++) {
        rot_epilogue e = (rot_epilogue)(i % (ROT_EPILOGUE_ADD + 1));
        linear_case c = make_case((shape){between(1, 300), between(1, 1200), between(1, 200), e});
        float *a = run_case(real, &c, c.s.rows, c.s.n_in),
              *b = run_case(emulated, &c, c.s.rows, c.s.n_in);
        assert_memory_equal(a, b, c.s.rows * c.s.n_out * sizeof *a);
        free(a), free(b);
        free_case(&c);
    }
    for (size_t n = 1; n < 200; n += 37) {
        const int32_t starts[] = {0, (int32_t)n};
        const rot_segments one = {starts, 1};
        const rot_heads form = {2, n % 2 ? 64 : 36};
        size_t width = 2 * (size_t)form.head_dim;
        float *x = random_floats(n * width, 2), *got[2];
        rot_err err;
        for (int i = 0; i < 2; i++) {
            rot_backend *b = i ? emulated : real;
            rot_buffer *q = put(b, ROT_ELEM_ACT, n, width, x),
                       *out = put(b, ROT_ELEM_ACT, n, width, NULL);
            assert_int_equal(b->ops->attention(b, &one, form, 0.3f, q, q, q, out, &err), 0);
            got[i] = get(b, out, ROT_ELEM_ACT, n, width);
            b->ops->buffer_free(b, q);
            b->ops->buffer_free(b, out);
        }
        assert_memory_equal(got[0], got[1], n * width * sizeof *x);
        free(x), free(got[0]), free(got[1]);
    }
    rot_backend_close(&real);
    rot_backend_close(&emulated);
}

// ---- choice

static void the_emulation_is_never_chosen_by_itself(void **state)
{
    (void)state;
    char identity[128];
    rot_err err;
    rot_cpu cpu;
    assert_int_equal(rot_cpu_detect(&cpu, &err), 0);
    setenv("ROT_AMX_EMULATE", "1", 1);
    assert_int_equal(rot_backend_identity("auto", ROT_PRECISION_BF16, identity, &err), 0);
    assert_null(strstr(identity, "emulated"));
    if (cpu.avx512) {
        assert_int_equal(rot_backend_identity("amx", ROT_PRECISION_BF16, identity, &err), 0);
        assert_non_null(strstr(identity, "emulated"));
    }
    assert_int_equal(rot_backend_identity("amx", ROT_PRECISION_F32, identity, &err),
                     ROT_ERR_UNSUPPORTED);
    unsetenv("ROT_AMX_EMULATE");
    int rc = rot_backend_identity("amx", ROT_PRECISION_BF16, identity, &err);
    if (!cpu.amx) {
        assert_int_equal(rc, ROT_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.message, "AMX"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tile_products_follow_the_manual),
        cmocka_unit_test(linears_equal_ref_on_random_shapes),
        cmocka_unit_test(activations_are_exact_over_their_range),
        cmocka_unit_test(inputs_of_another_width_are_rearranged),
        cmocka_unit_test(outputs_of_another_width_hold_their_elements),
        cmocka_unit_test(bits_ignore_rows_and_threads),
        cmocka_unit_test(short_batches_ignore_what_was_there),
        cmocka_unit_test(split_products_equal_their_two_parts),
        cmocka_unit_test(the_emulation_gives_the_bits_of_the_tiles),
        cmocka_unit_test(the_emulation_is_never_chosen_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
