// What the rank that prepared a build leaves to the others, in ROOT/.rotoscope/NAME.plan.json: for
// which config it is, the backend, and the cost of every shard of embeds.
#ifndef ROT_PIPELINE_RANK_PLAN_H
#define ROT_PIPELINE_RANK_PLAN_H

#include "pipeline/dataset.h"

typedef struct rot_rank_plan {
    json_t *json;
    uint64_t *costs; // of the split that was asked for last
} rot_rank_plan;

// 1: read; 0: there is none of this config. Frees what *plan held.
int rot_rank_plan_read(const rot_config *config, rot_rank_plan *plan, rot_err *err);
void rot_rank_plan_free(rot_rank_plan *plan);
// Looks at every image of the splits whose embeds are not there (rot_check_embeds), then writes.
int rot_rank_plan_write(rot_job *job, rot_split_plan *plans, rot_err *err);
// ROT_ERR_NOT_FOUND, with both named, if `backend` is not the planned one.
int rot_rank_plan_check_backend(const rot_config *config, const rot_rank_plan *plan,
                                const char *backend, rot_err *err);
// True if the split's embeds are the planned ones.
bool rot_rank_plan_has(const rot_rank_plan *plan, const rot_split_plan *split);
// Patches of each shard, or NULL: not known. Lives until the next call.
const uint64_t *rot_rank_plan_costs(rot_rank_plan *plan, const rot_split_plan *split);

#endif
