// What the files of this module share. A tokenizer is immutable after opening; all that changes
// while encoding belongs to a worker.
#ifndef ROT_TOKENIZER_INTERNAL_H
#define ROT_TOKENIZER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "rotoscope/tokenizer.h"

typedef struct tok_span {
    const char *text;
    size_t n_bytes;
} tok_span;

// ---- unicode.c: classes of code points as Hugging Face's parts see them (unicode_runs.inc)

enum {
    TOK_LETTER = 1, // \p{L}
    TOK_NUMBER = 2, // \p{N}
    TOK_SPACE = 4,  // \s, White_Space
    TOK_NFC = 8,    // NFC may change it or what stands before it
    TOK_WORD = 16,  // \w of Rust's regex: decides about single_word tokens
    TOK_NEW = 32    // letter or number that Unicode 14 does not know
};
enum { TOK_MAX_CODE_POINT = 0x10ffff, TOK_CLASS_PAGE = 256 };

typedef struct tok_unicode {
    uint16_t *pages;    // code point / 256 -> block
    uint8_t *blocks;    // (blocks, 256) classes
    uint8_t ascii[256]; // classes of the first 128; 0x80 for every byte of a longer sequence
} tok_unicode;

int tok_unicode_open(tok_unicode *unicode, rot_err *err);
void tok_unicode_close(tok_unicode *unicode);
// The i-th run of equal classes: its first code point and classes; false after the last.
bool tok_unicode_run(size_t i, uint32_t *first, uint32_t *classes);

static inline uint8_t tok_class(const tok_unicode *unicode, uint32_t code_point)
{
    return unicode->blocks[(size_t)unicode->pages[code_point / TOK_CLASS_PAGE] * TOK_CLASS_PAGE +
                           code_point % TOK_CLASS_PAGE];
}

// The code point at `s`, which is the start of one in valid UTF-8, and its length.
static inline uint32_t tok_decode(const char *s, size_t *n_bytes)
{
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80) return *n_bytes = 1, u[0];
    if (u[0] < 0xe0) return *n_bytes = 2, (u[0] & 0x1fu) << 6 | (u[1] & 0x3fu);
    if (u[0] < 0xf0)
        return *n_bytes = 3, (u[0] & 0xfu) << 12 | (u[1] & 0x3fu) << 6 | (u[2] & 0x3fu);
    *n_bytes = 4;
    return (u[0] & 7u) << 18 | (u[1] & 0x3fu) << 12 | (u[2] & 0x3fu) << 6 | (u[3] & 0x3fu);
}

// ---- pattern.c: the regular expression of a Split, run by PCRE2

typedef struct tok_pattern tok_pattern;             // compiled, shared
typedef struct tok_pattern_state tok_pattern_state; // match data and stack of one worker

// ROT_ERR_UNSUPPORTED: a construct that means something else to PCRE2 than to Oniguruma, named with
// its offset. ROT_ERR_MISSING: no regular expression.
int tok_pattern_open(tok_span pattern, const tok_unicode *unicode, tok_pattern **out, rot_err *err);
void tok_pattern_close(tok_pattern **pattern);
int tok_pattern_state_open(const tok_pattern *pattern, tok_pattern_state **out, rot_err *err);
void tok_pattern_state_close(tok_pattern_state **state);
// The first match that is not empty at or after `at`: its start and end; n_bytes twice if there is
// none.
int tok_pattern_next(const tok_pattern *pattern, tok_pattern_state *state, tok_span text, size_t at,
                     size_t *start, size_t *end, rot_err *err);

// ---- scan.c: pre-tokenization, text to words

typedef enum tok_scanner { TOK_SCAN_QWEN, TOK_SCAN_GPT2, TOK_SCAN_PATTERN } tok_scanner;

typedef struct tok_step {
    tok_scanner scanner;
    char *source; // the regular expression
    size_t n_source;
    tok_pattern *pattern; // TOK_SCAN_PATTERN
} tok_step;

enum { TOK_MAX_STEPS = 8 };
extern const char tok_gpt2_pattern[];

