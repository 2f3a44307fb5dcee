// What a built variant looks like. Embeddings are never read: K follows from the pictures' sizes,
// so that a variant without embeddings has the same figures.
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "pipeline/job.h"
#include "pipeline/series.h"
#include "pipeline/sweep.h"

typedef struct figures {
    const rot_config *config;
    bool has_geometry;
    rot_geometry geometry;
    rot_preprocessor preprocessor;
    rot_renderer *renderer; // NULL: no glyph can be missing
    rot_render_worker *worker;
    uint64_t rows, samples, skipped, too_large, missing;
    rot_series widths, ks;
    double text_tokens; // of rows that have a K
    uint64_t bytes;
} figures;

// Boxes that Pillow would draw for the row's trace.
static int count_missing(figures *f, const rot_record *tokens, rot_err *err)
{
    rot_tokens_view view;
    rot_image image;
    rot_render_info info;
    if (!f->worker || tokens->kind != ROT_KIND_TOKENS) return 0;
    ROT_TRY(rot_tokens_unpack(tokens, &view, err));
    int rc = rot_render(f->worker, view.text[2], view.n_text[2], &image, &info, err);
    if (rc == ROT_ERR_NO_MEMORY) return rc;
    if (rc == 0) f->missing += (uint64_t)info.missing;
    return 0;
}

static int add_image(figures *f, const rot_record *tokens, const rot_record *image, rot_err *err)
{
    rot_grid grid;
    ROT_TRY(rot_series_add(&f->widths, image->shape[0], err));
    if (f->config->on_missing_glyph == ROT_GLYPH_DRAW) ROT_TRY(count_missing(f, tokens, err));
    if (!f->has_geometry) return 0;
    int rc = rot_geometry_grid(f->geometry, &f->preprocessor, (int32_t)image->shape[0],
                               (int32_t)image->shape[1], &grid, err);
    if (rc == ROT_ERR_TOO_LARGE) {
        f->too_large++;
        return 0;
    }
    ROT_TRY(rc);
    if (tokens->kind == ROT_KIND_TOKENS) f->text_tokens += tokens->shape[1];
    return rot_series_add(&f->ks, (uint32_t)grid.k, err);
}

static bool is_cause(const rot_record *tombstone, const char *cause)
{
    return tombstone->n_bytes == strlen(cause) &&
           !memcmp(tombstone->payload, cause, tombstone->n_bytes);
}

static int add_row(figures *f, const rot_record *tokens, const rot_record *image, rot_err *err)
{
    if (image->kind == ROT_KIND_IMAGE) return add_image(f, tokens, image, err);
    if (image->kind != ROT_KIND_TOMBSTONE) return 0;
    if (is_cause(image, "too-large")) f->too_large++;
    return is_cause(image, "missing-glyph") ? count_missing(f, tokens, err) : 0;
}

static int add_rows(figures *f, const char *tokens_dir, const char *images_dir, rot_err *err)
{
    rot_stage *tokens = NULL, *images = NULL;
    int rc = 0;
    ROT_GO(rot_stage_open(tokens_dir, &tokens, err));
    ROT_GO(rot_stage_open(images_dir, &images, err));
    uint64_t rows = rot_stage_get_info(images)->rows;
    if (rot_stage_get_info(tokens)->rows != rows)
        ROT_FAIL_GO(err, ROT_ERR_CORRUPT, "%s and %s: other numbers of rows", tokens_dir,
                    images_dir);
    for (uint64_t row = 0; row < rows; row++) {
        rot_record token, image;
        ROT_GO(rot_stage_walk(tokens, row, &token, err));
        ROT_GO(rot_stage_walk(images, row, &image, err));
        ROT_GO(add_row(f, &token, &image, err));
    }
done:
    rot_stage_close(&tokens);
    rot_stage_close(&images);
    return rc;
}

static int add_bytes(figures *f, const char *dir, json_t *stages, rot_err *err)
{
    rot_stage *stage = NULL;
    ROT_TRY(rot_stage_open(dir, &stage, err));
    uint64_t bytes = rot_stage_get_info(stage)->file_bytes;
    rot_stage_close(&stage);
    f->bytes += bytes;
    const char *slash = strrchr(dir, '/');
    int bad = json_object_set_new(stages, slash ? slash + 1 : dir, json_integer((json_int_t)bytes));
    return bad ? rot_no_memory(err, 0, "sweep") : 0;
}

