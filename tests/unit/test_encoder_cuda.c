// encoder on backend cuda, the device emulated (tests/unit/cuda_device.h): a whole tower through
// the host's part and the kernels' arithmetic, against ref. ROT_TEST_CUDA_LIB names the library of
// a real device, which takes all tests but those of too little memory and of failures.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bf16.h"
#include "rotoscope/encoder.h"

enum { N = 7, OUT = 40 };

static char dir[64], checkpoint[128];
static rot_image images[N];
static rot_grid grids[N];
static size_t total; // merged tokens
static const char *real_library;

static int setup(void **state)
{
    (void)state;
    static const int sizes[N][2] = {{64, 32},   {700, 32},  {33, 40}, {64, 32},
                                    {1400, 32}, {320, 130}, {96, 64}};
    char library[4096];
    const ssize_t n = readlink("/proc/self/exe", library, sizeof library - 32);
    rot_err err;
    if (n <= 0) return -1;
    library[n] = 0;
    strcpy(strrchr(library, '/'), "/cuda_device.so");
    real_library = getenv("ROT_TEST_CUDA_LIB");
    setenv("ROT_CUDA_LIB", real_library ? real_library : library, 1);
    snprintf(dir, sizeof dir, "/tmp/rot cuda XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", dir);
    rot_init_model_options o = rot_init_model_options_default();
    o.dir = checkpoint;
    o.arch = "custom";
    o.depth = 3, o.width = 144, o.heads = 2, o.mlp_width = 300, o.out_width = OUT;
    rot_preprocessor p = rot_preprocessor_default();
    uint64_t s = 88172645463325252u;
    for (int i = 0; i < N; i++) {
        const size_t bytes = (size_t)(sizes[i][0] * sizes[i][1]);
        uint8_t *pixels = malloc(bytes);
        for (size_t k = 0; k < bytes; k++) {
            s ^= s << 13, s ^= s >> 7, s ^= s << 17;
            pixels[k] = (uint8_t)(s >> 40);
        }
        images[i] = (rot_image){pixels, sizes[i][0], sizes[i][1], 1};
        if (rot_geometry_grid(ROT_GEOMETRY_NATIVE, &p, sizes[i][0], sizes[i][1], &grids[i], &err))
            return -1;
        total += (size_t)grids[i].k;
    }
    return rot_init_model(&o, &err);
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    for (int i = 0; i < N; i++) free((void *)(uintptr_t)images[i].pixels);
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command);
}

static rot_encoder_options options_of(const char *backend, rot_dtype dtype)
{
    rot_encoder_options o = rot_encoder_options_default();
    o.checkpoint = checkpoint;
    o.geometry = ROT_GEOMETRY_NATIVE;
    o.backend = backend;
    o.dtype = dtype;
    o.threads = 2;
    return o;
}

static rot_encoder *open_with(const rot_encoder_options *options)
{
    rot_encoder *e = NULL;
    rot_err err;
    if (rot_encoder_open(options, &e, &err) < 0) fail_msg("%s", err.message);
    return e;
}

static void encode(const rot_encoder_options *options, void *out)
{
    rot_encoder *e = open_with(options);
    rot_err err;
    if (rot_encoder_encode(e, images, grids, N, out, &err) < 0) fail_msg("%s", err.message);
    rot_encoder_close(&e);
}

static double distance(const uint16_t *x, const float *want, size_t n)
{
    double d = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        d += pow((double)rot_bf16_to_f32(x[i]) - (double)want[i], 2);
        all += pow((double)want[i], 2);
    }
    return sqrt(d / all);
}

