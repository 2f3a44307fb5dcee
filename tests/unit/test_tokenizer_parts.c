// tokenizer, its parts: the hand-written scanners against their expressions, merging against the
// rule.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/utf8.h"
#include "tokenizer/internal.h"

static const char qwen[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                           "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                           "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static uint64_t rng_state = 1;

static unsigned rng(unsigned below) // xorshift64*
{
    rng_state ^= rng_state >> 12;
    rng_state ^= rng_state << 25;
    rng_state ^= rng_state >> 27;
    return (unsigned)(rng_state * 0x2545f4914f6cdd1du >> 33) % below;
}

// The words with | between them; valid until the next call.
static const char *split(const tok_unicode *u, bool is_qwen, const char *text)
{
    static rot_str out;
    size_t n = strlen(text), end;
    out.n_bytes = 0;
    rot_str_puts(&out, "");
    for (size_t at = 0; at < n; at = end) {
        end = is_qwen ? tok_scan_qwen(u, text, n, at) : tok_scan_gpt2(u, text, n, at);
        assert_true(end > at && end <= n);
        if (at) rot_str_puts(&out, "|");
        rot_str_add(&out, text + at, end - at);
    }
    return out.text;
}

static void scanners_split_as_read_off_their_expressions(void **state)
{
    (void)state;
    static const struct {
        const char *text, *qwen, *gpt2;
    } cases[] = {
        {"Hello, world!", "Hello|,| world|!", "Hello|,| world|!"},
        {"48/2 = 24", "4|8|/|2| =| |2|4", "48|/|2| =| 24"},
        {"it's IT'S we'll WE'LL 'dog", "it|'s| IT|'S| we|'ll| WE|'LL| '|dog",
         "it|'s| IT|'|S| we|'ll| WE|'|LL| '|dog"},
        {"a'\xc5\xbf", "a|'\xc5\xbf", "a|'|\xc5\xbf"}, // U+017F folds to s
        {"a   b", "a|  | b", "a|  | b"},
        {"a   ", "a|   ", "a|   "},
        {"a \n\n b", "a| \n\n| b", "a| \n\n| b"},
        {"a \n  \r\n   b", "a| \n  \r\n|  | b", "a| \n  \r\n  | b"},
        {"a\tb \t1", "a|\tb| |\t|1", "a|\t|b| |\t|1"},
        {"!!\n\nx", "!!\n\n|x", "!!|\n|\n|x"},
        {"\nx", "\n|x", "\n|x"},
        {"(x) ?!\r\ny", "(x|)| ?!\r\n|y", "(|x|)| ?!|\r|\n|y"},
        {"\xc2\xbd\xc2\xb2", "\xc2\xbd|\xc2\xb2", "\xc2\xbd\xc2\xb2"}, // numbers that are no digits
        {"x\xc2\xa0y", "x|\xc2\xa0y", "x|\xc2\xa0|y"}, // a no-break space is white space
        {"x\xe2\x80\x8by", "x|\xe2\x80\x8by", "x|\xe2\x80\x8b|y"}, // a zero-width one is not
        {"\xe0\xa4\x95\xe0\xa4\xbf\xe0\xa4\xb0", "\xe0\xa4\x95|\xe0\xa4\xbf\xe0\xa4\xb0",
         "\xe0\xa4\x95|\xe0\xa4\xbf|\xe0\xa4\xb0"}, // a vowel sign is no letter
    };
    tok_unicode u = {0};
    rot_err err;
    assert_int_equal(tok_unicode_open(&u, &err), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(split(&u, true, cases[i].text), cases[i].qwen);
        assert_string_equal(split(&u, false, cases[i].text), cases[i].gpt2);
    }
    tok_unicode_close(&u);
}

static size_t random_text(char *out, size_t n_points)
{
    static const char *const pieces[] = {"'",
                                         "s",
                                         "S",
                                         "re",
                                         "LL",
                                         "\xc5\xbf",
                                         " ",
                                         "  ",
                                         "\n",
                                         "\r",
                                         "\t",
                                         "\xc2\x85",
                                         "\xc2\xa0",
                                         "\xe3\x80\x80",
                                         "\xe2\x80\x8b",
                                         "\xe1\xa0\x8e",
                                         "x",
                                         "7",
                                         "\xc2\xbd",
                                         "\xc3\xa9",
                                         "\xcc\x81",
                                         "!",
                                         "<",
                                         "\xe4\xb8\xad",
                                         "\xf0\x9f\x98\x80",
                                         "\xe1\xb2\x89"};
    size_t n = 0;
    for (size_t i = 0; i < n_points; i++) {
        if (rng(8)) {
            const char *piece = pieces[rng(sizeof pieces / sizeof *pieces)];
            memcpy(out + n, piece, strlen(piece));
            n += strlen(piece);
            continue;
        }
        uint32_t c = rng(3) ? rng(0x3000) : rng(0x110000);
        if (c < 0xd800 || c > 0xdfff) n += rot_utf8_put(c, out + n);
    }
    return n;
}

static void scanners_equal_their_expressions_in_pcre2(void **state)
{
    (void)state;
    rot_err err;
    tok_unicode u = {0};
    assert_int_equal(tok_unicode_open(&u, &err), 0);
    for (int which = 0; which < 2; which++) {
        tok_pattern *pattern;
        tok_pattern_state *match;
        const char *source = which ? tok_gpt2_pattern : qwen;
        tok_step step;
        assert_int_equal(tok_step_open((tok_span){source, strlen(source)}, &u, &step, &err), 0);
        assert_int_equal(step.scanner, which ? TOK_SCAN_GPT2 : TOK_SCAN_QWEN);
        tok_step_close(&step);
        assert_int_equal(tok_pattern_open((tok_span){source, strlen(source)}, &u, &pattern, &err),
                         0);
        assert_int_equal(tok_pattern_state_open(pattern, &match, &err), 0);
        for (int round = 0; round < 20000; round++) {
            char text[256];
            size_t n = random_text(text, rng(24)), start, end;
            for (size_t at = 0; at < n; at = end) {
                size_t ours =
                    which ? tok_scan_gpt2(&u, text, n, at) : tok_scan_qwen(&u, text, n, at);
                assert_int_equal(
                    tok_pattern_next(pattern, match, (tok_span){text, n}, at, &start, &end, &err),
                    0);
                assert_int_equal(start, at);
                assert_int_equal(ours, end);
            }
        }
        tok_pattern_state_close(&match);
        tok_pattern_close(&pattern);
    }
    tok_unicode_close(&u);
}

static void constructs_that_differ_are_refused(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "\\w+",  "\\ba",      "\\h",           "[\\S]",  "[a[b]]",  "[a&&b]", "[]a]",
        "(?i)a", "(?i:stop)", "(?i:\xc3\x9f)", "(?m:a)", "(?<n>a)", "a{,3}",  "a{2}+",
        "\\pL",  "\\p{^L}",   "[\\P{N}]",      "\\1",    "\\x41",   "a{"};
    static const char *const broken[] = {"(a", "[a", "*a", "\\p{Nonsense}"};
    static const char *const fine[] = {"\\p{N}{1,3}", "[^\\s]+", "a|b",   "(?:a(?=b)|(?!c)d)",
                                       "(?<=a)b",     "\\.\\*",  "a*+b?", "^a$",
                                       "(?i:'re|'d)", "\\P{L}"};
    rot_err err;
    tok_pattern *pattern;
    tok_unicode u = {0};
    assert_int_equal(tok_unicode_open(&u, &err), 0);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        int code = tok_pattern_open((tok_span){refused[i], strlen(refused[i])}, &u, &pattern, &err);
        if (code != ROT_ERR_UNSUPPORTED || !strstr(err.message, "offset"))
            fail_msg("%s: %d", refused[i], code);
    }
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        assert_int_equal(
            tok_pattern_open((tok_span){broken[i], strlen(broken[i])}, &u, &pattern, &err),
            ROT_ERR_MISSING);
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        if (tok_pattern_open((tok_span){fine[i], strlen(fine[i])}, &u, &pattern, &err))
            fail_msg("%s: %s", fine[i], err.message);
        tok_pattern_close(&pattern);
    }
    tok_unicode_close(&u);
}

