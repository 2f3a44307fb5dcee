// Regular expressions of tokenizer files are written for Oniguruma with Ruby's syntax. Those
// without a hand-written scanner run in PCRE2, after a translation that lets through only what both
// understand alike, and that replaces the classes whose tables differ: \s, \p{L} and \p{N} become
// Hugging Face's.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/str.h"
#include "tokenizer/internal.h"

struct tok_pattern {
    pcre2_code *code;
    bool jit;
};

struct tok_pattern_state {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static const char space_ranges[] =
    "\\t-\\r\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
    "\\x{202f}\\x{205f}\\x{3000}";

typedef struct translation {
    tok_span in;
    size_t at;
    rot_str out;
    const tok_unicode *unicode;
    bool in_class;
} translation;

static int unsupported(const translation *t, const char *what, rot_err *err)
{
    ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "offset %zu of the pattern: %s is not implemented", t->at,
             what);
}

static char ahead(const translation *t, size_t n)
{
    return t->at + n < t->in.n_bytes ? t->in.text[t->at + n] : 0;
}

static void copy(translation *t, size_t n)
{
    rot_str_add(&t->out, t->in.text + t->at, n);
    t->at += n;
}

// The code points that are `class` to Hugging Face and unknown to the oldest PCRE2 that we build
// with.
static void add_new(translation *t, unsigned class)
{
    uint32_t first, classes, next, ignored;
    for (size_t i = 0; tok_unicode_run(i, &first, &classes); i++) {
        if (!(classes & TOK_NEW) || !(classes & class)) continue;
        if (!tok_unicode_run(i + 1, &next, &ignored)) next = TOK_MAX_CODE_POINT + 1;
        rot_str_printf(&t->out, "\\x{%x}-\\x{%x}", first, next - 1);
    }
}

// \p{...} and \P{...}
static int property(translation *t, rot_err *err)
{
    size_t end = t->at + 2;
    while (end < t->in.n_bytes && t->in.text[end] != '}') end++;
    if (ahead(t, 2) != '{' || end == t->in.n_bytes || ahead(t, 3) == '^')
        return unsupported(t, "this form of \\p", err);
    size_t n = end + 1 - t->at;
    bool letter = n == 5 && ahead(t, 3) == 'L', number = n == 5 && ahead(t, 3) == 'N';
    bool negative = t->in.text[t->at + 1] == 'P';
    if (!letter && !number) {
        copy(t, n);
        return 0;
    }
    if (negative && t->in_class) return unsupported(t, "\\P{L} or \\P{N} in a class", err);
    if (!t->in_class) rot_str_puts(&t->out, negative ? "[^" : "[");
    rot_str_puts(&t->out, letter ? "\\p{L}" : "\\p{N}");
    add_new(t, letter ? TOK_LETTER : TOK_NUMBER);
    if (!t->in_class) rot_str_puts(&t->out, "]");
    t->at += n;
    return 0;
}

