// Properties of the tower in the shapes of 2B, 4B and 8B, with heads of 64, 72 and 80, on random
// grids of up to 700 patches: the bits of an image depend neither on its batch, nor on the order in
// it, nor on the number of threads, for every backend; all agree with `ref`; bfloat16 weights give
// the bits that the same values in float32 give.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "rotoscope/encoder.h"

static char top[64];

typedef struct shape {
    const char *name;
    int depth, width, heads, mlp, out;
    bool small; // enough for backends that compute in plain C
} shape;

static const shape shapes[] = {{"2b", 1, 1024, 16, 4096, 2048, false},
                               {"4b", 1, 1024, 16, 4096, 2560, false},
                               {"8b", 1, 1152, 16, 4304, 4096, false},
                               {"mlp4304", 2, 144, 2, 4304, 72, true},
                               {"heads80", 2, 160, 2, 300, 48, true}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_IMAGES = 5 };

static uint64_t seed = 0x9e3779b97f4a7c15u;

static int draw(int below)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (int)((seed >> 20) % (uint64_t)below);
}

static int make_top(void **state)
{
    (void)state;
    rot_err err;
    snprintf(top, sizeof top, "/tmp/rot invariance XXXXXX");
    if (!mkdtemp(top)) return -1;
    const char *given = getenv("ROT_TEST_SEED");
    if (given) seed = strtoull(given, NULL, 0) | 1;
    fprintf(stderr, "ROT_TEST_SEED=0x%llx\n", (unsigned long long)seed);
    for (int i = 0; i < N_SHAPES; i++) {
        char dir[128];
        rot_init_model_options o = rot_init_model_options_default();
        snprintf(dir, sizeof dir, "%s/%s", top, shapes[i].name);
        o.dir = dir;
        o.arch = "custom";
        o.depth = shapes[i].depth, o.width = shapes[i].width, o.heads = shapes[i].heads;
        o.mlp_width = shapes[i].mlp, o.out_width = shapes[i].out;
        int rc = rot_init_model(&o, &err);
        if (rc < 0) fprintf(stderr, "%s\n", err.message);
        if (rc < 0) return rc;
    }
    return 0;
}

static int remove_top(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", top);
    return system(command);
}

typedef struct images {
    rot_image image[N_IMAGES];
    rot_grid grid[N_IMAGES];
    size_t at[N_IMAGES + 1]; // tokens before image i
} images;

// Grids: the largest of `most` patches, the smallest, others at random, with up to 200.
static void draw_images(images *m, int most)
{
    rot_preprocessor p = rot_preprocessor_default();
    rot_err err;
    for (int i = 0; i < N_IMAGES; i++) {
        int h = i < 2 ? 2 : 2 * (1 + draw(4)), w = 2 * (1 + draw(200 / h / 2));
        if (i < 2) w = i == 0 ? most / 4 * 2 : 2;
        int width = 16 * w - draw(16), height = 16 * h - draw(16);
        uint8_t *pixels = malloc((size_t)(width * height));
        for (int k = 0; k < width * height; k++) pixels[k] = (uint8_t)draw(256);
        m->image[i] = (rot_image){pixels, width, height, 1};
        assert_int_equal(
            rot_geometry_grid(ROT_GEOMETRY_NATIVE, &p, width, height, &m->grid[i], &err), 0);
        m->at[i + 1] = m->at[i] + (size_t)m->grid[i].k;
    }
}

static void free_images(images *m)
{
    for (int i = 0; i < N_IMAGES; i++) free((void *)(uintptr_t)m->image[i].pixels);
}

// Values of a row: an embedding and its taps.
static size_t row_width(const shape *s)
{
    char dir[128];
    rot_err err;
    int32_t n_taps;
    snprintf(dir, sizeof dir, "%s/%s", top, s->name);
    assert_int_equal(rot_encoder_taps(dir, &n_taps, &err), 0);
    return (size_t)(s->out * (1 + n_taps));
}

static rot_encoder *open_encoder(const char *name, const char *backend, rot_dtype dtype,
                                 int threads)
{
    char dir[128];
    rot_err err;
    rot_encoder *e = NULL;
    rot_encoder_options o = rot_encoder_options_default();
    snprintf(dir, sizeof dir, "%s/%s", top, name);
    o.checkpoint = dir;
    o.geometry = ROT_GEOMETRY_NATIVE;
    o.backend = backend;
    o.dtype = dtype;
    o.threads = threads;
    o.deepstack = true; // whose norms are four times as wide
    int rc = rot_encoder_open(&o, &e, &err);
    if (rc == ROT_ERR_UNSUPPORTED) return NULL; // a backend that this machine lacks
    if (rc < 0) fail_msg("%s", err.message);
    return e;
}

