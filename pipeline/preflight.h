// Bytes that will be written against bytes that are free, before the first of them.
#ifndef ROT_PIPELINE_PREFLIGHT_H
#define ROT_PIPELINE_PREFLIGHT_H

#include "pipeline/dataset.h"

// Of the file system that holds `path`, or will; false: it does not say.
bool rot_free_bytes(const char *path, uint64_t *out);

// Before the first sample of a split whose tokens or images are not there: what all its stages will
// take, judged by the first rows. ROT_ERR_NO_SPACE with both numbers; 0 under
// job->options.no_preflight.
int rot_preflight(rot_job *job, const rot_split_config *split, const rot_split_plan *plan,
                  rot_err *err);
// Before the first record of one stage whose logical bytes are known (for embeds: exactly).
int rot_preflight_stage(const rot_job *job, const rot_stage_plan *plan, uint64_t logical_bytes,
                        rot_err *err);

#endif