// The rule as it is written: find the lowest rank, leftmost, over all pairs; join; again.
static size_t merge_by_the_rule(const tok_model *model, int32_t *ids, size_t n)
{
    for (;;) {
        const tok_merge *best = NULL;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const tok_merge *m = tok_find_merge(model, (uint32_t)ids[i], (uint32_t)ids[i + 1]);
            if (m && (!best || m->rank < best->rank)) best = m, at = i;
        }
        if (!best) return n;
        ids[at] = (int32_t)best->id;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void merging_follows_the_rule_at_every_length(void **state)
{
    (void)state;
    rot_err err;
    rot_tokenizer *tokenizer;
    tok_bpe bpe = {0};
    assert_int_equal(rot_tokenizer_open("configs/tokenizer-small", &tokenizer, &err), 0);
    for (int round = 0; round < 4000; round++) {
        char word[300];
        int32_t ids[300];
        size_t n = 1 + rng(round % 4 ? 60 : 300);
        for (size_t i = 0; i < n; i++) word[i] = "etaoinshrdlu er"[rng(round % 2 ? 15 : 4)];
        for (size_t i = 0; i < n; i++) ids[i] = tokenizer->model.byte_ids[(unsigned char)word[i]];
        size_t expected = merge_by_the_rule(&tokenizer->model, ids, n);
        assert_int_equal(tok_bpe_word(&bpe, &tokenizer->model, (tok_span){word, n}, &err), 0);
        assert_int_equal(bpe.n_ids, expected);
        assert_memory_equal(bpe.ids, ids, expected * sizeof *ids);
    }
    tok_bpe_close(&bpe);
    rot_tokenizer_close(&tokenizer);
}

static void byte_level_form_is_one_to_one(void **state)
{
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        char in = (char)byte, out[4];
        size_t n = tok_byte_level((tok_span){&in, 1}, out), at = 0;
        assert_int_equal(tok_byte_of_char((uint32_t)rot_utf8_next(out, n, &at)), byte);
        assert_int_equal(at, n);
    }
    assert_int_equal(tok_byte_of_char(' '), -1);
    assert_int_equal(tok_byte_of_char(0x144), -1); // 256 + 68
}

