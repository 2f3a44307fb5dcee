// The embeds stage: images of the images stage through the tower, one commit unit at a time.
#include <string.h>
#include <sys/statvfs.h>

#include "base/err.h"
#include "base/mem.h"
#include "pipeline/estimate.h"
#include "pipeline/job.h"
#include "pipeline/mend.h"
#include "pipeline/sink.h"

typedef struct embeds_job {
    rot_job *job;
    rot_stage *images;
    rot_preprocessor preprocessor;
    rot_encoder *encoder;
    rot_encoder_info info;
    uint32_t out_width; // d
    size_t element_bytes;
    rot_arena arena;      // pixels and tombstones of one unit
    rot_arena out_arena;  // its embeddings
    rot_record *records;  // (unit): what is appended
    rot_image *views;     // (unit): images to encode, packed to the front
    rot_grid *grids;      // (unit): theirs
    uint32_t *slots;      // (unit): record of view i
    double flop, seconds; // of the tower in this run
} embeds_job;

static int grid_of(const embeds_job *t, const rot_record *record, rot_grid *grid, rot_err *err)
{
    return rot_geometry_grid(t->job->config->encode.geometry, &t->preprocessor,
                             (int32_t)record->shape[0], (int32_t)record->shape[1], grid, err);
}

// Before the first sample: images that the geometry cannot take, and bytes against free space.
static int preflight(embeds_job *t, const rot_stage_plan *from, const rot_stage_plan *plan,
                     uint64_t *costs, rot_err *err)
{
    uint64_t bytes = 0, per_shard = plan->spec.layout.shard_samples;
    for (uint64_t row = 0; row < plan->spec.rows; row++) {
        if (row % per_shard == 0 && rot_sink_has_shard(t->job, plan, (uint32_t)(row / per_shard))) {
            row += per_shard - 1;
            continue;
        }
        rot_record record;
        rot_grid grid;
        ROT_TRY(rot_stage_walk(t->images, row, &record, err));
        if (record.kind == ROT_KIND_TOMBSTONE) continue;
        int rc = grid_of(t, &record, &grid, err);
        if (rc == 0) {
            bytes += (uint64_t)grid.k * t->out_width * t->element_bytes + 48;
            if (costs) costs[row / per_shard] += (uint64_t)grid.grid_h * (uint64_t)grid.grid_w;
            continue;
        }
        rot_err_prefix(err, "split %s, row %llu: ", from->split, (unsigned long long)row);
        if (rc == ROT_ERR_TOO_LARGE) rot_job_locate(t->job, from->split, row, err);
        if (rc != ROT_ERR_TOO_LARGE || t->job->config->on_too_large == ROT_POLICY_FAIL) return rc;
        rot_job_note(t->job, "skipped: %s", err->message);
    }
    struct statvfs fs;
    if (statvfs(plan->dir, &fs) < 0) return 0; // no figure, no verdict
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    // zstd-bf16 leaves signs and mantissas, half of the bytes, as they are.
    if (plan->spec.layout.codec == ROT_CODEC_ZSTD_BF16) bytes /= 2;
    if (bytes > free_bytes)
        ROT_FAIL(err, ROT_ERR_NO_SPACE, "%s: the embeds of split %s need %llu bytes, %llu are free",
                 plan->dir, from->split, (unsigned long long)bytes, (unsigned long long)free_bytes);
    return 0;
}

static int open_all(embeds_job *t, const rot_stage_plan *from, uint32_t unit, rot_err *err)
{
    rot_encoder_options options = t->job->config->encode;
    ROT_TRY(rot_job_encoder_info(t->job, &t->info, err));
    t->preprocessor = t->info.preprocessor;
    t->out_width = (uint32_t)t->info.out_width;
    t->element_bytes = options.dtype == ROT_DTYPE_F32 ? 4 : 2;
    t->records = rot_calloc(unit, sizeof *t->records);
    t->views = rot_calloc(unit, sizeof *t->views);
    t->grids = rot_calloc(unit, sizeof *t->grids);
    t->slots = rot_calloc(unit, sizeof *t->slots);
    if (!t->records || !t->views || !t->grids || !t->slots)
        return rot_no_memory(err, 0, "embeds stage");
    t->arena.block_bytes = t->out_arena.block_bytes = 8 << 20;
    return rot_stage_open(from->dir, &t->images, err);
}

static void close_all(embeds_job *t)
{
    rot_stage_close(&t->images);
    rot_encoder_close(&t->encoder);
    rot_arena_free(&t->arena);
    rot_arena_free(&t->out_arena);
    rot_free(t->records);
    rot_free(t->views);
    rot_free(t->grids);
    rot_free(t->slots);
}

