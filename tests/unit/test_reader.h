// What the tests of the reader and of export share: numbers that follow from the row, and datasets
// of them.
#ifndef ROT_TEST_READER_H
#define ROT_TEST_READER_H

#include "test_shards.h"

#include "rotoscope/reader.h"

enum { D = 8, ROWS = 700, SKIP = 9 };

static inline bool skipped(uint64_t row, bool with_skips)
{
    return with_skips && row % SKIP == 4;
}

static inline uint32_t k_of(uint64_t row)
{
    if (row % 50 == 7) return 5000; // 80,000 bytes: a record of its own
    return (uint32_t)(mix(row) % 90);
}

static inline uint16_t number(uint64_t row, uint64_t i)
{
    return (uint16_t)(0x3c00 + (mix(row * 131071 + i) & 0x81ff));
}

static uint16_t numbers[5000 * D];

static inline rot_record embeds_of(uint64_t row)
{
    uint32_t k = k_of(row);
    for (uint64_t i = 0; i < (uint64_t)k * D; i++) numbers[i] = number(row, i);
    return (rot_record){.kind = ROT_KIND_EMBEDS,
                        .dtype = ROT_DTYPE_BF16,
                        .shape = {k, D, 2, k * 2},
                        .payload = numbers,
                        .n_bytes = (size_t)k * D * 2};
}

static inline rot_record tokens_of(uint64_t row)
{
    static uint8_t payload[256];
    char id[32], question[64];
    int32_t ids[6] = {(int32_t)row, 2, 3, 4, 5, 6};
    int n_id = snprintf(id, sizeof id, "id-%llu", (unsigned long long)row);
    int n_question = snprintf(question, sizeof question, "what is %llu?", (unsigned long long)row);
    uint32_t n[4] = {(uint32_t)n_id, (uint32_t)n_question, 5, 2};
    uint8_t *at = payload;
    memcpy(at, ids, 24);
    memcpy(at += 24, n, 16);
    memcpy(at += 16, id, n[0]);
    memcpy(at += n[0], question, n[1]);
    memcpy(at += n[1], "trace", 5);
    memcpy(at += 5, "42", 2);
    return (rot_record){.kind = ROT_KIND_TOKENS,
                        .dtype = ROT_DTYPE_I32,
                        .shape = {3, 2, 1, n[0] + n[1] + 7},
                        .payload = payload,
                        .n_bytes = (size_t)(at + 2 - payload)};
}

static inline rot_record tombstone(void)
{
    return (rot_record){.kind = ROT_KIND_TOMBSTONE, .shape = {3}, .payload = "bad", .n_bytes = 3};
}

static inline void write_made(const char *dir, const rot_stage_spec *spec, bool with_skips,
                              bool tokens, uint8_t root[32])
{
    for (uint32_t shard = 0; shard < rot_shard_count(spec); shard++) {
        rot_shard_writer *writer;
        uint64_t first, n, row;
        rot_shard_range(spec, shard, &first, &n);
        OK(rot_shard_writer_open(dir, spec, shard, NULL, &writer, &row, &err));
        for (; row < first + n; row++) {
            rot_record record = skipped(row, with_skips) ? tombstone()
                                : tokens                 ? tokens_of(row)
                                                         : embeds_of(row);
            OK(rot_shard_writer_append(writer, row, &record, &err));
        }
        OK(rot_shard_writer_publish(&writer, &err));
    }
    OK(rot_stage_finish(dir, spec, root, &err));
}

static bool lie_about_root; // the dataset file then names another root of its embeds

// A root with a dataset NAME.json of one split, tokens and embeds.
static inline void write_dataset(const char *name, rot_codec codec, bool with_skips, uint64_t rows)
{
    char dirs[2][300], folders[2][64], hex[4][65], json[2048], path[64];
    static const char *const names[] = {"tokens", "embeds"};
    rot_stage_root roots[2] = {{"train", "tokens", {0}}, {"train", "embeds", {0}}};
    uint64_t n_skipped = 0;
    for (uint64_t row = 0; row < rows; row++) n_skipped += skipped(row, with_skips);
    for (int i = 0; i < 2; i++) {
        rot_stage_spec spec = spec_of(names[i], i ? codec : ROT_CODEC_ZSTD, 256, 64, rows);
        spec.fingerprint[0] = (uint8_t)(name[0] + codec);
        spec.fingerprint[1] = with_skips;
        rot_stage_folder(&spec, folders[i]);
        snprintf(dirs[i], sizeof dirs[i], "%s/stages/%s", scratch, folders[i]);
        write_made(dirs[i], &spec, with_skips, i == 0, roots[i].root);
        roots[i].root[0] ^= i == 1 && lie_about_root;
        rot_hex(roots[i].root, 32, hex[i]);
        rot_hex(spec.fingerprint, 32, hex[2 + i]);
    }
    uint8_t root[32];
    char root_hex[65];
    rot_dataset_root_hash(roots, 2, root);
    rot_hex(root, 32, root_hex);
    int n = snprintf(
        json, sizeof json,
        "{\"format\": 1, \"name\": \"%s\", \"root\": \"%s\", \"splits\": {\"train\": {\"rows\": "
        "%llu, "
        "\"samples\": %llu, \"skipped\": %llu, \"stages\": {\"tokens\": {\"path\": \"stages/%s\", "
        "\"root\": \"%s\", \"fingerprint\": \"%s\"}, \"embeds\": {\"path\": \"stages/%s\", "
        "\"root\": "
        "\"%s\", \"fingerprint\": \"%s\"}}}}}",
        name, root_hex, (unsigned long long)rows, (unsigned long long)(rows - n_skipped),
        (unsigned long long)n_skipped, folders[0], hex[0], hex[2], folders[1], hex[1], hex[3]);
    snprintf(path, sizeof path, "%s.json", name);
    OK(rot_fs_write_atomic(in_scratch(path), json, (size_t)n, &err));
}

static inline void check_numbers(const uint16_t *got, uint64_t row)
{
    for (uint64_t i = 0; i < (uint64_t)k_of(row) * D; i++)
        if (got[i] != number(row, i))
            fail_msg("row %llu, number %llu", (unsigned long long)row, (unsigned long long)i);
}

#endif
