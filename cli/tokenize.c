// rotoscope tokenize: lines of JSON in, one line of ids or of an error out, in order and without
// waiting for more input than it has.
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

typedef struct options {
    cli_common common;
    const char *tokenizer, *file;
} options;

typedef struct buffer {
    char *bytes;
    size_t n, capacity;
    bool failed; // out of memory
} buffer;

// What one thread makes of its share of the lines.
typedef struct share {
    rot_tokenizer_worker *worker;
    const char *start, *end;
    size_t n_lines, n_bad;
    buffer out;
} share;

static const struct argp_option tokenize_options[] = {
    {"tokenizer", 't', "DIR", 0, "folder with a tokenizer.json", 0}, {0}};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &o->common; return 0;
    case 't': o->tokenizer = arg; return 0;
    case ARGP_KEY_ARG:
        if (o->file) argp_error(state, "one FILE at most");
        o->file = arg;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static bool reserve(buffer *b, size_t n)
{
    if (b->failed) return false;
    if (b->capacity - b->n >= n) return true;
    size_t capacity = b->capacity ? b->capacity : 65536;
    while (capacity - b->n < n) capacity *= 2;
    char *bytes = realloc(b->bytes, capacity);
    if (!bytes) {
        b->failed = true;
        return false;
    }
    b->bytes = bytes;
    b->capacity = capacity;
    return true;
}

static void put(buffer *b, const char *text, size_t n)
{
    if (!reserve(b, n)) return;
    memcpy(b->bytes + b->n, text, n);
    b->n += n;
}

static void put_number(buffer *b, int32_t value)
{
    char digits[12];
    size_t at = sizeof digits;
    do digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    put(b, digits + at, sizeof digits - at);
}

static void put_ids(buffer *b, const int32_t *ids, size_t n)
{
    put(b, "{\"ids\": [", 9);
    for (size_t i = 0; i < n; i++) {
        if (i) put(b, ", ", 2);
        put_number(b, ids[i]);
    }
    put(b, "]}\n", 3);
}

static void put_error(buffer *b, const char *message)
{
    char text[1200];
    size_t n = strlen(message) < sizeof text ? strlen(message) : sizeof text - 1;
    memcpy(text, message, n);
    json_t *string = json_stringn(text, n);
    for (size_t i = 0; !string && i < n; i++) // bytes of the input that are no UTF-8
        if ((unsigned char)text[i] >= 0x80) text[i] = '?';
    if (!string) string = json_stringn(text, n);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    if (!quoted) b->failed = true;
    put(b, "{\"error\": ", 10);
    put(b, quoted ? quoted : "", quoted ? strlen(quoted) : 0);
    put(b, "}\n", 2);
    free(quoted);
    json_decref(string);
}

// One line, without its LF.
static void tokenize_line(share *s, const char *line, size_t n_bytes)
{
    json_error_t at;
    rot_err err;
    const int32_t *ids;
    size_t n_ids;
    json_t *root =
        json_loadb(line, n_bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &at);
    json_t *text = json_is_object(root) ? json_object_get(root, "text") : root;
    if (!root) {
        char message[JSON_ERROR_TEXT_LENGTH + 64];
        snprintf(message, sizeof message, "no JSON: byte %d: %s", at.position, at.text);
        put_error(&s->out, message);
    } else if (!json_is_string(text)) {
        put_error(&s->out, "neither a JSON string nor an object with a string \"text\"");
    } else if (rot_tokenizer_encode(s->worker, json_string_value(text), json_string_length(text),
                                    &ids, &n_ids, &err) < 0) {
        put_error(&s->out, err.message);
        text = NULL;
    } else {
        put_ids(&s->out, ids, n_ids);
    }
    s->n_lines++;
    s->n_bad += !root || !json_is_string(text);
    json_decref(root);
}

static void tokenize_share(share *s)
{
    for (const char *line = s->start; line < s->end;) {
        const char *lf = memchr(line, '\n', (size_t)(s->end - line)), *end = lf ? lf : s->end;
        tokenize_line(s, line, (size_t)(end - line));
        line = end + 1;
    }
}

