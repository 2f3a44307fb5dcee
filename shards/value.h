// One value of a shard: a lone record, a block of records, or the trailer; found in a mapped file
// and taken apart without trusting a byte of it.
#ifndef ROT_SHARDS_VALUE_H
#define ROT_SHARDS_VALUE_H

#include "base/fs.h"
#include "shards/codec.h"
#include "shards/format.h"

typedef struct rot_value {
    rot_head head;
    const uint8_t *stored; // in the map
    size_t n_pages;
} rot_value;

// All of these: ROT_ERR_CORRUPT with the cause alone.
int rot_value_at(const rot_map *map, uint64_t page, rot_value *out, rot_err *err);
// The rest of the value's last page is zero.
int rot_value_check_padding(const rot_map *map, uint64_t page, const rot_value *value,
                            rot_err *err);

// A block's members, decompressed: in the map, or in `buffer`.
int rot_block_open(const rot_value *value, rot_codecs *codecs, rot_buffer *buffer, const uint8_t
                   **members, rot_err *err);
// The block's own hash.
int rot_block_check(const rot_head *head, const uint8_t *members, rot_err *err);
uint64_t rot_block_first_row(const rot_head *head);

// The member at *at of a block's n bytes; advances *at.
int rot_member_next(const uint8_t *members, size_t n, size_t *at, rot_head *head, const uint8_t
                    **stored, rot_err *err);

// A record from its header and stored bytes: checked against its hash. The payload is where the
// stored bytes are, or in `buffer`.
int rot_record_open(const rot_head *head, const uint8_t *stored, rot_codecs *codecs, rot_buffer
                    *buffer, rot_record *out, rot_err *err);

#endif
