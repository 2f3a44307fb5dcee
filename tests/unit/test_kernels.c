// kernels: functions against the C library, the product's variants against each other, choice of a
// backend, failing allocations.
#include "test_kernels.h"

// ---- functions

static double ulps(double got, double want)
{
    float w = (float)want;
    double ulp = fabs(w) < 0x1p-126f ? 0x1p-149 : ldexp(1, ilogbf(w) - 23);
    return fabs(got - want) / ulp;
}

static double worst(rot_v16f (*f)(rot_v16f), double (*exact)(double), float from, float to,
                    float step)
{
    double most = 0;
    for (float x = from; x < to; x += step) {
        float y[16];
        rot_vstore(y, f(rot_vset(x)));
        for (int i = 1; i < 16; i++) assert_true(y[i] == y[0]);
        double e = ulps((double)y[0], exact((double)x));
        if (e > most) most = e;
    }
    return most;
}

static rot_v16f exp_lanes(rot_v16f x)
{
    return rot_vexp(x);
}
static rot_v16f tanh_lanes(rot_v16f x)
{
    return rot_vtanh(x);
}
static rot_v16f erf_lanes(rot_v16f x)
{
    return rot_verf(x);
}

static void functions_are_accurate(void **state)
{
    (void)state;
    assert_true(worst(exp_lanes, exp, -87.0f, 88.7f, 0.00037f) <= 1.0);
    assert_true(worst(exp_lanes, exp, -0.01f, 0.01f, 0.00000007f) <= 1.0);
    assert_true(worst(tanh_lanes, tanh, -10.0f, 10.0f, 0.000031f) <= 2.0);
    assert_true(worst(erf_lanes, erf, -5.0f, 5.0f, 0.000017f) <= 2.0);
}

static void functions_keep_their_limits(void **state)
{
    (void)state;
    const float x[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 200.0f, -200.0f, 1e-40f};
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) {
        float e[16], t[16], r[16];
        rot_vstore(e, rot_vexp(rot_vset(x[i])));
        rot_vstore(t, rot_vtanh(rot_vset(x[i])));
        rot_vstore(r, rot_verf(rot_vset(x[i])));
        float exact[] = {expf(x[i]), tanhf(x[i]), erff(x[i])}, got[] = {e[7], t[7], r[7]};
        for (int k = 0; k < 3; k++) {
            if (isnan(exact[k]))
                assert_true(isnan(got[k]));
            else
                assert_true(fabsf(got[k] - exact[k]) <= 1e-44f || got[k] == exact[k]);
            if (!isnan(exact[k])) assert_int_equal(signbit(got[k]) != 0, signbit(exact[k]) != 0);
        }
    }
}

static void rounding_equals_base(void **state)
{
    (void)state;
    for (uint64_t u = 0; u < 1u << 31; u += 4099 * 7) {
        for (uint32_t sign = 0; sign < 2; sign++) {
            uint32_t bits = (uint32_t)u | sign << 31;
            float x, y[16];
            memcpy(&x, &bits, 4);
            rot_vstore(y, rot_vround_bf16(rot_vset(x)));
            float want = as_bf16(x);
            if (isnan(want))
                assert_true(isnan(y[3]));
            else
                assert_true(y[3] == want);
        }
    }
}

// ---- the reference's product

static void product_variants_give_the_same_bits(void **state)
{
    (void)state;
    rot_cpu real;
    rot_err err;
    assert_int_equal(rot_cpu_detect(&real, &err), 0);
    rot_cpu plain = {0}, avx2 = {.avx2 = real.avx2},
            avx512 = {.avx2 = real.avx2, .avx512 = real.avx512};
    const rot_ref_tile tiles[] = {rot_ref_tile_for(&plain), rot_ref_tile_for(&avx2),
                                  rot_ref_tile_for(&avx512)};
    const struct {
        size_t rows, k, lda;
    } shapes[] = {{1, 1, 1}, {3, 17, 19}, {8, 64, 64}, {13, 300, 301}, {64, 700, 700}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t rows = shapes[s].rows, k = shapes[s].k, n = rows * 32;
        float *a = random_floats(rows * shapes[s].lda, 1), *b = random_floats(k * 32, 1),
              *start = random_floats(n + 32, 1);
        float *want = malloc((n + 32) * 4), *got = malloc((n + 32) * 4);
        memcpy(want, start, (n + 32) * 4);
        tiles[0](a, shapes[s].lda, rows, b, k, want);
        assert_memory_equal(want + n, start + n, 32 * 4); // nothing written behind
        for (int t = 1; t < 3; t++) {
            memcpy(got, start, (n + 32) * 4);
            tiles[t](a, shapes[s].lda, rows, b, k, got);
            assert_memory_equal(got, want, (n + 32) * 4);
        }
        free(a), free(b), free(start), free(want), free(got);
    }
}

