#include "pipeline/sink.h"

#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/fs.h"
#include "pipeline/mend.h"

double rot_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int rot_sink_open(rot_sink *sink, const rot_job *job, const rot_stage_plan *plan, rot_err *err)
{
    *sink = (rot_sink){.job = job, .plan = plan, .start_seconds = rot_seconds()};
    return rot_fs_mkdirs(plan->dir, err);
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

// What came of the shard that is being published, if there is one.
static int join(rot_sink *sink, rot_err *err)
{
    if (!sink->publishing) return 0;
    pthread_join(sink->publisher, NULL);
    sink->publishing = false;
    if (sink->publish_rc < 0 && err) *err = sink->publish_err;
    return sink->publish_rc;
}

static int start_publishing(rot_sink *sink, rot_err *err)
{
    ROT_TRY(join(sink, err));
    sink->full = sink->writer;
    sink->full_shard = sink->shard;
    sink->writer = NULL;
    sink->publish_err = (rot_err){0};
    sink->publishing = pthread_create(&sink->publisher, NULL, publish, sink) == 0;
    return sink->publishing ? 0 : publish_full(sink, err);
}

bool rot_sink_has_shard(const rot_job *job, const rot_stage_plan *plan, uint32_t shard)
{
    return job->mend ? !rot_mend_wants(job->mend, shard) : rot_shard_is_published(plan->dir, shard);
}

int rot_sink_seek(rot_sink *sink, uint64_t row, uint64_t *needed, rot_err *err)
{
    const rot_stage_spec *spec = &sink->plan->spec;
    while (row < spec->rows) {
        if (sink->writer) {
            *needed = sink->next;
            return 0;
        }
        uint32_t shard = (uint32_t)(row / spec->layout.shard_samples);
        uint64_t first, n;
        rot_shard_range(spec, shard, &first, &n);
        sink->shard = shard;
        sink->end = first + n;
        row = sink->end;
        if (rot_sink_has_shard(sink->job, sink->plan, shard)) continue;
        int rc = rot_shard_writer_open(sink->plan->dir, spec, shard, NULL, &sink->writer,
                                       &sink->next, err);
        if (rc == ROT_ERR_NOT_FOUND) continue; // published since
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

int rot_sink_step(rot_sink *sink, rot_err *err)
{
    const rot_build_options *options = &sink->job->options;
    uint64_t total = sink->plan->spec.rows, done = sink->next > total ? total : sink->next;
    rot_progress progress = {.split = sink->plan->split,
                             .stage = sink->plan->stage,
                             .done = done,
                             .total = total,
                             .resumed = done > sink->made ? done - sink->made : 0,
                             .seconds = rot_seconds() - sink->start_seconds};
    if (options->progress) options->progress(options->user, &progress);
    if (options->stop && *options->stop)
        ROT_FAIL(err, ROT_ERR_STOPPED,
                 "stopped in stage %s of split %s after %llu of %llu rows: run again to go on",
                 sink->plan->stage, sink->plan->split, (unsigned long long)done,
                 (unsigned long long)total);
    return 0;
}

void rot_sink_close(rot_sink *sink)
{
    join(sink, NULL);
    rot_shard_writer_close(&sink->writer);
}

uint64_t rot_sink_window(const rot_sink *sink, uint64_t row, uint64_t n)
{
    return n < sink->end - row ? n : sink->end - row;
}
