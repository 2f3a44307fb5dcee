// Questions in, predictions out, and beside them what their latents look like.
#include "rotoscope/generate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bf16.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "encoder/safetensors.h"
#include "rotoscope/reader.h"
#include "trainer/generate.h"
#include "trainer/predictions.h"

enum { PATH_BYTES = 4096 };

typedef struct session {
    const rot_generate_options *options;
    rot_generator model;
    rot_questions *questions;
    rot_reader *teacher; // NULL: no target embeddings at hand
    rot_generated *all;  // (n)
    size_t n;
    rot_predictions predictions;
    rot_str table, tree;
} session;

rot_generate_options rot_generate_options_default(void)
{
    return (rot_generate_options){.size = sizeof(rot_generate_options),
                                  .latents = 32,
                                  .top_p = 1,
                                  .max_new_tokens = 256,
                                  .batch = 16,
                                  .backend = "auto",
                                  .top_k = 5};
}

/* ---- predictions -------------------------------------------------------------------------------
 */

// Bytes that are no UTF-8, as a token may end within a character, become U+FFFD.
static void put_text(rot_str *out, const char *text, size_t n)
{
    rot_str clean = {0};
    while (n) {
        size_t good = rot_utf8_valid(text, n);
        rot_str_add(&clean, text, good);
        if (good < n) rot_str_puts(&clean, "\xef\xbf\xbd");
        good += good < n;
        text += good;
        n -= good;
    }
    rot_str_json(out, clean.text ? clean.text : "", clean.n_bytes);
    out->failed = out->failed || clean.failed;
    rot_str_free(&clean);
}

static int put_prediction(session *s, const rot_generated *q, rot_err *err)
{
    rot_str text = {0}, *out = &s->predictions.lines;
    int32_t n_chain;
    int rc = rot_generated_text(&s->model, q, &text, &n_chain, err);
    if (rc == 0) {
        rot_str_puts(out, "{\"id\": ");
        rot_str_json(out, q->question->id, strlen(q->question->id));
        rot_str_printf(out, ", \"seed\": %llu", (unsigned long long)s->options->seed);
        if (q->failure[0]) {
            rot_str_puts(out, ", \"error\": ");
            rot_str_json(out, q->failure, strlen(q->failure));
        } else {
            rot_str_puts(out, ", \"prediction\": ");
            put_text(out, text.text ? text.text : "", text.n_bytes);
            // What Render-of-Thought says before the answer is its header, no reasoning.
            if (s->options->method == ROT_GENERATE_ROT) n_chain = 0;
            int32_t latents =
                s->options->method == ROT_GENERATE_PAUSE ? s->options->latents : q->n_latents;
            rot_str_printf(out,
                           ", \"latents\": %d, \"chain_tokens\": %d, \"tokens\": %d, \"ended\": "
                           "%s, \"seconds\": %.6f",
                           latents, n_chain, q->n_ids, q->ended ? "true" : "false", q->seconds);
        }
        if (q->question->teacher_latents)
            rot_str_printf(out, ", \"teacher_latents\": %u", q->question->teacher_latents);
        rot_str_puts(out, "}\n");
    }
    rot_str_free(&text);
    return rc;
}

/* ---- latents -----------------------------------------------------------------------------------
 */

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

static void put_cosine(rot_str *out, const float *a, const float *b, size_t n)
{
    double norms = sqrt(dot(a, a, n) * dot(b, b, n));
    if (norms > 0)
        rot_str_printf(out, "\t%.6f", dot(a, b, n) / norms);
    else
        rot_str_puts(out, "\t");
}

static int put_tokens(session *s, const float *logits, rot_str *out, rot_err *err)
{
    const int32_t vocab = s->model.vocab, k = s->options->top_k < vocab ? s->options->top_k : vocab;
    int32_t best[100];
    double sum = 0;
    rot_top_k(logits, vocab, k, best);
    for (int32_t i = 0; i < vocab; i++) sum += exp((double)logits[i] - logits[best[0]]);
    for (int32_t i = 0; i < k; i++) {
        const char *text = "";
        size_t n = 0;
        int rc = rot_tokenizer_decode(s->model.worker, &best[i], 1, &text, &n, err);
        if (rc < 0 && rc != ROT_ERR_NOT_FOUND) return rc;
        rot_str_puts(out, "\t");
        put_text(out, text, rc < 0 ? 0 : n);
        rot_str_printf(out, "\t%.6g", exp((double)logits[best[i]] - logits[best[0]]) / sum);
    }
    return 0;
}

