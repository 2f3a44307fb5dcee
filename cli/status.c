#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/on_path.h"

static const char *text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "-";
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
        if (json_object_get(one, "error")) printf("  %s", text_of(one, "error"));
        putchar('\n');
    }
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
