// The other families: sizes of Qwen2.5-VL and LLaVA-1.6, windows and their inverse, the order of
// tiles; bits that do not depend on batch, order or threads; failing allocations.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "encoder/tower_order.h"
#include "rotoscope/encoder.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/rot family XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command);
}

static rot_preprocessor qwen25(void)
{
    rot_preprocessor p = rot_preprocessor_default();
    p.family = ROT_FAMILY_QWEN2_VL;
    p.patch_px = 14;
    p.min_pixels = 3136;
    p.max_pixels = 12845056;
    return p;
}

static rot_preprocessor llava(void)
{
    return (rot_preprocessor){
        .family = ROT_FAMILY_LLAVA_NEXT,
        .patch_px = 14,
        .temporal = 1,
        .merge = 1,
        .min_pixels = 1,
        .max_pixels = INT32_MAX,
        .tile_px = 336,
        .n_pinpoints = 5,
        .pinpoints = {{336, 672}, {672, 336}, {672, 672}, {1008, 336}, {336, 1008}}};
}

// Published code on Qwen2.5-VL, 32 pixels high.
static void released_sizes_of_qwen25(void **state)
{
    (void)state;
    static const int cases[][2] = {{100, 4},   {300, 11},  {1000, 36}, {3000, 107},
                                   {1500, 54}, {1800, 64}, {2000, 71}, {5614, 200}};
    rot_preprocessor p = qwen25();
    rot_grid g;
    rot_err err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(rot_geometry_grid(ROT_GEOMETRY_RELEASED, &p, cases[i][0], 32, &g, &err),
                         0);
        assert_int_equal(g.k, cases[i][1]);
        assert_int_equal(g.height, 28);
        assert_int_equal(g.first_width, g.width); // the second resize changes nothing
    }
    assert_int_equal(rot_geometry_grid(ROT_GEOMETRY_RELEASED, &p, 5615, 32, &g, &err),
                     ROT_ERR_TOO_LARGE);
    assert_int_equal(rot_geometry_grid(ROT_GEOMETRY_PATCH16, &p, 100, 32, &g, &err),
                     ROT_ERR_CONFIG);
    assert_non_null(strstr(err.message, "patch16"));
    assert_non_null(strstr(err.message, "Qwen2.5-VL"));
}

static void sizes_of_llava(void **state)
{
    (void)state;
    static const struct {
        int h, w, k;
    } cases[] = {{32, 100, 1360},  {32, 300, 870},   {32, 1000, 722},  {32, 3000, 576},
                 {336, 336, 1176}, {512, 512, 2928}, {672, 672, 2928}, {480, 640, 2340}};
    rot_preprocessor p = llava();
    rot_grid g;
    rot_err err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(
            rot_geometry_grid(ROT_GEOMETRY_RELEASED, &p, cases[i].w, cases[i].h, &g, &err), 0);
        assert_int_equal(g.k, cases[i].k);
    }
    // of the thinnest images one row of pixels is left, and no row of tokens
    assert_int_equal(rot_geometry_grid(ROT_GEOMETRY_RELEASED, &p, 30000, 1, &g, &err), 0);
    assert_int_equal(g.first_height, 1);
    assert_int_equal(g.k, 576);
    for (int geometry = ROT_GEOMETRY_PATCH16; geometry <= ROT_GEOMETRY_NATIVE; geometry++) {
        assert_int_equal(rot_geometry_grid((rot_geometry)geometry, &p, 100, 32, &g, &err),
                         ROT_ERR_CONFIG);
        assert_non_null(strstr(err.message, rot_geometry_name((rot_geometry)geometry)));
        assert_non_null(strstr(err.message, "LLaVA-1.6"));
    }
    p.pinpoints[2][0] = 600; // no multiple of a tile
    assert_int_equal(rot_geometry_grid(ROT_GEOMETRY_RELEASED, &p, 100, 32, &g, &err),
                     ROT_ERR_USAGE);
}

