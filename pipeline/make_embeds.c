// The embeds stage: images of the images stage through the tower. While one group of images is in
// the tower, a thread of its own writes the one before and reads the one after, so that the tower
// never waits for the store; rows are appended in order all the same. On a GPU the next group
// begins while the last batch of this one is computed.
#include <pthread.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "pipeline/estimate.h"
#include "pipeline/job.h"
#include "pipeline/mend.h"
#include "pipeline/products.h"
#include "pipeline/preflight.h"
#include "pipeline/same_images.h"
#include "pipeline/sink.h"

// A group is as many images as give the tower a few full batches, whatever the commit unit.
enum { GROUP_ROWS = 1024, SAME_BYTES = 64 << 20 };
enum { N_GROUPS = 3 }; // read or written; in the tower; begun while that one ends

// Where the embeddings of a view come from: what was kept, another image of the group or of the one
// before, or the tower.
typedef struct source {
    size_t twin;       // the first view of the group that is the same image
    bool before, ours; // `before`: view `twin` of the group before; `ours`: the tower's
    const void *embeds;
} source;

typedef struct group {
    uint64_t first;
    uint32_t n;                     // rows [first, first + n)
    rot_record records[GROUP_ROWS]; // what is appended
    size_t n_views;                 // images among them
    rot_image views[GROUP_ROWS];    // (n_views)
    rot_grid grids[GROUP_ROWS];     // theirs
    uint32_t slots[GROUP_ROWS];     // record of view i
    uint8_t keys[GROUP_ROWS][ROT_SAME_KEY];
    source sources[GROUP_ROWS];
    bool finished;       // embeddings are there and the records made
    rot_arena arena;     // pixels and tombstones
    rot_arena out_arena; // embeddings
    rot_progress after;  // what was embedded up to this group
} group;

typedef struct embeds_job {
    rot_job *job;
    const rot_stage_plan *plan;
    rot_stage *images;
    rot_preprocessor preprocessor;
    rot_encoder *encoder;
    rot_encoder_info info;
    uint32_t row_width; // values of a merged token: d, or d and its taps
    size_t element_bytes;
    group *groups; // N_GROUPS
    rot_same *same;
    uint64_t encoded;  // images that went through the tower
    rot_progress done; // `images` and what is below it
    double start, first_encoded, check_seconds, load_seconds, encode_seconds; // of this thread
    double wait_seconds; // it waited for the other thread
    double read_seconds, write_seconds;
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
            bytes += (uint64_t)grid.k * t->row_width * t->element_bytes + 48;
            if (costs) costs[row / per_shard] += (uint64_t)grid.grid_h * (uint64_t)grid.grid_w;
            continue;
        }
        rot_err_prefix(err, "split %s, row %llu: ", from->split, (unsigned long long)row);
        if (rc == ROT_ERR_TOO_LARGE) rot_job_locate(t->job, from->split, row, err);
        if (rc != ROT_ERR_TOO_LARGE || t->job->config->on_too_large == ROT_POLICY_FAIL) return rc;
        rot_job_note(t->job, "skipped: %s", err->message);
    }
    return rot_preflight_stage(t->job, plan, bytes, err);
}

static int open_all(embeds_job *t, const rot_stage_plan *from, rot_err *err)
{
    t->start = rot_seconds();
    ROT_TRY(rot_job_encoder_info(t->job, &t->info, err));
    t->preprocessor = t->info.preprocessor;
    t->row_width = (uint32_t)(t->info.out_width * (1 + t->info.n_taps));
    t->element_bytes = t->job->config->encode.dtype == ROT_DTYPE_F32 ? 4 : 2;
    return rot_stage_open(from->dir, &t->images, err);
}

static int open_groups(embeds_job *t, rot_err *err)
{
    t->groups = rot_calloc(N_GROUPS, sizeof *t->groups);
    if (!t->groups) return rot_no_memory(err, N_GROUPS * sizeof *t->groups, "embeds stage");
    for (int i = 0; i < N_GROUPS; i++)
        t->groups[i].arena.block_bytes = t->groups[i].out_arena.block_bytes = 8 << 20;
    return rot_same_open(SAME_BYTES, &t->same, err);
}

