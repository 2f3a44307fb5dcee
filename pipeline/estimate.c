#include "pipeline/estimate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "pipeline/preflight.h"

double rot_tower_flop(const rot_encoder_info *info, const rot_grid *grid)
{
    double d = info->width, m = info->mlp_width, s = grid->n_patches;
    double merged = d * info->preprocessor.merge * info->preprocessor.merge;
    double patch_values = 3.0 * info->preprocessor.temporal * info->preprocessor.patch_px *
                          info->preprocessor.patch_px;
    const double view = info->preprocessor.tile_px / info->preprocessor.patch_px;
    const double span = view > 0 ? view * view : s; // of attention; windows are left out
    double block =
        2 * d * (3 * d) + 2 * d * d + info->mlp_products * 2 * d * m + 4 * span * d; // a patch row
    return s * (info->depth * block + 2 * patch_values * d) +
           (1 + info->n_taps) * (double)grid->k *
               (2 * merged * merged + 2 * merged * info->out_width);
}

static void rate_key(const rot_job *job, const rot_encoder_info *info, char key[256])
{
    snprintf(key, 256, "rate 1 %s threads %d", info->backend, job->threads);
}

int rot_rate_remember(rot_job *job, const rot_encoder_info *info, double flop_per_second,
                      rot_err *err)
{
    char key[256];
    rate_key(job, info, key);
    return rot_memo_set(&job->memo, key, json_real(flop_per_second), err);
}

double rot_rate_known(const rot_job *job, const rot_encoder_info *info)
{
    char key[256];
    rate_key(job, info, key);
    return json_number_value(rot_memo_get(&job->memo, key));
}

typedef struct cost {
    double images, k, patches, flop, image_bytes;
    uint64_t too_large;
    bool exact;
} cost;

static int add_image(const rot_job *job, const rot_encoder_info *info, int32_t width,
                     int32_t height, cost *c, rot_err *err)
{
    rot_grid grid;
    c->images++;
    c->image_bytes += (double)width * height;
    if (!job->config->has_encode) return 0;
    int rc = rot_geometry_grid(job->config->encode.geometry, &info->preprocessor, width, height,
                               &grid, err);
    if (rc == ROT_ERR_TOO_LARGE) {
        c->too_large++;
        return 0;
    }
    ROT_TRY(rc);
    c->k += grid.k;
    c->patches += grid.n_patches;
    c->flop += rot_tower_flop(info, &grid);
    return 0;
}

static int cost_of_stage(const rot_job *job, const rot_encoder_info *info, const char *dir, cost *c,
                         rot_err *err)
{
    rot_stage *stage = NULL;
    ROT_TRY(rot_stage_open(dir, &stage, err));
    uint64_t rows = rot_stage_get_info(stage)->rows;
    int rc = 0;
    c->exact = true;
    for (uint64_t row = 0; row < rows; row++) {
        rot_record record;
        ROT_GO(rot_stage_walk(stage, row, &record, err));
        if (record.kind == ROT_KIND_IMAGE)
            ROT_GO(
                add_image(job, info, (int32_t)record.shape[0], (int32_t)record.shape[1], c, err));
    }
done:
    rot_stage_close(&stage);
    return rc;
}

// Draws the first rows of the input and takes the rest to be like them.
static int cost_of_sample(const rot_job *job, const rot_encoder_info *info,
                          const rot_split_config *split, uint64_t rows, cost *c, rot_err *err)
{
    enum { SAMPLE = 256 };
    rot_renderer *renderer = NULL;
    rot_render_worker *worker = NULL;
    rot_input *input = NULL;
    rot_row row;
    int rc = 0, n = 0;
    ROT_GO(rot_renderer_open(&job->config->render, &renderer, err));
    ROT_GO(rot_render_worker_open(renderer, &worker, err));
    ROT_GO(rot_input_open(split, &input, err));
    for (n = 0; n < SAMPLE; n++) {
        rot_image image;
        rc = rot_input_next(input, &row, err);
        if (rc <= 0) break;
        if (row.bad || rot_render(worker, row.trace, row.n_trace, &image, NULL, NULL) < 0) continue;
        ROT_GO(add_image(job, info, image.width_px, image.height_px, c, err));
    }
    if (rc > 0) rc = 0;
    double scale = n ? (double)rows / n : 0;
    c->images *= scale;
    c->k *= scale;
    c->patches *= scale;
    c->flop *= scale;
    c->image_bytes *= scale;
    c->too_large = (uint64_t)((double)c->too_large * scale + 0.5);
done:
    rot_input_close(&input);
    rot_render_worker_close(&worker);
    rot_renderer_close(&renderer);
    return rc;
}

