// rotoscope sweep: many variants of one config, and a table of what became of them.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/build_args.h"

enum { KEY_TSV = 1 };

typedef struct arguments {
    cli_common common;
    cli_build_args build;
    const char *sweep;
    bool tsv;
} arguments;

static const struct argp_option options[] = {
    {"tsv", KEY_TSV, 0, 0, "the table on stdout as tab-separated values, not Markdown", 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        state->child_inputs[1] = &a->build;
        return 0;
    case KEY_TSV: a->tsv = true; return 0;
    case ARGP_KEY_ARG:
        if (a->sweep) argp_error(state, "unexpected argument '%s'", arg);
        a->sweep = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->sweep) argp_error(state, "SWEEP.yaml is missing");
        if (a->tsv && a->common.json) argp_error(state, "--json and --tsv exclude each other");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int put_table(FILE *out, const char *json, rot_table_format format)
{
    char *text = NULL;
    rot_err err = {0};
    if (rot_sweep_table(json, format, &text, &err) < 0) return cli_fail(&err);
    fputs(text, out);
    free(text);
    return 0;
}

static int put_result(const arguments *a, const char *json)
{
    if (a->common.json) {
        puts(json);
        return 0;
    }
    if (a->common.quiet && !a->tsv && !a->build.plan) return 0;
    return put_table(stdout, json, a->tsv ? ROT_TABLE_TSV : ROT_TABLE_MARKDOWN);
}

// Each with its reason, whatever the table's form.
static void put_failures(const char *text)
{
    json_t *json = text ? json_loads(text, 0, NULL) : NULL, *row;
    size_t i;
    fflush(stdout);
    json_array_foreach(json_object_get(json, "variants"), i, row)
    {
        const char *error = json_string_value(json_object_get(row, "error"));
        if (error)
            fprintf(stderr, "rotoscope: variant %s failed: %s\n",
                    json_string_value(json_object_get(row, "variant")), error);
    }
    json_decref(json);
}

static int plan(const arguments *a, const rot_sweep *sweep, const rot_build_options *build)
{
    char *json = NULL;
    rot_err err = {0};
    if (rot_sweep_plan(sweep, build, &json, &err) < 0) return cli_fail(&err);
    int code = 0;
    if (a->build.plan)
        code = put_result(a, json);
    else if (!a->common.quiet)
        code = put_table(stderr, json, ROT_TABLE_MARKDOWN);
    free(json);
    return code;
}

// The plan comes first in any case: it finds what a variant names and is not there.
static int run(const arguments *a, const rot_sweep *sweep, const rot_build_options *build)
{
    char *json = NULL;
    rot_err err = {0};
    rot_build_options rest = *build;
    int rank = rot_sweep_rank(build, &err);
    if (rank < 0) return cli_fail(&err);
    if (rank == 0 || a->build.plan) {
        int code = plan(a, sweep, build);
        if (code || a->build.plan) return code;
        rest.rehash = false; // done
    }
    int failed = rot_sweep_build(sweep, &rest, &json, &err);
    if (failed < 0) return cli_fail(&err);
    int code = json ? put_result(a, json) : 0;
    put_failures(json);
    free(json);
    return code ? code : failed ? 1 : 0;
}

int cli_sweep(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse,
        "SWEEP.yaml",
        "Makes or resumes every variant of a dataset that SWEEP.yaml names (docs/sweep.md), and a "
        "table of their figures.",
        cli_build_children,
        0,
        0};
    arguments a = {.build = CLI_BUILD_ARGS};
    rot_err err = {0};
    rot_sweep *sweep = NULL;
    cli_progress progress;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (rot_sweep_load(a.sweep, a.build.sets, a.build.n_sets, &sweep, &err) < 0)
        return cli_fail(&err);
    cli_progress_open(&progress, &a.common);
    rot_build_options build = cli_build_options(&a.build, &a.common, &progress);
    int code = run(&a, sweep, &build);
    cli_progress_close(&progress);
    rot_sweep_free(&sweep);
    return cli_done(code);
}
