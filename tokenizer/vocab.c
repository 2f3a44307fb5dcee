// The tables of the model: token strings, ids of strings, merges of pairs.
#include "base/utf8.h"
#include "tokenizer/internal.h"

// Byte-level BPE writes a printable Latin-1 byte as the character of its number, the 68 others as
// U+0100, U+0101, ... in order (GPT-2's encoder.py, bytes_to_unicode).
static bool is_own_character(unsigned byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
}

int tok_byte_of_char(uint32_t c)
{
    if (c < 256) return is_own_character(c) ? (int)c : -1;
    uint32_t left = c - 256;
    for (unsigned byte = 0; byte < 256; byte++)
        if (!is_own_character(byte) && left-- == 0) return (int)byte;
    return -1;
}

size_t tok_byte_level(tok_span bytes, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes.n_bytes; i++) {
        unsigned byte = (unsigned char)bytes.text[i], c = byte;
        if (!is_own_character(byte))
            c = byte <= ' ' ? 256 + byte : byte < 0xad ? 256 + 33 + byte - 0x7f : 256 + 67;
        n += rot_utf8_put(c, out + n);
    }
    return n;
}

int tok_model_reserve(tok_model *model, size_t n_ids, rot_err *err)
{
    model->tokens = rot_malloc(n_ids * sizeof *model->tokens);
    if (!model->tokens) return rot_no_memory(err, n_ids * sizeof *model->tokens, "vocabulary");
    for (size_t i = 0; i < n_ids; i++) model->tokens[i] = (tok_token){.text = UINT32_MAX};
    model->n_ids = n_ids;
    return 0;
}

// Undoes the byte-level form; text with other characters stands for itself.
static size_t raw_bytes(tok_span text, char *out)
{
    size_t n = 0, step;
    for (size_t at = 0; at < text.n_bytes; at += step) {
        int byte = tok_byte_of_char(tok_decode(text.text + at, &step));
        if (byte < 0) {
            memcpy(out, text.text, text.n_bytes);
            return text.n_bytes;
        }
        out[n++] = (char)byte;
    }
    return n;
}

int tok_model_add(tok_model *model, int32_t id, tok_span text, rot_err *err)
{
    if (model->n_strings + 2 * text.n_bytes >= UINT32_MAX)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "a vocabulary of more than 4 GB");
    ROT_TRY(rot_grow(&model->strings, &model->strings_capacity, model->n_strings + 2 * text.n_bytes,
                     1, err));
    tok_token *token = &model->tokens[id];
    char *at = model->strings + model->n_strings;
    if (text.n_bytes) memcpy(at, text.text, text.n_bytes);
    *token = (tok_token){.text = (uint32_t)model->n_strings, .n_text = (uint32_t)text.n_bytes};
    token->raw = token->text + token->n_text;
    token->n_raw = (uint32_t)raw_bytes(text, at + text.n_bytes);
    model->n_strings += text.n_bytes + token->n_raw;
    model->n_tokens++;
    return 0;
}

static size_t table_size(size_t n)
{
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

// FNV-1a, 64 bits.
static uint64_t hash_bytes(tok_span s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < s.n_bytes; i++) h = (h ^ (unsigned char)s.text[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

static tok_span string_of(const tok_model *model, size_t id)
{
    const tok_token *t = &model->tokens[id];
    return (tok_span){model->strings + t->text, t->n_text};
}

int32_t tok_model_find(const tok_model *model, tok_span text)
{
    const tok_strings *map = &model->by_text;
    if (!map->n_slots) return -1;
    for (size_t i = hash_bytes(text);; i++) {
        uint32_t slot = map->slots[i & (map->n_slots - 1)];
        if (!slot) return -1;
        tok_span s = string_of(model, slot - 1);
        if (s.n_bytes == text.n_bytes && (!s.n_bytes || !memcmp(s.text, text.text, s.n_bytes)))
            return (int32_t)(slot - 1);
    }
}

static int index_strings(tok_model *model, rot_err *err)
{
    tok_strings *map = &model->by_text;
    size_t n_slots = table_size(model->n_tokens);
    map->slots = rot_calloc(n_slots, sizeof *map->slots);
    if (!map->slots) return rot_no_memory(err, n_slots * sizeof *map->slots, "vocabulary");
    map->n_slots = n_slots;
    for (size_t id = 0; id < model->n_ids; id++) {
        if (!tok_model_has(model, id)) continue;
        size_t i = hash_bytes(string_of(model, id));
        while (map->slots[i & (n_slots - 1)]) i++;
        map->slots[i & (n_slots - 1)] = (uint32_t)id + 1;
    }
    return 0;
}

int tok_model_index(tok_model *model, size_t n_merges, rot_err *err)
{
    ROT_TRY(index_strings(model, err));
    for (int byte = 0; byte < 256; byte++) model->byte_ids[byte] = -1;
    for (uint32_t c = 0; c < 512; c++) {
        char utf8[4];
        int byte = tok_byte_of_char(c);
        if (byte >= 0)
            model->byte_ids[byte] = tok_model_find(model, (tok_span){utf8, rot_utf8_put(c, utf8)});
    }
    size_t n_slots = table_size(n_merges);
    model->merges = rot_malloc(n_slots * sizeof *model->merges);
    if (!model->merges) return rot_no_memory(err, n_slots * sizeof *model->merges, "merges");
    for (size_t i = 0; i < n_slots; i++) model->merges[i] = (tok_merge){.pair = UINT64_MAX};
    model->n_merge_slots = n_slots;
    return 0;
}

void tok_model_merge(tok_model *model, uint32_t left, uint32_t right, uint32_t rank, uint32_t id)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    size_t i = tok_hash_pair(pair), mask = model->n_merge_slots - 1;
    while (model->merges[i & mask].pair != UINT64_MAX && model->merges[i & mask].pair != pair) i++;
    model->merges[i & mask] = (tok_merge){pair, rank, id};
}

void tok_model_close(tok_model *model)
{
    rot_free(model->tokens);
    rot_free(model->strings);
    rot_free(model->by_text.slots);
    rot_free(model->merges);
    *model = (tok_model){0};
}
