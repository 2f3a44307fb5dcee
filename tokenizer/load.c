// tokenizer.json to the parts of a tokenizer. Whatever could change ids and is not implemented is
// refused by name; what cannot (decoder, post-processor: no tokens are added here) is let through.
#include <jansson.h>
#include <stdio.h>

#include "tokenizer/internal.h"

typedef struct loader {
    rot_tokenizer *tokenizer;
    rot_err *err;
} loader;

#define MALFORMED(l, ...) ROT_FAIL((l)->err, ROT_ERR_MISSING, __VA_ARGS__)
#define UNSUPPORTED(l, ...) ROT_FAIL((l)->err, ROT_ERR_UNSUPPORTED, __VA_ARGS__)

static const char *type_name(const json_t *value)
{
    switch (value ? (int)json_typeof(value) : -1) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    default: return "missing";
    }
}

static bool known(const char *key, const char *const *keys)
{
    while (*keys && strcmp(*keys, key)) keys++;
    return *keys;
}

// An object with none but these keys; others could mean anything.
static int check_keys(const loader *l, json_t *object, const char *where, const char *const *keys)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object)) MALFORMED(l, "%s is %s, not an object", where, type_name(object));
    json_object_foreach(object, key, value) if (!known(key, keys))
        UNSUPPORTED(l, "%s.%.80s: this key is not known", where, key);
    return 0;
}

static bool absent(const json_t *value)
{
    return !value || json_is_null(value);
}

static int get_bool(const loader *l, json_t *object, const char *where, const char *key, bool *out)
{
    json_t *value = json_object_get(object, key);
    if (!json_is_boolean(value))
        MALFORMED(l, "%s.%s is %s, not a boolean", where, key, type_name(value));
    *out = json_is_true(value);
    return 0;
}

static int get_string(const loader *l, json_t *object, const char *where, const char *key,
                      const char **out)
{
    json_t *value = json_object_get(object, key);
    if (!json_is_string(value))
        MALFORMED(l, "%s.%s is %s, not a string", where, key, type_name(value));
    *out = json_string_value(value);
    return 0;
}

static tok_span span_of(const json_t *string)
{
    return (tok_span){json_string_value(string), json_string_length(string)};
}

// ---- normalizer

static int load_normalizer(const loader *l, json_t *value, const char *where, int depth)
{
    static const char *const nfc_keys[] = {"type", NULL}, *const sequence_keys[] = {
                                                              "type", "normalizers", NULL};
    const char *type;
    if (absent(value)) return 0;
    if (!json_is_object(value)) MALFORMED(l, "%s is %s, not an object", where, type_name(value));
    ROT_TRY(get_string(l, value, where, "type", &type));
    if (!strcmp(type, "NFC")) {
        ROT_TRY(check_keys(l, value, where, nfc_keys));
        l->tokenizer->nfc = true;
        return 0;
    }
    if (strcmp(type, "Sequence") || depth)
        UNSUPPORTED(l, "%s: the type %.80s is not implemented", where, type);
    ROT_TRY(check_keys(l, value, where, sequence_keys));
    json_t *list = json_object_get(value, "normalizers"), *one;
    size_t i;
    if (!json_is_array(list))
        MALFORMED(l, "%s.normalizers is %s, not an array", where, type_name(list));
    json_array_foreach(list, i, one)
        ROT_TRY(load_normalizer(l, one, "normalizer.normalizers[]", depth + 1));
    return 0;
}

// ---- pre-tokenizer

static int add_step(const loader *l, tok_span source, const char *where)
{
    rot_tokenizer *t = l->tokenizer;
    if (t->n_steps == TOK_MAX_STEPS) UNSUPPORTED(l, "%s: more than %d steps", where, TOK_MAX_STEPS);
    int rc = tok_step_open(source, &t->unicode, &t->steps[t->n_steps++], l->err);
    return rc < 0 ? rot_err_prefix(l->err, "%s: ", where) : 0;
}

static int load_split(const loader *l, json_t *value, const char *where)
{
    static const char *const keys[] = {"type", "pattern", "behavior", "invert", NULL};
    const char *behavior;
    bool invert = false;
    ROT_TRY(check_keys(l, value, where, keys));
    ROT_TRY(get_string(l, value, where, "behavior", &behavior));
    ROT_TRY(get_bool(l, value, where, "invert", &invert));
    if (strcmp(behavior, "Isolated"))
        UNSUPPORTED(l, "%s.behavior: %.80s is not implemented", where, behavior);
    if (invert) UNSUPPORTED(l, "%s.invert is not implemented", where);
    json_t *pattern = json_object_get(value, "pattern"), *regex = json_object_get(pattern, "Regex");
    if (!json_is_object(pattern))
        MALFORMED(l, "%s.pattern is %s, not an object", where, type_name(pattern));
    if (!regex || json_object_size(pattern) != 1)
        UNSUPPORTED(l, "%s.pattern: only {\"Regex\": ...} is implemented", where);
    if (!json_is_string(regex))
        MALFORMED(l, "%s.pattern.Regex is %s, not a string", where, type_name(regex));
    return add_step(l, span_of(regex), where);
}

