// A sweep planned and built: its variants are builds one after another, and what two of them have
// in common is found by its fingerprint.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "pipeline/build.h"
#include "pipeline/config_write.h"
#include "pipeline/sink.h"
#include "pipeline/sweep.h"

int rot_sweep_rank(const rot_build_options *options, rot_err *err)
{
    rot_ranks ranks;
    ROT_TRY(rot_ranks_detect(options->rank, options->ranks, &ranks, err));
    return ranks.rank;
}

// {"variant", "set": {KEY: value}}
static json_t *begin_row(const rot_variant *variant)
{
    json_t *set = json_object();
    for (size_t i = 0; i < variant->own.n; i++)
        json_object_set_new_nocheck(set, variant->own.list[i].key,
                                    rot_node_json(variant->own.list[i].value));
    return json_pack("{s:s, s:o}", "variant", variant->name, "set", set);
}

static json_t *begin_table(const rot_sweep *sweep, const char *what)
{
    return json_pack("{s:s, s:s, s:s, s:[]}", "what", what, "sweep", sweep->name, "store",
                     rot_sweep_root(sweep), "variants");
}

static int add_row(json_t *table, json_t *row, rot_err *err)
{
    int bad = json_array_append(json_object_get(table, "variants"), row);
    return bad ? rot_no_memory(err, 0, "sweep") : 0;
}

/* ---- the plan -------------------------------------------------------------------------------- */

// What a stage is known by before it is built. Embeddings depend on the pictures, so those of equal
// pictures and settings will be the same; which settings draw equal pixels is known only later.
static void stage_key(const rot_config *config, const json_t *stages, const char *stage,
                      char key[4600])
{
    const char *path = json_string_value(json_object_get(json_object_get(stages, stage), "path"));
    const char *images =
        json_string_value(json_object_get(json_object_get(stages, "images"), "path"));
    const rot_encoder_options *e = &config->encode;
    if (path)
        snprintf(key, 4600, "%s", path);
    else
        snprintf(key, 4600, "%s %s %s %s %d %d", images ? images : "", e->checkpoint,
                 rot_geometry_name(e->geometry), e->backend, (int)e->dtype,
                 (int)config->embeds_codec);
}

static void add_number(json_t *object, const char *name, double value)
{
    double before = json_number_value(json_object_get(object, name));
    json_object_set_new(object, name, json_real(before + value));
}

// What this variant makes of one stage: costs into `fresh`. share: the part that is not there.
static void add_cost(json_t *fresh, const char *stage, const json_t *cost, double share)
{
    static const char *const of_embeds[] = {"patches", "embeds_bytes", "tflop", "encode_seconds"};
    if (!strcmp(stage, "images"))
        add_number(fresh, "pixel_bytes",
                   share * json_number_value(json_object_get(cost, "pixel_bytes")));
    for (int i = 0; i < 4 && !strcmp(stage, "embeds"); i++) {
        const json_t *value = json_object_get(cost, of_embeds[i]);
        if (json_is_number(value)) // encode_seconds is null until a rate is known
            add_number(fresh, of_embeds[i], share * json_number_value(value));
    }
}

static double share_left(const json_t *stage)
{
    double shards = json_number_value(json_object_get(stage, "shards"));
    double done = json_number_value(json_object_get(stage, "shards_done"));
    return shards > 0 ? (shards - done) / shards : 1;
}

// "done", "new", "partial" or "as OTHER"; counted over splits: "2 done, 1 new".
static void add_state(json_t *counts, const char *stage, const char *state)
{
    json_t *of = json_object_get(counts, stage);
    if (!of) json_object_set_new(counts, stage, of = json_object());
    json_object_set_new(of, state,
                        json_integer(json_integer_value(json_object_get(of, state)) + 1));
}

static json_t *state_texts(const json_t *counts)
{
    const char *stage, *state;
    json_t *of, *n, *out = json_object();
    json_object_foreach((json_t *)counts, stage, of)
    {
        char text[1024] = "";
        json_object_foreach(of, state, n)
        {
            size_t at = strlen(text);
            if (json_object_size(of) == 1)
                snprintf(text, sizeof text, "%s", state);
            else
                snprintf(text + at, sizeof text - at, "%s%lld %s", at ? ", " : "",
                         (long long)json_integer_value(n), state);
        }
        json_object_set_new(out, stage, json_string(text));
    }
    return out;
}

