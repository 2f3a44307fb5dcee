#include "pipeline/rank_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "pipeline/config_write.h"

static void path_of(const rot_config *config, char path[4200])
{
    snprintf(path, 4200, "%s/.rotoscope/%s.plan.json", config->root, config->name);
}

// Whatever path a rank has to the root.
static int config_hash(const rot_config *config, char hex[65], rot_err *err)
{
    char *yaml = NULL;
    uint8_t digest[32];
    ROT_TRY(rot_config_write_at(config, ".", &yaml, err));
    rot_sha256_bytes(yaml, strlen(yaml), digest);
    free(yaml);
    rot_hex(digest, 32, hex);
    return 0;
}

void rot_rank_plan_free(rot_rank_plan *plan)
{
    json_decref(plan->json);
    rot_free(plan->costs);
    *plan = (rot_rank_plan){0};
}

int rot_rank_plan_read(const rot_config *config, rot_rank_plan *plan, rot_err *err)
{
    char path[4200], hex[65];
    rot_rank_plan_free(plan);
    ROT_TRY(config_hash(config, hex, err));
    path_of(config, path);
    plan->json = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    const char *of = json_string_value(json_object_get(plan->json, "config_sha256"));
    if (of && !strcmp(of, hex)) return 1;
    rot_rank_plan_free(plan);
    return 0;
}

static int split_json(rot_job *job, const rot_split_plan *split, json_t **out, rot_err *err)
{
    const rot_stage_plan *embeds = &split->stages[2];
    uint32_t n = rot_shard_count(&embeds->spec);
    uint64_t *costs = rot_calloc(n + 1, sizeof *costs);
    int rc = costs ? 0 : rot_no_memory(err, 0, "costs");
    if (rc == 0 && !embeds->done) rc = rot_check_embeds(job, &split->stages[1], embeds, costs, err);
    json_t *list = json_array();
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        json_array_append_new(list, json_integer((json_int_t)costs[i]));
    rot_free(costs);
    *out = json_pack("{s:s, s:o}", "embeds", embeds->folder, "patches", list);
    return rc == 0 && !*out ? rot_no_memory(err, 0, "plan") : rc;
}

int rot_rank_plan_write(rot_job *job, rot_split_plan *plans, rot_err *err)
{
    const rot_config *config = job->config;
    char path[4200], hex[65], *text = NULL;
    rot_encoder_info info = {0};
    json_t *splits = json_object(), *json = NULL;
    int rc = 0;
    ROT_GO(config_hash(config, hex, err));
    if (config->has_encode) ROT_GO(rot_job_encoder_info(job, &info, err));
    for (int i = 0; config->has_encode && i < config->n_splits; i++) {
        json_t *split = NULL;
        rc = split_json(job, &plans[i], &split, err);
        json_object_set_new(splits, config->splits[i].name, split ? split : json_null());
        if (rc < 0) goto done;
    }
    json = json_pack("{s:s, s:s, s:O}", "config_sha256", hex, "backend", info.backend, "splits",
                     splits);
    text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
    if (!text) ROT_GO(rot_no_memory(err, 0, "plan"));
    path_of(config, path);
    ROT_GO(rot_fs_write_atomic(path, text, strlen(text), err));
done:
    free(text);
    json_decref(json);
    json_decref(splits);
    return rc;
}

int rot_rank_plan_check_backend(const rot_config *config, const rot_rank_plan *plan,
                                const char *backend, rot_err *err)
{
    char path[4200];
    const char *planned = json_string_value(json_object_get(plan->json, "backend"));
    if (!planned || !strcmp(planned, backend)) return 0;
    path_of(config, path);
    ROT_FAIL(err, ROT_ERR_NOT_FOUND,
             "this build is planned for backend '%s', and this machine computes with '%s', which "
             "gives other bits: run on machines of one kind, name encode.backend in the config, or "
             "remove %s to plan anew",
             planned, backend, path);
}

static const json_t *split_of(const rot_rank_plan *plan, const rot_split_plan *split)
{
    return json_object_get(json_object_get(plan->json, "splits"), split->stages[2].split);
}

bool rot_rank_plan_has(const rot_rank_plan *plan, const rot_split_plan *split)
{
    const char *folder = json_string_value(json_object_get(split_of(plan, split), "embeds"));
    return folder && !strcmp(folder, split->stages[2].folder);
}

const uint64_t *rot_rank_plan_costs(rot_rank_plan *plan, const rot_split_plan *split)
{
    const json_t *list = json_object_get(split_of(plan, split), "patches");
    uint32_t n = rot_shard_count(&split->stages[2].spec);
    rot_free(plan->costs);
    plan->costs = NULL;
    if (!n || json_array_size(list) != n) return NULL;
    plan->costs = rot_calloc(n, sizeof *plan->costs);
    for (uint32_t i = 0; plan->costs && i < n; i++)
        plan->costs[i] = (uint64_t)json_integer_value(json_array_get(list, i));
    return plan->costs;
}
