// zstd, and zstd-bf16: each number rotated left by one bit, the plane of exponents entropy-coded,
// the plane of mantissas and signs raw.
#ifndef ROT_SHARDS_CODEC_H
#define ROT_SHARDS_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "rotoscope/store.h"

// A block of bytes at 64 that grows; its content does not survive growing.
typedef struct rot_buffer {
    uint8_t *bytes;
    size_t capacity;
} rot_buffer;

int rot_buffer_reserve(rot_buffer *buffer, size_t n_bytes, rot_err *err);
void rot_buffer_free(rot_buffer *buffer);

typedef struct rot_codecs rot_codecs; // contexts and scratch of one thread

int rot_codecs_new(rot_codecs **out, rot_err *err);
void rot_codecs_free(rot_codecs **codecs);

// Compresses n bytes. *stored points into the scratch of `codecs` until its next call. If the codec
// does not make them smaller, *used is ROT_CODEC_NONE and *stored are the bytes themselves.
int rot_codec_encode(rot_codecs *codecs, rot_codec codec, const void *bytes, size_t n, rot_codec
                     *used, const void **stored, size_t *n_stored, rot_err *err);
// Into out[n_logical], aligned to 2 bytes. ROT_ERR_CORRUPT with the cause alone.
int rot_codec_decode(rot_codecs *codecs, rot_codec codec, const void *stored, size_t n_stored, void
                     *out, size_t n_logical, rot_err *err);

#endif
