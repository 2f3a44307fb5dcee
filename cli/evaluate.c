// rotoscope evaluate: predictions judged against gold answers.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { KEY_SPLIT = 1, KEY_TOKENIZER };

static const struct argp_option options[] = {
    {"predictions", 'p', "FILE", 0,
     "JSON lines with id and prediction; may be given again: each file is a seed of its own unless "
     "its lines name one",
     0},
    {"format", 'f', "NAME", 0,
     "of QUESTIONS: gsm8k, gsm8k-aug, gsm8k-aug-nl, math, math-500, svamp, gsm-hard, multiarith, "
     "prontoqa, prosqa, coconut, jsonl; or store, a dataset's JSON file",
     0},
    {"split", KEY_SPLIT, "NAME", 0, "of a store", 0},
    {"tokenizer", KEY_TOKENIZER, "DIR", 0, "counts the tokens of gold traces, for compression", 0},
    {0, 'o', "FILE", 0, "write a line of JSON for every judged sample", 0},
    {0}};

typedef struct evaluate_args {
    rot_evaluate_options evaluate;
    const char *files[1024];
    cli_common common;
} evaluate_args;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    evaluate_args *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &args->common; return 0;
    case 'p':
        if (args->evaluate.n_predictions == 1024) argp_error(state, "at most 1024 files");
        args->files[args->evaluate.n_predictions++] = arg;
        return 0;
    case 'f': args->evaluate.format = arg; return 0;
    case KEY_SPLIT: args->evaluate.split = arg; return 0;
    case KEY_TOKENIZER: args->evaluate.tokenizer = arg; return 0;
    case 'o': args->evaluate.samples = arg; return 0;
    case ARGP_KEY_ARG:
        if (args->evaluate.questions) argp_error(state, "one file of questions at a time");
        args->evaluate.questions = arg;
        return 0;
    case ARGP_KEY_END:
        if (!args->evaluate.n_predictions) argp_error(state, "which --predictions?");
        if (args->evaluate.questions && !args->evaluate.format)
            argp_error(state, "of which --format are the questions?");
        if (!args->evaluate.questions && (args->evaluate.format || args->evaluate.split))
            argp_error(state, "--format and --split are of QUESTIONS, and there are none");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "[QUESTIONS]",
    .doc = "Scores predictions, whoever made them: Pass@1 by the published rule, a corrected one "
           "and Coconut's, reasoning length, time and compression, with 95% intervals over seeds. "
           "Without QUESTIONS the lines bring their gold answers (answer or ground_truth). The "
           "figures are JSON on stdout.",
    .children = cli_children};

int cli_evaluate(int argc, char **argv)
{
    evaluate_args args = {.evaluate = rot_evaluate_options_default()};
    rot_err err = {0};
    char *json = NULL;
    argp_parse(&argp, argc, argv, 0, 0, &args);
    args.evaluate.predictions = args.files;
    if (rot_evaluate(&args.evaluate, &json, &err) < 0) return cli_fail(&err);
    puts(json);
    free(json);
    return cli_done(0);
}
