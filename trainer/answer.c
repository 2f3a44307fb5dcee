// The corrected rule: which part of a text is the answer, and when two answers are equal.
//
// Answers of MATH are LaTeX in many spellings of the same value. The forms that are brought
// together here are those of its own grading (Hendrycks et al., "Measuring Mathematical Problem
// Solving With the MATH Dataset", 2021): spacing commands, \left and \right, \dfrac and \tfrac,
// fractions and roots without braces, degrees, dollars, percent signs, units in \text behind a
// value, "x =".
#include "trainer/answer.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/mem.h"

// A longer answer is compared as it is; an answer is looked for in so many bytes at a text's end.
enum { MAX_ANSWER = 4096, MAX_TEXT = 1 << 16, MAX_DEPTH = 8 };

typedef struct span {
    const char *text;
    size_t n;
} span;

static span trimmed(span s)
{
    rot_answer_trim(&s.text, &s.n);
    return s;
}

static span from(span s, size_t at)
{
    return (span){s.text + at, s.n - at};
}

static bool starts(span s, size_t at, const char *word)
{
    size_t n = strlen(word);
    return at <= s.n && n <= s.n - at && !memcmp(s.text + at, word, n);
}

static bool is_digit(span s, size_t at)
{
    return at < s.n && s.text[at] >= '0' && s.text[at] <= '9';
}

static bool is_letter(span s, size_t at)
{
    return at < s.n && isalpha((unsigned char)s.text[at]);
}

/* ---- one spelling of every answer --------------------------------------------------------------
 */

// Behind the group {...} that begins at `at`, braces nesting; `at`: none begins or it does not
// close.
static size_t skip_group(span s, size_t at)
{
    size_t depth = 0;
    if (at >= s.n || s.text[at] != '{') return at;
    for (size_t i = at; i < s.n; i++) {
        if (s.text[i] == '\\')
            i++;
        else if (s.text[i] == '{')
            depth++;
        else if (s.text[i] == '}' && --depth == 0)
            return i + 1;
    }
    return at;
}

// Behind the command \letters, or \ and one character, that begins at `at`.
static size_t skip_command(span s, size_t at)
{
    size_t end = at + 1;
    while (is_letter(s, end)) end++;
    return end > at + 1 ? end : end < s.n ? end + 1 : end;
}

static bool command_is(span s, size_t at, size_t end, const char *const *words)
{
    for (; *words; words++)
        if (strlen(*words) == end - at && !memcmp(s.text + at, *words, end - at)) return true;
    return false;
}

// Appends s without blanks, without commands that only space or size, with one name for fractions,
// and without the unit behind a value.
static void strip(span s, int depth, rot_str *out)
{
    static const char *const nothing[] = {"\\!",    "\\,",     "\\;",      "\\:", "\\ ",
                                          "\\left", "\\right", "\\$",      "\\%", "\\displaystyle",
                                          "\\quad", "\\circ",  "\\degree", NULL};
    static const char *const fractions[] = {"\\dfrac", "\\tfrac", "\\cfrac", NULL};
    static const char *const texts[] = {"\\text",         "\\mbox",   "\\textbf", "\\textit",
                                        "\\textrm",       "\\mathrm", "\\mathbf", "\\mathit",
                                        "\\operatorname", NULL};
    for (size_t at = 0; at < s.n;) {
        if (starts(s, at, "^\\circ")) {
            at += 6;
        } else if (starts(s, at, "^{\\circ}")) {
            at += 8;
        } else if (starts(s, at, "\xe2\x88\x92")) { // U+2212, minus
            rot_str_puts(out, "-");
            at += 3;
        } else if (s.text[at] == '\\') {
            size_t end = skip_command(s, at), group = end;
            while (group < s.n && s.text[group] == ' ') group++;
            size_t behind = skip_group(s, group);
            if (depth < MAX_DEPTH && command_is(s, at, end, texts) && behind > group) {
                size_t rest = behind; // a unit: nothing but a power behind it
                if (rest < s.n && s.text[rest] == '^')
                    rest = skip_group(s, rest + 1) > rest + 1 ? skip_group(s, rest + 1) : rest + 2;
                if (out->n_bytes && rest >= s.n) return;
                strip((span){s.text + group + 1, behind - group - 2}, depth + 1, out);
                at = behind;
                continue;
            }
            if (command_is(s, at, end, fractions))
                rot_str_puts(out, "\\frac");
            else if (!command_is(s, at, end, nothing))
                rot_str_add(out, s.text + at, end - at);
            at = end;
        } else {
            if (!strchr(" \t\r\n~$%", s.text[at])) rot_str_add(out, s.text + at, 1);
            at++;
        }
    }
}

