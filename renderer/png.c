#include "renderer/png.h"

#include <png.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

// libpng reports by a longjmp out of its error function; the message travels here.
typedef struct png_job {
    char message[256];
    const uint8_t *bytes; // reading: the file
    size_t n_bytes, at;
    uint8_t *out; // writing: what has been written
    size_t capacity;
    bool no_memory;
} png_job;

static void on_error(png_structp png, png_const_charp message)
{
    png_job *job = png_get_error_ptr(png);
    snprintf(job->message, sizeof job->message, "%s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static png_voidp take_memory(png_structp png, png_alloc_size_t n_bytes)
{
    (void)png;
    return rot_malloc(n_bytes);
}

static void give_memory(png_structp png, png_voidp block)
{
    (void)png;
    rot_free(block);
}

static void read_bytes(png_structp png, png_bytep data, size_t n)
{
    png_job *job = png_get_io_ptr(png);
    if (n > job->n_bytes - job->at) png_error(png, "truncated");
    memcpy(data, job->bytes + job->at, n);
    job->at += n;
}

// Everything to 8 bits, grey or RGB, as the published code sees a file: Pillow takes the upper byte
// of 16 bits, and of all transparency only the alpha of an RGBA file counts (to_rgb in
// qwen-vl-utils lays that over white; convert("RGB") of any other kind drops it).
static void set_transforms(png_structp png, png_infop info)
{
    png_set_expand(png); // palettes to RGB, fewer bits to 8
    if (png_get_bit_depth(png, info) == 16) png_set_strip_16(png);
    if (png_get_color_type(png, info) != PNG_COLOR_TYPE_RGB_ALPHA) png_set_strip_alpha(png);
}

// n pixels over white, in place: RGBA becomes RGB.
static void drop_alpha(uint8_t *row, size_t n)
{
    for (size_t x = 0; x < n; x++) {
        uint32_t alpha = row[x * 4 + 3];
        for (size_t c = 0; c < 3; c++)
            row[x * 3 + c] = (uint8_t)((row[x * 4 + c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
}

// volatile: changed between setjmp and longjmp.
int rot_png_read(const char *path, const uint8_t *bytes, size_t n_bytes, rot_image *out,
                 rot_err *err)
{
    png_job job = {.bytes = bytes, .n_bytes = n_bytes};
    png_infop info = NULL;
    uint8_t *volatile pixels = NULL;
    uint8_t *volatile rows = NULL;
    volatile int rc = 0;
    png_structp png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning,
                                               NULL, take_memory, give_memory);
    if (png) info = png_create_info_struct(png);
    if (!info) {
        png_destroy_read_struct(&png, NULL, NULL);
        return rot_no_memory(err, sizeof(void *), "libpng");
    }
    if (setjmp(png_jmpbuf(png))) {
        rc = strstr(job.message, "memory")
                 ? rot_no_memory(err, n_bytes, "libpng")
                 : rot_err_set(err, ROT_ERR_FORMAT, "%s: PNG: %s", path, job.message);
        goto done;
    }
    png_set_user_limits(png, ROT_IMAGE_MAX_SIDE, ROT_IMAGE_MAX_SIDE);
    png_set_read_fn(png, &job, read_bytes);
    png_read_info(png, info);
    set_transforms(png, info);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    uint32_t width = png_get_image_width(png, info), height = png_get_image_height(png, info);
    int channels = png_get_channels(png, info);
    bool alpha = channels == 4;
    channels -= alpha;
    if ((channels != 1 && channels != 3) || png_get_bit_depth(png, info) != 8)
        png_error(png, "odd format");
    uint8_t *block;
    rc = rot_image_alloc(width, height, channels, path, out, &block, err);
    if (rc < 0) goto done;
    pixels = block;
    size_t row = png_get_rowbytes(png, info);
    // An interlaced image is complete only after its last pass: all rows then, else one.
    size_t n_rows = passes > 1 ? height : 1;
    rows = rot_calloc(n_rows, row);
    if (!rows) {
        rc = rot_no_memory(err, n_rows * row, "a PNG's rows");
        goto done;
    }
    for (int pass = 0; pass < passes; pass++)
        for (uint32_t y = 0; y < height; y++) {
            uint8_t *at = rows + (passes > 1 ? y * row : 0);
            png_read_row(png, at, NULL);
            if (pass < passes - 1) continue;
            if (alpha) drop_alpha(at, width);
            rot_image_put_row(pixels, out, (int32_t)y, at);
        }
    png_read_end(png, NULL);
done:
    rot_free(rows);
    png_destroy_read_struct(&png, &info, NULL);
    return rc; // the caller releases *out on failure
}

static void write_bytes(png_structp png, png_bytep data, size_t n)
{
    png_job *job = png_get_io_ptr(png);
    rot_err err;
    if (rot_grow(&job->out, &job->capacity, job->at + n, 1, &err) < 0) {
        job->no_memory = true;
        png_error(png, "out of memory");
    }
    memcpy(job->out + job->at, data, n);
    job->at += n;
}

static void flush_bytes(png_structp png)
{
    (void)png;
}

int rot_png_encode(const rot_image *image, uint8_t **bytes, size_t *n_bytes, rot_err *err)
{
    png_job job = {0};
    png_infop info = NULL;
    volatile int rc = 0;
    size_t n_row = (size_t)image->width_px * (size_t)image->channels;
    uint8_t *row = rot_malloc(n_row);
    if (!row) return rot_no_memory(err, n_row, "a PNG's row");
    png_structp png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning,
                                                NULL, take_memory, give_memory);
    if (png) info = png_create_info_struct(png);
    if (!info) {
        rc = rot_no_memory(err, sizeof(void *), "libpng");
        goto done;
    }
    if (setjmp(png_jmpbuf(png))) {
        rc = job.no_memory || strstr(job.message, "memory")
                 ? rot_no_memory(err, job.capacity, "a PNG")
                 : rot_err_set(err, ROT_ERR_FORMAT, "PNG: %s", job.message);
        goto done;
    }
    png_set_write_fn(png, &job, write_bytes, flush_bytes);
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);
    png_set_IHDR(png, info, (uint32_t)image->width_px, (uint32_t)image->height_px, 8,
                 image->channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    // Filters make files of text larger and slower to write.
    png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE);
    png_write_info(png, info);
    for (int32_t y = 0; y < image->height_px; y++) {
        rot_image_get_row(image, y, row);
        png_write_row(png, row);
    }
    png_write_end(png, NULL);
    *bytes = job.out;
    *n_bytes = job.at;
    job.out = NULL;
done:
    png_destroy_write_struct(&png, &info);
    rot_free(row);
    rot_free(job.out);
    return rc;
}
