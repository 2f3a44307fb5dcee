// What determines a stage, as JSON; its SHA-256 is the content fingerprint (docs/fingerprints.md).
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "pipeline/job.h"

void rot_stage_plan_free(rot_stage_plan *plan)
{
    free(plan->content);
    *plan = (rot_stage_plan){0};
}

int rot_stage_plan_refresh(rot_stage_plan *plan, rot_err *err)
{
    char path[4200];
    plan->done = false;
    plan->root[0] = 0;
    snprintf(path, sizeof path, "%s/stage.json", plan->dir);
    if (!rot_fs_is_file(path)) return 0;
    rot_stage *stage = NULL;
    ROT_TRY(rot_stage_open(plan->dir, &stage, err));
    snprintf(plan->root, sizeof plan->root, "%s", rot_stage_get_info(stage)->root);
    plan->done = plan->root[0] != 0;
    rot_stage_close(&stage);
    // A shard that somebody removed is made again, whatever stage.json says.
    for (uint32_t i = 0, n = rot_shard_count(&plan->spec); plan->done && i < n; i++)
        plan->done = rot_shard_is_published(plan->dir, i);
    return 0;
}

// Takes `content` over. Canonical text: compact, keys sorted, UTF-8.
static int finish_plan(rot_job *job, const char *stage, const char *split, rot_codec codec,
                       uint64_t rows, json_t *content, rot_stage_plan *out, rot_err *err)
{
    *out = (rot_stage_plan){.stage = stage, .split = split};
    out->content = content ? json_dumps(content, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(content);
    if (!out->content) return rot_no_memory(err, 0, "stage content");
    out->spec = (rot_stage_spec){
        .stage = stage,
        .content = out->content,
        .layout = {codec, job->config->shard_samples, job->config->commit_samples},
        .rows = rows,
    };
    rot_sha256_bytes(out->content, strlen(out->content), out->spec.fingerprint);
    rot_stage_folder(&out->spec, out->folder);
    int n = snprintf(out->dir, sizeof out->dir, "%s/stages/%s", job->config->root, out->folder);
    if (n >= (int)sizeof out->dir)
        ROT_FAIL(err, ROT_ERR_USAGE, "%.200s...: the path is too long", job->config->root);
    return rot_stage_plan_refresh(out, err);
}

static json_t *rows_json(const rot_scan *scan)
{
    return json_pack("{s:s, s:I}", "sha256", scan->rows_sha256, "count", (json_int_t)scan->rows);
}

int rot_job_tokenizer_hash(rot_job *job, char hex[65], rot_err *err)
{
    char path[4200], *key = NULL;
    rot_str s = {0};
    snprintf(path, sizeof path, "%s/tokenizer.json", job->config->tokenizer_path);
    rot_str_puts(&s, "tokenizer 1 ");
    int rc = rot_memo_add_file(&s, path, err);
    if (rc < 0) {
        rot_str_free(&s);
        return rc;
    }
    ROT_TRY(rot_str_take(&s, &key, err));
    rot_tokenizer *tokenizer = NULL;
    const char *known = json_string_value(rot_memo_get(&job->memo, key));
    if (known && strlen(known) == 64) {
        memcpy(hex, known, 65);
        goto done;
    }
    ROT_GO(rot_tokenizer_open(job->config->tokenizer_path, &tokenizer, err));
    uint8_t hash[32];
    rot_tokenizer_hash(tokenizer, hash);
    rot_hex(hash, 32, hex);
    ROT_GO(rot_memo_set(&job->memo, key, json_string(hex), err));
done:
    rot_tokenizer_close(&tokenizer);
    free(key);
    return rc;
}

int rot_plan_tokens(rot_job *job, const rot_split_config *split, const rot_scan *scan,
                    rot_stage_plan *out, rot_err *err)
{
    char hex[65];
    ROT_TRY(rot_job_tokenizer_hash(job, hex, err));
    const char *layout = job->config->layout == ROT_LAYOUT_ROT ? "rot" : "plain";
    json_t *content =
        json_pack("{s:s, s:i, s:o, s:{s:s}, s:s}", "stage", "tokens", "version", 1, "rows",
                  rows_json(scan), "tokenizer", "sha256", hex, "layout", layout);
    return finish_plan(job, "tokens", split->name, ROT_CODEC_ZSTD, scan->rows, content, out, err);
}

int rot_plan_images(rot_job *job, const rot_split_config *split, const rot_scan *scan,
                    rot_stage_plan *out, rot_err *err)
{
    rot_renderer *renderer = NULL;
    ROT_TRY(rot_renderer_open(&job->config->render, &renderer, err));
    json_t *identity = json_loads(rot_renderer_identity(renderer), JSON_REJECT_DUPLICATES, NULL);
    rot_renderer_close(&renderer);
    if (!identity) ROT_FAIL(err, ROT_ERR_INTERNAL, "the renderer's identity is no JSON");
    // fail and skip make the same records; draw makes an image where they make none.
    const char *missing = job->config->on_missing_glyph == ROT_GLYPH_DRAW ? "draw" : "refuse";
    json_t *content =
        json_pack("{s:s, s:i, s:o, s:o, s:s}", "stage", "images", "version", 1, "rows",
                  rows_json(scan), "render", identity, "missing_glyph", missing);
    return finish_plan(job, "images", split->name, ROT_CODEC_ZSTD, scan->rows, content, out, err);
}

// Names of a checkpoint's files, in an order that the folder does not decide.
static int add_checkpoint_files(rot_str *key, const char *dir, rot_err *err)
{
    struct dirent **names;
    int n = scandir(dir, &names, NULL, alphasort), rc = 0;
    if (n < 0) ROT_FAIL(err, ROT_ERR_MISSING, "%s: no such checkpoint folder", dir);
    for (int i = 0; i < n; i++) {
        const char *dot = strrchr(names[i]->d_name, '.');
        char path[4400];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]->d_name);
        if (rc == 0 && dot && (!strcmp(dot, ".safetensors") || !strcmp(dot, ".json")) &&
            rot_fs_is_file(path))
            rc = rot_memo_add_file(key, path, err);
        free(names[i]);
    }
    free(names);
    return rc;
}

