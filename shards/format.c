#include "shards/format.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

static void hash_prefix(uint32_t kind, uint32_t dtype, const uint32_t shape[4], uint8_t out[24])
{
    rot_put32(out, kind);
    rot_put32(out + 4, dtype);
    for (int i = 0; i < 4; i++) rot_put32(out + 8 + 4 * i, shape[i]);
}

void rot_record_hash(const rot_record *record, uint8_t out[16])
{
    uint8_t prefix[24];
    hash_prefix(record->kind, record->dtype, record->shape, prefix);
    rot_xxh128_two(prefix, sizeof prefix, record->payload ? record->payload : prefix,
                   record->n_bytes, out);
}

void rot_head_write(const rot_head *head, uint8_t out[ROT_HEAD])
{
    rot_put32(out, ROT_MAGIC);
    out[4] = ROT_VERSION_BYTE;
    out[5] = head->kind;
    out[6] = head->dtype;
    out[7] = head->codec;
    for (int i = 0; i < 4; i++) rot_put32(out + 8 + 4 * i, head->shape[i]);
    rot_put32(out + 24, head->n_logical);
    rot_put32(out + 28, head->n_stored);
    memcpy(out + 32, head->hash, 16);
}

static const unsigned dtype_bytes[] = {
    [ROT_DTYPE_U8] = 1, [ROT_DTYPE_BF16] = 2, [ROT_DTYPE_F32] = 4, [ROT_DTYPE_I32] = 4};

// Bytes that kind, dtype and shape call for; -1: they do not go together.
static int64_t expected_bytes(const rot_record *r)
{
    const uint32_t *s = r->shape;
    uint64_t n = 0;
    switch ((int)r->kind) {
    case ROT_KIND_TOKENS:
        if (r->dtype != ROT_DTYPE_I32) return -1;
        n = 4 * ((uint64_t)s[0] + s[1] + s[2]) + 16 + s[3];
        break;
    case ROT_KIND_IMAGE:
        if (r->dtype != ROT_DTYPE_U8 || (s[2] != 1 && s[2] != 3) || s[3]) return -1;
        n = (uint64_t)s[0] * s[1];
        if (n <= ROT_MAX_LOGICAL) n *= s[2];
        break;
    case ROT_KIND_EMBEDS:
        if (r->dtype != ROT_DTYPE_BF16 && r->dtype != ROT_DTYPE_F32) return -1;
        n = (uint64_t)s[0] * s[1];
        if (n <= ROT_MAX_LOGICAL) n *= dtype_bytes[r->dtype];
        break;
    case ROT_KIND_TOMBSTONE:
        if (r->dtype != ROT_DTYPE_U8 || s[1] || s[2] || s[3]) return -1;
        n = s[0];
        break;
    default: return -1;
    }
    return n <= ROT_MAX_LOGICAL ? (int64_t)n : INT64_MAX;
}

int rot_record_check(const rot_record *record, int code, rot_err *err)
{
    int64_t n = expected_bytes(record);
    const uint32_t *s = record->shape;
    if (n < 0)
        ROT_FAIL(err, code, "a record of kind %d cannot have dtype %d and shape {%u, %u, %u, %u}",
                 (int)record->kind, (int)record->dtype, s[0], s[1], s[2], s[3]);
    if (n > ROT_MAX_LOGICAL || record->n_bytes > ROT_MAX_LOGICAL)
        ROT_FAIL(err, code == ROT_ERR_CORRUPT ? code : ROT_ERR_TOO_LARGE,
                 "a record of kind %d and shape {%u, %u, %u, %u} is larger than %u bytes",
                 (int)record->kind, s[0], s[1], s[2], s[3], ROT_MAX_LOGICAL);
    if ((uint64_t)n != record->n_bytes)
        ROT_FAIL(err, code,
                 "a record of kind %d and shape {%u, %u, %u, %u} has %zu bytes instead of %lld",
                 (int)record->kind, s[0], s[1], s[2], s[3], record->n_bytes, (long long)n);
    return 0;
}

