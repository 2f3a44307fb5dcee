// The public encoder: a checkpoint, a backend and a tower; images in batches of a bounded size.
#include "rotoscope/encoder.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/threads.h"
#include "encoder/checkpoint.h"
#include "encoder/pixel_plan.h"
#include "encoder/checkpoint_config.h"
#include "encoder/tower.h"
#include "kernels/backend.h"

enum { MAX_STAGES = 32 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct rot_encoder {
    rot_geometry geometry;
    rot_preprocessor preprocessor;
    uint8_t background[3];
    rot_dtype dtype;
    int threads;
    size_t patch_values, row_width; // of a merged token: d, or d and its taps
    rot_backend *backend;
    rot_tower *tower;
    float *pixels; // (capacity, patch_values)
    size_t capacity;
    double resample_seconds;
    int slot;        // of the next batch
    void *under_way; // where the batch of the other slot goes; NULL: none
    rot_encoder_loading loading;
    rot_encoder_stage stages[MAX_STAGES];
};

rot_encoder_options rot_encoder_options_default(void)
{
    return (rot_encoder_options){
        .size = sizeof(rot_encoder_options),
        .geometry = ROT_GEOMETRY_RELEASED,
        .backend = "auto",
        .dtype = ROT_DTYPE_BF16,
        .background = {255, 255, 255},
        .pack_cache = "",
    };
}

static int precision_of(rot_dtype dtype, rot_precision *out, rot_err *err)
{
    if (dtype != ROT_DTYPE_BF16 && dtype != ROT_DTYPE_F32)
        ROT_FAIL(err, ROT_ERR_USAGE, "the encoder computes in bf16 or f32");
    *out = dtype == ROT_DTYPE_BF16 ? ROT_PRECISION_BF16 : ROT_PRECISION_F32;
    return 0;
}

static int check_taps(const rot_vision_config *config, const char *dir, rot_err *err)
{
    if (config->n_taps > 0) return 0;
    ROT_FAIL(err, ROT_ERR_USAGE, "%s: a tower of model_type \"%s\" has no deepstack taps", dir,
             config->model_type);
}

int rot_encoder_taps(const char *checkpoint, int32_t *n_taps, rot_err *err)
{
    rot_vision_config config;
    *n_taps = 0;
    ROT_TRY(rot_checkpoint_read_config(checkpoint, &config, err));
    *n_taps = config.n_taps;
    return check_taps(&config, checkpoint, err);
}

static int open_checkpoint(const rot_encoder_options *options, rot_checkpoint **out, rot_err *err)
{
    *out = NULL;
    if (!options->checkpoint) ROT_FAIL(err, ROT_ERR_USAGE, "no checkpoint is named");
    ROT_TRY(rot_checkpoint_open(options->checkpoint, out, err));
    int rc = rot_geometry_check(options->geometry, rot_checkpoint_preprocessor(*out), err);
    if (rc == 0 && options->deepstack)
        rc = check_taps(rot_checkpoint_config(*out), options->checkpoint, err);
    if (rc < 0) rot_checkpoint_close(out);
    return rc;
}

int rot_encoder_inspect(const rot_encoder_options *options, bool with_hash, rot_encoder_info *out,
                        rot_err *err)
{
    int rc = 0;
    rot_checkpoint *checkpoint = NULL;
    rot_precision precision = ROT_PRECISION_BF16;
    *out = (rot_encoder_info){0};
    ROT_TRY(precision_of(options->dtype, &precision, err));
    ROT_TRY(rot_backend_identity(options->backend, precision, out->backend, err));
    ROT_TRY(open_checkpoint(options, &checkpoint, err));
    const rot_vision_config *c = rot_checkpoint_config(checkpoint);
    snprintf(out->model_type, sizeof out->model_type, "%s", c->model_type);
    out->depth = c->depth;
    out->width = c->width;
    out->heads = c->heads;
    out->mlp_width = c->mlp_width;
    out->out_width = c->out_width;
    // four batches on a GPU: what one cannot do while it computes is done for the others
    out->call_patches = strncmp(out->backend, "cuda ", 5) ? 8192 : 65536;
    out->mlp_products = rot_tower_family_of(c->model_type)->gated ? 3 : 2;
    out->n_parameters = rot_checkpoint_parameters(checkpoint);
    out->preprocessor = *rot_checkpoint_preprocessor(checkpoint);
    if (options->deepstack) out->n_taps = c->n_taps;
    if (with_hash)
        rc = rot_checkpoint_hash(checkpoint, options->deepstack, out->weights_sha256, err);
    rot_checkpoint_close(&checkpoint);
    return rc;
}

static int open_cache(const rot_encoder_options *options, const rot_checkpoint *checkpoint,
                      const rot_backend *backend, rot_pack_cache *out, rot_err *err)
{
    char computed[65];
    const char *dir = options->pack_cache, *hash = options->weights_sha256;
    if (!dir || !*dir) return 0;
    if (!backend->ops->linear_packed) {
        if (options->note)
            options->note(options->note_user, "this backend keeps no packed weights on disk");
        return 0;
    }
    if (!hash) ROT_TRY(rot_checkpoint_hash(checkpoint, options->deepstack, computed, err));
    rot_pack_cache_open(out, dir, hash ? hash : computed, backend,
                        (rot_pack_notes){options->note, options->note_user});
    return 0;
}

int rot_encoder_open(const rot_encoder_options *options, rot_encoder **out, rot_err *err)
{
    int rc = 0;
    rot_pack_cache cache = {0};
    double start = now();
    rot_checkpoint *checkpoint = NULL;
    rot_precision precision = ROT_PRECISION_BF16;
    *out = NULL;
    ROT_TRY(precision_of(options->dtype, &precision, err));
    rot_encoder *encoder = rot_calloc(1, sizeof *encoder);
    if (!encoder) return rot_no_memory(err, sizeof *encoder, "the encoder");
    encoder->geometry = options->geometry;
    memcpy(encoder->background, options->background, sizeof encoder->background);
    encoder->dtype = options->dtype;
    encoder->threads = rot_threads_or_default(options->threads);
    ROT_GO(rot_backend_open(options->backend, precision, encoder->threads, &encoder->backend, err));
    ROT_GO(open_checkpoint(options, &checkpoint, err));
    const rot_vision_config *c = rot_checkpoint_config(checkpoint);
    const rot_backend_ops *ops = encoder->backend->ops;
    if (options->device_memory_mb && ops->limit)
        ROT_GO(ops->limit(encoder->backend, options->device_memory_mb * UINT64_C(1000000), err));
    encoder->preprocessor = *rot_checkpoint_preprocessor(checkpoint);
    encoder->patch_values =
        (size_t)c->in_channels * (size_t)c->temporal * (size_t)(c->patch_px * c->patch_px);
    encoder->row_width = (size_t)(c->out_width * (1 + (options->deepstack ? c->n_taps : 0)));
    ROT_GO(open_cache(options, checkpoint, encoder->backend, &cache, err));
    ROT_GO(rot_tower_open(checkpoint, encoder->backend, options->deepstack, &cache, &encoder->tower,
                          err));
    rot_tower_loading(encoder->tower, &encoder->loading.packing_seconds,
                      &encoder->loading.weight_bytes);
    encoder->loading.seconds = now() - start;
    *out = encoder;
    encoder = NULL;
done:
    rot_pack_cache_close(&cache);
    rot_checkpoint_close(&checkpoint);
    rot_encoder_close(&encoder);
    return rc;
}

void rot_encoder_close(rot_encoder **encoder)
{
    rot_encoder *e = *encoder;
    if (!e) return;
    rot_tower_close(&e->tower);
    rot_backend_close(&e->backend);
    rot_free(e->pixels);
    rot_free(e);
    *encoder = NULL;
}

// Resamples images [0, n) into encoder->pixels, images in parallel. The first error in order is
// reported.
static int resample(rot_encoder *encoder, const rot_image *images, const rot_grid *grids, size_t n,
                    size_t first, rot_err *err)
{
    double start = now();
    size_t *rows = rot_malloc((n + 1) * sizeof *rows);
    if (!rows) return rot_no_memory(err, (n + 1) * sizeof *rows, "a batch");
    rows[0] = 0;
    for (size_t i = 0; i < n; i++) rows[i + 1] = rows[i] + (size_t)grids[i].n_patches;
    size_t failed = n;
#pragma omp parallel for schedule(dynamic, 1) num_threads(encoder->threads)
    for (size_t i = 0; i < n; i++) {
        rot_err mine = {0};
        if (rot_geometry_pixels(encoder->geometry, &encoder->preprocessor, &images[i],
                                encoder->background, &grids[i],
                                encoder->pixels + rows[i] * encoder->patch_values, &mine) == 0)
            continue;
#pragma omp critical(rot_encoder_resample)
        if (i < failed) {
            failed = i;
            rot_err_set(err, mine.code, "image %zu: %s", first + i, mine.message);
        }
    }
    rot_free(rows);
    encoder->resample_seconds += now() - start;
    return failed < n ? err->code : 0;
}

static int reserve_pixels(rot_encoder *encoder, size_t rows, rot_err *err)
{
    if (rows <= encoder->capacity) return 0;
    size_t n_bytes;
    rot_free(encoder->pixels);
    encoder->pixels = NULL;
    encoder->capacity = 0;
    if (__builtin_mul_overflow(rows, encoder->patch_values * sizeof(float), &n_bytes))
        return rot_no_memory(err, SIZE_MAX, "pixels");
    encoder->pixels = rot_aligned_malloc(n_bytes);
    if (!encoder->pixels) return rot_no_memory(err, n_bytes, "pixels");
    encoder->capacity = rows;
    return 0;
}

// Images from `first` on that make one batch, and their patch rows; `left` patches are to do.
static void next_batch(const rot_encoder *encoder, const rot_grid *grids, size_t first, size_t n,
                       size_t left, size_t *count, size_t *rows)
{
    const size_t most = rot_tower_rows(encoder->tower);
    const size_t fair = left / ((left + most - 1) / most); // no small batch at the end
    for (*count = *rows = 0; first + *count < n; ++*count) {
        const size_t next = (size_t)grids[first + *count].n_patches;
        if (*count && (*rows + next > most || *rows + next / 2 > fair)) break;
        *rows += next;
    }
}

int rot_encoder_end(rot_encoder *encoder, rot_err *err)
{
    void *out = encoder->under_way;
    encoder->under_way = NULL;
    return out ? rot_tower_finish(encoder->tower, 1 - encoder->slot, out, err) : 0;
}

bool rot_encoder_is_under_way(const rot_encoder *encoder)
{
    return encoder->under_way;
}

// Begins a batch; what was under way before is finished while this one is computed.
static int begin_batch(rot_encoder *encoder, const rot_tower_input *input, const rot_grid *grids,
                       size_t n, void *out, rot_err *err)
{
    if (!encoder->backend->ops->send)
        return rot_tower_run(encoder->tower, input->pixels, grids, n, out, err);
    ROT_TRY(rot_tower_start(encoder->tower, encoder->slot, input, grids, n, err));
    ROT_TRY(rot_encoder_end(encoder, err));
    encoder->slot = 1 - encoder->slot;
    encoder->under_way = out;
    return 0;
}

// The same of images that the backend cuts.
static int begin_cut(rot_encoder *encoder, const rot_image *images, const rot_grid *grids, size_t n,
                     size_t first, void *out, rot_err *err)
{
    rot_pixel_cut cut;
    rot_arena arena = {.block_bytes = 1 << 20};
    int rc = 0;
    double start = now();
    rot_pixel_image *planned = rot_malloc(n * sizeof *planned);
    if (!planned) return rot_no_memory(err, n * sizeof *planned, "a batch");
    rot_pixel_plan_cut(&encoder->preprocessor, encoder->background, &cut);
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = rot_pixel_plan(encoder->geometry, &encoder->preprocessor, &images[i], &grids[i],
                            &arena, &planned[i], err);
        if (rc < 0) rot_err_prefix(err, "image %zu: ", first + i);
    }
    encoder->resample_seconds += now() - start;
    const rot_tower_input input = {.images = planned, .cut = &cut};
    if (rc == 0) rc = begin_batch(encoder, &input, grids, n, out, err);
    rot_arena_free(&arena);
    rot_free(planned);
    return rc;
}

