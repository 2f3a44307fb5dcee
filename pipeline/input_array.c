#include "pipeline/input_array.h"

#include "base/err.h"

static bool is_space(int c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int fail(const rot_stream *stream, const char *cause, rot_err *err)
{
    ROT_FAIL(err, ROT_ERR_INPUT, "%s:%llu: byte %llu: %s", rot_stream_path(stream),
             (unsigned long long)rot_stream_line_number(stream),
             (unsigned long long)rot_stream_offset(stream), cause);
}

// The first byte that is no white space; -1: the end.
static int skip_space(rot_stream *stream, int *byte, rot_err *err)
{
    do ROT_TRY(rot_stream_byte(stream, byte, err));
    while (is_space(*byte));
    return 0;
}

// The opening bracket, after a byte order mark if there is one.
static int begin(rot_stream *stream, rot_err *err)
{
    static const int mark[] = {0xef, 0xbb, 0xbf};
    int byte;
    ROT_TRY(skip_space(stream, &byte, err));
    for (int i = 0; i < 3 && byte == mark[i]; i++) ROT_TRY(rot_stream_byte(stream, &byte, err));
    if (is_space(byte)) ROT_TRY(skip_space(stream, &byte, err));
    return byte == '[' ? 0 : fail(stream, "not a JSON array", err);
}

// Where within the element the scan is.
typedef struct nesting {
    int depth;
    bool in_string, escaped;
} nesting;

static void step(nesting *n, int byte)
{
    if (n->escaped)
        n->escaped = false;
    else if (n->in_string) {
        if (byte == '\\')
            n->escaped = true;
        else if (byte == '"')
            n->in_string = false;
    } else if (byte == '"')
        n->in_string = true;
    else if (byte == '{' || byte == '[')
        n->depth++;
    else if (byte == '}' || byte == ']')
        n->depth--;
}

// Nothing but white space may follow the closing bracket.
static int end(rot_stream *stream, rot_array_state *state, rot_err *err)
{
    int byte;
    *state = ROT_ARRAY_AFTER;
    ROT_TRY(skip_space(stream, &byte, err));
    return byte < 0 ? 0 : fail(stream, "something follows the array", err);
}

int rot_array_next(rot_stream *stream, rot_array_state *state, rot_str *text, rot_element *out,
                   rot_err *err)
{
    int byte;
    if (*state == ROT_ARRAY_AFTER) return 0;
    bool first = *state == ROT_ARRAY_BEFORE;
    if (first) ROT_TRY(begin(stream, err));
    *state = ROT_ARRAY_WITHIN;
    ROT_TRY(skip_space(stream, &byte, err));
    if (first && byte == ']') return end(stream, state, err);
    *out = (rot_element){.line = rot_stream_line_number(stream),
                         .offset = rot_stream_offset(stream) - 1};
    text->n_bytes = 0;
    for (nesting n = {0};;) {
        if (byte < 0) return fail(stream, "the array does not end", err);
        if (!n.in_string && n.depth == 0 && (byte == ',' || byte == ']')) break;
        step(&n, byte);
        if (text->n_bytes < ROT_LINE_MAX_BYTES)
            rot_str_add(text, &(char){(char)byte}, 1);
        else
            out->too_long = true;
        ROT_TRY(rot_stream_byte(stream, &byte, err));
    }
    rot_str_add(text, "", 0);
    if (text->failed)
        return rot_err_set(err, ROT_ERR_NO_MEMORY, "out of memory for an array element");
    if (byte == ']') ROT_TRY(end(stream, state, err));
    return 1;
}