// Every token once, its window that of its place, also where sides are no multiples of 4.
static void windows_are_a_permutation(void **state)
{
    (void)state;
    static const int grids[][2] = {{1, 1},  {1, 7}, {7, 1}, {4, 4},
                                   {8, 12}, {5, 9}, {6, 3}, {1, 107}};
    for (size_t g = 0; g < sizeof grids / sizeof *grids; g++) {
        int rows = grids[g][0], columns = grids[g][1], n = rows * columns, at = 0;
        int32_t *order = calloc((size_t)n, 4), *lengths = calloc((size_t)n, 4),
                *seen = calloc((size_t)n, 4);
        int32_t n_windows = rot_tower_windows(4, rows, columns, order, lengths);
        assert_int_equal(n_windows, (rows + 3) / 4 * ((columns + 3) / 4));
        for (int32_t w = 0; w < n_windows; w++) {
            assert_in_range(lengths[w], 1, 16);
            for (int32_t i = 0; i < lengths[w]; i++, at++) {
                int y = order[at] / columns, x = order[at] % columns;
                assert_int_equal(y / 4 * ((columns + 3) / 4) + x / 4, w);
                seen[order[at]]++;
            }
        }
        assert_int_equal(at, n);
        for (int i = 0; i < n; i++) assert_int_equal(seen[i], 1);
        free(order), free(lengths), free(seen);
    }
}

// Out of the tower each token goes back to where its patches came from.
static void windows_are_undone(void **state)
{
    (void)state;
    rot_vision_config c = {"qwen2_5_vl", .patch_px = 14, .temporal = 2, .merge = 2,
                           .window_px = 112};
    rot_preprocessor p = qwen25();
    static const int sizes[][2] = {{28, 28}, {500, 160}, {1000, 28}, {190, 140}, {80, 250}};
    rot_grid grids[5];
    rot_err err;
    for (int i = 0; i < 5; i++)
        assert_int_equal(
            rot_geometry_grid(ROT_GEOMETRY_NATIVE, &p, sizes[i][0], sizes[i][1], &grids[i], &err),
            0);
    rot_tower_order o;
    assert_int_equal(rot_tower_order_make(&c, grids, 5, &o, &err), 0);
    assert_int_equal(o.patches, o.rows);
    assert_int_equal(o.rows, 4 * o.k);
    size_t *from = calloc(o.rows, sizeof *from); // patch of each row of the stream
    for (size_t i = 0; i < o.in.n; i++)
        for (size_t k = 0; k < o.in.at[i].n; k++) from[o.in.at[i].to + k] = o.in.at[i].from + k;
    size_t n = 0;
    for (size_t i = 0; i < o.out.n; i++)
        for (size_t k = 0; k < o.out.at[i].n; k++, n++)
            for (size_t patch = 0; patch < 4; patch++)
                assert_int_equal(from[4 * (o.out.at[i].from + k) + patch],
                                 4 * (o.out.at[i].to + k) + patch);
    assert_int_equal(n, o.k);
    assert_int_equal(o.windows.at[o.windows.n], o.rows);
    assert_int_equal(o.full.n, 5);
    free(from);
    rot_tower_order_free(&o);
    grids[2].rows = 2;
    assert_int_equal(rot_tower_order_make(&c, grids, 5, &o, &err), ROT_ERR_USAGE);
    rot_tower_order_free(&o);
}

// ---- whole encoders

enum { N = 4 };

typedef struct subject {
    const char *arch;
    rot_geometry geometry;
    int sizes[N][2];
} subject;
static const subject subjects[] = {
    {"qwen2.5-tiny", ROT_GEOMETRY_NATIVE, {{300, 28}, {20, 9}, {150, 130}, {300, 28}}},
    {"qwen2-tiny", ROT_GEOMETRY_NATIVE, {{300, 28}, {20, 9}, {150, 130}, {300, 28}}},
    {"llava-tiny", ROT_GEOMETRY_RELEASED, {{300, 32}, {1400, 20}, {30, 90}, {300, 32}}},
};
enum { N_SUBJECTS = sizeof subjects / sizeof *subjects };

static char checkpoint[128];

static void make_checkpoint(const char *arch)
{
    rot_err err;
    rot_init_model_options o = rot_init_model_options_default();
    snprintf(checkpoint, sizeof checkpoint, "%s/%s %d", dir, arch, rand());
    o.dir = checkpoint;
    o.arch = arch;
    o.depth = 3, o.width = 48, o.heads = 2, o.mlp_width = 96, o.out_width = 24;
    if (rot_init_model(&o, &err) < 0) fail_msg("%s", err.message);
}

static rot_encoder *open_encoder(const subject *s, const char *backend, rot_dtype dtype,
                                 int threads)
{
    rot_encoder_options o = rot_encoder_options_default();
    rot_encoder *e = NULL;
    rot_err err;
    o.checkpoint = checkpoint;
    o.geometry = s->geometry;
    o.backend = backend;
    o.dtype = dtype;
    o.threads = threads;
    int rc = rot_encoder_open(&o, &e, &err);
    if (rc < 0 && rc != ROT_ERR_UNSUPPORTED) fail_msg("%s", err.message);
    return e;
}

