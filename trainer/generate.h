// Between the files of generation: a model that is open, and questions being answered.
#ifndef ROT_TRAINER_GENERATE_H
#define ROT_TRAINER_GENERATE_H

#include "base/str.h"
#include "kernels/train.h"
#include "rotoscope/generate.h"
#include "rotoscope/questions.h"
#include "rotoscope/tokenizer.h"
#include "trainer/decoder.h"
#include "trainer/head.h"
#include "trainer/sample.h"
#include "trainer/stop.h"

typedef struct rot_generator {
    const rot_generate_options *options;
    char checkpoint[4096], adapter[4096]; // folders; "": no adapter
    rot_decoder *decoder;
    rot_tokenizer *tokenizer;
    rot_tokenizer_worker *worker;
    rot_train *train; // of the head
    rot_head *head;
    rot_stop stop; // of ROT_STOP_CLASSIFIER
    // Before the latents (Render-of-Thought's is part of its prompt), behind them, one in their
    // place (a pause, <img>); -1: none.
    int32_t begin, end, thought;
    int32_t first; // of every prompt but Render-of-Thought's; -1: none
    int32_t *special; // (n_special) tokens that are no text
    size_t n_special;
    rot_sampler sampler;
    int32_t d, vocab;
} rot_generator;

// One question: what goes in, what came out.
typedef struct rot_generated {
    const rot_question *question;
    uint64_t ordinal;
    int32_t *prompt; // up to where latents begin
    int32_t n_prompt;
    float *latents; // (n_latents, d)
    int32_t n_latents;
    int32_t *ids; // the answer's, without the end token
    int32_t n_ids;
    bool ended;        // by the end token
    char failure[256]; // empty: none
    double seconds;
} rot_generated;

int rot_generator_open(const rot_generate_options *options, rot_generator *out, rot_err *err);
void rot_generator_close(rot_generator *generator);
// Where the classifier's file is, into out[n].
int rot_generator_classifier(const rot_generate_options *options, char *out, size_t n,
                             rot_err *err);

int rot_generated_open(rot_generator *generator, const rot_question *question, uint64_t ordinal,
                       rot_generated *out, rot_err *err);
void rot_generated_close(rot_generated *generated);
// Answers a batch. ids and latents of one do not depend on the others.
int rot_generator_run(rot_generator *generator, rot_generated *batch, size_t n, rot_err *err);
// The text of the answer, without special tokens, appended as it is; *n_chain: tokens before the
// first '#'.
int rot_generated_text(rot_generator *generator, const rot_generated *generated, rot_str *out,
                       int32_t *n_chain, rot_err *err);

// Lines of the search tree of one question (tree.c), appended.
void rot_tree_header(rot_str *out);
int rot_tree_write(rot_generator *generator, const rot_generated *generated, rot_str *out,
                   rot_err *err);

#endif