// Whole lines, dealt to the threads in parts of about equal size that end at LF, written in order.
static int tokenize_lines(share *shares, int n, const char *text, size_t n_bytes)
{
    const char *at = text, *end = text + n_bytes;
    for (int i = 0; i < n; i++) {
        const char *stop = text + n_bytes / (size_t)n * (size_t)(i + 1);
        if (stop < at) stop = at;
        const char *lf = i + 1 < n ? memchr(stop, '\n', (size_t)(end - stop)) : NULL;
        shares[i].start = at;
        shares[i].end = at = lf ? lf + 1 : end;
        shares[i].out.n = 0;
    }
#pragma omp parallel for num_threads(n) schedule(static, 1) if (n_bytes > 65536)
    for (int i = 0; i < n; i++) tokenize_share(&shares[i]);
    for (int i = 0; i < n; i++) {
        if (shares[i].out.failed) {
            fputs("rotoscope: out of memory\n", stderr);
            return 1;
        }
        fwrite(shares[i].out.bytes ? shares[i].out.bytes : "", 1, shares[i].out.n, stdout);
    }
    return cli_done(0);
}

enum { READ_BYTES = 1 << 20 };

// Reads what there is, tokenizes the whole lines of it, keeps the rest.
static int tokenize_stream(share *shares, int n, int fd, const char *name)
{
    int code = 0;
    buffer in = {0};
    ssize_t got = 1;
    while (!code && got) {
        if (!reserve(&in, READ_BYTES)) {
            fprintf(stderr, "rotoscope: %s: out of memory for a line of over %zu bytes\n", name,
                    in.n);
            code = 1;
            break;
        }
        got = read(fd, in.bytes + in.n, READ_BYTES);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            fprintf(stderr, "rotoscope: %s: %s\n", name, strerror(errno));
            code = 1;
            break;
        }
        const char *lf = memrchr(in.bytes + in.n, '\n', (size_t)got);
        in.n += (size_t)got;
        size_t whole = lf ? (size_t)(lf + 1 - in.bytes) : got ? 0 : in.n;
        if (!whole) continue;
        code = tokenize_lines(shares, n, in.bytes, whole);
        memmove(in.bytes, in.bytes + whole, in.n - whole);
        in.n -= whole;
    }
    free(in.bytes);
    return code;
}

static int report(const options *o, const share *shares, int n)
{
    size_t n_lines = 0, n_bad = 0;
    for (int i = 0; i < n; i++) {
        n_lines += shares[i].n_lines;
        n_bad += shares[i].n_bad;
    }
    if (n_bad && !o->common.quiet)
        fprintf(stderr, "rotoscope: %zu of %zu lines have an error\n", n_bad, n_lines);
    return n_bad ? 1 : 0;
}

static int default_threads(void)
{
    const char *slurm = getenv("SLURM_CPUS_PER_TASK");
    int n = omp_get_num_procs(),
        given = slurm ? atoi(slurm) : 0; // the former follows the affinity mask
    return given > 0 && given < n ? given : n;
}

static int run(const options *o, int fd, const char *name)
{
    rot_err err;
    rot_tokenizer *tokenizer;
    int n = o->common.threads ? o->common.threads : default_threads(), code = 1;
    if (rot_tokenizer_open(o->tokenizer, &tokenizer, &err) < 0) return cli_fail(&err);
    share *shares = calloc((size_t)n, sizeof *shares);
    if (!shares) fputs("rotoscope: out of memory\n", stderr);
    int n_open = 0;
    while (shares && n_open < n &&
           rot_tokenizer_worker_open(tokenizer, &shares[n_open].worker, &err) == 0)
        n_open++;
    if (shares && n_open < n)
        code = cli_fail(&err);
    else if (shares)
        code = tokenize_stream(shares, n, fd, name);
    if (shares && n_open == n && !code) code = report(o, shares, n);
    for (int i = 0; i < n_open; i++) {
        rot_tokenizer_worker_close(&shares[i].worker);
        free(shares[i].out.bytes);
    }
    free(shares);
    rot_tokenizer_close(&tokenizer);
    return code;
}

int cli_tokenize(int argc, char **argv)
{
    static const struct argp argp = {.options = tokenize_options,
                                     .parser = parse_option,
                                     .args_doc = "-t DIR [FILE|-]",
                                     .children = cli_children,
                                     .doc = "Token ids of each line of FILE (or stdin): a JSON "
                                            "string, or an object with a string \"text\". For each "
                                            "line one comes out: {\"ids\": [...]} or {\"error\": "
                                            "\"...\"}. Special tokens in the text count, none are "
                                            "added. Exit code 1 if any line has an error."};
    options o = {0};
    error_t failed = argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (failed) return cli_usage("%s", strerror(failed));
    if (!o.tokenizer) return cli_usage("tokenize needs -t DIR, a folder with a tokenizer.json");
    bool from_stdin = !o.file || !strcmp(o.file, "-");
    const char *name = from_stdin ? "stdin" : o.file;
    int fd = from_stdin ? STDIN_FILENO : open(o.file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return cli_usage("%s: %s", name, strerror(errno));
    int code = run(&o, fd, name);
    if (!from_stdin) close(fd);
    return code;
}
