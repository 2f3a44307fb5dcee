// Questions answered in a batch: prompts, latents one after another, tokens one after another.
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/random.h"
#include "trainer/generate.h"

/* ---- one question ------------------------------------------------------------------------------
 */

static int make_prompt(rot_generator *g, const rot_question *q, rot_generated *out, rot_err *err)
{
    const rot_generate_options *o = g->options;
    const int32_t *ids;
    size_t n_ids, n_pauses = o->method == ROT_GENERATE_PAUSE ? (size_t)o->latents : 0;
    rot_str text = {0};
    if (o->method == ROT_GENERATE_ROT) {
        rot_sample_ids sample;
        ROT_TRY(rot_tokenizer_encode_sample(g->worker, ROT_LAYOUT_ROT, q->question,
                                            strlen(q->question), "", 0, "", 0, &sample, err));
        ids = sample.question;
        n_ids = sample.n_question;
    } else {
        rot_str_puts(&text, q->question);
        rot_str_puts(&text, "\n");
        int rc = text.failed
                     ? rot_no_memory(err, text.n_bytes, "a question")
                     : rot_tokenizer_encode(g->worker, text.text, text.n_bytes, &ids, &n_ids, err);
        rot_str_free(&text);
        ROT_TRY(rc);
    }
    if (n_ids > INT32_MAX / 2) ROT_FAIL(err, ROT_ERR_TOO_LARGE, "question %s is too long", q->id);
    out->prompt = rot_malloc((n_ids + n_pauses + 3) * sizeof *out->prompt);
    if (!out->prompt) return rot_no_memory(err, n_ids * sizeof *out->prompt, "a question");
    if (g->first >= 0 && o->method != ROT_GENERATE_ROT) out->prompt[out->n_prompt++] = g->first;
    memcpy(out->prompt + out->n_prompt, ids, n_ids * sizeof *ids);
    out->n_prompt += (int32_t)n_ids;
    if (g->begin >= 0 && o->method != ROT_GENERATE_ROT) out->prompt[out->n_prompt++] = g->begin;
    for (size_t i = 0; i < n_pauses; i++) out->prompt[out->n_prompt++] = g->thought;
    return 0;
}

static bool has_latents(const rot_generator *g)
{
    return g->options->method == ROT_GENERATE_ROT || g->options->method == ROT_GENERATE_COCONUT;
}

int rot_generated_open(rot_generator *g, const rot_question *question, uint64_t ordinal,
                       rot_generated *out, rot_err *err)
{
    const rot_generate_options *o = g->options;
    *out = (rot_generated){.question = question, .ordinal = ordinal};
    int rc = make_prompt(g, question, out, err);
    const size_t n_latents = has_latents(g) ? (size_t)o->latents : 0;
    if (rc == 0) {
        out->latents = rot_malloc((n_latents * (size_t)g->d + 1) * sizeof(float));
        out->ids = rot_malloc((size_t)o->max_new_tokens * sizeof *out->ids);
        if (!out->latents || !out->ids)
            rc = rot_no_memory(err, n_latents * (size_t)g->d * sizeof(float), "latents");
    }
    if (rc < 0) rot_generated_close(out);
    const int64_t rows = out->n_prompt + (int64_t)n_latents + (g->end >= 0) + 1;
    const int32_t positions = rot_decoder_get_info(g->decoder)->positions;
    if (rc == 0 && (rows > positions || !out->n_prompt))
        snprintf(out->failure, sizeof out->failure,
                 out->n_prompt ? "%lld rows before the answer, the model has %d positions"
                               : "an empty question",
                 (long long)rows, positions);
    return rc;
}

void rot_generated_close(rot_generated *generated)
{
    rot_free(generated->prompt);
    rot_free(generated->latents);
    rot_free(generated->ids);
    generated->prompt = generated->ids = NULL;
    generated->latents = NULL;
}

/* ---- a batch -----------------------------------------------------------------------------------
 */

typedef struct run {
    rot_generator *g;
    rot_generated *batch;
    size_t n;
    rot_context *context;
    int32_t *counts; // (n) rows of the next forward
    bool *active;    // (n)
    float *last;     // (n, d) the hidden state behind the latest row
    float *in, *out; // (n, d) packed rows of a step
    float *logits;   // (n, vocab) packed
    int32_t *tokens; // (n)
} run;

static size_t pack(const run *r, float *rows) // the hidden states of the active ones
{
    const size_t d = (size_t)r->g->d;
    size_t m = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->active[i]) memcpy(rows + m++ * d, r->last + i * d, d * sizeof *rows);
    return m;
}

// One row of each active sequence forward, packed in r->in; its hidden state becomes the last.
static int step(run *r, rot_err *err)
{
    const size_t d = (size_t)r->g->d;
    size_t m = 0;
    for (size_t i = 0; i < r->n; i++) r->counts[i] = r->active[i];
    ROT_TRY(rot_context_forward(r->context, r->counts, r->in, false, r->out, err));
    for (size_t i = 0; i < r->n; i++)
        if (r->active[i]) memcpy(r->last + i * d, r->out + m++ * d, d * sizeof *r->out);
    return 0;
}