static void the_tower_is_as_near_as_ref(void **state)
{
    (void)state;
    for (int deepstack = 0; deepstack < 2; deepstack++) {
        rot_encoder_info info;
        rot_err err;
        rot_encoder_options exact = options_of("ref", ROT_DTYPE_F32),
                            ref = options_of("ref", ROT_DTYPE_BF16),
                            cuda = options_of("cuda", ROT_DTYPE_BF16);
        exact.deepstack = ref.deepstack = cuda.deepstack = deepstack;
        assert_int_equal(rot_encoder_inspect(&cuda, false, &info, &err), 0);
        const size_t n = total * OUT * (size_t)(1 + info.n_taps);
        float *want = malloc(n * sizeof *want);
        uint16_t *near = malloc(n * 2), *got = malloc(n * 2);
        encode(&exact, want), encode(&ref, near), encode(&cuda, got);
        const double ours = distance(got, want, n), theirs = distance(near, want, n);
        if (!(ours < 1.2 * theirs)) fail_msg("%g, and ref %g", ours, theirs);
        free(want), free(near), free(got);
    }
}

// One by one, in two halves with the second begun before the first has ended, all again and again,
// and with little memory: the same bits.
static void bits_ignore_batches(void **state)
{
    (void)state;
    rot_encoder_options o = options_of("cuda", ROT_DTYPE_BF16);
    uint16_t *want = malloc(total * OUT * 2), *got = calloc(total * OUT, 2);
    rot_err err;
    encode(&o, want);
    rot_encoder *e = open_with(&o);
    size_t at = 0, second = 0;
    for (int i = 0; i < N; i++) {
        assert_int_equal(rot_encoder_encode(e, &images[i], &grids[i], 1, got + at * OUT, &err), 0);
        at += (size_t)grids[i].k;
        if (i < 3) second = at;
    }
    assert_memory_equal(got, want, total * OUT * 2);
    memset(got, 0, total * OUT * 2);
    assert_int_equal(rot_encoder_begin(e, images, grids, 3, got, &err), 0);
    assert_int_equal(rot_encoder_begin(e, images + 3, grids + 3, N - 3, got + second * OUT, &err),
                     0);
    assert_memory_equal(got, want, second * OUT * 2); // the first half has ended
    assert_int_equal(rot_encoder_end(e, &err), 0);
    assert_memory_equal(got, want, total * OUT * 2);
    assert_int_equal(rot_encoder_end(e, &err), 0); // nothing is under way
    for (int i = 0; i < 3; i++) {                  // told again: from the second time on a graph
        memset(got, 0, total * OUT * 2);
        assert_int_equal(rot_encoder_encode(e, images, grids, N, got, &err), 0);
        assert_memory_equal(got, want, total * OUT * 2);
    }
    char note[512];
    rot_encoder_note(e, note, sizeof note);
    if (!strcmp(note, "0 replays of graphs") || !strstr(note, "replays")) fail_msg("%s", note);
    rot_encoder_close(&e);
    o.device_memory_mb = real_library ? 2000 : 16;
    memset(got, 0, total * OUT * 2);
    encode(&o, got);
    assert_memory_equal(got, want, total * OUT * 2);
    free(want), free(got);
}