static int begin_images(rot_encoder *encoder, const rot_image *images, const rot_grid *grids,
                        size_t n, size_t rows, size_t first, void *out, rot_err *err)
{
    if (rot_tower_cuts(encoder->tower) &&
        rot_pixel_plan_fits(&encoder->preprocessor, images, n, encoder->background))
        return begin_cut(encoder, images, grids, n, first, out, err);
    ROT_TRY(reserve_pixels(encoder, rows, err));
    ROT_TRY(resample(encoder, images, grids, n, first, err));
    const rot_tower_input input = {.pixels = encoder->pixels};
    return begin_batch(encoder, &input, grids, n, out, err);
}

int rot_encoder_begin(rot_encoder *encoder, const rot_image *images, const rot_grid *grids,
                      size_t n, void *out, rot_err *err)
{
    rot_err ignored;
    if (!err) err = &ignored;
    const size_t elem = encoder->dtype == ROT_DTYPE_BF16 ? 2 : 4;
    unsigned char *to = out;
    size_t left = 0; // patches
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        if (grids[i].n_patches < 1) ROT_FAIL(err, ROT_ERR_USAGE, "image %zu: an empty grid", i);
        left += (size_t)grids[i].n_patches;
    }
    for (size_t i = 0, count, rows; i < n; i += count, left -= rows) {
        next_batch(encoder, grids, i, n, left, &count, &rows);
        ROT_GO(begin_images(encoder, images + i, grids + i, count, rows, i, to, err));
        for (size_t k = 0; k < count; k++) to += (size_t)grids[i + k].k * encoder->row_width * elem;
    }
    return 0;
