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
        memcpy(to, packed + rot_amx_at(width, row, c), piece * sizeof *to);
        to += piece, n -= piece, c += piece;
        if (c == width) c = 0, row++;
    }
}

// A tile of weights: 16 columns, 16 pairs of k. `b` is its first column's first element.
ROT_AVX512_TARGET static void pack_tile_rows(const uint16_t *b, size_t ld, size_t columns, size_t k,
                                             uint16_t *tile)
{
    if (columns >= 16 && k >= 32) { // 16 columns' pair at a time
        __m512i step = _mm512_mullo_epi32(
            _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
            _mm512_set1_epi32((int)ld));
        for (int p = 0; p < 16; p++) // scale 2: bytes of an element
            _mm512_storeu_si512(tile + p * 32, _mm512_i32gather_epi32(step, b + 2 * p, 2));
        return;
    }
    for (size_t j = 0; j < 16; j++)
        for (size_t p = 0; p < 32; p++)
            tile[p / 2 * 32 + j * 2 + p % 2] = j < columns && p < k ? b[j * ld + p] : 0;
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
