// Inference with latent thoughts, and what can be seen of them.
#ifndef ROTOSCOPE_GENERATE_H
#define ROTOSCOPE_GENERATE_H

#include <signal.h>
#include <stdint.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rot_generate_method {
    ROT_GENERATE_ROT,     // Render-of-Thought: a head turns hidden states into latents
    ROT_GENERATE_COCONUT, // hidden states are the latents
    ROT_GENERATE_PAUSE,   // a learned token in their place
    ROT_GENERATE_PLAIN    // none: CoT, no CoT, iCoT
} rot_generate_method;

typedef enum rot_generate_stop {
    ROT_STOP_BUDGET, // after `latents` of them
    ROT_STOP_TOKEN,  // or before, where the end mark is the most probable next token
    // or before, where a latent is less than `distance` of its norm from the last
    ROT_STOP_DISTANCE,
    ROT_STOP_CLASSIFIER // or before, where `classifier` says so of a latent (Coconut)
} rot_generate_stop;

typedef struct rot_generate_options {
    size_t size;            // sizeof(rot_generate_options)
    const char *checkpoint; // model folder; NULL: HEAD/model
    const char *adapter;    // PEFT folder; NULL: HEAD/adapter if that is there
    const char *head;       // of ROT_GENERATE_ROT: head.safetensors, tokens.safetensors
    const char *tokenizer;  // folder; NULL: the checkpoint
    const char *questions, *format, *split; // rotoscope/questions.h
    uint64_t limit;                         // questions; 0: all
    rot_generate_method method;
    int32_t latents;
    rot_generate_stop stop;
    double distance;
    const char *classifier; // safetensors file; NULL: CHECKPOINT/../stop.safetensors
    // Above 0: `classifier` is not read but written, from the questions' latents: thinking ends
    // behind so many for each of a question's steps, `latents` at most.
    int32_t fit_per_step;
    double temperature, top_p; // 0: greedy
    uint64_t seed;
    int32_t max_new_tokens, batch;
    const char *backend;     // "auto", "ref", "avx512", "amx"
    int precision;           // 0: f32, 1: bf16
    int threads;             // 0: rot_threads_available()
    // File: JSON lines that rot_evaluate reads. Until all are there they are in the same name with
    // .part behind it, which the same run goes on with.
    const char *predictions;
    // What the latents are; NULL: not written. `latents_out`: a safetensors file with N.latents (n,
    // d) of question N, N.targets (K, d) where the questions are a store with embeddings; beside
    // it, with .tsv at the end, a line per latent with its norm, mean, spread, neighbours and the
    // `top_k` tokens that the output head gives for it.
    const char *latents_out;
    int32_t top_k;
    // ROT_GENERATE_COCONUT on questions with graphs: a TSV of the probability of every node's name
    // after 0, 1, ... latents.
    const char *tree_out;
    const volatile sig_atomic_t *stop_flag; // may be NULL; set: ROT_ERR_STOPPED after the batch
    // May be NULL. `resumed` of the questions that are done were so before this start.
    void (*progress)(void *user, uint64_t resumed, uint64_t done, uint64_t total, double seconds);
    void *user;
} rot_generate_options;
// Greedy, 32 latents, 256 new tokens, batches of 16, f32, 5 tokens a latent; no files.
rot_generate_options rot_generate_options_default(void);

// Answers every question; the ids that a question gets do not depend on its batch. ROT_ERR_USAGE:
// options that do not go together, a head of another width than the model, both named. A question
// that does not fit the model's positions gets an error in its line. A run that was stopped or
// killed goes on behind the last whole batch; with latents_out, tree_out or fit_per_step it begins
// again. ROT_ERR_USAGE also: what was left is of other options, of another model or of other
// questions.
int rot_generate(const rot_generate_options *options, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