int rot_head_read(const uint8_t in[ROT_HEAD], rot_head *out, rot_err *err)
{
    if (rot_get32(in) != ROT_MAGIC) ROT_FAIL(err, ROT_ERR_CORRUPT, "no record header (magic)");
    if (in[4] != ROT_VERSION_BYTE)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "record header of version %d", in[4]);
    *out = (rot_head){.kind = in[5], .dtype = in[6], .codec = in[7]};
    for (int i = 0; i < 4; i++) out->shape[i] = rot_get32(in + 8 + 4 * i);
    out->n_logical = rot_get32(in + 24);
    out->n_stored = rot_get32(in + 28);
    memcpy(out->hash, in + 32, 16);
    if (out->codec > ROT_CODEC_ZSTD_BF16)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "unknown codec %d", out->codec);
    if (out->n_logical > ROT_MAX_LOGICAL || out->n_stored > ROT_MAX_LOGICAL ||
        (out->codec == ROT_CODEC_NONE) != (out->n_logical == out->n_stored))
        ROT_FAIL(err, ROT_ERR_CORRUPT, "lengths %u and %u do not fit codec %d", out->n_logical,
                 out->n_stored, out->codec);
    if (out->kind == ROT_KIND_BLOCK || out->kind == ROT_KIND_TRAILER) {
        if (out->dtype != ROT_DTYPE_U8 || out->codec == ROT_CODEC_ZSTD_BF16)
            ROT_FAIL(err, ROT_ERR_CORRUPT, "block header with dtype %d, codec %d", out->dtype,
                     out->codec);
        return 0;
    }
    if (out->codec == ROT_CODEC_ZSTD_BF16 && out->dtype != ROT_DTYPE_BF16)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "codec zstd-bf16 with dtype %d", out->dtype);
    rot_record record = {.kind = out->kind, .dtype = out->dtype, .n_bytes = out->n_logical};
    memcpy(record.shape, out->shape, sizeof record.shape);
    return rot_record_check(&record, ROT_ERR_CORRUPT, err);
}

void rot_value_seal(const rot_head *head, const void *stored, uint8_t out[ROT_SEAL])
{
    rot_head_write(head, out);
    if (head->codec == ROT_CODEC_NONE)
        memset(out + ROT_HEAD, 0, 16);
    else
        rot_xxh128_bytes(stored, head->n_stored, out + ROT_HEAD);
}

size_t rot_block_bytes(const char *stage)
{
    // A line of 98 characters is 33 KB of pixels and some 500 bytes of zstd: a block of 64 KiB
    // would leave three quarters of its page empty (docs/store.md has the measurement).
    return strcmp(stage, "images") == 0 ? 3 << 19 : 1 << 16;
}

void rot_layout_digest(const rot_stage_spec *spec, uint8_t out[32])
{
    uint8_t bytes[44];
    memcpy(bytes, spec->fingerprint, 32);
    rot_put32(bytes + 32, spec->layout.codec);
    rot_put32(bytes + 36, spec->layout.shard_samples);
    rot_put32(bytes + 40, spec->layout.commit_samples);
    rot_sha256_bytes(bytes, sizeof bytes, out);
}

void rot_stage_folder(const rot_stage_spec *spec, char out[64])
{
    uint8_t digest[32];
    char hex[17];
    rot_layout_digest(spec, digest);
    rot_hex(digest, 8, hex);
    snprintf(out, 64, "%.15s-%s", spec->stage, hex);
}

void rot_shard_note(const rot_stage_spec *spec, uint32_t shard, uint8_t out[ROT_NOTE])
{
    uint8_t bytes[60] = {0};
    memset(out, 0, ROT_NOTE);
    snprintf((char *)out, 32, "rotoscope shard %u", shard);
    snprintf((char *)bytes, 16, "%s", spec->stage);
    rot_layout_digest(spec, bytes + 16);
    rot_put64(bytes + 48, spec->rows);
    rot_put32(bytes + 56, shard);
    rot_sha256_bytes(bytes, sizeof bytes, out + 32);
}

void rot_shard_name(uint32_t shard, char out[32])
{
    snprintf(out, 32, "shard-%05u.mdb", shard);
}

void rot_shard_range(const rot_stage_spec *spec, uint32_t shard, uint64_t *first, uint64_t *n)
{
    uint64_t per = spec->layout.shard_samples, from = shard * per;
    if (from > spec->rows) from = spec->rows;
    *first = from;
    *n = spec->rows - from < per ? spec->rows - from : per;
}

uint32_t rot_shard_count(const rot_stage_spec *spec)
{
    uint64_t per = spec->layout.shard_samples;
    return per ? (uint32_t)((spec->rows + per - 1) / per) : 0;
}
