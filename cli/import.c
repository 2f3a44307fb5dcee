#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { KEY_SPLIT = 1, KEY_TENSOR, KEY_OFFSETS, KEY_WITH, KEY_NAME, KEY_CODEC };

typedef struct arguments {
    cli_common common;
    rot_import_options o;
} arguments;

static const struct argp_option options[] = {
    {"name", KEY_NAME, "NAME", 0, "the dataset that is made: ROOT/NAME.json", 0},
    {"output", 'o', "ROOT", 0, "the root that it is made in", 0},
    {"with", KEY_WITH, "DATASET", 0,
     "these are its samples, in order: its tokens and images are named beside them", 0},
    {"split", KEY_SPLIT, "NAME", 0, "the split (train, or the only one of DATASET)", 0},
    {"tensor", KEY_TENSOR, "NAME", 0, "the tensor of a .safetensors file (embeddings)", 0},
    {"offsets", KEY_OFFSETS, "FILE", 0,
     "a .npy of int64 (n + 1): sample i has rows offsets[i] to offsets[i + 1]; a tensor cu_seqlens "
     "beside the embeddings does the same",
     0},
    {"codec", KEY_CODEC, "CODEC", 0, "none (default) or zstd-bf16", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; return 0;
    case KEY_NAME: a->o.name = arg; return 0;
    case 'o': a->o.root = arg; return 0;
    case KEY_WITH: a->o.with = arg; return 0;
    case KEY_SPLIT: a->o.split = arg; return 0;
    case KEY_TENSOR: a->o.tensor = arg; return 0;
    case KEY_OFFSETS: a->o.offsets = arg; return 0;
    case KEY_CODEC:
        if (strcmp(arg, "none") && strcmp(arg, "zstd-bf16"))
            argp_error(state, "--codec is none or zstd-bf16, not '%s'", arg);
        a->o.layout.codec = arg[0] == 'n' ? ROT_CODEC_NONE : ROT_CODEC_ZSTD_BF16;
        return 0;
    case ARGP_KEY_ARG:
        if (a->o.input) argp_error(state, "unexpected argument '%s'", arg);
        a->o.input = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->o.input) argp_error(state, "FILE is missing");
        if (!a->o.name) argp_error(state, "--name NAME is missing");
        if (!a->o.root) argp_error(state, "-o ROOT is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int cli_import(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse,
        "FILE --name NAME -o ROOT",
        "Takes embeddings that another program made, a .npy or .safetensors file, into a verified "
        "stage and a dataset.",
        cli_children,
        0,
        0};
    arguments a = {.o = rot_import_options_default()};
    rot_err err = {0};
    char *path = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (rot_import(&a.o, &path, &err) < 0) return cli_fail(&err);
    puts(path);
    free(path);
    return cli_done(0);
}
