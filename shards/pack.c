#include "shards/pack.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

void rot_packer_begin(rot_packer *packer, uint64_t row)
{
    packer->next_row = row;
    packer->n_open = 0;
    packer->n_members = 0;
}

void rot_packer_free(rot_packer *packer)
{
    rot_free(packer->members);
    rot_free(packer->open);
    packer->members = NULL;
    packer->open = NULL;
}

uint64_t rot_unit_rows(const rot_stage_spec *spec, uint64_t row)
{
    uint64_t first, n;
    rot_shard_range(spec, (uint32_t)(row / spec->layout.shard_samples), &first, &n);
    uint64_t commit = spec->layout.commit_samples, left = first + n - row;
    uint64_t to_end = commit - (row - first) % commit;
    return to_end < left ? to_end : left;
}

int rot_packer_flush(rot_packer *packer, rot_err *err)
{
    if (packer->n_open == 0) return 0;
    uint64_t row = packer->next_row - packer->n_open;
    rot_record block = {.kind = (rot_kind)ROT_KIND_BLOCK,
                        .shape = {packer->n_open, (uint32_t)row, (uint32_t)(row >> 32), 0},
                        .payload = packer->members,
                        .n_bytes = packer->n_members};
    rot_head head = {.kind = ROT_KIND_BLOCK, .n_logical = (uint32_t)packer->n_members};
    memcpy(head.shape, block.shape, sizeof head.shape);
    rot_record_hash(&block, head.hash);
    bool plain =
        strcmp(packer->spec->stage, "embeds") == 0 && packer->spec->layout.codec != ROT_CODEC_ZSTD;
    const void *stored;
    size_t n_stored;
    rot_codec used;
    ROT_TRY(rot_codec_encode(packer->codecs, plain ? ROT_CODEC_NONE : ROT_CODEC_ZSTD,
                             packer->members, packer->n_members, &used, &stored, &n_stored, err));
    head.codec = (uint8_t)used;
    head.n_stored = (uint32_t)n_stored;
    ROT_TRY(packer->emit(packer->user, &head, stored, packer->open, packer->n_open, err));
    packer->n_open = 0;
    packer->n_members = 0;
    return 0;
}

static int add_member(rot_packer *packer, const rot_head *head, const void *stored, rot_err *err)
{
    size_t size = rot_pad16((size_t)ROT_HEAD + head->n_stored), n = packer->n_members;
    ROT_TRY(rot_grow(&packer->members, &packer->members_capacity, n + size, 1, err));
    ROT_TRY(rot_grow(&packer->open, &packer->open_capacity, packer->n_open + 1,
                     sizeof *packer->open, err));
    uint8_t *at = packer->members + n;
    rot_head_write(head, at);
    if (head->n_stored) memcpy(at + ROT_HEAD, stored, head->n_stored);
    memset(at + ROT_HEAD + head->n_stored, 0, size - ROT_HEAD - head->n_stored);
    rot_pack_row *row = &packer->open[packer->n_open++];
    *row = (rot_pack_row){.kind = (rot_kind)head->kind, .n_bytes = head->n_logical};
    memcpy(row->hash, head->hash, 16);
    packer->n_members = n + size;
    packer->next_row++;
    return 0;
}

// A record that fills a block by itself stands alone, so that it starts at a multiple of 64 in the
// file. No block is open.
static int add_lone(rot_packer *packer, const rot_head *head, const void *stored, rot_err *err)
{
    rot_pack_row row = {.kind = (rot_kind)head->kind, .n_bytes = head->n_logical};
    memcpy(row.hash, head->hash, 16);
    ROT_TRY(packer->emit(packer->user, head, stored, &row, 1, err));
    packer->next_row++;
    return 0;
}

static rot_codec codec_of(const rot_packer *packer, const rot_record *record, bool lone)
{
    rot_codec codec =
        strcmp(packer->spec->stage, "embeds") == 0 ? packer->spec->layout.codec : ROT_CODEC_ZSTD;
    if (codec == ROT_CODEC_ZSTD_BF16)
        return record->kind == ROT_KIND_EMBEDS && record->dtype == ROT_DTYPE_BF16 ? codec
                                                                                  : ROT_CODEC_NONE;
    return lone ? codec : ROT_CODEC_NONE; // a block is compressed as a whole
}

int rot_packer_add(rot_packer *packer, const rot_record *record, rot_err *err)
{
    const void *stored;
    size_t n_stored, n_block = rot_block_bytes(packer->spec->stage);
    rot_codec used;
    bool lone = ROT_HEAD + record->n_bytes >= n_block;
    bool unit_end = rot_unit_rows(packer->spec, packer->next_row) == 1;
    rot_head head = {.kind = (uint8_t)record->kind,
                     .dtype = (uint8_t)record->dtype,
                     .n_logical = (uint32_t)record->n_bytes};
    memcpy(head.shape, record->shape, sizeof head.shape);
    rot_record_hash(record, head.hash);
    if (lone) ROT_TRY(rot_packer_flush(packer, err)); // before the codec's scratch is in use
    ROT_TRY(rot_codec_encode(packer->codecs, codec_of(packer, record, lone), record->payload,
                             record->n_bytes, &used, &stored, &n_stored, err));
    head.codec = (uint8_t)used;
    head.n_stored = (uint32_t)n_stored;
    if (lone) return add_lone(packer, &head, stored, err);
    ROT_TRY(add_member(packer, &head, stored, err));
    return unit_end || packer->n_members >= n_block ? rot_packer_flush(packer, err) : 0;
}