static void cache_gives_back_what_was_put(void **state)
{
    (void)state;
    rot_err err;
    tok_cache *cache;
    assert_int_equal(tok_cache_open(&cache, &err), 0);
    for (unsigned i = 0; i < 100000;
         i++) { // over its capacity: what is there is right, the last one is there
        char word[TOK_CACHE_MAX_WORD];
        int32_t ids[TOK_CACHE_MAX_IDS], got[TOK_CACHE_MAX_IDS];
        size_t n = 4 + i % (TOK_CACHE_MAX_WORD - 3), n_ids = i % (TOK_CACHE_MAX_IDS + 1);
        memset(word, 'x', sizeof word);
        memcpy(word, &i, sizeof i);
        for (size_t k = 0; k < n_ids; k++) ids[k] = (int32_t)(i + k);
        tok_span span = {word, n};
        assert_int_equal(tok_cache_get(cache, span, n, got), -1);
        tok_cache_put(cache, span, ids, n_ids);
        assert_int_equal(tok_cache_get(cache, span, n, got), n_ids);
        assert_memory_equal(got, ids, n_ids * sizeof *ids);
        assert_int_equal(tok_cache_get(cache, span, sizeof word, got),
                         n_ids); // whatever stands behind
    }
    tok_cache_close(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scanners_split_as_read_off_their_expressions),
        cmocka_unit_test(scanners_equal_their_expressions_in_pcre2),
        cmocka_unit_test(constructs_that_differ_are_refused),
        cmocka_unit_test(merging_follows_the_rule_at_every_length),
        cmocka_unit_test(byte_level_form_is_one_to_one),
        cmocka_unit_test(cache_gives_back_what_was_put),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
