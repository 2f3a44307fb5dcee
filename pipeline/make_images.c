// The images stage: traces of the tokens stage, drawn and packed by all threads.
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "pipeline/job.h"
#include "pipeline/mend.h"
#include "pipeline/units.h"

typedef struct images_job {
    rot_job *job;
    const rot_stage_plan *from;
    rot_renderer *renderer;
    rot_render_worker **workers; // one per thread
    rot_stage **tokens;          // one per thread
} images_job;

static int open_workers(images_job *t, rot_err *err)
{
    int n = t->job->threads;
    t->workers = rot_calloc((size_t)n, sizeof *t->workers);
    t->tokens = rot_calloc((size_t)n, sizeof *t->tokens);
    if (!t->workers || !t->tokens) return rot_no_memory(err, 0, "images stage");
    ROT_TRY(rot_renderer_open(&t->job->config->render, &t->renderer, err));
    for (int i = 0; i < n; i++) {
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
    }
    rot_renderer_close(&t->renderer);
    rot_free(t->workers);
    rot_free(t->tokens);
}

// What `rc` of a drawing means under the policies: 0 with a tombstone in *out, or the error.
static int refuse(const images_job *t, const rot_tokens_view *sample, uint64_t row, int rc,
                  rot_record *out, rot_err *err)
{
    rot_err_prefix(err, "split %s, row %llu, id %.*s: ", t->from->split, (unsigned long long)row,
                   (int)sample->n_text[0], sample->text[0]);
    if (rc == ROT_ERR_MISSING_GLYPH || rc == ROT_ERR_TOO_LARGE)
        rot_job_locate(t->job, t->from->split, row, err);
    if (rc == ROT_ERR_MISSING_GLYPH && t->job->config->on_missing_glyph == ROT_GLYPH_SKIP)
        *out = rot_tombstone("missing-glyph");
    else if (rc == ROT_ERR_TOO_LARGE && t->job->config->on_too_large == ROT_POLICY_SKIP)
        *out = rot_tombstone("too-large");
    else
        return rc;
    rot_job_note(t->job, "skipped: %s", err->message);
    return 0;
}

// *out lives until the thread draws its next row.
static int draw_row(images_job *t, int thread, uint64_t row, rot_record *out, rot_err *err)
{
    rot_tokens_view sample;
    rot_image image;
    ROT_TRY(rot_stage_walk(t->tokens[thread], row, out, err));
    if (out->kind == ROT_KIND_TOMBSTONE) return 0;
    ROT_TRY(rot_tokens_unpack(out, &sample, err));
    int rc = rot_render(t->workers[thread], sample.text[2], sample.n_text[2], &image, NULL, err);
    if (rc < 0) return refuse(t, &sample, row, rc, out, err);
    *out = (rot_record){
        .kind = ROT_KIND_IMAGE,
        .dtype = ROT_DTYPE_U8,
        .shape = {(uint32_t)image.width_px, (uint32_t)image.height_px, (uint32_t)image.channels},
        .payload = image.pixels,
        .n_bytes = (size_t)image.width_px * (size_t)image.height_px * (size_t)image.channels,
    };
    return 0;
}

static int draw_unit(void *user, int thread, uint64_t first, uint64_t n, rot_unit *unit,
                     rot_err *err)
{
    const images_job *t = user;
    for (uint64_t i = 0; i < n; i++) {
        rot_record record;
        int kept = rot_mend_keep(t->job->mend, first + i, unit, err);
        ROT_TRY(kept);
        if (kept) continue;
        ROT_TRY(draw_row(user, thread, first + i, &record, err));
        ROT_TRY(rot_unit_add(unit, &record, err));
    }
    return 0;
}

int rot_make_images(rot_job *job, const rot_stage_plan *from, const rot_stage_plan *plan,
                    rot_err *err)
{
    images_job t = {.job = job, .from = from};
    rot_unit_work work = {.make = draw_unit, .user = &t};
    int rc = open_workers(&t, err);
    if (rc == 0) rc = rot_units_make(job, plan, &work, err);
    close_workers(&t);
    return rc;
}
