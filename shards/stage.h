// An open stage: what stage.c (stage.json), read.c (records), verify.c and transcode.c share.
#ifndef ROT_SHARDS_STAGE_H
#define ROT_SHARDS_STAGE_H

#include <limits.h>

#include "shards/shard.h"
#include "shards/spec.h"

typedef struct rot_stage_shard {
    uint64_t bytes;           // of the file
    uint8_t trailer_hash[16];
    bool is_open;
    rot_shard open;
} rot_stage_shard;

struct rot_stage {
    rot_stage_spec spec; // content: owned
    rot_stage_info info;
    char dir[PATH_MAX];
    uint8_t root[32];
    rot_stage_shard *shards;
    uint32_t n_shards;
    rot_codecs *codecs;
    rot_buffer block, record;
    // The block that was read last, decompressed; members is NULL if there is none.
    const uint8_t *members;
    rot_head block_head;
    uint64_t block_row;      // its first
    uint32_t member;         // where the last read stopped: the next member and its offset
    size_t member_at;
};

// Opens shard `shard` of the stage if it is not. ROT_ERR_CORRUPT with path and cause.
int rot_stage_open_shard(rot_stage *stage, uint32_t shard, rot_shard **out, rot_err *err);
void rot_stage_unmap(rot_stage *stage); // all of them, with the payloads in them
// The header of `row`'s record, which the trailer's hash binds to the row, and its stored bytes:
// in the map or in the block that was decompressed last. ROT_ERR_CORRUPT with the cause alone.
int rot_stage_locate(rot_stage *stage, const rot_shard *shard, uint64_t row, rot_head *head,
                     const uint8_t **stored, rot_err *err);
// The record of `row` of an open shard. ROT_ERR_CORRUPT with the cause alone.
int rot_stage_find(rot_stage *stage, const rot_shard *shard, uint64_t row, rot_record *out,
                   rot_err *err);

#endif