static void encode(rot_encoder *e, const rot_image *image, const rot_grid *grid, size_t n,
                   void *out)
{
    rot_err err;
    if (rot_encoder_encode(e, image, grid, n, out, &err) < 0) fail_msg("%s", err.message);
}

static void shuffle(size_t *order)
{
    for (size_t i = 0; i < N_IMAGES; i++) order[i] = i;
    for (size_t i = N_IMAGES - 1; i > 0; i--) {
        size_t k = (size_t)draw((int)i + 1), swap = order[i];
        order[i] = order[k], order[k] = swap;
    }
}

// All at once on two threads, each alone and all in another order on one; small shapes on three.
static void check_bits(const shape *s, const char *backend, rot_dtype dtype, const images *m,
                       unsigned char *all, size_t row)
{
    static const int threads[] = {2, 1, 3};
    rot_image image[N_IMAGES];
    rot_grid grid[N_IMAGES];
    size_t order[N_IMAGES], total = m->at[N_IMAGES] * row;
    unsigned char *other = malloc(total);
    for (int t = 0; t < (s->small ? 3 : 2); t++) {
        rot_encoder *e = open_encoder(s->name, backend, dtype, threads[t]);
        assert_non_null(e);
        encode(e, m->image, m->grid, N_IMAGES, t ? other : all);
        if (t) assert_memory_equal(all, other, total);
        for (size_t i = 0; t == 1 && i < N_IMAGES; i++) {
            encode(e, &m->image[i], &m->grid[i], 1, other);
            assert_memory_equal(other, all + m->at[i] * row, (size_t)m->grid[i].k * row);
        }
        shuffle(order);
        for (size_t i = 0; i < N_IMAGES; i++)
            image[i] = m->image[order[i]], grid[i] = m->grid[order[i]];
        encode(e, image, grid, N_IMAGES, other);
        for (size_t i = 0, at = 0; i < N_IMAGES; at += (size_t)grid[i++].k)
            assert_memory_equal(other + at * row, all + m->at[order[i]] * row,
                                (size_t)grid[i].k * row);
        rot_encoder_close(&e);
    }
    free(other);
}

// Mean over rows of the cosine between two bf16 results.
static double agreement(const uint16_t *a, const uint16_t *b, size_t rows, size_t width)
{
    double mean = 0;
    for (size_t r = 0; r < rows; r++) {
        double ab = 0, aa = 0, bb = 0;
        for (size_t i = r * width; i < (r + 1) * width; i++) {
            double x = (double)rot_bf16_to_f32(a[i]), y = (double)rot_bf16_to_f32(b[i]);
            ab += x * y, aa += x * x, bb += y * y;
        }
        mean += ab / sqrt(aa * bb) / (double)rows;
    }
    return mean;
}

static void bits_are_an_images_own(void **state)
{
    (void)state;
    static const struct {
        const char *backend;
        bool emulated, quick;
    } kinds[] = {
        {"ref", false, false}, {"onednn", false, true}, {"amx", false, true}, {"amx", true, false}};
    for (int i = 0; i < N_SHAPES; i++) {
        const shape *s = &shapes[i];
        images m = {0};
        draw_images(&m, s->small ? 240 : 700);
        size_t width = row_width(s), rows = m.at[N_IMAGES];
        uint16_t *first = NULL;
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            if (!kinds[k].quick && !s->small) continue;
            if (kinds[k].emulated) setenv("ROT_AMX_EMULATE", "1", 1);
            rot_encoder *there = open_encoder(s->name, kinds[k].backend, ROT_DTYPE_BF16, 1);
            if (there) {
                uint16_t *all = malloc(rows * width * 2);
                rot_encoder_close(&there);
                check_bits(s, kinds[k].backend, ROT_DTYPE_BF16, &m, (unsigned char *)all,
                           width * 2);
                if (first && !(agreement(first, all, rows, width) > 0.9995))
                    fail_msg("%s: %s is not what ref gives", s->name, kinds[k].backend);
                if (first)
                    free(all);
                else
                    first = all;
            }
            unsetenv("ROT_AMX_EMULATE");
        }
        free(first);
        free_images(&m);
    }
}

static void bits_of_float32_are_an_images_own(void **state)
{
    (void)state;
    images m = {0};
    const shape *s = &shapes[N_SHAPES - 1];
    draw_images(&m, 240);
    unsigned char *all = malloc(m.at[N_IMAGES] * row_width(s) * 4);
    check_bits(s, "ref", ROT_DTYPE_F32, &m, all, row_width(s) * 4);
    free(all);
    free_images(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_are_an_images_own),
        cmocka_unit_test(bits_of_float32_are_an_images_own),
    };
    return cmocka_run_group_tests(tests, make_top, remove_top);
}
