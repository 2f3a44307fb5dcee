#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/on_path.h"

static void print_value(json_t *value)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    fputs(text ? text : "(absent)", stdout);
    free(text);
}

static void print_leaves(const char *part, json_t *value)
{
    const char *key;
    json_t *child;
    char deeper[512];
    if (json_is_object(value) && json_object_size(value)) {
        json_object_foreach(value, key, child)
        {
            snprintf(deeper, sizeof deeper, "%s%s%s", part, *part ? "." : "", key);
            print_leaves(deeper, child);
        }
        return;
    }
    printf("    %s = ", part);
    print_value(value);
    putchar('\n');
}

static void print_stage(json_t *stage)
{
    json_t *split = json_object_get(stage, "split"),
           *differences = json_object_get(stage, "differences"), *one;
    size_t i;
    printf("%s%s%s  %s\n  fingerprint %s\n", json_string_value(json_object_get(stage, "stage")),
           split ? " of " : "", split ? json_string_value(split) : "",
           json_string_value(json_object_get(stage, "path")),
           json_string_value(json_object_get(stage, "fingerprint")));
    if (!differences) {
        print_leaves("", json_object_get(stage, "content"));
        return;
    }
    printf("  against %s\n", json_string_value(json_object_get(stage, "other_path")));
    if (!json_array_size(differences)) puts("    the same");
    json_array_foreach(differences, i, one)
    {
        printf("    %s: ", json_string_value(json_object_get(one, "part")));
        print_value(json_object_get(one, "this"));
        fputs(" here, ", stdout);
        print_value(json_object_get(one, "other"));
        puts(" there");
    }
}

int cli_why(int argc, char **argv)
{
    cli_path_arguments a = {.max_paths = 2};
    rot_err err = {0};
    char *text = NULL;
    cli_parse_paths(
        argc, argv, "ROOT|DATASET|STAGE [OTHER]",
        "What the fingerprints of stages are made of, and which parts differ from OTHER's.", &a);
    if (rot_why(a.path, a.other, &text, &err) < 0) return cli_fail(&err);
    if (a.common.json) {
        puts(text);
    } else {
        json_t *list = json_loads(text, 0, NULL), *stage;
        size_t i;
        json_array_foreach(list, i, stage) print_stage(stage);
        json_decref(list);
    }
    free(text);
    return cli_done(0);
}
