// What a shard holds so far, in order: places and seals of its values, hashes of its rows. The
// writer fills it while it writes, resume and verify while they scan; everything behind the values
// (trailer, tree) and before them (meta pages) is made from it, so that the file is a function of
// its records.
#ifndef ROT_SHARDS_LEDGER_H
#define ROT_SHARDS_LEDGER_H

#include "shards/tree.h"
#include "shards/value.h"

typedef struct rot_ledger_mark {
    size_t n_values, n_rows;
    uint64_t next_page, skipped, payload_bytes;
} rot_ledger_mark;

typedef struct rot_ledger {
    const rot_stage_spec *spec;
    uint32_t shard;
    uint64_t first_row, n_rows; // of the whole shard
    rot_entry *entries;         // (n_values)
    uint8_t *seals;             // (n_values, ROT_SEAL)
    uint8_t *hashes;            // (n_rows, 16)
    size_t entries_capacity, seals_capacity;
    rot_ledger_mark now, committed;
} rot_ledger;

int rot_ledger_init(rot_ledger *ledger, const rot_stage_spec *spec, uint32_t shard, rot_err *err);
void rot_ledger_free(rot_ledger *ledger);
// The next value, of records that follow with rot_ledger_add_row.
int rot_ledger_add_value(rot_ledger *ledger, uint64_t key, const rot_head *head, const void *stored,
                         rot_err *err);
// The next row. True at the end of a commit unit.
bool rot_ledger_add_row(rot_ledger *ledger, rot_kind kind, uint32_t n_bytes,
                        const uint8_t hash[16]);

// Reads the values of a file that may end anywhere, and checks every record, up to the first fault
// or the end of the shard's rows. *cause: the fault (or the end of the file) in words. Negative for
// lack of memory alone. The mark `committed` is the end of the last whole commit unit.
int rot_ledger_scan(rot_ledger *ledger, const rot_map *map, rot_codecs *codecs, rot_err *cause,
                    rot_err *err);

// What a whole shard has behind its values: pages of the trailer and the tree; and pages 0 and 1.
// The caller frees *tail. `trailer_hash` (may be NULL): record hash of the trailer.
int rot_ledger_finish(const rot_ledger *ledger, uint8_t meta[2 * ROT_PAGE], uint8_t **tail, size_t
                      *n_tail, uint8_t trailer_hash[16], rot_err *err);

#endif
