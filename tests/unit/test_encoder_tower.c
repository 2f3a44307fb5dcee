// The tower: tables of positions and rotations against formulas in double, backends against each
// other, bits that do not depend on batch, order or threads, bad weights, failing allocations.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bf16.h"
#include "base/cpu.h"
#include "base/fs.h"
#include "base/mem.h"
#include "encoder/tower.h"
#include "rotoscope/encoder.h"

static char dir[64], checkpoint_dir[128];

enum { OUT = 40, PATCH = 1536 };

static int make_checkpoint(void **state)
{
    (void)state;
    rot_err err;
    snprintf(dir, sizeof dir, "/tmp/rot tower XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(checkpoint_dir, sizeof checkpoint_dir, "%s/checkpoint", dir);
    rot_init_model_options o = rot_init_model_options_default();
    o.dir = checkpoint_dir;
    o.arch = "custom";
    o.dtype = "f32";
    o.depth = 3, o.width = 144, o.heads = 2, o.mlp_width = 300, o.out_width = OUT;
    int rc = rot_init_model(&o, &err);
    if (rc < 0) fprintf(stderr, "%s\n", err.message);
    return rc;
}

static int remove_checkpoint(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command);
}

// Noise, column-major, different for every image.
static rot_image noise(int width, int height, int channels, uint64_t seed)
{
    size_t n = (size_t)(width * height * channels);
    uint8_t *pixels = malloc(n);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        pixels[i] = (uint8_t)(seed >> 56);
    }
    return (rot_image){pixels, width, height, channels};
}

typedef struct batch {
    size_t n, k;
    rot_image *images;
    rot_grid *grids;
} batch;

static batch make_batch(const int (*sizes)[2], size_t n)
{
    batch b = {n, 0, calloc(n, sizeof *b.images), calloc(n, sizeof *b.grids)};
    rot_preprocessor p = rot_preprocessor_default();
    rot_err err;
    for (size_t i = 0; i < n; i++) {
        b.images[i] = noise(sizes[i][0], sizes[i][1], i % 3 == 1 ? 3 : 1, i + 1);
        assert_int_equal(
            rot_geometry_grid(ROT_GEOMETRY_NATIVE, &p, sizes[i][0], sizes[i][1], &b.grids[i], &err),
            0);
        b.k += (size_t)b.grids[i].k;
    }
    return b;
}

static void free_batch(batch *b)
{
    for (size_t i = 0; i < b->n; i++) free((void *)(uintptr_t)b->images[i].pixels);
    free(b->images);
    free(b->grids);
}

static rot_encoder *open_encoder(const char *backend, rot_dtype dtype, int threads)
{
    rot_encoder_options o = rot_encoder_options_default();
    o.checkpoint = checkpoint_dir;
    o.geometry = ROT_GEOMETRY_NATIVE;
    o.backend = backend;
    o.dtype = dtype;
    o.threads = threads;
    rot_encoder *e = NULL;
    rot_err err;
    int rc = rot_encoder_open(&o, &e, &err);
    if (rc == ROT_ERR_UNSUPPORTED) return NULL; // a backend that this machine lacks
    if (rc < 0) fail_msg("%s", err.message);
    return e;
}

// ---- tables