// Chooses the hand-written scanner if `source` is exactly its pattern.
int tok_step_open(tok_span source, const tok_unicode *unicode, tok_step *out, rot_err *err);
void tok_step_close(tok_step *step);
// End of the word that starts at `at` (< n_bytes) of valid UTF-8; hand-written scanners only.
size_t tok_scan_qwen(const tok_unicode *unicode, const char *text, size_t n_bytes, size_t at);
size_t tok_scan_gpt2(const tok_unicode *unicode, const char *text, size_t n_bytes, size_t at);

// ---- vocab.c: token strings to ids, pairs to merges

typedef struct tok_token {
    uint32_t text, raw;     // where in tok_model.strings: as in the file; the bytes it stands for
    uint32_t n_text, n_raw; // bytes
} tok_token;                // text == UINT32_MAX: no token has this id

typedef struct tok_strings { // string -> id, open addressing
    uint32_t *slots;         // id + 1; 0: free
    size_t n_slots;
} tok_strings;

typedef struct tok_merge {
    uint64_t pair; // left id << 32 | right id; UINT64_MAX: free
    uint32_t rank, id;
} tok_merge;

typedef struct tok_model {
    tok_token *tokens;      // (n_ids), by id
    size_t n_ids, n_tokens; // n_tokens: without gaps
    char *strings;
    size_t n_strings, strings_capacity; // bytes
    tok_strings by_text;
    tok_merge *merges; // open addressing
    size_t n_merge_slots;
    int32_t byte_ids[256]; // -1: no token, the byte is dropped (as Hugging Face does)
    bool ignore_merges;
} tok_model;

static inline uint64_t tok_hash_pair(uint64_t pair)
{
    pair *= 0x9e3779b97f4a7c15u; // the golden ratio: neighbours spread
    return pair ^ pair >> 29;
}

// The merge of two ids, or NULL.
static inline const tok_merge *tok_find_merge(const tok_model *model, uint32_t left, uint32_t right)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    for (size_t i = tok_hash_pair(pair);; i++) {
        const tok_merge *merge = &model->merges[i & (model->n_merge_slots - 1)];
        if (merge->pair == pair) return merge;
        if (merge->pair == UINT64_MAX) return NULL;
    }
}

// Makes room for ids below n_ids, once.
int tok_model_reserve(tok_model *model, size_t n_ids, rot_err *err);
static inline bool tok_model_has(const tok_model *model, size_t id)
{
    return id < model->n_ids && model->tokens[id].text != UINT32_MAX;
}
// The token `text` gets `id` (< n_ids); both must be new, which the caller has checked.
int tok_model_add(tok_model *model, int32_t id, tok_span text, rot_err *err);
// After the last token: the map of strings, the ids of bytes, room for n_merges.
int tok_model_index(tok_model *model, size_t n_merges, rot_err *err);
// The same pair again takes the place of the earlier one.
void tok_model_merge(tok_model *model, uint32_t left, uint32_t right, uint32_t rank, uint32_t id);
int32_t tok_model_find(const tok_model *model, tok_span text); // -1: none
// The byte-level form of `bytes` into `out` (room for twice as many); returns its length.
size_t tok_byte_level(tok_span bytes, char *out);
void tok_model_close(tok_model *model);
// The byte that a character of the byte-level alphabet stands for, or -1.
int tok_byte_of_char(uint32_t code_point);

// ---- added.c: tokens that are cut out of the text before anything else

typedef struct tok_added {
    char *text;
    size_t n_bytes;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
} tok_added;

typedef struct tok_trie_node {
    int32_t child, sibling, token; // -1: none
    unsigned char byte;
} tok_trie_node;

typedef struct tok_trie {
    tok_trie_node *nodes;
    size_t n_nodes, capacity;
    int32_t first[256]; // node of a first byte, or -1
} tok_trie;

typedef struct tok_added_set {
    tok_added *tokens;
    size_t n_tokens, capacity;
    tok_trie exact, normalized; // looked up before and after normalization
} tok_added_set;

typedef struct tok_cut { // a piece of text, or a token found in it (id >= 0)
    size_t start, end;
    int32_t id;
} tok_cut;

typedef struct tok_cutter { // walks over the cuts of one text
    const tok_added_set *set;
    const tok_trie *trie;
    const tok_unicode *unicode;
    tok_span text;
    size_t at, start_offset;
    tok_cut pending; // a token whose text before it goes first
    bool has_pending;
} tok_cutter;

