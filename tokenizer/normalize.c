// NFC by utf8proc, with the rules of Hugging Face, whose tables are older: a code point without
// TOK_NFC is copied and never reordered, whatever utf8proc has learnt about it since. What needs
// work is a run of TOK_NFC code points and the one before it that they may compose with; all other
// bytes are copied.
#include <utf8proc.h>

#include "tokenizer/internal.h"

static int append(tok_normalizer *n, const char *bytes, size_t n_bytes, rot_err *err)
{
    ROT_TRY(rot_grow(&n->text, &n->text_capacity, n->n_text + n_bytes, 1, err));
    memcpy(n->text + n->n_text, bytes, n_bytes);
    n->n_text += n_bytes;
    return 0;
}

static int append_normalized(tok_normalizer *n, const char *bytes, size_t n_bytes, rot_err *err)
{
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    utf8proc_ssize_t n_points = 0;
    for (;;) {
        size_t room = n->code_points_capacity;
        n_points = utf8proc_decompose((const utf8proc_uint8_t *)bytes, (utf8proc_ssize_t)n_bytes,
                                      n->code_points, (utf8proc_ssize_t)room, options);
        if (n_points < 0) ROT_FAIL(err, ROT_ERR_INTERNAL, "NFC: %s", utf8proc_errmsg(n_points));
        if ((size_t)n_points < room) break; // one to spare: encoding in place wants it
        ROT_TRY(rot_grow(&n->code_points, &n->code_points_capacity, (size_t)n_points + 1,
                         sizeof *n->code_points, err));
    }
    n_points = utf8proc_normalize_utf32(n->code_points, n_points, options);
    if (n_points < 0) ROT_FAIL(err, ROT_ERR_INTERNAL, "NFC: %s", utf8proc_errmsg(n_points));
    for (utf8proc_ssize_t i = 0; i < n_points; i++) {
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
