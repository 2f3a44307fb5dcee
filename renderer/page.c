// Page mode's line breaks: a plain greedy wrapper over the length of each whole candidate line.
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "renderer/renderer.h"

static int fits(rot_render_worker *worker, const char *text, size_t n_bytes, bool *out,
                rot_err *err)
{
    const rot_render_options *o = &worker->renderer->options;
    int64_t advance;
    ROT_TRY(rot_measure_line(worker, text, n_bytes, &advance, err));
    *out = advance <= (int64_t)(o->width_px - 2 * o->padding_px) * 64;
    return 0;
}

static int add(rot_render_worker *worker, const char *text, size_t n_bytes, rot_err *err)
{
    ROT_TRY(rot_grow(&worker->lines, &worker->lines_capacity, worker->n_lines + 1,
                     sizeof *worker->lines, err));
    worker->lines[worker->n_lines++] = (rot_render_line){text, n_bytes};
    return 0;
}

// Breaks a word before each first code point that does not fit, one code point per line at least;
// *rest is what stays for the line that goes on.
static int break_word(rot_render_worker *worker, const char *word, size_t n_bytes, size_t *rest,
                      rot_err *err)
{
    size_t start = 0;
    for (;;) {
        bool whole;
        ROT_TRY(fits(worker, word + start, n_bytes - start, &whole, err));
        if (whole) break;
        size_t end = start, next;
        for (next = start; next < n_bytes; end = next) {
            bool ok;
            (void)rot_utf8_next(word, n_bytes, &next);
            ROT_TRY(fits(worker, word + start, next - start, &ok, err));
            if (!ok) break;
        }
        if (end == start) end = next; // not even one code point fits
        if (end >= n_bytes) break;
        ROT_TRY(add(worker, word + start, end - start, err));
        start = end;
    }
    *rest = start;
    return 0;
}

// text[0, n_bytes) has no LF. Words are what stands between single spaces, so that runs of spaces
// give empty words and survive inside a line; the space at a break is dropped.
static int wrap(rot_render_worker *worker, const char *text, size_t n_bytes, rot_err *err)
{
    size_t line = 0, end = 0; // the line so far: text[line, end)
    bool open = false;        // there is one
    for (size_t word = 0; word <= n_bytes;) {
        const char *space = word < n_bytes ? memchr(text + word, ' ', n_bytes - word) : NULL;
        size_t word_end = space ? (size_t)(space - text) : n_bytes;
        size_t start = open ? line : word;
        bool ok;
        ROT_TRY(fits(worker, text + start, word_end - start, &ok, err));
        if (!ok) {
            size_t rest;
            if (open) ROT_TRY(add(worker, text + line, end - line, err));
            ROT_TRY(break_word(worker, text + word, word_end - word, &rest, err));
            start = word + rest;
        }
        line = start;
        end = word_end;
        open = true;
        word = word_end + 1;
    }
    return add(worker, text + line, end - line, err);
}

int rot_break_lines(rot_render_worker *worker, rot_err *err)
{
    const char *text = worker->text, *end = text + worker->n_text;
    worker->n_lines = 0;
    for (;;) {
        const char *newline = text < end ? memchr(text, '\n', (size_t)(end - text)) : NULL;
        ROT_TRY(wrap(worker, text, (size_t)((newline ? newline : end) - text), err));
        if (!newline) return 0;
        text = newline + 1;
    }
}