// One argument of a command: a group as it is, anything shorter in braces of its own.
static size_t add_argument(span s, size_t at, rot_str *out)
{
    size_t end = skip_group(s, at);
    if (at >= s.n) return at;
    if (end == at) {
        end = s.text[at] == '\\' ? skip_command(s, at) : at + 1;
        rot_str_puts(out, "{");
        rot_str_add(out, s.text + at, end - at);
        rot_str_puts(out, "}");
    } else {
        rot_str_add(out, s.text + at, end - at);
    }
    return end;
}

// Braces around every argument of \frac and \sqrt, none around one character behind ^ and _.
static void brace(span s, rot_str *out)
{
    for (size_t at = 0; at < s.n;) {
        bool frac = starts(s, at, "\\frac"), root = starts(s, at, "\\sqrt");
        if (frac || root) {
            rot_str_add(out, s.text + at, 5);
            at += 5;
            if (root && at < s.n && s.text[at] == '[') continue;
            at = add_argument(s, at, out);
            if (frac) at = add_argument(s, at, out);
        } else if (strchr("^_", s.text[at]) && s.text[at] && skip_group(s, at + 1) == at + 4) {
            rot_str_add(out, s.text + at, 1);
            rot_str_add(out, s.text + at + 2, 1);
            at += 4;
        } else {
            rot_str_add(out, s.text + at++, 1);
        }
    }
}

// Behind "1,234,567" with groups of three; `at`: no comma stands there as it should.
static size_t skip_thousands(span s, size_t at)
{
    size_t end = at;
    while (is_digit(s, end) && end < at + 3) end++;
    if (end == at || is_digit(s, end)) return at;
    size_t first = end;
    while (end < s.n && s.text[end] == ',' && is_digit(s, end + 1) && is_digit(s, end + 2) &&
           is_digit(s, end + 3) && !is_digit(s, end + 4))
        end += 4;
    return end > first ? end : at;
}

// The text of a whole normal form without the commas of thousands, "x=", "(A)"'s parentheses.
static span shorten(span s, rot_str *scratch)
{
    if (s.n > 2 && is_letter(s, 0) && s.text[1] == '=' && !memchr(s.text + 2, '=', s.n - 2))
        s = (span){s.text + 2, s.n - 2};
    if (s.n == 3 && s.text[0] == '(' && is_letter(s, 1) && s.text[2] == ')')
        return (span){s.text + 1, 1};
    size_t sign = s.n && (s.text[0] == '-' || s.text[0] == '+');
    size_t end = skip_thousands(s, sign), rest = end;
    if (end == sign) return s;
    if (rest < s.n && s.text[rest] == '.') rest++;
    while (is_digit(s, rest)) rest++;
    if (rest < s.n) return s;
    for (size_t i = 0; i < s.n; i++)
        if (s.text[i] != ',') rot_str_add(scratch, s.text + i, 1);
    return (span){scratch->text ? scratch->text : "", scratch->n_bytes};
}

