// What tiles cost on this processor, where docs/benchmarks.md says why the encoder is as fast as it
// is: the clock beside tiles, vector work beside a TDPBF16PS, the parts of a product's task one
// after another. Random data, one thread, its own processor time, best of 5. amx_limits: TSV.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cpu.h"

#ifdef __x86_64__
#include "kernels/amx/tiles.h"

enum { BLOCK = 1024, CHUNK = 16, PASSES = 5, MB = 1 << 20 }; // elements of 32 x 32; blocks of k

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint16_t *random_bf16(size_t n)
{
    uint16_t *x = aligned_alloc(2 * MB, (n * 2 + 2 * MB - 1) / (2 * MB) * (2 * MB));
    uint64_t s = 88172645463325252u;
    for (size_t i = 0; i < n; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        float f = (float)(s >> 20 & 0xffff) / 65536.f - .5f;
        uint32_t u;
        memcpy(&u, &f, 4);
        x[i] = (uint16_t)(u >> 16);
    }
    return x;
}

static rot_tiles tiles;

// Four products of 32 rows, 32 columns, 32 of k; `beside` stands in the middle.
#define BLOCK_OF(a, b, beside)                                                                     \
    do {                                                                                           \
        rot_tile_load(&tiles, 6, b, ROT_TILE_BYTES);                                               \
        rot_tile_stream(&tiles, 4, a, ROT_TILE_BYTES);                                             \
        rot_tile_dot(&tiles, 0, 4, 6);                                                             \
        rot_tile_load(&tiles, 7, (b) + 512, ROT_TILE_BYTES);                                       \
        rot_tile_dot(&tiles, 1, 4, 7);                                                             \
        beside;                                                                                    \
        rot_tile_stream(&tiles, 5, (a) + 512, ROT_TILE_BYTES);                                     \
        rot_tile_dot(&tiles, 2, 5, 6);                                                             \
        rot_tile_dot(&tiles, 3, 5, 7);                                                             \
    } while (0)

// Nanoseconds of a block of products with a chain of n multiplications of 3 cycles beside it.
static double with_chain(const uint16_t *data, int n)
{
    enum { TURNS = 300000 };
    double best = 1e9;
    uint64_t x = 3;
    for (int pass = 0; pass < PASSES; pass++) {
        rot_tiles_begin(&tiles);
        double start = now();
        for (int i = 0; i < TURNS; i++) {
            const uint16_t *a = data + i % 8 * BLOCK;
            if (n >= 0) BLOCK_OF(a, a + 8 * BLOCK, (void)0);
            for (int c = 0; c < abs(n); c++) __asm__ volatile("imul %0, %0" : "+r"(x));
        }
        double took = (now() - start) / TURNS * 1e9;
        rot_tiles_end(&tiles);
        if (took < best) best = took;
    }
    return best;
}

// The same with n fused multiply-adds of 512 bits, none of which waits for another.
static double with_vectors(const uint16_t *data, int n)
{
    enum { TURNS = 300000 };
    double best = 1e9;
    for (int pass = 0; pass < PASSES; pass++) {
        rot_tiles_begin(&tiles);
        double start = now();
        for (int i = 0; i < TURNS; i++) {
            const uint16_t *a = data + i % 8 * BLOCK;
            BLOCK_OF(a, a + 8 * BLOCK, {
                for (int c = 0; c < n; c += 8)
                    __asm__ volatile("vfmadd231ps %%zmm30, %%zmm31, %%zmm0\n"
                                     "vfmadd231ps %%zmm30, %%zmm31, %%zmm1\n"
                                     "vfmadd231ps %%zmm30, %%zmm31, %%zmm2\n"
                                     "vfmadd231ps %%zmm30, %%zmm31, %%zmm3\n"
                                     "vfmadd231ps %%zmm30, %%zmm31, %%zmm4\n"
                                     "vfmadd231ps %%zmm30, %%zmm31, %%zmm5\n"
                                     "vfmadd231ps %%zmm30, %%zmm31, %%zmm6\n"
                                     "vfmadd231ps %%zmm30, %%zmm31, %%zmm7\n" ::
                                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                                           "xmm7");
            });
        }
        double took = (now() - start) / TURNS * 1e9;
        rot_tiles_end(&tiles);
        if (took < best) best = took;
    }
    return best;
}

