// A stage's description: checked, copied, its files named.
#ifndef ROT_SHARDS_SPEC_H
#define ROT_SHARDS_SPEC_H

#include "rotoscope/store.h"

int rot_spec_check(const rot_stage_spec *spec, rot_err *err);
// Deep copy, but for `content`, which stays NULL.
int rot_spec_copy(const rot_stage_spec *from, rot_stage_spec *to, rot_err *err);
void rot_spec_release(rot_stage_spec *spec);
int rot_shard_path(char *out, size_t capacity, const char *dir, uint32_t shard, rot_err *err);

#endif
