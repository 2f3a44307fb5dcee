// PNG through libpng, and what the image formats share.
#ifndef ROT_RENDERER_PNG_H
#define ROT_RENDERER_PNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rotoscope/image.h"

enum { ROT_IMAGE_MAX_SIDE = 1 << 22, ROT_IMAGE_MAX_PIXELS = 1 << 28 };

// `path` is for messages.
int rot_png_read(const char *path, const uint8_t *bytes, size_t n_bytes, rot_image *out,
                 rot_err *err);
int rot_png_encode(const rot_image *image, uint8_t **bytes, size_t *n_bytes, rot_err *err);

// Checks the size and takes memory. ROT_ERR_FORMAT: absurd.
int rot_image_alloc(int64_t width, int64_t height, int channels, const char *path, rot_image *out,
                    uint8_t **pixels, rot_err *err);
// Row y, pixels side by side, into or out of columns.
void rot_image_put_row(uint8_t *pixels, const rot_image *image, int32_t y, const uint8_t *row);
void rot_image_get_row(const rot_image *image, int32_t y, uint8_t *row);

#endif
