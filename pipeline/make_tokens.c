// The tokens stage: rows of the input, tokenized in parallel window by window, appended in order.
#include <omp.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "pipeline/job.h"
#include "pipeline/sink.h"

enum { WINDOW = 1024 };

typedef struct tokens_job {
    rot_job *job;
    rot_input *input;
    uint64_t next_input; // index of the row that the input gives next
    rot_tokenizer *tokenizer;
    rot_tokenizer_worker **workers; // one per thread
    rot_arena *arenas;              // one per thread: packed records
    rot_arena row_arena;            // copies of the window's rows
    rot_row *rows;                  // (WINDOW)
    rot_record *records;            // (WINDOW)
} tokens_job;

static int open_workers(tokens_job *t, rot_err *err)
{
    int n = t->job->threads;
    t->workers = rot_calloc((size_t)n, sizeof *t->workers);
    t->arenas = rot_calloc((size_t)n, sizeof *t->arenas);
    t->rows = rot_calloc(WINDOW, sizeof *t->rows);
    t->records = rot_calloc(WINDOW, sizeof *t->records);
    if (!t->workers || !t->arenas || !t->rows || !t->records)
        return rot_no_memory(err, 0, "tokens stage");
    ROT_TRY(rot_tokenizer_open(t->job->config->tokenizer_path, &t->tokenizer, err));
    for (int i = 0; i < n; i++) {
        t->arenas[i].block_bytes = 1 << 20;
        ROT_TRY(rot_tokenizer_worker_open(t->tokenizer, &t->workers[i], err));
    }
    t->row_arena.block_bytes = 1 << 20;
    return 0;
}

static void close_workers(tokens_job *t)
{
    for (int i = 0; i < t->job->threads; i++) {
        if (t->workers) rot_tokenizer_worker_close(&t->workers[i]);
        if (t->arenas) rot_arena_free(&t->arenas[i]);
    }
    rot_arena_free(&t->row_arena);
    rot_tokenizer_close(&t->tokenizer);
    rot_input_close(&t->input);
    rot_free(t->workers);
    rot_free(t->arenas);
    rot_free(t->rows);
    rot_free(t->records);
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

// Rows [first, first + n) of the input into t->rows.
static int read_window(tokens_job *t, uint64_t first, uint64_t n, rot_err *err)
{
    rot_arena_reset(&t->row_arena);
    for (uint64_t i = 0; i < n;) {
        rot_row row;
        int rc = rot_input_next(t->input, &row, err);
        if (rc < 0) return rc;
        if (rc == 0) ROT_FAIL(err, ROT_ERR_INPUT, "the input became shorter while it was read");
        if (t->next_input++ < first) continue;
        ROT_TRY(copy_row(&t->row_arena, &row, &t->rows[i++], err));
    }
    return 0;
}

static int tokenize_row(tokens_job *t, int thread, const rot_row *row, rot_record *out,
                        rot_err *err)
{
    rot_sample_ids ids;
    int rc = rot_tokenizer_encode_sample(t->workers[thread], t->job->config->layout, row->question,
                                         row->n_question, row->trace, row->n_trace, row->answer,
                                         row->n_answer, &ids, err);
    if (rc < 0) return rot_err_prefix(err, "%s:%llu: ", row->file, (unsigned long long)row->line);
    return rot_tokens_pack(&t->arenas[thread], &ids, row, out, err);
}

static int tokenize_window(tokens_job *t, uint64_t n, rot_err *err)
{
    int failed = 0;
    for (int i = 0; i < t->job->threads; i++) rot_arena_reset(&t->arenas[i]);
#pragma omp parallel for schedule(dynamic, 16) num_threads(t->job->threads)
    for (uint64_t i = 0; i < n; i++) {
        rot_err own = {0};
        if (t->rows[i].bad ||
            tokenize_row(t, omp_get_thread_num(), &t->rows[i], &t->records[i], &own) == 0)
            continue;
#pragma omp critical(rot_tokens_failed)
        if (!failed) {
            failed = own.code;
            if (err) *err = own;
        }
    }
    return failed;
}

int rot_make_tokens(rot_job *job, const rot_split_config *split, const rot_stage_plan *plan,
                    rot_err *err)
{
    tokens_job t = {.job = job};
    rot_sink sink = {0};
    int rc = 0;
    ROT_GO(rot_sink_open(&sink, job, plan, err));
    ROT_GO(open_workers(&t, err));
    ROT_GO(rot_input_open(split, &t.input, err));
    for (uint64_t row = 0;;) {
        ROT_GO(rot_sink_seek(&sink, row, &row, err));
        if (row >= plan->spec.rows) break;
        uint64_t n = rot_sink_window(&sink, row, WINDOW);
        ROT_GO(read_window(&t, row, n, err));
        ROT_GO(tokenize_window(&t, n, err));
        for (uint64_t i = 0; i < n; i++, row++) {
            if (t.rows[i].bad)
                ROT_GO(rot_sink_tombstone(&sink, row, t.rows[i].bad_cause, err));
            else
                ROT_GO(rot_sink_append(&sink, row, &t.records[i], err));
        }
        ROT_GO(rot_sink_step(&sink, err));
    }
done:
    rot_sink_close(&sink);
    close_workers(&t);
    return rc;
}
