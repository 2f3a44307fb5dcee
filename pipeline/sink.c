#include "pipeline/sink.h"

#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "pipeline/mend.h"
#include "pipeline/shard_queue.h"

double rot_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int rot_sink_open(rot_sink *sink, const rot_job *job, const rot_stage_plan *plan, rot_err *err)
{
    *sink = (rot_sink){.job = job, .plan = plan, .start_seconds = rot_seconds()};
    uint32_t n = rot_shard_count(&plan->spec);
    ROT_TRY(rot_fs_mkdirs(plan->dir, err));
    sink->left = rot_calloc(n + 1, sizeof *sink->left);
    if (!sink->left) return rot_no_memory(err, n, "shards");
    return rot_shard_find_leftovers(plan->dir, n, sink->left, err);
}

static rot_shard_queue *queue_of(const rot_sink *sink)
{
    return sink->job->queue;
}

// Whose name unfinished shards bear: a rank's, so that no two write one file.
static const char *owner_of(const rot_sink *sink)
{
    return sink->job->team ? rot_team_owner(sink->job->team) : NULL;
}

static const char *scratch_of(const rot_sink *sink)
{
    return sink->job->options.scratch;
}

static int publish_full(rot_sink *sink, rot_err *err)
{
    ROT_TRY(rot_shard_writer_publish(&sink->full, err));
    return sink->job->mend ? rot_mend_put(sink->job->mend, sink->full_shard, err) : 0;
}

static void *publish(void *user)
{
    rot_sink *sink = user;
    sink->publish_rc = publish_full(sink, &sink->publish_err);
    return NULL;
}

static int published(rot_sink *sink, int rc)
{
    if (rc == 0 && queue_of(sink)) rot_shard_queue_done(queue_of(sink), sink->full_shard);
    return rc;
}

// What came of the shard that is being published, if there is one.
static int join(rot_sink *sink, rot_err *err)
{
    if (!sink->publishing) return 0;
    pthread_join(sink->publisher, NULL);
    sink->publishing = false;
    if (sink->publish_rc < 0 && err) *err = sink->publish_err;
    return published(sink, sink->publish_rc);
}

static int start_publishing(rot_sink *sink, rot_err *err)
{
    ROT_TRY(join(sink, err));
    sink->full = sink->writer;
    sink->full_shard = sink->shard;
    sink->writer = NULL;
    sink->publish_err = (rot_err){0};
    sink->publishing = pthread_create(&sink->publisher, NULL, publish, sink) == 0;
    return sink->publishing ? 0 : published(sink, publish_full(sink, err));
}

// The shard to make next: that of `row`, or what the queue gives. False: there is none.
static int next_shard(rot_sink *sink, uint64_t row, uint32_t *shard, rot_err *err)
{
    const rot_stage_spec *spec = &sink->plan->spec;
    if (queue_of(sink)) return rot_shard_queue_next(queue_of(sink), shard, err);
    *shard = (uint32_t)(row / spec->layout.shard_samples);
    return row < spec->rows;
}

// Whether there may be an unfinished file to go on with.
static bool is_left(const rot_sink *sink)
{
    const rot_shard_queue *queue = queue_of(sink);
    if (sink->left[sink->shard]) return true;
    // Other ranks may have left it since: killed with their claim on it, or told to stop.
    return queue && (queue->took_over || rot_shard_is_left(sink->plan->dir, sink->shard));
}

static int open_shard(rot_sink *sink, rot_err *err)
{
    const char *dir = sink->plan->dir, *owner = owner_of(sink), *scratch = scratch_of(sink);
    if (is_left(sink))
        ROT_TRY(rot_shard_adopt(dir, scratch, sink->shard, owner, rot_owner_is_dead, err));
    return rot_shard_writer_open_scratch(dir, scratch, &sink->plan->spec, sink->shard, owner,
                                         &sink->writer, &sink->next, err);
}

