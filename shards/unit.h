// A commit unit packed ahead of its writing: its values one after another, and what the ledger
// wants to know of its rows.
#ifndef ROT_SHARDS_UNIT_H
#define ROT_SHARDS_UNIT_H

#include "shards/pack.h"

typedef struct rot_unit_value {
    rot_head head;
    size_t at; // of its stored bytes in `bytes`
    uint32_t n_rows;
} rot_unit_value;

struct rot_unit {
    rot_stage_spec spec;
    rot_codecs *codecs;
    rot_packer packer;
    uint64_t first_row, n_rows; // n_rows: of the whole unit
    uint8_t *bytes;
    size_t n_bytes, bytes_capacity;
    rot_unit_value *values;
    size_t n_values, values_capacity;
    rot_pack_row *rows; // of all values, in order
    size_t n_packed, rows_capacity;
};

#endif
