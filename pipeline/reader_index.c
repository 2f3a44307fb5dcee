// Index files: derived from one stage, found by its root, made again when anything about them is
// wrong. Not part of the store's format: a stage is whole without them.
//
// 128 bytes of header: magic 8, rows u64, samples u64, words u64, root of the stage 32, XXH3-128 of
// the header up to here and of the words 16, zeros. Then u32 words. All little-endian.
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "pipeline/reader.h"

enum { HEADER = 128, HASHED = 64 };

static uint64_t get64(const unsigned char *at)
{
    uint64_t v;
    memcpy(&v, at, 8);
    return v;
}

static void write_header(const rot_index *index, const char magic[8], const char *root,
                         unsigned char out[HEADER])
{
    const uint64_t numbers[] = {index->rows, index->samples, index->n_words};
    memset(out, 0, HEADER);
    memcpy(out, magic, 8);
    memcpy(out + 8, numbers, 24);
    rot_unhex(root, out + 32, 32);
    rot_xxh128_two(out, HASHED, index->words, 4 * index->n_words, out + HASHED);
}

static bool is_whole(const rot_index *index, const char magic[8], const char *root)
{
    const unsigned char *at = index->map.bytes;
    unsigned char expected[HEADER];
    if (index->n_words != (index->map.n_bytes - HEADER) / 4 ||
        index->map.n_bytes != HEADER + 4 * index->n_words || index->samples > index->rows)
        return false;
    write_header(index, magic, root, expected);
    return memcmp(at, expected, HEADER) == 0;
}

int rot_index_load(const char *path, const char magic[8], const char *root, rot_index **out,
                   rot_err *err)
{
    *out = NULL;
    rot_index *index = rot_calloc(1, sizeof *index);
    if (!index) return rot_no_memory(err, sizeof *index, "index");
    if (rot_fs_map(path, &index->map, NULL) == 0 && index->map.n_bytes >= HEADER) {
        index->rows = get64(index->map.bytes + 8);
        index->samples = get64(index->map.bytes + 16);
        index->n_words = get64(index->map.bytes + 24);
        index->words = (const uint32_t *)(const void *)(index->map.bytes + HEADER);
        if (is_whole(index, magic, root)) {
            *out = index;
            return 0;
        }
    }
    rot_index_free(index);
    return 0;
}

int rot_index_new(uint32_t *words, uint64_t n_words, uint64_t rows, uint64_t samples,
                  rot_index **out, rot_err *err)
{
    rot_index *index = rot_calloc(1, sizeof *index);
    if (!index) {
        rot_free(words);
        return rot_no_memory(err, sizeof *index, "index");
    }
    *index = (rot_index){
        .block = words, .words = words, .n_words = n_words, .rows = rows, .samples = samples};
    *out = index;
    return 0;
}

void rot_index_save(const char *path, const char magic[8], const char *root, const rot_index *index)
{
    size_t n = HEADER + 4 * index->n_words;
    unsigned char *bytes = rot_malloc(n);
    if (!bytes) return;
    write_header(index, magic, root, bytes);
    memcpy(bytes + HEADER, index->words, 4 * index->n_words);
    (void)rot_fs_write_atomic(path, bytes, n, NULL);
    rot_free(bytes);
}

void rot_index_free(rot_index *index)
{
    if (!index) return;
    rot_fs_unmap(&index->map);
    rot_free(index->block);
    rot_free(index);
}
