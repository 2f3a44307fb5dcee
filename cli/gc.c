#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

enum { KEY_REMOVE = 1 };

typedef struct arguments {
    cli_common common;
    const char *root;
    bool remove;
} arguments;

static const struct argp_option options[] = {
    {"remove", KEY_REMOVE, 0, 0, "remove them (without it they are only shown)", 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; return 0;
    case KEY_REMOVE: a->remove = true; return 0;
    case ARGP_KEY_ARG:
        if (a->root) argp_error(state, "unexpected argument '%s'", arg);
        a->root = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->root) argp_error(state, "ROOT is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int cli_gc(int argc, char **argv)
{
    static const struct argp argp = {options,
                                     parse,
                                     "ROOT",
                                     "Shows (or removes) the stages that no dataset of a root "
                                     "names, and what killed builds have left.",
                                     cli_children,
                                     0,
                                     0};
    arguments a = {0};
    rot_err err = {0};
    char *text = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (rot_gc(a.root, a.remove, &text, &err) < 0) return cli_fail(&err);
    if (a.common.json) {
        puts(text);
    } else {
        json_t *report = json_loads(text, 0, NULL), *stage;
        size_t i;
        json_array_foreach(json_object_get(report, "stages"), i, stage)
            printf("%s  %lld bytes\n", json_string_value(json_object_get(stage, "path")),
                   (long long)json_integer_value(json_object_get(stage, "bytes")));
        json_array_foreach(json_object_get(report, "leftovers"), i, stage)
            printf("%s  %lld bytes\n", json_string_value(json_object_get(stage, "path")),
                   (long long)json_integer_value(json_object_get(stage, "bytes")));
        printf("%zu stages, %lld bytes%s\n", json_array_size(json_object_get(report, "stages")),
               (long long)json_integer_value(json_object_get(report, "bytes")),
               a.remove ? " removed" : " (rotoscope gc --remove ROOT removes them)");
        json_decref(report);
    }
    free(text);
    return cli_done(0);
}
