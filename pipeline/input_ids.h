// The ids met so far, as 128-bit hashes: 16 bytes an id, whatever its length.
#ifndef ROT_PIPELINE_INPUT_IDS_H
#define ROT_PIPELINE_INPUT_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rotoscope/error.h"

typedef struct rot_ids {
    uint8_t (*hashes)[16]; // open addressing, all zero: free; a power of two of them
    size_t capacity, n;
} rot_ids;

// *added is false if the id was there.
int rot_ids_add(rot_ids *ids, const char *id, size_t n_bytes, bool *added, rot_err *err);
void rot_ids_free(rot_ids *ids);

#endif
