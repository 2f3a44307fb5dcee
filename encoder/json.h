// Reading JSON strictly: every refusal names the file, the place and the cause.
#ifndef ROT_ENCODER_JSON_H
#define ROT_ENCODER_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "rotoscope/error.h"

// Parses `n_bytes` of JSON whose root is an object; `unique`: a doubled key is an error. `where`
// names the text in messages. The caller releases *out with json_decref. ROT_ERR_FORMAT: malformed.
int rot_json_parse(const char *bytes, size_t n_bytes, bool unique, const char *where, json_t **out,
                   rot_err *err);
// The same of a file. ROT_ERR_MISSING: no such file.
int rot_json_read(const char *path, bool unique, json_t **out, rot_err *err);

// Members of an object. Where `fallback` is given a missing key leaves it (an absent or null
// value); without one it is an error. All: ROT_ERR_FORMAT with `where` and the key.
int rot_json_int(const json_t *object, const char *key, int64_t low, int64_t high,
                 const int64_t *fallback, int64_t *out, const char *where, rot_err *err);
int rot_json_object(const json_t *object, const char *key, const json_t **out, const char *where,
                    rot_err *err);
// An array of exactly `n` finite numbers.
int rot_json_doubles(const json_t *object, const char *key, int n, double *out, const char *where,
                     rot_err *err);

#endif
