// The keys of a map of YAML against one table of keys.
#ifndef ROT_PIPELINE_CONFIG_SECTION_H
#define ROT_PIPELINE_CONFIG_SECTION_H

#include "pipeline/config_value.h"

// A table of keys and the struct that its offsets count in.
typedef struct rot_key_target {
    const rot_key *keys;
    size_t n_keys;
    void *base;
    const char *prefix; // before the names in messages: "" or "splits.train."
    const char *beside; // a key of the top that is read elsewhere, or NULL
    rot_arena *arena;
} rot_key_target;

// Reads every key of `map`, which is the section `section` of the table ("" for all of it), into
// its field. ROT_ERR_CONFIG: a key that the table does not have, with the nearest.
int rot_section_read(const rot_key_target *target, const rot_node *map, const char *section,
                     rot_err *err);
// The node of "a.b.c", or NULL.
const rot_node *rot_section_find(const rot_node *root, const char *name);
int rot_section_not_a_map(const rot_node *node, const char *name, rot_err *err);

#endif
