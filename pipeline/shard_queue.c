#include "pipeline/shard_queue.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

// Where the block of `rank` begins: blocks of equal cost, whatever was built before.
static uint32_t block_begin(const uint64_t *costs, uint32_t n, int rank, int ranks)
{
    if (rank >= ranks) return n;
    if (!costs) return (uint32_t)((uint64_t)n * (uint64_t)rank / (uint64_t)ranks);
    uint64_t total = 0, before = 0;
    for (uint32_t i = 0; i < n; i++) total += costs[i] + 1;
    uint32_t i = 0;
    // The middle of a shard decides whose it is.
    for (; i < n; before += costs[i] + 1, i++)
        if ((double)before + 0.5 * (double)(costs[i] + 1) >= (double)total * rank / ranks) break;
    return i;
}

void rot_shard_order(const uint64_t *costs, uint32_t n, int rank, int ranks, uint32_t *order)
{
    uint32_t k = 0;
    for (uint32_t i = block_begin(costs, n, rank, ranks),
                  end = block_begin(costs, n, rank + 1, ranks);
         i < end; i++)
        order[k++] = i;
    for (int r = 1; r < ranks; r++) {
        int other = (rank + r) % ranks;
        uint32_t begin = block_begin(costs, n, other, ranks);
        for (uint32_t i = block_begin(costs, n, other + 1, ranks); i > begin; i--)
            order[k++] = i - 1;
    }
}

// One look at the folder: a network file system shows at once what others have linked, where a look
// at each name may say for half a minute that it is not there.
static int look(rot_shard_queue *queue, rot_err *err)
{
    DIR *folder = opendir(queue->plan->dir);
    if (!folder) return rot_err_set(err, ROT_ERR_IO, "%s: cannot be read", queue->plan->dir);
    for (struct dirent *e; (e = readdir(folder));) {
        unsigned shard;
        int end = 0;
        if (sscanf(e->d_name, "shard-%u.mdb%n", &shard, &end) == 1 && end && !e->d_name[end] &&
            shard < queue->n)
            queue->published[shard] = true;
    }
    closedir(folder);
    for (uint32_t i = 0; i < queue->n; i++) queue->n_left += !queue->published[i];
    return 0;
}

int rot_shard_queue_open(rot_shard_queue *queue, rot_team *team, const rot_stage_plan *plan,
                         const uint64_t *costs, rot_err *err)
{
    const rot_ranks *ranks = rot_team_ranks(team);
    *queue = (rot_shard_queue){.team = team, .plan = plan, .n = rot_shard_count(&plan->spec)};
    queue->order = rot_calloc(queue->n + 1, sizeof *queue->order);
    queue->published = rot_calloc(queue->n + 1, sizeof *queue->published);
    if (!queue->order || !queue->published) return rot_no_memory(err, 0, "shards");
    rot_shard_order(costs, queue->n, ranks->rank, ranks->size, queue->order);
    return look(queue, err);
}

void rot_shard_queue_close(rot_shard_queue *queue)
{
    rot_free(queue->order);
    rot_free(queue->published);
    *queue = (rot_shard_queue){0};
}

static void name_claim(const rot_shard_queue *queue, uint32_t shard, char name[128])
{
    snprintf(name, 128, "%s.%05u", queue->plan->folder, shard);
}

int rot_shard_queue_next(rot_shard_queue *queue, uint32_t *shard, rot_err *err)
{
    while (queue->at < queue->n) {
        char name[128];
        *shard = queue->order[queue->at++];
        if (queue->published[*shard] || rot_shard_is_published(queue->plan->dir, *shard)) continue;
        name_claim(queue, *shard, name);
        rot_claim_note before;
        int rc = rot_team_claim(queue->team, name, &before, err);
        ROT_TRY(rc);
        if (!rc) continue;
        if (!rot_shard_is_published(queue->plan->dir, *shard)) {
            queue->taken++;
            queue->took_over = before.owner[0];
            return 1;
        }
        rot_team_release(queue->team, name); // published between the two looks
    }
    return 0;
}

void rot_shard_queue_report(rot_shard_queue *queue, uint32_t shard, uint64_t row, uint64_t rows,
                            double rate)
{
    char name[128];
    name_claim(queue, shard, name);
    rot_team_report(queue->team, name, row, rows, rate);
}

void rot_shard_queue_done(rot_shard_queue *queue, uint32_t shard)
{
    char name[128];
    name_claim(queue, shard, name);
    rot_team_release(queue->team, name);
}
