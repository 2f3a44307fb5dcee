// tokenizer: ids of the tokenizer that the project ships and of tiny ones whose ids can be seen by
// eye. The comparison with Hugging Face is tests/peers/test_tokenizer.py.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"
#include "rotoscope/tokenizer.h"

#define SMALL "configs/tokenizer-small"
#define BYTE_LEVEL                                                                                 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":"     \
    "false}"

static char folder[64]; // of the tokenizer that the last write_json wrote

static void write_json(const char *json)
{
    char path[128];
    rot_err err;
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_int_equal(rot_fs_write_atomic(path, json, strlen(json), &err), 0);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/rot tokenizer XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    unlink(path);
    return rmdir(folder);
}

// vocab a b c d ab bc "Ġ", then what the test adds.
static const char *tiny(const char *merges, const char *normalizer, const char *pre_tokenizer,
                        const char *added)
{
    static char json[8192];
    snprintf(json, sizeof json,
             "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[%s],"
             "\"normalizer\":%s,"
             "\"pre_tokenizer\":%s,\"post_processor\":null,\"decoder\":null,\"model\":{\"type\":"
             "\"BPE\",\"dropout\":null,"
             "\"unk_token\":null,\"ignore_merges\":false,\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"d\":"
             "3,\"ab\":4,\"bc\":5,"
             "\"\xc4\xa0\":6,\"aa\":7,\"abd\":8,\"aaaa\":9},\"merges\":[%s]}}",
             added, normalizer, pre_tokenizer, merges);
    return json;
}

typedef struct both {
    rot_tokenizer *tokenizer;
    rot_tokenizer_worker *worker;
} both;

static both open_both(const char *dir)
{
    both b = {0};
    rot_err err = {0};
    if (rot_tokenizer_open(dir, &b.tokenizer, &err) < 0) fail_msg("%s", err.message);
    assert_int_equal(rot_tokenizer_worker_open(b.tokenizer, &b.worker, &err), 0);
    return b;
}

static both open_json(const char *json)
{
    write_json(json);
    return open_both(folder);
}

static void close_both(both *b)
{
    rot_tokenizer_worker_close(&b->worker);
    rot_tokenizer_close(&b->tokenizer);
    assert_null(b->tokenizer);
}

// Ids as text, "1 2 3"; valid until the next call.
static const char *ids_of(both *b, const char *text, size_t n_bytes)
{
    static rot_str out;
    const int32_t *ids;
    size_t n;
    rot_err err;
    if (rot_tokenizer_encode(b->worker, text, n_bytes, &ids, &n, &err) < 0)
        fail_msg("%s", err.message);
    out.n_bytes = 0;
    rot_str_puts(&out, "");
    for (size_t i = 0; i < n; i++) rot_str_printf(&out, i ? " %d" : "%d", (int)ids[i]);
    return out.text;
}

#define EXPECT(b, text, expected)                                                                  \
    assert_string_equal(ids_of(&(b), text, sizeof(text) - 1), expected)

static void lowest_rank_merges_first_and_leftmost(void **state)
{
    (void)state;
    both b = open_json(tiny("\"a b\",\"b c\",\"a a\",\"ab d\",\"aa aa\"", "null", BYTE_LEVEL, ""));
    EXPECT(b, "abc", "4 2"); // a b before b c
    EXPECT(b, "bbc", "1 5");
    EXPECT(b, "aab", "0 4"); // a b before a a, though that stands further left
    EXPECT(b, "aaa", "7 0"); // leftmost of equals
    EXPECT(b, "aaaaa", "9 0");
    EXPECT(b, "abd", "8");
    EXPECT(b, "a b", "0 6 1");
    EXPECT(b, "", "");
    EXPECT(b, "a?b", "4"); // a byte without a token is dropped before merging
    close_both(&b);
    b = open_json(tiny("\"b c\",\"a b\"", "null", BYTE_LEVEL, ""));
    EXPECT(b, "abc", "0 5");
    close_both(&b);
    b = open_json(
        tiny("\"a b\",\"b c\",\"a b\"", "null", BYTE_LEVEL, "")); // the later rank of a pair counts
    EXPECT(b, "abc", "0 5");
    close_both(&b);
}