// GFLOP/s over chunks of 16 blocks of k whose weights stay: rows from a_bytes of memory; partial
// sums, if sums_bytes, stored there and loaded again.
static double chunks(const uint16_t *a, const uint16_t *b, size_t a_bytes, float *sums,
                     size_t sums_bytes)
{
    enum { STEPS = 20000, ROW = 128 };
    double best = 1e9;
    for (int pass = 0; pass < PASSES; pass++) {
        float *held = NULL;
        size_t row = 0, at = 0;
        rot_tiles_begin(&tiles);
        double start = now();
        for (int step = 0; step < STEPS; step++) {
            float *here = sums + at;
#define SUMS(t, offset)                                                                            \
    do {                                                                                           \
        if (sums_bytes && held) rot_tile_store(&tiles, t, held + (offset), ROW);                   \
        if (sums_bytes)                                                                            \
            rot_tile_load(&tiles, t, here + (offset), ROW);                                        \
        else                                                                                       \
            rot_tile_zero(&tiles, t);                                                              \
    } while (0)
            SUMS(0, 0);
            SUMS(1, 16);
            SUMS(2, 512);
            SUMS(3, 528);
            for (int k = 0; k < CHUNK; k++) BLOCK_OF(a + row + k * BLOCK, b + k * BLOCK, (void)0);
            held = here;
            row = (row + CHUNK * BLOCK) % (a_bytes / 2);
            if (sums_bytes) at = (at + BLOCK) % (sums_bytes / 4);
        }
        double took = (now() - start) / STEPS;
        rot_tiles_end(&tiles);
        if (took < best) best = took;
    }
    return CHUNK * 65536.0 / best / 1e9;
}

static void run(void)
{
    const uint16_t *data = random_bf16(MB);
    uint16_t *zeros = aligned_alloc(64, 32 * BLOCK);
    float *sums = aligned_alloc(2 * MB, 2 * MB);
    memset(zeros, 0, 32 * BLOCK), memset(sums, 0, 2 * MB);
    enum { CHAIN = 32 }; // 96 cycles, more than the products take
    printf("clock, GHz\talone\t%.2f\n", 3 * CHAIN / with_chain(data, -CHAIN));
    printf("clock, GHz\tbeside tiles of zeros\t%.2f\n", 3 * CHAIN / with_chain(zeros, CHAIN));
    const double clock = 3 * CHAIN / with_chain(data, CHAIN);
    printf("clock, GHz\tbeside random tiles\t%.2f\n", clock);
    for (int n = 0; n <= 128; n += 32)
        printf("cycles of a TDPBF16PS\t%d fused multiply-adds beside it\t%.1f\n", n / 4,
               with_vectors(data, n) * clock / 4);
    const double ceiling = chunks(data, data + MB / 2, CHUNK * BLOCK * 2, sums, 0);
    const struct {
        const char *what;
        size_t a_bytes, sums_bytes;
    } cases[] = {{"rows from the second level", MB / 2, 0},
                 {"and 8 KB of sums", MB / 2, 8192},
                 {"and 32 KB of sums", MB / 2, 32768},
                 {"and 256 KB of sums", MB / 2, 262144}};
    printf("GFLOP/s\trows and weights from the first level\t%.0f\n", ceiling);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        printf("of that\t%s\t%.3f\n", cases[i].what,
               chunks(data, data + MB / 2, cases[i].a_bytes, sums, cases[i].sums_bytes) / ceiling);
    free((void *)(uintptr_t)data), free(zeros), free(sums);
}
#else
static void run(void)
{
}
#endif

int main(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    rot_cpu cpu;
    rot_err err;
    if (rot_cpu_detect(&cpu, &err) < 0 || !cpu.amx ||
        syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA)) {
        fputs("amx_limits: no AMX here\n", stderr);
        return 1;
    }
    run();
    return 0;
}