static int read_row(embeds_job *t, uint64_t row, uint32_t slot, size_t *n_views, rot_err *err)
{
    rot_record in;
    int kept = rot_mend_get(t->job->mend, row, &t->arena, &t->records[slot], err);
    if (kept) return kept < 0 ? kept : 0;
    ROT_TRY(rot_stage_walk(t->images, row, &in, err));
    void *copy = rot_arena_alloc(&t->arena, in.n_bytes);
    if (!copy) return rot_no_memory(err, in.n_bytes, "image");
    if (in.n_bytes) memcpy(copy, in.payload, in.n_bytes);
    in.payload = copy;
    rot_grid *grid = &t->grids[*n_views];
    t->records[slot] = in;
    if (in.kind == ROT_KIND_TOMBSTONE) return 0;
    if (in.kind != ROT_KIND_IMAGE)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "row %llu is no image", (unsigned long long)row);
    if (grid_of(t, &in, grid, err) < 0) { // preflight let it pass: the policy is to skip
        static const char cause[] = "too-large";
        t->records[slot] = (rot_record){.kind = ROT_KIND_TOMBSTONE,
                                        .dtype = ROT_DTYPE_U8,
                                        .shape = {sizeof cause - 1},
                                        .payload = cause,
                                        .n_bytes = sizeof cause - 1};
        return 0;
    }
    t->views[*n_views] =
        (rot_image){in.payload, (int32_t)in.shape[0], (int32_t)in.shape[1], (int32_t)in.shape[2]};
    t->slots[(*n_views)++] = slot;
    return 0;
}

// Rows [first, first + n), n at most a commit unit, into t->records.
static int encode_unit(embeds_job *t, uint64_t first, uint32_t n, rot_err *err)
{
    size_t n_views = 0, n_tokens = 0;
    rot_arena_reset(&t->arena);
    rot_arena_reset(&t->out_arena);
    for (uint32_t i = 0; i < n; i++) ROT_TRY(read_row(t, first + i, i, &n_views, err));
    if (!n_views) return 0;
    if (!t->encoder) { // only now: packing the weights takes seconds
        rot_encoder_options options = t->job->config->encode;
        options.threads = t->job->threads;
        ROT_TRY(rot_encoder_open(&options, &t->encoder, err));
    }
    for (size_t i = 0; i < n_views; i++) n_tokens += (size_t)t->grids[i].k;
    size_t row_bytes = t->out_width * t->element_bytes;
    unsigned char *out = rot_arena_alloc(&t->out_arena, n_tokens * row_bytes); // (sum of K, d)
    if (!out) return rot_no_memory(err, n_tokens * row_bytes, "embeddings");
    double start = rot_seconds();
    ROT_TRY(rot_encoder_encode(t->encoder, t->views, t->grids, n_views, out, err));
    t->seconds += rot_seconds() - start;
    for (size_t i = 0; i < n_views; i++) t->flop += rot_tower_flop(&t->info, &t->grids[i]);
    for (size_t i = 0; i < n_views; i++) {
        const rot_grid *g = &t->grids[i];
        size_t n_bytes = (size_t)g->k * row_bytes;
        t->records[t->slots[i]] = (rot_record){
            .kind = ROT_KIND_EMBEDS,
            .dtype = t->job->config->encode.dtype,
            .shape = {(uint32_t)g->k, t->out_width, (uint32_t)g->grid_h, (uint32_t)g->grid_w},
            .payload = out,
            .n_bytes = n_bytes,
        };
        out += n_bytes;
    }
    return 0;
}

int rot_make_embeds(rot_job *job, const rot_stage_plan *from, const rot_stage_plan *plan,
                    rot_err *err)
{
    embeds_job t = {.job = job};
    rot_sink sink = {0};
    uint32_t unit = plan->spec.layout.commit_samples;
    int rc = 0;
    ROT_GO(rot_sink_open(&sink, job, plan, err));
    ROT_GO(open_all(&t, from, unit, err));
    if (!job->queue) ROT_GO(preflight(&t, from, plan, NULL, err));
    for (uint64_t row = 0;;) {
        ROT_GO(rot_sink_seek(&sink, row, &row, err));
        if (row >= plan->spec.rows) break;
        uint32_t n = (uint32_t)rot_sink_window(&sink, row, unit);
        ROT_GO(encode_unit(&t, row, n, err));
        for (uint32_t i = 0; i < n; i++, row++)
            ROT_GO(rot_sink_append(&sink, row, &t.records[i], err));
        ROT_GO(rot_sink_step(&sink, err));
    }
    if (t.seconds > 0) ROT_GO(rot_rate_remember(job, &t.info, t.flop / t.seconds, err));
done:
    rot_sink_close(&sink);
    close_all(&t);
    return rc;
}

int rot_check_embeds(rot_job *job, const rot_stage_plan *from, const rot_stage_plan *plan,
                     uint64_t *costs, rot_err *err)
{
    embeds_job t = {.job = job};
    int rc = open_all(&t, from, plan->spec.layout.commit_samples, err);
    if (rc == 0) rc = preflight(&t, from, plan, costs, err);
    close_all(&t);
    return rc;
}
