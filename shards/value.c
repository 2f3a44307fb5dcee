#include "shards/value.h"

#include <string.h>

#include "base/err.h"
#include "shards/tree.h"

int rot_value_at(const rot_map *map, uint64_t page, rot_value *out, rot_err *err)
{
    uint64_t pages = map->n_bytes / ROT_PAGE;
    if (page < ROT_FIRST_PAGE || page >= pages)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "value at page %llu, outside of the file",
                 (unsigned long long)page);
    const uint8_t *at = map->bytes + page * ROT_PAGE;
    ROT_TRY(rot_head_read(at + ROT_PAGE_HEAD, &out->head, err));
    out->stored = at + ROT_PAGE_HEAD + ROT_HEAD;
    out->n_pages = rot_value_pages(out->head.n_stored);
    if (out->n_pages > pages - page)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "value of %u bytes reaches beyond the file",
                 out->head.n_stored);
    uint8_t expected[ROT_PAGE_HEAD];
    rot_tree_overflow_head(page, (uint32_t)out->n_pages, expected);
    if (memcmp(at, expected, ROT_PAGE_HEAD) != 0)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "damaged header of page %llu", (unsigned long long)page);
    return 0;
}

int rot_value_check_padding(const rot_map *map, uint64_t page, const rot_value *value, rot_err *err)
{
    const uint8_t *at = value->stored + value->head.n_stored;
    const uint8_t *end = map->bytes + (page + value->n_pages) * ROT_PAGE;
    for (; at < end; at++)
        if (*at)
            ROT_FAIL(err, ROT_ERR_CORRUPT, "a byte behind the value at page %llu is not zero",
                     (unsigned long long)page);
    return 0;
}

int rot_block_open(const rot_value *value, rot_codecs *codecs, rot_buffer *buffer,
                   const uint8_t **members, rot_err *err)
{
    const rot_head *head = &value->head;
    if (head->codec == ROT_CODEC_NONE) {
        *members = value->stored;
        return 0;
    }
    ROT_TRY(rot_buffer_reserve(buffer, head->n_logical, err));
    ROT_TRY(rot_codec_decode(codecs, head->codec, value->stored, head->n_stored, buffer->bytes,
                             head->n_logical, err));
    *members = buffer->bytes;
    return 0;
}

int rot_block_check(const rot_head *head, const uint8_t *members, rot_err *err)
{
    rot_record block = {.kind = (rot_kind)head->kind,
                        .dtype = head->dtype,
                        .payload = members,
                        .n_bytes = head->n_logical};
    memcpy(block.shape, head->shape, sizeof block.shape);
    uint8_t hash[16];
    rot_record_hash(&block, hash);
    if (memcmp(hash, head->hash, 16) != 0)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "a block does not fit its hash");
    return 0;
}

uint64_t rot_block_first_row(const rot_head *head)
{
    return head->shape[1] | (uint64_t)head->shape[2] << 32;
}

int rot_member_next(const uint8_t *members, size_t n, size_t *at, rot_head *head,
                    const uint8_t **stored, rot_err *err)
{
    if (n - *at < ROT_HEAD) ROT_FAIL(err, ROT_ERR_CORRUPT, "a block ends within a header");
    ROT_TRY(rot_head_read(members + *at, head, err));
    if (head->kind == ROT_KIND_BLOCK || head->kind == ROT_KIND_TRAILER)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "a block within a block");
    size_t size = rot_pad16((size_t)ROT_HEAD + head->n_stored);
    if (n - *at < size) ROT_FAIL(err, ROT_ERR_CORRUPT, "a block ends within a record");
    *stored = members + *at + ROT_HEAD;
    *at += size;
    return 0;
}

int rot_record_open(const rot_head *head, const uint8_t *stored, rot_codecs *codecs,
                    rot_buffer *buffer, rot_record *out, rot_err *err)
{
    rot_record record = {.kind = head->kind, .dtype = head->dtype, .n_bytes = head->n_logical};
    memcpy(record.shape, head->shape, sizeof record.shape);
    record.payload = stored;
    if (head->codec != ROT_CODEC_NONE) {
        ROT_TRY(rot_buffer_reserve(buffer, head->n_logical, err));
        ROT_TRY(rot_codec_decode(codecs, head->codec, stored, head->n_stored, buffer->bytes,
                                 head->n_logical, err));
        record.payload = buffer->bytes;
    }
    uint8_t hash[16];
    rot_record_hash(&record, hash);
    if (memcmp(hash, head->hash, 16) != 0)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "the record does not fit its hash");
    *out = record;
    return 0;
}
