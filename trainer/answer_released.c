// The extractor and the comparison of the published Render-of-Thought code, and Coconut's, as they
// are: what they get wrong is wrong here.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "trainer/answer.h"

// The zeros of the decimal digits of Unicode 14 (category Nd), which Python 3.11 takes for digits.
static const int32_t zeros[] = {
    0x30,    0x660,   0x6f0,   0x7c0,   0x966,   0x9e6,   0xa66,   0xae6,   0xb66,   0xbe6,
    0xc66,   0xce6,   0xd66,   0xde6,   0xe50,   0xed0,   0xf20,   0x1040,  0x1090,  0x17e0,
    0x1810,  0x1946,  0x19d0,  0x1a80,  0x1a90,  0x1b50,  0x1bb0,  0x1c40,  0x1c50,  0xa620,
    0xa8d0,  0xa900,  0xa9d0,  0xa9f0,  0xaa50,  0xabf0,  0xff10,  0x104a0, 0x10d30, 0x11066,
    0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0,
    0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2,
    0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0};

static int digit_of(int32_t c) // -1: none
{
    if (c < 0x80) return c >= '0' && c <= '9' ? c - '0' : -1;
    for (size_t i = 1; i < sizeof zeros / sizeof *zeros; i++)
        if (c >= zeros[i] && c < zeros[i] + 10) return c - zeros[i];
    return -1;
}

static bool is_blank(int32_t c) // as Python's str.isspace
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

typedef struct span {
    const char *text;
    size_t n;
} span;

// The code point at *at, which moves behind it; a byte that is no UTF-8 is one of its own.
static int32_t next(span s, size_t *at)
{
    int32_t c = rot_utf8_next(s.text, s.n, at);
    if (c < 0) (*at)++;
    return c;
}

static size_t skip_blanks(span s, size_t at)
{
    for (size_t to = at; at < s.n; at = to)
        if (!is_blank(next(s, &to))) break;
    return at;
}

static size_t skip_digits(span s, size_t at)
{
    for (size_t to = at; at < s.n; at = to)
        if (digit_of(next(s, &to)) < 0) break;
    return at;
}

// Behind the NUM that begins at `at`; `at` itself: there is none.
static size_t skip_number(span s, size_t at)
{
    size_t end = skip_digits(s, at);
    if (end == at || end == s.n || s.text[end] != '.') return end;
    return skip_digits(s, end + 1);
}

// Whether `word` stands at `at`, in any case; *behind: what follows. U+017F is an s, as Python has
// it.
static bool word_at(span s, size_t at, const char *word, size_t *behind)
{
    for (; *word; word++) {
        if (at < s.n && (s.text[at] | 32) == (*word | 32) && s.text[at] != 0)
            at++;
        else if ((*word | 32) == 's' && at + 1 < s.n && !memcmp(s.text + at, "\xc5\xbf", 2))
            at += 2;
        else
            return false;
    }
    *behind = at;
    return true;
}

// A colon, half or full width.
static bool colon_at(span s, size_t at, size_t *behind)
{
    *behind = at + (at < s.n && s.text[at] == ':' ? 1 : 3);
    return (at < s.n && s.text[at] == ':') || (at + 3 <= s.n && !memcmp(s.text + at, "：", 3));
}

// The first digit before the line ends; n: none, and *barren is that end.
static size_t find_digit(span s, size_t at, size_t *barren)
{
    if (at < *barren) return s.n;
    for (size_t to = at; at < s.n && s.text[at] != '\n'; at = to)
        if (digit_of(next(s, &to)) >= 0) return at;
    *barren = at;
    return s.n;
}

typedef enum rule_id { HASHES, CHINESE, THEREFORE, ANSWER, DOLLAR, N_RULES } rule_id;

// Where the number that the rule wants begins if its words stand at `at`; n: they do not. Up to
// *barren no digit is left on the line.
static size_t number_of(span s, rule_id rule, size_t at, size_t *barren)
{
    size_t behind;
    switch (rule) {
    case HASHES:
        if (at + 4 > s.n || memcmp(s.text + at, "####", 4)) return s.n;
        return skip_blanks(s, at + 4);
    case CHINESE:
        if (at + 9 > s.n || memcmp(s.text + at, "答案是", 9)) return s.n;
        return colon_at(s, at + 9, &behind) ? skip_blanks(s, behind) : s.n;
    case THEREFORE:
        if (!word_at(s, at, "therefore", &behind)) return s.n;
        if (behind < s.n && s.text[behind] == ',') behind++;
        at = skip_blanks(s, behind);
        return at > behind ? find_digit(s, at, barren) : s.n;
    case ANSWER:
        if (!word_at(s, at, "answer", &behind)) return s.n;
        return colon_at(s, behind, &behind) ? skip_blanks(s, behind) : s.n;
    default: return s.text[at] == '$' ? at + 1 : s.n;
    }
}

