// rotoscope init-model: a checkpoint of the real architecture with random weights.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum {
    KEY_ARCH = 1,
    KEY_SEED,
    KEY_TOKENIZER,
    KEY_TEXT,
    KEY_DTYPE,
    KEY_DEPTH,
    KEY_WIDTH,
    KEY_HEADS,
    KEY_MLP,
    KEY_OUT
};

static const struct argp_option options[] = {
    {0, 'o', "DIR", 0, "the folder to make (the same as naming it without -o)", 0},
    {"arch", KEY_ARCH, "NAME", 0,
     "tiny (default), 2b, 4b, 8b of Qwen3-VL; qwen2.5-tiny, qwen2.5-3b, qwen2.5-7b, qwen2-tiny, "
     "qwen2-2b, qwen2-7b, llava-tiny, llava-7b; or custom (Qwen3-VL) with all sizes below; or a "
     "decoder to train from scratch: qwen3-tiny, qwen3-100m, llama-tiny, gpt2-tiny, gpt2",
     0},
    {"seed", KEY_SEED, "N", 0, "of the random weights (0); the same seed gives the same bytes", 0},
    {"tokenizer", KEY_TOKENIZER, "DIR", 0,
     "copy this tokenizer (default: a small one that is built in)", 0},
    {"text", KEY_TEXT, 0, 0, "write the text model's tensors too", 0},
    {"dtype", KEY_DTYPE, "TYPE", 0, "bf16 (default of towers), f16 or f32 (of decoders)", 0},
    {"depth", KEY_DEPTH, "N", 0, "blocks of the tower or decoder", 1},
    {"width", KEY_WIDTH, "N", 0, "its width", 1},
    {"heads", KEY_HEADS, "N", 0, "its attention heads", 1},
    {"mlp", KEY_MLP, "N", 0, "width of its MLP", 1},
    {"out", KEY_OUT, "N", 0, "width of a tower's embeddings", 1},
    {0}};

typedef struct init_args {
    rot_init_model_options model;
    cli_common common;
} init_args;

static int size_of(const char *arg, const char *name, struct argp_state *state)
{
    char *end;
    errno = 0;
    long n = strtol(arg, &end, 10);
    if (errno || *end || end == arg || n < 1 || n > 1 << 20)
        argp_error(state, "--%s takes a number from 1 to %d, not '%s'", name, 1 << 20, arg);
    return (int)n;
}

static uint64_t seed_of(const char *arg, struct argp_state *state)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(arg, &end, 10);
    if (errno || *end || end == arg || *arg < '0' || *arg > '9')
        argp_error(state, "--seed takes a number of 64 bits, not '%s'", arg);
    return n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    init_args *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &args->common; return 0;
    case 'o':
    case ARGP_KEY_ARG:
        if (args->model.dir) argp_error(state, "one folder at a time");
        args->model.dir = arg;
        return 0;
    case KEY_ARCH: args->model.arch = arg; return 0;
    case KEY_SEED: args->model.seed = seed_of(arg, state); return 0;
    case KEY_TOKENIZER: args->model.tokenizer_dir = arg; return 0;
    case KEY_TEXT: args->model.text = true; return 0;
    case KEY_DTYPE: args->model.dtype = arg; return 0;
    case KEY_DEPTH: args->model.depth = size_of(arg, "depth", state); return 0;
    case KEY_WIDTH: args->model.width = size_of(arg, "width", state); return 0;
    case KEY_HEADS: args->model.heads = size_of(arg, "heads", state); return 0;
    case KEY_MLP: args->model.mlp_width = size_of(arg, "mlp", state); return 0;
    case KEY_OUT: args->model.out_width = size_of(arg, "out", state); return 0;
    case ARGP_KEY_END:
        if (!args->model.dir) argp_error(state, "which folder?");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "DIR",
    .doc = "Writes a checkpoint of the real architecture with seeded random weights: config.json, "
           "preprocessor_config.json (of a decoder generation_config.json), model.safetensors and "
           "a tokenizer.",
    .children = cli_children};

int cli_init_model(int argc, char **argv)
{
    init_args args = {.model = rot_init_model_options_default()};
    rot_err err = {0};
    argp_parse(&argp, argc, argv, 0, 0, &args);
    if (rot_init_model(&args.model, &err) < 0) return cli_fail(&err);
    return cli_done(0);
}
