// A published shard, opened for reading: its map, its tree, its trailer.
#ifndef ROT_SHARDS_SHARD_H
#define ROT_SHARDS_SHARD_H

#include "shards/tree.h"
#include "shards/value.h"

typedef struct rot_shard {
    rot_map map;
    rot_tree tree;
    uint64_t first_row, n_rows;
    // The trailer's record hashes (n_rows, 16), which bind a record to its row: the tree alone
    // could lead to another's. NULL if the trailer is damaged; then records are known by their own
    // hashes alone.
    const uint8_t *hashes;
} rot_shard;

typedef struct rot_trailer {
    uint64_t skipped, payload_bytes;
    const uint8_t *hashes;  // (rows, 16), in the map
    uint8_t hash[16];       // of the trailer itself
} rot_trailer;

// Maps the file, reads its meta pages and the note that says which shard it is. ROT_ERR_MISSING;
// ROT_ERR_CORRUPT with path and cause.
int rot_shard_open(const char *path, const rot_stage_spec *spec, uint32_t shard, rot_shard *out,
                   rot_err *err);
void rot_shard_close(rot_shard *shard);
// Before what is mapped is read again: ROT_ERR_CORRUPT with the cause alone if the file was cut.
int rot_shard_check_whole(const rot_shard *shard, rot_err *err);
// The value that holds `row`, and its first row. ROT_ERR_CORRUPT with the cause alone.
int rot_shard_find(const rot_shard *shard, uint64_t row, rot_value *out, uint64_t *first_row,
                   rot_err *err);
// ROT_ERR_CORRUPT with the cause alone.
int rot_shard_trailer(const rot_shard *shard, const rot_stage_spec *spec, uint32_t number,
                      rot_trailer *out, rot_err *err);

#endif
