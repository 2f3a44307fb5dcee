// What a build by one process (build.c) and one by many ranks (build_ranks.c) share.
#ifndef ROT_PIPELINE_BUILD_H
#define ROT_PIPELINE_BUILD_H

#include "pipeline/dataset.h"
#include "pipeline/ranks.h"

typedef enum rot_build_depth {
    ROT_BUILD_PLAN,    // write nothing
    ROT_BUILD_PREPARE, // tokens and images; embeds only if another layout of them is there
    ROT_BUILD_ALL
} rot_build_depth;

// Every split, planned and made. plans: zeroed, one per split. *complete: nothing is missing.
int rot_build_splits(rot_job *job, rot_build_depth depth, rot_split_plan *plans, bool *complete,
                     rot_err *err);
void rot_split_plans_free(rot_split_plan *plans, int n);
// All shards of the stage are there: writes stage.json, sweeps, looks again.
int rot_stage_conclude(const rot_job *job, rot_stage_plan *plan, rot_err *err);
// Opens what the config names, however late it is needed.
int rot_job_check_named(rot_job *job, rot_err *err);

int rot_build_ranked(const rot_config *config, const rot_build_options *options,
                     const rot_ranks *ranks, char **json, rot_err *err);

#endif