int rot_job_encoder_info(rot_job *job, rot_encoder_info *out, rot_err *err)
{
    const rot_encoder_options *options = &job->config->encode;
    char *key = NULL;
    rot_str s = {0};
    rot_str_puts(&s, options->deepstack ? "weights 2 deepstack " : "weights 2 ");
    int rc = add_checkpoint_files(&s, options->checkpoint, err);
    if (rc < 0) {
        rot_str_free(&s);
        return rc;
    }
    ROT_TRY(rot_str_take(&s, &key, err));
    const char *known = json_string_value(rot_memo_get(&job->memo, key));
    ROT_GO(rot_encoder_inspect(options, !known, out, err));
    if (known)
        snprintf(out->weights_sha256, sizeof out->weights_sha256, "%s", known);
    else
        ROT_GO(rot_memo_set(&job->memo, key, json_string(out->weights_sha256), err));
done:
    free(key);
    return rc;
}

// What only some families have; Qwen3-VL's preprocessor stays as it is written above.
static int add_family(json_t *preprocessor, const rot_preprocessor *p, rot_err *err)
{
    static const char *const names[] = {[ROT_FAMILY_QWEN3_VL] = "qwen3_vl",
                                        [ROT_FAMILY_QWEN2_VL] = "qwen2_vl",
                                        [ROT_FAMILY_LLAVA_NEXT] = "llava_next"};
    if (p->family == ROT_FAMILY_QWEN3_VL) return 0;
    int bad = json_object_set_new(preprocessor, "family", json_string(names[p->family]));
    if (p->family == ROT_FAMILY_LLAVA_NEXT) {
        json_t *pinpoints = json_array();
        for (int i = 0; i < p->n_pinpoints; i++)
            bad |= json_array_append_new(
                pinpoints, json_pack("[i,i]", (int)p->pinpoints[i][0], (int)p->pinpoints[i][1]));
        bad |= json_object_set_new(preprocessor, "pinpoints", pinpoints);
        bad |= json_object_set_new(preprocessor, "tile_px", json_integer(p->tile_px));
    }
    return bad ? rot_no_memory(err, 0, "stage content") : 0;
}

int rot_plan_embeds(rot_job *job, const rot_split_config *split, const rot_scan *scan,
                    const char *images_root, rot_stage_plan *out, rot_err *err)
{
    const rot_encoder_options *options = &job->config->encode;
    rot_encoder_info info;
    ROT_TRY(rot_job_encoder_info(job, &info, err));
    const rot_preprocessor *p = &info.preprocessor;
    json_t *preprocessor =
        json_pack("{s:i, s:i, s:i, s:I, s:I, s:[f,f,f], s:[f,f,f]}", "patch_px", p->patch_px,
                  "temporal", p->temporal, "merge", p->merge, "min_pixels",
                  (json_int_t)p->min_pixels, "max_pixels", (json_int_t)p->max_pixels, "mean",
                  p->mean[0], p->mean[1], p->mean[2], "std", p->std[0], p->std[1], p->std[2]);
    if (preprocessor) {
        int rc = add_family(preprocessor, p, err);
        if (rc < 0) {
            json_decref(preprocessor);
            return rc;
        }
    }
    json_t *content = json_pack(
        "{s:s, s:i, s:{s:s}, s:s, s:o, s:s, s:i, s:{s:s}, s:s, s:s}", "stage", "embeds", "version",
        1, "images", "root", images_root, "geometry", rot_geometry_name(options->geometry),
        "preprocessor", preprocessor, "model_type", info.model_type, "heads", info.heads, "weights",
        "sha256", info.weights_sha256, "dtype", options->dtype == ROT_DTYPE_F32 ? "f32" : "bf16",
        "backend", info.backend);
    if (content && options->geometry == ROT_GEOMETRY_NATIVE)
        json_object_set_new(content, "background",
                            json_pack("[i,i,i]", options->background[0], options->background[1],
                                      options->background[2]));
    if (content && options->deepstack)
        json_object_set_new(content, "deepstack", json_integer(info.n_taps));
    return finish_plan(job, "embeds", split->name, job->config->embeds_codec, scan->rows, content,
                       out, err);
}