// As the formulas of the interpolation say, in double; grids of 2 rows use rows 0 and 47 of the
// table.
static void positions_are_corner_aligned(void **state)
{
    (void)state;
    enum { SIDE = 48, WIDTH = 3 };
    float *table = malloc(SIDE * SIDE * WIDTH * sizeof *table);
    for (int i = 0; i < SIDE * SIDE * WIDTH; i++) table[i] = (float)sin(i * 0.37);
    const int grids[][2] = {{2, 2}, {2, 350}, {4, 96}, {12, 6}, {64, 66}};
    for (size_t g = 0; g < sizeof grids / sizeof *grids; g++) {
        int h = grids[g][0], w = grids[g][1], patch = 0;
        float *out = malloc((size_t)(h * w * WIDTH) * sizeof *out);
        rot_taps *taps = malloc((size_t)(h * w) * sizeof *taps);
        rot_tower_position_taps(SIDE, 2, h, w, taps);
        rot_tower_interpolate(table, WIDTH, taps, (size_t)(h * w), out);
        free(taps);
        for (int by = 0; by < h; by += 2)
            for (int bx = 0; bx < w; bx += 2)
                for (int y = by; y < by + 2; y++)
                    for (int x = bx; x < bx + 2; x++, patch++)
                        for (int c = 0; c < WIDTH; c++) {
                            double u = 47.0 * y / (h - 1), v = 47.0 * x / (w - 1);
                            int y0 = (int)u, x0 = (int)v, y1 = y0 < 47 ? y0 + 1 : 47,
                                x1 = x0 < 47 ? x0 + 1 : 47;
                            double a = u - y0, b = v - x0;
                            double want =
                                (1 - a) * (1 - b) * (double)table[(y0 * SIDE + x0) * WIDTH + c] +
                                (1 - a) * b * (double)table[(y0 * SIDE + x1) * WIDTH + c] +
                                a * (1 - b) * (double)table[(y1 * SIDE + x0) * WIDTH + c] +
                                a * b * (double)table[(y1 * SIDE + x1) * WIDTH + c];
                            assert_true(fabs((double)out[patch * WIDTH + c] - want) < 2e-5);
                        }
        free(out);
    }
    free(table);
}

static void rotations_equal_the_c_library(void **state)
{
    (void)state;
    enum { DIM = 72, HALF = DIM / 2, H = 4, W = 700 };
    float *c = malloc(H * W * HALF * sizeof *c), *s = malloc(H * W * HALF * sizeof *s);
    rot_err err;
    assert_int_equal(rot_tower_rotations(10000.0, DIM, 2, H, W, c, s, &err), 0);
    int patch = 0;
    for (int by = 0; by < H; by += 2)
        for (int bx = 0; bx < W; bx += 2)
            for (int y = by; y < by + 2; y++)
                for (int x = bx; x < bx + 2; x++, patch++)
                    for (int i = 0; i < HALF; i++) {
                        int k = i % (HALF / 2), at = i < HALF / 2 ? y : x;
                        float inverse =
                            1.0f / (float)pow(10000.0, (double)((float)(2 * k) / (float)HALF));
                        double angle = (double)((float)at * inverse);
                        assert_true(fabs((double)c[patch * HALF + i] - cos(angle)) < 6e-8);
                        assert_true(fabs((double)s[patch * HALF + i] - sin(angle)) < 6e-8);
                    }
    free(c);
    free(s);
}

// ---- the whole encoder

static const int mixed[][2] = {{64, 32}, {700, 32},  {33, 40},   {64, 32},
                               {1, 1},   {4200, 32}, {320, 130}, {96, 64}};
enum { N_MIXED = sizeof mixed / sizeof *mixed };

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

static void bf16_backends_stay_near_f32(void **state)
{
    (void)state;
    rot_err err;
    batch b = make_batch(mixed, N_MIXED);
    float *want = malloc(b.k * OUT * sizeof *want), *wide = malloc(b.k * OUT * sizeof *wide);
    uint16_t *got = malloc(b.k * OUT * sizeof *got);
    rot_encoder *e = open_encoder("ref", ROT_DTYPE_F32, 2);
    assert_int_equal(rot_encoder_encode(e, b.images, b.grids, b.n, want, &err), 0);
    rot_encoder_close(&e);
    const char *backends[] = {"ref", "onednn", "amx"};
    for (int i = 0; i < 3; i++) {
        e = open_encoder(backends[i], ROT_DTYPE_BF16, 2);
        if (!e) continue;
        assert_int_equal(rot_encoder_encode(e, b.images, b.grids, b.n, got, &err), 0);
        double mean = 0;
        for (size_t k = 0; k < b.k * OUT; k++) wide[k] = rot_bf16_to_f32(got[k]);
        for (size_t k = 0; k < b.k; k++)
            mean += cosine(wide + k * OUT, want + k * OUT, OUT) / (double)b.k;
        if (!(mean > 0.999)) fail_msg("%s: mean cosine %f", backends[i], mean);
        rot_encoder_close(&e);
    }
    free(want), free(wide), free(got);
    free_batch(&b);
}