static void hash_of(const char *json, uint8_t out[32])
{
    both b = open_json(json);
    rot_tokenizer_hash(b.tokenizer, out);
    close_both(&b);
}

static void hash_follows_content_not_form(void **state)
{
    (void)state;
    uint8_t a[32], b[32];
    hash_of(tiny("\"a b\",\"b c\"", "null", BYTE_LEVEL, ""), a);
    hash_of(tiny("[\"a\",\"b\"] ,\n [\"b\",\"c\"]", "null", BYTE_LEVEL, ""), b);
    assert_memory_equal(a, b, 32);
    hash_of(tiny("\"b c\",\"a b\"", "null", BYTE_LEVEL, ""), b);
    assert_memory_not_equal(a, b, 32);
    hash_of(tiny("\"a b\",\"b c\"", "{\"type\":\"NFC\"}", BYTE_LEVEL, ""), b);
    assert_memory_not_equal(a, b, 32);
    hash_of(tiny("\"a b\",\"b c\"", "null",
                 "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}", ""),
            b);
    assert_memory_not_equal(a, b, 32);
    hash_of(
        tiny("\"a b\",\"b c\"", "null", BYTE_LEVEL,
             "{\"id\":10,\"content\":\"x\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
             "\"normalized\":false,\"special\":false}"),
        b);
    assert_memory_not_equal(a, b, 32);
}

static void added_tokens_follow_their_flags(void **state)
{
    (void)state;
#define ADDED(id, content, word, left, right, normalized)                                          \
    "{\"id\":" #id ",\"content\":\"" content "\",\"single_word\":" #word ",\"lstrip\":" #left      \
    ",\"rstrip\":" #right ",\"normalized\":" #normalized ",\"special\":false}"
    both b = open_json(
        tiny("\"a b\"", "{\"type\":\"NFC\"}", BYTE_LEVEL,
             ADDED(10, "<x", false, false, false, false) "," ADDED(
                 11, "<xy>", false, false, false,
                 false) "," ADDED(12, "W", true, false, false,
                                  false) "," ADDED(13, "L", false, true, false,
                                                   false) "," ADDED(14, "R", false, false, true,
                                                                    false) "," ADDED(15, "\xc3\xa9",
                                                                                     false, false,
                                                                                     false, true)));
    assert_int_equal(rot_tokenizer_size(b.tokenizer), 16);
    assert_int_equal(rot_tokenizer_find(b.tokenizer, "<xy>"), 11);
    assert_int_equal(rot_tokenizer_find(b.tokenizer, "ab"), 4);
    assert_int_equal(rot_tokenizer_find(b.tokenizer, "zz"), -1);
    EXPECT(b, "a<xy>b", "0 11 1"); // the longest
    EXPECT(b, "a<x<xy>b", "0 10 11 1");
    EXPECT(b, "aWb W", "4 6 12"); // no word around it; else its text is text
    EXPECT(b, "a  L b", "0 13 6 1");
    EXPECT(b, "a R \t\nb", "0 6 14 1");
    EXPECT(b, "R  L", "14 13");
    EXPECT(b,
           "ae\xcc\x81"
           "b",
           "0 15 1"); // after normalization
    close_both(&b);
}

