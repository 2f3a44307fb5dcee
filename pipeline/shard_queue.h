// Which shard of a shared stage this rank makes next: its own block of shards first, in order, then
// those of others from the end of their blocks, so that it meets their owners last.
#ifndef ROT_PIPELINE_SHARD_QUEUE_H
#define ROT_PIPELINE_SHARD_QUEUE_H

#include "pipeline/job.h"
#include "pipeline/team.h"

typedef struct rot_shard_queue {
    rot_team *team;
    const rot_stage_plan *plan;
    uint32_t *order; // (n)
    uint32_t n, at, taken;
    bool *published; // (n), by shard, as the folder says
    bool took_over;  // the claim on the last one was that of another who is gone
    uint32_t n_left; // shards that were not published when it was opened
} rot_shard_queue;

// `costs` (n shards; NULL: all the same) decides where the ranks' blocks begin.
int rot_shard_queue_open(rot_shard_queue *queue, rot_team *team, const rot_stage_plan *plan,
                         const uint64_t *costs, rot_err *err);
void rot_shard_queue_close(rot_shard_queue *queue);
// 1: a shard that is ours from now on; 0: none is left that nobody works on.
int rot_shard_queue_next(rot_shard_queue *queue, uint32_t *shard, rot_err *err);
void rot_shard_queue_report(rot_shard_queue *queue, uint32_t shard, uint64_t row, uint64_t rows,
                            double rate);
void rot_shard_queue_done(rot_shard_queue *queue, uint32_t shard);

// For tests: the order in which `rank` of `ranks` goes over n shards.
void rot_shard_order(const uint64_t *costs, uint32_t n, int rank, int ranks, uint32_t *order);

#endif