// The same of tokens: token_of(i) of every active sequence.
static int step_tokens(run *r, rot_err *err)
{
    size_t m = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->active[i]) r->tokens[m++] = r->tokens[i];
    ROT_TRY(rot_decoder_embed(r->g->decoder, r->tokens, m, r->in, err));
    return step(r, err);
}

static int prefill(run *r, rot_err *err)
{
    const size_t d = (size_t)r->g->d;
    size_t rows = 0, at = 0;
    int rc = 0;
    for (size_t i = 0; i < r->n; i++)
        rows += (size_t)(r->counts[i] = r->active[i] ? r->batch[i].n_prompt : 0);
    float *in = rot_malloc(rows * d * sizeof *in), *out = rot_malloc(rows * d * sizeof *out);
    if (!in || !out) ROT_GO(rot_no_memory(err, rows * d * sizeof *in, "prompts"));
    for (size_t i = 0; i < r->n; i++) {
        if (!r->active[i]) continue;
        ROT_GO(rot_decoder_embed(r->g->decoder, r->batch[i].prompt, (size_t)r->batch[i].n_prompt,
                                 in + at * d, err));
        at += (size_t)r->batch[i].n_prompt;
    }
    ROT_GO(rot_context_forward(r->context, r->counts, in, false, out, err));
    at = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (!r->active[i]) continue;
        at += (size_t)r->batch[i].n_prompt;
        memcpy(r->last + i * d, out + (at - 1) * d, d * sizeof *out);
    }
done:
    rot_free(in);
    rot_free(out);
    return rc;
}

// Sequences whose most probable next token is the end mark take no further latent.
static int stop_by_token(run *r, rot_err *err)
{
    const size_t vocab = (size_t)r->g->vocab;
    size_t m = pack(r, r->out), at = 0;
    if (!m) return 0;
    ROT_TRY(rot_decoder_logits(r->g->decoder, r->out, m, r->logits, err));
    for (size_t i = 0; i < r->n; i++)
        if (r->active[i])
            r->active[i] = rot_argmax(r->logits + at++ * vocab, r->g->vocab) != r->g->end;
    return 0;
}

// |a - b| < distance |b|.
static bool is_near(const float *a, const float *b, size_t d, double distance)
{
    double gap = 0, norm = 0;
    for (size_t i = 0; i < d; i++) {
        gap += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(gap) < distance * sqrt(norm);
}

// Sequences whose thought t is their last one, says the classifier.
static void stop_by_classifier(run *r, int32_t t)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->active[i])
            r->active[i] =
                !rot_stop_ends(&r->g->stop, r->batch[i].latents + (size_t)t * (size_t)r->g->d);
}

static int think(run *r, rot_err *err)
{
    const rot_generate_options *o = r->g->options;
    const size_t d = (size_t)r->g->d;
    for (int32_t t = 0; t < o->latents; t++) {
        if (o->stop == ROT_STOP_TOKEN) ROT_TRY(stop_by_token(r, err));
        size_t m = pack(r, r->out), at = 0;
        if (!m) return 0;
        if (r->g->head)
            ROT_TRY(rot_head_forward(r->g->head, m, r->out, false, r->in, err));
        else
            memcpy(r->in, r->out, m * d * sizeof *r->in);
        for (size_t i = 0; i < r->n; i++) {
            if (!r->active[i]) continue;
            rot_generated *q = &r->batch[i];
            memcpy(q->latents + (size_t)q->n_latents++ * d, r->in + at++ * d, d * sizeof *r->in);
        }
        ROT_TRY(step(r, err));
        if (o->stop == ROT_STOP_CLASSIFIER) stop_by_classifier(r, t);
        if (o->stop != ROT_STOP_DISTANCE || !t) continue;
        for (size_t i = 0; i < r->n; i++) {
            const float *latest = r->batch[i].latents + (size_t)t * d;
            if (r->active[i]) r->active[i] = !is_near(latest - d, latest, d, o->distance);
        }
    }
    return 0;
}

static bool is_end(const rot_decoder_info *info, int32_t id)
{
    for (int32_t i = 0; i < info->n_eos; i++)
        if (info->eos[i] == id) return true;
    return false;
}

