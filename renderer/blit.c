#include "renderer/blit.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Porter-Duff "over" of two coverages, as Pillow from 10.2 on.
static inline uint8_t over(uint8_t mask, uint8_t glyph)
{
    return (uint8_t)(glyph + rot_div255((uint32_t)mask * (255u - glyph)));
}

static inline uint8_t larger(uint8_t mask, uint8_t glyph)
{
    return mask > glyph ? mask : glyph;
}

void rot_blit_over_c(uint8_t *mask, ptrdiff_t height, const uint8_t *columns, ptrdiff_t stride,
                     int width)
{
    for (int x = 0; x < width; x++)
        for (ptrdiff_t y = 0; y < stride; y++)
            mask[x * height + y] = over(mask[x * height + y], columns[x * stride + y]);
}

void rot_blit_max_c(uint8_t *mask, ptrdiff_t height, const uint8_t *columns, ptrdiff_t stride,
                    int width)
{
    for (int x = 0; x < width; x++)
        for (ptrdiff_t y = 0; y < stride; y++)
            mask[x * height + y] = larger(mask[x * height + y], columns[x * stride + y]);
}

void rot_blit_piece(rot_blend blend, uint8_t *mask, const uint8_t *column, int n)
{
    for (int y = 0; y < n; y++)
        mask[y] = blend == ROT_BLEND_MAX ? larger(mask[y], column[y]) : over(mask[y], column[y]);
}

#if defined(__x86_64__)
// 16 lanes of 16 bits: div255(mask * (255 - glyph)); 255 * 255 + 128 + 254 stays below 2^16.
__attribute__((target("avx2"))) static inline __m256i under(__m256i mask, __m256i glyph)
{
    __m256i a = _mm256_mullo_epi16(mask, _mm256_sub_epi16(_mm256_set1_epi16(255), glyph));
    a = _mm256_add_epi16(a, _mm256_set1_epi16(128));
    return _mm256_srli_epi16(_mm256_add_epi16(a, _mm256_srli_epi16(a, 8)), 8);
}

__attribute__((target("avx2"))) static inline void over_32(uint8_t *mask, const uint8_t *column)
{
    __m256i g = _mm256_loadu_si256((const __m256i *)column);
    __m256i m = _mm256_loadu_si256((const __m256i *)mask);
    if (!_mm256_testz_si256(m, m)) {
        __m256i zero = _mm256_setzero_si256();
        __m256i low = under(_mm256_unpacklo_epi8(m, zero), _mm256_unpacklo_epi8(g, zero));
        __m256i high = under(_mm256_unpackhi_epi8(m, zero), _mm256_unpackhi_epi8(g, zero));
        g = _mm256_add_epi8(g, _mm256_packus_epi16(low, high));
    }
    _mm256_storeu_si256((__m256i *)mask, g);
}

__attribute__((target("avx2"))) void rot_blit_over_avx2(uint8_t *mask, ptrdiff_t height,
                                                        const uint8_t *columns, ptrdiff_t stride,
                                                        int width)
{
    for (int x = 0; x < width; x++)
        for (ptrdiff_t y = 0; y < stride; y += 32)
            over_32(mask + x * height + y, columns + x * stride + y);
}

__attribute__((target("avx2"))) void rot_blit_max_avx2(uint8_t *mask, ptrdiff_t height,
                                                       const uint8_t *columns, ptrdiff_t stride,
                                                       int width)
{
    for (int x = 0; x < width; x++)
        for (ptrdiff_t y = 0; y < stride; y += 32) {
            __m256i *m = (__m256i *)(mask + x * height + y);
            const __m256i *g = (const __m256i *)(columns + x * stride + y);
            _mm256_storeu_si256(m, _mm256_max_epu8(_mm256_loadu_si256(m), _mm256_loadu_si256(g)));
        }
}
#endif

rot_blit_fn *rot_blit_choose(rot_blend blend, bool avx2)
{
#if defined(__x86_64__)
    if (avx2) return blend == ROT_BLEND_MAX ? rot_blit_max_avx2 : rot_blit_over_avx2;
#endif
    (void)avx2;
    return blend == ROT_BLEND_MAX ? rot_blit_max_c : rot_blit_over_c;
}

static void paint_grey(uint8_t *restrict pixels, const uint8_t *restrict mask, size_t n,
                       uint8_t text, uint8_t background)
{
    if (text == 0 && background == 255) { // the common case: div255(255 * (255 - m)) is 255 - m
#pragma omp simd
        for (size_t i = 0; i < n; i++) pixels[i] = (uint8_t)(255 - mask[i]);
        return;
    }
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        uint16_t m = mask[i], a = (uint16_t)(background * (255 - m) + text * m + 128);
        pixels[i] = (uint8_t)((uint16_t)((a >> 8) + a) >> 8);
    }
}

void rot_paint_plain(uint8_t *pixels, const uint8_t *mask, size_t n, int channels,
                     const uint8_t text[3], const uint8_t background[3], const uint8_t ink[3][256])
{
    if (channels == 1) {
        paint_grey(pixels, mask, n, text[0], background[0]);
        return;
    }
    uint8_t plain[24]; // eight pixels of background: most of a line
    for (int i = 0; i < 24; i++) plain[i] = background[i % 3];
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t eight;
        memcpy(&eight, mask + i, 8);
        memcpy(pixels + i * 3, plain, 24);
        if (!eight) continue;
        for (size_t k = i; k < i + 8; k++)
            for (int c = 0; c < 3; c++) pixels[k * 3 + (size_t)c] = ink[c][mask[k]];
    }
    for (; i < n; i++)
        for (int c = 0; c < 3; c++) pixels[i * 3 + (size_t)c] = ink[c][mask[i]];
}

void rot_paint_over(uint8_t *pixels, const uint8_t *mask, size_t n, int channels,
                    const uint8_t text[3])
{
    for (size_t i = 0; i < n; i++) {
        if (!mask[i]) continue;
        for (int c = 0; c < channels; c++) {
            uint8_t *p = &pixels[i * (size_t)channels + (size_t)c];
            *p = (uint8_t)rot_div255(*p * (255u - mask[i]) + (uint32_t)text[c] * mask[i]);
        }
    }
}
