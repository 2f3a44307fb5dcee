// rotoscope init-data: seeded synthetic samples in the formats of the real sets.
#include <errno.h>
#include <stdlib.h>

#include "cli/cli.h"

enum { KEY_LIKE = 1, KEY_ROWS, KEY_SEED, KEY_SPLIT, KEY_STEPS, KEY_LARGEST };

static const struct argp_option options[] = {
    {"like", KEY_LIKE, "NAME", 0,
     "gsm8k-aug (default): equations, its text format and lengths; gsm8k: solved in words, JSONL; "
     "prosqa: questions on graphs, prontoqa: true or false along a chain of kinds, Coconut's JSON; "
     "arithmetic: chained, in GSM8k-Aug's format",
     0},
    {"rows", KEY_ROWS, "N", 0, "how many samples", 0},
    {"seed", KEY_SEED, "S", 0, "0 by default; the same seed gives the same bytes", 0},
    {"split", KEY_SPLIT, "NAME", 0,
     "train, valid or test: questions that no other split has, whatever its seed", 0},
    {"steps", KEY_STEPS, "LOW-HIGH", 0, "operations of arithmetic (2-6)", 0},
    {"largest", KEY_LARGEST, "N", 0, "no number of arithmetic is above it (9999)", 0},
    {0, 'o', "FILE", 0, "where to; - is standard output", 0},
    {0}};

typedef struct data_args {
    rot_init_data_options data;
    const char *path;
    cli_common common;
} data_args;

static uint64_t count_of(const char *arg, const char *name, uint64_t least,
                         struct argp_state *state)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(arg, &end, 10);
    if (errno || *end || *arg < '0' || *arg > '9' || n < least)
        argp_error(state, "--%s takes a number from %llu to 2^64 - 1, not '%s'", name,
                   (unsigned long long)least, arg);
    return n;
}

static void set_steps(rot_init_data_options *data, const char *arg, struct argp_state *state)
{
    char *middle, *end = NULL;
    long low = strtol(arg, &middle, 10), high = *middle == '-' ? strtol(middle + 1, &end, 10) : 0;
    if (!end || *end || low < 1 || high < low || high > 1000)
        argp_error(state, "--steps takes LOW-HIGH within 1 to 1000, not '%s'", arg);
    data->min_steps = (int)low;
    data->max_steps = (int)high;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    data_args *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &args->common; return 0;
    case KEY_LIKE: args->data.like = arg; return 0;
    case KEY_ROWS: args->data.rows = count_of(arg, "rows", 1, state); return 0;
    case KEY_SEED: args->data.seed = count_of(arg, "seed", 0, state); return 0;
    case KEY_SPLIT: args->data.split = arg; return 0;
    case KEY_STEPS: set_steps(&args->data, arg, state); return 0;
    case KEY_LARGEST: {
        uint64_t largest = count_of(arg, "largest", 9, state);
        args->data.largest = largest < INT32_MAX ? (int)largest : INT32_MAX;
        return 0;
    }
    case 'o':
        if (args->path) argp_error(state, "one -o at a time");
        args->path = arg;
        return 0;
    case ARGP_KEY_END:
        if (!args->data.rows) argp_error(state, "how many --rows?");
        if (!args->path || !*args->path) argp_error(state, "where to? -o FILE, or -o -");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "",
    .doc = "Writes synthetic samples whose arithmetic (or way through a graph) is right: the input "
           "for trying things out, for tests of scale and for training small models.",
    .children = cli_children};

int cli_init_data(int argc, char **argv)
{
    data_args args = {.data = rot_init_data_options_default()};
    rot_err err = {0};
    argp_parse(&argp, argc, argv, 0, 0, &args);
    if (rot_init_data(&args.data, args.path, &err) < 0) return cli_fail(&err);
    return cli_done(0);
}
