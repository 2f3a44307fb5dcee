// One build by many ranks: one prepares tokens and images, all encode, the last to finish
// publishes. They speak through files of the root alone (claim.h), and every step may be done
// twice.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "pipeline/build.h"
#include "pipeline/rank_plan.h"
#include "pipeline/shard_queue.h"
#include "pipeline/sink.h"

typedef struct ranked {
    const rot_config *config;
    const rot_ranks *ranks;
    rot_job job;
    rot_team *team;
    rot_rank_plan plan;
    rot_split_plan *plans; // one per split
    double pause_seconds;
} ranked;

enum { DEFAULT_STALE_SECONDS = 60 };
static const double min_pause = 0.02, max_pause = 2, lock_patience = 3;

// Waits a little, longer each time, not in step with the others. ROT_ERR_STOPPED.
static int pause_a_little(ranked *r, const char *what, rot_err *err)
{
    const volatile sig_atomic_t *stop = r->job.options.stop;
    double jitter = 0.75 + 0.5 * (double)(getpid() % 16) / 16;
    double until = rot_seconds() + r->pause_seconds * jitter;
    while (rot_seconds() < until && !(stop && *stop))
        nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    r->pause_seconds = r->pause_seconds * 1.5 < max_pause ? r->pause_seconds * 1.5 : max_pause;
    if (stop && *stop) ROT_FAIL(err, ROT_ERR_STOPPED, "stopped %s: run again to go on", what);
    return 0;
}

// Ranks hold the root's lock together, a build alone holds it by itself. `status` takes it for an
// instant, so a refusal is believed only after a while.
static int lock_root(ranked *r, int *lock, rot_err *err)
{
    char path[4200];
    ROT_TRY(rot_fs_join(path, sizeof path, r->config->root, ".rotoscope", err));
    ROT_TRY(rot_fs_mkdirs(path, err));
    ROT_TRY(rot_fs_join(path, sizeof path, r->config->root, ".rotoscope/lock", err));
    double start = rot_seconds();
    for (;;) {
        int rc = rot_fs_lock_shared(path, lock, err);
        if (rc == ROT_ERR_LOCKED && rot_seconds() - start < lock_patience) {
            ROT_TRY(pause_a_little(r, "before its start", err));
            continue;
        }
        if (rc == ROT_ERR_LOCKED)
            return rot_err_set(err, rc, "%s: a build that is no rank of ours is using this root",
                               r->config->root);
        return rc;
    }
}

// Plans everything anew; what another rank has remembered by now is read instead of hashed.
static int look_again(ranked *r, bool *complete, rot_err *err)
{
    rot_memo_save(&r->job.memo);
    rot_memo_close(&r->job.memo);
    ROT_TRY(rot_memo_open(&r->job.memo, r->config->root, false, err));
    rot_split_plans_free(r->plans, r->config->n_splits);
    r->plans = rot_calloc((size_t)r->config->n_splits, sizeof *r->plans);
    if (!r->plans) return rot_no_memory(err, 0, "plans");
    return rot_build_splits(&r->job, ROT_BUILD_PLAN, r->plans, complete, err);
}

// 1: somebody has prepared exactly this build; 0: not (yet).
static int is_prepared(ranked *r, bool *complete, rot_err *err)
{
    rot_encoder_info info = {0};
    *complete = false;
    int rc = rot_rank_plan_read(r->config, &r->plan, err);
    if (rc <= 0) return rc;
    if (r->config->has_encode) ROT_TRY(rot_job_encoder_info(&r->job, &info, err));
    ROT_TRY(rot_rank_plan_check_backend(r->config, &r->plan, info.backend, err));
    ROT_TRY(look_again(r, complete, err));
    int wanted = r->config->has_encode ? 3 : r->config->has_render ? 2 : 1;
    for (int i = 0; i < r->config->n_splits; i++) {
        const rot_split_plan *split = &r->plans[i];
        if (split->n_stages < wanted) return 0;
        for (int j = 0; j < wanted && j < 2; j++)
            if (!split->stages[j].done) return 0;
        if (wanted == 3 && !rot_rank_plan_has(&r->plan, split)) return 0;
    }
    return 1;
}

static int prepare(ranked *r, rot_err *err)
{
    bool complete;
    rot_job_note(&r->job, "rank %d of %d (%s) prepares tokens and images", r->ranks->rank,
                 r->ranks->size, r->ranks->launcher);
    ROT_TRY(rot_job_check_named(&r->job, err));
    ROT_TRY(rot_dataset_write_pending(r->config, err));
    rot_split_plans_free(r->plans, r->config->n_splits);
    r->plans = rot_calloc((size_t)r->config->n_splits, sizeof *r->plans);
    if (!r->plans) return rot_no_memory(err, 0, "plans");
    ROT_TRY(rot_build_splits(&r->job, ROT_BUILD_PREPARE, r->plans, &complete, err));
    ROT_TRY(rot_rank_plan_write(&r->job, r->plans, err));
    rot_memo_save(&r->job.memo);
    return 0;
}