bool rot_sink_has_shard(const rot_job *job, const rot_stage_plan *plan, uint32_t shard)
{
    return job->mend ? !rot_mend_wants(job->mend, shard) : rot_shard_is_published(plan->dir, shard);
}

int rot_sink_seek(rot_sink *sink, uint64_t row, uint64_t *needed, rot_err *err)
{
    const rot_stage_spec *spec = &sink->plan->spec;
    for (uint32_t shard;;) {
        if (sink->writer) {
            *needed = sink->next;
            return 0;
        }
        int rc = next_shard(sink, row, &shard, err);
        if (rc < 0) return rc;
        if (!rc) break;
        uint64_t first, n;
        rot_shard_range(spec, shard, &first, &n);
        sink->shard = shard;
        sink->end = first + n;
        row = sink->end;
        if (rot_sink_has_shard(sink->job, sink->plan, shard)) continue;
        rc = open_shard(sink, err);
        if (rc == ROT_ERR_NOT_FOUND) { // published since
            if (queue_of(sink)) rot_shard_queue_done(queue_of(sink), shard);
            continue;
        }
        if (rc < 0) return rc;
        if (sink->next == sink->end)
            ROT_TRY(start_publishing(sink, err));
        else
            row = sink->next;
    }
    *needed = spec->rows;
    return join(sink, err);
}

static int appended(rot_sink *sink, uint64_t n, rot_err *err)
{
    sink->next += n;
    sink->made += n;
    return sink->next < sink->end ? 0 : start_publishing(sink, err);
}

int rot_sink_append(rot_sink *sink, uint64_t row, const rot_record *record, rot_err *err)
{
    ROT_TRY(rot_shard_writer_append(sink->writer, row, record, err));
    return appended(sink, 1, err);
}

int rot_sink_append_unit(rot_sink *sink, uint64_t n, const rot_unit *unit, rot_err *err)
{
    ROT_TRY(rot_shard_writer_append_unit(sink->writer, unit, err));
    return appended(sink, n, err);
}

void rot_sink_report(rot_sink *sink)
{
    const rot_build_options *options = &sink->job->options;
    uint64_t total = sink->plan->spec.rows, done = sink->next > total ? total : sink->next;
    rot_progress progress = sink->encoded;
    progress.split = sink->plan->split;
    progress.stage = sink->plan->stage;
    progress.done = done;
    progress.total = total;
    progress.resumed = done > sink->made ? done - sink->made : 0;
    progress.seconds = rot_seconds() - sink->start_seconds;
    if (queue_of(sink) && sink->writer) {
        uint64_t first, n;
        rot_shard_range(&sink->plan->spec, sink->shard, &first, &n);
        rot_shard_queue_report(queue_of(sink), sink->shard, sink->next - first, n,
                               progress.seconds > 0 ? (double)sink->made / progress.seconds : 0);
    }
    if (options->progress) options->progress(options->user, &progress);
}

bool rot_sink_is_stopped(const rot_sink *sink)
{
    // Set by a signal handler, or by another thread of the caller.
    const volatile sig_atomic_t *stop = sink->job->options.stop;
    return stop && __atomic_load_n(stop, __ATOMIC_RELAXED);
}

int rot_sink_step(rot_sink *sink, rot_err *err)
{
    rot_sink_report(sink);
    if (!rot_sink_is_stopped(sink)) return 0;
    uint64_t total = sink->plan->spec.rows;
    ROT_FAIL(err, ROT_ERR_STOPPED,
             "stopped in stage %s of split %s after %llu of %llu rows: run again to go on",
             sink->plan->stage, sink->plan->split,
             (unsigned long long)(sink->next > total ? total : sink->next),
             (unsigned long long)total);
}

void rot_sink_close(rot_sink *sink)
{
    join(sink, NULL);
    rot_free(sink->left);
    sink->left = NULL;
    if (!sink->writer) return;
    rot_shard_writer_close(&sink->writer);
    if (owner_of(sink) || scratch_of(sink))
        rot_shard_leave(sink->plan->dir, scratch_of(sink), sink->shard, owner_of(sink));
}
