// rotoscope merge: an adapter added to the weights of its model.
#include "cli/cli.h"

enum { KEY_HEAD = 1, KEY_ADAPTER };

static const struct argp_option options[] = {
    {0, 'm', "DIR", 0, "folder of the model that the adapter was trained beside", 0},
    {"adapter", KEY_ADAPTER, "DIR", 0, "PEFT folder", 0},
    {"head", KEY_HEAD, "DIR", 0,
     "checkpoint of rotoscope train with head and adapter: OUT is one with head and model", 0},
    {0, 'o', "OUT", 0, "the folder to make", 0},
    {0}};

typedef struct merge_args {
    rot_merge_options merge;
    cli_common common;
} merge_args;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    merge_args *args = state->input;
    rot_merge_options *o = &args->merge;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &args->common; return 0;
    case 'm': o->checkpoint = arg; return 0;
    case KEY_ADAPTER: o->adapter = arg; return 0;
    case KEY_HEAD: o->head = arg; return 0;
    case 'o': o->out = arg; return 0;
    case ARGP_KEY_END:
        if (!o->checkpoint) argp_error(state, "which model? -m DIR");
        if (!o->adapter == !o->head) argp_error(state, "which adapter? --adapter or --head DIR");
        if (!o->out) argp_error(state, "where to? -o OUT");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "",
    .doc = "Adds a LoRA adapter to the weights of its model and writes the sum as a folder of its "
           "own, which needs no adapter any more.",
    .children = cli_children};

int cli_merge(int argc, char **argv)
{
    merge_args args = {.merge = {.size = sizeof(rot_merge_options)}};
    rot_err err = {0};
    argp_parse(&argp, argc, argv, 0, 0, &args);
    args.merge.threads = args.common.threads;
    if (rot_merge(&args.merge, &err) < 0) return cli_fail(&err);
    return cli_done(0);
}
