// Sources: Pillow 13.0, src/libImaging/Resample.c (precompute_coeffs, normalize_coeffs_8bpc,
// ImagingResampleInner); PyTorch, aten/src/ATen/native/cpu/UpSampleKernel.cpp
// (_compute_indices_int16_weights_aa) and UpSampleKernelAVXAntialias.h. Both make one axis, into
// bytes, then the other, and leave an axis alone whose size stays. They differ in the precision of
// their weights and in the order of the axes.
#include "encoder/resample.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/err.h"

bool rot_resample_height_first(rot_resampler resampler, int32_t old_height, int32_t old_width,
                               int32_t height, int32_t width)
{
    const int64_t lost_height = (int64_t)old_height - height,
                  lost_width = (int64_t)old_width - width;
    return resampler == ROT_RESAMPLE_PILLOW && lost_height > 0 && lost_height > 2 * lost_width;
}

// Keys' cubic with a = -1/2.
static double cubic(double x)
{
    x = fabs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
    return 0;
}

// Weights of output i, summing to 1, into w; returns how many and the first input.
static int32_t real_weights(int32_t n_in, int32_t n_out, int32_t i, double *w, int32_t *first)
{
    const double scale = (double)n_in / n_out, stretch = scale > 1 ? scale : 1;
    const double support = 2 * stretch, inverse = 1 / stretch, centre = (i + 0.5) * scale;
    int32_t from = (int32_t)(centre - support + 0.5), to = (int32_t)(centre + support + 0.5);
    if (from < 0) from = 0;
    if (to > n_in) to = n_in;
    double sum = 0;
    for (int32_t j = 0; j < to - from; j++) {
        w[j] = cubic((j + from - centre + 0.5) * inverse);
        sum += w[j];
    }
    for (int32_t j = 0; j < to - from && sum != 0; j++) w[j] /= sum;
    *first = from;
    return to - from;
}

// torch: the largest precision, up to 22 bits, at which the largest weight still fits int16.
static int torch_precision(double largest)
{
    int precision = 0;
    while (precision < 22 && (int)(0.5 + largest * (1 << (precision + 1))) < 1 << 15) precision++;
    return precision;
}

int rot_axis_make(rot_resampler resampler, int32_t n_in, int32_t n_out, rot_arena *arena,
                  rot_axis *out, rot_err *err)
{
    const double stretch = n_in > n_out ? (double)n_in / n_out : 1;
    const size_t stride = (size_t)ceil(2 * stretch) * 2 + 1, n = (size_t)n_out;
    *out = (rot_axis){.n_in = n_in, .n_out = n_out, .stride = (int32_t)stride};
    out->first = rot_arena_alloc(arena, n * sizeof *out->first);
    out->taps = rot_arena_alloc(arena, n * sizeof *out->taps);
    out->weights = rot_arena_alloc(arena, n * stride * sizeof *out->weights);
    double *real = rot_arena_alloc(arena, n * stride * sizeof *real), largest = 0;
    if (!out->first || !out->taps || !out->weights || !real)
        return rot_no_memory(err, n * stride * sizeof *real, "resampling weights");
    for (int32_t i = 0; i < n_out; i++) {
        double *w = real + (size_t)i * stride;
        out->taps[i] = real_weights(n_in, n_out, i, w, &out->first[i]);
        for (int32_t j = 0; j < out->taps[i]; j++) largest = fmax(largest, w[j]);
    }
    out->precision = resampler == ROT_RESAMPLE_PILLOW ? 22 : torch_precision(largest);
    const double one = (double)(1 << out->precision);
    for (int32_t i = 0; i < n_out; i++)
        for (int32_t j = 0; j < out->taps[i]; j++) {
            double w = real[(size_t)i * stride + (size_t)j] * one; // rounded half away from zero
            out->weights[(size_t)i * stride + (size_t)j] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
    return 0;
}

static void blend_line(const uint8_t *in, size_t n_bytes, size_t from, const int32_t *w,
                       int32_t taps, int precision, uint8_t *out)
{
    for (size_t b = from; b < n_bytes; b++) {
        int32_t sum = 1 << (precision - 1);
        for (int32_t j = 0; j < taps; j++) sum += w[j] * in[(size_t)j * n_bytes + b];
        sum >>= precision;
        out[b] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
}

// Sixteen bytes at a time; the last ones overlap those before. Needs n_bytes >= 16.
__attribute__((target("avx2"))) static void blend_line_avx2(const uint8_t *in, size_t n_bytes,
                                                            const int32_t *w, int32_t taps,
                                                            int precision, uint8_t *out)
{
    const __m256i half = _mm256_set1_epi32(1 << (precision - 1));
    const __m128i shift = _mm_cvtsi32_si128(precision);
    for (size_t b = 0; b < n_bytes; b += 16) {
        if (b + 16 > n_bytes) b = n_bytes - 16;
        __m256i low = half, high = half;
        for (int32_t j = 0; j < taps; j++) {
            const __m128i bytes = _mm_loadu_si128((const __m128i *)(in + (size_t)j * n_bytes + b));
            const __m256i weight = _mm256_set1_epi32(w[j]);
            low = _mm256_add_epi32(low, _mm256_mullo_epi32(weight, _mm256_cvtepu8_epi32(bytes)));
            high = _mm256_add_epi32(
                high,
                _mm256_mullo_epi32(weight, _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes))));
        }
        // Packing saturates to int16, then to 0..255: the clamp. It leaves the halves interleaved.
        const __m256i words =
            _mm256_packs_epi32(_mm256_sra_epi32(low, shift), _mm256_sra_epi32(high, shift));
        const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
        const __m128i packed =
            _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
        _mm_storeu_si128((__m128i *)(out + b), packed);
    }
}

