// One micro-batch of Render-of-Thought.
//
// The rollout is free-running: latent v_i = head(h_i) is fed back detached, so it runs for all
// samples at once and without a graph. What has a graph is made of whole passes:
//   head     one forward and backward over the rows h of all samples
//   answer   one over [question, v, <img_end>, answer]; while nothing before the first latent
//            trains, over what follows the question alone, on the rollout's cache
//   latents  one over [question, v_1 .. v_{K-1}] with the v as constants, whose graph is that of
//   the
//            rollout step by step; needed only if the model or the special rows train
// A pass through the model that is needed for the loss of the head alone is the answer's.
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/random.h"
#include "trainer/loss.h"
#include "trainer/rot.h"

typedef struct step {
    rot_method_rot *m;
    const rot_micro_batch *batch;
    rot_examples examples;
    size_t d;
    bool graph;                              // the model or the special rows train
    bool answers;                            // the answer's loss is wanted
    bool targets;                            // the latents' is
    double vision_factor, lm_factor;         // what the two losses are multiplied with
    rot_context *latents, *supervised;       // the rollout's context; the answer's, if another
    int32_t *counts;                         // (n)
    uint64_t *keys;                          // (n) of dropout
    float *questions;                        // (questions, d) embeddings
    float *h, *v, *target;                   // (latents, d)
    float *dv, *dh;                          // (latents, d)
    float *active;                           // (n, d) rows of a rollout step
    float *rows, *hidden, *d_rows;           // (rows of a pass, d)
    float *ends, *d_ends, *losses, *weights; // (answers, d), (answers)
    int32_t *labels;
    double *vision, *lm, *of_latents; // (n), (n), (latents)
} step;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// Rows of the longest pass: question, latents, answer but for its last token, which predicts none.
static size_t pass_rows(const step *s)
{
    const rot_examples *e = &s->examples;
    return e->questions + e->latents + e->answers;
}

// Hands out pieces of a block; with NULL it counts.
static void *take(unsigned char *block, size_t *at, size_t n_bytes)
{
    unsigned char *piece = block ? block + *at : NULL;
    *at += (n_bytes + 63) / 64 * 64;
    return piece;
}

static size_t lay_out(step *s, unsigned char *block)
{
    bool backward = s->batch->backward;
    size_t n = s->examples.n, k = s->examples.latents, row = s->d * sizeof(float), at = 0;
    size_t answers = s->examples.answers, pass = pass_rows(s);
    s->counts = take(block, &at, n * sizeof *s->counts);
    s->keys = take(block, &at, n * sizeof *s->keys);
    s->questions = take(block, &at, s->examples.questions * row);
    s->h = take(block, &at, k * row);
    s->v = take(block, &at, k * row);
    s->target = take(block, &at, s->targets ? k * row : 0);
    s->dv = take(block, &at, backward ? k * row : 0);
    s->dh = take(block, &at, s->graph ? k * row : 0);
    s->active = take(block, &at, n * row);
    s->rows = take(block, &at, pass * row);
    s->hidden = take(block, &at, pass * row);
    s->d_rows = take(block, &at, backward ? pass * row : 0);
    s->ends = take(block, &at, answers * row);
    s->d_ends = take(block, &at, backward ? answers * row : 0);
    s->losses = take(block, &at, answers * sizeof *s->losses);
    s->weights = take(block, &at, answers * sizeof *s->weights);
    s->labels = take(block, &at, answers * sizeof *s->labels);
    s->vision = take(block, &at, n * sizeof *s->vision);
    s->lm = take(block, &at, n * sizeof *s->lm);
    s->of_latents = take(block, &at, s->targets ? k * sizeof *s->of_latents : 0);
    return at;
}

