// A stage made by all threads at once: each takes the next commit unit, makes its rows, packs them,
// and appends them when the units before are in. So the shards hold the same bytes, and the first
// row that fails is the one that is named, whatever the number of threads.
#ifndef ROT_PIPELINE_UNITS_H
#define ROT_PIPELINE_UNITS_H

#include "pipeline/sink.h"

typedef struct rot_unit_work {
    // What rows [first, first + n) are made of; in order, one call at a time. NULL: nothing.
    int (*take)(void *user, int thread, uint64_t first, uint64_t n, rot_err *err);
    // Adds the records of those rows to `unit`.
    int (*make)(void *user, int thread, uint64_t first, uint64_t n, rot_unit *unit, rot_err *err);
    void *user;
} rot_unit_work;

// Every row that the stage lacks. `thread` above is below job->threads.
int rot_units_make(rot_job *job, const rot_stage_plan *plan, const rot_unit_work *work,
                   rot_err *err);

#endif