// owners: {stage key: the variant that makes it}.
static void look_at_split(const rot_variant *variant, const json_t *split, json_t *owners,
                          json_t *counts, json_t *fresh)
{
    json_t *stages = json_object_get(split, "stages"), *stage;
    const json_t *cost = json_object_get(split, "cost");
    const char *name;
    json_object_foreach(stages, name, stage)
    {
        char key[4600], shared[160];
        const char *state = json_string_value(json_object_get(stage, "state"));
        stage_key(variant->config, stages, name, key);
        const char *owner = json_string_value(json_object_get(owners, key));
        if (state && !strcmp(state, "done")) {
            add_state(counts, name, "done");
            continue;
        }
        if (owner && strcmp(owner, variant->name)) {
            snprintf(shared, sizeof shared, "as %s", owner);
            add_state(counts, name, shared);
            continue;
        }
        json_object_set_new(owners, key, json_string(variant->name));
        add_state(counts, name, state && !strcmp(state, "partial") ? "partial" : "new");
        add_cost(fresh, name, cost, share_left(stage));
    }
}

static void mean_k(const json_t *splits, json_t *row)
{
    const char *name;
    json_t *split;
    double tokens = 0, images = 0;
    json_object_foreach((json_t *)splits, name, split)
    {
        const json_t *cost = json_object_get(split, "cost");
        tokens += json_number_value(json_object_get(cost, "merged_tokens"));
        images += json_number_value(json_object_get(cost, "images")) -
                  json_number_value(json_object_get(cost, "too_large"));
    }
    if (tokens > 0 && images > 0) json_object_set_new(row, "k_mean", json_real(tokens / images));
}

// Takes `text`, what rot_build_plan says of the variant, into its row.
static int read_plan(const rot_variant *variant, const char *text, json_t *owners, json_t *row,
                     rot_err *err)
{
    json_t *plan = json_loads(text, 0, NULL), *split;
    json_t *splits = json_object_get(plan, "splits");
    json_t *counts = json_object(), *fresh = json_object();
    const char *name;
    json_object_foreach(splits, name, split) look_at_split(variant, split, owners, counts, fresh);
    int bad = json_object_set_new(row, "stages", state_texts(counts));
    bad |= json_object_set(row, "new", fresh);
    mean_k(splits, row);
    bad |= json_object_set(row, "plan", plan);
    json_decref(counts);
    json_decref(fresh);
    json_decref(plan);
    return bad ? rot_no_memory(err, 0, "sweep") : 0;
}

// What is wrong with the sweep itself, so that nothing of it should begin.
static bool is_ours(int rc)
{
    return rot_exit_code(rc) == 2 || rc == ROT_ERR_NO_MEMORY || rc == ROT_ERR_STOPPED;
}

static int plan_variant(const rot_variant *variant, const rot_build_options *options,
                        json_t *owners, json_t *row, rot_err *err)
{
    char *text = NULL;
    rot_err own = {0};
    int rc = rot_build_plan(variant->config, options, &text, &own);
    if (is_ours(rc)) ROT_FAIL(err, rc, "%.900s (variant %s)", own.message, variant->name);
    if (rc < 0) {
        json_object_set_new(row, "error", json_string(own.message));
        return 0;
    }
    rc = read_plan(variant, text, owners, row, err);
    free(text);
    return rc;
}