static void nfc_is_that_of_hugging_face(void **state)
{
    (void)state;
    both b = open_both(SMALL);
    const struct {
        const char *text, *same_as;
    } cases[] = {
        {"e\xcc\x81", "\xc3\xa9"},                                // composed
        {"q\xcc\x81\xcc\xa7", "q\xcc\xa7\xcc\x81"},               // reordered
        {"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"}, // Hangul
        {"\xe0\xa6\xa1\xe0\xa6\xbc", "\xe0\xa6\xa1\xe0\xa6\xbc"}, // an exclusion stays decomposed
        {"\xe0\xa7\x9c", "\xe0\xa6\xa1\xe0\xa6\xbc"},             // and is decomposed
        {"\xe2\x84\xab", "\xc3\x85"},                             // Angstrom sign
        {"a\xcc\x81 e\xcc\x81 \xcc\x81", "\xc3\xa1 \xc3\xa9 \xcc\x81"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *expected = strdup(ids_of(&b, cases[i].same_as, strlen(cases[i].same_as)));
        assert_string_equal(ids_of(&b, cases[i].text, strlen(cases[i].text)), expected);
        free(expected);
    }
    // U+0898 is a mark of class 230 since Unicode 14, unknown to Hugging Face: it is not moved
    // behind U+0327
    char *kept = strdup(ids_of(&b, "q\xe0\xa2\x98\xcc\xa7", 6)),
         *moved = strdup(ids_of(&b, "q\xcc\xa7\xe0\xa2\x98", 6));
    assert_string_not_equal(kept, moved);
    free(kept);
    free(moved);
    close_both(&b);
}

static void invalid_utf8_is_named_by_offset(void **state)
{
    (void)state;
    both b = open_both(SMALL);
    rot_err err;
    rot_sample_ids sample;
    const int32_t *ids;
    size_t n;
    assert_int_equal(rot_tokenizer_encode(b.worker, "abc\xff", 4, &ids, &n, &err), ROT_ERR_INPUT);
    assert_non_null(strstr(err.message, "byte 3"));
    assert_int_equal(rot_tokenizer_encode_sample(b.worker, ROT_LAYOUT_ROT, "a", 1, "b", 1,
                                                 "cc\xe2\x82", 4, &sample, &err),
                     ROT_ERR_INPUT);
    assert_non_null(strstr(err.message, "answer"));
    assert_non_null(strstr(err.message, "byte 2"));
    EXPECT(b, "a", "64"); // the worker goes on
    close_both(&b);
}

static void files_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char vocab[] = "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2}";
    const struct {
        int code;
        const char *word, *json;
    } cases[] = {
        {ROT_ERR_MISSING, "line 1", ""},
        {ROT_ERR_MISSING, "line 2", "{\n\"model\": }"},
        {ROT_ERR_MISSING, "line 1", "{\"version\": \"1.0\", \"version\": \"1.0\"}"},
        {ROT_ERR_MISSING, "array", "[]"},
        {ROT_ERR_MISSING, "model is missing", "{}"},
        {ROT_ERR_UNSUPPORTED, "WordPiece", "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}"},
        {ROT_ERR_MISSING, "model.vocab is missing", "{\"model\":{\"type\":\"BPE\",\"merges\":[]}}"},
        {ROT_ERR_MISSING, "model.vocab is empty", "{\"model\":{\"vocab\":{},\"merges\":[]}}"},
        {ROT_ERR_MISSING, "not an integer", "{\"model\":{\"vocab\":{\"a\":\"0\"},\"merges\":[]}}"},
        {ROT_ERR_MISSING, "no id", "{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}"},
        {ROT_ERR_UNSUPPORTED, "ids up to",
         "{\"model\":{\"vocab\":{\"a\":1000000000},\"merges\":[]}}"},
        {ROT_ERR_MISSING, "two tokens", "{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}"},
        {ROT_ERR_MISSING, "model.merges is missing", "{\"model\":{V}}"},
        {ROT_ERR_MISSING, "merges[1]: no token \"z\"",
         "{\"model\":{V,\"merges\":[\"a b\",\"a z\"]}}"},
        {ROT_ERR_MISSING, "merges[0]: no token \"ba\"",
         "{\"model\":{V,\"merges\":[[\"b\",\"a\"]]}}"},
        {ROT_ERR_MISSING, "merges[0]", "{\"model\":{V,\"merges\":[\"a  b\"]}}"},
        {ROT_ERR_MISSING, "merges[0]", "{\"model\":{V,\"merges\":[\"ab\"]}}"},
        {ROT_ERR_MISSING, "merges[0]", "{\"model\":{V,\"merges\":[[\"a\"]]}}"},
        {ROT_ERR_MISSING, "merges[0]", "{\"model\":{V,\"merges\":[7]}}"},
        {ROT_ERR_UNSUPPORTED, "dropout", "{\"model\":{V,\"merges\":[],\"dropout\":0.1}}"},
        {ROT_ERR_UNSUPPORTED, "end_of_word_suffix",
         "{\"model\":{V,\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}"},
        {ROT_ERR_UNSUPPORTED, "byte_fallback",
         "{\"model\":{V,\"merges\":[],\"byte_fallback\":true}}"},
        {ROT_ERR_UNSUPPORTED, "unk_token", "{\"model\":{V,\"merges\":[],\"unk_token\":\"a\"}}"},
        {ROT_ERR_UNSUPPORTED, "model.temperature",
         "{\"model\":{V,\"merges\":[],\"temperature\":1}}"},
        {ROT_ERR_UNSUPPORTED, "colour", "{\"colour\":1,\"model\":{V,\"merges\":[]}}"},
        {ROT_ERR_UNSUPPORTED, "pre_tokenizer", "{\"model\":{V,\"merges\":[]}}"},
        {ROT_ERR_UNSUPPORTED, "Lowercase",
         "{\"normalizer\":{\"type\":\"Lowercase\"},\"model\":{V,\"merges\":[]}}"},
        {ROT_ERR_UNSUPPORTED, "Metaspace",
         "{\"pre_tokenizer\":{\"type\":\"Metaspace\"},\"model\":{V,\"merges\":[]}}"},
        {ROT_ERR_MISSING, "add_prefix_space is missing",
         "{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{V,\"merges\":[]}}"},
        {ROT_ERR_UNSUPPORTED, "MergedWithNext",
         "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
         "\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"MergedWithNext\",\"invert\":false},B]},"
         "\"model\":{V,\"merges\":[]}}"},
        {ROT_ERR_UNSUPPORTED, "pretokenizers[0]",
         "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
         "\"pattern\":{\"Regex\":\"a\\\\b\"},\"behavior\":\"Isolated\",\"invert\":false},B]},"
         "\"model\":{V,\"merges\":[]}}"},
        {ROT_ERR_MISSING, "bad pattern",
         "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
         "\"pattern\":{\"Regex\":\"a(b\"},\"behavior\":\"Isolated\",\"invert\":false},B]},"
         "\"model\":{V,\"merges\":[]}}"},
        {ROT_ERR_MISSING, "gets the id 3",
         "{\"added_tokens\":[" ADDED(7, "x", false, false, false,
                                     false) "],"
                                            "\"pre_tokenizer\":B,\"model\":{V,\"merges\":[]}}"},
        {ROT_ERR_MISSING, "is empty",
         "{\"added_tokens\":[" ADDED(3, "", false, false, false,
                                     false) "],"
                                            "\"pre_tokenizer\":B,\"model\":{V,\"merges\":[]}}"},
        {ROT_ERR_MISSING, "twice",
         "{\"added_tokens\":[" ADDED(3, "x", false, false, false, false) "," ADDED(
             4, "x", false, true, false, false) "],"
                                                "\"pre_tokenizer\":B,\"model\":{V,\"merges\":[]}}"},
        {ROT_ERR_MISSING, "added_tokens[0].content is missing",
         "{\"added_tokens\":[{\"id\":3}],\"pre_tokenizer\":B,\"model\":{V,\"merges\":[]}}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rot_str json = {0};
        for (const char *c = cases[i].json; *c;
             c++) { // V: the vocabulary, B: ByteLevel, each as a word of its own
            if (*c == 'V')
                rot_str_puts(&json, vocab);
            else if (*c == 'B' && (c[1] == ']' || c[1] == ','))
                rot_str_puts(&json, BYTE_LEVEL);
            else
                rot_str_add(&json, c, 1);
        }
        rot_str_puts(&json, "");
        write_json(json.text);
        rot_tokenizer *tokenizer = NULL;
        rot_err err = {0};
        int code = rot_tokenizer_open(folder, &tokenizer, &err);
        if (code != cases[i].code || !strstr(err.message, cases[i].word) ||
            !strstr(err.message, "tokenizer.json"))
            fail_msg("%s: %d %s", cases[i].json, code, err.message);
        assert_null(tokenizer);
        rot_str_free(&json);
    }
    rot_tokenizer *none;
    rot_err err;
    assert_int_equal(rot_tokenizer_open("/no such folder", &none, &err), ROT_ERR_MISSING);
}

static void truncated_files_are_refused(void **state)
{
    (void)state;
    char *json;
    size_t n;
    rot_err err;
    assert_int_equal(rot_fs_read(SMALL "/tokenizer.json", &json, &n, &err), 0);
    while (json[n - 1] == '\n') n--;
    for (size_t cut = 0; cut < n; cut += cut < n - 40 ? 977 : 1) {
        char path[128];
        snprintf(path, sizeof path, "%s/tokenizer.json", folder);
        assert_int_equal(rot_fs_write_atomic(path, json, cut, &err), 0);
        rot_tokenizer *tokenizer;
        assert_int_equal(rot_tokenizer_open(folder, &tokenizer, &err), ROT_ERR_MISSING);
    }
    free(json);
}

// Bytes changed, dropped and doubled anywhere: an error or a tokenizer that works, never a crash.
static void damaged_files_do_no_harm(void **state)
{
    (void)state;
    char json[8192];
    const char *whole = tiny(
        "\"a b\",[\"b\",\"c\"]", "{\"type\":\"NFC\"}",
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
        "\"(?i:'s)|\\\\p{L}{1,3}|[^\\\\s]\"},\"behavior\":\"Isolated\",\"invert\":false}"
        "," BYTE_LEVEL "]}",
        ADDED(10, "<x>", true, true, true, false) "," ADDED(11, "L", false, false, false, true));
    static const char text[] = "abcd'S <x> e\xcc\x81 L";
    unsigned seed = 1, n_opened = 0;
    size_t n = strlen(whole);
    for (int round = 0; round < 1500; round++) {
        memcpy(json, whole, n + 1);
        for (int k = 0; k < 1 + round % 2; k++) {
            seed = seed * 1664525u + 1013904223u;
            size_t at = (seed >> 8) % n;
            if (seed >> 30 == 0)
                memmove(json + at, json + at + 1, n - at);
            else if (seed >> 30 == 1)
                json[at] = json[(at + 13) % n];
            else
                json[at] = "\"{}[],:09-\\|()*+?^$ax\xff\xc3"[seed % 24];
        }
        write_json(json);
        rot_tokenizer *tokenizer;
        rot_tokenizer_worker *worker;
        const int32_t *ids;
        size_t n_ids;
        rot_err err;
        if (rot_tokenizer_open(folder, &tokenizer, &err) < 0) continue;
        n_opened++;
        assert_int_equal(rot_tokenizer_worker_open(tokenizer, &worker, &err), 0);
        int code = rot_tokenizer_encode(worker, text, sizeof text - 1, &ids, &n_ids, &err);
        assert_true(code == 0 || code == ROT_ERR_INPUT);
        rot_tokenizer_worker_close(&worker);
        rot_tokenizer_close(&tokenizer);
    }
    assert_true(n_opened > 10 && n_opened < 1490);
}

static void long_words_do_not_hang(void **state)
{
    (void)state;
    enum { N = 1000000 };
    both b = open_both(SMALL);
    char *text = malloc(N), *back_text;
    for (size_t i = 0; i < N; i++) text[i] = "the answer is"[i % 3]; // no space: one word
    const int32_t *ids;
    size_t n, n_back;
    rot_err err;
    assert_int_equal(rot_tokenizer_encode(b.worker, text, N, &ids, &n, &err), 0);
    assert_true(n > N / 4 && n < N);
    assert_int_equal(
        rot_tokenizer_decode(b.worker, ids, n, (const char **)&back_text, &n_back, &err), 0);
    assert_int_equal(n_back, N);
    assert_memory_equal(back_text, text, N);
    memset(text, ' ', N); // one run of white space
    assert_int_equal(rot_tokenizer_encode(b.worker, text, N, &ids, &n, &err), 0);
    for (size_t i = 0; i + 4 <= N; i += 4)
        memcpy(text + i, "\xcc\x81\xcc\xa7", 4); // marks in the wrong order
    assert_int_equal(rot_tokenizer_encode(b.worker, text, N, &ids, &n, &err), 0);
    assert_int_equal(
        rot_tokenizer_decode(b.worker, ids, n, (const char **)&back_text, &n_back, &err), 0);
    assert_int_equal(n_back, N);
    assert_memory_equal(back_text + N / 2 - 2, "\xcc\xa7\xcc\x81", 4);
    free(text);
    close_both(&b);
}

static void zero_bytes_are_text(void **state)
{
    (void)state;
    both b = open_both(SMALL);
    const int32_t *ids;
    const char *text;
    size_t n, n_bytes;
    rot_err err;
    assert_int_equal(rot_tokenizer_encode(b.worker, "a\0b", 3, &ids, &n, &err), 0);
    assert_int_equal(n, 3);
    assert_int_equal(rot_tokenizer_decode(b.worker, ids, n, &text, &n_bytes, &err), 0);
    assert_int_equal(n_bytes, 3);
    assert_memory_equal(text, "a\0b", 4);
    int32_t bad = rot_tokenizer_size(b.tokenizer) + 3;
    assert_int_equal(rot_tokenizer_decode(b.worker, &bad, 1, &text, &n_bytes, &err),
                     ROT_ERR_NOT_FOUND);
    bad = -1;
    assert_int_equal(rot_tokenizer_decode(b.worker, &bad, 1, &text, &n_bytes, &err),
                     ROT_ERR_NOT_FOUND);
    assert_int_equal(rot_tokenizer_decode(b.worker, NULL, 0, &text, &n_bytes, &err), 0);
    assert_string_equal(text, "");
    close_both(&b);
}

// More words than the cache holds: it starts anew, and nothing changes.
static void used_worker_equals_fresh_one(void **state)
{
    (void)state;
    both b = open_both(SMALL);
    char word[64];
    rot_err err;
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 120000; i++) {
            unsigned x = i * 2654435761u;
            int n = snprintf(word, sizeof word, " %c%c%c%c%s", 'a' + x % 26, 'a' + x / 26 % 26,
                             'a' + x / 676 % 26, 'a' + x / 17576 % 26,
                             i % 3   ? ""
                             : i % 2 ? "tion"
                                     : "somethingverylongindeed");
            const int32_t *ids, *fresh_ids;
            size_t n_ids, n_fresh;
            assert_int_equal(rot_tokenizer_encode(b.worker, word, (size_t)n, &ids, &n_ids, &err),
                             0);
            if (i % 4001) continue;
            rot_tokenizer_worker *fresh;
            assert_int_equal(rot_tokenizer_worker_open(b.tokenizer, &fresh, &err), 0);
            assert_int_equal(
                rot_tokenizer_encode(fresh, word, (size_t)n, &fresh_ids, &n_fresh, &err), 0);
            assert_int_equal(n_fresh, n_ids);
            assert_memory_equal(ids, fresh_ids, n_ids * sizeof *ids);
            rot_tokenizer_worker_close(&fresh);
        }
    }
    close_both(&b);
}

