// Training of a decoder on what a store holds: the config and the run.
#ifndef ROTOSCOPE_TRAIN_H
#define ROTOSCOPE_TRAIN_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rot_train_method {
    ROT_METHOD_ROT,
    // The others read a trace as a chain of steps.
    ROT_METHOD_COCONUT,     // steps give way to latent thoughts
    ROT_METHOD_COT,         // every step is there
    ROT_METHOD_NO_COT,      // none is
    ROT_METHOD_NO_THOUGHTS, // steps go as in Coconut, nothing takes their place
    ROT_METHOD_PAUSE,       // a token that is learned takes their place
    ROT_METHOD_ICOT         // tokens of the chain go one after another
} rot_train_method;

typedef enum rot_train_tuning { // what of the language model trains
    ROT_TUNE_NONE,
    ROT_TUNE_LORA,
    ROT_TUNE_FULL
} rot_train_tuning;

typedef enum rot_train_shuffle {
    ROT_SHUFFLE_EPOCH, // another order in every epoch
    ROT_SHUFFLE_ONCE,  // the order of the first epoch again and again
    ROT_SHUFFLE_NONE
} rot_train_shuffle;

typedef enum rot_train_rest { // micro-batches at an epoch's end, fewer than train.accumulate
    ROT_REST_STEP,            // make a step of their own
    ROT_REST_CARRY            // are added to the next epoch's first step
} rot_train_rest;

typedef enum rot_train_average {
    ROT_AVERAGE_SAMPLES,      // a step's gradient is the mean over its samples
    ROT_AVERAGE_MICRO_BATCHES // the mean over train.accumulate means over micro-batches
} rot_train_average;

typedef enum rot_train_reset { ROT_RESET_NEVER, ROT_RESET_STAGE, ROT_RESET_EPOCH } rot_train_reset;

typedef enum rot_train_schedule {
    ROT_SCHEDULE_CONSTANT,
    ROT_SCHEDULE_LINEAR,
    ROT_SCHEDULE_COSINE
} rot_train_schedule;

typedef enum rot_train_warmup { ROT_WARMUP_LINEAR, ROT_WARMUP_LOG } rot_train_warmup;

typedef enum rot_train_length { // what a decay counts as the length of the run
    ROT_LENGTH_STEPS,           // optimizer steps
    ROT_LENGTH_MICRO_BATCHES    // micro-batches, although one step is taken per train.accumulate
} rot_train_length;

typedef enum rot_train_loss {
    ROT_LOSS_MSE,
    ROT_LOSS_COSINE,
    ROT_LOSS_KL,
    ROT_LOSS_HUBER,
    ROT_LOSS_STABLE
} rot_train_loss;

typedef enum rot_train_reduction {
    ROT_REDUCE_PAPER,   // squared norm: the sum over d
    ROT_REDUCE_RELEASED // the mean over d
} rot_train_reduction;

typedef enum rot_train_row_init { // what the rows of tokens that the checkpoint lacks begin as
    ROT_ROWS_RELEASED,            // random, of norm sqrt(d)
    ROT_ROWS_TYPICAL,             // random, of the mean norm of the checkpoint's rows
    ROT_ROWS_MEAN                 // the mean of the checkpoint's rows
} rot_train_row_init;

