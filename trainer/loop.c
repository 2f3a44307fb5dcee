// The run: epochs of micro-batches, optimizer steps, validation, checkpoints.
//
// A checkpoint is only ever of a place between two optimizer steps. What stops a run between two
// micro-batches of a step loses the gradients of that step and nothing else: they are computed
// again, from the same samples with the same random numbers, and are the same.
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/threads.h"
#include "trainer/batches.h"
#include "trainer/checkpoint.h"
#include "trainer/schedule.h"

typedef struct run {
    const rot_train_config *config;
    rot_train_options options;
    int threads;
    rot_method *method;
    rot_train *train;
    rot_optimizer *optimizer;
    rot_train_state state;
    rot_epoch_batches batches;
    uint64_t epoch;         // that `batches` is of
    uint64_t steps, length; // of the whole run; as schedule.length counts it
    uint64_t resumed;       // steps of an earlier run
    int64_t saved_step;     // of the last checkpoint; -1: none
    uint64_t saved_closed;  // its epochs_closed
    char *config_text;
    int lock, log; // descriptors
    double begin;  // seconds
    double last_loss;
} run;

// What the micro-batches of one step add up to.
typedef struct tally {
    uint32_t n;
    uint64_t samples, latents, tokens, data_ns;
    double loss, parts[ROT_METHOD_LOSSES];
    double begin; // seconds
} tally;