static int load_byte_level(const loader *l, json_t *value, const char *where, bool first)
{
    static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                       NULL};
    bool use_regex = true, prefix;
    ROT_TRY(check_keys(l, value, where, keys));
    ROT_TRY(get_bool(l, value, where, "add_prefix_space", &prefix));
    if (json_object_get(value, "use_regex"))
        ROT_TRY(get_bool(l, value, where, "use_regex", &use_regex));
    if (prefix && !first)
        UNSUPPORTED(l, "%s.add_prefix_space behind another step is not implemented", where);
    l->tokenizer->add_prefix_space = prefix;
    return use_regex ? add_step(l, (tok_span){tok_gpt2_pattern, strlen(tok_gpt2_pattern)}, where)
                     : 0;
}

// A ByteLevel, or a Sequence of Splits that ends with one: without it no bytes become characters.
static int load_pre_tokenizer(const loader *l, json_t *value)
{
    static const char *const keys[] = {"type", "pretokenizers", NULL};
    const char *type;
    char where[64] = "pre_tokenizer";
    if (!json_is_object(value))
        UNSUPPORTED(l, "pre_tokenizer is %s: only byte-level ones are implemented",
                    type_name(value));
    ROT_TRY(get_string(l, value, where, "type", &type));
    if (!strcmp(type, "ByteLevel")) return load_byte_level(l, value, where, true);
    if (strcmp(type, "Sequence"))
        UNSUPPORTED(l, "pre_tokenizer: the type %.80s without ByteLevel is not implemented", type);
    ROT_TRY(check_keys(l, value, where, keys));
    json_t *list = json_object_get(value, "pretokenizers"), *one;
    size_t i, n = json_array_size(list);
    if (!json_is_array(list))
        MALFORMED(l, "pre_tokenizer.pretokenizers is %s, not an array", type_name(list));
    if (!n) UNSUPPORTED(l, "pre_tokenizer.pretokenizers is empty: it must end with ByteLevel");
    json_array_foreach(list, i, one)
    {
        snprintf(where, sizeof where, "pre_tokenizer.pretokenizers[%zu]", i);
        if (!json_is_object(one)) MALFORMED(l, "%s is %s, not an object", where, type_name(one));
        ROT_TRY(get_string(l, one, where, "type", &type));
        bool last = i + 1 == n;
        if (!last && !strcmp(type, "Split"))
            ROT_TRY(load_split(l, one, where));
        else if (last && !strcmp(type, "ByteLevel"))
            ROT_TRY(load_byte_level(l, one, where, i == 0));
        else
            UNSUPPORTED(l, "%s: the type %.80s is not implemented here", where, type);
    }
    return 0;
}

// ---- model

static int load_vocab(const loader *l, json_t *vocab)
{
    tok_model *model = &l->tokenizer->model;
    const char *key;
    size_t n_key;
    json_t *value;
    json_int_t max = -1;
    if (!json_is_object(vocab)) MALFORMED(l, "model.vocab is %s, not an object", type_name(vocab));
    if (!json_object_size(vocab)) MALFORMED(l, "model.vocab is empty");
    json_object_foreach(vocab, key, value)
    {
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value))
            MALFORMED(l, "model.vocab[\"%.80s\"] is %s, not an integer", key, type_name(value));
        if (id < 0 || id > INT32_MAX / 2)
            MALFORMED(l, "model.vocab[\"%.80s\"] is %lld, which is no id", key, (long long)id);
        if (id > max) max = id;
    }
    if ((size_t)max >
        64 * json_object_size(vocab) + 65536) // a table by id would be nearly all holes
        UNSUPPORTED(l, "model.vocab: ids up to %lld for %zu tokens", (long long)max,
                    json_object_size(vocab));
    ROT_TRY(tok_model_reserve(model, (size_t)max + 1, l->err));
    json_object_keylen_foreach(vocab, key, n_key, value)
    {
        int32_t id = (int32_t)json_integer_value(value);
        if (tok_model_has(model, (size_t)id))
            MALFORMED(l, "model.vocab: two tokens have the id %d, one is \"%.80s\"", (int)id, key);
        ROT_TRY(tok_model_add(model, id, (tok_span){key, n_key}, l->err));
    }
    return 0;
}