// A batch of one equals a batch of many in any order; 1 thread equals 2, on many images and on a
// large one.
static void bits_ignore_batch_order_and_threads(void **state)
{
    (void)state;
    const struct {
        const char *backend;
        rot_dtype dtype;
        size_t bytes;
    } kinds[] = {{"ref", ROT_DTYPE_F32, 4},
                 {"ref", ROT_DTYPE_BF16, 2},
                 {"onednn", ROT_DTYPE_BF16, 2},
                 {"amx", ROT_DTYPE_BF16, 2}};
    enum { N = 32 };
    int sizes[N][2];
    for (int i = 0; i < N; i++)
        sizes[i][0] = mixed[i % N_MIXED][0] + 32 * (i / N_MIXED),
        sizes[i][1] = mixed[i % N_MIXED][1];
    batch b = make_batch((const int(*)[2])sizes, N);
    rot_image images[N];
    rot_grid grids[N];
    size_t at[N] = {0}; // tokens before image i
    for (int i = 1; i < N; i++) at[i] = at[i - 1] + (size_t)b.grids[i - 1].k;
    for (int kind = 0; kind < 4; kind++) {
        size_t row = OUT * kinds[kind].bytes;
        unsigned char *all = malloc(b.k * row), *other = malloc(b.k * row);
        rot_encoder *two = open_encoder(kinds[kind].backend, kinds[kind].dtype, 2);
        rot_encoder *one = open_encoder(kinds[kind].backend, kinds[kind].dtype, 1);
        rot_err err;
        if (two) {
            assert_int_equal(rot_encoder_encode(two, b.images, b.grids, N, all, &err), 0);
            assert_int_equal(rot_encoder_encode(one, b.images, b.grids, N, other, &err), 0);
            assert_memory_equal(all, other, b.k * row);
            for (int i = 0; i < N; i++) { // one at a time, the large one (5) with two threads too
                assert_int_equal(rot_encoder_encode(i == 5 ? two : one, b.images + i, b.grids + i,
                                                    1, other, &err),
                                 0);
                assert_memory_equal(other, all + at[i] * row, (size_t)b.grids[i].k * row);
            }
            for (int i = 0; i < N; i++)
                images[i] = b.images[(i * 13 + 5) % N], grids[i] = b.grids[(i * 13 + 5) % N];
            assert_int_equal(rot_encoder_encode(two, images, grids, N, other, &err), 0);
            for (size_t i = 0, to = 0; i < N; to += (size_t)grids[i++].k)
                assert_memory_equal(other + to * row, all + at[(i * 13 + 5) % N] * row,
                                    (size_t)grids[i].k * row);
        }
        rot_encoder_close(&two);
        rot_encoder_close(&one);
        free(all), free(other);
    }
    free_batch(&b);
}

static void empty_batch_and_empty_grid(void **state)
{
    (void)state;
    rot_encoder *e = open_encoder("ref", ROT_DTYPE_F32, 1);
    rot_err err;
    assert_int_equal(rot_encoder_encode(e, NULL, NULL, 0, NULL, &err), 0);
    batch b = make_batch(mixed, 1);
    float out[4 * OUT];
    b.grids[0].n_patches = 0;
    assert_int_equal(rot_encoder_encode(e, b.images, b.grids, 1, out, &err), ROT_ERR_USAGE);
    free_batch(&b);
    rot_encoder_close(&e);
}

