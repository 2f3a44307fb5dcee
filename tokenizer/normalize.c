// NFC by utf8proc, with the rules of Hugging Face, whose tables are older: a code point without
// TOK_NFC is copied and never reordered, whatever utf8proc has learnt about it since. What needs
// work is a run of TOK_NFC code points and the one before it that they may compose with; all other
// bytes are copied.
#include <utf8proc.h>

#include "tokenizer/internal.h"

static int append(tok_normalizer *n, const char *bytes, size_t n_bytes, rot_err *err)
{
    if (!n_bytes) return 0;
    ROT_TRY(rot_grow(&n->text, &n->text_capacity, n->n_text + n_bytes, 1, err));
    memcpy(n->text + n->n_text, bytes, n_bytes);
    n->n_text += n_bytes;
    return 0;
}

static unsigned combining_class(int32_t code_point)
{
    return utf8proc_get_property(code_point)->combining_class;
}

// Stable by combining class. utf8proc orders too, but in quadratic time, which a long run of marks
// shows.
static void order_run(int32_t *run, size_t n, int32_t *scratch)
{
    size_t starts[257] = {0};
    for (size_t i = 0; i < n; i++) starts[combining_class(run[i]) + 1]++;
    for (size_t i = 1; i < 257; i++) starts[i] += starts[i - 1];
    for (size_t i = 0; i < n; i++) scratch[starts[combining_class(run[i])]++] = run[i];
    memcpy(run, scratch, n * sizeof *run);
}

static void order(int32_t *points, size_t n, int32_t *scratch)
{
    for (size_t start = 0, end; start < n; start = end + 1) {
        for (end = start; end < n && combining_class(points[end]); end++) continue;
        if (end - start > 1) order_run(points + start, end - start, scratch);
    }
}

enum { MAX_DECOMPOSED = 18 }; // code points that one decomposes to, at most (NFC alone: 4)

// Decomposes, orders, composes.
static int append_normalized(tok_normalizer *n, const char *bytes, size_t n_bytes, rot_err *err)
{
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    size_t n_points = 0, step;
    for (size_t at = 0; at < n_bytes; at += step) {
        ROT_TRY(rot_grow(&n->code_points, &n->code_points_capacity, 2 * (n_points + MAX_DECOMPOSED),
                         sizeof *n->code_points, err));
        utf8proc_int32_t c = (utf8proc_int32_t)tok_decode(bytes + at, &step);
        utf8proc_ssize_t got =
            utf8proc_decompose_char(c, n->code_points + n_points, MAX_DECOMPOSED, options, NULL);
        if (got < 0 || got > MAX_DECOMPOSED)
            ROT_FAIL(err, ROT_ERR_INTERNAL, "NFC of U+%04X", (unsigned)c);
        n_points += (size_t)got;
    }
    order(n->code_points, n_points, n->code_points + n_points);
    utf8proc_ssize_t left =
        utf8proc_normalize_utf32(n->code_points, (utf8proc_ssize_t)n_points, options);
    if (left < 0) ROT_FAIL(err, ROT_ERR_INTERNAL, "NFC: %s", utf8proc_errmsg(left));
    for (utf8proc_ssize_t i = 0; i < left; i++) {
        utf8proc_uint8_t utf8[4];
        ROT_TRY(
            append(n, (char *)utf8, (size_t)utf8proc_encode_char(n->code_points[i], utf8), err));
    }
    return 0;
}

// Offset of the first code point with TOK_NFC at or after `at`; *before is the one before it, or
// itself.
static size_t find_run(const tok_unicode *unicode, tok_span in, size_t at, size_t *before)
{
    size_t last = at, n;
    *before = at;
    while (at < in.n_bytes) {
        uint64_t eight;
        if (in.n_bytes - at >= 8 &&
            (memcpy(&eight, in.text + at, 8), !(eight & 0x8080808080808080u))) {
            at += 8;
            last = at - 1;
            continue;
        }
        if ((unsigned char)in.text[at] < 0xcc) { // below U+0300: nothing to do
            size_t step = (unsigned char)in.text[at] < 0x80 ? 1 : 2;
            last = at;
            at += step;
            continue;
        }
        uint32_t c = tok_decode(in.text + at, &n);
        if (tok_class(unicode, c) & TOK_NFC) {
            *before = last;
            return at;
        }
        last = at;
        at += n;
    }
    return at;
}

int tok_nfc(tok_normalizer *normalizer, const tok_unicode *unicode, tok_span in, tok_span *out,
            rot_err *err)
{
    size_t done = 0, before, n;
    normalizer->n_text = 0;
    for (;;) {
        size_t run = find_run(unicode, in, done, &before), end = run;
        if (run == in.n_bytes) break;
        while (end < in.n_bytes && tok_class(unicode, tok_decode(in.text + end, &n)) & TOK_NFC)
            end += n;
        if (before < run) { // a mark to utf8proc alone must not take part
            uint32_t c = tok_decode(in.text + before, &n);
            if (utf8proc_get_property((utf8proc_int32_t)c)->combining_class) before = run;
        }
        ROT_TRY(append(normalizer, in.text + done, before - done, err));
        ROT_TRY(append_normalized(normalizer, in.text + before, end - before, err));
        done = end;
    }
    *out = in;
    if (done == 0) return 0;
    ROT_TRY(append(normalizer, in.text + done, in.n_bytes - done, err));
    *out = (tok_span){normalizer->text, normalizer->n_text};
    return 0;
}

void tok_normalizer_close(tok_normalizer *normalizer)
{
    rot_free(normalizer->text);
    rot_free(normalizer->code_points);
    *normalizer = (tok_normalizer){0};
}
