// Whether a run may go on under a config: it may if nothing differs that its numbers depend on.
#ifndef ROT_TRAINER_CHECKPOINT_CONFIG_H
#define ROT_TRAINER_CHECKPOINT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

// Both texts as rot_train_config_write makes them. True: `out` says which key differs, and how.
// Where a run ends, what it writes and when, and where files lie may change.
bool rot_config_difference(const char *before, const char *now, char *out, size_t capacity);

#endif