int rot_answer_normal(const char *text, size_t n_bytes, rot_str *out, rot_err *err)
{
    span s = trimmed((span){text, n_bytes});
    rot_str stripped = {0}, braced = {0}, scratch = {0};
    if (s.n > MAX_ANSWER) {
        rot_str_add(out, s.text, s.n);
        return out->failed ? rot_no_memory(err, n_bytes, "an answer") : 0;
    }
    while (s.n && s.text[s.n - 1] == '.') s = trimmed((span){s.text, s.n - 1});
    strip(s, 0, &stripped);
    brace((span){stripped.text, stripped.n_bytes}, &braced);
    s = shorten((span){braced.text, braced.n_bytes}, &scratch);
    rot_str_add(out, s.n ? s.text : "", s.n);
    bool failed = out->failed || stripped.failed || braced.failed || scratch.failed;
    rot_str_free(&stripped);
    rot_str_free(&braced);
    rot_str_free(&scratch);
    return failed ? rot_no_memory(err, n_bytes, "an answer") : 0;
}

/* ---- numbers -----------------------------------------------------------------------------------
 */

// Digits, a dot, digits, an exponent; at least one digit. Behind it, or `at`.
static size_t skip_decimal(span s, size_t at)
{
    size_t end = at, n = 0;
    while (is_digit(s, end)) end++, n++;
    if (end < s.n && s.text[end] == '.') {
        size_t behind = end + 1;
        while (is_digit(s, behind)) behind++, n++;
        if (n) end = behind;
    }
    if (!n) return at;
    if (end < s.n && (s.text[end] | 32) == 'e') {
        size_t power = end + 1;
        if (power < s.n && (s.text[power] == '-' || s.text[power] == '+')) power++;
        if (is_digit(s, power)) {
            while (is_digit(s, power)) power++;
            end = power;
        }
    }
    return end;
}

// The text is NUL-terminated and at `at` begins what skip_decimal goes over.
static double decimal(span s, size_t at)
{
    return strtod(s.text + at, NULL);
}

// "{decimal}", perhaps with a sign. Behind it, or `at`.
static size_t braced_decimal(span s, size_t at, double *value)
{
    if (at >= s.n || s.text[at] != '{') return at;
    size_t sign = at + 1 < s.n && s.text[at + 1] == '-', end = skip_decimal(s, at + 1 + sign);
    if (end == at + 1 + sign || end >= s.n || s.text[end] != '}') return at;
    *value = decimal(s, at + 1 + sign) * (sign ? -1 : 1);
    return end + 1;
}

bool rot_answer_value(const char *normal, double *value)
{
    span s = {normal, strlen(normal)};
    double above = 0, below = 1, whole = 0;
    size_t sign = s.n && (s.text[0] == '-' || s.text[0] == '+'), at = skip_decimal(s, sign);
    bool has_whole = at > sign;
    if (has_whole) whole = decimal(s, sign);
    if (starts(s, at, "\\frac")) { // alone, or a mixed number's
        size_t first = braced_decimal(s, at + 5, &above);
        size_t second = braced_decimal(s, first, &below);
        if (first == at + 5 || second == first) return false;
        if (has_whole && (memchr(s.text, '.', at) || above < 0 || below <= 0)) return false;
        at = second;
    } else if (has_whole && at < s.n && s.text[at] == '/') {
        size_t end = skip_decimal(s, at + 1);
        if (end == at + 1) return false;
        above = whole;
        below = decimal(s, at + 1);
        whole = 0;
        at = end;
    } else if (!has_whole) {
        return false;
    }
    if (at != s.n || below == 0) return false;
    *value = (whole + above / below) * (sign && s.text[0] == '-' ? -1 : 1);
    return true;
}

static bool same_value(double a, double b)
{
    double scale = fmax(1, fmax(fabs(a), fabs(b)));
    return fabs(a - b) <= 1e-9 * scale || a == b;
}

