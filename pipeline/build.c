// The order of things: scan, tokens, images, embeds, finish, dataset file.
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/threads.h"
#include "pipeline/build.h"
#include "pipeline/claim.h"
#include "pipeline/dataset.h"
#include "pipeline/job.h"
#include "pipeline/preflight.h"
#include "pipeline/sink.h"
#include "pipeline/stage_note.h"
#include "pipeline/team.h"

rot_build_options rot_build_options_default(void)
{
    return (rot_build_options){.size = sizeof(rot_build_options), .rank = -1, .ranks = -1};
}

void rot_job_note(const rot_job *job, const char *format, ...)
{
    char message[1200];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    // Threads of one stage may call at once.
#pragma omp critical(rot_job_note)
    if (job->options.note) job->options.note(job->options.user, message);
}

// A complete stage of the same content under another layout, to be transcoded instead of made
// again.
static int find_sibling(const rot_job *job, const rot_stage_plan *plan, char dir[4096],
                        rot_err *err)
{
    char stages[4096], hex[65];
    dir[0] = 0;
    rot_hex(plan->spec.fingerprint, 32, hex);
    ROT_TRY(rot_fs_join(stages, sizeof stages, job->config->root, "stages", err));
    DIR *folder = opendir(stages);
    if (!folder) return 0;
    size_t n = strlen(plan->stage);
    for (struct dirent *e; !dir[0] && (e = readdir(folder));) {
        char path[4400], json[4500];
        if (strncmp(e->d_name, plan->stage, n) || e->d_name[n] != '-' ||
            !strcmp(e->d_name, plan->folder))
            continue;
        snprintf(path, sizeof path, "%s/%s", stages, e->d_name);
        snprintf(json, sizeof json, "%s/stage.json", path);
        rot_stage *stage = NULL;
        if (!rot_fs_is_file(json) || rot_stage_open(path, &stage, NULL) < 0) continue;
        const rot_stage_info *info = rot_stage_get_info(stage);
        if (!strcmp(info->fingerprint, hex) && info->root[0] && strlen(path) < 4096)
            memcpy(dir, path, strlen(path) + 1);
        rot_stage_close(&stage);
    }
    closedir(folder);
    return 0;
}

static int transcode(const rot_job *job, const char *from_dir, const rot_stage_plan *plan,
                     rot_err *err)
{
    const char *owner = job->team ? rot_team_owner(job->team) : NULL;
    rot_stage *from = NULL;
    ROT_TRY(rot_stage_open(from_dir, &from, err));
    uint64_t bytes = rot_stage_get_info(from)->payload_bytes;
    int rc = rot_preflight_stage(job, plan, bytes, err);
    if (rc == 0) rc = rot_stage_transcode(from, plan->dir, &plan->spec, owner, err);
    rot_stage_close(&from);
    return rc;
}

typedef int rot_make(rot_job *job, const void *from, const rot_stage_plan *plan, rot_err *err);

// make_embeds.c says more of its stage.
static void note_profile(rot_job *job, const rot_stage_plan *plan, double start)
{
    if (job->profile)
        json_array_append_new(job->profile,
                              json_pack("{s:s, s:s, s:f}", "split", plan->split, "stage",
                                        plan->stage, "seconds", rot_seconds() - start));
}

static int make_tokens(rot_job *job, const void *from, const rot_stage_plan *plan, rot_err *err)
{
    double start = rot_seconds();
    int rc = rot_make_tokens(job, from, plan, err);
    note_profile(job, plan, start);
    return rc;
}

static int make_images(rot_job *job, const void *from, const rot_stage_plan *plan, rot_err *err)
{
    double start = rot_seconds();
    int rc = rot_make_images(job, from, plan, err);
    note_profile(job, plan, start);
    return rc;
}

static int make_embeds(rot_job *job, const void *from, const rot_stage_plan *plan, rot_err *err)
{
    return rot_make_embeds(job, from, plan, err);
}

// A kill may leave a .tmp beside what it became; once the stage is finished nobody goes on with it.
// Another rank may be writing files of its own still: it does without a shard or stage.json.
static void sweep(const char *dir, bool alone)
{
    DIR *folder = opendir(dir);
    if (!folder) return;
    for (struct dirent *e; (e = readdir(folder));) {
        const char *tmp = strstr(e->d_name, ".tmp");
        if (!tmp) continue;
        if (alone || !strncmp(e->d_name, "shard-", 6) || !strncmp(e->d_name, "stage.json.", 11) ||
            (tmp[4] == '.' && rot_owner_is_dead(tmp + 5)))
            unlinkat(dirfd(folder), e->d_name, 0);
    }
    closedir(folder);
}

