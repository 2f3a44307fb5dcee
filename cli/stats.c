#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/on_path.h"

static void print_series(const char *name, json_t *series)
{
    if (!series) return;
    printf("    %-16s mean %10.1f", name, json_number_value(json_object_get(series, "mean")));
    static const char *const keys[] = {"min", "p5", "p50", "p95", "max"};
    for (int i = 0; i < 5; i++)
        printf("  %s %lld", keys[i],
               (long long)json_integer_value(json_object_get(series, keys[i])));
    putchar('\n');
}

static void print_split(const char *name, json_t *split)
{
    static const char *const series[] = {"question_tokens", "trace_tokens", "answer_tokens",
                                         "width_px",        "height_px",    "k"};
    const char *stage_name, *cause;
    json_t *stage, *n;
    printf("  %s: %lld samples, %lld skipped\n", name,
           (long long)json_integer_value(json_object_get(split, "samples")),
           (long long)json_integer_value(json_object_get(split, "skipped")));
    for (int i = 0; i < 6; i++) print_series(series[i], json_object_get(split, series[i]));
    json_object_foreach(json_object_get(split, "stages"), stage_name, stage)
    {
        double file = (double)json_integer_value(json_object_get(stage, "file_bytes"));
        double payload = (double)json_integer_value(json_object_get(stage, "payload_bytes"));
        printf("    %-7s %.0f bytes on disk, %.3f of the payload", stage_name, file,
               payload > 0 ? file / payload : 0);
        json_object_foreach(json_object_get(stage, "causes"), cause, n)
            printf(", %lld skipped: %s", (long long)json_integer_value(n), cause);
        putchar('\n');
    }
}

int cli_stats(int argc, char **argv)
{
    cli_path_arguments a = {.max_paths = 1};
    rot_err err = {0};
    char *text = NULL;
    cli_parse_paths(argc, argv, "ROOT|DATASET", "Counts, token numbers, widths, K and bytes.", &a);
    if (rot_stats(a.path, &text, &err) < 0) return cli_fail(&err);
    if (a.common.json) {
        puts(text);
    } else {
        json_t *list = json_loads(text, 0, NULL), *dataset, *split;
        const char *name;
        size_t i;
        json_array_foreach(list, i, dataset)
        {
            printf("%s  root %s\n", json_string_value(json_object_get(dataset, "path")),
                   json_string_value(json_object_get(dataset, "root")));
            json_object_foreach(json_object_get(dataset, "splits"), name, split)
                print_split(name, split);
        }
        json_decref(list);
    }
    free(text);
    return cli_done(0);
}
