// SHA-256 (OpenSSL) and XXH3-128 (xxHash), streamed.
#ifndef ROT_BASE_HASH_H
#define ROT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "rotoscope/error.h"

typedef struct rot_sha256 rot_sha256;

rot_sha256 *rot_sha256_new(void); // NULL: no memory
void rot_sha256_add(rot_sha256 *hash, const void *bytes, size_t n_bytes);
// A field that cannot run into the next one: length as u64 little-endian, then the bytes.
void rot_sha256_field(rot_sha256 *hash, const void *bytes, size_t n_bytes);
void rot_sha256_u64(rot_sha256 *hash, uint64_t value);  // little-endian
void rot_sha256_end(rot_sha256 *hash, uint8_t out[32]); // and frees it; NULL is allowed: just frees
void rot_sha256_bytes(const void *bytes, size_t n_bytes, uint8_t out[32]);
int rot_sha256_file(const char *path, uint8_t out[32], rot_err *err);

// XXH3-128, seed 0, canonical (big-endian) bytes.
void rot_xxh128_bytes(const void *bytes, size_t n_bytes, uint8_t out[16]);
// Of two pieces one after another, without joining them.
void rot_xxh128_two(const void *a, size_t n_a, const void *b, size_t n_b, uint8_t out[16]);

void rot_hex(const uint8_t *bytes, size_t n_bytes, char *out); // 2 n + 1 characters, lower case
int rot_unhex(const char *hex, uint8_t *out,
              size_t n_bytes); // 0, or -1 if it is not 2 n hex digits

#endif
