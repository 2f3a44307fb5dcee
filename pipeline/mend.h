// A stage under repair: its bad shards are written anew in a folder of their own, from the records
// that are still good and those that are made again, and take the place of the bad ones.
#ifndef ROT_PIPELINE_MEND_H
#define ROT_PIPELINE_MEND_H

#include <pthread.h>

#include "pipeline/job.h"

typedef struct rot_mend {
    const rot_stage_plan *plan; // of the stage
    char side[4200];            // folder that shards are mended in, below ROOT/.rotoscope
    rot_stage *known;           // by its stage.json; NULL: that is broken
    bool *is_bad;               // (shards)
    uint32_t n_shards;
    uint64_t bad_records, bad_shards;
    bool believe_nothing; // every record is to be made again
    pthread_mutex_t mutex; // of all below
    uint64_t made;         // records made again in this run
    rot_salvage *salvage;  // of shard `open`
    uint32_t open;
} rot_mend;

// Looks at every shard. ROT_ERR_IO and the like; damage is what it counts.
int rot_mend_open(rot_mend *mend, const rot_job *job, const rot_stage_plan *plan, rot_err *err);
void rot_mend_close(rot_mend *mend);
// Believe none of the records.
int rot_mend_distrust(rot_mend *mend, rot_err *err);
// Removes the folder of the mended shards.
int rot_mend_clean(const rot_mend *mend, rot_err *err);

bool rot_mend_wants(const rot_mend *mend, uint32_t shard);
// The mended shard, published in `side`, takes the bad one's place: a reader that has that one
// mapped keeps it.
int rot_mend_put(rot_mend *mend, uint32_t shard, rot_err *err);
// 1: the record is good: added to `unit`, or copied to `arena`. 0: it is to be made; always if
// `mend` is NULL. Safe in any thread.
int rot_mend_keep(rot_mend *mend, uint64_t row, rot_unit *unit, rot_err *err);
int rot_mend_get(rot_mend *mend, uint64_t row, rot_arena *arena, rot_record *out, rot_err *err);

#endif
