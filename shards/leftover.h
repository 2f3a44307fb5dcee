// What writer.c, publish.c and the public calls on unfinished shards share.
#ifndef ROT_SHARDS_LEFTOVER_H
#define ROT_SHARDS_LEFTOVER_H

#include <limits.h>
#include <stdint.h>

#include "rotoscope/error.h"

// DIR/shard-N.mdb[.OWNER].tmp, or SCRATCH/STAGE.shard-N.mdb[.OWNER].tmp. ROT_ERR_USAGE: an owner
// with a slash, a path that is too long.
int rot_shard_tmp_path(char out[PATH_MAX], const char *dir, const char *scratch, uint32_t shard,
                       const char *owner, rot_err *err);
// Copies and syncs; nothing is left of a copy that failed.
int rot_shard_copy(const char *from, const char *to, rot_err *err);

#endif