// The two halves of "a b" or ["a", "b"].
static int split_merge(const loader *l, json_t *merge, size_t i, tok_span half[2])
{
    if (json_is_array(merge)) {
        for (size_t k = 0; k < 2; k++) half[k] = span_of(json_array_get(merge, k));
        if (json_array_size(merge) != 2 || !half[0].text || !half[1].text)
            MALFORMED(l, "model.merges[%zu] is no pair of strings", i);
        return 0;
    }
    if (!json_is_string(merge))
        MALFORMED(l, "model.merges[%zu] is %s, not a pair", i, type_name(merge));
    tok_span whole = span_of(merge);
    const char *space = memchr(whole.text, ' ', whole.n_bytes);
    size_t n_left = space ? (size_t)(space - whole.text) : 0;
    half[0] = (tok_span){whole.text, n_left};
    half[1] = (tok_span){whole.text + n_left + 1, whole.n_bytes - n_left - !!space};
    if (!space || memchr(half[1].text, ' ', half[1].n_bytes))
        MALFORMED(l, "model.merges[%zu]: \"%.80s\" is not two tokens and one space", i, whole.text);
    return 0;
}

static int load_merge(const loader *l, json_t *merge, size_t i, uint32_t rank, char **joined,
                      size_t *capacity)
{
    tok_model *model = &l->tokenizer->model;
    tok_span half[2];
    int32_t ids[2];
    ROT_TRY(split_merge(l, merge, i, half));
    for (size_t k = 0; k < 2; k++) {
        ids[k] = tok_model_find(model, half[k]);
        if (ids[k] < 0)
            MALFORMED(l, "model.merges[%zu]: no token \"%.*s\" in the vocabulary", i,
                      (int)(half[k].n_bytes < 80 ? half[k].n_bytes : 80), half[k].text);
    }
    size_t n = half[0].n_bytes + half[1].n_bytes;
    ROT_TRY(rot_grow(joined, capacity, n + 1, 1, l->err));
    memcpy(*joined, half[0].text, half[0].n_bytes);
    memcpy(*joined + half[0].n_bytes, half[1].text, half[1].n_bytes);
    int32_t id = tok_model_find(model, (tok_span){*joined, n});
    if (id < 0)
        MALFORMED(l, "model.merges[%zu]: no token \"%.*s\" in the vocabulary", i,
                  (int)(n < 80 ? n : 80), *joined);
    tok_model_merge(model, (uint32_t)ids[0], (uint32_t)ids[1], rank, (uint32_t)id);
    return 0;
}

static int load_merges(const loader *l, json_t *merges)
{
    int rc = 0;
    char *joined = NULL;
    size_t capacity = 0, i;
    uint32_t rank = 0;
    json_t *merge;
    if (!json_is_array(merges)) MALFORMED(l, "model.merges is %s, not an array", type_name(merges));
    ROT_TRY(tok_model_index(&l->tokenizer->model, json_array_size(merges), l->err));
    json_array_foreach(merges, i, merge)
    {
        if (json_is_string(merge) && !strncmp(json_string_value(merge), "#version", 8)) continue;
        rc = load_merge(l, merge, i, rank++, &joined, &capacity);
        if (rc < 0) break;
    }
    rot_free(joined);
    return rc;
}

// Keys that change ids if they are set. Bytes without a token only matter to the last two.
static int check_model(const loader *l, json_t *model)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const tok_model *m = &l->tokenizer->model;
    json_t *dropout = json_object_get(model, "dropout");
    if (!absent(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0))
        UNSUPPORTED(l, "model.dropout is not implemented");
    for (size_t i = 0; i < 2; i++) {
        json_t *affix = json_object_get(model, affixes[i]);
        if (!absent(affix) && !(json_is_string(affix) && !json_string_length(affix)))
            UNSUPPORTED(l, "model.%s is not implemented", affixes[i]);
    }
    bool whole = true;
    for (int byte = 0; byte < 256; byte++) whole = whole && m->byte_ids[byte] >= 0;
    if (!whole && !absent(json_object_get(model, "unk_token")))
        UNSUPPORTED(l, "model.unk_token with bytes that have no token is not implemented");
    if (!whole && json_is_true(json_object_get(model, "byte_fallback")))
        UNSUPPORTED(l, "model.byte_fallback with bytes that have no token is not implemented");
    return 0;
}

