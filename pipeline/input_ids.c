#include "pipeline/input_ids.h"

#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

static const uint8_t free_slot[16];

static size_t slot_of(const rot_ids *ids, const uint8_t hash[16])
{
    uint64_t start;
    memcpy(&start, hash, 8);
    size_t i = (size_t)start & (ids->capacity - 1);
    while (memcmp(ids->hashes[i], free_slot, 16) && memcmp(ids->hashes[i], hash, 16))
        i = (i + 1) & (ids->capacity - 1);
    return i;
}

static int grow(rot_ids *ids, rot_err *err)
{
    rot_ids larger = {.capacity = ids->capacity ? 2 * ids->capacity : 1024, .n = ids->n};
    larger.hashes = rot_calloc(larger.capacity, 16);
    if (!larger.hashes) return rot_no_memory(err, 16 * larger.capacity, "ids");
    for (size_t i = 0; i < ids->capacity; i++)
        if (memcmp(ids->hashes[i], free_slot, 16))
            memcpy(larger.hashes[slot_of(&larger, ids->hashes[i])], ids->hashes[i], 16);
    rot_free(ids->hashes);
    *ids = larger;
    return 0;
}

int rot_ids_add(rot_ids *ids, const char *id, size_t n_bytes, bool *added, rot_err *err)
{
    uint8_t hash[16];
    if (4 * (ids->n + 1) > 3 * ids->capacity) ROT_TRY(grow(ids, err));
    rot_xxh128_bytes(id, n_bytes, hash);
    if (!memcmp(hash, free_slot, 16)) hash[0] = 1;
    size_t i = slot_of(ids, hash);
    *added = !memcmp(ids->hashes[i], free_slot, 16);
    if (!*added) return 0;
    memcpy(ids->hashes[i], hash, 16);
    ids->n++;
    return 0;
}

void rot_ids_free(rot_ids *ids)
{
    rot_free(ids->hashes);
    *ids = (rot_ids){0};
}