static json_t *stage_state(const rot_stage_plan *stage)
{
    uint32_t n = rot_shard_count(&stage->spec), done = 0;
    for (uint32_t i = 0; i < n; i++) done += rot_shard_is_published(stage->dir, i);
    char path[80];
    snprintf(path, sizeof path, "stages/%s", stage->folder);
    return json_pack("{s:s, s:s, s:i, s:i}", "path", path, "state",
                     stage->done ? "done"
                     : done      ? "partial"
                                 : "new",
                     "shards", (int)n, "shards_done", (int)done);
}

static json_t *cost_json(rot_job *job, const rot_encoder_info *info, const cost *c)
{
    json_t *out = json_pack("{s:b, s:f, s:f}", "exact", c->exact, "images", c->images,
                            "pixel_bytes", c->image_bytes);
    if (!job->config->has_encode) return out;
    double rate = rot_rate_known(job, info);
    size_t element = job->config->encode.dtype == ROT_DTYPE_F32 ? 4 : 2;
    json_object_set_new(out, "patches", json_real(c->patches));
    json_object_set_new(out, "merged_tokens", json_real(c->k));
    json_object_set_new(out, "too_large", json_integer((json_int_t)c->too_large));
    json_object_set_new(out, "embeds_bytes",
                        json_real(c->k * info->out_width * (1 + info->n_taps) * (double)element));
    json_object_set_new(out, "tflop", json_real(c->flop * 1e-12));
    // No figure without a measurement: the rate is known once a build with this backend has run
    // here.
    json_object_set_new(out, "encode_seconds", rate > 0 ? json_real(c->flop / rate) : json_null());
    return out;
}

static int split_json(rot_job *job, const rot_encoder_info *info, int i, const rot_split_plan *plan,
                      json_t **out, rot_err *err)
{
    const rot_split_config *split = &job->config->splits[i];
    json_t *stages = json_object();
    for (int j = 0; j < plan->n_stages; j++)
        json_object_set_new(stages, plan->stages[j].stage, stage_state(&plan->stages[j]));
    if (job->config->has_encode && plan->n_stages < 3)
        json_object_set_new(stages, "embeds",
                            json_pack("{s:s}", "state", "new: known once the images are built"));
    *out = json_pack("{s:I, s:I, s:o}", "rows", (json_int_t)plan->scan.rows, "bad_rows",
                     (json_int_t)plan->scan.bad, "stages", stages);
    if (!job->config->has_render) return 0;
    cost c = {0};
    if (plan->n_stages > 1 && plan->stages[1].done)
        ROT_TRY(cost_of_stage(job, info, plan->stages[1].dir, &c, err));
    else
        ROT_TRY(cost_of_sample(job, info, split, plan->scan.rows, &c, err));
    json_object_set_new(*out, "cost", cost_json(job, info, &c));
    return 0;
}

int rot_plan_text(rot_job *job, const rot_split_plan *plans, char **json, rot_err *err)
{
    rot_encoder_info info = {0};
    json_t *splits = json_object(), *out = NULL;
    int rc = 0;
    if (job->config->has_encode) ROT_GO(rot_job_encoder_info(job, &info, err));
    for (int i = 0; i < job->config->n_splits; i++) {
        json_t *split = NULL;
        rc = split_json(job, &info, i, &plans[i], &split, err);
        json_object_set_new(splits, job->config->splits[i].name, split);
        if (rc < 0) goto done;
    }
    out = json_pack("{s:s, s:s, s:O}", "name", job->config->name, "root", job->config->root,
                    "splits", splits);
    uint64_t free = 0;
    if (out && rot_free_bytes(job->config->root, &free))
        json_object_set_new(out, "free_bytes", json_integer((json_int_t)free));
    if (out && job->config->has_encode)
        json_object_set_new(out, "backend", json_string(info.backend));
    *json = out ? json_dumps(out, JSON_INDENT(2)) : NULL;
    if (!*json) rc = rot_no_memory(err, 0, "plan");
done:
    json_decref(splits);
    json_decref(out);
    return rc;
}
