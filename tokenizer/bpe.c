// Byte pair encoding of one word: again and again the adjacent pair with the lowest rank is joined,
// the leftmost where ranks are equal (tokenizers, models/bpe/word.rs: merge_all).
#include "tokenizer/internal.h"

typedef struct tok_symbol {
    uint32_t id, rank;       // rank of the merge with the next symbol; NO_MERGE: none
    uint32_t merged;         // the id that this merge gives
    uint32_t previous, next; // linked list of long words
} tok_symbol;

typedef struct tok_candidate { // ordered by rank, then position
    uint32_t rank, at;
} tok_candidate;

enum { SHORT_WORD = 48 }; // symbols; above it a heap beats looking at all pairs each time
static const uint32_t NO_MERGE = UINT32_MAX, NO_SYMBOL = UINT32_MAX;

static inline void rate(const tok_model *model, tok_symbol *left, uint32_t right)
{
    const tok_merge *merge = tok_find_merge(model, left->id, right);
    left->rank = merge ? merge->rank : NO_MERGE;
    left->merged = merge ? merge->id : 0;
}

static size_t merge_short(const tok_model *model, tok_symbol *s, size_t n)
{
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (s[i].rank < s[best].rank) best = i;
        if (s[best].rank == NO_MERGE) break;
        s[best].id = s[best].merged;
        memmove(s + best + 1, s + best + 2, (n - best - 2) * sizeof *s);
        n--;
        if (best + 1 < n)
            rate(model, &s[best], s[best + 1].id);
        else
            s[best].rank = NO_MERGE;
        if (best) rate(model, &s[best - 1], s[best].id);
    }
    return n;
}

static bool before(tok_candidate a, tok_candidate b)
{
    return a.rank < b.rank || (a.rank == b.rank && a.at < b.at);
}

static int push(tok_bpe *bpe, tok_candidate candidate, rot_err *err)
{
    ROT_TRY(rot_grow(&bpe->heap, &bpe->heap_capacity, bpe->n_heap + 1, sizeof *bpe->heap, err));
    size_t i = bpe->n_heap++;
    for (; i && before(candidate, bpe->heap[(i - 1) / 2]); i = (i - 1) / 2)
        bpe->heap[i] = bpe->heap[(i - 1) / 2];
    bpe->heap[i] = candidate;
    return 0;
}

static tok_candidate pop(tok_bpe *bpe)
{
    tok_candidate top = bpe->heap[0], last = bpe->heap[--bpe->n_heap];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < bpe->n_heap) {
        if (child + 1 < bpe->n_heap && before(bpe->heap[child + 1], bpe->heap[child])) child++;
        if (!before(bpe->heap[child], last)) break;
        bpe->heap[i] = bpe->heap[child];
        i = child;
    }
    bpe->heap[i] = last;
    return top;
}

static int rate_and_push(tok_bpe *bpe, const tok_model *model, uint32_t at, rot_err *err)
{
    tok_symbol *s = bpe->symbols;
    if (s[at].next == NO_SYMBOL) {
        s[at].rank = NO_MERGE;
        return 0;
    }
    rate(model, &s[at], s[s[at].next].id);
    return s[at].rank == NO_MERGE ? 0 : push(bpe, (tok_candidate){s[at].rank, at}, err);
}

// A candidate is stale when its symbol is gone or has another neighbour since: then its rank
// differs.
static int merge_long(tok_bpe *bpe, const tok_model *model, size_t n, rot_err *err)
{
    tok_symbol *s = bpe->symbols;
    bpe->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        s[i].previous = i ? i - 1 : NO_SYMBOL;
        s[i].next = i + 1 < n ? i + 1 : NO_SYMBOL;
        if (s[i].rank != NO_MERGE) ROT_TRY(push(bpe, (tok_candidate){s[i].rank, i}, err));
    }
    while (bpe->n_heap) {
        tok_candidate c = pop(bpe);
        if (s[c.at].rank != c.rank) continue;
        uint32_t gone = s[c.at].next;
        s[c.at].id = s[c.at].merged;
        s[c.at].next = s[gone].next;
        s[gone].rank = NO_MERGE;
        if (s[gone].next != NO_SYMBOL) s[s[gone].next].previous = c.at;
        ROT_TRY(rate_and_push(bpe, model, c.at, err));
        if (s[c.at].previous != NO_SYMBOL)
            ROT_TRY(rate_and_push(bpe, model, s[c.at].previous, err));
    }
    return 0;
}

int tok_bpe_word(tok_bpe *bpe, const tok_model *model, tok_span word, rot_err *err)
{
    if (word.n_bytes >= UINT32_MAX)
        ROT_FAIL(err, ROT_ERR_INPUT, "a word of %zu bytes", word.n_bytes);
    ROT_TRY(rot_grow(&bpe->ids, &bpe->ids_capacity, word.n_bytes, sizeof *bpe->ids, err));
    if (model->ignore_merges) {
        ROT_TRY(rot_grow(&bpe->text, &bpe->text_capacity, 2 * word.n_bytes + 4, 1, err));
        bpe->ids[0] = tok_model_find(model, (tok_span){bpe->text, tok_byte_level(word, bpe->text)});
        bpe->n_ids = 1;
        if (bpe->ids[0] >= 0) return 0;
    }
    ROT_TRY(
        rot_grow(&bpe->symbols, &bpe->symbols_capacity, word.n_bytes, sizeof *bpe->symbols, err));
    tok_symbol *s = bpe->symbols;
    size_t n = 0;
    for (size_t i = 0; i < word.n_bytes; i++) {
        int32_t id = model->byte_ids[(unsigned char)word.text[i]];
        if (id >= 0) s[n++].id = (uint32_t)id;
    }
    for (size_t i = 0; i + 1 < n; i++) rate(model, &s[i], s[i + 1].id);
    if (n) s[n - 1].rank = NO_MERGE;
    bpe->n_ids = 0;
    if (n <= SHORT_WORD) {
        n = merge_short(model, s, n);
        for (size_t i = 0; i < n; i++) bpe->ids[bpe->n_ids++] = (int32_t)s[i].id;
        return 0;
    }
    ROT_TRY(merge_long(bpe, model, n, err));
    for (uint32_t i = 0; i != NO_SYMBOL; i = s[i].next) bpe->ids[bpe->n_ids++] = (int32_t)s[i].id;
    return 0;
}

void tok_bpe_close(tok_bpe *bpe)
{
    rot_free(bpe->symbols);
    rot_free(bpe->heap);
    rot_free(bpe->text);
    rot_free(bpe->ids);
    *bpe = (tok_bpe){0};
}
