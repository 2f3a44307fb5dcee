// An open split, shared by threads: what reader.c (opening), reader_index.c and reader_rows.c
// (indexes) and reader_read.c (records) share.
#ifndef ROT_PIPELINE_READER_H
#define ROT_PIPELINE_READER_H

#include <stdatomic.h>

#include "base/fs.h"
#include "rotoscope/reader.h"

enum { ROT_READER_STAGES = 3, ROT_READER_SLOTS = 64 };

// What one thread works with while it is in a call. A child after fork() has those of its parent's
// other threads as busy for ever, which is right: they may be half way through a change.
typedef struct rot_reader_slot {
    _Alignas(64) atomic_bool busy;
    // Opened when needed; they stay open, for views point into them.
    rot_stage *stages[ROT_READER_STAGES];
} rot_reader_slot;

// Numbers derived from a stage, in a file beside it or in memory. Immutable.
typedef struct rot_index {
    rot_map map;
    uint32_t *block; // if it is not mapped
    const uint32_t *words;
    uint64_t n_words, rows, samples;
} rot_index;

// Where an embedding that was read before lies in a map, and its K: to find it again in a tree and
// a block takes as long as to copy 8 KiB.
typedef struct rot_place {
    _Atomic(const void *) payload; // NULL: not read yet
    atomic_uint k;                 // stored before
} rot_place;

struct rot_reader {
    rot_reader_info info;
    bool verify, keep_index, open[ROT_READER_STAGES];
    int last; // the stage that says which rows are samples
    char *name, *split, *dirs[ROT_READER_STAGES];
    char root[65], roots[ROT_READER_STAGES][65];
    atomic_uchar *checked[ROT_READER_STAGES]; // a bit per row, if `verify`
    rot_place *places;                        // (rows) of embeds of codec none, else NULL
    rot_reader_slot *slots;                   // (ROT_READER_SLOTS)
    _Atomic(rot_index *) rows, ids;
};

// 0, 1, 2 for "tokens", "images", "embeds"; ROT_ERR_NOT_FOUND unless it is open.
int rot_reader_stage(const rot_reader *reader, const char *stage, int *out, rot_err *err);
// A slot, with its handle of `stage` opened. Give it back in every case.
rot_reader_slot *rot_reader_borrow(rot_reader *reader);
void rot_reader_return(rot_reader_slot *slot);
int rot_reader_handle(const rot_reader *reader, rot_reader_slot *slot, int stage, rot_stage **out,
                      rot_err *err);

// `path`, if it is an index of that magic made from the stage of this root; else *out is NULL: it
// is absent, damaged or of another stage, and can be made again. Negative for lack of memory
// alone.
int rot_index_load(const char *path, const char magic[8], const char *root, rot_index **out,
                   rot_err *err);
// Takes over `words`, also on failure.
int rot_index_new(uint32_t *words, uint64_t n_words, uint64_t rows, uint64_t samples,
                  rot_index **out, rot_err *err);
// Failure leaves things as they were: the index is used from memory.
void rot_index_save(const char *path, const char magic[8], const char *root,
                    const rot_index *index);
void rot_index_free(rot_index *index);

// The index of rows: the row of every sample (none if no row is skipped), then K of every sample.
// If `make` is false, *out may be NULL: there is none yet.
int rot_reader_rows_index(rot_reader *reader, bool make, const rot_index **out, rot_err *err);

#endif
