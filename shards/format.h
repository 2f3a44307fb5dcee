// The bytes of a shard (schemas/FORMAT.md): constants, the 48-byte header, the 64-byte seal of a
// value.
#ifndef ROT_SHARDS_FORMAT_H
#define ROT_SHARDS_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "rotoscope/store.h"

enum {
    ROT_PAGE = 4096,     // LMDB's page, whatever the machine's is
    ROT_PAGE_HEAD = 16,  // LMDB's header of a page
    ROT_HEAD = 48,       // ours, of a record, a block or a trailer
    ROT_FIRST_PAGE = 2,  // of values; pages 0 and 1 are LMDB's meta pages
    ROT_SEAL = 64,       // what the trailer's data hash covers, per value
    ROT_TRAILER_HEAD = 96,
    ROT_NOTE_AT = 256,   // in page 0: which shard of which stage this file is
    ROT_NOTE = 64,
    ROT_VERSION_BYTE = 1,
    ROT_KIND_BLOCK = 5,
    ROT_KIND_TRAILER = 6
};

#define ROT_MAGIC UINT32_C(0x31544f52) // "ROT1"
#define ROT_TRAILER_KEY UINT64_MAX
#define ROT_MAX_LOGICAL (UINT32_C(1) << 30) // of a record or a block

typedef struct rot_head {
    uint8_t kind, dtype, codec;
    uint32_t shape[4];
    uint32_t n_logical, n_stored; // bytes after the header, before and after compression
    uint8_t hash[16];             // of the logical content
} rot_head;

void rot_head_write(const rot_head *head, uint8_t out[ROT_HEAD]);
// Checks magic, version, kind, dtype, codec and that shape and lengths fit each other.
// ROT_ERR_CORRUPT with the cause alone.
int rot_head_read(const uint8_t in[ROT_HEAD], rot_head *out, rot_err *err);
// Kind, dtype and shape against n_bytes; the same for what is written and what is read.
int rot_record_check(const rot_record *record, int code, rot_err *err);

// Header, then XXH3-128 of the stored bytes if they are compressed (else the header's hash covers
// them).
void rot_value_seal(const rot_head *head, const void *stored, uint8_t out[ROT_SEAL]);

// Small records are gathered until a block holds this much before compression; larger ones stand
// alone.
size_t rot_block_bytes(const char *stage);
// SHA-256(fingerprint, codec, shard_samples, commit_samples): names the folder, binds the shards to
// it.
void rot_layout_digest(const rot_stage_spec *spec, uint8_t out[32]);
// The note in page 0: 32 characters "rotoscope shard N", then SHA-256(stage, layout digest, rows,
// shard).
void rot_shard_note(const rot_stage_spec *spec, uint32_t shard, uint8_t out[ROT_NOTE]);
void rot_shard_name(uint32_t shard, char out[32]); // "shard-00000.mdb"

static inline size_t rot_value_pages(uint32_t n_stored)
{
    return ((size_t)ROT_PAGE_HEAD + ROT_HEAD + n_stored + ROT_PAGE - 1) / ROT_PAGE;
}

static inline size_t rot_pad16(size_t n)
{
    return (n + 15) / 16 * 16;
}

static inline void rot_put16(uint8_t *at, uint16_t v)
{
    for (int i = 0; i < 2; i++) at[i] = (uint8_t)(v >> 8 * i);
}

static inline void rot_put32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(v >> 8 * i);
}

static inline void rot_put64(uint8_t *at, uint64_t v)
{
    for (int i = 0; i < 8; i++) at[i] = (uint8_t)(v >> 8 * i);
}

static inline uint16_t rot_get16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static inline uint32_t rot_get32(const uint8_t *at)
{
    return (uint32_t)rot_get16(at) | (uint32_t)rot_get16(at + 2) << 16;
}

static inline uint64_t rot_get64(const uint8_t *at)
{
    return (uint64_t)rot_get32(at) | (uint64_t)rot_get32(at + 4) << 32;
}

#endif