// Overwrites an element of a tensor in the checkpoint's file, of n_bytes; *before: what was there.
static void poke(const char *dir_of, const char *name, size_t element, const void *value,
                 size_t n_bytes, void *before)
{
    rot_checkpoint *checkpoint;
    rot_err err;
    assert_int_equal(rot_checkpoint_open(dir_of, &checkpoint, &err), 0);
    const rot_tensor *t = rot_checkpoint_tensor(checkpoint, name);
    assert_non_null(t);
    rot_map
        map; // where the tensor lies in its file: found by its first bytes' address in a second map
    assert_int_equal(rot_fs_map(t->file, &map, &err), 0);
    uint64_t header;
    memcpy(&header, map.bytes, 8);
    const char *json = (const char *)map.bytes + 8;
    char key[96];
    snprintf(key, sizeof key, "%s\"", name);
    const char *entry = memmem(json, header, key, strlen(key));
    assert_non_null(entry);
    const char *offsets = memmem(entry, (size_t)(json + header - entry), "\"data_offsets\":[", 16);
    assert_non_null(offsets);
    off_t where = (off_t)(8 + header + strtoull(offsets + 16, NULL, 10) + element * n_bytes);
    int fd = open(t->file, O_RDWR);
    assert_true(fd >= 0);
    if (before) assert_int_equal(pread(fd, before, n_bytes, where), n_bytes);
    assert_int_equal(pwrite(fd, value, n_bytes, where), n_bytes);
    close(fd);
    rot_fs_unmap(&map);
    rot_checkpoint_close(&checkpoint);
}

