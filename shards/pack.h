// Records gathered into the values that a shard is made of: hashed, put into blocks, compressed.
// Which records share a block is a function of the records and the layout (schemas/FORMAT.md), so
// it does not matter who packs them, or when.
#ifndef ROT_SHARDS_PACK_H
#define ROT_SHARDS_PACK_H

#include "shards/codec.h"
#include "shards/format.h"

typedef struct rot_pack_row {
    rot_kind kind;
    uint32_t n_bytes;
    uint8_t hash[16];
} rot_pack_row;

// Takes the next value, of rows[n_rows]; `stored` is the packer's until the call returns.
typedef int rot_pack_emit(void *user, const rot_head *head, const void *stored,
                          const rot_pack_row *rows, uint32_t n_rows, rot_err *err);

typedef struct rot_packer {
    const rot_stage_spec *spec;
    rot_codecs *codecs; // borrowed
    rot_pack_emit *emit;
    void *user;
    uint64_t next_row;
    // The open block: records that wait for company.
    uint8_t *members;
    size_t n_members, members_capacity; // bytes
    rot_pack_row *open;
    uint32_t n_open; // records
    size_t open_capacity;
} rot_packer;

// Drops what is open; the next record is that of `row`.
void rot_packer_begin(rot_packer *packer, uint64_t row);
int rot_packer_add(rot_packer *packer, const rot_record *record, rot_err *err);
int rot_packer_flush(rot_packer *packer, rot_err *err); // emits the open block
void rot_packer_free(rot_packer *packer);

// Rows from `row`, the first of a commit unit, to the unit's end.
uint64_t rot_unit_rows(const rot_stage_spec *spec, uint64_t row);

#endif