static void close_all(embeds_job *t)
{
    rot_stage_close(&t->images);
    rot_encoder_close(&t->encoder);
    rot_same_close(&t->same);
    for (int i = 0; i < N_GROUPS && t->groups; i++) {
        rot_arena_free(&t->groups[i].arena);
        rot_arena_free(&t->groups[i].out_arena);
    }
    rot_free(t->groups);
}

// The record of `row`, and the view of its image if it has one.
static int read_row(embeds_job *t, uint64_t row, group *g, uint32_t slot, rot_err *err)
{
    rot_record in;
    int kept = rot_mend_get(t->job->mend, row, &g->arena, &g->records[slot], err);
    if (kept) return kept < 0 ? kept : 0;
    ROT_TRY(rot_stage_walk(t->images, row, &in, err));
    void *copy = rot_arena_alloc(&g->arena, in.n_bytes);
    if (!copy) return rot_no_memory(err, in.n_bytes, "image");
    if (in.n_bytes) memcpy(copy, in.payload, in.n_bytes);
    in.payload = copy;
    rot_grid *grid = &g->grids[g->n_views];
    g->records[slot] = in;
    if (in.kind == ROT_KIND_TOMBSTONE) return 0;
    if (in.kind != ROT_KIND_IMAGE)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "row %llu is no image", (unsigned long long)row);
    if (grid_of(t, &in, grid, err) < 0) { // preflight let it pass: the policy is to skip
        g->records[slot] = rot_tombstone("too-large");
        return 0;
    }
    rot_same_key(&in, g->keys[g->n_views]);
    g->views[g->n_views] =
        (rot_image){in.payload, (int32_t)in.shape[0], (int32_t)in.shape[1], (int32_t)in.shape[2]};
    g->slots[g->n_views++] = slot;
    return 0;
}

// Rows from `first` on, before `end`: until the tower has enough to do, rather up to the end of a
// commit unit than a little further.
static int read_group(embeds_job *t, uint64_t first, uint64_t end, group *g, rot_err *err)
{
    double start = rot_seconds();
    int64_t patches = 0;
    uint32_t unit = t->plan->spec.layout.commit_samples;
    rot_arena_reset(&g->arena);
    rot_arena_reset(&g->out_arena);
    g->first = first;
    g->n = 0;
    g->n_views = 0;
    g->finished = false;
    while (g->n < GROUP_ROWS && first + g->n < end && patches < t->info.call_patches) {
        if (g->n && (first + g->n) % unit == 0 && patches >= t->info.call_patches / 2) break;
        size_t before = g->n_views;
        ROT_TRY(read_row(t, first + g->n, g, g->n, err));
        if (g->n_views > before) patches += g->grids[before].n_patches;
        g->n++;
    }
    t->read_seconds += rot_seconds() - start;
    return 0;
}

static void pass_note(void *user, const char *message)
{
    rot_job_note(((const embeds_job *)user)->job, "%s", message);
}

static int open_tower(embeds_job *t, rot_err *err)
{
    const double start = rot_seconds();
    if (t->encoder) return 0; // not before there is an image: packing the weights takes seconds
    rot_encoder_options options = t->job->config->encode;
    options.threads = t->job->threads;
    options.weights_sha256 = t->info.weights_sha256;
    options.note = pass_note;
    options.note_user = t;
    ROT_TRY(rot_encoder_open(&options, &t->encoder, err));
    ROT_TRY(rot_products_check(t->plan->dir, t->encoder, err));
    t->load_seconds += rot_seconds() - start;
    return 0;
}

