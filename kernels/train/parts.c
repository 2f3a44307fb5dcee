#include "kernels/train/parts.h"

#include "kernels/avx512.h"
#include "kernels/train/tile.h"

#ifdef __x86_64__
#define UNROLL _Pragma("GCC unroll 4")

enum { MOST = ROT_PARTS_F32, COLUMNS = 32, AHEAD = 64 * COLUMNS };

// The parts of sixteen floats, each in the upper half of its lane. `parts` is a literal.
ROT_AVX512_INLINE void split(int parts, __m512 x, __m512i out[MOST])
{
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000u), half = _mm512_set1_epi32(0x8000);
    if (parts == 1) {
        out[0] = rot_avx512_upper_bf16(x);
        return;
    }
    UNROLL
    for (int i = 0; i < parts - 1; i++) {
        out[i] = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper);
        x = _mm512_sub_ps(x, _mm512_castsi512_ps(out[i])); // exact
    }
    out[parts - 1] = _mm512_castps_si512(x); // 8 bits are left
}

// Words of the parts of two floats a lane.
ROT_AVX512_INLINE void pairs(int parts, __m512 first, __m512 second, __m512i out[MOST])
{
    __m512i low[MOST], high[MOST];
    split(parts, first, low);
    split(parts, second, high);
    UNROLL
    for (int i = 0; i < parts; i++)
        out[i] = _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(low[i], 16), high[i]);
}

ROT_AVX512_INLINE void row(int parts, const float *x, size_t n, uint32_t *out)
{
    for (size_t at = 0; at < n; at += 32, out += parts * ROT_PART_WORDS) {
        __mmask16 m0 = rot_avx512_lanes(at, n), m1 = 0;
        if (n - at > 16) m1 = rot_avx512_lanes(at + 16, n);
        __m512i low[MOST], high[MOST];
        split(parts, _mm512_maskz_loadu_ps(m0, x + at), low);
        split(parts, _mm512_maskz_loadu_ps(m1, x + at + 16), high);
        UNROLL
        for (int i = 0; i < parts; i++) {
            __m256i a = _mm512_cvtepi32_epi16(_mm512_srli_epi32(low[i], 16));
            __m256i b = _mm512_cvtepi32_epi16(_mm512_srli_epi32(high[i], 16));
            _mm512_storeu_si512(out + i * ROT_PART_WORDS,
                                _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1));
        }
    }
}

ROT_AVX512_TARGET void rot_parts_row(int parts, const float *x, size_t n, uint32_t *out)
{
    if (parts == 1)
        row(1, x, n, out);
    else
        row(MOST, x, n, out);
}

ROT_AVX512_INLINE void columns(int parts, const float *x, size_t stride, size_t k, size_t n,
                               uint32_t *out)
{
    uint32_t turned[MOST][16][16]; // pair of k, column
    __mmask16 m = rot_avx512_lanes(0, n);
    for (size_t p = 0; p < 16; p++) {
        __m512 first = _mm512_setzero_ps(), second = first;
        __m512i words[MOST];
        if (2 * p < k) first = _mm512_maskz_loadu_ps(m, x + 2 * p * stride);
        if (2 * p + 1 < k) second = _mm512_maskz_loadu_ps(m, x + (2 * p + 1) * stride);
        pairs(parts, first, second, words);
        UNROLL
        for (int i = 0; i < parts; i++) _mm512_storeu_si512(turned[i][p], words[i]);
    }
    for (int i = 0; i < parts; i++)
        rot_tile_transpose(turned[i], 16, 16, 16, out + i * ROT_PART_WORDS, 16);
}

ROT_AVX512_TARGET void rot_parts_columns(int parts, const float *x, size_t stride, size_t k,
                                         size_t n, uint32_t *out)
{
    if (parts == 1)
        columns(1, x, stride, k, n, out);
    else
        columns(MOST, x, stride, k, n, out);
}

ROT_AVX512_TARGET void rot_parts_panel(const float *panel, size_t k_blocks, uint32_t *out)
{
    for (size_t p = 0; p < 16 * k_blocks; p++, panel += 2 * COLUMNS) {
        uint32_t *to = out + p / 16 * MOST * ROT_PART_WORDS + p % 16 * COLUMNS;
        UNROLL
        for (size_t c = 0; c < COLUMNS; c += 16) {
            __m512i words[MOST];
            _mm_prefetch((const char *)(panel + AHEAD + c), _MM_HINT_T0);
            _mm_prefetch((const char *)(panel + AHEAD + COLUMNS + c), _MM_HINT_T0);
            pairs(MOST, _mm512_loadu_ps(panel + c), _mm512_loadu_ps(panel + COLUMNS + c), words);
            UNROLL
            for (int i = 0; i < MOST; i++)
                _mm512_storeu_si512(to + i * ROT_PART_WORDS + c, words[i]);
        }
    }
}
#endif
