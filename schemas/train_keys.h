// The keys of a training config: rows as in schemas/keys.h, offsets into rot_train_config.
#ifndef ROT_SCHEMAS_TRAIN_KEYS_H
#define ROT_SCHEMAS_TRAIN_KEYS_H

#include "rotoscope/train.h"
#include "schemas/keys.h"

extern const rot_key rot_train_keys[];
extern const size_t rot_n_train_keys;

// NULL, or why a key has no effect in this config ("with schedule.kind: constant").
const char *rot_train_key_without_effect(const rot_key *key, const rot_train_config *config);

typedef enum rot_train_preset {
    ROT_TRAIN_ROT_PAPER,
    ROT_TRAIN_ROT_RELEASED,
    ROT_TRAIN_COCONUT_GSM,
    ROT_TRAIN_COCONUT_PROSQA
} rot_train_preset;
// Every field but path and those that are required; of preset, method and stage.
void rot_train_defaults(rot_train_config *config, rot_train_preset preset, rot_train_method method,
                        int stage);

#endif
