// What a model reads of a sample when its chain of thought is given, left out, or replaced by
// latent thoughts: Coconut's curriculum, its ablations, and iCoT.
//
// Sources: Hao et al., "Training Large Language Models to Reason in a Continuous Latent Space"
// (2024) and its published code; Deng et al., "From Explicit CoT to Implicit CoT" (2024), for the
// removal of tokens; Goyal et al., "Think before you speak" (2023), for pauses.
#ifndef ROT_TRAINER_THOUGHTS_H
#define ROT_TRAINER_THOUGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rotoscope/error.h"

// What stands in the place of the steps that were taken out.
typedef enum rot_thought_kind {
    ROT_THOUGHTS_NONE,   // nothing: CoT, no CoT, no thoughts, iCoT
    ROT_THOUGHTS_LATENT, // the last hidden state fed back: Coconut
    ROT_THOUGHTS_PAUSE   // a token that is learned
} rot_thought_kind;

// How many steps are taken out as training goes on.
typedef enum rot_removal {
    ROT_REMOVE_NEVER,  // CoT
    ROT_REMOVE_ALWAYS, // no CoT; Coconut and pauses without their curriculum
    ROT_REMOVE_STAGES, // the first s steps in stage s
    ROT_REMOVE_TOKENS  // iCoT: the first tokens of the chain, some more per epoch
} rot_removal;

typedef struct rot_thoughts_options {
    rot_thought_kind kind;
    rot_removal removal;
    int32_t per_step;         // c_thought: latent thoughts (or pauses) for a step
    int32_t epochs_per_stage; // of ROT_REMOVE_STAGES
    int32_t max_stage;        // max_latent_stage; a later stage has no step left
    // In the last stage, and without a curriculum: max_stage groups of thoughts, also where a
    // sample has fewer steps.
    bool pad_to_max;
    // In the stages before: a group per step that the sample has, instead of the published code's s
    // groups whatever the sample has, to which its own generation does not keep.
    bool group_per_step;
    double uniform; // uniform_prob: this share of the samples is of a random stage
    // ROT_REMOVE_TOKENS.
    double per_epoch;   // tokens more per epoch
    double smoothing;   // lambda: o more go, with a probability ~ e^(-lambda o); 0: none
    int32_t all_beyond; // more removed than this: all are; negative: never
    uint64_t seed;
} rot_thoughts_options;

// Ids of a sample, one after another: question, steps, answer. Step i is ids[steps[i], steps[i+1]);
// steps[0] is the length of the question, steps[n_steps] where the answer begins.
typedef struct rot_chain {
    const int32_t *ids;
    const int32_t *steps; // (n_steps + 1)
    int32_t n_steps, n;   // n: all ids
} rot_chain;

// Ids around and in the place of thoughts; start and end are left out where they are negative.
typedef struct rot_thought_tokens {
    int32_t start, end, thought;
} rot_thought_tokens;

// What the model reads, (n): ids, and labels, -1 where nothing is to be predicted; labels[i] is
// ids[i] or -1, so the row before it predicts it. Thoughts are rows [first, first + n_thoughts).
typedef struct rot_sequence {
    int32_t *ids, *labels;
    size_t n, capacity;
    int32_t first, n_thoughts;
} rot_sequence;

// The stage of an epoch; of ROT_REMOVE_TOKENS, the tokens removed at that point of an epoch (0 <=
// fraction < 1), rounded down.
int64_t rot_thoughts_stage(const rot_thoughts_options *options, int64_t epoch, double fraction);

// A training sequence of `chain`, whose number is `sample`, in `epoch` at `stage`. A function of
// its arguments. The sequence grows as needed; rot_sequence_free.
int rot_thoughts_train(const rot_thoughts_options *options, const rot_thought_tokens *tokens,
                       const rot_chain *chain, uint64_t sample, int64_t epoch, int64_t stage,
                       rot_sequence *out, rot_err *err);
// What generation begins with at `stage`: question and thoughts, without steps; no labels. Under
// ROT_REMOVE_NEVER and ROT_REMOVE_TOKENS that is the question.
int rot_thoughts_prompt(const rot_thoughts_options *options, const rot_thought_tokens *tokens,
                        const rot_chain *chain, int64_t stage, rot_sequence *out, rot_err *err);
void rot_sequence_free(rot_sequence *sequence);

#endif