static int allocate(step *s, rot_err *err)
{
    size_t n_bytes = lay_out(s, NULL);
    rot_arena *arena = &s->m->arena;
    arena->block_bytes = n_bytes + n_bytes / 8; // of a new block: the next batch may be larger
    unsigned char *block = rot_arena_alloc(arena, n_bytes);
    if (!block) return rot_no_memory(err, n_bytes, "a micro-batch");
    lay_out(s, block);
    memset(s->vision, 0, s->examples.n * sizeof *s->vision);
    memset(s->lm, 0, s->examples.n * sizeof *s->lm);
    return 0;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static const float *special_row(const step *s, int32_t id)
{
    const rot_method_rot *m = s->m;
    if (!m->config->train_rows) return NULL;
    if (id == m->tokens.img_begin) return m->rows;
    return id == m->tokens.img_end ? m->rows + s->d : NULL;
}

static int embed(const step *s, const int32_t *ids, int32_t n, float *out, rot_err *err)
{
    ROT_TRY(rot_decoder_embed(s->m->base.decoder, ids, (size_t)n, out, err));
    for (int32_t i = 0; i < n; i++) {
        const float *row = special_row(s, ids[i]);
        if (row) memcpy(out + (size_t)i * s->d, row, s->d * sizeof *row);
    }
    return 0;
}

// The gradient of rows that were embedded.
static void embed_backward(const step *s, const int32_t *ids, int32_t n, const float *d_rows)
{
    rot_method_rot *m = s->m;
    rot_decoder_embed_backward(m->base.decoder, ids, (size_t)n, d_rows);
    for (int32_t i = 0; m->config->train_rows && i < n; i++) {
        int which = ids[i] == m->tokens.img_begin ? 0 : ids[i] == m->tokens.img_end ? 1 : -1;
        for (size_t c = 0; which >= 0 && c < s->d; c++)
            m->d_rows[(size_t)which * s->d + c] += d_rows[(size_t)i * s->d + c];
    }
}

/* ---- contexts -------------------------------------------------------------------------------- */

// The context of a pass, empty.
static int open_context(step *s, int pass, rot_context **out, rot_err *err)
{
    const rot_train_config *c = s->m->config;
    const rot_examples *e = &s->examples;
    rot_context **kept = &s->m->contexts[pass];
    for (size_t i = 0; i < e->n; i++)
        s->counts[i] = e->list[i].n_question + e->list[i].k + e->list[i].n_answer;
    if (*kept)
        ROT_TRY(rot_context_reset(*kept, e->n, s->counts, err));
    else
        ROT_TRY(rot_context_open(s->m->base.decoder, e->n, s->counts, true, kept, err));
    *out = *kept;
    if (!s->batch->backward) return 0;
    uint64_t epoch = rot_random_key(rot_random_key(c->seed, (uint64_t)pass), s->batch->epoch);
    for (size_t i = 0; i < e->n; i++) s->keys[i] = rot_random_key(epoch, e->list[i].sample);
    rot_context_dropout(*out, c->seed, s->keys);
    return 0;
}

/* ---- rollout --------------------------------------------------------------------------------- */

static int prefill(step *s, rot_err *err)
{
    const rot_examples *e = &s->examples;
    for (size_t i = 0; i < e->n; i++) {
        const rot_example *x = &e->list[i];
        s->counts[i] = x->n_question;
        ROT_TRY(embed(s, x->question, x->n_question, s->questions + x->question_at * s->d, err));
    }
    ROT_TRY(rot_context_forward(s->latents, s->counts, s->questions, false, s->hidden, err));
    for (size_t i = 0; i < e->n; i++) {
        const rot_example *x = &e->list[i];
        size_t last = x->question_at + (size_t)x->n_question - 1;
        memcpy(s->h + x->latent_at * s->d, s->hidden + last * s->d, s->d * sizeof *s->h);
    }
    return 0;
}

// Rows latent_at + k of the samples that have more than `least` latents, from or to a packed block.
static size_t pack(const step *s, float *rows, int32_t k, int32_t least, bool out, float *packed)
{
    size_t n = 0;
    for (size_t i = 0; i < s->examples.n; i++) {
        const rot_example *x = &s->examples.list[i];
        float *row = rows + (x->latent_at + (size_t)k) * s->d;
        if (x->k <= least) continue;
        float *at = packed + n++ * s->d;
        if (out)
            memcpy(row, at, s->d * sizeof *at);
        else
            memcpy(at, row, s->d * sizeof *at);
    }
    return n;
}

// h (latents, d) and v = head(h), sample after sample; each v but the last is fed back.
static int roll_out(step *s, rot_err *err)
{
    const rot_examples *e = &s->examples;
    int32_t most = 0;
    for (size_t i = 0; i < e->n; i++)
        if (e->list[i].k > most) most = e->list[i].k;
    ROT_TRY(prefill(s, err));
    for (int32_t k = 0; k < most; k++) {
        size_t n = pack(s, s->h, k, k, false, s->active);
        ROT_TRY(rot_head_forward(s->m->head, n, s->active, false, s->rows, err));
        pack(s, s->v, k, k, true, s->rows);
        if (!pack(s, s->v, k, k + 1, false, s->active)) continue;
        for (size_t i = 0; i < e->n; i++) s->counts[i] = e->list[i].k > k + 1;
        ROT_TRY(rot_context_forward(s->latents, s->counts, s->active, false, s->rows, err));
        pack(s, s->h, k + 1, k + 1, true, s->rows);
    }
    return 0;
}

// The same rows in one pass that is saved, with the latents as constants.
static int latent_pass(step *s, rot_err *err)
{
    const rot_examples *e = &s->examples;
    float *to = s->rows;
    for (size_t i = 0; i < e->n; i++) s->counts[i] = 0;
    rot_context_truncate(s->latents, s->counts);
    for (size_t i = 0; i < e->n; i++) {
        const rot_example *x = &e->list[i];
        size_t q = (size_t)x->n_question * s->d, v = (size_t)(x->k - 1) * s->d;
        s->counts[i] = x->n_question + x->k - 1;
        memcpy(to, s->questions + x->question_at * s->d, q * sizeof *to);
        memcpy(to + q, s->v + x->latent_at * s->d, v * sizeof *to);
        to += q + v;
    }
    ROT_TRY(rot_context_forward(s->latents, s->counts, s->rows, true, s->hidden, err));
    const float *from = s->hidden;
    for (size_t i = 0; i < e->n; i++) {
        const rot_example *x = &e->list[i];
        from += (size_t)(x->n_question - 1) * s->d;
        memcpy(s->h + x->latent_at * s->d, from, (size_t)x->k * s->d * sizeof *from);
        from += (size_t)x->k * s->d;
    }
    return 0;
}

static int latent_backward(step *s, rot_err *err)
{
    const rot_examples *e = &s->examples;
    float *d_hidden = s->hidden, *to = d_hidden;
    memset(d_hidden, 0, (e->questions + e->latents) * s->d * sizeof *d_hidden);
    for (size_t i = 0; i < e->n; i++) {
        const rot_example *x = &e->list[i];
        to += (size_t)(x->n_question - 1) * s->d;
        memcpy(to, s->dh + x->latent_at * s->d, (size_t)x->k * s->d * sizeof *to);
        to += (size_t)x->k * s->d;
    }
    ROT_TRY(rot_context_backward(s->latents, d_hidden, s->d_rows, err));
    const float *from = s->d_rows;
    for (size_t i = 0; i < e->n; i++) {
        const rot_example *x = &e->list[i];
        embed_backward(s, x->question, x->n_question, from);
        from += (size_t)(x->n_question + x->k - 1) * s->d;
    }
    return 0;
}

/* ---- the answer ------------------------------------------------------------------------------ */

// Rows of a sample in the answer's pass: the question's only if they are in its graph.
static int32_t question_rows(const step *s, const rot_example *x)
{
    return s->graph ? x->n_question : 0;
}

static int answer_pass(step *s, rot_err *err)
{
    const rot_examples *e = &s->examples;
    float *to = s->rows;
    s->supervised = s->latents;
    if (s->graph) {
        ROT_TRY(open_context(s, 1, &s->supervised, err));
    } else { // the latents were fed to the same cache; those of the graph come instead
        for (size_t i = 0; i < e->n; i++) s->counts[i] = e->list[i].n_question;
        rot_context_truncate(s->latents, s->counts);
    }
    for (size_t i = 0; i < e->n; i++) {
        const rot_example *x = &e->list[i];
        size_t q = (size_t)question_rows(s, x) * s->d, v = (size_t)x->k * s->d;
        s->counts[i] = question_rows(s, x) + x->k + x->n_answer - 1;
        memcpy(to, s->questions + x->question_at * s->d, q * sizeof *to);
        memcpy(to + q, s->v + x->latent_at * s->d, v * sizeof *to);
        ROT_TRY(embed(s, x->answer, x->n_answer - 1, to + q + v, err));
        to += (size_t)s->counts[i] * s->d;
    }
    ROT_TRY(
        rot_context_forward(s->supervised, s->counts, s->rows, s->batch->backward, s->hidden, err));
    const float *from = s->hidden;
    for (size_t i = 0; i < e->n; i++) {
        const rot_example *x = &e->list[i];
        from += (size_t)(question_rows(s, x) + x->k - 1) * s->d; // the last latent's row
        memcpy(s->ends + x->answer_at * s->d, from, (size_t)x->n_answer * s->d * sizeof *from);
        memcpy(s->labels + x->answer_at, x->answer, (size_t)x->n_answer * sizeof *s->labels);
        from += (size_t)x->n_answer * s->d;
    }
    return 0;
}

// Cross entropy of <img_end> and the answer, a mean over each sample's tokens.
static int score_answers(step *s, rot_err *err)
{
    const rot_examples *e = &s->examples;
    double each = s->batch->weight * s->lm_factor / (double)e->n;
    for (size_t i = 0; i < e->n; i++)
        for (int32_t j = 0; j < e->list[i].n_answer; j++)
            s->weights[e->list[i].answer_at + (size_t)j] = (float)(each / e->list[i].n_answer);
    ROT_TRY(rot_decoder_cross_entropy(s->m->base.decoder, s->ends, s->labels, s->weights,
                                      e->answers, s->losses, s->batch->backward ? s->d_ends : NULL,
                                      err));
    for (size_t i = 0; i < e->n; i++) {
        for (int32_t j = 0; j < e->list[i].n_answer; j++)
            s->lm[i] += s->losses[e->list[i].answer_at + (size_t)j];
        s->lm[i] /= e->list[i].n_answer;
    }
    return 0;
}

static int answer_backward(step *s, rot_err *err)
{
    const rot_examples *e = &s->examples;
    float *d_hidden = s->hidden, *to = d_hidden;
    memset(d_hidden, 0, pass_rows(s) * s->d * sizeof *d_hidden);
    for (size_t i = 0; i < e->n; i++) {
        const rot_example *x = &e->list[i];
        to += (size_t)(question_rows(s, x) + x->k - 1) * s->d;
        memcpy(to, s->d_ends + x->answer_at * s->d, (size_t)x->n_answer * s->d * sizeof *to);
        to += (size_t)x->n_answer * s->d;
    }
    ROT_TRY(rot_context_backward(s->supervised, d_hidden, s->d_rows, err));
    const float *from = s->d_rows;
    for (size_t i = 0; i < e->n; i++) {
        const rot_example *x = &e->list[i];
        int32_t q = question_rows(s, x);
        if (q) embed_backward(s, x->question, q, from);
        from += (size_t)q * s->d;
        memcpy(s->dv + x->latent_at * s->d, from, (size_t)x->k * s->d * sizeof *from);
        from += (size_t)x->k * s->d;
        if (s->graph) embed_backward(s, x->answer, x->n_answer - 1, from);
        from += (size_t)(x->n_answer - 1) * s->d;
    }
    return 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

// The loss between latents and targets, a mean over each sample's latents; its gradient is added
// to dv.
static void score_latents(step *s)
{
    const rot_train_config *c = s->m->config;
    const rot_examples *e = &s->examples;
    double each = s->batch->weight * s->vision_factor / (double)e->n;
    int threads = s->m->train->threads;
    for (size_t i = 0; i < e->n; i++) {
        const rot_example *x = &e->list[i];
        double *losses = s->of_latents + x->latent_at;
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int32_t k = 0; k < x->k; k++) {
            size_t at = (x->latent_at + (size_t)k) * s->d;
            losses[k] = rot_latent_loss(c->loss, c->reduction, s->d, s->v + at, s->target + at,
                                        each / x->k, s->batch->backward ? s->dv + at : NULL);
        }
        for (int32_t k = 0; k < x->k; k++) s->vision[i] += losses[k];
        s->vision[i] /= x->k;
    }
}

static double factor(const rot_method_rot *m, int which, double fixed)
{
    double s = m->log_variances[which];
    if (!m->config->uncertainty) return fixed;
    return 0.5 * exp(-(s < -10 ? -10 : s > 10 ? 10 : s)); // Kendall, Gal, Cipolla 2018
}

static int sum_up(step *s, rot_method_losses *out, rot_err *err)
{
    rot_method_rot *m = s->m;
    const rot_examples *e = &s->examples;
    double means[2] = {0, 0};
    for (size_t i = 0; i < e->n; i++) {
        if (!isfinite(s->vision[i]) || !isfinite(s->lm[i]))
            ROT_FAIL(err, ROT_ERR_INPUT,
                     "sample '%s' (%llu): its loss is no number: vision %g, lm %g", e->list[i].id,
                     (unsigned long long)e->list[i].sample, s->vision[i], s->lm[i]);
        means[0] += s->vision[i];
        means[1] += s->lm[i];
    }
    for (int k = 0; k < 2; k++) means[k] /= (double)e->n;
    out->parts[0] = s->targets ? means[0] : NAN;
    out->parts[1] = s->answers ? means[1] : NAN;
    out->loss = s->vision_factor * means[0] + s->lm_factor * means[1];
    out->latents = e->latents;
    out->tokens = s->answers ? e->answers : 0;
    const double factors[2] = {s->vision_factor, s->lm_factor};
    for (int k = 0; m->config->uncertainty && k < 2; k++) {
        double v = m->log_variances[k];
        bool inside = v >= -10 && v <= 10;
        out->loss += 0.5 * (v < -10 ? -10 : v > 10 ? 10 : v);
        if (s->batch->backward && inside)
            m->d_log_variances[k] += (float)(s->batch->weight * (0.5 - factors[k] * means[k]));
    }
    return 0;
}

// A finite loss may have a gradient that is not.
static int check_gradients(const step *s, rot_err *err)
{
    for (size_t i = 0; i < s->examples.n; i++) {
        const rot_example *x = &s->examples.list[i];
        const float *dv = s->dv + x->latent_at * s->d;
        float sum = 0;
        for (size_t k = 0; k < (size_t)x->k * s->d; k++) sum += dv[k] * 0; // NaN stays, and inf
        if (sum != 0)
            ROT_FAIL(err, ROT_ERR_INPUT,
                     "sample '%s' (%llu): the gradient of its loss is no number", x->id,
                     (unsigned long long)x->sample);
    }
    return 0;
}

static int run(step *s, rot_method_losses *out, rot_err *err)
{
    rot_method_rot *m = s->m;
    bool backward = s->batch->backward;
    uint64_t begin = now_ns();
    ROT_TRY(rot_examples_read(m, s->batch, &s->examples, err));
    ROT_TRY(allocate(s, err));
    if (s->targets) ROT_TRY(rot_targets_read(m, s->batch, &s->examples, s->target, err));
    out->data_ns = now_ns() - begin;
    ROT_TRY(open_context(s, 0, &s->latents, err));
    ROT_TRY(roll_out(s, err));
    if (s->graph) ROT_TRY(latent_pass(s, err));
    if (backward) {
        ROT_TRY(rot_head_forward(m->head, s->examples.latents, s->h, true, s->v, err));
        memset(s->dv, 0, s->examples.latents * s->d * sizeof *s->dv);
    }
    if (s->answers) {
        ROT_TRY(answer_pass(s, err));
        ROT_TRY(score_answers(s, err));
        if (backward) ROT_TRY(answer_backward(s, err));
    }
    if (s->targets) score_latents(s);
    ROT_TRY(sum_up(s, out, err));
    if (!backward) return 0;
    ROT_TRY(check_gradients(s, err));
    ROT_TRY(rot_head_backward(m->head, s->dv, m->config->train_head, s->graph ? s->dh : NULL, err));
    return s->graph ? latent_backward(s, err) : 0;
}

int rot_step_run(rot_method_rot *m, const rot_micro_batch *batch, rot_method_losses *out,
                 rot_err *err)
{
    const rot_train_config *c = m->config;
    step s = {.m = m,
              .batch = batch,
              .d = (size_t)rot_decoder_get_info(m->base.decoder)->d,
              .graph = batch->backward && (c->tuning != ROT_TUNE_NONE || c->train_rows),
              .vision_factor = factor(m, 0, c->vision_weight),
              .lm_factor = factor(m, 1, c->lm_weight)};
    s.answers = s.lm_factor > 0;
    s.targets = s.vision_factor > 0;
    *out = (rot_method_losses){0};
    rot_arena_reset(&m->arena);
    return run(&s, out, err);
}