// The start of the longest NUM that reaches to the end of s; n: there is none.
static size_t number_at_end(span s)
{
    for (size_t at = 0; at < s.n;) {
        size_t end = skip_digits(s, at);
        if (end > at && skip_number(s, at) == s.n) return at;
        at = end;
        if (at < s.n) next(s, &at);
    }
    return s.n;
}

void rot_answer_trim(const char **text, size_t *n_bytes)
{
    span s = {*text, *n_bytes};
    size_t begin = skip_blanks(s, 0), end = begin;
    for (size_t at = begin; at < s.n;)
        if (!is_blank(next(s, &at))) end = at;
    *text += begin;
    *n_bytes = end - begin;
}

void rot_answer_released(const char *text, size_t n_bytes, rot_str *out)
{
    span s = {text, n_bytes};
    size_t barren = 0;
    for (int rule = 0; rule < N_RULES; rule++)
        for (size_t at = 0; at < s.n; at++) {
            size_t begin = number_of(s, rule, at, &barren), end = skip_number(s, begin);
            if (end == begin) continue;
            rot_str_add(out, s.text + begin, end - begin);
            return;
        }
    rot_answer_trim(&s.text, &s.n);
    size_t begin = number_at_end(s);
    if (begin == s.n) begin = 0;
    rot_str_add(out, s.text + begin, s.n - begin);
}

// What Python's float() makes of an extracted answer: it is a NUM, or has no digits. False: it
// raises.
static bool float_of(span s, double *value)
{
    static const char *const words[] = {"inf", "infinity", "nan"};
    rot_answer_trim(&s.text, &s.n);
    size_t sign = s.n && (s.text[0] == '-' || s.text[0] == '+');
    for (int i = 0; i < 3; i++)
        if (s.n - sign == strlen(words[i]) && !strncasecmp(s.text + sign, words[i], s.n - sign)) {
            *value = i < 2 ? HUGE_VAL : NAN;
            if (sign && s.text[0] == '-') *value = -*value;
            return true;
        }
    if (!s.n || skip_number(s, 0) != s.n) return false;
    rot_str ascii = {0};
    for (size_t at = 0; at < s.n;) {
        int32_t c = next(s, &at);
        char digit = c == '.' ? '.' : (char)('0' + digit_of(c));
        rot_str_add(&ascii, &digit, 1);
    }
    bool good = !ascii.failed;
    if (good) *value = strtod(ascii.text, NULL);
    rot_str_free(&ascii);
    return good;
}

bool rot_answer_released_equal(const char *a, size_t n_a, const char *b, size_t n_b)
{
    double x, y;
    if (float_of((span){a, n_a}, &x) && float_of((span){b, n_b}, &y)) return fabs(x - y) < 1e-9;
    rot_answer_trim(&a, &n_a);
    rot_answer_trim(&b, &n_b);
    return n_a == n_b && !memcmp(a, b, n_a);
}

/* ---- Coconut -----------------------------------------------------------------------------------
 */

void rot_answer_coconut(const char *text, size_t n_bytes, rot_str *out)
{
    const char *hash = memrchr(text, '#', n_bytes);
    if (hash) {
        n_bytes -= (size_t)(hash + 1 - text);
        text = hash + 1;
    }
    rot_str kept = {0};
    for (size_t i = 0; i < n_bytes; i++)
        if (text[i] != ',') rot_str_add(&kept, text + i, 1);
    const char *trimmed = kept.text ? kept.text : "";
    size_t n = kept.n_bytes;
    rot_answer_trim(&trimmed, &n);
    rot_str_add(out, trimmed, n);
    out->failed = out->failed || kept.failed;
    rot_str_free(&kept);
}

bool rot_answer_coconut_chain(const char *text, size_t n_bytes, const char *const *steps,
                              size_t n_steps)
{
    const char *hash = memchr(text, '#', n_bytes);
    if (hash) n_bytes = (size_t)(hash - text);
    rot_answer_trim(&text, &n_bytes);
    size_t at = 0;
    for (size_t i = 0; i < n_steps; i++) {
        size_t n = strlen(steps[i]);
        if (i && (at == n_bytes || text[at++] != '\n')) return false;
        if (n > n_bytes - at || memcmp(text + at, steps[i], n)) return false;
        at += n;
    }
    return at == n_bytes;
}
