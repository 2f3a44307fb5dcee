// The tokens stage: rows of the input, read in turn, tokenized and packed by all threads.
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "pipeline/job.h"
#include "pipeline/mend.h"
#include "pipeline/units.h"

// Of one thread.
typedef struct tokens_worker {
    rot_tokenizer_worker *tokenizer;
    rot_row *rows;    // of its unit
    rot_arena texts;  // of those rows
    rot_arena record; // of one row, packed
} tokens_worker;

typedef struct tokens_job {
    rot_job *job;
    rot_input *input;
    uint64_t next_input; // index of the row that the input gives next
    rot_tokenizer *tokenizer;
    tokens_worker *workers;
} tokens_job;

static int open_workers(tokens_job *t, const rot_split_config *split, uint32_t unit_rows,
                        rot_err *err)
{
    t->workers = rot_calloc((size_t)t->job->threads, sizeof *t->workers);
    if (!t->workers) return rot_no_memory(err, 0, "tokens stage");
    ROT_TRY(rot_tokenizer_open(t->job->config->tokenizer_path, &t->tokenizer, err));
    for (int i = 0; i < t->job->threads; i++) {
        tokens_worker *w = &t->workers[i];
        w->rows = rot_calloc(unit_rows, sizeof *w->rows);
        if (!w->rows) return rot_no_memory(err, unit_rows * sizeof *w->rows, "rows");
        ROT_TRY(rot_tokenizer_worker_open(t->tokenizer, &w->tokenizer, err));
    }
    return rot_input_open(split, &t->input, err);
}

static void close_workers(tokens_job *t)
{
    for (int i = 0; t->workers && i < t->job->threads; i++) {
        tokens_worker *w = &t->workers[i];
        rot_tokenizer_worker_close(&w->tokenizer);
        rot_arena_free(&w->texts);
        rot_arena_free(&w->record);
        rot_free(w->rows);
    }
    rot_tokenizer_close(&t->tokenizer);
    rot_input_close(&t->input);
    rot_free(t->workers);
}

static int copy_row(rot_arena *arena, const rot_row *row, rot_row *out, rot_err *err)
{
    *out = *row;
    if (row->bad) {
        out->bad_cause = rot_arena_strdup(arena, row->bad_cause);
        return out->bad_cause ? 0 : rot_no_memory(err, 0, "row");
    }
    out->id = rot_arena_strndup(arena, row->id, row->n_id);
    out->question = rot_arena_strndup(arena, row->question, row->n_question);
    out->trace = rot_arena_strndup(arena, row->trace, row->n_trace);
    out->answer = rot_arena_strndup(arena, row->answer, row->n_answer);
    if (!out->id || !out->question || !out->trace || !out->answer)
        return rot_no_memory(err, 0, "row");
    return 0;
}

// Rows [first, first + n) of the input, kept for the thread.
static int read_unit(void *user, int thread, uint64_t first, uint64_t n, rot_err *err)
{
    tokens_job *t = user;
    tokens_worker *w = &t->workers[thread];
    rot_arena_reset(&w->texts);
    for (uint64_t i = 0; i < n;) {
        rot_row row;
        int rc = rot_input_next(t->input, &row, err);
        if (rc < 0) return rc;
        if (rc == 0) ROT_FAIL(err, ROT_ERR_INPUT, "the input became shorter while it was read");
        if (t->next_input++ < first) continue;
        ROT_TRY(copy_row(&w->texts, &row, &w->rows[i++], err));
    }
    return 0;
}

static int tokenize_row(const tokens_job *t, tokens_worker *w, const rot_row *row, rot_record *out,
                        rot_err *err)
{
    if (row->bad) {
        *out = rot_tombstone(row->bad_cause);
        return 0;
    }
    rot_sample_ids ids;
    int rc = rot_tokenizer_encode_sample(w->tokenizer, t->job->config->layout, row->question,
                                         row->n_question, row->trace, row->n_trace, row->answer,
                                         row->n_answer, &ids, err);
    if (rc < 0) return rot_err_prefix(err, "%s:%llu: ", row->file, (unsigned long long)row->line);
    rot_arena_reset(&w->record);
    return rot_tokens_pack(&w->record, &ids, row, out, err);
}

static int tokenize_unit(void *user, int thread, uint64_t first, uint64_t n, rot_unit *unit,
                         rot_err *err)
{
    const tokens_job *t = user;
    tokens_worker *w = &t->workers[thread];
    for (uint64_t i = 0; i < n; i++) {
        rot_record record;
        int kept = rot_mend_keep(t->job->mend, first + i, unit, err);
        ROT_TRY(kept);
        if (kept) continue;
        ROT_TRY(tokenize_row(t, w, &w->rows[i], &record, err));
        ROT_TRY(rot_unit_add(unit, &record, err));
    }
    return 0;
}

int rot_make_tokens(rot_job *job, const rot_split_config *split, const rot_stage_plan *plan,
                    rot_err *err)
{
    tokens_job t = {.job = job};
    rot_unit_work work = {.take = read_unit, .make = tokenize_unit, .user = &t};
    int rc = open_workers(&t, split, plan->spec.layout.commit_samples, err);
    if (rc == 0) rc = rot_units_make(job, plan, &work, err);
    close_workers(&t);
    return rc;
}