// ---- choice, failures

static void impossible_backends_are_refused(void **state)
{
    (void)state;
    rot_backend *b = NULL;
    rot_err err;
    char identity[128];
    assert_int_equal(rot_backend_open("onednn", ROT_PRECISION_F32, 1, &b, &err),
                     ROT_ERR_UNSUPPORTED);
    assert_null(b);
    assert_int_equal(rot_backend_open("tpu", ROT_PRECISION_BF16, 1, &b, &err), ROT_ERR_USAGE);
    assert_non_null(strstr(err.message, "tpu"));
    assert_int_equal(rot_backend_identity("auto", ROT_PRECISION_F32, identity, &err), 0);
    assert_non_null(strstr(identity, "ref"));
}

// In a process of its own: oneDNN takes a limit only before its first use.
static int identity_under(const char *cpu, char identity[128])
{
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        char text[128] = "";
        rot_err err;
        setenv("ROT_CPU", cpu, 1);
        int rc = rot_backend_identity("auto", ROT_PRECISION_BF16, text, &err);
        _exit(write(ends[1], text, sizeof text) == (ssize_t)sizeof text && rc == 0 ? 0 : 1);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], identity, 128);
    close(ends[0]);
    waitpid(child, &status, 0);
    return n == 128 ? WEXITSTATUS(status) : 1;
}

static void rot_cpu_chooses_the_backend(void **state)
{
    (void)state;
    char identity[128];
    rot_cpu cpu;
    rot_err err;
    assert_int_equal(rot_cpu_detect(&cpu, &err), 0);
    assert_int_equal(identity_under("ref", identity), 0);
    assert_non_null(strstr(identity, "ref"));
    if (cpu.avx2) {
        assert_int_equal(identity_under("avx2", identity), 0);
        assert_non_null(strstr(identity, "ref"));
    }
    if (cpu.avx512) {
        assert_int_equal(identity_under("avx512", identity), 0);
        assert_null(strstr(identity, "amx"));
    }
}

static void failed_allocations_are_reported(void **state)
{
    (void)state;
    enum { N = 40 };
    float *w = random_floats(N * N, 1), *bias = random_floats(N, 1);
    const int32_t starts[] = {0, 8};
    rot_segments segments = {starts, 1};
    for (int s = 0; s < N_SUBJECTS; s++) {
        rot_backend *probe = open_subject(s, 2);
        if (!probe) continue;
        rot_backend_close(&probe);
        int failures = 0, done = 0;
        for (long n = 1; n < 60 && !done; n++) {
            rot_err err;
            rot_backend *b = NULL;
            rot_linear *linear = NULL;
            rot_buffer *x = NULL, *y = NULL;
            rot_mem_fail_at(n);
            int rc = rot_backend_open(subjects[s].name, subjects[s].precision, 2, &b, &err);
            if (rc == 0)
                rc = b->ops->linear_new(b, N, N, ROT_EPILOGUE_NONE, w, bias, &linear, &err);
            if (rc == 0) rc = b->ops->buffer_new(b, ROT_ELEM_ACT, 8, N, &x, &err);
            if (rc == 0) rc = b->ops->buffer_new(b, ROT_ELEM_ACT, 8, N, &y, &err);
            if (rc == 0) rc = b->ops->linear(b, linear, 8, x, y, &err);
            if (rc == 0)
                rc = b->ops->attention(b, &segments, (rot_heads){10, 4}, 0.5f, x, x, x, y, &err);
            rot_mem_fail_at(0);
            done = rc == 0;
            if (rc < 0) assert_int_equal(rc, ROT_ERR_NO_MEMORY);
            if (rc < 0) failures++;
            if (!b) continue;
            b->ops->linear_free(b, linear);
            b->ops->buffer_free(b, x);
            b->ops->buffer_free(b, y);
            rot_backend_close(&b);
        }
        assert_true(done && failures >= 5);
    }
    free(w), free(bias);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rot_cpu_chooses_the_backend), // before this process uses oneDNN
        cmocka_unit_test(functions_are_accurate),
        cmocka_unit_test(functions_keep_their_limits),
        cmocka_unit_test(rounding_equals_base),
        cmocka_unit_test(product_variants_give_the_same_bits),
        cmocka_unit_test(impossible_backends_are_refused),
        cmocka_unit_test(failed_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
