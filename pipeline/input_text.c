#include "pipeline/input_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

rot_span rot_span_trim(rot_span s)
{
    while (s.n_bytes && is_space(s.text[0])) {
        s.text++;
        s.n_bytes--;
    }
    while (s.n_bytes && is_space(s.text[s.n_bytes - 1])) s.n_bytes--;
    return s;
}

// Offset of the last `word` in s, or n_bytes.
static size_t find_last(rot_span s, const char *word)
{
    size_t n = strlen(word);
    for (size_t at = s.n_bytes >= n ? s.n_bytes - n + 1 : 0; at-- > 0;)
        if (!memcmp(s.text + at, word, n)) return at;
    return s.n_bytes;
}

bool rot_split_hashes(rot_span text, rot_span *trace, rot_span *answer)
{
    size_t at = find_last(text, "####");
    if (at == text.n_bytes) return false;
    *trace = rot_span_trim((rot_span){text.text, at});
    *answer = rot_span_trim((rot_span){text.text + at + 4, text.n_bytes - at - 4});
    return true;
}

bool rot_split_gsm8k_aug(rot_span line, rot_span *question, rot_span *trace, rot_span *answer)
{
    const char *bars = memmem(line.text, line.n_bytes, "||", 2);
    if (!bars) return false;
    size_t at = (size_t)(bars - line.text);
    *question = rot_span_trim((rot_span){line.text, at});
    return rot_split_hashes((rot_span){bars + 2, line.n_bytes - at - 2}, trace, answer);
}

static bool braces(rot_span text, size_t open, rot_span *content)
{
    size_t depth = 0;
    for (size_t i = open; i < text.n_bytes; i++) {
        char c = text.text[i];
        if (c == '\\')
            i++;
        else if (c == '{')
            depth++;
        else if (c == '}' && --depth == 0) {
            *content = (rot_span){text.text + open + 1, i - open - 1};
            return true;
        }
    }
    return false;
}

// What follows \boxed or \fbox at `at`. False: it is another word, or its braces do not close.
static bool boxed_at(rot_span text, size_t at, size_t n_word, rot_span *answer)
{
    size_t after = at + n_word;
    while (after < text.n_bytes && is_space(text.text[after])) after++;
    if (after < text.n_bytes && text.text[after] == '{') return braces(text, after, answer);
    if (after == at + n_word) return false;
    const char *dollar = memchr(text.text + after, '$', text.n_bytes - after);
    size_t end = dollar ? (size_t)(dollar - text.text) : text.n_bytes;
    *answer = rot_span_trim((rot_span){text.text + after, end - after});
    return answer->n_bytes > 0;
}

bool rot_find_boxed(rot_span text, rot_span *answer)
{
    rot_span left = text;
    for (;;) {
        size_t boxed = find_last(left, "\\boxed"), fbox = find_last(left, "\\fbox");
        bool has_boxed = boxed < left.n_bytes, has_fbox = fbox < left.n_bytes;
        if (!has_boxed && !has_fbox) return false;
        bool use_boxed = has_boxed && (!has_fbox || boxed > fbox);
        size_t at = use_boxed ? boxed : fbox;
        if (boxed_at(text, at, use_boxed ? 6 : 5, answer)) return true;
        left.n_bytes = at;
    }
}

size_t rot_strip_calculator(rot_span text, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < text.n_bytes;) {
        if (i + 1 < text.n_bytes && text.text[i] == '<' && text.text[i + 1] == '<') {
            const char *end = memmem(text.text + i + 2, text.n_bytes - i - 2, ">>", 2);
            if (end) {
                i = (size_t)(end - text.text) + 2;
                continue;
            }
        }
        out[n++] = text.text[i++];
    }
    return n;
}

void rot_number_text(double value, char out[40])
{
    char digits[32]; // "-d.ddde+xx"
    int precision = 0;
    do snprintf(digits, sizeof digits, "%.*e", precision, value);
    while (strtod(digits, NULL) != value && precision++ < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent < -7 || exponent > 20)
        snprintf(out, 40, "%s", digits);
    else // as many digits behind the point as the shortest form has
        snprintf(out, 40, "%.*f", precision > exponent ? precision - exponent : 0, value);
    if (!strcmp(out, "-0")) strcpy(out, "0");
}