static size_t make_images(const subject *s, rot_image *images, rot_grid *grids)
{
    rot_encoder_options o = rot_encoder_options_default();
    rot_encoder_info info;
    rot_err err;
    size_t k = 0;
    o.checkpoint = checkpoint;
    o.geometry = s->geometry;
    if (rot_encoder_inspect(&o, false, &info, &err) < 0) fail_msg("%s", err.message);
    for (int i = 0; i < N; i++) {
        int w = s->sizes[i][0], h = s->sizes[i][1];
        uint8_t *pixels = malloc((size_t)(w * h));
        for (int j = 0; j < w * h; j++) pixels[j] = (uint8_t)(j * 2654435761u >> (i + 13));
        images[i] = (rot_image){pixels, w, h, 1};
        assert_int_equal(rot_geometry_grid(s->geometry, &info.preprocessor, w, h, &grids[i], &err),
                         0);
        k += (size_t)grids[i].k;
    }
    return k;
}

static void bits_ignore_batch_order_and_threads(void **state)
{
    (void)state;
    enum { OUT = 24 };
    for (int i = 0; i < N_SUBJECTS; i++) {
        const subject *s = &subjects[i];
        rot_image images[N], turned[N];
        rot_grid grids[N], turned_grids[N];
        rot_err err;
        make_checkpoint(s->arch);
        size_t k = make_images(s, images, grids), row = OUT * 2, at = 0, to = 0;
        const char *backends[] = {"ref", "onednn"};
        for (int b = 0; b < 2; b++, at = to = 0) {
            rot_encoder *two = open_encoder(s, backends[b], ROT_DTYPE_BF16, 2);
            rot_encoder *one = open_encoder(s, backends[b], ROT_DTYPE_BF16, 1);
            if (!two) continue;
            unsigned char *all = malloc(k * row), *other = malloc(k * row);
            assert_int_equal(rot_encoder_encode(two, images, grids, N, all, &err), 0);
            for (int n = 0; n < N; at += (size_t)grids[n++].k) {
                assert_int_equal(rot_encoder_encode(one, images + n, grids + n, 1, other, &err), 0);
                assert_memory_equal(other, all + at * row, (size_t)grids[n].k * row);
                turned[N - 1 - n] = images[n], turned_grids[N - 1 - n] = grids[n];
            }
            assert_int_equal(rot_encoder_encode(one, turned, turned_grids, N, other, &err), 0);
            for (int n = N - 1; n >= 0; to += (size_t)grids[n--].k) {
                at -= (size_t)grids[n].k;
                assert_memory_equal(other + to * row, all + at * row, (size_t)grids[n].k * row);
            }
            free(all), free(other);
            rot_encoder_close(&two);
            rot_encoder_close(&one);
        }
        for (int n = 0; n < N; n++) free((void *)(uintptr_t)images[n].pixels);
    }
}

static void failed_allocations_are_reported(void **state)
{
    (void)state;
    for (int i = 0; i < N_SUBJECTS; i++) {
        const subject *s = &subjects[i];
        rot_image images[N];
        rot_grid grids[N];
        make_checkpoint(s->arch);
        size_t k = make_images(s, images, grids);
        float *out = malloc(k * 24 * sizeof *out);
        int failures = 0, done = 0;
        for (long n = 1; n < 5000 && !done; n += n < 40 ? 1 : 17) {
            rot_encoder_options o = rot_encoder_options_default();
            rot_encoder *e = NULL;
            rot_err err = {0};
            o.checkpoint = checkpoint;
            o.geometry = s->geometry;
            o.backend = "ref";
            o.dtype = ROT_DTYPE_F32;
            o.threads = 1;
            rot_mem_fail_at(n);
            int rc = rot_encoder_open(&o, &e, &err);
            if (rc == 0) rc = rot_encoder_encode(e, images + 1, grids + 1, 1, out, &err);
            rot_mem_fail_at(0);
            if (rc < 0) assert_int_equal(rc, ROT_ERR_NO_MEMORY);
            failures += rc < 0;
            done = rc == 0;
            rot_encoder_close(&e);
        }
        assert_true(done && failures > 20);
        free(out);
        for (int n = 0; n < N; n++) free((void *)(uintptr_t)images[n].pixels);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(released_sizes_of_qwen25),
        cmocka_unit_test(sizes_of_llava),
        cmocka_unit_test(windows_are_a_permutation),
        cmocka_unit_test(windows_are_undone),
        cmocka_unit_test(bits_ignore_batch_order_and_threads),
        cmocka_unit_test(failed_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
