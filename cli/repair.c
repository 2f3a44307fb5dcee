#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/progress.h"

typedef struct arguments {
    cli_common common;
    const char *dataset;
    bool rehash;
} arguments;

enum { KEY_REHASH = 1 };

static const struct argp_option options[] = {
    {"rehash", KEY_REHASH, 0, 0, "forget remembered hashes of big files", 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; return 0;
    case KEY_REHASH: a->rehash = true; return 0;
    case ARGP_KEY_ARG:
        if (a->dataset) argp_error(state, "one DATASET at a time, not also '%s'", arg);
        a->dataset = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->dataset) argp_error(state, "which DATASET?");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void print_report(const char *text)
{
    json_t *report = json_loads(text, 0, NULL), *split, *stage, *file;
    const char *name, *stage_name;
    size_t i;
    if (!json_is_true(json_object_get(report, "mended"))) puts("nothing to repair");
    json_object_foreach(json_object_get(report, "splits"), name, split)
        json_object_foreach(split, stage_name, stage)
            printf("%s of %s: %lld bad records made again, %lld shards written%s\n", stage_name,
                   name, (long long)json_integer_value(json_object_get(stage, "made")),
                   (long long)json_integer_value(json_object_get(stage, "shards")),
                   json_is_true(json_object_get(stage, "stage_json")) ? ", stage.json too" : "");
    json_array_foreach(json_object_get(report, "files"), i, file)
        printf("%s: written again\n", json_string_value(file));
    printf("root %s\n", json_string_value(json_object_get(report, "root")));
    json_decref(report);
}

int cli_repair(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse,
        "DATASET",
        "Looks at every byte of a dataset, makes the bad records again by the config beside it, "
        "and "
        "keeps the others. Exit code 3 if something could not be mended.",
        cli_children,
        0,
        0};
    arguments a = {0};
    rot_err err = {0};
    cli_progress progress;
    char *json = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    cli_progress_open(&progress, &a.common);
    rot_build_options build = rot_build_options_default();
    build.threads = a.common.threads;
    build.rehash = a.rehash;
    build.stop = cli_catch_signals();
    build.progress = cli_progress_show;
    build.note = cli_progress_note;
    build.user = &progress;
    int rc = rot_repair(a.dataset, &build, &json, &err);
    cli_progress_close(&progress);
    if (rc < 0) return cli_done(cli_fail(&err));
    if (a.common.json)
        puts(json);
    else if (!a.common.quiet)
        print_report(json);
    free(json);
    return cli_done(0);
}