// Grey images are cut on the device; as three equal channels they are cut by the processor. Every
// geometry, in shapes that grow and shrink along both axes.
static void the_device_cuts_images_as_the_processor_does(void **state)
{
    (void)state;
    static const int sizes[][2] = {{700, 32}, {2600, 32}, {90, 400}, {31, 33}, {430, 342}};
    enum { SHAPES = sizeof sizes / sizeof *sizes };
    rot_preprocessor p = rot_preprocessor_default();
    for (int g = ROT_GEOMETRY_RELEASED; g <= ROT_GEOMETRY_NATIVE; g++) {
        rot_encoder_options o = options_of("cuda", ROT_DTYPE_BF16);
        rot_image grey[SHAPES], colour[SHAPES];
        rot_grid at[SHAPES];
        rot_err err;
        size_t k = 0;
        o.geometry = (rot_geometry)g;
        for (int i = 0; i < SHAPES; i++) {
            const size_t n = (size_t)(sizes[i][0] * sizes[i][1]);
            uint8_t *one = malloc(n), *three = malloc(3 * n);
            uint64_t s = 88172645463325252u + (uint64_t)i;
            for (size_t b = 0; b < n; b++) {
                s ^= s << 13, s ^= s >> 7, s ^= s << 17;
                one[b] = three[3 * b] = three[3 * b + 1] = three[3 * b + 2] = (uint8_t)(s >> 40);
            }
            grey[i] = (rot_image){one, sizes[i][0], sizes[i][1], 1};
            colour[i] = (rot_image){three, sizes[i][0], sizes[i][1], 3};
            assert_int_equal(
                rot_geometry_grid(o.geometry, &p, sizes[i][0], sizes[i][1], &at[i], &err), 0);
            k += (size_t)at[i].k;
        }
        uint16_t *want = malloc(k * OUT * 2), *got = malloc(k * OUT * 2);
        rot_encoder *e = open_with(&o);
        assert_int_equal(rot_encoder_encode(e, colour, at, SHAPES, want, &err), 0);
        assert_int_equal(rot_encoder_encode(e, grey, at, SHAPES, got, &err), 0);
        assert_memory_equal(got, want, k * OUT * 2);
        at[2].grid_w += 2;
        assert_int_equal(rot_encoder_encode(e, grey, at, SHAPES, got, &err), ROT_ERR_USAGE);
        assert_non_null(strstr(err.message, "image 2"));
        rot_encoder_close(&e);
        for (int i = 0; i < SHAPES; i++) {
            free((void *)(uintptr_t)grey[i].pixels);
            free((void *)(uintptr_t)colour[i].pixels);
        }
        free(want), free(got);
    }
}

static void memory_that_does_not_suffice_is_an_error(void **state)
{
    (void)state;
    if (real_library) skip();
    rot_encoder_options o = options_of("cuda", ROT_DTYPE_BF16);
    rot_encoder *e = NULL;
    rot_err err;
    o.device_memory_mb = 1; // less than the weights
    assert_int_equal(rot_encoder_open(&o, &e, &err), ROT_ERR_NO_MEMORY);
    assert_non_null(strstr(err.message, "1000000"));
    o.device_memory_mb = 4; // more than the weights, less than these and the activations
    setenv("ROT_FAKE_CUDA_FAIL", "1", 1);
    assert_int_equal(rot_encoder_open(&o, &e, &err), ROT_ERR_NO_MEMORY); // before any launch
    unsetenv("ROT_FAKE_CUDA_FAIL");
    assert_non_null(strstr(err.message, "the tower needs"));
    assert_non_null(strstr(err.message, "4000000"));
    o.device_memory_mb = 100000; // more than there is
    assert_int_equal(rot_encoder_open(&o, &e, &err), ROT_ERR_NO_MEMORY);
    assert_non_null(strstr(err.message, "100000000000"));
}

// A launch in the middle of the second half: the first is whole, the failure is told, and another
// encoder works.
static void a_failing_device_is_an_error(void **state)
{
    (void)state;
    if (real_library) skip();
    rot_encoder_options o = options_of("cuda", ROT_DTYPE_BF16);
    rot_err err;
    uint16_t *out = malloc(total * OUT * 2);
    setenv("ROT_FAKE_CUDA_FAIL", "20", 1);
    rot_encoder *e = open_with(&o);
    unsetenv("ROT_FAKE_CUDA_FAIL");
    int rc = rot_encoder_begin(e, images, grids, 3, out, &err);
    if (rc == 0) rc = rot_encoder_begin(e, images + 3, grids + 3, N - 3, out, &err);
    if (rc == 0) rc = rot_encoder_end(e, &err);
    assert_int_equal(rc, ROT_ERR_IO);
    assert_non_null(strstr(err.message, "device 0 (Emulated)"));
    assert_int_equal(rot_encoder_encode(e, images, grids, 1, out, &err), ROT_ERR_IO);
    rot_encoder_close(&e);
    encode(&o, out);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tower_is_as_near_as_ref),
        cmocka_unit_test(bits_ignore_batches),
        cmocka_unit_test(the_device_cuts_images_as_the_processor_does),
        cmocka_unit_test(memory_that_does_not_suffice_is_an_error),
        cmocka_unit_test(a_failing_device_is_an_error),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
