// How near the whole tower comes to the processor's bfloat16 ceiling: the 4B shape, random weights
// and pixels, images of 300, 80 and 376 patches, the last also alone, one thread and all. One TSV
// row per case, then where its time went. The ceiling (TDPBF16PS or VDPBF16PS on random data from
// the first-level cache) is measured before and after every pass, so that what else the machine
// does weighs on both. encode [CHECKPOINT [THREADS [cpu]]]: without a checkpoint, a random 4B one
// (0.8 GB) is made in TMPDIR and removed. `cpu` counts the processor's time instead of the wall
// clock's: what one thread can do on a machine that others use. bench/encode_peer.py lets
// transformers and us take turns: `serve` instead of `cpu` is for that. encode --device cuda
// [CHECKPOINT]: on a GPU, without a ceiling; bench/encode_cuda.py runs it between its own
// measurements.
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/threads.h"
#include "rotoscope/rotoscope.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { PASSES = 7, MAX_IMAGES = 1024 };

static clockid_t clock_used = CLOCK_MONOTONIC;
static bool on_device; // a GPU: no ceiling here

static double now(void)
{
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t draw(uint64_t *s)
{
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return *s;
}

// 32 KiB of random bfloat16 in [-0.5, 0.5).
static uint16_t *random_block(uint64_t seed)
{
    uint16_t *data = aligned_alloc(64, 32768);
    for (int i = 0; i < 16384; i++) {
        float f = (float)(draw(&seed) >> 20 & 0xffff) / 65536.f - .5f;
        uint32_t u;
        memcpy(&u, &f, 4);
        data[i] = (uint16_t)(u >> 16);
    }
    return data;
}

#ifdef __x86_64__
// C (8, 48) += A (8, 128) B (128, 48), blocks times, all from the first-level cache. Returns its
// FLOP.
__attribute__((target("avx512f,avx512bf16"))) static double dot_avx512(const uint16_t *data,
                                                                       long blocks, float *sink)
{
    const uint32_t *a = (const uint32_t *)(data + 12288);
    const __m512i *b = (const __m512i *)data;
    __m512 c[8][3];
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 3; j++) c[i][j] = _mm512_setzero_ps();
    for (long n = 0; n < blocks; n++)
        for (int k = 0; k < 64; k++) {
            __m512i b0 = b[3 * k], b1 = b[3 * k + 1], b2 = b[3 * k + 2];
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[i * 64 + k]);
                c[i][0] = _mm512_dpbf16_ps(c[i][0], x, (__m512bh)b0);
                c[i][1] = _mm512_dpbf16_ps(c[i][1], x, (__m512bh)b1);
                c[i][2] = _mm512_dpbf16_ps(c[i][2], x, (__m512bh)b2);
            }
        }
    for (int i = 0; i < 24; i++) *sink += _mm512_reduce_add_ps(c[i / 3][i % 3]);
    return (double)blocks * 64 * 24 * 64;
}