// Begins with n images, and ends what was begun before.
static int begin_tower(embeds_job *t, const rot_image *images, const rot_grid *grids, size_t n,
                       void *out, rot_err *err)
{
    ROT_TRY(open_tower(t, err));
    const double start = rot_seconds();
    if (t->first_encoded == 0) t->first_encoded = start;
    ROT_TRY(rot_encoder_begin(t->encoder, images, grids, n, out, err));
    t->encode_seconds += rot_seconds() - start;
    for (size_t i = 0; i < n; i++) t->done.flop += rot_tower_flop(&t->info, &grids[i]);
    t->encoded += n;
    return 0;
}

static int end_tower(embeds_job *t, rot_err *err)
{
    const double start = rot_seconds();
    if (!t->encoder) return 0;
    ROT_TRY(rot_encoder_end(t->encoder, err));
    t->encode_seconds += rot_seconds() - start;
    return 0;
}

static size_t bytes_of(const embeds_job *t, const group *g, size_t view)
{
    return (size_t)g->grids[view].k * t->row_width * t->element_bytes;
}

static int copy_of(const embeds_job *t, group *g, size_t view, const void *embeds, rot_err *err)
{
    const size_t n_bytes = bytes_of(t, g, view);
    void *copy = rot_arena_alloc(&g->out_arena, n_bytes);
    if (!copy) return rot_no_memory(err, n_bytes, "embeddings");
    g->sources[view].embeds = memcpy(copy, embeds, n_bytes);
    return 0;
}

static size_t first_same(const group *g, size_t n, const uint8_t key[ROT_SAME_KEY])
{
    size_t i = 0;
    while (i < n && memcmp(g->keys[i], key, ROT_SAME_KEY) != 0) i++;
    return i;
}

// 1: the embeddings of a view come from elsewhere than the tower. `before` may be NULL.
static int known(embeds_job *t, group *g, const group *before, size_t view, rot_err *err)
{
    const uint8_t *key = g->keys[view];
    source *s = &g->sources[view];
    *s = (source){.twin = first_same(g, view, key)};
    if (s->twin < view) return 1;
    const void *kept = rot_same_find(t->same, key, bytes_of(t, g, view));
    if (kept) {
        ROT_TRY(copy_of(t, g, view, kept, err));
        return 1;
    }
    const size_t twin = before ? first_same(before, before->n_views, key) : 0;
    s->before = before && twin < before->n_views;
    if (s->before) s->twin = twin;
    s->ours = !s->before;
    return s->before;
}

// The tower begins with those views that nothing else has; what it did before has ended then.
static int begin_group(embeds_job *t, group *g, const group *before, rot_err *err)
{
    rot_image images[GROUP_ROWS];
    rot_grid grids[GROUP_ROWS];
    size_t views[GROUP_ROWS], n = 0, total = 0;
    for (size_t i = 0; i < g->n_views; i++) {
        int rc = known(t, g, before, i, err);
        ROT_TRY(rc);
        if (rc) continue;
        images[n] = g->views[i];
        grids[n] = g->grids[i];
        views[n++] = i;
        total += bytes_of(t, g, i);
    }
    if (!n) return end_tower(t, err);
    unsigned char *out = rot_arena_alloc(&g->out_arena, total); // (sum of K, row_width)
    if (!out) return rot_no_memory(err, total, "embeddings");
    ROT_TRY(begin_tower(t, images, grids, n, out, err));
    for (size_t i = 0; i < n; i++) {
        g->sources[views[i]].embeds = out;
        out += bytes_of(t, g, views[i]);
    }
    return 0;
}

// What the group has of the one before, which is finished.
static int take_from(embeds_job *t, group *g, const group *before, rot_err *err)
{
    for (size_t i = 0; i < g->n_views; i++) {
        source *s = &g->sources[i];
        if (!s->before) continue;
        ROT_TRY(copy_of(t, g, i, before->sources[before->sources[s->twin].twin].embeds, err));
        *s = (source){.twin = i, .embeds = s->embeds};
    }
    return 0;
}

