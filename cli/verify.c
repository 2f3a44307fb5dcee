// rotoscope verify: a line per bad record on stdout, exit code 3 if there is any.
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

typedef struct arguments {
    cli_common common;
    const char *path;
} arguments;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; return 0;
    case ARGP_KEY_ARG:
        if (a->path) argp_error(state, "one ROOT or DATASET at a time, not also '%s'", arg);
        a->path = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->path) argp_error(state, "which ROOT or DATASET?");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void print_json(json_t *object)
{
    char *line = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (line) puts(line);
    free(line);
    json_decref(object);
}

static void report(void *user, const char *path, uint64_t row, const char *cause)
{
    const arguments *a = user;
    if (a->common.json) {
        json_t *object =
            json_pack("{s:s%, s:s%}", "path", path, strlen(path), "cause", cause, strlen(cause));
        if (object && row != UINT64_MAX)
            json_object_set_new(object, "row", json_integer((json_int_t)row));
        print_json(object);
    } else if (row == UINT64_MAX) {
        printf("%s: %s\n", path, cause);
    } else {
        printf("%s: row %" PRIu64 ": %s\n", path, row, cause);
    }
}

static void print_summary(const arguments *a, const rot_verify_summary *s)
{
    if (a->common.json) {
        print_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:b}", "datasets", (json_int_t)s->datasets,
                             "stages", (json_int_t)s->stages, "records", (json_int_t)s->records,
                             "unfinished", (json_int_t)s->unfinished, "bad", (json_int_t)s->bad,
                             "ok", s->bad == 0));
        return;
    }
    if (a->common.quiet) return;
    if (s->datasets + s->stages == 0)
        fprintf(stderr, "%s: nothing to verify\n", a->path);
    else
        fprintf(stderr,
                "%s: %" PRIu64 " datasets, %" PRIu64 " stages, %" PRIu64 " records: %" PRIu64
                " bad\n",
                a->path, s->datasets, s->stages, s->records, s->bad);
    if (s->unfinished)
        fprintf(stderr, "%s: %" PRIu64 " unfinished stage%s left out\n", a->path, s->unfinished,
                s->unfinished > 1 ? "s" : "");
}

int cli_verify(int argc, char **argv)
{
    arguments a = {0};
    const struct argp argp = {
        .parser = parse,
        .args_doc = "ROOT|DATASET",
        .doc = "Checks every byte of a dataset, or of all datasets and stages of a store "
               "root: record headers and hashes, trailers, trees, roots, counts. Prints "
               "a line per bad record (path, row, cause); exit code 3 if there is any.",
        .children = cli_children};
    rot_err err = {0};
    rot_verify_summary summary = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    int rc = rot_store_verify(a.path, report, &a, &summary, &err);
    if (rc < 0 && rc != ROT_ERR_CORRUPT) return cli_done(cli_fail(&err));
    print_summary(&a, &summary);
    return cli_done(rot_exit_code(rc));
}