// 2 x 2 tiles of 16 x 16 sums; A and B tiles loaded from the first-level cache.
__attribute__((target("amx-tile,amx-bf16"))) static double dot_amx(const uint16_t *data,
                                                                   long blocks, float *sink)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t column_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    float out[16 * 16];
    for (int t = 0; t < 8; t++) config.column_bytes[t] = 64, config.rows[t] = 16;
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long n = 0; n < blocks; n++)
        for (int k = 0; k < 8; k++) { // 8 steps of 4 tiles of 1 KiB
            const uint16_t *at = data + k * 2048;
            _tile_loadd(4, at, 64);
            _tile_loadd(5, at + 512, 64);
            _tile_loadd(6, at + 1024, 64);
            _tile_loadd(7, at + 1536, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    _tile_stored(0, out, 64);
    __asm__ volatile("tilerelease" ::: "memory");
    *sink += out[0];
    return (double)blocks * 8 * 4 * 16384;
}
#endif

// GFLOP/s of `threads` threads over about 0.1 s; 0 where the processor has no bfloat16 products.
static double ceiling(const rot_cpu *cpu, int threads)
{
    double flop = 0, start = now();
    if (!cpu->amx && !cpu->avx512_bf16) return 0;
#ifdef __x86_64__
#pragma omp parallel num_threads(threads) reduction(+ : flop)
    {
        float sink = 0;
        uint16_t *data = random_block(88172645463325252u + 77u * (unsigned)omp_get_thread_num());
        if (cpu->amx) {
            syscall(SYS_arch_prctl, 0x1023, 18); // ARCH_REQ_XCOMP_PERM, XTILEDATA
            flop += dot_amx(data, 200000, &sink);
        } else
            flop += dot_avx512(data, 500000 / 2 / 2, &sink);
        if (sink == 123.456f) puts("");
        free(data);
    }
#endif
    return flop / (now() - start) / 1e9;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double work_of(const rot_encoder *encoder)
{
    size_t n;
    double work = 0;
    const rot_encoder_stage *stages = rot_encoder_stages(encoder, &n);
    for (size_t i = 0; i < n; i++) work += stages[i].work;
    return work;
}

static void print_profile(const rot_encoder *encoder, const double *seconds_before,
                          const double *work_before)
{
    size_t n;
    const rot_encoder_stage *stages = rot_encoder_stages(encoder, &n);
    double total = 0;
    for (size_t i = 0; i < n; i++) total += stages[i].seconds - seconds_before[i];
    for (size_t i = 0; i < n; i++) {
        double s = stages[i].seconds - seconds_before[i], w = stages[i].work - work_before[i];
        printf("#   %-18s %5.1f %%", stages[i].name ? stages[i].name : "-", 100 * s / total);
        if (w > 0 && clock_used == CLOCK_MONOTONIC) printf("  %6.0f GFLOP/s", w / s / 1e9);
        putchar('\n');
    }
}

typedef struct workload {
    rot_image images[MAX_IMAGES];
    rot_grid grids[MAX_IMAGES];
    size_t n;
    void *out;
} workload;

// Noise, 32 pixels high: 2 rows of patches. Native geometry, so that the count is exact.
static int make_workload(workload *w, const rot_encoder_info *info, int patches, size_t n,
                         rot_err *err)
{
    int width = patches / 2 * 16;
    size_t tokens = 0;
    uint64_t seed = 0x9e3779b97f4a7c15u;
    w->n = n;
    for (size_t i = 0; i < n; i++) {
        uint8_t *pixels = malloc((size_t)width * 32);
        for (int p = 0; p < width * 32; p++) pixels[p] = (uint8_t)(draw(&seed) >> 30);
        w->images[i] = (rot_image){pixels, width, 32, 1};
        if (rot_geometry_grid(ROT_GEOMETRY_NATIVE, &info->preprocessor, width, 32, &w->grids[i],
                              err) < 0)
            return -1;
        tokens += (size_t)w->grids[i].k;
    }
    w->out = malloc(tokens * (size_t)(info->out_width * (1 + info->n_taps)) * 4);
    return 0;
}

static void free_workload(workload *w)
{
    for (size_t i = 0; i < w->n; i++) free((void *)(uintptr_t)w->images[i].pixels);
    free(w->out);
}

static int run_case(const rot_cpu *cpu, rot_encoder *encoder, const rot_encoder_info *info,
                    int threads, int patches, size_t n_images, rot_err *err)
{
    workload w;
    double rate[PASSES], top[PASSES], ratio[PASSES], seconds[32], work[32];
    if (make_workload(&w, info, patches, n_images, err) < 0) return -1;
    if (rot_encoder_encode(encoder, w.images, w.grids, w.n, w.out, err) < 0) return -1; // warm
    size_t n_stages;
    const rot_encoder_stage *stages = rot_encoder_stages(encoder, &n_stages);
    for (size_t i = 0; i < n_stages; i++) seconds[i] = stages[i].seconds, work[i] = stages[i].work;
    double flop = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        double before = on_device ? 0 : ceiling(cpu, threads), done = work_of(encoder),
               start = now();
        if (rot_encoder_encode(encoder, w.images, w.grids, w.n, w.out, err) < 0) return -1;
        double took = now() - start, after = on_device ? 0 : ceiling(cpu, threads);
        flop = work_of(encoder) - done;
        rate[pass] = (double)w.n / took;
        top[pass] = before > after ? before : after;
        ratio[pass] = top[pass] > 0 ? flop / took / 1e9 / ((before + after) / 2) : 0;
    }
    if (on_device) { // once more, waiting after each operation, for the profile
        for (size_t i = 0; i < n_stages; i++)
            seconds[i] = stages[i].seconds, work[i] = stages[i].work;
        rot_encoder_profile(encoder, true);
        if (rot_encoder_encode(encoder, w.images, w.grids, w.n, w.out, err) < 0) return -1;
        rot_encoder_profile(encoder, false);
        stages = rot_encoder_stages(encoder, &n_stages);
    }
    qsort(rate, PASSES, sizeof *rate, ascending);
    qsort(top, PASSES, sizeof *top, ascending);
    qsort(ratio, PASSES, sizeof *ratio, ascending);
    double per_image = flop / (double)w.n / 1e9, best = rate[PASSES - 1];
    printf("%s\t%d\t%d\t%zu\t%.2f\t%.2f\t%.0f\t%.0f\t%.2f\t%.2f\t%s\n", info->backend, threads,
           patches, n_images, best, rate[PASSES / 2], best * per_image, top[PASSES - 1],
           top[PASSES - 1] > 0 ? best * per_image / top[PASSES - 1] : 0, ratio[PASSES / 2],
           cpu->name);
    print_profile(encoder, seconds, work);
    char note[512];
    rot_encoder_note(encoder, note, sizeof note);
    if (*note) printf("#   %s\n", note);
    fflush(stdout);
    free_workload(&w);
    return 0;
}

static int run_all(const char *checkpoint, int first, rot_err *err)
{
    rot_cpu cpu;
    if (rot_cpu_detect(&cpu, err) < 0) return -1;
    puts("backend\tthreads\tpatches\timages\timages_per_s_best\timages_per_s_median\tgflops_"
         "best\tceiling_"
         "best\t"
         "ratio_best\tratio_median\tcpu");
    int all = rot_threads_available();
    if (clock_used != CLOCK_MONOTONIC) all = first; // of several threads it is no time
    if (on_device) first = all;
    for (int threads = first; threads <= all; threads = threads < all ? all : all + 1) {
        rot_encoder_options options = rot_encoder_options_default();
        options.checkpoint = checkpoint;
        options.geometry = ROT_GEOMETRY_NATIVE;
        options.threads = threads;
        if (on_device) options.backend = "cuda";
        rot_encoder_info info;
        rot_encoder *encoder;
        if (rot_encoder_inspect(&options, false, &info, err) < 0) return -1;
        if (rot_encoder_open(&options, &encoder, err) < 0) return -1;
        static const struct {
            int patches;
            size_t images;
        } cases[2][4] = {{{300, 16}, {80, 48}, {376, 16}, {376, 1}},      // 376: 94 merged tokens
                         {{300, 437}, {80, 1024}, {376, 348}, {376, 1}}}; // two calls' worth
        int rc = 0;
        for (int i = 0; i < 4 && rc == 0; i++)
            rc = run_case(&cpu, encoder, &info, threads, cases[on_device][i].patches,
                          cases[on_device][i].images, err);
        rot_encoder_close(&encoder);
        if (rc < 0) return rc;
    }
    return 0;
}

// Passes as asked for on stdin: a line "PATCHES IMAGES" is answered with "SECONDS GFLOP CEILING",
// so that another program can let its peer and us take turns.
static int serve(const char *checkpoint, int threads, bool deepstack, rot_err *err)
{
    rot_cpu cpu;
    rot_encoder_info info;
    rot_encoder *encoder;
    int patches, n_images;
    rot_encoder_options options = rot_encoder_options_default();
    options.checkpoint = checkpoint;
    options.geometry = ROT_GEOMETRY_NATIVE;
    options.threads = threads;
    options.deepstack = deepstack;
    if (rot_cpu_detect(&cpu, err) < 0 || rot_encoder_inspect(&options, false, &info, err) < 0 ||
        rot_encoder_open(&options, &encoder, err) < 0)
        return -1;
    printf("%s, %s\n", info.backend, cpu.name);
    fflush(stdout);
    int rc = 0;
    while (rc == 0 && scanf("%d %d", &patches, &n_images) == 2 && patches > 1 && n_images > 0 &&
           n_images <= MAX_IMAGES) {
        workload w;
        if ((rc = make_workload(&w, &info, patches, (size_t)n_images, err)) < 0) break;
        double before = ceiling(&cpu, threads), done = work_of(encoder), start = now();
        rc = rot_encoder_encode(encoder, w.images, w.grids, w.n, w.out, err);
        double took = now() - start, after = ceiling(&cpu, threads);
        printf("%.6f %.3f %.1f\n", took, (work_of(encoder) - done) * 1e-9, (before + after) / 2);
        fflush(stdout);
        free_workload(&w);
    }
    rot_encoder_close(&encoder);
    return rc;
}

// The build has the device's library a folder above its benchmarks.
static void name_library(void)
{
    char path[4096];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    if (n <= 0) return;
    path[n] = 0;
    *strrchr(path, '/') = 0;
    strcat(path, "/../librotoscope_cuda.so");
    if (access(path, R_OK) == 0) setenv("ROT_CUDA_LIB", path, 0);
}

int main(int argc, char **argv)
{
    rot_err err = {0};
    if (argc > 2 && !strcmp(argv[1], "--device") && !strcmp(argv[2], "cuda")) {
        on_device = true, argc -= 2, argv += 2;
        name_library();
    }
    char made[512] = "", command[600];
    const char *checkpoint = argc > 1 ? argv[1] : made;
    int rc = 0;
    if (argc > 3 && !strcmp(argv[3], "cpu")) clock_used = CLOCK_PROCESS_CPUTIME_ID;
    if (argc < 2) {
        const char *tmp = getenv("TMPDIR");
        snprintf(made, sizeof made, "%s/rotoscope-bench-4b-%ld", tmp ? tmp : "/tmp",
                 (long)getpid());
        rot_init_model_options options = rot_init_model_options_default();
        options.dir = made;
        options.arch = "4b";
        rc = rot_init_model(&options, &err);
    }
    if (rc == 0 && argc > 3 && !strncmp(argv[3], "serve", 5))
        rc = serve(checkpoint, atoi(argv[2]), !strcmp(argv[3], "serve-deepstack"), &err);
    else if (rc == 0)
        rc = run_all(checkpoint, argc > 2 ? atoi(argv[2]) : 1, &err);
    if (rc < 0) fprintf(stderr, "encode: %s\n", err.message);
    if (argc < 2) {
        snprintf(command, sizeof command, "rm -rf '%s'", made);
        if (system(command)) rc = -1;
    }
    return rc < 0;
}