static void put_table_header(session *s)
{
    rot_str_puts(&s->table, "question\tid\tlatent\tnorm\tmean\tstd\tcosine_before\tteacher_norm\t"
                            "teacher_cosine");
    for (int32_t i = 0; i < s->options->top_k && i < s->model.vocab; i++)
        rot_str_printf(&s->table, "\ttoken%d\tprobability%d", i + 1, i + 1);
    rot_str_puts(&s->table, "\n");
}

// One line per latent; targets (n_targets, d) or NULL.
static int put_latents(session *s, const rot_generated *q, const float *targets, uint32_t n_targets,
                       rot_err *err)
{
    const size_t d = (size_t)s->model.d;
    rot_str *out = &s->table;
    float *logits = rot_malloc((size_t)s->model.vocab * sizeof *logits);
    int rc = 0;
    if (!logits) return rot_no_memory(err, (size_t)s->model.vocab * sizeof *logits, "logits");
    for (int32_t t = 0; t < q->n_latents && rc == 0; t++) {
        const float *v = q->latents + (size_t)t * d;
        double mean = 0, squares = 0;
        for (size_t i = 0; i < d; i++) mean += v[i] / (double)d;
        for (size_t i = 0; i < d; i++) squares += (v[i] - mean) * (v[i] - mean);
        rot_str_printf(out, "%llu\t", (unsigned long long)q->ordinal);
        rot_str_json(out, q->question->id, strlen(q->question->id));
        rot_str_printf(out, "\t%d\t%.6f\t%.6g\t%.6g", t, sqrt(dot(v, v, d)), mean,
                       sqrt(squares / (double)d));
        if (t)
            put_cosine(out, v - d, v, d);
        else
            rot_str_puts(out, "\t");
        if (targets && (uint32_t)t < n_targets) {
            const float *target = targets + (size_t)t * d;
            rot_str_printf(out, "\t%.6f", sqrt(dot(target, target, d)));
            put_cosine(out, target, v, d);
        } else {
            rot_str_puts(out, "\t\t");
        }
        rc = rot_decoder_logits(s->model.decoder, v, 1, logits, err);
        if (rc == 0) rc = put_tokens(s, logits, out, err);
        rot_str_puts(out, "\n");
    }
    rot_free(logits);
    if (rc == 0 && out->failed) rc = rot_no_memory(err, out->n_bytes, "latents");
    return rc;
}

// The target embeddings of a question, (K, d) in F32; *out stays NULL where there are none.
static int read_targets(session *s, const rot_generated *q, float **out, uint32_t *k, rot_err *err)
{
    *out = NULL;
    *k = q->question->teacher_latents;
    if (!s->teacher || !*k) return 0;
    const rot_reader_info *info = rot_reader_get_info(s->teacher);
    const size_t n = *k * (size_t)info->embeds_width;
    const bool f32 = info->embeds_dtype == ROT_DTYPE_F32;
    int64_t lengths[2] = {0, 0};
    uint16_t *half = f32 ? NULL : rot_malloc(n * sizeof *half);
    float *rows = rot_malloc(n * sizeof *rows);
    int rc = 0;
    if (!rows || (!f32 && !half)) ROT_GO(rot_no_memory(err, n * sizeof *rows, "targets"));
    ROT_GO(rot_reader_lengths(s->teacher, &q->ordinal, 1, lengths, err));
    ROT_GO(rot_reader_batch(s->teacher, &q->ordinal, 1, lengths, f32 ? (void *)rows : half, *k, 1,
                            err));
    for (size_t i = 0; !f32 && i < n; i++) rows[i] = rot_bf16_to_f32(half[i]);
    *out = rows;
    rows = NULL;
done:
    rot_free(rows);
    rot_free(half);
    return rc;
}