// The number that stands at `at` of a text in words: thousands, decimals, a/b, LaTeX's fractions.
// Behind it, or `at`. A time, an index or a variable's factor is none.
static size_t skip_spoken(span s, size_t at)
{
    if (at && (isalnum((unsigned char)s.text[at - 1]) || strchr("_^.", s.text[at - 1]))) return at;
    size_t end = skip_thousands(s, at);
    if (end > at) {
        if (end < s.n && s.text[end] == '.' && is_digit(s, end + 1))
            for (end++; is_digit(s, end);) end++;
    } else {
        end = skip_decimal(s, at);
    }
    bool frac = false;
    for (int i = 0; i < 3 && !frac; i++)
        frac = starts(s, end, i == 0 ? "\\frac" : i == 1 ? "\\dfrac" : "\\tfrac");
    if (frac) {
        size_t first = skip_group(s, skip_command(s, end)),
               second = first < s.n ? skip_group(s, first) : first;
        if (second > first) end = second;
    } else if (end > at && end < s.n && s.text[end] == '/' && is_digit(s, end + 1)) {
        end = skip_decimal(s, end + 1);
    }
    if (end == at) return at;
    if (s.text[end - 1] == '.') end--; // of the sentence
    bool time = (end + 1 < s.n && s.text[end] == ':' && is_digit(s, end + 1)) ||
                (at > 1 && s.text[at - 1] == ':' && is_digit(s, at - 2));
    bool factor = (is_letter(s, end) && !is_letter(s, end + 1)) ||
                  (end < s.n && strchr("\\^_", s.text[end]) && !starts(s, end, "\\%") &&
                   !starts(s, end, "\\text") && !starts(s, end, "\\mbox") &&
                   !starts(s, end, "\\$") && !starts(s, end, "\\,") && !starts(s, end, "^\\circ"));
    return time || factor ? at : end;
}

// Where the number's sign stands, behind a dollar perhaps: a dash that no value precedes.
static size_t with_sign(span s, size_t at)
{
    size_t from = at;
    while (from && strchr("$\\ ", s.text[from - 1])) from--;
    if (!from || s.text[from - 1] != '-') return at;
    from--;
    bool binary = from && (isalnum((unsigned char)s.text[from - 1]) || s.text[from - 1] == ')');
    bool spaced = from && s.text[from - 1] == ' ' && from + 1 < s.n && s.text[from + 1] == ' ';
    return binary || spaced ? at : from;
}

// Whether a number is all that its text counts, and no term of an expression.
static bool stands_alone(span s, span number)
{
    size_t at = (size_t)(number.text - s.text);
    for (size_t i = 0; i < s.n; i++)
        if ((i < at || i >= at + number.n) && is_digit(s, i)) return false;
    while (at && strchr("$\\ ", s.text[at - 1])) at--;
    return !at || !strchr("+-*/^", s.text[at - 1]);
}

typedef enum number_kind { FIRST, LAST, ONLY } number_kind;

// A number of the text: its first, its last, or the only one. n 0: there is none.
static span pick_number(span s, number_kind which)
{
    if (s.n > MAX_ANSWER)
        s = which == LAST ? from(s, s.n - MAX_ANSWER) : (span){s.text, MAX_ANSWER};
    span found = {s.text, 0};
    int n = 0;
    for (size_t at = 0; at < s.n;) {
        size_t end = skip_spoken(s, at);
        if (end == at) {
            at++;
            continue;
        }
        if (!n || which == LAST) {
            size_t from = with_sign(s, at);
            found = (span){s.text + from, end - from};
        }
        n++;
        at = end;
    }
    if (which == ONLY && (n != 1 || !stands_alone(s, found))) found.n = 0;
    return found;
}

/* ---- the answer within a text ------------------------------------------------------------------
 */

static span first_line(span s)
{
    const char *end = memchr(s.text, '\n', s.n);
    return end ? (span){s.text, (size_t)(end - s.text)} : s;
}