rot_train_options rot_train_options_default(void)
{
    return (rot_train_options){.size = sizeof(rot_train_options)};
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool stopped(const run *r)
{
    return r->options.stop && *r->options.stop;
}

static void note(const run *r, const char *message)
{
    if (r->options.note) r->options.note(r->options.user, message);
}

/* ---- opening --------------------------------------------------------------------------------- */

static int open_log(run *r, rot_err *err)
{
    char path[4096];
    ROT_TRY(rot_fs_join(path, sizeof path, r->config->out, "train.jsonl", err));
    r->log = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (r->log < 0) return rot_err_errno(err, errno, "open", path);
    // Lines of steps that will be taken again.
    off_t size = lseek(r->log, 0, SEEK_END);
    if ((uint64_t)size > r->state.log_bytes && ftruncate(r->log, (off_t)r->state.log_bytes) < 0)
        return rot_err_errno(err, errno, "truncate", path);
    return 0;
}

// Without `write` nothing is made or changed on disk.
static int open_run(run *r, const rot_train_config *config, const rot_train_options *options,
                    bool write, rot_err *err)
{
    *r = (run){.config = config, .lock = -1, .log = -1, .saved_step = -1, .epoch = UINT64_MAX};
    if (options->size != sizeof *options)
        ROT_FAIL(err, ROT_ERR_USAGE, "training options of %zu bytes, not %zu", options->size,
                 sizeof *options);
    r->options = *options;
    r->threads = rot_threads_or_default(options->threads);
    r->state = (rot_train_state){.validated_step = -1, .best_step = -1, .stage = -1};
    ROT_TRY(rot_train_config_write(config, &r->config_text, err));
    if (write) {
        char path[4096];
        ROT_TRY(rot_fs_mkdirs(config->out, err));
        ROT_TRY(rot_fs_join(path, sizeof path, config->out, ".lock", err));
        ROT_TRY(rot_fs_lock(path, &r->lock, err));
    }
    ROT_TRY(rot_method_open(config, r->threads, &r->method, err));
    ROT_TRY(rot_train_open("auto", ROT_PRECISION_F32, r->threads, &r->train, err));
    ROT_TRY(rot_optimizer_open(r->train, config, r->method->params, r->method->n_params,
                               &r->optimizer, err));
    r->steps = rot_run_steps(config, r->method->n_samples[ROT_TRAIN_SPLIT]);
    r->length = r->steps;
    if (config->length == ROT_LENGTH_MICRO_BATCHES)
        r->length =
            config->epochs * rot_epoch_micro_batches(config, r->method->n_samples[ROT_TRAIN_SPLIT]);
    r->begin = now();
    r->last_loss = NAN;
    return 0;
}

static int resume(run *r, rot_err *err)
{
    char message[160];
    int found = rot_checkpoint_load(r->config->out, r->method, r->optimizer, &r->state,
                                    r->config_text, err);
    if (found < 0) return found;
    if (found) {
        r->resumed = r->state.step;
        r->saved_step = (int64_t)r->state.step;
        r->saved_closed = r->state.epochs_closed;
        if (r->state.finished && r->state.step < r->steps) r->state.finished = false;
        snprintf(message, sizeof message, "going on from step %llu of %llu",
                 (unsigned long long)r->state.step, (unsigned long long)r->steps);
        note(r, message);
    }
    return open_log(r, err);
}

static void close_run(run *r)
{
    rot_epoch_batches_free(&r->batches);
    rot_optimizer_close(&r->optimizer);
    rot_method_close(&r->method);
    rot_train_close(&r->train);
    rot_free(r->config_text);
    if (r->log >= 0) close(r->log);
    if (r->lock >= 0) close(r->lock);
}

/* ---- the log --------------------------------------------------------------------------------- */

static int write_line(run *r, rot_str *line, rot_err *err)
{
    char path[4096];
    int rc = 0;
    rot_str_puts(line, "}\n");
    if (line->failed) ROT_GO(rot_no_memory(err, line->n_bytes, "a line of the log"));
    snprintf(path, sizeof path, "%s/train.jsonl", r->config->out);
    for (size_t at = 0; at < line->n_bytes;) {
        ssize_t n = write(r->log, line->text + at, line->n_bytes - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) ROT_GO(rot_err_errno(err, errno, "write", path));
        at += (size_t)n;
    }
    r->state.log_bytes += line->n_bytes;
done:
    rot_str_free(line);
    return rc;
}

// The losses that were computed; `prefix` before their names.
static void put_losses(const run *r, const char *prefix, double loss, const double *parts,
                       rot_str *line)
{
    rot_str_printf(line, ", \"%sloss\": %.9g", prefix, loss);
    const char *const *names = r->method->ops->losses;
    for (int i = 0; names[i]; i++)
        if (isfinite(parts[i]))
            rot_str_printf(line, ", \"%s%s\": %.9g", prefix, names[i], parts[i]);
}

static int log_step(run *r, const tally *t, double rate, double norm, rot_err *err)
{
    rot_str line = {0};
    double seconds = now() - t->begin;
    if (seconds <= 0) seconds = 1e-9;
    rot_str_printf(&line, "{\"step\": %llu, \"epoch\": %llu", (unsigned long long)r->state.step,
                   (unsigned long long)r->epoch);
    if (r->state.stage > 0) rot_str_printf(&line, ", \"stage\": %d", r->state.stage);
    put_losses(r, "", t->loss, t->parts, &line);
    rot_str_printf(&line,
                   ", \"lr\": %.9g, \"grad_norm\": %.9g, \"samples\": %llu, \"latents\": %llu, "
                   "\"tokens\": %llu, \"samples_per_s\": %.4g, \"data_share\": %.3g",
                   rate, norm, (unsigned long long)t->samples, (unsigned long long)t->latents,
                   (unsigned long long)t->tokens, (double)t->samples / seconds,
                   (double)t->data_ns * 1e-9 / seconds);
    return write_line(r, &line, err);
}

static void show_progress(const run *r, const tally *t, double rate)
{
    double seconds = now() - r->begin, took = now() - t->begin;
    rot_train_progress progress = {.step = r->state.step,
                                   .steps = r->steps,
                                   .resumed = r->resumed,
                                   .epoch = r->epoch,
                                   .loss = t->loss,
                                   .lr = rate,
                                   .samples_per_s = took > 0 ? (double)t->samples / took : 0,
                                   .seconds = seconds};
    if (r->options.progress) r->options.progress(r->options.user, &progress);
}

/* ---- validation and checkpoints -------------------------------------------------------------- */

static int save(run *r, rot_err *err)
{
    if (r->log >= 0 && fsync(r->log) < 0) return rot_err_errno(err, errno, "sync", "train.jsonl");
    ROT_TRY(rot_checkpoint_save(r->config->out, r->method, r->optimizer, &r->state, r->config_text,
                                r->config->keep, err));
    r->saved_step = (int64_t)r->state.step;
    r->saved_closed = r->state.epochs_closed;
    return 0;
}

static int save_if_new(run *r, rot_err *err)
{
    bool same = r->saved_step == (int64_t)r->state.step &&
                r->saved_closed == r->state.epochs_closed && !r->state.finished;
    return same ? 0 : save(r, err);
}

// Means over the validation split.
static int measure(run *r, double *loss, double parts[ROT_METHOD_LOSSES], rot_err *err)
{
    enum { MOST = 1024 };
    uint64_t samples[MOST], n = r->method->n_samples[ROT_VALID_SPLIT], index = 0;
    uint64_t each = r->config->batch < MOST ? r->config->batch : MOST;
    *loss = 0;
    memset(parts, 0, ROT_METHOD_LOSSES * sizeof *parts);
    for (uint64_t at = 0; at < n; at += each, index++) {
        size_t count = (size_t)(n - at < each ? n - at : each);
        rot_method_losses losses;
        if (stopped(r)) ROT_FAIL(err, ROT_ERR_STOPPED, "stopped while validating: run again");
        for (size_t i = 0; i < count; i++) samples[i] = at + i;
        rot_micro_batch batch = {.which = ROT_VALID_SPLIT,
                                 .epoch = r->epoch,
                                 .index = index,
                                 .samples = samples,
                                 .n = count,
                                 .weight = 1};
        ROT_TRY(r->method->ops->run(r->method, &batch, &losses, err));
        double share = (double)count / (double)n;
        *loss += losses.loss * share;
        for (int i = 0; i < ROT_METHOD_LOSSES; i++) parts[i] += losses.parts[i] * share;
    }
    return 0;
}

// Validates unless this step was. *better: it is the best so far.
static int validate(run *r, bool *better, rot_err *err)
{
    double loss, parts[ROT_METHOD_LOSSES];
    rot_train_state *s = &r->state;
    rot_str line = {0};
    *better = false;
    if (!r->config->valid || s->validated_step == (int64_t)s->step) return 0;
    ROT_TRY(measure(r, &loss, parts, err));
    s->validated_step = (int64_t)s->step;
    *better = s->best_step < 0 || loss < s->best_loss;
    if (*better) {
        s->best_loss = loss;
        s->best_step = (int64_t)s->step;
    }
    s->without_better = *better ? 0 : s->without_better + 1;
    rot_str_printf(&line, "{\"step\": %llu, \"epoch\": %llu", (unsigned long long)s->step,
                   (unsigned long long)r->epoch);
    put_losses(r, "valid_", loss, parts, &line);
    return write_line(r, &line, err);
}

static bool out_of_patience(const run *r)
{
    return r->config->patience && r->state.without_better >= r->config->patience;
}

static bool is_due(uint64_t step, uint32_t every)
{
    return every && step && step % every == 0;
}

// What is due after a step. Asked again after resuming: what was done is not done again.
static int after_step(run *r, rot_err *err)
{
    bool better = false;
    if (is_due(r->state.step, r->config->valid_every)) ROT_TRY(validate(r, &better, err));
    if (better || is_due(r->state.step, r->config->save_every)) return save_if_new(r, err);
    return 0;
}

static int after_epoch(run *r, rot_err *err)
{
    bool better = false;
    if (r->state.epochs_closed > r->epoch) return 0;
    if (!r->config->valid_every) ROT_TRY(validate(r, &better, err));
    r->state.epochs_closed = r->epoch + 1;
    return save_if_new(r, err);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static int run_micro_batch(run *r, uint64_t index, tally *t, rot_err *err)
{
    const rot_train_config *c = r->config;
    const rot_epoch_batches *b = &r->batches;
    size_t n = (size_t)(b->starts[index + 1] - b->starts[index]);
    double share = c->average == ROT_AVERAGE_SAMPLES ? (double)n / c->batch : 1;
    rot_method_losses losses;
    rot_micro_batch batch = {.which = ROT_TRAIN_SPLIT,
                             .epoch = r->epoch,
                             .index = index,
                             .samples = b->samples + b->starts[index],
                             .n = n,
                             .backward = true,
                             .weight = share / c->accumulate};
    if (!t->n) {
        t->begin = now();
        r->method->ops->zero_grad(r->method);
    }
    ROT_TRY(r->method->ops->run(r->method, &batch, &losses, err));
    t->n++;
    t->samples += n;
    t->latents += losses.latents;
    t->tokens += losses.tokens;
    t->data_ns += losses.data_ns;
    t->loss += losses.loss * batch.weight;
    for (int i = 0; i < ROT_METHOD_LOSSES; i++) t->parts[i] += losses.parts[i] * batch.weight;
    return 0;
}

// The optimizer's step over the gradients of the tally's micro-batches; the next one is `micro`.
static int take_step(run *r, uint64_t micro, tally *t, rot_err *err)
{
    const rot_train_config *c = r->config;
    // What the weights of its micro-batches add up to is 1 again, for a step of fewer too.
    double rescale = c->average == ROT_AVERAGE_SAMPLES
                         ? (double)c->accumulate * c->batch / (double)t->samples
                         : (double)c->accumulate / t->n;
    double rate = rot_schedule_rate(c, r->state.step, r->length);
    double norm = rescale * rot_optimizer_norm(r->optimizer);
    if (!isfinite(norm))
        ROT_FAIL(err, ROT_ERR_INPUT,
                 "step %llu: the gradient is no number; its first sample is %llu",
                 (unsigned long long)r->state.step + 1,
                 (unsigned long long)r->batches.samples[r->batches.starts[micro - 1]]);
    rot_optimizer_step(r->optimizer, rate, rescale, norm);
    ROT_TRY(r->method->ops->updated(r->method, err));
    r->state.step++;
    r->state.epoch = r->epoch;
    r->state.micro = micro;
    r->state.samples += t->samples;
    t->loss *= rescale;
    for (int i = 0; i < ROT_METHOD_LOSSES; i++) t->parts[i] *= rescale;
    r->last_loss = t->loss;
    if (r->state.step % c->log_every == 0 || r->state.step == r->steps)
        ROT_TRY(log_step(r, t, rate, norm, err));
    show_progress(r, t, rate);
    *t = (tally){0};
    return 0;
}

static int begin_epoch(run *r, uint64_t epoch, rot_err *err)
{
    rot_epoch_plan plan = {0};
    ROT_TRY(r->method->ops->begin_epoch(r->method, epoch, &plan, err));
    bool new_stage = r->state.stage >= 0 && plan.stage != r->state.stage;
    bool fresh = r->state.micro == 0 || r->state.epoch != epoch;
    if (fresh && epoch &&
        (r->config->reset == ROT_RESET_EPOCH || (r->config->reset == ROT_RESET_STAGE && new_stage)))
        rot_optimizer_reset(r->optimizer);
    r->state.stage = plan.stage;
    rot_epoch_batches_free(&r->batches);
    r->epoch = epoch;
    return rot_epoch_batches_make(r->config, epoch, r->method->n_samples[ROT_TRAIN_SPLIT],
                                  plan.lengths, &r->batches, err);
}

// From micro-batch `from` on. *t goes on into the next epoch under train.rest: carry.
static int run_epoch(run *r, uint64_t from, tally *t, rot_err *err)
{
    const rot_train_config *c = r->config;
    for (uint64_t i = from; i < r->batches.n && r->state.step < r->steps; i++) {
        if (stopped(r)) ROT_FAIL(err, ROT_ERR_STOPPED, "stopped: run again to go on");
        ROT_TRY(run_micro_batch(r, i, t, err));
        bool last = i + 1 == r->batches.n && c->rest == ROT_REST_STEP;
        if (t->n < c->accumulate && !last) continue;
        ROT_TRY(take_step(r, i + 1, t, err));
        ROT_TRY(after_step(r, err));
        if (out_of_patience(r)) return 0;
    }
    return after_epoch(r, err);
}

static int run_epochs(run *r, rot_err *err)
{
    tally t = {0};
    uint64_t from = r->state.micro;
    if (r->state.finished) return 0;
    for (uint64_t e = r->state.epoch; e < r->config->epochs; e++, from = 0) {
        ROT_TRY(begin_epoch(r, e, err));
        if (e == r->state.epoch && from) ROT_TRY(after_step(r, err)); // what a stop came before
        if (!out_of_patience(r)) ROT_TRY(run_epoch(r, from, &t, err));
        if (r->state.step >= r->steps || out_of_patience(r)) break;
    }
    r->state.finished = true;
    return save_if_new(r, err);
}

/* ---- the public calls ------------------------------------------------------------------------ */

static int report(const run *r, char **json, rot_err *err)
{
    const rot_train_state *s = &r->state;
    char name[64];
    snprintf(name, sizeof name, "step-%08llu", (unsigned long long)s->step);
    json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:b}", "out", r->config->out, "checkpoint",
                          name, "step", (json_int_t)s->step, "samples", (json_int_t)s->samples,
                          "resumed_step", (json_int_t)r->resumed, "early_stop", s->step < r->steps);
    if (o && isfinite(r->last_loss)) json_object_set_new(o, "loss", json_real(r->last_loss));
    if (o && s->best_step >= 0) {
        json_object_set_new(o, "best_step", json_integer(s->best_step));
        json_object_set_new(o, "best_valid_loss", json_real(s->best_loss));
    }
    *json = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    return *json ? 0 : rot_no_memory(err, 0, "a report");
}