// The tower has ended with it.
static void finish_group(embeds_job *t, group *g)
{
    if (g->finished) return;
    for (size_t i = 0; i < g->n_views; i++) {
        const rot_grid *grid = &g->grids[i];
        const void *embeds = g->sources[g->sources[i].twin].embeds;
        if (g->sources[i].ours) rot_same_put(t->same, g->keys[i], embeds, bytes_of(t, g, i));
        g->records[g->slots[i]] = (rot_record){
            .kind = ROT_KIND_EMBEDS,
            .dtype = t->job->config->encode.dtype,
            .shape = {(uint32_t)grid->k, t->row_width, (uint32_t)grid->grid_h,
                      (uint32_t)grid->grid_w},
            .payload = embeds,
            .n_bytes = bytes_of(t, g, i),
        };
        t->done.images++;
        t->done.merged_tokens += (uint64_t)grid->k;
    }
    if (t->first_encoded > 0) t->done.encoding_seconds = rot_seconds() - t->first_encoded;
    g->after = t->done;
    g->finished = true;
}

// Begins with a group, and finishes the one before (n = 0: there is none), on a processor itself
// too.
static int encode_group(embeds_job *t, group *g, group *before, rot_err *err)
{
    ROT_TRY(begin_group(t, g, before->n ? before : NULL, err));
    if (before->n) finish_group(t, before);
    ROT_TRY(take_from(t, g, before, err));
    if (!t->encoder || !rot_encoder_is_under_way(t->encoder)) finish_group(t, g);
    return 0;
}

static int write_group(embeds_job *t, rot_sink *sink, const group *g, rot_err *err)
{
    double start = rot_seconds();
    if (g->n == 0) return 0;
    for (uint32_t i = 0; i < g->n; i++)
        ROT_TRY(rot_sink_append(sink, g->first + i, &g->records[i], err));
    sink->encoded = g->after;
    t->write_seconds += rot_seconds() - start;
    return 0;
}

// What the other thread does while the tower runs: writes the rows in `group`, if any, then reads
// rows [next, end) into it, as many as make a group.
typedef struct beside {
    embeds_job *t;
    rot_sink *sink;
    group *group;
    uint64_t next, end;
    int write_rc, read_rc;
    rot_err write_err, read_err;
} beside;

static void *work_beside(void *user)
{
    beside *b = user;
    b->write_rc = write_group(b->t, b->sink, b->group, &b->write_err);
    if (b->write_rc == 0 && b->group->n) rot_sink_report(b->sink);
    b->group->n = 0;
    if (b->write_rc == 0 && b->next < b->end)
        b->read_rc = read_group(b->t, b->next, b->end, b->group, &b->read_err);
    return NULL;
}

static int take_error(rot_err *err, const rot_err *from, int rc)
{
    if (err) *err = *from;
    return rc;
}

// The last groups: `before` is finished, `now` is in the tower.
static int write_last(embeds_job *t, rot_sink *sink, const group *before, group *now, rot_err *err)
{
    ROT_TRY(end_tower(t, err));
    finish_group(t, now);
    ROT_TRY(write_group(t, sink, before, err));
    return write_group(t, sink, now, err);
}

// The rows that the sink's shard lacks. A row that cannot be read is said once those before it are
// written; so is the wish to stop, at the end of a commit unit.
static int make_shard(embeds_job *t, rot_sink *sink, rot_err *err)
{
    group *done = &t->groups[0], *before = &t->groups[1], *now = &t->groups[2];
    uint64_t end = sink->end;
    done->n = before->n = 0;
    ROT_TRY(read_group(t, sink->next, end, now, err));
    for (;;) {
        uint64_t next = now->first + now->n;
        beside b = {.t = t, .sink = sink, .group = done, .next = next, .end = end};
        pthread_t thread;
        bool apart = pthread_create(&thread, NULL, work_beside, &b) == 0;
        int rc = encode_group(t, now, before, err);
        double start = rot_seconds();
        if (apart)
            pthread_join(thread, NULL);
        else
            work_beside(&b);
        t->wait_seconds += rot_seconds() - start;
        if (b.write_rc < 0) return take_error(err, &b.write_err, b.write_rc);
        ROT_TRY(rc);
        bool stop = rot_sink_is_stopped(sink) && next % t->plan->spec.layout.commit_samples == 0;
        if (next == end || stop || b.read_rc < 0) {
            ROT_TRY(write_last(t, sink, before, now, err));
            if (b.read_rc < 0) return take_error(err, &b.read_err, b.read_rc);
            return rot_sink_step(sink, err);
        }
        group *read = done;
        if (before->n == 0 && now->finished)
            done = now; // before stays empty
        else {
            done = before;
            before = now;
        }
        now = read;
    }
}

