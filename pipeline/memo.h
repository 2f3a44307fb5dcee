// Hashes of big files, remembered in ROOT/.rotoscope/memo.json by size, mtime and inode, so that a
// finished build answers at once. Losing the file costs time, never correctness.
#ifndef ROT_PIPELINE_MEMO_H
#define ROT_PIPELINE_MEMO_H

#include <jansson.h>
#include <stdbool.h>

#include "base/str.h"
#include "rotoscope/error.h"

typedef struct rot_memo {
    json_t *entries; // key -> anything
    char path[4096];
    bool dirty;
} rot_memo;

// An unreadable or broken file counts as empty, and so does any file if `forget`.
int rot_memo_open(rot_memo *memo, const char *root, bool forget, rot_err *err);
json_t *rot_memo_get(const rot_memo *memo, const char *key); // borrowed; NULL: unknown
int rot_memo_set(rot_memo *memo, const char *key, json_t *value,
                 rot_err *err); // takes the value over
// Writes the file if anything was added. A root that cannot be written is no error.
void rot_memo_save(rot_memo *memo);
void rot_memo_close(rot_memo *memo);

// Appends "path|size|mtime|inode;" of `path`, the way files enter a key. ROT_ERR_MISSING: no such
// file.
int rot_memo_add_file(rot_str *key, const char *path, rot_err *err);

#endif
