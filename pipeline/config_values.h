// One value of the tree into one field, by the key table.
#ifndef ROT_PIPELINE_CONFIG_VALUES_H
#define ROT_PIPELINE_CONFIG_VALUES_H

#include "pipeline/config_tree.h"
#include "rotoscope/config.h"
#include "schemas/keys.h"

// `base` is the struct that the key's offset is into; strings are copied to `arena`; `name` is the key in
// full, for messages. ROT_ERR_CONFIG: wrong type, out of range, not one of the words.
// ROT_ERR_MISSING: a glob that matches nothing. ROT_KEY_PRESET is not read here.
int rot_value_set(rot_arena *arena, void *base, const rot_key *key, const char *name,
                  const rot_node *value, rot_err *err);
// The options that a preset stands for; false: no such preset.
bool rot_preset(const char *name, rot_render_options *out);
// `path` from `folder`, copied. NULL: no memory.
const char *rot_path_from(rot_arena *arena, const char *folder, const char *path);

#endif
