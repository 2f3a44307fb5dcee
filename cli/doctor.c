// Prints a verdict per line, then the libraries; with --json all that the library found out.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

enum { KEY_CONFIG_DOC = 1, KEY_CONFIG_SCHEMA };

typedef struct doctor_args {
    cli_common common;
    const char *root;
    int document; // one of the keys above, or 0
} doctor_args;

static const struct argp_option options[] = {
    {"config-doc", KEY_CONFIG_DOC, 0, 0, "print the keys of a config as Markdown (docs/config.md)",
     1},
    {"config-schema", KEY_CONFIG_SCHEMA, 0, 0, "print the JSON Schema of a config", 1},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    doctor_args *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &args->common; return 0;
    case KEY_CONFIG_DOC:
    case KEY_CONFIG_SCHEMA: args->document = key; return 0;
    case ARGP_KEY_ARG:
        if (args->root) argp_error(state, "one ROOT at most");
        args->root = arg;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int print_document(int which)
{
    char *text = NULL;
    rot_err err = {0};
    int rc = which == KEY_CONFIG_DOC ? rot_config_document(&text, &err)
                                     : rot_config_json_schema(&text, &err);
    if (rc < 0) return cli_fail(&err);
    fputs(text, stdout);
    free(text);
    return cli_done(0);
}

static void print_file_system(const json_t *fs)
{
    if (!json_object_get(fs, "type")) return;
    printf("        %-14s %s, %.1f GB free%s (%s)\n", "file system",
           json_string_value(json_object_get(fs, "type")),
           (double)json_integer_value(json_object_get(fs, "free_bytes")) / 1e9,
           json_is_true(json_object_get(fs, "network")) ? ", over a network" : "",
           json_string_value(json_object_get(fs, "looked_at")));
}

// Returns the number of verdicts that are not well.
static int print_verdicts(const json_t *report, bool quiet)
{
    int bad = 0;
    size_t i;
    json_t *verdict, *version;
    const char *library;
    json_array_foreach(json_object_get(report, "verdicts"), i, verdict)
    {
        bool ok = json_is_true(json_object_get(verdict, "ok"));
        bad += !ok;
        if (quiet && ok) continue;
        printf("%-7s %-14s %s\n", ok ? "ok" : "NOT OK",
               json_string_value(json_object_get(verdict, "about")),
               json_string_value(json_object_get(verdict, "text")));
    }
    if (quiet) return bad;
    print_file_system(json_object_get(report, "file_system"));
    printf("        %-14s", "libraries");
    json_object_foreach(json_object_get(report, "libraries"), library, version)
        printf(" %s %s;", library, json_string_value(version));
    printf(" rotoscope %s\n", ROT_VERSION);
    return bad;
}

int cli_doctor(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse,
        "[ROOT]",
        "What this machine offers: cpu paths, threads, libraries, limits, fonts and, with ROOT, "
        "whether "
        "that folder can hold a store.\vExit code 1 if something will stand in the way of a build.",
        cli_children,
        NULL,
        NULL};
    doctor_args args = {0};
    char *text = NULL;
    rot_err err = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &args);
    if (args.document) return print_document(args.document);
    if (rot_doctor(args.root, &text, &err) < 0) return cli_fail(&err);
    json_t *report = json_loads(text, 0, NULL);
    int bad = 0;
    if (args.common.json) {
        puts(text);
        size_t i;
        json_t *verdict;
        json_array_foreach(json_object_get(report, "verdicts"), i, verdict) bad +=
            !json_is_true(json_object_get(verdict, "ok"));
    } else {
        bad = print_verdicts(report, args.common.quiet);
    }
    json_decref(report);
    free(text);
    return cli_done(bad ? 1 : 0);
}
