#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { KEY_SPLIT = 1, KEY_ID, KEY_PNG };

typedef struct arguments {
    cli_common common;
    const char *dataset, *index_text, *split, *id, *png;
    uint64_t index;
} arguments;

static const struct argp_option options[] = {
    {"split", KEY_SPLIT, "NAME", 0, "the split (may be left out if there is one)", 0},
    {"id", KEY_ID, "ID", 0, "the sample with this id, instead of an INDEX", 0},
    {"png", KEY_PNG, "FILE", 0, "write the sample's picture", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    char *end;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; return 0;
    case KEY_SPLIT: a->split = arg; return 0;
    case KEY_ID: a->id = arg; return 0;
    case KEY_PNG: a->png = arg; return 0;
    case ARGP_KEY_ARG:
        if (!a->dataset)
            a->dataset = arg;
        else if (!a->index_text)
            a->index_text = arg;
        else
            argp_error(state, "unexpected argument '%s'", arg);
        return 0;
    case ARGP_KEY_END:
        if (!a->dataset) argp_error(state, "DATASET is missing");
        if (!a->index_text == !a->id) argp_error(state, "give an INDEX or --id ID, one of them");
        if (!a->index_text) return 0;
        errno = 0;
        a->index = strtoull(a->index_text, &end, 10);
        if (errno || *end || a->index_text[0] < '0' || a->index_text[0] > '9')
            argp_error(state, "INDEX is a row number from 0, not '%s'", a->index_text);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void print_ids(const char *name, json_t *ids)
{
    size_t i;
    json_t *id;
    printf("  %s:", name);
    json_array_foreach(ids, i, id) printf(" %lld", (long long)json_integer_value(id));
    putchar('\n');
}

static void print_sample(const char *text)
{
    static const char *const texts[] = {"id", "question", "trace", "answer"};
    json_t *sample = json_loads(text, 0, NULL), *ids = json_object_get(sample, "ids");
    printf("%s, split %s, row %lld\n", json_string_value(json_object_get(sample, "dataset")),
           json_string_value(json_object_get(sample, "split")),
           (long long)json_integer_value(json_object_get(sample, "index")));
    for (int i = 0; i < 4; i++)
        if (json_object_get(sample, texts[i]))
            printf("%s: %s\n", texts[i], json_string_value(json_object_get(sample, texts[i])));
    if (ids) {
        puts("ids");
        for (int i = 1; i < 4; i++) print_ids(texts[i], json_object_get(ids, texts[i]));
    }
    static const char *const parts[] = {"image", "embeds", "skipped"};
    for (int i = 0; i < 3; i++) {
        json_t *part = json_object_get(sample, parts[i]);
        if (!part) continue;
        char *line = json_dumps(part, JSON_REAL_PRECISION(6));
        printf("%s %s\n", parts[i], line);
        free(line);
    }
    json_decref(sample);
}

int cli_inspect(int argc, char **argv)
{
    static const struct argp argp = {
        options, parse, "DATASET INDEX\nDATASET --id ID", "Shows one sample in full.", cli_children,
        0,       0};
    arguments a = {0};
    rot_err err = {0};
    char *json = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (rot_inspect(a.dataset, a.split, a.index, a.id, a.png, &json, &err) < 0)
        return cli_fail(&err);
    if (a.common.json)
        puts(json);
    else
        print_sample(json);
    free(json);
    return cli_done(0);
}
