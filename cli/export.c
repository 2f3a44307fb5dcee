#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { KEY_SPLIT = 1, KEY_TO, KEY_WHERE, KEY_LIMIT, MAX_WHERE = 32 };

typedef struct arguments {
    cli_common common;
    rot_export_options o;
    const char *where[MAX_WHERE];
} arguments;

static const struct argp_option options[] = {
    {"split", KEY_SPLIT, "NAME", 0, "the split (may be left out if there is one)", 0},
    {"to", KEY_TO, "FORMAT", 0, "npy, safetensors, png or jsonl", 0},
    {"output", 'o', "OUT", 0, "npy, png: a new folder; safetensors, jsonl: a new file; - : stdout",
     0},
    {"where", KEY_WHERE, "COND", 0,
     "only samples with e.g. K<=128, id=x, width>5000; keys: index row K width height question_ids "
     "trace_ids answer_ids id question trace answer; several must all hold",
     0},
    {"limit", KEY_LIMIT, "N", 0, "at most N samples", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    char *end;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; return 0;
    case KEY_SPLIT: a->o.split = arg; return 0;
    case KEY_TO: a->o.format = arg; return 0;
    case 'o': a->o.output = strcmp(arg, "-") ? arg : "/dev/stdout"; return 0;
    case KEY_WHERE:
        if (a->o.n_where == MAX_WHERE) argp_error(state, "more than %d conditions", MAX_WHERE);
        a->where[a->o.n_where++] = arg;
        return 0;
    case KEY_LIMIT:
        errno = 0;
        a->o.limit = strtoull(arg, &end, 10);
        if (errno || *end || arg[0] < '0' || arg[0] > '9')
            argp_error(state, "--limit is a number, not '%s'", arg);
        return 0;
    case ARGP_KEY_ARG:
        if (a->o.dataset) argp_error(state, "unexpected argument '%s'", arg);
        a->o.dataset = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->o.dataset) argp_error(state, "DATASET is missing");
        if (!a->o.format) argp_error(state, "--to FORMAT is missing");
        if (!a->o.output) argp_error(state, "-o OUT is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int cli_export(int argc, char **argv)
{
    static const struct argp argp = {options,
                                     parse,
                                     "DATASET --to FORMAT -o OUT",
                                     "Writes the samples of a split in another format. "
                                     "`python -m rotoscope export` has webdataset, mds and "
                                     "parquet.",
                                     cli_children,
                                     0,
                                     0};
    arguments a = {.o = rot_export_options_default()};
    rot_err err = {0};
    uint64_t n;
    a.o.where = a.where;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (rot_export(&a.o, &n, &err) < 0) return cli_fail(&err);
    bool on_stdout = strcmp(a.o.output, "/dev/stdout") == 0;
    if (a.common.json && !on_stdout) printf("{\"samples\": %llu}\n", (unsigned long long)n);
    if (!a.common.quiet) fprintf(stderr, "%llu samples: %s\n", (unsigned long long)n, a.o.output);
    return cli_done(0);
}