// N.latents of every question that has some, N.targets of every one with a teacher.
static int declare(const session *s, rot_tensor_decl *declared, char (*names)[40])
{
    const int64_t d = s->model.d;
    int n = 0;
    for (size_t i = 0; i < s->n; i++) {
        const rot_generated *q = &s->all[i];
        const int64_t rows[2] = {q->n_latents, s->teacher ? q->question->teacher_latents : 0};
        for (int part = 0; part < 2; part++) {
            if (!rows[part] || q->failure[0]) continue;
            snprintf(names[n], sizeof names[n], "%llu.%s", (unsigned long long)q->ordinal,
                     part ? "targets" : "latents");
            declared[n] = (rot_tensor_decl){names[n], ROT_T_F32, 2, {rows[part], d}};
            n++;
        }
    }
    return n;
}

static int write_tensors(session *s, rot_safetensors_writer *writer, rot_err *err)
{
    const size_t d = (size_t)s->model.d;
    put_table_header(s);
    for (size_t i = 0; i < s->n; i++) {
        const rot_generated *q = &s->all[i];
        float *targets = NULL;
        uint32_t k;
        if (q->failure[0]) continue;
        ROT_TRY(read_targets(s, q, &targets, &k, err));
        int rc = rot_safetensors_write(writer, q->latents, (size_t)q->n_latents * d * sizeof(float),
                                       err);
        if (rc == 0 && targets)
            rc = rot_safetensors_write(writer, targets, k * d * sizeof(float), err);
        if (rc == 0) rc = put_latents(s, q, targets, k, err);
        rot_free(targets);
        ROT_TRY(rc);
    }
    return 0;
}

static int write_latents(session *s, rot_err *err)
{
    char path[PATH_BYTES];
    rot_tensor_decl *declared = rot_calloc(2 * s->n + 1, sizeof *declared);
    char(*names)[40] = rot_calloc(2 * s->n + 1, sizeof *names);
    rot_safetensors_writer *writer = NULL;
    int rc = 0;
    if (!declared || !names) ROT_GO(rot_no_memory(err, s->n * sizeof *declared, "latents"));
    if (snprintf(path, sizeof path, "%s.tsv", s->options->latents_out) >= PATH_BYTES)
        ROT_FAIL_GO(err, ROT_ERR_USAGE, "%.100s...: too long", s->options->latents_out);
    const int n = declare(s, declared, names);
    ROT_GO(rot_safetensors_create(s->options->latents_out, declared, (size_t)n, &writer, err));
    ROT_GO(write_tensors(s, writer, err));
    ROT_GO(rot_safetensors_finish(&writer, err));
    rc = rot_fs_write_atomic(path, s->table.text, s->table.n_bytes, err);
done:
    rot_safetensors_abort(&writer);
    rot_free(names);
    rot_free(declared);
    return rc;
}

/* ---- the classifier that ends thinking ------------------------------------------------------- */

// The thoughts of every question up to where its steps end; those behind are of no use.
static int fit_classifier(session *s, rot_err *err)
{
    const rot_generate_options *o = s->options;
    const size_t d = (size_t)s->model.d;
    char path[PATH_BYTES];
    rot_stop stop = {0};
    size_t n = 0;
    int rc = 0;
    float *thoughts = rot_malloc((s->n * (size_t)o->latents * d + 1) * sizeof *thoughts);
    bool *last = rot_malloc((s->n * (size_t)o->latents + 1) * sizeof *last);
    if (!thoughts || !last)
        ROT_GO(rot_no_memory(err, s->n * (size_t)o->latents * d * sizeof *thoughts, "thoughts"));
    for (size_t i = 0; i < s->n; i++) {
        const rot_generated *q = &s->all[i];
        size_t wanted = q->question->n_steps * (size_t)o->fit_per_step;
        if (wanted > (size_t)q->n_latents) wanted = (size_t)q->n_latents;
        memcpy(thoughts + n * d, q->latents, wanted * d * sizeof *thoughts);
        for (size_t t = 0; t < wanted; t++) last[n++] = t + 1 == wanted;
    }
    ROT_GO(rot_generator_classifier(o, path, sizeof path, err));
    ROT_GO(rot_stop_fit(thoughts, last, n, d, &stop, err));
    rc = rot_stop_save(&stop, path, err);
done:
    rot_stop_free(&stop);
    rot_free(last);
    rot_free(thoughts);
    return rc;
}

