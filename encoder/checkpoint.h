// A Hugging Face checkpoint folder, as far as its vision tower goes.
#ifndef ROT_ENCODER_CHECKPOINT_H
#define ROT_ENCODER_CHECKPOINT_H

#include "encoder/family.h"
#include "encoder/safetensors.h"
#include "rotoscope/geometry.h"

typedef struct rot_checkpoint rot_checkpoint;

// Reads config.json, preprocessor_config.json and the tensors' headers; checks that every tensor of
// the tower (deepstack mergers too, but not blocks that the output does not need) is there with the
// right shape and a float type. Errors: as rot_encoder_inspect.
int rot_checkpoint_open(const char *dir, rot_checkpoint **out, rot_err *err);
void rot_checkpoint_close(rot_checkpoint **checkpoint);
const rot_vision_config *rot_checkpoint_config(const rot_checkpoint *checkpoint);
const rot_preprocessor *rot_checkpoint_preprocessor(const rot_checkpoint *checkpoint);
// By canonical name, that is without the family's prefix: "blocks.0.attn.qkv.weight". Never NULL
// for a tensor of the tower.
const rot_tensor *rot_checkpoint_tensor(const rot_checkpoint *checkpoint, const char *name);
int64_t rot_checkpoint_parameters(const rot_checkpoint *checkpoint);
// SHA-256 over the tensors that the output depends on (the deepstack mergers among them only
// `with_taps`), sorted by canonical name: name, type, shape, bytes; and over what config.json alone
// decides (heads, windows, blocks used, blocks tapped), where it is not Qwen3-VL's usual. 64 hex
// digits.
int rot_checkpoint_hash(const rot_checkpoint *checkpoint, bool with_taps, char hex[65],
                        rot_err *err);

#endif
