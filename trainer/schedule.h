// The learning rate of a step.
#ifndef ROT_TRAINER_SCHEDULE_H
#define ROT_TRAINER_SCHEDULE_H

#include <stdint.h>

#include "rotoscope/train.h"

// Of optimizer step `step` (from 0) of a run whose length, as schedule.length counts it, is
// `length`: with zero_first what transformers' get_*_schedule_with_warmup give. The warm-up without
// it is one step further. A log warm-up is DeepSpeed's WarmupLR.
double rot_schedule_rate(const rot_train_config *config, uint64_t step, uint64_t length);

#endif
