// Where a stage's rows go: shard after shard, each taken up where it stands. A full shard is synced
// and published by a thread of its own, while the next one fills.
#ifndef ROT_PIPELINE_SINK_H
#define ROT_PIPELINE_SINK_H

#include <pthread.h>

#include "pipeline/job.h"

typedef struct rot_sink {
    const rot_job *job;
    const rot_stage_plan *plan;
    bool *left;               // (shards) an unfinished file was there when this was opened
    rot_shard_writer *writer; // of the shard of `next`; NULL between shards
    uint32_t shard;
    uint64_t next; // the writer's next row
    uint64_t end;  // one past the last row of the writer's shard
    uint64_t made; // rows appended in this run
    double start_seconds;
    rot_progress encoded; // what embeds adds to its progress; the other fields are ours
    // The shard that is being published, and what came of it.
    pthread_t publisher;
    bool publishing;
    rot_shard_writer *full;
    uint32_t full_shard;
    int publish_rc;
    rot_err publish_err;
} rot_sink;

// Nothing of that shard is to be made.
bool rot_sink_has_shard(const rot_job *job, const rot_stage_plan *plan, uint32_t shard);
int rot_sink_open(rot_sink *sink, const rot_job *job, const rot_stage_plan *plan, rot_err *err);
// The first row >= `row` that is not there yet, its shard opened; spec.rows if none is left: then
// all shards are published.
int rot_sink_seek(rot_sink *sink, uint64_t row, uint64_t *needed, rot_err *err);
// `row` is sink->next. Has the shard published after its last row; that this failed is said by a
// later call.
int rot_sink_append(rot_sink *sink, uint64_t row, const rot_record *record, rot_err *err);
// The same for the rows of a whole commit unit.
int rot_sink_append_unit(rot_sink *sink, uint64_t n, const rot_unit *unit, rot_err *err);
// Reports progress.
void rot_sink_report(rot_sink *sink);
// The user asked to stop.
bool rot_sink_is_stopped(const rot_sink *sink);
// Reports progress; ROT_ERR_STOPPED once the user asked to stop.
int rot_sink_step(rot_sink *sink, rot_err *err);
void rot_sink_close(rot_sink *sink);
double rot_seconds(void); // monotonic

#endif