static int load_model(const loader *l, json_t *model)
{
    static const char *const keys[] = {"type",
                                       "dropout",
                                       "unk_token",
                                       "continuing_subword_prefix",
                                       "end_of_word_suffix",
                                       "fuse_unk",
                                       "byte_fallback",
                                       "ignore_merges",
                                       "vocab",
                                       "merges",
                                       NULL};
    if (!json_is_object(model)) MALFORMED(l, "model is %s, not an object", type_name(model));
    json_t *type = json_object_get(model, "type"); // files of the first years have none
    if (type && !json_is_string(type))
        MALFORMED(l, "model.type is %s, not a string", type_name(type));
    if (type && strcmp(json_string_value(type), "BPE"))
        UNSUPPORTED(l, "model.type: %.80s is not implemented", json_string_value(type));
    ROT_TRY(check_keys(l, model, "model", keys));
    if (json_object_get(model, "ignore_merges"))
        ROT_TRY(get_bool(l, model, "model", "ignore_merges", &l->tokenizer->model.ignore_merges));
    ROT_TRY(load_vocab(l, json_object_get(model, "vocab")));
    ROT_TRY(load_merges(l, json_object_get(model, "merges")));
    return check_model(l, model);
}

// ---- added tokens

// The id that Hugging Face gives, which ignores the one in the file: the vocabulary's, else the
// next.
static int32_t next_added_id(const rot_tokenizer *t, tok_span text)
{
    int32_t id = tok_model_find(&t->model, text), max = -1, n = (int32_t)t->model.n_tokens;
    if (id >= 0) return id;
    for (size_t i = 0; i < t->added.n_tokens; i++)
        if (t->added.tokens[i].id > max) max = t->added.tokens[i].id;
    return max >= n ? max + 1 : n;
}

static int load_added_token(const loader *l, json_t *value, const char *where)
{
    static const char *const keys[] = {"id",     "content",    "single_word", "lstrip",
                                       "rstrip", "normalized", "special",     NULL};
    rot_tokenizer *t = l->tokenizer;
    tok_added token = {0};
    const char *content;
    ROT_TRY(check_keys(l, value, where, keys));
    ROT_TRY(get_string(l, value, where, "content", &content));
    ROT_TRY(get_bool(l, value, where, "single_word", &token.single_word));
    ROT_TRY(get_bool(l, value, where, "lstrip", &token.lstrip));
    ROT_TRY(get_bool(l, value, where, "rstrip", &token.rstrip));
    ROT_TRY(get_bool(l, value, where, "normalized", &token.normalized));
    ROT_TRY(get_bool(l, value, where, "special", &token.special));
    json_t *id = json_object_get(value, "id");
    if (!json_is_integer(id)) MALFORMED(l, "%s.id is %s, not an integer", where, type_name(id));
    tok_span text = span_of(json_object_get(value, "content"));
    if (!text.n_bytes) MALFORMED(l, "%s.content is empty", where);
    if (tok_added_find(&t->added, text))
        MALFORMED(l, "%s.content: \"%.80s\" is there twice", where, content);
    token.text = (char *)text.text;
    token.n_bytes = text.n_bytes;
    token.id = next_added_id(t, text);
    if (json_integer_value(id) != token.id)
        MALFORMED(l,
                  "%s.id is %lld, but \"%.80s\" gets the id %d, the vocabulary's or the next one",
                  where, (long long)json_integer_value(id), content, (int)token.id);
    return tok_added_add(&t->added, &token, l->err);
}

static int load_added_tokens(const loader *l, json_t *list)
{
    size_t i;
    json_t *one;
    if (absent(list)) return 0;
    if (!json_is_array(list)) MALFORMED(l, "added_tokens is %s, not an array", type_name(list));
    json_array_foreach(list, i, one)
    {
        char where[48];
        snprintf(where, sizeof where, "added_tokens[%zu]", i);
        ROT_TRY(load_added_token(l, one, where));
    }
    return 0;
}

// ---- the file

static int load_root(const loader *l, json_t *root)
{
    // truncation and padding are about batches, post_processor adds tokens that we never add
    static const char *const keys[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    ROT_TRY(check_keys(l, root, "the file", keys));
    ROT_TRY(load_model(l, json_object_get(root, "model")));
    ROT_TRY(load_normalizer(l, json_object_get(root, "normalizer"), "normalizer", 0));
    ROT_TRY(load_pre_tokenizer(l, json_object_get(root, "pre_tokenizer")));
    return load_added_tokens(l, json_object_get(root, "added_tokens"));
}

int tok_load(rot_tokenizer *tokenizer, const char *path, const char *json, size_t n_bytes,
             rot_err *err)
{
    loader l = {tokenizer, err};
    json_error_t at;
    json_t *root = json_loadb(json, n_bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &at);
    if (!root && json_error_code(&at) == json_error_out_of_memory)
        return rot_no_memory(err, n_bytes, path);
    if (!root)
        ROT_FAIL(err, ROT_ERR_MISSING, "%s: line %d, column %d: %s", path, at.line, at.column,
                 at.text);
    int rc = load_root(&l, root);
    json_decref(root);
    return rc < 0 && rc != ROT_ERR_NO_MEMORY ? rot_err_prefix(err, "%s: ", path) : rc;
}