// The first rank prepares; another one does if the first is silent for too long.
static int prepare_or_wait(ranked *r, rot_err *err)
{
    char name[128];
    bool complete;
    snprintf(name, sizeof name, "prepare.%.100s", r->config->name);
    double start = rot_seconds(), patience = r->ranks->rank ? rot_team_stale_seconds(r->team) : 0;
    r->pause_seconds = min_pause;
    for (;;) {
        rot_claim_note other;
        int rc = is_prepared(r, &complete, err);
        if (rc != 0) return rc < 0 ? rc : 0;
        if (rot_team_gave_up(r->team, name, &other))
            ROT_FAIL(err, ROT_ERR_INPUT, "rank %d on %s could not prepare: %s", other.rank,
                     other.host, other.error);
        if (rot_team_look(r->team, name) == 0 || rot_seconds() - start >= patience) {
            rc = rot_team_claim(r->team, name, &other, err);
            ROT_TRY(rc);
            if (rc && *other.owner)
                rot_job_note(&r->job, "rank %d on %s is gone: its work is taken over", other.rank,
                             other.host);
            if (rc) {
                rc = is_prepared(r, &complete, err); // while we looked
                ROT_TRY(rc);
                if (!rc) ROT_TRY(prepare(r, err));
                rot_team_release(r->team, name);
                continue;
            }
        }
        ROT_TRY(pause_a_little(r, "while another rank prepares", err));
    }
}

// What there is to do of one split's embeds just now. 1: it is finished; 0: others have the rest.
static int encode_split(ranked *r, rot_split_plan *split, uint32_t *taken, rot_err *err)
{
    rot_stage_plan *plan = &split->stages[2];
    rot_shard_queue queue;
    int rc;
    ROT_TRY(rot_stage_plan_refresh(plan, err));
    if (plan->done) return 1;
    ROT_TRY(rot_fs_mkdirs(plan->dir, err));
    ROT_GO(rot_shard_queue_open(&queue, r->team, plan, rot_rank_plan_costs(&r->plan, split), err));
    r->job.queue = &queue;
    if (queue.n_left) ROT_GO(rot_make_embeds(&r->job, &split->stages[1], plan, err));
    *taken += queue.taken;
    rc = queue.n_left == 0;
done:
    r->job.queue = NULL;
    rot_shard_queue_close(&queue);
    if (rc <= 0) return rc;
    char name[128];
    snprintf(name, sizeof name, "finish.%s", plan->folder);
    rc = rot_team_claim(r->team, name, NULL, err);
    if (rc <= 0) return rc;
    rc = rot_stage_plan_refresh(plan, err);
    if (rc == 0 && !plan->done) rc = rot_stage_conclude(&r->job, plan, err);
    if (rc < 0) return rc;
    rot_team_release(r->team, name);
    rot_team_sweep_stage(r->team, plan->folder);
    return 1;
}

// Until every split is finished: what others leave unfinished is taken over, so nobody goes before.
static int encode_all(ranked *r, rot_err *err)
{
    if (!r->config->has_encode) return 0;
    r->pause_seconds = min_pause;
    for (;;) {
        bool all = true;
        uint32_t taken = 0;
        for (int i = 0; i < r->config->n_splits; i++) {
            int rc = encode_split(r, &r->plans[i], &taken, err);
            ROT_TRY(rc);
            all = all && rc;
        }
        if (all) return 0;
        if (taken)
            r->pause_seconds = min_pause;
        else
            ROT_TRY(pause_a_little(r, "while other ranks finish", err));
    }
}

static int publish(ranked *r, rot_err *err)
{
    char name[128];
    snprintf(name, sizeof name, "finish.%.100s", r->config->name);
    r->pause_seconds = min_pause;
    while (!rot_dataset_is_current(r->config, r->plans)) {
        int rc = rot_team_claim(r->team, name, NULL, err);
        ROT_TRY(rc);
        if (rc) {
            ROT_TRY(rot_dataset_write(r->config, r->plans, err));
            rot_team_release(r->team, name);
            break;
        }
        ROT_TRY(pause_a_little(r, "while another rank finishes", err));
    }
    // Whoever finished a stage or the dataset may have been killed before its claims were swept.
    for (int i = 0; i < r->config->n_splits; i++)
        if (r->plans[i].n_stages == 3) rot_team_sweep_stage(r->team, r->plans[i].stages[2].folder);
    rot_team_sweep_dataset(r->team, r->config->name);
    return 0;
}

int rot_build_ranked(const rot_config *config, const rot_build_options *options,
                     const rot_ranks *ranks, char **json, rot_err *err)
{
    ranked r = {.config = config, .ranks = ranks, .pause_seconds = min_pause};
    rot_err own = {0};
    double stale = options->stale_seconds > 0 ? options->stale_seconds : DEFAULT_STALE_SECONDS;
    int rc = 0, lock = -1;
    bool complete = false;
    if (json) *json = NULL;
    if (!err) err = &own; // its words are left for the others
    ROT_GO(rot_job_open(&r.job, config, options, err));
    // A finished build answers without a lock, so on a read-only root too.
    ROT_GO(is_prepared(&r, &complete, err));
    if (!complete || !rot_dataset_is_current(config, r.plans)) {
        ROT_GO(lock_root(&r, &lock, err));
        ROT_GO(rot_team_open(config->root, config->name, ranks, stale, &r.team, err));
        r.job.team = r.team;
        ROT_GO(prepare_or_wait(&r, err));
        if (options->prepare_only) goto done;
        ROT_GO(encode_all(&r, err));
        ROT_GO(publish(&r, err));
    }
    rc = 0;
    ROT_GO(rot_check_policies(config, r.plans, err));
    if (json) ROT_GO(rot_dataset_text(config, json, err));
done:
    rot_team_close(&r.team, rc < 0 && rc != ROT_ERR_STOPPED ? err->message : NULL);
    rot_job_close(&r.job);
    rot_split_plans_free(r.plans, config->n_splits);
    rot_rank_plan_free(&r.plan);
    if (lock >= 0) close(lock);
    return rc;
}
