#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/progress.h"

enum { KEY_SET = 1, KEY_PLAN, KEY_KEYS, MAX_SETS = 256 };
static const double plain_seconds = 5, terminal_seconds = 0.1;

typedef struct arguments {
    cli_common common;
    const char *config;
    const char *sets[MAX_SETS];
    int n_sets;
    bool plan, keys;
} arguments;

static const struct argp_option options[] = {
    {"config", 'c', "TRAIN", 0, "the training's YAML (docs/train.md)", 0},
    {"set", KEY_SET, "KEY=VALUE", 0, "override a key of the config; may be repeated", 0},
    {"plan", KEY_PLAN, 0, 0, "show parameters, samples, steps and rates; write nothing", 0},
    {"keys", KEY_KEYS, 0, 0, "print the table of all keys, as docs/train-keys.md has it", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; return 0;
    case 'c':
        if (a->config) argp_error(state, "--config is given twice");
        a->config = arg;
        return 0;
    case KEY_SET:
        if (a->n_sets == MAX_SETS) argp_error(state, "more than %d --set", MAX_SETS);
        a->sets[a->n_sets++] = arg;
        return 0;
    case KEY_PLAN: a->plan = true; return 0;
    case KEY_KEYS: a->keys = true; return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s' (a config is given with -c)", arg);
        return 0;
    case ARGP_KEY_END:
        if (!a->config && !a->keys) argp_error(state, "-c TRAIN is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- progress -------------------------------------------------------------------------------- */

typedef struct shown {
    cli_progress notes; // draws lines of news
    double last_seconds;
} shown;

static void print_json(const rot_train_progress *p)
{
    json_t *line = json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "stage", "train", "done",
                             (json_int_t)p->step, "total", (json_int_t)p->steps, "epoch",
                             (json_int_t)p->epoch, "loss", p->loss, "lr", p->lr, "samples_per_s",
                             p->samples_per_s, "seconds", p->seconds);
    if (line) json_dumpf(line, stderr, JSON_COMPACT | JSON_REAL_PRECISION(6));
    fputc('\n', stderr);
    json_decref(line);
}

static void print_text(const shown *s, const rot_train_progress *p)
{
    bool terminal = s->notes.terminal;
    uint64_t made = p->step - p->resumed;
    double left = made ? p->seconds / (double)made * (double)(p->steps - p->step) : 0;
    fprintf(stderr,
            "%strain: %3d%% step %llu/%llu epoch %llu loss %.4g lr %.3g [%.0f s, %.0f s to "
            "go, %.1f samples/s]%s",
            terminal ? "\r" : "", p->steps ? (int)(100 * p->step / p->steps) : 100,
            (unsigned long long)p->step, (unsigned long long)p->steps, (unsigned long long)p->epoch,
            p->loss, p->lr, p->seconds, left, p->samples_per_s, terminal ? "\033[K" : "\n");
}

static void show(void *user, const rot_train_progress *p)
{
    shown *s = user;
    const cli_common *common = s->notes.common;
    bool terminal = s->notes.terminal && !common->json;
    double every = terminal ? terminal_seconds : plain_seconds;
    if (common->quiet) return;
    if (p->step != p->steps && s->last_seconds > 0 && p->seconds - s->last_seconds < every) return;
    if (common->json)
        print_json(p);
    else
        print_text(s, p);
    s->notes.open_line = terminal;
    s->last_seconds = p->seconds;
    fflush(stderr);
}

static void show_note(void *user, const char *message)
{
    cli_progress_note(&((shown *)user)->notes, message);
}

/* ---- results --------------------------------------------------------------------------------- */

static void print_plan(const char *text)
{
    json_t *plan = json_loads(text, 0, NULL), *rate;
    size_t i;
#define COUNT_OF(key) (long long)json_integer_value(json_object_get(plan, key))
    printf("%s into %s\n", json_string_value(json_object_get(plan, "method")),
           json_string_value(json_object_get(plan, "out")));
    printf("  %lld samples, %lld for validation\n", COUNT_OF("samples"), COUNT_OF("valid_samples"));
    printf("  %lld of %lld parameters of the model and beside it train\n",
           COUNT_OF("trained_parameters"), COUNT_OF("parameters"));
    printf("  %lld micro-batches an epoch, %lld steps, %lld done\n",
           COUNT_OF("micro_batches_per_epoch"), COUNT_OF("steps"), COUNT_OF("done_steps"));
    printf("  %.3f GB of state in a checkpoint\n", (double)COUNT_OF("checkpoint_bytes") * 1e-9);
#undef COUNT_OF
    json_array_foreach(json_object_get(plan, "rates"), i, rate)
        printf("  step %lld: lr %.4g\n", (long long)json_integer_value(json_array_get(rate, 0)),
               json_number_value(json_array_get(rate, 1)));
    json_decref(plan);
}

static void print_trained(const char *text)
{
    json_t *o = json_loads(text, 0, NULL);
    printf("%s/%s\n", json_string_value(json_object_get(o, "out")),
           json_string_value(json_object_get(o, "checkpoint")));
    printf("  %lld steps, %lld samples\n",
           (long long)json_integer_value(json_object_get(o, "step")),
           (long long)json_integer_value(json_object_get(o, "samples")));
    if (json_object_get(o, "loss"))
        printf("  loss %.6g\n", json_number_value(json_object_get(o, "loss")));
    if (json_object_get(o, "best_step"))
        printf("  best validation loss %.6g at step %lld\n",
               json_number_value(json_object_get(o, "best_valid_loss")),
               (long long)json_integer_value(json_object_get(o, "best_step")));
    json_decref(o);
}

static int print_keys(void)
{
    char *text = NULL;
    rot_err err = {0};
    if (rot_train_config_document(&text, &err) < 0) return cli_fail(&err);
    fputs(text, stdout);
    free(text);
    return cli_done(0);
}

int cli_train(int argc, char **argv)
{
    static const struct argp argp = {options,
                                     parse,
                                     "-c TRAIN",
                                     "Trains a model on a dataset of a store, or goes on with it.",
                                     cli_children,
                                     0,
                                     0};
    arguments a = {0};
    rot_err err = {0};
    rot_train_config *config = NULL;
    shown progress = {0};
    char *json = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (a.keys) return print_keys();
    if (rot_train_config_load(a.config, a.sets, a.n_sets, &config, &err) < 0) return cli_fail(&err);
    cli_progress_open(&progress.notes, &a.common);
    rot_train_options run = rot_train_options_default();
    run.threads = a.common.threads;
    run.stop = cli_catch_signals();
    run.progress = show;
    run.note = show_note;
    run.user = &progress;
    int rc = a.plan ? rot_train_plan(config, &run, &json, &err)
                    : rot_train_run(config, &run, &json, &err);
    cli_progress_close(&progress.notes);
    int code = rc < 0 ? cli_fail(&err) : 0;
    if (rc == 0 && a.common.json)
        puts(json);
    else if (rc == 0 && a.plan)
        print_plan(json);
    else if (rc == 0 && !a.common.quiet)
        print_trained(json);
    free(json);
    rot_train_config_free(&config);
    return cli_done(code);
}
