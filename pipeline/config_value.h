// One value of a config: from a node of YAML into its field, checked against its row of the key
// table, and from the field to YAML.
#ifndef ROT_PIPELINE_CONFIG_VALUE_H
#define ROT_PIPELINE_CONFIG_VALUE_H

#include "base/str.h"
#include "pipeline/config_tree.h"
#include "schemas/keys.h"

// `base` is the struct that key->offset counts in; strings and lists go into `arena`. `prefix`
// stands before the key's name in messages ("" or "splits.train."). ROT_ERR_CONFIG: wrong type, out
// of range, no such word; ROT_ERR_MISSING: a path that is not there. A preset has no field: nothing
// is done but the check.
int rot_value_read(const rot_key *key, const char *prefix, const rot_node *node, void *base,
                   rot_arena *arena, rot_err *err);
// Appends the value as YAML; paths become absolute.
void rot_value_write(const rot_key *key, const void *base, rot_str *out);
// Index of the node's word in key->words, or -1.
int rot_value_word(const rot_key *key, const rot_node *node);
// Whether it may name a dataset or split: letters, digits, dot, dash, underscore; no dot in front.
bool rot_value_is_name(const char *text);
// Appends a quoted string that YAML and JSON read alike.
void rot_value_quote(rot_str *out, const char *text);

#endif
