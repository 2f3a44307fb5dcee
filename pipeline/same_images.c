#include "pipeline/same_images.h"

#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

enum { MOST_ENTRIES = 4096 }; // looked through one after another: microseconds beside a tower

typedef struct entry {
    uint8_t key[ROT_SAME_KEY];
    void *bytes;
    size_t n_bytes;
    uint64_t used; // in time of `clock`
} entry;

struct rot_same {
    size_t budget, n_bytes, n;
    uint64_t clock;
    entry entries[MOST_ENTRIES];
};

void rot_same_key(const rot_record *image, uint8_t out[ROT_SAME_KEY])
{
    uint8_t parts[16 + ROT_SAME_KEY];
    for (int i = 0; i < 4; i++) // little-endian
        for (int b = 0; b < 4; b++) parts[4 * i + b] = (uint8_t)(image->shape[i] >> 8 * b);
    rot_sha256_bytes(image->payload, image->n_bytes, parts + 16);
    rot_sha256_bytes(parts, sizeof parts, out);
}

int rot_same_open(size_t budget_bytes, rot_same **out, rot_err *err)
{
    *out = rot_calloc(1, sizeof **out);
    if (!*out) return rot_no_memory(err, sizeof **out, "same images");
    (*out)->budget = budget_bytes;
    return 0;
}

void rot_same_close(rot_same **same)
{
    if (!*same) return;
    for (size_t i = 0; i < (*same)->n; i++) rot_free((*same)->entries[i].bytes);
    rot_free(*same);
    *same = NULL;
}

const void *rot_same_find(rot_same *same, const uint8_t key[ROT_SAME_KEY], size_t n_bytes)
{
    for (size_t i = 0; i < same->n; i++) {
        entry *e = &same->entries[i];
        if (memcmp(e->key, key, ROT_SAME_KEY) || e->n_bytes != n_bytes) continue;
        e->used = ++same->clock;
        return e->bytes;
    }
    return NULL;
}

static void drop_oldest(rot_same *same)
{
    size_t oldest = 0;
    for (size_t i = 1; i < same->n; i++)
        if (same->entries[i].used < same->entries[oldest].used) oldest = i;
    same->n_bytes -= same->entries[oldest].n_bytes;
    rot_free(same->entries[oldest].bytes);
    same->entries[oldest] = same->entries[--same->n];
}

void rot_same_put(rot_same *same, const uint8_t key[ROT_SAME_KEY], const void *bytes,
                  size_t n_bytes)
{
    if (n_bytes > same->budget) return;
    while (same->n == MOST_ENTRIES || same->n_bytes + n_bytes > same->budget) drop_oldest(same);
    void *copy = rot_malloc(n_bytes ? n_bytes : 1);
    if (!copy) return; // then it is encoded again
    memcpy(copy, bytes, n_bytes);
    entry *e = &same->entries[same->n++];
    *e = (entry){.bytes = copy, .n_bytes = n_bytes, .used = ++same->clock};
    memcpy(e->key, key, ROT_SAME_KEY);
    same->n_bytes += n_bytes;
}
