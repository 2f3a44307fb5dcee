#include "cli/on_path.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
    cli_path_arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; return 0;
    case ARGP_KEY_ARG:
        if (!a->path)
            a->path = arg;
        else if (!a->other && a->max_paths > 1)
            a->other = arg;
        else
            argp_error(state, "unexpected argument '%s'", arg);
        return 0;
    case ARGP_KEY_END:
        if (!a->path) argp_error(state, "ROOT or DATASET is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

void cli_parse_paths(int argc, char **argv, const char *form, const char *doc,
                     cli_path_arguments *out)
{
    const struct argp argp = {NULL, parse, form, doc, cli_children, 0, 0};
    argp_parse(&argp, argc, argv, 0, NULL, out);
}