int rot_train_run(const rot_train_config *config, const rot_train_options *options, char **json,
                  rot_err *err)
{
    run r;
    int rc = 0;
    *json = NULL;
    ROT_GO(open_run(&r, config, options, true, err));
    ROT_GO(resume(&r, err));
    rc = run_epochs(&r, err);
    if (rc == ROT_ERR_STOPPED || rc == ROT_ERR_INPUT) {
        rot_err later = {0}; // the first error is the one that is told
        if (save_if_new(&r, &later) < 0) note(&r, later.message);
    }
    if (rc == 0) rc = report(&r, json, err);
done:
    close_run(&r);
    return rc;
}

static json_t *rates(const run *r)
{
    json_t *list = json_array();
    for (int i = 0; i <= 4 && r->steps; i++) {
        uint64_t step = (r->steps - 1) * (uint64_t)i / 4;
        json_array_append_new(list, json_pack("[I, f]", (json_int_t)step + 1,
                                              rot_schedule_rate(r->config, step, r->length)));
    }
    return list;
}

static int plan_text(const run *r, char **json, rot_err *err)
{
    char *described = NULL;
    uint64_t trained = 0, n = r->method->n_samples[ROT_TRAIN_SPLIT];
    for (size_t i = 0; i < r->method->n_params; i++) trained += r->method->params[i].n;
    ROT_TRY(r->method->ops->describe(r->method, &described, err));
    json_t *o = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "method",
        r->method->ops->name, "out", r->config->out, "samples", (json_int_t)n, "valid_samples",
        (json_int_t)r->method->n_samples[ROT_VALID_SPLIT], "parameters",
        (json_int_t)rot_decoder_get_info(r->method->decoder)->n_parameters, "trained_parameters",
        (json_int_t)trained, "micro_batches_per_epoch",
        (json_int_t)rot_epoch_micro_batches(r->config, n), "steps", (json_int_t)r->steps,
        "done_steps", (json_int_t)(r->resumed), "checkpoint_bytes", (json_int_t)(12 * trained),
        "rates", rates(r), "model", json_loads(described, 0, NULL));
    *json = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    free(described);
    return *json ? 0 : rot_no_memory(err, 0, "a plan");
}

int rot_train_plan(const rot_train_config *config, const rot_train_options *options, char **json,
                   rot_err *err)
{
    run r;
    int rc = 0;
    *json = NULL;
    ROT_GO(open_run(&r, config, options, false, err));
    int64_t newest;
    ROT_GO(rot_checkpoint_newest(config->out, r.config_text, &newest, err));
    r.resumed = newest < 0 ? 0 : (uint64_t)newest;
    ROT_GO(plan_text(&r, json, err));
done:
    close_run(&r);
    return rc;
}
