// Image files: PGM and PPM by hand, and the choice by content or ending. PNG is in png.c.
#include "rotoscope/image.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "renderer/png.h"

int rot_image_alloc(int64_t width, int64_t height, int channels, const char *path, rot_image *out,
                    uint8_t **pixels, rot_err *err)
{
    if (width < 1 || height < 1 || width > ROT_IMAGE_MAX_SIDE || height > ROT_IMAGE_MAX_SIDE ||
        width * height > ROT_IMAGE_MAX_PIXELS)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %lld x %lld pixels is no size that we read", path,
                 (long long)width, (long long)height);
    size_t n = (size_t)(width * height * channels);
    *pixels = rot_malloc(n);
    if (!*pixels) return rot_no_memory(err, n, "an image");
    *out = (rot_image){*pixels, (int32_t)width, (int32_t)height, channels};
    return 0;
}

void rot_image_put_row(uint8_t *pixels, const rot_image *image, int32_t y, const uint8_t *row)
{
    size_t channels = (size_t)image->channels, column = (size_t)image->height_px * channels;
    for (int32_t x = 0; x < image->width_px; x++)
        memcpy(pixels + (size_t)x * column + (size_t)y * channels, row + (size_t)x * channels,
               channels);
}

void rot_image_get_row(const rot_image *image, int32_t y, uint8_t *row)
{
    size_t channels = (size_t)image->channels, column = (size_t)image->height_px * channels;
    for (int32_t x = 0; x < image->width_px; x++)
        memcpy(row + (size_t)x * channels,
               image->pixels + (size_t)x * column + (size_t)y * channels, channels);
}

/* ---- PNM ---- */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// A number of the header, after white space and comments; -1: none there.
static int64_t read_number(const char *bytes, size_t n_bytes, size_t *at)
{
    while (*at < n_bytes && (is_space(bytes[*at]) || bytes[*at] == '#')) {
        bool comment = bytes[*at] == '#';
        while (comment && *at < n_bytes && bytes[*at] != '\n' && bytes[*at] != '\r') ++*at;
        if (*at < n_bytes) ++*at;
    }
    size_t start = *at;
    int64_t value = 0;
    for (; *at < n_bytes && bytes[*at] >= '0' && bytes[*at] <= '9' && *at - start < 10; ++*at)
        value = value * 10 + (bytes[*at] - '0');
    return *at == start ? -1 : value;
}

static int read_pnm(const char *path, const char *bytes, size_t n_bytes, rot_image *out,
                    rot_err *err)
{
    int channels = bytes[1] == '6' ? 3 : 1;
    size_t at = 2;
    int64_t width = read_number(bytes, n_bytes, &at);
    int64_t height = width < 0 ? -1 : read_number(bytes, n_bytes, &at);
    int64_t most = height < 0 ? -1 : read_number(bytes, n_bytes, &at);
    if (most < 0 || at >= n_bytes || !is_space(bytes[at]))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: malformed PNM header at byte %zu", path, at);
    at++;
    if (most != 255)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: maxval %lld, only 255 is read", path, (long long)most);
    uint8_t *pixels;
    ROT_TRY(rot_image_alloc(width, height, channels, path, out, &pixels, err));
    size_t row = (size_t)width * (size_t)channels;
    if ((n_bytes - at) / row < (size_t)height) {
        rot_image_release(out);
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: truncated: %zu bytes of pixels, not %zu", path,
                 n_bytes - at, row * (size_t)height);
    }
    for (int32_t y = 0; y < height; y++)
        rot_image_put_row(pixels, out, y, (const uint8_t *)bytes + at + (size_t)y * row);
    return 0;
}

static int encode_pnm(const rot_image *image, uint8_t **bytes, size_t *n_bytes, rot_err *err)
{
    char header[64];
    int n_header = snprintf(header, sizeof header, "P%c\n%d %d\n255\n",
                            image->channels == 3 ? '6' : '5', image->width_px, image->height_px);
    size_t row = (size_t)image->width_px * (size_t)image->channels;
    *n_bytes = (size_t)n_header + row * (size_t)image->height_px;
    *bytes = rot_malloc(*n_bytes);
    if (!*bytes) return rot_no_memory(err, *n_bytes, "an image file");
    memcpy(*bytes, header, (size_t)n_header);
    for (int32_t y = 0; y < image->height_px; y++)
        rot_image_get_row(image, y, *bytes + n_header + (size_t)y * row);
    return 0;
}

/* ---- any format ---- */

int rot_image_read(const char *path, rot_image *out, rot_err *err)
{
    char *bytes;
    size_t n_bytes;
    *out = (rot_image){0};
    ROT_TRY(rot_fs_read(path, &bytes, &n_bytes, err));
    int rc;
    if (n_bytes >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1a\n", 8))
        rc = rot_png_read(path, (const uint8_t *)bytes, n_bytes, out, err);
    else if (n_bytes >= 3 && bytes[0] == 'P' && (bytes[1] == '5' || bytes[1] == '6') &&
             (is_space(bytes[2]) || bytes[2] == '#'))
        rc = read_pnm(path, bytes, n_bytes, out, err);
    else
        rc = rot_err_set(err, ROT_ERR_FORMAT, "%s: is neither a PNG, nor a PGM (P5) or PPM (P6)",
                         path);
    rot_free(bytes);
    if (rc < 0) rot_image_release(out);
    return rc;
}

void rot_image_release(rot_image *image)
{
    rot_free((void *)(uintptr_t)image->pixels);
    *image = (rot_image){0};
}

int rot_image_encode(const rot_image *image, rot_image_format format, uint8_t **bytes,
                     size_t *n_bytes, rot_err *err)
{
    *bytes = NULL;
    *n_bytes = 0;
    if (image->width_px < 1 || image->height_px < 1 ||
        (image->channels != 1 && image->channels != 3))
        ROT_FAIL(err, ROT_ERR_USAGE, "an image of %d x %d pixels and %d channels", image->width_px,
                 image->height_px, image->channels);
    return format == ROT_IMAGE_PNG ? rot_png_encode(image, bytes, n_bytes, err)
                                   : encode_pnm(image, bytes, n_bytes, err);
}

static bool ends_with(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n >= m && !strcmp(path + n - m, ending);
}

int rot_image_write(const rot_image *image, const char *path, rot_err *err)
{
    rot_image_format format = ROT_IMAGE_PNM;
    if (ends_with(path, ".png"))
        format = ROT_IMAGE_PNG;
    else if (ends_with(path, ".pgm")) {
        if (image->channels != 1)
            ROT_FAIL(err, ROT_ERR_USAGE, "%s: a PGM holds no colours; use .ppm", path);
    } else if (!ends_with(path, ".ppm"))
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: the ending must be .png, .pgm or .ppm", path);
    rot_image rgb = *image;
    uint8_t *spread = NULL, *bytes = NULL;
    size_t n_bytes, n = (size_t)image->width_px * (size_t)image->height_px;
    int rc;
    if (ends_with(path, ".ppm") && image->channels == 1) { // a PPM has three channels
        spread = rot_malloc(n * 3);
        if (!spread) return rot_no_memory(err, n * 3, "an image");
        for (size_t i = 0; i < n; i++) memset(spread + i * 3, image->pixels[i], 3);
        rgb.pixels = spread;
        rgb.channels = 3;
    }
    ROT_GO(rot_image_encode(&rgb, format, &bytes, &n_bytes, err));
    ROT_GO(rot_fs_write_atomic(path, bytes, n_bytes, err));
done:
    rot_free(bytes);
    rot_free(spread);
    return rc;
}