// A layout that joins the pieces by hand: templates are cut by special tokens, so parts can be
// encoded alone.
static void rot_layout_is_template_and_image_tokens(void **state)
{
    (void)state;
    both b = open_both(SMALL);
    rot_err err;
    rot_layout_tokens tokens;
    rot_sample_ids s;
    int32_t n = rot_tokenizer_size(b.tokenizer);
    assert_int_equal(rot_tokenizer_layout_tokens(b.tokenizer, ROT_LAYOUT_ROT, &tokens, &err), 0);
    assert_int_equal(tokens.img_begin, n);
    assert_int_equal(tokens.img, n + 1);
    assert_int_equal(tokens.img_end, n + 2);
    assert_int_equal(rot_tokenizer_encode_sample(b.worker, ROT_LAYOUT_ROT, "1+1?", 4, "a <img> b",
                                                 9, "2", 1, &s, &err),
                     0);
    assert_int_equal(s.question[s.n_question - 1], n);
    assert_int_equal(s.answer[0], n + 2);
    assert_int_equal(s.trace[2], n + 1);
    const char *text;
    size_t n_text;
    assert_int_equal(rot_tokenizer_decode(b.worker, s.question, s.n_question, &text, &n_text, &err),
                     0);
    assert_string_equal(text, "<|im_start|>system\nYou are a helpful "
                              "assistant.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n"
                              "<|im_start|>assistant\n<img_begin>");
    assert_int_equal(rot_tokenizer_decode(b.worker, s.answer, s.n_answer, &text, &n_text, &err), 0);
    assert_string_equal(text, "<img_end><|im_start|>assistant\n### 2 <|im_end|>\n");
    assert_null(strstr(ids_of(&b, "<img>", 5), "181")); // plain text has no image tokens
    assert_int_equal(
        rot_tokenizer_encode_sample(b.worker, ROT_LAYOUT_PLAIN, "", 0, "", 0, "", 0, &s, &err), 0);
    assert_int_equal(s.n_question + s.n_trace + s.n_answer, 0);
    close_both(&b);
    b = open_json(tiny("", "null", BYTE_LEVEL, ""));
    assert_int_equal(
        rot_tokenizer_encode_sample(b.worker, ROT_LAYOUT_ROT, "a", 1, "a", 1, "a", 1, &s, &err),
        ROT_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "<|im_start|>"));
    close_both(&b);
}

