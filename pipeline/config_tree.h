// YAML as a tree of nodes that know where they stand: files that extend files, and `--set`, become
// one tree before any key is looked at.
#ifndef ROT_PIPELINE_CONFIG_TREE_H
#define ROT_PIPELINE_CONFIG_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"
#include "rotoscope/error.h"

typedef enum rot_node_kind { ROT_NODE_MAP, ROT_NODE_LIST, ROT_NODE_SCALAR } rot_node_kind;

typedef struct rot_node {
    rot_node_kind kind;
    const char *key;         // in its map; NULL in a list
    const char *text;        // of a scalar
    bool quoted;             // a quoted scalar is a string whatever it looks like
    struct rot_node *first;  // child
    struct rot_node *next;   // sibling
    const char *where;       // "FILE:LINE:COLUMN" or "--set KEY=VALUE"
    const char *key_where;   // of its key
    const char *folder;      // that relative paths in it start from; "" is the working folder
} rot_node;

// Nodes live in `arena`.
// The file and all that it extends, merged: maps key by key, the nearer file wins.
int rot_tree_load(rot_arena *arena, const char *path, rot_node **out, rot_err *err);
// Puts one "a.b.c=VALUE" into the tree (VALUE is YAML); root->kind is MAP.
int rot_tree_set(rot_arena *arena, rot_node *root, const char *set, rot_err *err);
// The same with a value that was read before ("a.b.c", a node that may belong to another arena: it
// is copied). `where` says where the key stands.
int rot_tree_put(rot_arena *arena, rot_node *root, const char *key, const rot_node *value,
                 const char *where, rot_err *err);
// An empty map, for a config of sets alone.
rot_node *rot_tree_new(rot_arena *arena);

rot_node *rot_node_child(const rot_node *map, const char *key); // NULL: none

#endif
