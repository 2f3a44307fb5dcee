// The JSON files of a checkpoint, and the tensors that they promise.
#ifndef ROT_ENCODER_CHECKPOINT_CONFIG_H
#define ROT_ENCODER_CHECKPOINT_CONFIG_H

#include "encoder/checkpoint.h"

// dir/config.json. Keys that transformers would take from its class defaults are taken from there.
int rot_checkpoint_read_config(const char *dir, rot_vision_config *out, rot_err *err);
// dir/preprocessor_config.json, which must agree with `config` on patch, temporal and merge sizes.
int rot_checkpoint_read_preprocessor(const char *dir, const rot_vision_config *config,
                                     rot_preprocessor *out, rot_err *err);
// Whether the sizes of a config make a tower that we compute; `where` names it in messages.
int rot_vision_config_check(const rot_vision_config *config, const char *where, rot_err *err);

#endif