static int open_teacher(session *s, rot_err *err)
{
    const rot_generate_options *o = s->options;
    if (!o->latents_out || strcmp(o->format, "store")) return 0;
    rot_reader_options options = rot_reader_options_default();
    ROT_TRY(rot_reader_open(o->questions, o->split, &options, &s->teacher, err));
    const rot_reader_info *info = rot_reader_get_info(s->teacher);
    if (!info->has_embeds || !info->samples) {
        rot_reader_close(&s->teacher);
        return 0;
    }
    if (info->embeds_width != (uint32_t)s->model.d)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s has embeddings of width %u, the model is %d wide",
                 o->questions, info->embeds_width, s->model.d);
    return 0;
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Latents are not in the lines of predictions: what is made of all of them begins again.
static bool keeps_nothing(const rot_generate_options *o)
{
    return o->latents_out || o->tree_out || o->fit_per_step > 0;
}

static int answer_all(session *s, rot_err *err)
{
    const rot_generate_options *o = s->options;
    const double start = now();
    for (size_t at = s->predictions.done; at < s->n; at += (size_t)o->batch) {
        size_t n = s->n - at < (size_t)o->batch ? s->n - at : (size_t)o->batch;
        for (size_t i = at; i < at + n; i++)
            ROT_TRY(rot_generated_open(&s->model, rot_questions_get(s->questions, i), i, &s->all[i],
                                       err));
        ROT_TRY(rot_generator_run(&s->model, &s->all[at], n, err));
        for (size_t i = at; i < at + n; i++) {
            ROT_TRY(put_prediction(s, &s->all[i], err));
            if (o->tree_out) ROT_TRY(rot_tree_write(&s->model, &s->all[i], &s->tree, err));
            if (!o->latents_out && !o->fit_per_step) rot_generated_close(&s->all[i]);
        }
        ROT_TRY(rot_predictions_flush(&s->predictions, err));
        if (o->progress) o->progress(o->user, s->predictions.done, at + n, s->n, now() - start);
        if (o->stop_flag && *o->stop_flag && at + n < s->n)
            ROT_FAIL(err, ROT_ERR_STOPPED, "stopped after %zu of %zu questions%s", at + n, s->n,
                     keeps_nothing(o) ? "" : ": run again to go on");
    }
    return 0;
}

static int run_session(session *s, rot_err *err)
{
    const rot_generate_options *o = s->options;
    ROT_TRY(rot_questions_read(o->questions, o->format, o->split, &s->questions, err));
    s->n = rot_questions_count(s->questions);
    if (o->limit && o->limit < s->n) s->n = (size_t)o->limit;
    if (!s->n) ROT_FAIL(err, ROT_ERR_INPUT, "%s: no questions", o->questions);
    if (o->tree_out && !rot_questions_get(s->questions, 0)->graph)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: the questions have no graphs", o->questions);
    ROT_TRY(rot_generator_open(o, &s->model, err));
    ROT_TRY(open_teacher(s, err));
    ROT_TRY(rot_predictions_open(&s->model, s->questions, s->n, !keeps_nothing(o), &s->predictions,
                                 err));
    s->all = rot_calloc(s->n, sizeof *s->all);
    if (!s->all) return rot_no_memory(err, s->n * sizeof *s->all, "questions");
    if (o->tree_out) rot_tree_header(&s->tree);
    ROT_TRY(answer_all(s, err));
    if (o->latents_out) ROT_TRY(write_latents(s, err));
    if (o->fit_per_step > 0) ROT_TRY(fit_classifier(s, err));
    if (o->tree_out) ROT_TRY(rot_fs_write_atomic(o->tree_out, s->tree.text, s->tree.n_bytes, err));
    return rot_predictions_finish(&s->predictions, o->predictions, err);
}

int rot_generate(const rot_generate_options *options, rot_err *err)
{
    session s = {.options = options, .predictions.fd = -1};
    if (!options->questions || !options->format || !options->predictions)
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "questions, their format and a file of predictions are needed");
    int rc = run_session(&s, err);
    for (size_t i = 0; s.all && i < s.n; i++) rot_generated_close(&s.all[i]);
    rot_free(s.all);
    rot_reader_close(&s.teacher);
    rot_generator_close(&s.model);
    rot_questions_free(&s.questions);
    rot_predictions_close(&s.predictions);
    rot_str_free(&s.table);
    rot_str_free(&s.tree);
    return rc;
}