// Behind the last place where one of the words stands, letters in any case; n: nowhere.
static size_t behind_last(span s, const char *const *words)
{
    for (size_t at = s.n; at-- > 0;)
        for (const char *const *word = words; *word; word++) {
            size_t n = strlen(*word);
            if (n <= s.n - at && !strncasecmp(s.text + at, *word, n)) return at + n;
        }
    return s.n;
}

// The content of the last box whose braces close.
static bool boxed(span s, span *out)
{
    for (size_t at = s.n; at-- > 0;) {
        if (!starts(s, at, "\\boxed{") && !starts(s, at, "\\fbox{")) continue;
        size_t open = at + (s.text[at + 1] == 'b' ? 6 : 5), end = skip_group(s, open);
        if (end == open) continue;
        *out = (span){s.text + open + 1, end - open - 2};
        return true;
    }
    return false;
}

// What the text gives as its answer, and which of its numbers would be meant.
static span answer_in(span s, bool lines, number_kind *which)
{
    static const char *const hashes[] = {"###", NULL};
    static const char *const said[] = {"answer is", "answer:", "answer\xef\xbc\x9a", "答案是",
                                       NULL};
    *which = ONLY;
    s = trimmed(s.n > MAX_TEXT ? from(s, s.n - MAX_TEXT) : s);
    if (starts(s, 0, "assistant\n")) s = trimmed(from(s, 10));
    size_t at = starts(s, 0, "###") ? 3 : behind_last(s, hashes);
    if (at < s.n || starts(s, 0, "###")) {
        while (at < s.n && s.text[at] == '#') at++;
        s = trimmed(from(s, at));
        if (!lines) s = first_line(s);
        boxed(s, &s);
        return trimmed(s);
    }
    if (boxed(s, &s)) return trimmed(s);
    at = behind_last(s, said);
    if (at == s.n) {
        *which = LAST;
        return s;
    }
    *which = FIRST;
    s = trimmed(from(s, at));
    if (starts(s, 0, ":")) s = trimmed(from(s, 1));
    if (starts(s, 0, "\xef\xbc\x9a")) s = trimmed(from(s, 3));
    return lines ? s : trimmed(first_line(s));
}

static bool only_letters(const rot_str *s)
{
    for (size_t i = 0; i < s->n_bytes; i++)
        if (!isalpha((unsigned char)s->text[i])) return false;
    return true;
}

static bool equal_texts(const rot_str *a, const rot_str *b)
{
    if (a->n_bytes != b->n_bytes) return false;
    if (!a->n_bytes) return true;
    if (only_letters(a) && only_letters(b)) return !strncasecmp(a->text, b->text, a->n_bytes);
    return !memcmp(a->text, b->text, a->n_bytes);
}

int rot_answer_corrected(const char *text, size_t n_bytes, const char *gold, size_t n_gold,
                         rot_str *extracted, bool *right, rot_err *err)
{
    rot_str ours = {0}, theirs = {0};
    double x, y;
    number_kind which;
    int rc = 0;
    span found = answer_in((span){text, n_bytes}, memchr(gold, '\n', n_gold), &which);
    ROT_GO(rot_answer_normal(found.text, found.n, &ours, err));
    ROT_GO(rot_answer_normal(gold, n_gold, &theirs, err));
    bool number = theirs.n_bytes && rot_answer_value(theirs.text, &y);
    if (number && !(ours.n_bytes && rot_answer_value(ours.text, &x))) {
        span spoken = pick_number(found, which);
        if (spoken.n) {
            found = spoken;
            rot_str_free(&ours);
            ROT_GO(rot_answer_normal(found.text, found.n, &ours, err));
        }
    }
    *right = number ? ours.n_bytes && rot_answer_value(ours.text, &x) && same_value(x, y)
                    : equal_texts(&ours, &theirs);
    rot_str_add(extracted, found.text, found.n);
    if (extracted->failed) rc = rot_no_memory(err, found.n, "an answer");
done:
    rot_str_free(&ours);
    rot_str_free(&theirs);
    return rc;
}
