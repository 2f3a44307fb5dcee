// The two pre-tokenizers that nearly all byte-level tokenizers use, written out by hand. Each
// function follows its expression's alternatives in order; the traps are in docs/tokenizer.md.
#include "tokenizer/internal.h"

// GPT-2's encoder.py; Hugging Face's ByteLevel with use_regex.
const char tok_gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
// Qwen2's tokenization_qwen2.py.
static const char qwen_pattern[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{"
                                   "N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                                   "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static bool equals(tok_span source, const char *pattern)
{
    return source.n_bytes == strlen(pattern) && !memcmp(source.text, pattern, source.n_bytes);
}

int tok_step_open(tok_span source, const tok_unicode *unicode, tok_step *out, rot_err *err)
{
    *out =
        (tok_step){.source = rot_strndup(source.text, source.n_bytes), .n_source = source.n_bytes};
    if (!out->source) return rot_no_memory(err, source.n_bytes, "pattern");
    out->scanner = equals(source, qwen_pattern)       ? TOK_SCAN_QWEN
                   : equals(source, tok_gpt2_pattern) ? TOK_SCAN_GPT2
                                                      : TOK_SCAN_PATTERN;
    if (out->scanner != TOK_SCAN_PATTERN) return 0;
    return tok_pattern_open(source, unicode, &out->pattern, err);
}

void tok_step_close(tok_step *step)
{
    rot_free(step->source);
    tok_pattern_close(&step->pattern);
    *step = (tok_step){0};
}

enum { WORDS = TOK_LETTER | TOK_NUMBER | TOK_SPACE }; // what [^\s\p{L}\p{N}] is not

// Classes of the code point at `at` (0 at the end, which no class test accepts) and its length.
static inline unsigned peek(const tok_unicode *u, const char *text, size_t n_bytes, size_t at,
                            size_t *n)
{
    *n = 0;
    if (at >= n_bytes) return 0;
    unsigned c = u->ascii[(unsigned char)text[at]];
    *n = 1;
    return c < 0x80 ? c : tok_class(u, tok_decode(text + at, n));
}

// The end of the run of code points that have (or, with `none`, lack) all of `classes`.
static inline size_t run_of(const tok_unicode *u, const char *text, size_t n_bytes, size_t at,
                            unsigned classes, bool none)
{
    for (size_t n; at < n_bytes; at += n) {
        unsigned c = u->ascii[(unsigned char)text[at]];
        n = 1;
        if (c >= 0x80) c = tok_class(u, tok_decode(text + at, &n));
        if (!(c & classes) != none) break;
    }
    return at;
}

static bool is_line_end(char c)
{
    return c == '\r' || c == '\n';
}

// 's|'t|'re|'ve|'m|'ll|'d after an apostrophe at `at`: its end, or `at`. With `any_case`, U+017F is
// an s.
static size_t contraction(const char *text, size_t n_bytes, size_t at, bool any_case)
{
    size_t left = n_bytes - at;
    if (left < 2) return at;
    char fold = any_case ? 0x20 : 0;
    char a = (char)(text[at + 1] | fold), b = left > 2 ? (char)(text[at + 2] | fold) : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return at + 3;
    if (any_case && left > 2 && !memcmp(text + at + 1, "\xc5\xbf", 2)) return at + 3;
    return at;
}

// \s+(?!\S)|\s+ at white space: all of a run that ends the text, else all but its last code point.
static size_t spaces(const tok_unicode *u, const char *text, size_t n_bytes, size_t at)
{
    size_t last = at, end = at, n;
    while (peek(u, text, n_bytes, end, &n) & TOK_SPACE) {
        last = end;
        end += n;
    }
    return end == n_bytes || last == at ? end : last;
}

size_t tok_scan_qwen(const tok_unicode *u, const char *text, size_t n_bytes, size_t at)
{
    size_t n, n_next;
    if (text[at] == '\'') {
        size_t end = contraction(text, n_bytes, at, true);
        if (end > at) return end;
    }
    unsigned c = peek(u, text, n_bytes, at, &n);
    if (c & TOK_LETTER) return run_of(u, text, n_bytes, at + n, TOK_LETTER, false);
    if (c & TOK_NUMBER) return at + n;
    unsigned next = peek(u, text, n_bytes, at + n, &n_next);
    if ((next & TOK_LETTER) && !is_line_end(text[at]))
        return run_of(u, text, n_bytes, at + n + n_next, TOK_LETTER, false);
    if (!(c & TOK_SPACE) || (text[at] == ' ' && n_next && !(next & WORDS))) {
        size_t end = run_of(u, text, n_bytes, at + n, WORDS, true);
        while (end < n_bytes && is_line_end(text[end])) end++;
        return end;
    }
    size_t line_end = at, end = at; // \s*[\r\n]+ reaches to the last line end of the white space
    while (peek(u, text, n_bytes, end, &n) & TOK_SPACE) {
        end += n;
        if (is_line_end(text[end - 1])) line_end = end;
    }
    return line_end > at ? line_end : spaces(u, text, n_bytes, at);
}

size_t tok_scan_gpt2(const tok_unicode *u, const char *text, size_t n_bytes, size_t at)
{
    size_t n, n_next, first = at;
    if (text[at] == '\'') {
        size_t end = contraction(text, n_bytes, at, false);
        if (end > at) return end;
    }
    unsigned c = peek(u, text, n_bytes, at, &n);
    if (text[at] == ' ') {
        unsigned next = peek(u, text, n_bytes, at + 1, &n_next);
        if (n_next && !(next & TOK_SPACE)) {
            c = next;
            first = at + 1;
            n = n_next;
        }
    }
    if (c & TOK_LETTER) return run_of(u, text, n_bytes, first + n, TOK_LETTER, false);
    if (c & TOK_NUMBER) return run_of(u, text, n_bytes, first + n, TOK_NUMBER, false);
    if (!(c & TOK_SPACE)) return run_of(u, text, n_bytes, first + n, WORDS, true);
    return spaces(u, text, n_bytes, at);
}
