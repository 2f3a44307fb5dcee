// plan.json in a stage's folder: what the stage is, from the moment its building begins.
#ifndef ROT_PIPELINE_STAGE_NOTE_H
#define ROT_PIPELINE_STAGE_NOTE_H

#include <jansson.h>

#include "pipeline/job.h"

// {"stage", "split", "dataset", "rows", "shard_samples", "fingerprint", "content"}
int rot_stage_note_write(const rot_job *job, const rot_stage_plan *plan, rot_err *err);
// NULL: none, or broken. The caller decrefs.
json_t *rot_stage_note_read(const char *dir);

#endif