static void nth_failing_allocation_is_an_error(void **state)
{
    (void)state;
    rot_err err;
    int successes = 0; // in a row: the cache of words may go without memory once or twice
    write_json(tiny("\"a b\"", "{\"type\":\"NFC\"}",
                    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{"
                    "\"Regex\":\"\\\\p{L}+|\\\\s\"},"
                    "\"behavior\":\"Isolated\",\"invert\":false}," BYTE_LEVEL "]}",
                    ADDED(10, "<x>", false, false, false, false) "," ADDED(11, "\xc3\xa9", false,
                                                                           false, false, true)));
    for (long n = 1; successes < 20; n++) {
        rot_tokenizer *tokenizer = NULL;
        rot_tokenizer_worker *worker = NULL;
        const int32_t *ids;
        const char *text;
        size_t n_ids, n_text;
        rot_mem_fail_at(n);
        int code = rot_tokenizer_open(folder, &tokenizer, &err);
        if (code == 0) code = rot_tokenizer_worker_open(tokenizer, &worker, &err);
        if (code == 0)
            code = rot_tokenizer_encode(worker, "ab<x>e\xcc\x81 d", 10, &ids, &n_ids, &err);
        if (code == 0) code = rot_tokenizer_decode(worker, ids, n_ids, &text, &n_text, &err);
        rot_mem_fail_at(0);
        if (code < 0) assert_int_equal(code, ROT_ERR_NO_MEMORY);
        if (code == 0) assert_string_equal(text, "ab<x>\xc3\xa9 d");
        rot_tokenizer_worker_close(&worker);
        rot_tokenizer_close(&tokenizer);
        successes = code == 0 ? successes + 1 : 0;
        assert_true(n < 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lowest_rank_merges_first_and_leftmost),
        cmocka_unit_test(hash_follows_content_not_form),
        cmocka_unit_test(added_tokens_follow_their_flags),
        cmocka_unit_test(nfc_is_that_of_hugging_face),
        cmocka_unit_test(invalid_utf8_is_named_by_offset),
        cmocka_unit_test(files_that_are_none_are_refused),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(damaged_files_do_no_harm),
        cmocka_unit_test(long_words_do_not_hang),
        cmocka_unit_test(zero_bytes_are_text),
        cmocka_unit_test(used_worker_equals_fresh_one),
        cmocka_unit_test(rot_layout_is_template_and_image_tokens),
        cmocka_unit_test(nth_failing_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