static void weights_that_are_not_finite_are_named(void **state)
{
    (void)state;
    const struct {
        const char *tensor;
        float value;
        rot_dtype dtype;
        int rc;
    } cases[] = {
        {"blocks.1.attn.qkv.weight", NAN, ROT_DTYPE_F32, ROT_ERR_FORMAT},
        {"merger.norm.bias", INFINITY, ROT_DTYPE_BF16, ROT_ERR_FORMAT},
        {"pos_embed.weight", -INFINITY, ROT_DTYPE_BF16, ROT_ERR_FORMAT},
        {"blocks.2.mlp.linear_fc2.bias", 3.4e38f, ROT_DTYPE_BF16,
         ROT_ERR_FORMAT}, // infinity in bfloat16
        {"blocks.2.mlp.linear_fc2.bias", 3.4e38f, ROT_DTYPE_F32, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float before;
        poke(checkpoint_dir, cases[i].tensor, 7, &cases[i].value, sizeof before, &before);
        rot_encoder_options o = rot_encoder_options_default();
        o.checkpoint = checkpoint_dir;
        o.backend = "ref";
        o.dtype = cases[i].dtype;
        rot_encoder *e = NULL;
        rot_err err = {0};
        assert_int_equal(rot_encoder_open(&o, &e, &err), cases[i].rc);
        if (cases[i].rc < 0) {
            assert_non_null(strstr(err.message, cases[i].tensor));
            assert_non_null(strstr(err.message, "element 7"));
        }
        rot_encoder_close(&e);
        poke(checkpoint_dir, cases[i].tensor, 7, &before, sizeof before, NULL);
    }
}

// Weights that are bfloat16 in the file may go to the backend as they are; they are looked at all
// the same.
static void bf16_weights_that_are_not_finite_are_named(void **state)
{
    (void)state;
    char narrow[160];
    rot_err err = {0};
    rot_init_model_options o = rot_init_model_options_default();
    snprintf(narrow, sizeof narrow, "%s/bf16", dir);
    o.dir = narrow;
    o.arch = "custom";
    o.depth = 3, o.width = 288, o.heads = 4, o.mlp_width = 300, o.out_width = OUT;
    assert_int_equal(rot_init_model(&o, &err), 0);
    static const char *const backends[] = {"ref", "onednn", "amx"};
    const uint16_t values[] = {0x7fc0, 0xff80}; // NaN, -infinity
    const size_t element = 288 * 288 * 3 - 1;
    for (int v = 0; v < 2; v++) {
        uint16_t before;
        poke(narrow, "blocks.1.attn.qkv.weight", element, &values[v], 2, &before);
        for (int i = 0; i < 3; i++) {
            rot_encoder_options e = rot_encoder_options_default();
            rot_encoder *encoder = NULL;
            rot_encoder_info info;
            e.checkpoint = narrow;
            e.backend = backends[i];
            if (rot_encoder_inspect(&e, false, &info, &err) == ROT_ERR_UNSUPPORTED) continue;
            assert_int_equal(rot_encoder_open(&e, &encoder, &err), ROT_ERR_FORMAT);
            assert_non_null(strstr(err.message, "blocks.1.attn.qkv.weight: element 248831"));
        }
        poke(narrow, "blocks.1.attn.qkv.weight", element, &before, 2, NULL);
    }
}

static void failed_allocations_are_reported(void **state)
{
    (void)state;
    batch b = make_batch(mixed, 1);
    float out[4 * OUT];
    int failures = 0, done = 0;
    for (long n = 1; n < 3000 && !done; n += n < 40 ? 1 : 13) {
        rot_encoder_options o = rot_encoder_options_default();
        o.checkpoint = checkpoint_dir;
        o.geometry = ROT_GEOMETRY_NATIVE;
        o.dtype = ROT_DTYPE_F32;
        o.threads = 1;
        rot_encoder *e = NULL;
        rot_err err = {0};
        rot_mem_fail_at(n);
        int rc = rot_encoder_open(&o, &e, &err);
        if (rc == 0) rc = rot_encoder_encode(e, b.images, b.grids, 1, out, &err);
        rot_mem_fail_at(0);
        if (rc < 0) assert_int_equal(rc, ROT_ERR_NO_MEMORY);
        failures += rc < 0;
        done = rc == 0;
        rot_encoder_close(&e);
    }
    assert_true(done && failures > 20);
    free_batch(&b);
}

static void inspection_tells_what_the_tower_is(void **state)
{
    (void)state;
    rot_encoder_options o = rot_encoder_options_default();
    o.checkpoint = checkpoint_dir;
    rot_encoder_info info;
    rot_err err;
    assert_int_equal(rot_encoder_inspect(&o, true, &info, &err), 0);
    assert_int_equal(info.width, 144);
    assert_int_equal(info.out_width, OUT);
    assert_int_equal(strlen(info.weights_sha256), 64);
    assert_true(info.backend[0] != 0 && !strstr(info.backend, "auto"));
    o.backend = "onednn";
    o.dtype = ROT_DTYPE_F32;
    assert_int_equal(rot_encoder_inspect(&o, false, &info, &err), ROT_ERR_UNSUPPORTED);
    o.checkpoint = "/nowhere";
    o.backend = "ref";
    assert_int_equal(rot_encoder_inspect(&o, false, &info, &err), ROT_ERR_MISSING);
}

int main(void)
{
    rot_cpu cpu;
    rot_err err;
    // the amx backend in instructions where there are some, else in C
    if (rot_cpu_detect(&cpu, &err) == 0 && !cpu.amx) setenv("ROT_AMX_EMULATE", "1", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(positions_are_corner_aligned),
        cmocka_unit_test(rotations_equal_the_c_library),
        cmocka_unit_test(bf16_backends_stay_near_f32),
        cmocka_unit_test(bits_ignore_batch_order_and_threads),
        cmocka_unit_test(empty_batch_and_empty_grid),
        cmocka_unit_test(weights_that_are_not_finite_are_named),
        cmocka_unit_test(bf16_weights_that_are_not_finite_are_named),
        cmocka_unit_test(failed_allocations_are_reported),
        cmocka_unit_test(inspection_tells_what_the_tower_is),
    };
    return cmocka_run_group_tests(tests, make_checkpoint, remove_checkpoint);
}
