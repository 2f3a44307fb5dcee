// rotoscope generate: answers by latent thoughts, and what the thoughts look like.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum {
    KEY_HEAD = 1,
    KEY_ADAPTER,
    KEY_TOKENIZER,
    KEY_METHOD,
    KEY_LATENTS,
    KEY_STOP,
    KEY_CLASSIFIER,
    KEY_FIT_STOP,
    KEY_TEMPERATURE,
    KEY_TOP_P,
    KEY_SEED,
    KEY_TOKENS,
    KEY_BATCH,
    KEY_SPLIT,
    KEY_LIMIT,
    KEY_BACKEND,
    KEY_DTYPE,
    KEY_LATENTS_OUT,
    KEY_TOP_K,
    KEY_TREE_OUT
};

static const struct argp_option options[] = {
    {0, 'm', "DIR", 0, "the model's folder (default: HEAD/model)", 0},
    {"head", KEY_HEAD, "DIR", 0, "folder with head.safetensors and tokens.safetensors", 0},
    {"adapter", KEY_ADAPTER, "DIR", 0, "PEFT folder (default: HEAD/adapter if it is there)", 0},
    {"tokenizer", KEY_TOKENIZER, "DIR", 0, "default: the model's folder", 0},
    {"method", KEY_METHOD, "NAME", 0,
     "rot (default with --head), coconut, pause; cot, no-cot: no latents (default without --head)",
     0},
    {"latents", KEY_LATENTS, "N", 0, "latents before the answer, at most (32)", 1},
    {"stop", KEY_STOP, "RULE", 0,
     "fixed (default); token: where the end mark is the most probable token; distance:T: where a "
     "latent is nearer to the one before than T of its norm; classifier: where it says so "
     "(coconut)",
     1},
    {"classifier", KEY_CLASSIFIER, "FILE", 0, "default: stop.safetensors beside the model", 1},
    {"fit-stop", KEY_FIT_STOP, "PER_STEP", 0,
     "write the classifier: from these questions, whose thoughts end behind PER_STEP for each step",
     1},
    {"temperature", KEY_TEMPERATURE, "T", 0, "0 (default): the most probable token", 2},
    {"top-p", KEY_TOP_P, "P", 0, "draw from the fewest tokens that reach P together (1)", 2},
    {"seed", KEY_SEED, "N", 0, "of the draws (0)", 2},
    {"max-new-tokens", KEY_TOKENS, "N", 0, "of an answer (256)", 2},
    {"batch", KEY_BATCH, "N", 0, "questions at once (16); does not change answers", 3},
    {"backend", KEY_BACKEND, "NAME", 0, "auto (default), ref, avx512, amx", 3},
    {"dtype", KEY_DTYPE, "TYPE", 0, "f32 (default) or bf16", 3},
    {"format", 'f', "NAME", 0, "of QUESTIONS, as evaluate has them; or store", 4},
    {"split", KEY_SPLIT, "NAME", 0, "of a store", 4},
    {"limit", KEY_LIMIT, "N", 0, "only the first N questions", 4},
    {0, 'o', "FILE", 0, "JSON lines of predictions, for evaluate", 5},
    {"latents-out", KEY_LATENTS_OUT, "FILE", 0,
     "write latents, and a store's targets, as safetensors, and FILE.tsv with a line per latent",
     5},
    {"top-k", KEY_TOP_K, "N", 0, "tokens that FILE.tsv names for each latent (5)", 5},
    {"tree-out", KEY_TREE_OUT, "FILE", 0,
     "write the probability of every node after each of Coconut's latents (prosqa)", 5},
    {0}};

typedef struct generate_args {
    rot_generate_options generate;
    const char *method;
    bool has_latents;
    cli_common common;
} generate_args;

static double real_of(const char *arg, const char *name, struct argp_state *state)
{
    char *end;
    errno = 0;
    double value = strtod(arg, &end);
    if (errno || *end || end == arg || !isfinite(value))
        argp_error(state, "--%s takes a number, not '%s'", name, arg);
    return value;
}

static uint64_t whole_of(const char *arg, const char *name, uint64_t low, uint64_t high,
                         struct argp_state *state)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(arg, &end, 10);
    if (errno || *end || *arg < '0' || *arg > '9' || n < low || n > high)
        argp_error(state, "--%s takes a number from %llu to %llu, not '%s'", name,
                   (unsigned long long)low, (unsigned long long)high, arg);
    return n;
}

static void set_stop(rot_generate_options *o, const char *arg, struct argp_state *state)
{
    if (!strcmp(arg, "fixed")) {
        o->stop = ROT_STOP_BUDGET;
    } else if (!strcmp(arg, "token")) {
        o->stop = ROT_STOP_TOKEN;
    } else if (!strcmp(arg, "classifier")) {
        o->stop = ROT_STOP_CLASSIFIER;
    } else if (!strncmp(arg, "distance:", 9)) {
        o->stop = ROT_STOP_DISTANCE;
        o->distance = real_of(arg + 9, "stop distance:", state);
    } else {
        argp_error(state, "--stop takes fixed, token, distance:T or classifier, not '%s'", arg);
    }
}

