#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/on_path.h"

static const char *text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "-";
}

static void print_claims(const json_t *claims, const char *what)
{
    size_t i;
    json_t *one;
    json_array_foreach(claims, i, one)
    {
        printf("           %-7s %s %s  rank %lld of %lld  %s pid %lld  %lld s ago",
               text_of(one, "state"), what, text_of(one, "of"),
               (long long)json_integer_value(json_object_get(one, "rank")),
               (long long)json_integer_value(json_object_get(one, "ranks")), text_of(one, "host"),
               (long long)json_integer_value(json_object_get(one, "pid")),
               (long long)json_integer_value(json_object_get(one, "age_seconds")));
        if (json_integer_value(json_object_get(one, "rows")))
            printf("  %lld of %lld rows, %.1f rows/s",
                   (long long)json_integer_value(json_object_get(one, "row")),
                   (long long)json_integer_value(json_object_get(one, "rows")),
                   json_number_value(json_object_get(one, "rows_per_second")));
        if (json_object_get(one, "error")) printf("  %s", text_of(one, "error"));
        putchar('\n');
    }
}

static void print_status(json_t *status)
{
    size_t i;
    json_t *one;
    printf("%s%s\n", text_of(status, "root"),
           json_is_true(json_object_get(status, "building")) ? "  (a build is running)" : "");
    json_array_foreach(json_object_get(status, "datasets"), i, one)
        printf("  dataset %s  %s\n", text_of(one, "path"),
               json_object_get(one, "error") ? text_of(one, "error") : text_of(one, "root"));
    json_array_foreach(json_object_get(status, "stages"), i, one)
    {
        printf("  %-8s %s  %s", text_of(one, "state"), text_of(one, "stage"), text_of(one, "path"));
        if (json_object_get(one, "shards_done"))
            printf("  %lld of %lld shards",
                   (long long)json_integer_value(json_object_get(one, "shards_done")),
                   (long long)json_integer_value(json_object_get(one, "shards")));
        if (json_object_get(one, "eta_seconds"))
            printf("  about %.0f s to go", json_number_value(json_object_get(one, "eta_seconds")));
        if (json_object_get(one, "error")) printf("  %s", text_of(one, "error"));
        putchar('\n');
        print_claims(json_object_get(one, "claims"), "shard");
    }
    print_claims(json_object_get(status, "preparing"), "prepare");
    if (json_object_get(status, "go_on")) printf("to go on: %s\n", text_of(status, "go_on"));
}

int cli_status(int argc, char **argv)
{
    cli_path_arguments a = {.max_paths = 1};
    rot_err err = {0};
    char *text = NULL;
    cli_parse_paths(argc, argv, "ROOT|DATASET",
                    "What of a root is built, what is under way, how to go on.", &a);
    if (rot_status(a.path, &text, &err) < 0) return cli_fail(&err);
    if (a.common.json) {
        puts(text);
    } else {
        json_t *status = json_loads(text, 0, NULL);
        print_status(status);
        json_decref(status);
    }
    free(text);
    return cli_done(0);
}
