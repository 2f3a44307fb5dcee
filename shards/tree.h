// LMDB 0.9's file format, the part of it that a shard uses: two meta pages, values on overflow
// pages, leaf and branch pages of one database with 8-byte integer keys. Builds it; looks a key up
// in it, trusting nothing.
#ifndef ROT_SHARDS_TREE_H
#define ROT_SHARDS_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "base/fs.h"
#include "rotoscope/error.h"

typedef struct rot_entry {
    uint64_t key, page; // first overflow page of the value
    uint32_t n_bytes;   // of the value: header and stored bytes
} rot_entry;

typedef struct rot_tree {
    uint64_t root, last_page, n_branch, n_leaf, n_overflow, n_entries;
    uint16_t depth;
} rot_tree;

// The 16 bytes before a value of n_pages pages at `page`.
void rot_tree_overflow_head(uint64_t page, uint32_t n_pages, uint8_t out[16]);

// Leaf pages, then branch pages, level by level, the root last, for n > 0 entries in key order; the
// first of them will be page `first_page` of the file. A function of the entries alone. The caller
// frees *pages, *n_pages of 4096 bytes.
int rot_tree_build(const rot_entry *entries, size_t n, uint64_t first_page, uint8_t **pages,
                   size_t *n_pages, rot_tree *out, rot_err *err);
// Meta page `which` (0 or 1) of that tree.
void rot_tree_meta(const rot_tree *tree, int which, uint8_t out[4096]);

// Reads the meta pages and compares the file's size. ROT_ERR_CORRUPT with the cause alone.
int rot_tree_open(const rot_map *map, rot_tree *out, rot_err *err);
// The last entry whose key is at most `key`. ROT_ERR_NOT_FOUND, ROT_ERR_CORRUPT.
int rot_tree_floor(const rot_map *map, const rot_tree *tree, uint64_t key, rot_entry *out,
                   rot_err *err);

#endif
