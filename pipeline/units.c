#include "pipeline/units.h"

#include <omp.h>

#include "base/err.h"
#include "base/mem.h"

// One shard in the making.
typedef struct crew {
    const rot_unit_work *work;
    rot_sink *sink;
    rot_unit **units; // one per thread
    uint64_t end, unit_rows;
    pthread_mutex_t mutex; // of all below
    pthread_cond_t turn;
    uint64_t taken, appended; // up to these rows
    int failed;
    rot_err *err;
} crew;

// The next unit's rows, with what they are made of. False: there is none left.
static bool take(crew *c, int thread, uint64_t *first, uint64_t *n, int *rc, rot_err *err)
{
    pthread_mutex_lock(&c->mutex);
    bool is_one = !c->failed && c->taken < c->end;
    *first = c->taken;
    *n = c->end - *first < c->unit_rows ? c->end - *first : c->unit_rows;
    *rc = 0;
    if (is_one) {
        if (c->work->take) *rc = c->work->take(c->work->user, thread, *first, *n, err);
        c->taken = *rc < 0 ? c->end : *first + *n;
    }
    pthread_mutex_unlock(&c->mutex);
    return is_one;
}

static int make(crew *c, int thread, uint64_t first, uint64_t n, rot_err *err)
{
    ROT_TRY(rot_unit_begin(c->units[thread], first, err));
    return c->work->make(c->work->user, thread, first, n, c->units[thread], err);
}

// Waits for the units before. False: one of them failed.
static bool wait_for_turn(crew *c, uint64_t first)
{
    pthread_mutex_lock(&c->mutex);
    while (c->appended != first && !c->failed) pthread_cond_wait(&c->turn, &c->mutex);
    bool failed = c->failed;
    pthread_mutex_unlock(&c->mutex);
    return !failed;
}

static void end_turn(crew *c, uint64_t n, int rc, const rot_err *err)
{
    pthread_mutex_lock(&c->mutex);
    c->appended += n;
    c->failed = rc;
    if (rc < 0 && c->err) *c->err = *err;
    pthread_cond_broadcast(&c->turn);
    pthread_mutex_unlock(&c->mutex);
}

static void labour(crew *c, int thread)
{
    uint64_t first, n;
    rot_err err = {0};
    for (int rc; take(c, thread, &first, &n, &rc, &err);) {
        if (rc == 0) rc = make(c, thread, first, n, &err);
        if (!wait_for_turn(c, first)) return;
        if (rc == 0) rc = rot_sink_append_unit(c->sink, n, c->units[thread], &err);
        if (rc == 0) rc = rot_sink_step(c->sink, &err);
        end_turn(c, n, rc, &err);
    }
}

static int make_shard(rot_sink *sink, const rot_unit_work *work, rot_unit **units, rot_err *err)
{
    crew c = {.work = work,
              .sink = sink,
              .units = units,
              .end = sink->end,
              .unit_rows = sink->plan->spec.layout.commit_samples,
              .mutex = PTHREAD_MUTEX_INITIALIZER,
              .turn = PTHREAD_COND_INITIALIZER,
              .taken = sink->next,
              .appended = sink->next,
              .err = err};
    uint64_t n_units = (c.end - c.taken + c.unit_rows - 1) / c.unit_rows;
    int threads = sink->job->threads;
    if ((uint64_t)threads > n_units) threads = (int)n_units;
#pragma omp parallel num_threads(threads)
    labour(&c, omp_get_thread_num());
    pthread_cond_destroy(&c.turn);
    pthread_mutex_destroy(&c.mutex);
    return c.failed;
}

int rot_units_make(rot_job *job, const rot_stage_plan *plan, const rot_unit_work *work,
                   rot_err *err)
{
    rot_sink sink = {0};
    int rc = 0;
    rot_unit **units = rot_calloc((size_t)job->threads, sizeof *units);
    if (!units) return rot_no_memory(err, 0, "units");
    ROT_GO(rot_sink_open(&sink, job, plan, err));
    for (int i = 0; i < job->threads; i++) ROT_GO(rot_unit_open(&plan->spec, &units[i], err));
    for (uint64_t row = 0;;) {
        ROT_GO(rot_sink_seek(&sink, row, &row, err));
        if (row >= plan->spec.rows) break;
        ROT_GO(make_shard(&sink, work, units, err));
        row = sink.end;
    }
done:
    rot_sink_close(&sink);
    for (int i = 0; i < job->threads; i++) rot_unit_close(&units[i]);
    rot_free(units);
    return rc;
}