typedef struct rot_train_config {
    const char *path; // the config file, or "--set" alone
    rot_train_method method;
    const char *out; // folder of logs and checkpoints
    uint32_t seed;
    // model.*
    const char *checkpoint, *adapter; // folders; adapter: a PEFT adapter to begin with, or NULL
    int precision;                    // 0: f32, 1: bf16
    const char *backend;
    bool checkpointing, dropout;
    rot_train_tuning tuning;
    // lora.*
    int lora_r;
    double lora_alpha, lora_dropout;
    const char *lora_targets;
    // data.*
    const char *dataset;       // ROOT/NAME.json
    const char *split, *valid; // valid: NULL: no validation
    rot_train_shuffle shuffle;
    bool bucket;         // micro-batches of similar length
    const char *geometry; // NULL: whatever the store has
    uint32_t max_samples; // of the training split; 0: all
    // train.*
    uint32_t epochs, batch, accumulate;
    uint32_t max_steps; // 0: as many as the epochs have
    rot_train_rest rest;
    rot_train_average average;
    // optimizer.*
    double lr, beta1, beta2, eps, weight_decay, clip; // clip 0: none
    rot_train_reset reset;
    // schedule.*
    rot_train_schedule schedule;
    rot_train_warmup warmup;
    uint32_t warmup_steps;
    bool zero_first; // the rate of step i (from 0) is that of i, not of i + 1
    rot_train_length length;
    double min_ratio; // of lr, at the end of a decay
    // loss.*
    rot_train_loss loss;
    rot_train_reduction reduction;
    double vision_weight, lm_weight;
    bool uncertainty;
    // rot.*
    int stage;             // 1 or 2: chooses defaults
    const char *head;      // folder of a checkpoint with a head, or NULL: random
    uint32_t head_width;
    bool train_head;
    rot_train_row_init row_init;
    bool train_rows;
    uint32_t max_latents; // a sample with more is an error; 0: no limit
    // thoughts.*, icot.*: trainer/thoughts.h says what they mean
    int step_rule; // a rot_step_rule
    uint32_t thoughts_per_step, epochs_per_stage, max_stage, first_epoch;
    bool curriculum, pad_to_max, group_per_step;
    double uniform;
    double icot_per_epoch, icot_smoothing;
    int icot_all_beyond;
    // checkpoint.*, valid.*, log.*
    uint32_t save_every, keep; // steps; 0: at the end of epochs alone. keep 0: all
    uint32_t valid_every, patience; // steps, 0: epochs; validations without a better loss, 0: go on
    uint32_t log_every;
} rot_train_config;

// Reads `path` as rot_config_load does. The table of keys is docs/train.md.
// ROT_ERR_CONFIG: file, line, column, nearest key; ROT_ERR_MISSING: no such file or folder.
int rot_train_config_load(const char *path, const char *const *sets, int n_sets,
                          rot_train_config **out, rot_err *err);
void rot_train_config_free(rot_train_config **config);
// The effective config as YAML; reading it back gives the same. The caller frees *text.
int rot_train_config_write(const rot_train_config *config, char **text, rot_err *err);
// docs/train.md's table of keys; the caller frees *text.
int rot_train_config_document(char **text, rot_err *err);

typedef struct rot_train_progress {
    uint64_t step, steps;  // optimizer steps done, of all
    uint64_t resumed;      // steps of `step` that an earlier run took
    uint64_t epoch;        // from 0
    double loss, lr, samples_per_s, seconds;
} rot_train_progress;

typedef struct rot_train_options {
    size_t size;                       // sizeof(rot_train_options)
    int threads;                       // 0: rot_threads_available()
    const volatile sig_atomic_t *stop; // non-zero: write a checkpoint, return ROT_ERR_STOPPED
    void (*progress)(void *user, const rot_train_progress *progress); // may be NULL
    void (*note)(void *user, const char *message);                    // may be NULL
    void *user;
} rot_train_options;
// All threads, no callbacks.
rot_train_options rot_train_options_default(void);

// What a run would do: parameters, samples, steps, rates, files. JSON, freed by the caller; writes
// nothing. Refuses what rot_train_run would refuse.
int rot_train_plan(const rot_train_config *config, const rot_train_options *options, char **json,
                   rot_err *err);
// Trains, or goes on from the last checkpoint in config->out. *json: how it ended; the caller frees
// it. ROT_ERR_STOPPED: by the flag, run again; ROT_ERR_INPUT: a loss that is no number, with the
// sample's id; ROT_ERR_USAGE: the folder holds a run of another config, the keys named;
// ROT_ERR_LOCKED: another process trains there.
int rot_train_run(const rot_train_config *config, const rot_train_options *options, char **json,
              rot_err *err);

typedef struct rot_merge_options {
    size_t size;            // sizeof(rot_merge_options)
    const char *checkpoint; // folder of the model that the adapter was trained beside
    const char *adapter;    // PEFT folder; or NULL and
    const char *head;       // a checkpoint of Render-of-Thought with head and adapter
    const char *out;        // folder to make
    int threads;            // 0: rot_threads_available()
} rot_merge_options;
// Every linear with an adapter becomes W + alpha / r * B A, rounded once to the checkpoint's type.
// `out`: a Hugging Face folder or, with `head`, one with head, rows and model/, as training with
// model.tuning: full leaves it. ROT_ERR_USAGE: `out` is there; ROT_ERR_FORMAT: an adapter that does
// not fit the model.
int rot_merge(const rot_merge_options *options, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
