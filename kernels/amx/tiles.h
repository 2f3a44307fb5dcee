// Every tile operation of the amx backend, twice: the instructions, and C that gives the same bits
// (ROT_AMX_EMULATE, chosen per object: real.c, emulated.c). A tile is 16 rows of 64 bytes; there
// are eight, and one configuration, all of them full: what is smaller is padded with zeros.
//
// TDPBF16PS (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2): for each row
// m and column n of the destination two chains of fused multiply-adds start at zero and run over
// k = 0..15, one over the even factors of each pair, one over the odd ones; the two are added, and
// the sum is added to the destination. Every step rounds to nearest even; denormal inputs and
// results are zero; MXCSR is neither read nor written.
//
// The compiler knows nothing of tiles. A "memory" clobber orders them among ordinary loads and
// stores, the configuration is an operand as a whole, and both hold for every operation here.
#ifndef ROT_KERNELS_AMX_TILES_H
#define ROT_KERNELS_AMX_TILES_H

#include <stdint.h>
#include <string.h>

#include "kernels/avx512.h"

enum { ROT_TILE_ROWS = 16, ROT_TILE_BYTES = 64 };

#ifndef ROT_AMX_EMULATE

// (lower, upper), rounded to bfloat16: to nearest even, denormals are zero, as tiles see them.
ROT_AVX512_INLINE __m512i rot_tile_round(__m512 lower, __m512 upper)
{
    __m512i both;
    __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(both) : "v"(lower), "v"(upper));
    return both;
}

typedef struct rot_tiles { // the operand of ldtilecfg, palette 1
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} rot_tiles;
_Static_assert(sizeof(rot_tiles) == 64, "ldtilecfg reads 64 bytes");

// Before a thread's first tile, and after anything that may have released them (oneDNN does).
static inline void rot_tiles_begin(rot_tiles *tiles)
{
    *tiles = (rot_tiles){.palette = 1};
    for (int t = 0; t < 8; t++) {
        tiles->row_bytes[t] = ROT_TILE_BYTES;
        tiles->rows[t] = ROT_TILE_ROWS;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(*tiles) : "memory");
}

static inline void rot_tiles_end(rot_tiles *tiles)
{
    (void)tiles;
    __asm__ volatile("tilerelease" ::: "memory");
}

// Numbers of tiles are literals. `step`: bytes from row to row.
#define rot_tile_zero(tiles, t) __asm__ volatile("tilezero %%tmm" #t ::: "memory")
#define rot_tile_load(tiles, t, at, step)                                                          \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(at), "r"((long)(step)) : "memory")
// The same for what is read once: it does not push the other operand out of the first-level cache.
#define rot_tile_stream(tiles, t, at, step)                                                        \
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm" #t ::"r"(at), "r"((long)(step)) : "memory")
#define rot_tile_store(tiles, t, at, step)                                                         \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(at), "r"((long)(step)) : "memory")
#define rot_tile_dot(tiles, c, a, b)                                                               \
    __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::: "memory")

#else

ROT_AVX512_INLINE __m256i rot_tile_round_half(__m512 x)
{
    const __m512i tiny = _mm512_set1_epi32(0x00800000), sign = _mm512_set1_epi32((int)0x80000000u);
    __m512i bits = _mm512_castps_si512(x);
    __mmask16 denormal = _mm512_cmplt_epu32_mask(_mm512_andnot_si512(sign, bits), tiny);
    return rot_avx512_to_bf16(
        _mm512_castsi512_ps(_mm512_mask_and_epi32(bits, denormal, bits, sign)));
}

ROT_AVX512_INLINE __m512i rot_tile_round(__m512 lower, __m512 upper)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(rot_tile_round_half(lower)),
                              rot_tile_round_half(upper), 1);
}

typedef struct rot_tiles {
    _Alignas(64) uint8_t tile[8][ROT_TILE_ROWS][ROT_TILE_BYTES];
} rot_tiles;

static inline void rot_tiles_begin(rot_tiles *tiles)
{
    memset(tiles, 0, sizeof *tiles);
}

static inline void rot_tiles_end(rot_tiles *tiles)
{
    memset(tiles, 0xff, sizeof *tiles); // a use after the end gives NaN
}

static inline void rot_tile_zero(rot_tiles *tiles, int t)
{
    memset(tiles->tile[t], 0, sizeof tiles->tile[t]);
}

static inline void rot_tile_load(rot_tiles *tiles, int t, const void *from, size_t stride)
{
    for (size_t i = 0; i < ROT_TILE_ROWS; i++)
        memcpy(tiles->tile[t][i], (const uint8_t *)from + i * stride, ROT_TILE_BYTES);
}

static inline void rot_tile_stream(rot_tiles *tiles, int t, const void *from, size_t stride)
{
    rot_tile_load(tiles, t, from, stride);
}

static inline void rot_tile_store(rot_tiles *tiles, int t, void *to, size_t stride)
{
    for (size_t i = 0; i < ROT_TILE_ROWS; i++)
        memcpy((uint8_t *)to + i * stride, tiles->tile[t][i], ROT_TILE_BYTES);
}

// Under MXCSR with denormals as zeros. Not inlined: nothing of it may move out of that.
ROT_AVX512_TARGET static __attribute__((noinline)) void rot_tile_dot_rows(rot_tiles *tiles, int c,
                                                                          int a, int b)
{
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000u);
    for (int m = 0; m < ROT_TILE_ROWS; m++) {
        __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
        for (int k = 0; k < 16; k++) {
            int32_t pair;
            memcpy(&pair, tiles->tile[a][m] + 4 * k, sizeof pair);
            __m512i x = _mm512_set1_epi32(pair), y = _mm512_load_si512(tiles->tile[b][k]);
            even = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(x, 16)),
                                   _mm512_castsi512_ps(_mm512_slli_epi32(y, 16)), even);
            odd = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(x, upper)),
                                  _mm512_castsi512_ps(_mm512_and_si512(y, upper)), odd);
        }
        float *to = (float *)(void *)tiles->tile[c][m];
        _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to), _mm512_add_ps(even, odd)));
    }
}

static inline void rot_tile_dot(rot_tiles *tiles, int c, int a, int b)
{
    enum { MASKED = 0x1f80, ZEROS = 0x8040 }; // exceptions masked, nearest even; FTZ and DAZ
    unsigned before = _mm_getcsr();
    _mm_setcsr(MASKED | ZEROS);
    rot_tile_dot_rows(tiles, c, a, b);
    _mm_setcsr(before);
}

#endif

#endif