static json_t *tower_stages(const embeds_job *t, double *resample, double *all)
{
    json_t *list = json_array();
    size_t n = 0;
    const rot_encoder_stage *stages = t->encoder ? rot_encoder_stages(t->encoder, &n) : NULL;
    *resample = n ? stages[0].seconds : 0;
    for (size_t i = 0; i < n; i++)
        if (stages[i].name && stages[i].seconds > 0) {
            *all += stages[i].seconds;
            json_array_append_new(list,
                                  json_pack("{s:s, s:f, s:f}", "stage", stages[i].name, "seconds",
                                            stages[i].seconds, "tflop", stages[i].work * 1e-12));
        }
    return list;
}

// What rot_build_options.profile says of this stage.
static void note_profile(embeds_job *t, const rot_stage_plan *from)
{
    double resample, in_stages = 0, seconds = rot_seconds() - t->start;
    if (!t->job->profile) return;
    json_t *stages = tower_stages(t, &resample, &in_stages);
    double tower = t->encode_seconds - resample, running = seconds - t->load_seconds;
    json_t *entry = json_pack(
        "{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:f, s:o}", "split",
        from->split, "stage", "embeds", "seconds", seconds, "check_seconds", t->check_seconds,
        "load_seconds", t->load_seconds, "resample_seconds", resample, "tower_seconds", tower,
        "wait_seconds", t->wait_seconds, "tower_share_of_running",
        running > 0 ? tower / running : 0.0, "read_seconds_beside", t->read_seconds,
        "write_seconds_beside", t->write_seconds, "images", (json_int_t)t->done.images,
        "images_encoded", (json_int_t)t->encoded, "merged_tokens",
        (json_int_t)t->done.merged_tokens, "tflop", t->done.flop * 1e-12, "tower", stages);
    if (entry) json_array_append_new(t->job->profile, entry);
}

int rot_make_embeds(rot_job *job, const rot_stage_plan *from, const rot_stage_plan *plan,
                    rot_err *err)
{
    embeds_job t = {.job = job, .plan = plan};
    rot_sink sink = {0};
    int rc = 0;
    ROT_GO(rot_sink_open(&sink, job, plan, err));
    ROT_GO(open_all(&t, from, err));
    ROT_GO(open_groups(&t, err));
    if (!job->queue) ROT_GO(preflight(&t, from, plan, NULL, err));
    t.check_seconds = rot_seconds() - t.start;
    for (uint64_t row = 0;;) {
        ROT_GO(rot_sink_seek(&sink, row, &row, err));
        if (row >= plan->spec.rows) break;
        ROT_GO(make_shard(&t, &sink, err));
        row = sink.end;
    }
    if (t.encode_seconds > 0)
        ROT_GO(rot_rate_remember(job, &t.info, t.done.flop / t.encode_seconds, err));
done:
    rot_sink_close(&sink);
    note_profile(&t, from);
    close_all(&t);
    return rc;
}

int rot_check_embeds(rot_job *job, const rot_stage_plan *from, const rot_stage_plan *plan,
                     uint64_t *costs, rot_err *err)
{
    embeds_job t = {.job = job, .plan = plan};
    int rc = open_all(&t, from, err);
    if (rc == 0) rc = preflight(&t, from, plan, costs, err);
    close_all(&t);
    return rc;
}
