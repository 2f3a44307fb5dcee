// UTF-8: strict (no surrogates, no overlong forms, at most U+10FFFF).
#ifndef ROT_BASE_UTF8_H
#define ROT_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

// Decodes the code point at text[*at] and advances *at; -1 (and *at stays) if the bytes are no
// UTF-8.
int32_t rot_utf8_next(const char *text, size_t n_bytes, size_t *at);
// Byte offset of the first bad byte, or n_bytes if all is well.
size_t rot_utf8_valid(const char *text, size_t n_bytes);
// Writes `code_point` (a scalar value) and returns its length, 1 to 4.
size_t rot_utf8_put(uint32_t code_point, char out[4]);

#endif