int rot_sweep_plan(const rot_sweep *sweep, const rot_build_options *options, char **json,
                   rot_err *err)
{
    json_t *table = begin_table(sweep, "plan"), *owners = json_object(), *row = NULL;
    int rc = 0;
    if (!table || !owners) ROT_GO(rot_no_memory(err, 0, "sweep"));
    for (int i = 0; i < sweep->n; i++) {
        if (options->stop && *options->stop)
            ROT_FAIL_GO(err, ROT_ERR_STOPPED, "stopped before the start: run again");
        if (!(row = begin_row(&sweep->variants[i]))) ROT_GO(rot_no_memory(err, 0, "sweep"));
        ROT_GO(plan_variant(&sweep->variants[i], options, owners, row, err));
        ROT_GO(add_row(table, row, err));
        json_decref(row);
        row = NULL;
    }
    *json = json_dumps(table, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    if (!*json) rc = rot_no_memory(err, 0, "sweep");
done:
    json_decref(row);
    json_decref(owners);
    json_decref(table);
    return rc;
}

/* ---- the build ------------------------------------------------------------------------------- */

typedef struct run {
    const rot_sweep *sweep;
    const rot_build_options *options;
    int rank;
    bool worked;     // the running variant made a row
    json_t *seconds; // {variant and hash of its config: seconds of all runs}
    json_t *stages;  // {folder: bytes}
    int failed;
} run;

static void on_progress(void *user, const rot_progress *progress)
{
    run *r = user;
    r->worked |= progress->done > progress->resumed;
    if (r->options->progress) r->options->progress(r->options->user, progress);
}

static void on_note(void *user, const char *message)
{
    const run *r = user;
    if (r->options->note) r->options->note(r->options->user, message);
}

static int seconds_path(const rot_sweep *sweep, char path[4096], rot_err *err)
{
    char name[512];
    snprintf(name, sizeof name, ".rotoscope/%s.sweep.json", sweep->name);
    return rot_fs_join(path, 4096, rot_sweep_root(sweep), name, err);
}

static int seconds_key(const rot_config *config, char key[256], rot_err *err)
{
    char *text = NULL, hex[65];
    uint8_t digest[32];
    ROT_TRY(rot_config_write_at(config, ".", &text, err));
    rot_sha256_bytes(text, strlen(text), digest);
    free(text);
    rot_hex(digest, 32, hex);
    snprintf(key, 256, "%.150s %.16s", config->name, hex);
    return 0;
}

// One process keeps the account: the first rank. It is of time alone, so that a kill loses little.
static int remember_seconds(run *r, const char *key, double more, rot_err *err)
{
    char path[4096];
    if (r->rank || !r->worked) return 0;
    add_number(r->seconds, key, more);
    ROT_TRY(seconds_path(r->sweep, path, err));
    char *text = json_dumps(r->seconds, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(6));
    if (!text) return rot_no_memory(err, 0, "sweep");
    int rc = rot_fs_write_atomic(path, text, strlen(text), err);
    free(text);
    return rc;
}

static int add_figures(run *r, const rot_variant *variant, const char *key, json_t *row,
                       rot_err *err)
{
    ROT_TRY(rot_sweep_figures(r->sweep, variant->config, row, r->stages, err));
    const json_t *seconds = json_object_get(r->seconds, key);
    json_object_set_new(row, "seconds", json_real(json_number_value(seconds)));
    return 0;
}

static int build_variant(run *r, int i, json_t *row, rot_err *err)
{
    const rot_variant *variant = &r->sweep->variants[i];
    rot_build_options options = *r->options;
    char key[256], note[400];
    rot_err own = {0}, ignored = {0};
    options.progress = on_progress;
    options.note = on_note;
    options.user = r;
    if (i) options.rehash = false; // once is enough
    ROT_TRY(seconds_key(variant->config, key, err));
    snprintf(note, sizeof note, "variant %d of %d: %s", i + 1, r->sweep->n, variant->name);
    on_note(r, note);
    double start = rot_seconds();
    r->worked = false;
    int rc = rot_build(variant->config, &options, NULL, &own);
    remember_seconds(r, key, rot_seconds() - start, &ignored); // of no consequence for the store
    if (rc == ROT_ERR_STOPPED) return rot_err_set(err, rc, "%s", own.message);
    if (rc == 0 && !options.prepare_only) rc = add_figures(r, variant, key, row, &own);
    json_object_set_new(row, "state", json_string(rc < 0 ? "failed" : "done"));
    if (rc == 0) return 0;
    json_object_set_new(row, "error", json_string(own.message));
    if (options.prepare_only) on_note(r, own.message); // there will be no table to say it
    r->failed++;
    return 0;
}

static int build_all(run *r, json_t *table, rot_err *err)
{
    const volatile sig_atomic_t *stop = r->options->stop;
    for (int i = 0; i < r->sweep->n; i++) {
        if (stop && *stop)
            ROT_FAIL(err, ROT_ERR_STOPPED, "stopped before variant %s: run again to go on",
                     r->sweep->variants[i].name);
        json_t *row = begin_row(&r->sweep->variants[i]);
        if (!row) return rot_no_memory(err, 0, "sweep");
        int rc = build_variant(r, i, row, err);
        if (rc == 0) rc = add_row(table, row, err);
        json_decref(row);
        ROT_TRY(rc);
    }
    return 0;
}

// Stages that variants share are counted once.
static void add_total(const run *r, json_t *table)
{
    const char *folder;
    json_t *bytes;
    json_int_t total = 0;
    json_object_foreach(r->stages, folder, bytes) total += json_integer_value(bytes);
    json_object_set_new(table, "bytes", json_integer(total));
    json_object_set_new(table, "failed", json_integer(r->failed));
}

int rot_sweep_build(const rot_sweep *sweep, const rot_build_options *options, char **json,
                    rot_err *err)
{
    run r = {.sweep = sweep, .options = options, .stages = json_object()};
    json_t *table = begin_table(sweep, "table");
    char path[4096];
    int rc = 0;
    if (json) *json = NULL;
    if (!table || !r.stages) ROT_GO(rot_no_memory(err, 0, "sweep"));
    ROT_GO(r.rank = rot_sweep_rank(options, err));
    ROT_GO(seconds_path(sweep, path, err));
    r.seconds = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(r.seconds)) {
        json_decref(r.seconds);
        r.seconds = json_object();
    }
    ROT_GO(build_all(&r, table, err));
    if (options->prepare_only) goto done;
    add_total(&r, table);
    if (r.failed < sweep->n) // a root where nothing could be built is not made for a table
        ROT_GO(rot_sweep_write_tables(sweep, table, r.rank > 0, err));
    if (json && !(*json = json_dumps(table, JSON_INDENT(2) | JSON_REAL_PRECISION(6))))
        ROT_GO(rot_no_memory(err, 0, "sweep"));
done:
    json_decref(table);
    json_decref(r.seconds);
    json_decref(r.stages);
    return rc < 0 ? rc : r.failed;
}