static int answer(run *r, rot_err *err)
{
    const rot_generate_options *o = r->g->options;
    const rot_decoder_info *info = rot_decoder_get_info(r->g->decoder);
    const size_t vocab = (size_t)r->g->vocab;
    for (;;) {
        size_t m = pack(r, r->out), at = 0;
        if (!m) return 0;
        ROT_TRY(rot_decoder_logits(r->g->decoder, r->out, m, r->logits, err));
        for (size_t i = 0; i < r->n; i++) {
            if (!r->active[i]) continue;
            rot_generated *q = &r->batch[i];
            const uint64_t key = rot_random_key(rot_random_key(o->seed, 0), q->ordinal);
            int32_t id =
                rot_sample(&r->g->sampler, r->logits + at++ * vocab, key, (uint64_t)q->n_ids);
            q->ended = is_end(info, id);
            if (!q->ended) q->ids[q->n_ids++] = id;
            r->tokens[i] = id;
            // The last token that fits is not fed.
            bool full = q->n_ids == o->max_new_tokens ||
                        rot_context_length(r->context, i) >= info->positions;
            r->active[i] = !q->ended && !full;
        }
        bool any = false;
        for (size_t i = 0; i < r->n; i++) any = any || r->active[i];
        if (!any) return 0;
        ROT_TRY(step_tokens(r, err));
    }
}

static void wake(run *r)
{
    for (size_t i = 0; i < r->n; i++) r->active[i] = !r->batch[i].failure[0];
}

static int open_run(run *r, rot_err *err)
{
    const rot_generate_options *o = r->g->options;
    const int32_t positions = rot_decoder_get_info(r->g->decoder)->positions;
    const size_t n = r->n, d = (size_t)r->g->d;
    r->counts = rot_calloc(n, sizeof *r->counts);
    r->active = rot_calloc(n, sizeof *r->active);
    r->tokens = rot_calloc(n, sizeof *r->tokens);
    r->last = rot_calloc(n * d, sizeof *r->last);
    r->in = rot_calloc(n * d, sizeof *r->in);
    r->out = rot_calloc(n * d, sizeof *r->out);
    r->logits = rot_calloc(n * (size_t)r->g->vocab, sizeof *r->logits);
    if (!r->counts || !r->active || !r->tokens || !r->last || !r->in || !r->out || !r->logits)
        return rot_no_memory(err, n * (size_t)r->g->vocab * sizeof *r->logits, "a batch");
    for (size_t i = 0; i < n; i++) {
        int64_t most = r->batch[i].n_prompt + (int64_t)(has_latents(r->g) ? o->latents : 0) +
                       (r->g->end >= 0) + o->max_new_tokens;
        r->counts[i] = (int32_t)(most < positions ? most : positions);
        if (r->batch[i].failure[0]) r->counts[i] = 1; // takes no row
    }
    return rot_context_open(r->g->decoder, n, r->counts, false, &r->context, err);
}

static void close_run(run *r)
{
    rot_context_close(&r->context);
    rot_free(r->counts);
    rot_free(r->active);
    rot_free(r->tokens);
    rot_free(r->last);
    rot_free(r->in);
    rot_free(r->out);
    rot_free(r->logits);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int rot_generator_run(rot_generator *g, rot_generated *batch, size_t n, rot_err *err)
{
    run r = {.g = g, .batch = batch, .n = n};
    const double start = now();
    int rc = 0;
    size_t n_good = 0;
    ROT_GO(open_run(&r, err));
    wake(&r);
    for (size_t i = 0; i < n; i++) n_good += r.active[i];
    if (!n_good) goto done;
    ROT_GO(prefill(&r, err));
    if (has_latents(g)) ROT_GO(think(&r, err));
    wake(&r);
    if (g->end >= 0) {
        for (size_t i = 0; i < n; i++) r.tokens[i] = g->end;
        ROT_GO(step_tokens(&r, err));
    }
    ROT_GO(answer(&r, err));
    for (size_t i = 0; i < n; i++) batch[i].seconds = (now() - start) / (double)n_good;
done:
    close_run(&r);
    return rc;
}

/* ---- text --------------------------------------------------------------------------------------
 */

// Marks, rows without a token, tokens such as <|im_start|>: no part of what was said.
static bool is_special(const rot_generator *g, int32_t id)
{
    for (size_t i = 0; i < g->n_special; i++)
        if (g->special[i] == id) return true;
    return id == g->begin || id == g->end || id == g->thought ||
           id >= rot_tokenizer_size(g->tokenizer);
}

int rot_generated_text(rot_generator *g, const rot_generated *q, rot_str *out, int32_t *n_chain,
                       rot_err *err)
{
    bool behind = false;
    *n_chain = 0;
    for (int32_t i = 0; i < q->n_ids; i++) {
        const char *text;
        size_t n;
        if (is_special(g, q->ids[i])) continue;
        int rc = rot_tokenizer_decode(g->worker, &q->ids[i], 1, &text, &n, err);
        if (rc == ROT_ERR_NOT_FOUND) continue; // a gap in the vocabulary
        ROT_TRY(rc);
        behind = behind || memchr(text, '#', n);
        *n_chain += !behind;
        rot_str_add(out, text, n);
    }
    return out->failed ? rot_no_memory(err, out->n_bytes, "an answer") : 0;
}
