// Checkpoints of a run: OUT/step-00000012 holds what the method saves for others, state.safetensors
// (parameters and moments), training_state.json and train.yaml. A folder of that name is whole: it
// is written under another, synced, and renamed. `last` and `best` are links to two of them.
#ifndef ROT_TRAINER_CHECKPOINT_H
#define ROT_TRAINER_CHECKPOINT_H

#include "trainer/method.h"
#include "trainer/optimizer.h"

// Where a run stands, between two optimizer steps.
typedef struct rot_train_state {
    uint64_t step;             // optimizer steps done
    uint64_t epoch, micro;     // the next micro-batch
    uint64_t epochs_closed;    // epochs whose validation and checkpoint are done
    uint64_t samples;          // that were trained on
    int64_t validated_step;    // of the last validation; -1: none
    int64_t best_step;         // of the best one; -1: none
    double best_loss;
    uint64_t without_better;   // validations since
    uint64_t log_bytes;        // of train.jsonl at this state
    int stage;                 // of the curriculum; -1: none yet
    bool finished;
} rot_train_state;

// `config_text`: the effective config. The newest `keep` stay (0: all), and the best. On failure
// (a full disk) everything that was there before is still there.
int rot_checkpoint_save(const char *out, rot_method *method, rot_optimizer *optimizer,
                        const rot_train_state *state, const char *config_text, uint32_t keep,
                        rot_err *err);
// Reads the newest checkpoint of `out`: 1, or 0 if there is none. Leftovers of writes that were
// stopped are removed. ROT_ERR_USAGE: made with another config, the first key that differs is named
// with both values; ROT_ERR_FORMAT: files that do not fit the method's parameters.
int rot_checkpoint_load(const char *out, rot_method *method, rot_optimizer *optimizer,
                        rot_train_state *state, const char *config_text, rot_err *err);
// The newest checkpoint's step, or -1, and whether a run may go on from it: ROT_ERR_USAGE as above.
int rot_checkpoint_newest(const char *out, const char *config_text, int64_t *step, rot_err *err);

#endif