int rot_stage_conclude(const rot_job *job, rot_stage_plan *plan, rot_err *err)
{
    uint8_t root[32];
    int rc = rot_stage_finish(plan->dir, &plan->spec, root, err);
    if (rc < 0) { // unless another rank did it meanwhile, and swept
        if (!job->team || rot_stage_plan_refresh(plan, NULL) < 0 || !plan->done) return rc;
        return 0;
    }
    sweep(plan->dir, !job->team);
    return rot_stage_plan_refresh(plan, err);
}

// Whatever the stage lacks, and its stage.json. Without `make`: what comes before the making.
static int complete(rot_job *job, rot_make *make, const void *from, rot_stage_plan *plan,
                    rot_err *err)
{
    if (plan->done) return 0;
    char sibling[4096];
    ROT_TRY(rot_stage_note_write(job, plan, err));
    ROT_TRY(find_sibling(job, plan, sibling, err));
    if (sibling[0]) {
        rot_job_note(job, "%s of split %s: transcoding %s", plan->stage, plan->split, sibling);
        ROT_TRY(transcode(job, sibling, plan, err));
    } else if (make) {
        ROT_TRY(make(job, from, plan, err));
    } else {
        return 0;
    }
    return rot_stage_conclude(job, plan, err);
}

// All stages of one split, planned and made as far as `depth` says. Embeds cannot be planned before
// the images are there, since they depend on their root.
static int build_split(rot_job *job, const rot_split_config *split, rot_build_depth depth,
                       rot_split_plan *out, rot_err *err)
{
    bool write = depth != ROT_BUILD_PLAN;
    const rot_config *config = job->config;
    ROT_TRY(rot_scan_split(job, split, &out->scan, err));
    ROT_TRY(rot_plan_tokens(job, split, &out->scan, &out->stages[0], err));
    if (config->has_render) ROT_TRY(rot_plan_images(job, split, &out->scan, &out->stages[1], err));
    out->n_stages = config->has_render ? 2 : 1;
    if (write) ROT_TRY(rot_preflight(job, split, out, err));
    if (write) ROT_TRY(complete(job, make_tokens, split, &out->stages[0], err));
    if (!config->has_render) return 0;
    if (write) ROT_TRY(complete(job, make_images, &out->stages[0], &out->stages[1], err));
    if (!out->stages[1].done || !config->has_encode) return 0;
    ROT_TRY(rot_plan_embeds(job, split, &out->scan, out->stages[1].root, &out->stages[2], err));
    out->n_stages = 3;
    rot_make *make = depth == ROT_BUILD_ALL ? make_embeds : NULL;
    if (write) ROT_TRY(complete(job, make, &out->stages[1], &out->stages[2], err));
    return 0;
}

int rot_job_open(rot_job *job, const rot_config *config, const rot_build_options *options,
                 rot_err *err)
{
    *job = (rot_job){
        .config = config, .options = *options, .threads = rot_threads_or_default(options->threads)};
    if (options->profile) job->profile = json_array();
    return rot_memo_open(&job->memo, config->root, options->rehash, err);
}

void rot_job_close(rot_job *job)
{
    // A plan, or a build that failed before it wrote, makes no root.
    if (rot_fs_is_dir(job->config->root)) rot_memo_save(&job->memo);
    rot_memo_close(&job->memo);
    rot_places_free(&job->places);
    if (job->profile) {
        json_t *all = json_pack("{s:i, s:o}", "threads", job->threads, "stages", job->profile);
        *job->options.profile = all ? json_dumps(all, JSON_REAL_PRECISION(6)) : NULL;
        json_decref(all);
        job->profile = NULL;
    }
}

static int n_wanted(const rot_config *config)
{
    return config->has_encode ? 3 : config->has_render ? 2 : 1;
}

void rot_split_plans_free(rot_split_plan *plans, int n)
{
    for (int i = 0; plans && i < n; i++)
        for (int j = 0; j < 3; j++) rot_stage_plan_free(&plans[i].stages[j]);
    rot_free(plans);
}

int rot_build_splits(rot_job *job, rot_build_depth depth, rot_split_plan *plans, bool *complete_out,
                     rot_err *err)
{
    *complete_out = true;
    for (int i = 0; i < job->config->n_splits; i++) {
        ROT_TRY(build_split(job, &job->config->splits[i], depth, &plans[i], err));
        rot_split_plan *plan = &plans[i];
        if (plan->n_stages < n_wanted(job->config)) *complete_out = false;
        for (int j = 0; j < plan->n_stages; j++)
            *complete_out = *complete_out && plan->stages[j].done;
    }
    return 0;
}

// An error about something that the config names begins with the place that names it.
static int say_where(int rc, const char *where, const char *key, rot_err *err)
{
    if (rc == ROT_ERR_MISSING || rc == ROT_ERR_CONFIG || rc == ROT_ERR_UNSUPPORTED)
        rot_err_prefix(err, "%s: %s: ", where ? where : "config", key);
    return rc;
}

