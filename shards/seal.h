// JSON files that end with the SHA-256 of all their bytes before it, so that a flipped byte shows.
#ifndef ROT_SHARDS_SEAL_H
#define ROT_SHARDS_SEAL_H

#include <jansson.h>
#include <stdbool.h>

#include "rotoscope/error.h"

// Reads a file that holds one JSON object and, if it has a seal, checks it (ROT_ERR_CORRUPT).
// ROT_ERR_MISSING; ROT_ERR_FORMAT: no JSON object. The caller owns *out.
int rot_seal_read(const char *path, json_t **out, bool *sealed, rot_err *err);

#endif