static void set_method(generate_args *args, struct argp_state *state)
{
    static const struct {
        const char *name;
        rot_generate_method method;
    } all[] = {{"rot", ROT_GENERATE_ROT},
               {"coconut", ROT_GENERATE_COCONUT},
               {"pause", ROT_GENERATE_PAUSE},
               {"cot", ROT_GENERATE_PLAIN},
               {"no-cot", ROT_GENERATE_PLAIN}};
    const char *name = args->method ? args->method : args->generate.head ? "rot" : "no-cot";
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(all[i].name, name)) continue;
        args->generate.method = all[i].method;
        if (all[i].method == ROT_GENERATE_PLAIN && args->has_latents)
            argp_error(state, "--latents has no effect with the method %s", name);
        if (all[i].method == ROT_GENERATE_PLAIN) args->generate.latents = 0;
        return;
    }
    argp_error(state, "--method takes rot, coconut, pause, cot or no-cot, not '%s'", name);
}

static void check(generate_args *args, struct argp_state *state)
{
    const rot_generate_options *o = &args->generate;
    if (!o->questions) argp_error(state, "which questions?");
    if (!o->format) argp_error(state, "of which --format are the questions?");
    if (!o->predictions) argp_error(state, "where to? -o FILE");
    if (!o->checkpoint && !o->head) argp_error(state, "which model? -m DIR");
    set_method(args, state);
}

static error_t parse_numbers(int key, char *arg, struct argp_state *state)
{
    generate_args *args = state->input;
    rot_generate_options *o = &args->generate;
    switch (key) {
    case KEY_LATENTS:
        args->has_latents = true;
        o->latents = (int32_t)whole_of(arg, "latents", 0, 1 << 20, state);
        return 0;
    case KEY_TEMPERATURE: o->temperature = real_of(arg, "temperature", state); return 0;
    case KEY_TOP_P: o->top_p = real_of(arg, "top-p", state); return 0;
    case KEY_SEED: o->seed = whole_of(arg, "seed", 0, INT64_MAX, state); return 0;
    case KEY_TOKENS:
        o->max_new_tokens = (int32_t)whole_of(arg, "max-new-tokens", 1, 1 << 20, state);
        return 0;
    case KEY_BATCH: o->batch = (int32_t)whole_of(arg, "batch", 1, 4096, state); return 0;
    case KEY_LIMIT: o->limit = whole_of(arg, "limit", 1, UINT64_MAX, state); return 0;
    case KEY_FIT_STOP:
        o->fit_per_step = (int32_t)whole_of(arg, "fit-stop", 1, 1024, state);
        return 0;
    case KEY_TOP_K: o->top_k = (int32_t)whole_of(arg, "top-k", 1, 100, state); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    generate_args *args = state->input;
    rot_generate_options *o = &args->generate;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &args->common; return 0;
    case 'm': o->checkpoint = arg; return 0;
    case KEY_HEAD: o->head = arg; return 0;
    case KEY_ADAPTER: o->adapter = arg; return 0;
    case KEY_TOKENIZER: o->tokenizer = arg; return 0;
    case KEY_METHOD: args->method = arg; return 0;
    case KEY_STOP: set_stop(o, arg, state); return 0;
    case KEY_CLASSIFIER: o->classifier = arg; return 0;
    case KEY_BACKEND: o->backend = arg; return 0;
    case KEY_DTYPE:
        if (strcmp(arg, "f32") && strcmp(arg, "bf16"))
            argp_error(state, "--dtype takes f32 or bf16, not '%s'", arg);
        o->precision = !strcmp(arg, "bf16");
        return 0;
    case 'f': o->format = arg; return 0;
    case KEY_SPLIT: o->split = arg; return 0;
    case 'o': o->predictions = arg; return 0;
    case KEY_LATENTS_OUT: o->latents_out = arg; return 0;
    case KEY_TREE_OUT: o->tree_out = arg; return 0;
    case ARGP_KEY_ARG:
        if (o->questions) argp_error(state, "one file of questions at a time");
        o->questions = arg;
        return 0;
    case ARGP_KEY_END: check(args, state); return 0;
    default: return parse_numbers(key, arg, state);
    }
}

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "QUESTIONS",
    .doc = "Answers questions with a trained model: latents first, then tokens, batched and with a "
           "cache of keys and values. The predictions are scored by rotoscope evaluate.",
    .children = cli_children};

static void show(void *user, uint64_t resumed, uint64_t done, uint64_t total, double seconds)
{
    const cli_common *common = user;
    if (common->quiet) return;
    if (common->json)
        fprintf(stderr, "{\"done\": %llu, \"total\": %llu, \"seconds\": %.3f}\n",
                (unsigned long long)done, (unsigned long long)total, seconds);
    else
        fprintf(stderr, "%llu of %llu questions, %.2f/s\n", (unsigned long long)done,
                (unsigned long long)total, seconds > 0 ? (double)(done - resumed) / seconds : 0);
}

int cli_generate(int argc, char **argv)
{
    generate_args args = {.generate = rot_generate_options_default()};
    rot_err err = {0};
    argp_parse(&argp, argc, argv, 0, 0, &args);
    args.generate.threads = args.common.threads;
    args.generate.stop_flag = cli_catch_signals();
    args.generate.progress = show;
    args.generate.user = &args.common;
    if (rot_generate(&args.generate, &err) < 0) return cli_fail(&err);
    return cli_done(0);
}