static int escape(translation *t, rot_err *err)
{
    char c = ahead(t, 1);
    if (c == 'p' || c == 'P') return property(t, err);
    if (c == 's' || c == 'S') {
        if (c == 'S' && t->in_class) return unsupported(t, "\\S in a class", err);
        if (!t->in_class) rot_str_puts(&t->out, c == 'S' ? "[^" : "[");
        rot_str_puts(&t->out, space_ranges);
        if (!t->in_class) rot_str_puts(&t->out, "]");
        t->at += 2;
        return 0;
    }
    bool alike =
        c == 'r' || c == 'n' || c == 't' || c == 'f' || (c == 'd' && !t->in_class) || c == 'd';
    if (!alike && (!c || (unsigned char)c >= 0x80 || (c >= '0' && c <= '9') ||
                   (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
        return unsupported(t, "this escape", err);
    copy(t, 2);
    return 0;
}

// A character class, from its [ to its ].
static int class(translation *t, rot_err *err)
{
    t->in_class = true;
    copy(t, ahead(t, 1) == '^' ? 2 : 1);
    if (ahead(t, 0) == ']') return unsupported(t, "a ] at the start of a class", err);
    while (ahead(t, 0) != ']') {
        if (t->at >= t->in.n_bytes)
            ROT_FAIL(err, ROT_ERR_MISSING, "the pattern ends inside a class");
        if (ahead(t, 0) == '[') return unsupported(t, "a class in a class", err);
        if (ahead(t, 0) == '&' && ahead(t, 1) == '&') return unsupported(t, "&& in a class", err);
        if (ahead(t, 0) == '\\')
            ROT_TRY(escape(t, err));
        else
            copy(t, 1);
    }
    copy(t, 1);
    t->in_class = false;
    return 0;
}

// (?i:...) folds single characters the same way in both; Oniguruma also lets some letters together
// match one character (ss: U+00DF), so only alternatives of ASCII letters that cannot do so are let
// through.
static int any_case(translation *t, rot_err *err)
{
    static const char *const folds[] = {"ss", "st", "ff", "fi", "fl"};
    size_t end = t->at + 4;
    for (; end < t->in.n_bytes && t->in.text[end] != ')'; end++) {
        char c = t->in.text[end], low = (char)(c | 0x20),
             next = end + 1 < t->in.n_bytes ? (char)(t->in.text[end + 1] | 0x20) : 0;
        if (c != '\'' && c != '|' && !(low >= 'a' && low <= 'z'))
            return unsupported(t, "(?i:...) of more than letters", err);
        for (size_t i = 0; i < sizeof folds / sizeof *folds; i++)
            if (low == folds[i][0] && next == folds[i][1])
                return unsupported(t, "a folded ligature in (?i:...)", err);
    }
    copy(t, end - t->at);
    return 0;
}

static int group(translation *t, rot_err *err)
{
    char kind = ahead(t, 2), look = ahead(t, 3);
    if (ahead(t, 1) != '?')
        copy(t, 1);
    else if (kind == 'i' && look == ':')
        return any_case(t, err);
    else if (kind == ':' || kind == '=' || kind == '!' || kind == '>')
        copy(t, 3);
    else if (kind == '<' && (look == '=' || look == '!'))
        copy(t, 4);
    else
        return unsupported(t, "this kind of group", err);
    return 0;
}

// {n}, {n,}, {n,m}; Ruby takes {,m} too, and a + behind the brace is not possessive there.
static int repeat(translation *t, rot_err *err)
{
    size_t n = 1;
    while ((ahead(t, n) >= '0' && ahead(t, n) <= '9') || ahead(t, n) == ',') n++;
    if (n == 1 || ahead(t, 1) == ',' || ahead(t, n) != '}')
        return unsupported(t, "a { that is no {n,m}", err);
    if (ahead(t, n + 1) == '+' || ahead(t, n + 1) == '?')
        return unsupported(t, "{n,m} with a suffix", err);
    copy(t, n + 1);
    return 0;
}

static int translate(translation *t, rot_err *err)
{
    while (t->at < t->in.n_bytes) {
        switch (ahead(t, 0)) {
        case '\\': ROT_TRY(escape(t, err)); break;
        case '[': ROT_TRY(class(t, err)); break;
        case '(': ROT_TRY(group(t, err)); break;
        case '{': ROT_TRY(repeat(t, err)); break;
        default: copy(t, 1);
        }
    }
    return 0;
}

static void *pcre_malloc(size_t n_bytes, void *unused)
{
    (void)unused;
    return rot_malloc(n_bytes);
}

static void pcre_free(void *block, void *unused)
{
    (void)unused;
    rot_free(block);
}

int tok_pattern_open(tok_span source, const tok_unicode *unicode, tok_pattern **out, rot_err *err)
{
    int rc = 0, code;
    size_t offset;
    PCRE2_UCHAR message[128];
    translation t = {.in = source, .unicode = unicode};
    tok_pattern *pattern = rot_calloc(1, sizeof *pattern);
    pcre2_general_context *memory = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    pcre2_compile_context *context = memory ? pcre2_compile_context_create(memory) : NULL;
    *out = NULL;
    rot_str_puts(&t.out, "");
    if (!pattern || !context) {
        rc = rot_no_memory(err, sizeof *pattern, "pattern");
        goto done;
    }
    ROT_GO(translate(&t, err));
    if (t.out.failed) {
        rc = rot_no_memory(err, source.n_bytes, "pattern");
        goto done;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pattern->code = pcre2_compile((PCRE2_SPTR)t.out.text, t.out.n_bytes,
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &offset, context);
    if (!pattern->code && code == PCRE2_ERROR_HEAP_FAILED) {
        rc = rot_no_memory(err, source.n_bytes, "pattern");
    } else if (!pattern->code) {
        pcre2_get_error_message(code, message, sizeof message);
        rc = rot_err_set(err, ROT_ERR_MISSING, "bad pattern: %s", (char *)message);
    } else {
        pattern->jit = pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE) == 0;
        *out = pattern;
        pattern = NULL;
    }
done:
    rot_str_free(&t.out);
    pcre2_compile_context_free(context);
    pcre2_general_context_free(memory);
    tok_pattern_close(&pattern);
    return rc;
}

void tok_pattern_close(tok_pattern **pattern)
{
    if (!*pattern) return;
    pcre2_code_free((*pattern)->code);
    rot_free(*pattern);
    *pattern = NULL;
}

enum { JIT_STACK_START = 32 << 10, JIT_STACK_MAX = 8 << 20 }; // bytes

int tok_pattern_state_open(const tok_pattern *pattern, tok_pattern_state **out, rot_err *err)
{
    tok_pattern_state *state = *out = rot_calloc(1, sizeof *state);
    pcre2_general_context *memory = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    if (state && memory) {
        state->match = pcre2_match_data_create_from_pattern(pattern->code, memory);
        state->context = pcre2_match_context_create(memory);
        state->stack =
            pattern->jit ? pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, memory) : NULL;
    }
    pcre2_general_context_free(memory);
    if (!state || !state->match || !state->context || (pattern->jit && !state->stack)) {
        tok_pattern_state_close(out);
        return rot_no_memory(err, JIT_STACK_START, "pattern matching");
    }
    if (state->stack) pcre2_jit_stack_assign(state->context, NULL, state->stack);
    return 0;
}

void tok_pattern_state_close(tok_pattern_state **state)
{
    if (!*state) return;
    pcre2_match_data_free((*state)->match);
    pcre2_match_context_free((*state)->context);
    pcre2_jit_stack_free((*state)->stack);
    rot_free(*state);
    *state = NULL;
}

int tok_pattern_next(const tok_pattern *pattern, tok_pattern_state *state, tok_span text, size_t at,
                     size_t *start, size_t *end, rot_err *err)
{
    *start = *end = text.n_bytes;
    while (at < text.n_bytes) {
        int n = pcre2_match(pattern->code, (PCRE2_SPTR)text.text, text.n_bytes, at,
                            PCRE2_NO_UTF_CHECK, state->match, state->context);
        if (n == PCRE2_ERROR_NOMATCH) return 0;
        if (n == PCRE2_ERROR_NOMEMORY) return rot_no_memory(err, text.n_bytes, "pattern matching");
        if (n < 0) {
            PCRE2_UCHAR message[128];
            pcre2_get_error_message(n, message, sizeof message);
            ROT_FAIL(err, ROT_ERR_INPUT, "byte %zu: the tokenizer's pattern fails: %s", at,
                     (char *)message);
        }
        const PCRE2_SIZE *found = pcre2_get_ovector_pointer(state->match);
        if (found[1] > found[0]) {
            *start = found[0];
            *end = found[1];
            return 0;
        }
        size_t step; // an empty match: go on behind the next code point
        tok_decode(text.text + found[0], &step);
        at = found[0] + step;
        if (found[0] == text.n_bytes) return 0;
    }
    return 0;
}