static int add_split(figures *f, const rot_dataset *dataset, int i, json_t *stages, rot_err *err)
{
    static const char *const names[] = {"tokens", "images", "embeds"};
    const char *dirs[3];
    rot_split_info info;
    ROT_TRY(rot_dataset_split(dataset, i, &info));
    f->rows += info.rows;
    f->samples += info.samples;
    f->skipped += info.skipped;
    for (int k = 0; k < 3; k++) {
        dirs[k] = rot_dataset_stage_dir(dataset, info.name, names[k]);
        if (dirs[k]) ROT_TRY(add_bytes(f, dirs[k], stages, err));
    }
    return dirs[0] && dirs[1] ? add_rows(f, dirs[0], dirs[1], err) : 0;
}

static int prepare(figures *f, const rot_sweep *sweep, rot_err *err)
{
    const rot_config *config = f->config;
    rot_encoder_info info;
    f->has_geometry = config->has_encode || sweep->where_k;
    f->geometry = config->has_encode ? config->encode.geometry : sweep->k;
    f->preprocessor = rot_preprocessor_default();
    if (config->has_encode) {
        ROT_TRY(rot_encoder_inspect(&config->encode, false, &info, err));
        f->preprocessor = info.preprocessor;
    }
    if (!config->has_render || config->on_missing_glyph == ROT_GLYPH_FAIL) return 0;
    rot_render_options options = config->render;
    options.missing_glyph = ROT_GLYPH_DRAW;
    ROT_TRY(rot_renderer_open(&options, &f->renderer, err));
    return rot_render_worker_open(f->renderer, &f->worker, err);
}

static int to_json(figures *f, json_t *out, rot_err *err)
{
    int bad = 0;
    double rows = f->rows ? (double)f->rows : 1, vision = f->ks.sum;
    bad |= json_object_set_new(out, "rows", json_integer((json_int_t)f->rows));
    bad |= json_object_set_new(out, "samples", json_integer((json_int_t)f->samples));
    bad |= json_object_set_new(out, "skipped", json_integer((json_int_t)f->skipped));
    bad |= json_object_set_new(out, "width_px", rot_series_json(&f->widths));
    bad |= json_object_set_new(out, "k", rot_series_json(&f->ks));
    bad |= json_object_set_new(out, "text_tokens_per_vision_token",
                               vision > 0 ? json_real(f->text_tokens / vision) : json_null());
    bad |= json_object_set_new(out, "too_large", json_integer((json_int_t)f->too_large));
    bad |= json_object_set_new(out, "too_large_share", json_real((double)f->too_large / rows));
    bad |= json_object_set_new(out, "missing_glyphs", json_integer((json_int_t)f->missing));
    bad |= json_object_set_new(out, "bytes", json_integer((json_int_t)f->bytes));
    return bad ? rot_no_memory(err, 0, "sweep") : 0;
}

int rot_sweep_figures(const rot_sweep *sweep, const rot_config *config, json_t *out, json_t *stages,
                      rot_err *err)
{
    figures f = {.config = config};
    rot_dataset *dataset = NULL;
    char path[4096], name[512];
    int rc = 0;
    snprintf(name, sizeof name, "%s.json", config->name);
    ROT_GO(rot_fs_join(path, sizeof path, config->root, name, err));
    ROT_GO(rot_dataset_open(path, &dataset, err));
    ROT_GO(prepare(&f, sweep, err));
    for (int i = 0; i < rot_dataset_splits(dataset); i++)
        ROT_GO(add_split(&f, dataset, i, stages, err));
    json_object_set_new(out, "root", json_string(rot_dataset_root(dataset)));
    ROT_GO(to_json(&f, out, err));
done:
    rot_render_worker_close(&f.worker);
    rot_renderer_close(&f.renderer);
    rot_series_free(&f.widths);
    rot_series_free(&f.ks);
    rot_dataset_close(&dataset);
    return rc;
}
