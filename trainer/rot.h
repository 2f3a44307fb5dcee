// Render-of-Thought as a method: what its files share.
#ifndef ROT_TRAINER_ROT_H
#define ROT_TRAINER_ROT_H

#include "base/mem.h"
#include "rotoscope/reader.h"
#include "rotoscope/tokenizer.h"
#include "trainer/head.h"
#include "trainer/method.h"

// What a store says of itself, and what the checkpoint's tokenizer is; hex and words.
typedef struct rot_store_facts {
    char tokenizer[65], layout[32], geometry[32];
} rot_store_facts;

// A split of the dataset with what training needs of it.
typedef struct rot_split {
    rot_reader *reader;
    uint64_t n; // samples
    const uint32_t *k; // (n)
    uint32_t *counted; // it, where there are no embeddings
    rot_store_facts facts;
    uint16_t *bf16; // (rows, d) work space of targets
    size_t bf16_rows;
} rot_split;

// Sample i of a micro-batch. Its sequence is question (which ends with <img_begin>), K latents,
// answer (which begins with <img_end>).
typedef struct rot_example {
    uint64_t sample;
    const char *id; // for messages
    const int32_t *question, *answer;
    int32_t n_question, n_answer, k;
    size_t question_at, latent_at, answer_at; // of its first row among all samples' ones
} rot_example;

typedef struct rot_examples {
    rot_example *list;
    size_t n, questions, latents, answers; // rows of all samples
} rot_examples;

typedef struct rot_method_rot {
    rot_method base; // first
    const rot_train_config *config;
    rot_train *train; // computes the head
    rot_tokenizer *tokenizer;
    rot_layout_tokens tokens;
    char tokenizer_sha256[65];
    rot_split splits[2];
    rot_head *head;
    rot_arena arena;              // of a micro-batch
    rot_context *contexts[2];     // of a micro-batch: the rollout's; the answer's, if another
    float *rows, *d_rows; // (2, d): <img_begin>, <img_end> as inputs, if they train; gradients
    float log_variances[2], d_log_variances[2]; // of vision and lm
    rot_method_param *params;
} rot_method_rot;

// rot_data.c
int rot_split_open(rot_method_rot *m, rot_which which, rot_err *err);
void rot_split_close(rot_split *split);
// Into m->arena. ROT_ERR_INPUT with the sample's id where a sequence is longer than the model's
// positions.
int rot_examples_read(rot_method_rot *m, const rot_micro_batch *batch, rot_examples *out,
                      rot_err *err);
// targets (latents, d)
int rot_targets_read(rot_method_rot *m, const rot_micro_batch *batch, const rot_examples *examples,
                     float *targets, rot_err *err);

// rot_step.c
int rot_step_run(rot_method_rot *m, const rot_micro_batch *batch, rot_method_losses *out,
                 rot_err *err);

extern const rot_method_ops rot_method_rot_ops;

#endif
