// Words seen before and their ids: an open-addressing table of one worker, of a fixed size that
// fits the second-level cache. Nearly all words of a trace are in it; a full table is emptied and
// filled anew.
#include "tokenizer/internal.h"

enum { N_ENTRIES = 1 << 16, MAX_ENTRIES = N_ENTRIES / 4 * 3, SHORT_BYTES = 16, INLINE_IDS = 3 };

typedef struct tok_entry {
    uint64_t key[2]; // up to 16 bytes of the word, zeros behind; longer: hash, offset in `bytes`
    int32_t ids[INLINE_IDS]; // more ids: the offset in `more` in ids[0]
    uint8_t n_bytes, n_ids;  // n_bytes 0: free
} tok_entry;

struct tok_cache {
    tok_entry *entries;
    size_t n_entries;
    char *bytes; // of long words
    size_t n_bytes, bytes_capacity;
    int32_t *more; // ids of words that have more than INLINE_IDS
    size_t n_more, more_capacity;
};

int tok_cache_open(tok_cache **out, rot_err *err)
{
    tok_cache *cache = *out = rot_calloc(1, sizeof *cache);
    if (cache) cache->entries = rot_calloc(N_ENTRIES, sizeof *cache->entries);
    if (cache && cache->entries) return 0;
    tok_cache_close(out);
    return rot_no_memory(err, N_ENTRIES * sizeof *cache->entries, "word cache");
}

void tok_cache_close(tok_cache **cache)
{
    if (!*cache) return;
    rot_free((*cache)->entries);
    rot_free((*cache)->bytes);
    rot_free((*cache)->more);
    rot_free(*cache);
    *cache = NULL;
}

// The first n (1 to 16) bytes as two little-endian numbers.
static inline void load_short(tok_span word, size_t readable, uint64_t key[2])
{
    size_t n = word.n_bytes;
    if (readable < SHORT_BYTES || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__) {
        key[0] = key[1] = 0;
        memcpy(key, word.text, n);
        return;
    }
    memcpy(key, word.text, SHORT_BYTES);
    if (n < 8) {
        key[0] &= (UINT64_C(1) << 8 * n) - 1;
        key[1] = 0;
    } else if (n < 16) {
        key[1] &= (UINT64_C(1) << 8 * (n - 8)) - 1;
    }
}

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t h =
        (a ^ (b * 0x9e3779b97f4a7c15u)) * 0xd6e8feb86659fd93u; // odd constants, well spread bits
    return h ^ h >> 32;
}

static uint64_t hash_long(tok_span word)
{
    uint64_t h = word.n_bytes, part;
    size_t i = 0;
    for (; i + 8 <= word.n_bytes; i += 8) {
        memcpy(&part, word.text + i, 8);
        h = mix(h, part);
    }
    part = 0;
    memcpy(&part, word.text + i, word.n_bytes - i);
    return mix(h, part);
}

// The word's entry, or the free one where it would be.
static inline tok_entry *find(tok_cache *cache, tok_span word, size_t readable)
{
    uint64_t key[2] = {0, 0};
    size_t i;
    if (word.n_bytes > SHORT_BYTES) {
        key[0] = hash_long(word);
        for (i = key[0];; i++) {
            tok_entry *e = &cache->entries[i & (N_ENTRIES - 1)];
            if (!e->n_bytes) {
                e->key[0] = key[0];
                return e;
            }
            if (e->n_bytes == word.n_bytes && e->key[0] == key[0] &&
                !memcmp(cache->bytes + e->key[1], word.text, word.n_bytes))
                return e;
        }
    }
    load_short(word, readable, key);
    for (i = mix(key[0], key[1] ^ word.n_bytes);; i++) {
        tok_entry *e = &cache->entries[i & (N_ENTRIES - 1)];
        if (!e->n_bytes) {
            memcpy(e->key, key, sizeof key);
            return e;
        }
        if (e->key[0] == key[0] && e->key[1] == key[1] && e->n_bytes == word.n_bytes) return e;
    }
}

int tok_cache_get(tok_cache *cache, tok_span word, size_t readable, int32_t *out)
{
    if (word.n_bytes > TOK_CACHE_MAX_WORD) return -1;
    const tok_entry *e = find(cache, word, readable);
    if (!e->n_bytes) return -1;
    if (e->n_ids <= INLINE_IDS)
        memcpy(out, e->ids, sizeof e->ids);
    else
        memcpy(out, cache->more + e->ids[0], e->n_ids * sizeof *out);
    return e->n_ids;
}

static void forget_all(tok_cache *cache)
{
    memset(cache->entries, 0, N_ENTRIES * sizeof *cache->entries);
    cache->n_entries = cache->n_bytes = cache->n_more = 0;
}

void tok_cache_put(tok_cache *cache, tok_span word, const int32_t *ids, size_t n_ids)
{
    size_t n = word.n_bytes;
    if (n > TOK_CACHE_MAX_WORD || n_ids > TOK_CACHE_MAX_IDS) return;
    if (cache->n_entries == MAX_ENTRIES) forget_all(cache);
    if (n > SHORT_BYTES &&
        rot_grow(&cache->bytes, &cache->bytes_capacity, cache->n_bytes + n, 1, NULL) < 0)
        return;
    if (n_ids > INLINE_IDS && rot_grow(&cache->more, &cache->more_capacity, cache->n_more + n_ids,
                                       sizeof *cache->more, NULL) < 0)
        return;
    tok_entry *e = find(cache, word, n);
    if (e->n_bytes) return;
    if (n > SHORT_BYTES) {
        memcpy(cache->bytes + cache->n_bytes, word.text, n);
        e->key[1] = cache->n_bytes;
        cache->n_bytes += n;
    }
    if (n_ids > INLINE_IDS) {
        memcpy(cache->more + cache->n_more, ids, n_ids * sizeof *ids);
        e->ids[0] = (int32_t)cache->n_more;
        cache->n_more += n_ids;
    } else {
        memcpy(e->ids, ids, n_ids * sizeof *ids);
    }
    e->n_bytes = (uint8_t)n;
    e->n_ids = (uint8_t)n_ids;
    cache->n_entries++;
}
