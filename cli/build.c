#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/build_args.h"

enum { KEY_PROFILE = 1 };

typedef struct arguments {
    cli_common common;
    cli_build_args build;
    const char *config;
    bool profile;
} arguments;

static const struct argp_option options[] = {
    {"config", 'c', "CONFIG", 0, "the build's YAML (docs/config.md)", 0},
    {"profile", KEY_PROFILE, 0, 0, "say at the end where the time went (on stderr)", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        state->child_inputs[1] = &a->build;
        return 0;
    case 'c':
        if (a->config) argp_error(state, "--config is given twice");
        a->config = arg;
        return 0;
    case KEY_PROFILE: a->profile = true; return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s' (a config is given with -c)", arg);
        return 0;
    case ARGP_KEY_END:
        if (!a->config) argp_error(state, "-c CONFIG is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void print_plan(const char *text)
{
    json_t *plan = json_loads(text, 0, NULL), *split, *stage;
    const char *name, *stage_name;
    printf("dataset %s in %s\n", json_string_value(json_object_get(plan, "name")),
           json_string_value(json_object_get(plan, "root")));
    json_object_foreach(json_object_get(plan, "splits"), name, split)
    {
        printf("  %s: %lld rows, %lld bad\n", name,
               (long long)json_integer_value(json_object_get(split, "rows")),
               (long long)json_integer_value(json_object_get(split, "bad_rows")));
        json_object_foreach(json_object_get(split, "stages"), stage_name, stage)
        {
            const char *path = json_string_value(json_object_get(stage, "path"));
            printf("    %-7s %-8s %s", stage_name,
                   json_string_value(json_object_get(stage, "state")), path ? path : "");
            if (path)
                printf("  %lld of %lld shards",
                       (long long)json_integer_value(json_object_get(stage, "shards_done")),
                       (long long)json_integer_value(json_object_get(stage, "shards")));
            putchar('\n');
        }
        json_t *cost = json_object_get(split, "cost");
        if (!json_object_get(cost, "embeds_bytes")) continue;
        bool exact = json_is_true(json_object_get(cost, "exact"));
        json_t *s = json_object_get(cost, "encode_seconds");
        printf("    %s %.0f merged tokens, %.3f GB of embeddings, %.2f TFLOP",
               exact ? "exactly" : "about",
               json_number_value(json_object_get(cost, "merged_tokens")),
               json_number_value(json_object_get(cost, "embeds_bytes")) * 1e-9,
               json_number_value(json_object_get(cost, "tflop")));
        if (json_is_real(s))
            printf(", %.0f s of encoding at the last build's rate", json_real_value(s));
        printf("\n    %lld images too large for the geometry\n",
               (long long)json_integer_value(json_object_get(cost, "too_large")));
    }
    if (json_object_get(plan, "free_bytes"))
        printf("  %.1f GB free\n",
               (double)json_integer_value(json_object_get(plan, "free_bytes")) * 1e-9);
    json_decref(plan);
}

static void print_built(const char *text, const char *root)
{
    json_t *dataset = json_loads(text, 0, NULL), *split;
    const char *name;
    printf("%s/%s.json\n", root, json_string_value(json_object_get(dataset, "name")));
    json_object_foreach(json_object_get(dataset, "splits"), name, split)
        printf("  %s: %lld samples, %lld skipped\n", name,
               (long long)json_integer_value(json_object_get(split, "samples")),
               (long long)json_integer_value(json_object_get(split, "skipped")));
    printf("  root %s\n", json_string_value(json_object_get(dataset, "root")));
    json_decref(dataset);
}

static double member(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void print_part(const char *name, double seconds, double of)
{
    fprintf(stderr, "    %-34s %9.2f s %6.1f %%\n", name, seconds,
            of > 0 ? 100 * seconds / of : 0.0);
}

static void print_embeds_profile(const json_t *stage)
{
    size_t i;
    json_t *part;
    double all = member(stage, "seconds"), tower = member(stage, "tower_seconds"), known = tower;
    static const char *const parts[][2] = {{"load_seconds", "loading the tower"},
                                           {"check_seconds", "checks before the first row"},
                                           {"resample_seconds", "resampling"},
                                           {"wait_seconds", "waiting for reading and writing"}};
    print_part("the tower", tower, all);
    for (i = 0; i < sizeof parts / sizeof *parts; i++) {
        print_part(parts[i][1], member(stage, parts[i][0]), all);
        known += member(stage, parts[i][0]);
    }
    print_part("the rest", all - known, all);
    fprintf(stderr, "    the tower's share without its loading: %.1f %%\n",
            100 * member(stage, "tower_share_of_running"));
    fprintf(stderr, "    beside it: reading %.2f s, writing %.2f s\n",
            member(stage, "read_seconds_beside"), member(stage, "write_seconds_beside"));
    fprintf(stderr, "    %.0f images, %.0f of them encoded, %.0f merged tokens, %.3f TFLOP\n",
            member(stage, "images"), member(stage, "images_encoded"),
            member(stage, "merged_tokens"), member(stage, "tflop"));
    json_array_foreach(json_object_get(stage, "tower"), i, part)
    {
        double seconds = member(part, "seconds"), work = member(part, "tflop");
        fprintf(stderr, "      %-32s %9.2f s %6.1f %%",
                json_string_value(json_object_get(part, "stage")), seconds,
                tower > 0 ? 100 * seconds / (tower + member(stage, "resample_seconds")) : 0.0);
        if (work > 0) fprintf(stderr, "  %6.0f GFLOP/s", 1000 * work / seconds);
        fputc('\n', stderr);
    }
}

static void print_profile(const char *text, bool as_json)
{
    json_t *profile = text ? json_loads(text, 0, NULL) : NULL, *stage;
    size_t i;
    if (!profile) return;
    if (as_json) {
        json_t *line = json_pack("{s:O}", "profile", profile);
        json_dumpf(line, stderr, JSON_COMPACT | JSON_REAL_PRECISION(6));
        fputc('\n', stderr);
        json_decref(line);
        json_decref(profile);
        return;
    }
    json_array_foreach(json_object_get(profile, "stages"), i, stage)
    {
        fprintf(stderr, "  %s of split %s: %.2f s\n",
                json_string_value(json_object_get(stage, "stage")),
                json_string_value(json_object_get(stage, "split")), member(stage, "seconds"));
        if (json_object_get(stage, "tower_seconds")) print_embeds_profile(stage);
    }
    json_decref(profile);
}

int cli_build(int argc, char **argv)
{
    static const struct argp argp = {
        options, parse, "-c CONFIG", "Makes or resumes a dataset.", cli_build_children, 0, 0};
    arguments a = {.build = CLI_BUILD_ARGS};
    rot_err err = {0};
    rot_config *config = NULL;
    cli_progress progress;
    char *json = NULL, *profile = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (rot_config_load(a.config, a.build.sets, a.build.n_sets, &config, &err) < 0)
        return cli_fail(&err);
    cli_progress_open(&progress, &a.common);
    rot_build_options build = cli_build_options(&a.build, &a.common, &progress);
    if (a.profile && !a.build.plan) build.profile = &profile;
    int rc = a.build.plan ? rot_build_plan(config, &build, &json, &err)
                          : rot_build(config, &build, &json, &err);
    cli_progress_close(&progress);
    print_profile(profile, a.common.json);
    int code = rc < 0 ? cli_fail(&err) : 0;
    if (rc == 0 && !json)
        ; // prepared, which is no dataset yet
    else if (rc == 0 && a.common.json)
        puts(json);
    else if (rc == 0 && a.build.plan)
        print_plan(json);
    else if (rc == 0 && !a.common.quiet)
        print_built(json, config->root);
    free(json);
    free(profile);
    rot_config_free(&config);
    return cli_done(code);
}
