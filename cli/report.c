// Writes the report beside the dataset, or where -o says ("-": stdout).
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

typedef struct report_args {
    cli_common common;
    const char *dataset, *out;
} report_args;

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0, "where to write (default: DATASET with .html; -: stdout)", 1}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    report_args *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &args->common; return 0;
    case 'o': args->out = arg; return 0;
    case ARGP_KEY_ARG:
        if (args->dataset) argp_error(state, "one DATASET");
        args->dataset = arg;
        return 0;
    case ARGP_KEY_END:
        if (!args->dataset) argp_error(state, "a DATASET is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int write_page(const char *path, const char *html)
{
    FILE *f = fopen(path, "we");
    int failed = !f || fputs(html, f) == EOF;
    if (f && fclose(f) != 0) failed = 1;
    if (failed) fprintf(stderr, "rotoscope: cannot write %s: %s\n", path, strerror(errno));
    return failed;
}

int cli_report(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse,
        "DATASET",
        "A self-contained HTML page on a dataset: settings, counts, skipped rows, rendered "
        "traces with their patches, histograms of width and K, bytes per stage.",
        cli_children,
        NULL,
        NULL};
    report_args args = {0};
    char *html = NULL, path[4096];
    rot_err err = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &args);
    size_t stem = strlen(args.dataset);
    if (stem > 5 && !strcmp(args.dataset + stem - 5, ".json")) stem -= 5;
    if (stem + 6 > sizeof path) return cli_usage("report: the path is too long");
    snprintf(path, sizeof path, "%.*s.html", (int)stem, args.dataset);
    if (!args.out) args.out = path;
    if (rot_report(args.dataset, &html, &err) < 0) return cli_fail(&err);
    int failed = 0;
    if (!strcmp(args.out, "-"))
        fputs(html, stdout);
    else
        failed = write_page(args.out, html);
    free(html);
    if (!failed && strcmp(args.out, "-") != 0) {
        json_t *file = args.common.json ? json_pack("{s:s}", "file", args.out) : NULL;
        if (file) json_dumpf(file, stdout, 0), putchar('\n');
        json_decref(file);
        if (!args.common.json && !args.common.quiet)
            fprintf(stderr, "rotoscope: wrote %s\n", args.out);
    }
    return cli_done(failed);
}
