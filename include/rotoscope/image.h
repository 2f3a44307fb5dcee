// Pixels, as they travel from the renderer to the store and to the encoder.
#ifndef ROTOSCOPE_IMAGE_H
#define ROTOSCOPE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

// A view of 8-bit pixels in column-major order: pixel (x, y), channel c is
// pixels[(x * height_px + y) * channels + c]. channels is 1 (grey) or 3 (RGB). The view owns
// nothing.
typedef struct rot_image {
    const uint8_t *pixels; // (width_px, height_px, channels)
    int32_t width_px, height_px, channels;
} rot_image;

// Reads a PNG, PGM (P5) or PPM (P6) file; a grey file gives one channel. PNG of any kind: palettes
// become RGB, other depths 8 bits (of 16 the upper ones), RGBA is laid over white; any other
// transparency is ignored, as Pillow and qwen-vl-utils do. PNM: maxval 255.
// On success out->pixels is one block that the caller releases with rot_image_release.
// ROT_ERR_MISSING if there is no such file, ROT_ERR_FORMAT if it is none of these.
int rot_image_read(const char *path, rot_image *out, rot_err *err);
void rot_image_release(rot_image *image);

typedef enum rot_image_format { ROT_IMAGE_PNG, ROT_IMAGE_PNM } rot_image_format; // PNM: PGM or PPM

// Encodes into one block *bytes that the caller releases with free().
int rot_image_encode(const rot_image *image, rot_image_format format, uint8_t **bytes,
                     size_t *n_bytes, rot_err *err);
// Writes `path` in the format of its ending (.png, .pgm, .ppm; .pgm of a colour image is an error,
// a grey one as .ppm gets three channels).
int rot_image_write(const rot_image *image, const char *path, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