void rot_axis_blend(const rot_axis *axis, const uint8_t *in, size_t n_bytes, bool simd,
                    uint8_t *out)
{
    for (int32_t i = 0; i < axis->n_out; i++) {
        const uint8_t *from = in + (size_t)axis->first[i] * n_bytes;
        const int32_t *w = axis->weights + (size_t)i * (size_t)axis->stride;
        uint8_t *to = out + (size_t)i * n_bytes;
        if (simd && n_bytes >= 16)
            blend_line_avx2(from, n_bytes, w, axis->taps[i], axis->precision, to);
        else
            blend_line(from, n_bytes, 0, w, axis->taps[i], axis->precision, to);
    }
}

// Eight lines of eight bytes: a square turned by shifts and masks within 64-bit words (Hacker's
// Delight, 7-3).
static void transpose8(const uint8_t *in, size_t in_stride, uint8_t *out, size_t out_stride)
{
    uint64_t x[8];
    for (int i = 0; i < 8; i++) memcpy(&x[i], in + (size_t)i * in_stride, 8);
    for (int i = 0; i < 4; i++) {
        uint64_t a = x[i], b = x[i + 4];
        x[i] = (a & 0xffffffffu) | b << 32;
        x[i + 4] = a >> 32 | (b & 0xffffffff00000000u);
    }
    for (int i = 0; i < 8; i += i % 4 == 1 ? 3 : 1) {
        uint64_t a = x[i], b = x[i + 2];
        x[i] = (a & 0x0000ffff0000ffffu) | (b & 0x0000ffff0000ffffu) << 16;
        x[i + 2] = (a >> 16 & 0x0000ffff0000ffffu) | (b & 0xffff0000ffff0000u);
    }
    for (int i = 0; i < 8; i += 2) {
        uint64_t a = x[i], b = x[i + 1];
        x[i] = (a & 0x00ff00ff00ff00ffu) | (b & 0x00ff00ff00ff00ffu) << 8;
        x[i + 1] = (a >> 8 & 0x00ff00ff00ff00ffu) | (b & 0xff00ff00ff00ff00u);
    }
    for (int i = 0; i < 8; i++) memcpy(out + (size_t)i * out_stride, &x[i], 8);
}

void rot_transpose(const uint8_t *in, int32_t n_lines, int32_t n_pixels, int32_t channels,
                   uint8_t *out)
{
    const size_t lines = (size_t)n_lines, pixels = (size_t)n_pixels, c = (size_t)channels;
    const size_t whole_lines = c == 1 ? lines / 8 * 8 : 0,
                 whole_pixels = c == 1 ? pixels / 8 * 8 : 0;
    for (size_t l = 0; l < whole_lines; l += 8)
        for (size_t p = 0; p < whole_pixels; p += 8)
            transpose8(in + l * pixels + p, pixels, out + p * lines + l, lines);
    for (size_t l = 0; l < lines; l++)
        for (size_t p = l < whole_lines ? whole_pixels : 0; p < pixels; p++)
            memcpy(out + (p * lines + l) * c, in + (l * pixels + p) * c, c);
}
