// Packed layouts: rows in blocks, weights in pairs of k. See amx.h.
#ifdef __x86_64__
#include <string.h>

#include "kernels/amx/amx.h"
#include "kernels/avx512.h"

void rot_amx_put_row(uint16_t *packed, size_t width, size_t row, const uint16_t *from)
{
    uint16_t *to = packed + rot_amx_at(width, row, 0);
    for (size_t c = 0; c < width; c += 32, to += ROT_AMX_ELEMS) {
        size_t n = width - c < 32 ? width - c : 32;
        if (n == 32) { // of a known size: no call
            memcpy(to, from + c, 32 * sizeof *to);
            continue;
        }
        memcpy(to, from + c, n * sizeof *to);
        memset(to + n, 0, (32 - n) * sizeof *to);
    }
}

void rot_amx_get(const uint16_t *packed, size_t width, size_t first, size_t n, uint16_t *to)
{
    size_t row = first / width, c = first % width;
    while (n) {
        size_t piece = 32 - c % 32;
        if (piece > width - c) piece = width - c;
        if (piece > n) piece = n;
        const uint16_t *from = packed + rot_amx_at(width, row, c);
        if (piece == 32)
            memcpy(to, from, 32 * sizeof *to);
        else
            memcpy(to, from, piece * sizeof *to);
        to += piece, n -= piece, c += piece;
        if (c == width) c = 0, row++;
    }
}

// Sixteen rows of sixteen pairs: columns become rows.
ROT_AVX512_INLINE void transpose_pairs(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
            r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
        }
    for (int i = 0; i < 4; i++)
        for (int half = 0; half < 2; half++) {
            __m512i x = r[8 * half + i], y = r[8 * half + 4 + i];
            t[8 * half + i] = _mm512_shuffle_i32x4(x, y, 0x88);
            t[8 * half + 4 + i] = _mm512_shuffle_i32x4(x, y, 0xdd);
        }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    }
}

// A tile of weights: 16 columns, 16 pairs of k. `b` is its first column's first element.
ROT_AVX512_TARGET static void pack_tile_rows(const uint16_t *b, size_t ld, size_t columns, size_t k,
                                             uint16_t *tile)
{
    __mmask32 m = k >= 32 ? 0xffffffffu : (1u << k) - 1;
    __m512i pairs[16];
    for (size_t j = 0; j < 16; j++)
        pairs[j] = j < columns ? _mm512_maskz_loadu_epi16(m, b + j * ld) : _mm512_setzero_si512();
    transpose_pairs(pairs);
    for (size_t p = 0; p < 16; p++) _mm512_storeu_si512(tile + p * 32, pairs[p]);
}

void rot_amx_pack_rows(const uint16_t *b, size_t columns, size_t k, uint16_t *packed)
{
    for (size_t n = 0; n < columns; n += 32)
        for (size_t p = 0; p < k; p += 32)
            for (size_t half = n; half < n + 32; half += 16, packed += ROT_AMX_TILE)
                pack_tile_rows(half < columns ? b + half * k + p : b, k,
                               half < columns ? columns - half : 0, k - p, packed);
}

ROT_AVX512_TARGET static void pack_tile_columns(const uint16_t *b, size_t ld, size_t columns,
                                                size_t k, uint16_t *tile)
{
    __mmask16 m = columns >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << columns) - 1);
    for (size_t p = 0; p < 32; p += 2) {
        __m512i even = _mm512_setzero_si512(), odd = _mm512_setzero_si512();
        if (p < k) even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, b + p * ld));
        if (p + 1 < k) odd = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, b + (p + 1) * ld));
        _mm512_storeu_si512(tile + p * 16, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
    }
}

void rot_amx_pack_columns(const uint16_t *b, size_t k, size_t columns, uint16_t *packed)
{
    for (size_t n = 0; n < columns; n += 32)
        for (size_t p = 0; p < k; p += 32)
            for (size_t half = n; half < n + 32; half += 16, packed += ROT_AMX_TILE)
                pack_tile_columns(half < columns ? b + p * columns + half : b, columns,
                                  half < columns ? columns - half : 0, k - p, packed);
}

#endif
typedef int rot_amx_layout_unit; // elsewhere the file is not empty