int tok_added_add(tok_added_set *set, const tok_added *token, rot_err *err); // copies the text
const tok_added *tok_added_find(const tok_added_set *set, tok_span text);
const tok_added *tok_added_by_id(const tok_added_set *set, int32_t id);
// Builds the two tries; `nfc` says whether normalized tokens are normalized themselves.
int tok_added_index(tok_added_set *set, bool nfc, const tok_unicode *unicode, rot_err *err);
void tok_added_close(tok_added_set *set);
void tok_cutter_start(tok_cutter *cutter, const tok_added_set *set, const tok_trie *trie,
                      const tok_unicode *unicode, tok_span text);
bool tok_cutter_next(tok_cutter *cutter, tok_cut *out); // false: no more

// ---- normalize.c: NFC

typedef struct tok_normalizer { // scratch of one worker
    char *text;
    size_t n_text, text_capacity;
    int32_t *code_points;
    size_t code_points_capacity;
} tok_normalizer;

// *out is `in` itself where nothing changes, else text of the normalizer until its next call.
int tok_nfc(tok_normalizer *normalizer, const tok_unicode *unicode, tok_span in, tok_span *out,
            rot_err *err);
void tok_normalizer_close(tok_normalizer *normalizer);

// ---- bpe.c: one word to ids

typedef struct tok_bpe { // scratch of one worker
    struct tok_symbol *symbols;
    size_t symbols_capacity;
    struct tok_candidate *heap;
    size_t n_heap, heap_capacity;
    char *text; // the byte-level form, with ignore_merges
    size_t text_capacity;
    int32_t *ids; // the result
    size_t n_ids, ids_capacity;
} tok_bpe;

// bpe->ids and n_ids; any length in O(n log n).
int tok_bpe_word(tok_bpe *bpe, const tok_model *model, tok_span word, rot_err *err);
void tok_bpe_close(tok_bpe *bpe);

// ---- cache.c: words seen before

typedef struct tok_cache tok_cache;

int tok_cache_open(tok_cache **out, rot_err *err);
void tok_cache_close(tok_cache **cache);
// Ids of the word into `out` (room for TOK_CACHE_MAX_IDS) and their number, or -1 if it is not
// there. `readable`: bytes that may be read at word.text, at least its length.
enum { TOK_CACHE_MAX_WORD = 64, TOK_CACHE_MAX_IDS = 64 };
int tok_cache_get(tok_cache *cache, tok_span word, size_t readable, int32_t *out);
// Remembers it, if there is memory. A full cache forgets everything first.
void tok_cache_put(tok_cache *cache, tok_span word, const int32_t *ids, size_t n_ids);

// ---- tokenizer.c, load.c

struct rot_tokenizer {
    tok_unicode unicode;
    bool nfc, add_prefix_space;
    tok_step steps[TOK_MAX_STEPS];
    size_t n_steps;
    tok_model model;
    tok_added_set added;        // of the file
    tok_added_set layout_added; // and the three tokens of ROT_LAYOUT_ROT
    rot_layout_tokens layout_tokens;
    int32_t size;
    uint8_t hash[32];
};

// Fills model, added, nfc, steps from the JSON text. Messages name `path` and the place in the
// JSON.
int tok_load(rot_tokenizer *tokenizer, const char *path, const char *json, size_t n_bytes,
             rot_err *err);

// ---- encode.c

struct rot_tokenizer_worker {
    const rot_tokenizer *tokenizer;
    tok_pattern_state *states[TOK_MAX_STEPS];
    tok_normalizer normalizer;
    tok_bpe bpe;
    tok_cache *cache;
    char *prefixed; // a piece with a space before it
    size_t prefixed_capacity;
    char *template; // a templated question or answer
    size_t template_capacity;
    int32_t *ids;
    size_t n_ids, ids_capacity;
    char *decoded;
    size_t decoded_capacity;
};

// Appends the ids of `text` to worker->ids; `what` names the text in messages.
int tok_encode(rot_tokenizer_worker *worker, const tok_added_set *added, tok_span text,
               const char *what, rot_err *err);
int tok_push_id(rot_tokenizer_worker *worker, int32_t id, rot_err *err);

#endif
