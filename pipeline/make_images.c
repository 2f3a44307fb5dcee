// The images stage: traces of the tokens stage, drawn in parallel window by window, appended in
// order.
#include <omp.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "pipeline/job.h"
#include "pipeline/sink.h"

enum { WINDOW = 512 };

typedef struct images_job {
    rot_job *job;
    const rot_stage_plan *from;
    rot_renderer *renderer;
    rot_render_worker **workers; // one per thread
    rot_stage **tokens;          // one per thread
    rot_arena *arenas;           // one per thread: pixels
    rot_record *records;         // (WINDOW)
} images_job;

static int open_workers(images_job *t, rot_err *err)
{
    int n = t->job->threads;
    t->workers = rot_calloc((size_t)n, sizeof *t->workers);
    t->tokens = rot_calloc((size_t)n, sizeof *t->tokens);
    t->arenas = rot_calloc((size_t)n, sizeof *t->arenas);
    t->records = rot_calloc(WINDOW, sizeof *t->records);
    if (!t->workers || !t->tokens || !t->arenas || !t->records)
        return rot_no_memory(err, 0, "images stage");
    ROT_TRY(rot_renderer_open(&t->job->config->render, &t->renderer, err));
    for (int i = 0; i < n; i++) {
        t->arenas[i].block_bytes = 4 << 20;
        ROT_TRY(rot_render_worker_open(t->renderer, &t->workers[i], err));
        ROT_TRY(rot_stage_open(t->from->dir, &t->tokens[i], err));
    }
    return 0;
}

static void close_workers(images_job *t)
{
    for (int i = 0; i < t->job->threads; i++) {
        if (t->workers) rot_render_worker_close(&t->workers[i]);
        if (t->tokens) rot_stage_close(&t->tokens[i]);
        if (t->arenas) rot_arena_free(&t->arenas[i]);
    }
    rot_renderer_close(&t->renderer);
    rot_free(t->workers);
    rot_free(t->tokens);
    rot_free(t->arenas);
    rot_free(t->records);
}

static int keep(rot_arena *arena, rot_record *record, rot_err *err)
{
    void *copy = rot_arena_alloc(arena, record->n_bytes);
    if (!copy) return rot_no_memory(err, record->n_bytes, "image");
    memcpy(copy, record->payload, record->n_bytes);
    record->payload = copy;
    return 0;
}

static rot_record tombstone(const char *cause)
{
    uint32_t n = (uint32_t)strlen(cause);
    return (rot_record){.kind = ROT_KIND_TOMBSTONE,
                        .dtype = ROT_DTYPE_U8,
                        .shape = {n},
                        .payload = cause,
                        .n_bytes = n};
}

// What `rc` of a drawing means under the policies: 0 with a tombstone in *out, or the error.
static int refuse(const images_job *t, const rot_tokens_view *sample, uint64_t row, int rc,
                  rot_record *out, rot_err *err)
{
    rot_err_prefix(err, "split %s, row %llu, id %.*s: ", t->from->split, (unsigned long long)row,
                   (int)sample->n_text[0], sample->text[0]);
    if (rc == ROT_ERR_MISSING_GLYPH && t->job->config->on_missing_glyph == ROT_GLYPH_SKIP)
        *out = tombstone("missing-glyph");
    else if (rc == ROT_ERR_TOO_LARGE && t->job->config->on_too_large == ROT_POLICY_SKIP)
        *out = tombstone("too-large");
    else
        return rc;
    rot_job_note(t->job, "skipped: %s", err->message);
    return 0;
}

static int draw_row(images_job *t, int thread, uint64_t row, rot_record *out, rot_err *err)
{
    rot_record in;
    ROT_TRY(rot_stage_get(t->tokens[thread], row, &in, err));
    if (in.kind == ROT_KIND_TOMBSTONE) {
        *out = in;
        return keep(&t->arenas[thread], out, err);
    }
    rot_tokens_view sample;
    ROT_TRY(rot_tokens_unpack(&in, &sample, err));
    rot_image image;
    int rc = rot_render(t->workers[thread], sample.text[2], sample.n_text[2], &image, NULL, err);
    if (rc < 0) return refuse(t, &sample, row, rc, out, err);
    *out = (rot_record){
        .kind = ROT_KIND_IMAGE,
        .dtype = ROT_DTYPE_U8,
        .shape = {(uint32_t)image.width_px, (uint32_t)image.height_px, (uint32_t)image.channels},
        .payload = image.pixels,
        .n_bytes = (size_t)image.width_px * (size_t)image.height_px * (size_t)image.channels,
    };
    return keep(&t->arenas[thread], out, err);
}

static int draw_window(images_job *t, uint64_t first, uint64_t n, rot_err *err)
{
    int failed = 0;
    uint64_t failed_row = UINT64_MAX;
    for (int i = 0; i < t->job->threads; i++) rot_arena_reset(&t->arenas[i]);
#pragma omp parallel for schedule(dynamic, 8) num_threads(t->job->threads)
    for (uint64_t i = 0; i < n; i++) {
        rot_err own = {0};
        if (draw_row(t, omp_get_thread_num(), first + i, &t->records[i], &own) == 0) continue;
#pragma omp critical(rot_images_failed)
        if (i < failed_row) { // the first row that fails, whatever the threads
            failed_row = i;
            failed = own.code;
            if (err) *err = own;
        }
    }
    return failed;
}

int rot_make_images(rot_job *job, const rot_stage_plan *from, const rot_stage_plan *plan,
                    rot_err *err)
{
    images_job t = {.job = job, .from = from};
    rot_sink sink = {0};
    int rc = 0;
    ROT_GO(rot_sink_open(&sink, job, plan, err));
    ROT_GO(open_workers(&t, err));
    for (uint64_t row = 0;;) {
        ROT_GO(rot_sink_seek(&sink, row, &row, err));
        if (row >= plan->spec.rows) break;
        uint64_t n = rot_sink_window(&sink, row, WINDOW);
        ROT_GO(draw_window(&t, row, n, err));
        for (uint64_t i = 0; i < n; i++, row++)
            ROT_GO(rot_sink_append(&sink, row, &t.records[i], err));
        ROT_GO(rot_sink_step(&sink, err));
    }
done:
    rot_sink_close(&sink);
    close_workers(&t);
    return rc;
}