done:
    encoder->under_way = NULL;
    return rc;
}

int rot_encoder_encode(rot_encoder *encoder, const rot_image *images, const rot_grid *grids,
                       size_t n, void *out, rot_err *err)
{
    ROT_TRY(rot_encoder_begin(encoder, images, grids, n, out, err));
    return rot_encoder_end(encoder, err);
}

void rot_encoder_choices(const rot_encoder *encoder, char *out, size_t capacity)
{
    const rot_backend *b = encoder->backend;
    out[0] = 0;
    if (b->ops->choices) b->ops->choices(b, out, capacity);
}

void rot_encoder_note(const rot_encoder *encoder, char *out, size_t capacity)
{
    const rot_backend *b = encoder->backend;
    out[0] = 0;
    if (b->ops->note) b->ops->note(b, out, capacity);
}

void rot_encoder_profile(rot_encoder *encoder, bool on)
{
    rot_tower_profile(encoder->tower, on);
}

const rot_encoder_stage *rot_encoder_stages(const rot_encoder *encoder, size_t *n)
{
    rot_encoder *e =
        (rot_encoder *)(uintptr_t)encoder; // the table is a cache of what the parts counted
    size_t count;
    const rot_encoder_stage *stages = rot_tower_stages(e->tower, &count);
    e->stages[0] = (rot_encoder_stage){"resample", e->resample_seconds, 0};
    for (size_t i = 0; i < count && i + 1 < MAX_STAGES; i++) e->stages[i + 1] = stages[i];
    *n = count + 1;
    return e->stages;
}

rot_encoder_loading rot_encoder_get_loading(const rot_encoder *encoder)
{
    return encoder->loading;
}
