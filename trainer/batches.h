// The micro-batches of one epoch: a function of the config and the epoch.
#ifndef ROT_TRAINER_BATCHES_H
#define ROT_TRAINER_BATCHES_H

#include <stddef.h>
#include <stdint.h>

#include "rotoscope/train.h"

typedef struct rot_epoch_batches {
    uint64_t *samples; // micro-batch after micro-batch
    uint64_t *starts;  // (n + 1)
    uint64_t n;
} rot_epoch_batches;

// `lengths` (n_samples) may be NULL: then nothing is put together by length.
int rot_epoch_batches_make(const rot_train_config *config, uint64_t epoch, uint64_t n_samples,
                           const uint32_t *lengths, rot_epoch_batches *out, rot_err *err);
void rot_epoch_batches_free(rot_epoch_batches *batches);
// Micro-batches of an epoch, and optimizer steps of the whole run.
uint64_t rot_epoch_micro_batches(const rot_train_config *config, uint64_t n_samples);
uint64_t rot_run_steps(const rot_train_config *config, uint64_t n_samples);

#endif