static int check_fonts(const rot_config *config, rot_err *err)
{
    rot_renderer *renderer = NULL;
    rot_err own = {0};
    if (!err) err = &own;
    const char *where = config->where.fonts[0];
    int rc = rot_renderer_open(&config->render, &renderer, err);
    rot_renderer_close(&renderer);
    for (int i = 0; rc < 0 && i < config->render.n_fonts; i++) {
        char named[4200]; // as the renderer speaks of it
        snprintf(named, sizeof named, "font '%s'", config->render.fonts[i]);
        if (!strstr(err->message, named)) continue;
        where = config->where.fonts[i];
        break;
    }
    return say_where(rc, where, "render.fonts", err);
}

// What the config names is looked at before the first row is worked on, however late it is needed.
int rot_job_check_named(rot_job *job, rot_err *err)
{
    const rot_config *config = job->config;
    char hex[65];
    rot_encoder_info info;
    int rc = rot_job_tokenizer_hash(job, hex, err);
    ROT_TRY(say_where(rc, config->where.tokenizer, "tokenizer.path", err));
    if (config->has_render) ROT_TRY(check_fonts(config, err));
    if (!config->has_encode) return 0;
    rc = rot_job_encoder_info(job, &info, err);
    bool geometry = rc == ROT_ERR_CONFIG;
    return say_where(rc, geometry ? config->where.geometry : config->where.checkpoint,
                     geometry ? "encode.geometry" : "encode.checkpoint", err);
}

int rot_build(const rot_config *config, const rot_build_options *options, char **json, rot_err *err)
{
    rot_job job = {0};
    int rc = 0, lock = -1;
    bool is_complete = false;
    char path[4096];
    rot_ranks ranks;
    ROT_TRY(rot_ranks_detect(options->rank, options->ranks, &ranks, err));
    // A launcher that starts one process may start it again beside a first one that lives on.
    if (strcmp(ranks.launcher, "none") || options->prepare_only)
        return rot_build_ranked(config, options, &ranks, json, err);
    rot_split_plan *plans = rot_calloc((size_t)config->n_splits, sizeof *plans);
    if (!plans) return rot_no_memory(err, 0, "plans");
    ROT_GO(rot_job_open(&job, config, options, err));
    ROT_GO(rot_job_check_named(&job, err));
    // A finished build answers without a lock, so on a read-only root too.
    ROT_GO(rot_build_splits(&job, ROT_BUILD_PLAN, plans, &is_complete, err));
    if (!is_complete || !rot_dataset_is_current(config, plans)) {
        ROT_GO(rot_fs_join(path, sizeof path, config->root, ".rotoscope", err));
        ROT_GO(rot_fs_mkdirs(path, err));
        ROT_GO(rot_fs_join(path, sizeof path, config->root, ".rotoscope/lock", err));
        rc = rot_fs_lock(path, &lock, err);
        if (rc == ROT_ERR_LOCKED)
            rot_err_set(err, rc, "%s: another build is using this root", config->root);
        ROT_GO(rc);
        ROT_GO(rot_dataset_write_pending(config, err));
        rot_split_plans_free(plans, config->n_splits);
        plans = rot_calloc((size_t)config->n_splits, sizeof *plans);
        if (!plans) ROT_GO(rot_no_memory(err, 0, "plans"));
        ROT_GO(rot_build_splits(&job, ROT_BUILD_ALL, plans, &is_complete, err));
        ROT_GO(rot_dataset_write(config, plans, err));
        rot_claims_clear(config->root); // of ranks that were killed
    }
    ROT_GO(rot_check_policies(config, plans, err));
    if (json) ROT_GO(rot_dataset_text(config, json, err));
done:
    rot_job_close(&job);
    rot_split_plans_free(plans, config->n_splits);
    if (lock >= 0) close(lock);
    return rc;
}

int rot_build_plan(const rot_config *config, const rot_build_options *options, char **json,
                   rot_err *err)
{
    rot_job job = {0};
    int rc = 0;
    bool is_complete = false;
    rot_split_plan *plans = rot_calloc((size_t)config->n_splits, sizeof *plans);
    if (!plans) return rot_no_memory(err, 0, "plans");
    ROT_GO(rot_job_open(&job, config, options, err));
    ROT_GO(rot_job_check_named(&job, err));
    ROT_GO(rot_build_splits(&job, ROT_BUILD_PLAN, plans, &is_complete, err));
    ROT_GO(rot_plan_text(&job, plans, json, err));
done:
    rot_job_close(&job);
    rot_split_plans_free(plans, config->n_splits);
    return rc;
}
