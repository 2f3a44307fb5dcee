// Added tokens: found leftmost and longest, never inside one another, with the flags of Hugging
// Face (tokenizers, added_vocabulary.rs: find_matches). A match that its flags reject still uses up
// its text.
#include "tokenizer/internal.h"

int tok_added_add(tok_added_set *set, const tok_added *token, rot_err *err)
{
    ROT_TRY(rot_grow(&set->tokens, &set->capacity, set->n_tokens + 1, sizeof *set->tokens, err));
    char *text = rot_strndup(token->text, token->n_bytes);
    if (!text) return rot_no_memory(err, token->n_bytes, "added token");
    set->tokens[set->n_tokens] = *token;
    set->tokens[set->n_tokens++].text = text;
    return 0;
}

const tok_added *tok_added_find(const tok_added_set *set, tok_span text)
{
    for (size_t i = 0; i < set->n_tokens; i++)
        if (set->tokens[i].n_bytes == text.n_bytes &&
            !memcmp(set->tokens[i].text, text.text, text.n_bytes))
            return &set->tokens[i];
    return NULL;
}

const tok_added *tok_added_by_id(const tok_added_set *set, int32_t id)
{
    for (size_t i = 0; i < set->n_tokens; i++)
        if (set->tokens[i].id == id) return &set->tokens[i];
    return NULL;
}

static int new_node(tok_trie *trie, unsigned char byte, int32_t sibling, int32_t *out, rot_err *err)
{
    ROT_TRY(rot_grow(&trie->nodes, &trie->capacity, trie->n_nodes + 1, sizeof *trie->nodes, err));
    trie->nodes[trie->n_nodes] =
        (tok_trie_node){.child = -1, .sibling = sibling, .token = -1, .byte = byte};
    *out = (int32_t)trie->n_nodes++;
    return 0;
}

static int32_t find_child(const tok_trie *trie, int32_t node, unsigned char byte)
{
    int32_t child = trie->nodes[node].child;
    while (child >= 0 && trie->nodes[child].byte != byte) child = trie->nodes[child].sibling;
    return child;
}

static int insert(tok_trie *trie, tok_span text, int32_t token, rot_err *err)
{
    if (!text.n_bytes) return 0;
    unsigned char byte = (unsigned char)text.text[0];
    int32_t node = trie->first[byte];
    if (node < 0) {
        ROT_TRY(new_node(trie, byte, -1, &node, err));
        trie->first[byte] = node;
    }
    for (size_t i = 1; i < text.n_bytes; i++) {
        byte = (unsigned char)text.text[i];
        int32_t child = find_child(trie, node, byte);
        if (child < 0) {
            ROT_TRY(new_node(trie, byte, trie->nodes[node].child, &child, err));
            trie->nodes[node].child = child;
        }
        node = child;
    }
    if (trie->nodes[node].token < 0)
        trie->nodes[node].token = token; // of two with one text, the first
    return 0;
}

int tok_added_index(tok_added_set *set, bool nfc, const tok_unicode *unicode, rot_err *err)
{
    int rc = 0;
    tok_normalizer normalizer = {0};
    for (int byte = 0; byte < 256; byte++)
        set->exact.first[byte] = set->normalized.first[byte] = -1;
    for (size_t i = 0; i < set->n_tokens; i++) {
        const tok_added *token = &set->tokens[i];
        tok_span text = {token->text, token->n_bytes};
        if (token->normalized && nfc) ROT_GO(tok_nfc(&normalizer, unicode, text, &text, err));
        ROT_GO(insert(token->normalized ? &set->normalized : &set->exact, text, (int32_t)i, err));
    }
done:
    tok_normalizer_close(&normalizer);
    return rc;
}

void tok_added_close(tok_added_set *set)
{
    for (size_t i = 0; i < set->n_tokens; i++) rot_free(set->tokens[i].text);
    rot_free(set->tokens);
    rot_free(set->exact.nodes);
    rot_free(set->normalized.nodes);
    *set = (tok_added_set){0};
}

// The longest token at text[at]: its index, or -1.
static int32_t match_at(const tok_trie *trie, tok_span text, size_t at, size_t *end)
{
    int32_t node = trie->first[(unsigned char)text.text[at]], found = -1;
    while (node >= 0) {
        at++;
        if (trie->nodes[node].token >= 0) {
            found = trie->nodes[node].token;
            *end = at;
        }
        if (at == text.n_bytes) break;
        node = find_child(trie, node, (unsigned char)text.text[at]);
    }
    return found;
}

static size_t previous(const char *text, size_t at)
{
    do at--;
    while (((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

static unsigned class_before(const tok_cutter *c, size_t at)
{
    size_t n;
    return at ? tok_class(c->unicode, tok_decode(c->text.text + previous(c->text.text, at), &n))
              : 0;
}

static unsigned class_after(const tok_cutter *c, size_t at, size_t *n)
{
    return at < c->text.n_bytes ? tok_class(c->unicode, tok_decode(c->text.text + at, n)) : 0;
}

void tok_cutter_start(tok_cutter *cutter, const tok_added_set *set, const tok_trie *trie,
                      const tok_unicode *unicode, tok_span text)
{
    *cutter = (tok_cutter){.set = set, .trie = trie, .unicode = unicode, .text = text};
}

// The next token that its flags accept, widened over the white space that it strips.
static bool next_token(tok_cutter *c, tok_cut *out)
{
    while (c->trie->n_nodes && c->at < c->text.n_bytes) {
        size_t start = c->at, end = 0, n;
        while (start < c->text.n_bytes && c->trie->first[(unsigned char)c->text.text[start]] < 0)
            start++;
        c->at = start;
        if (start == c->text.n_bytes) return false;
        int32_t found = match_at(c->trie, c->text, start, &end);
        if (found < 0) {
            c->at++;
            continue;
        }
        const tok_added *token = &c->set->tokens[found];
        c->at = end;
        if (token->single_word && ((class_before(c, start) | class_after(c, end, &n)) & TOK_WORD))
            continue;
        if (token->lstrip) {
            while (class_before(c, start) & TOK_SPACE) start = previous(c->text.text, start);
            if (start < c->start_offset) start = c->start_offset;
        }
        if (token->rstrip)
            while (class_after(c, end, &n) & TOK_SPACE) end += n;
        *out = (tok_cut){start, end, token->id};
        return true;
    }
    return false;
}

bool tok_cutter_next(tok_cutter *c, tok_cut *out)
{
    for (;;) {
        if (c->has_pending) {
            c->has_pending = false;
            c->start_offset = c->pending.end;
            *out = c->pending;
            if (out->start < out->end) return true; // else the one before has stripped all of it
        }
        if (!next_token(c, &c->pending)) break;
        c->has_pending = true;
        if (c->start_offset < c->pending.start) {
            *out = (tok_cut){c->start_offset, c->pending.start, -1};
            return true;
        }
    }
    *out = (tok_cut){c->start_offset, c->text.n_bytes, -1};
    c->start_offset = c->text.n_bytes;
    return out->start < out->end;
}
