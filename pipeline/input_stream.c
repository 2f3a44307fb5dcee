#include "pipeline/input_stream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/err.h"
#include "base/mem.h"

enum { CHUNK = 1 << 16 };

typedef enum packing { PLAIN, GZIP, ZSTD } packing;

struct rot_stream {
    char *path;
    FILE *file;
    packing packing;
    z_stream gzip;
    bool gzip_open;
    ZSTD_DStream *zstd;
    bool frame_open;         // within a gzip member or zstd frame
    unsigned char in[CHUNK]; // as it lies in the file
    size_t in_at, in_end;
    uint64_t in_offset;       // of in[in_at] in the file
    bool in_done;             // the file has no more
    unsigned char out[CHUNK]; // decompressed, for rot_stream_byte and _line
    size_t out_at, out_end;
    uint64_t out_offset; // of out[out_at]
    char *line;          // the current line
    size_t line_capacity;
    uint64_t line_number;
};

static int fill(rot_stream *s, rot_err *err)
{
    if (s->in_at < s->in_end || s->in_done) return 0;
    s->in_at = 0;
    s->in_end = fread(s->in, 1, CHUNK, s->file);
    if (s->in_end < CHUNK) {
        if (ferror(s->file)) return rot_err_errno(err, errno, "read", s->path);
        s->in_done = true;
    }
    return 0;
}

static int detect(rot_stream *s, rot_err *err)
{
    ROT_TRY(fill(s, err));
    if (s->in_end >= 2 && s->in[0] == 0x1f && s->in[1] == 0x8b) {
        s->packing = GZIP;
        if (inflateInit2(&s->gzip, 15 + 16) != Z_OK) return rot_no_memory(err, 0, "gzip");
        s->gzip_open = true;
    } else if (s->in_end >= 4 && !memcmp(s->in, "\x28\xb5\x2f\xfd", 4)) {
        s->packing = ZSTD;
        s->zstd = ZSTD_createDStream();
        if (!s->zstd) return rot_no_memory(err, 0, "zstd");
    }
    return 0;
}

int rot_stream_open(const char *path, rot_stream **out, rot_err *err)
{
    rot_stream *s = rot_calloc(1, sizeof *s);
    int rc = 0;
    if (!s || !(s->path = rot_strdup(path))) ROT_GO(rot_no_memory(err, sizeof *s, "input"));
    s->file = fopen(path, "rb");
    if (!s->file && (errno == ENOENT || errno == ENOTDIR))
        ROT_FAIL_GO(err, ROT_ERR_MISSING, "%s: no such file", path);
    if (!s->file) ROT_GO(rot_err_errno(err, errno, "open", path));
    ROT_GO(detect(s, err));
    *out = s;
    return 0;
done:
    rot_stream_close(&s);
    return rc;
}

void rot_stream_close(rot_stream **stream)
{
    rot_stream *s = *stream;
    if (!s) return;
    if (s->file) fclose(s->file);
    if (s->gzip_open) inflateEnd(&s->gzip);
    ZSTD_freeDStream(s->zstd);
    rot_free(s->path);
    rot_free(s->line);
    rot_free(s);
    *stream = NULL;
}

static int broken(const rot_stream *s, const char *what, const char *cause, rot_err *err)
{
    ROT_FAIL(err, ROT_ERR_INPUT, "%s: %s stream at byte %llu: %s", s->path, what,
             (unsigned long long)s->in_offset, cause);
}

static void consume(rot_stream *s, size_t n)
{
    s->in_at += n;
    s->in_offset += n;
}

static int read_plain(rot_stream *s, void *bytes, size_t n_bytes, size_t *n_read)
{
    size_t n = s->in_end - s->in_at;
    if (n > n_bytes) n = n_bytes;
    memcpy(bytes, s->in + s->in_at, n);
    consume(s, n);
    *n_read = n;
    return 0;
}

// One step of inflate; several members may follow each other.
static int read_gzip(rot_stream *s, void *bytes, size_t n_bytes, size_t *n_read, rot_err *err)
{
    size_t left = s->in_end - s->in_at;
    if (!left && !s->frame_open) return 0;
    if (!s->frame_open && s->in_offset && inflateReset(&s->gzip) != Z_OK)
        return broken(s, "gzip", "cannot be read on", err);
    s->frame_open = true;
    s->gzip.next_in = s->in + s->in_at;
    s->gzip.avail_in = (uInt)left;
    s->gzip.next_out = bytes;
    s->gzip.avail_out = (uInt)n_bytes;
    int rc = inflate(&s->gzip, Z_NO_FLUSH);
    consume(s, left - s->gzip.avail_in);
    *n_read = n_bytes - s->gzip.avail_out;
    if (!left && !*n_read && rc != Z_STREAM_END) return broken(s, "gzip", "truncated", err);
    if (rc == Z_STREAM_END)
        s->frame_open = false;
    else if (rc != Z_OK && rc != Z_BUF_ERROR)
        return broken(s, "gzip", s->gzip.msg ? s->gzip.msg : "broken", err);
    return 0;
}

static int read_zstd(rot_stream *s, void *bytes, size_t n_bytes, size_t *n_read, rot_err *err)
{
    size_t left = s->in_end - s->in_at;
    if (!left && !s->frame_open) return 0;
    ZSTD_inBuffer in = {s->in + s->in_at, left, 0};
    ZSTD_outBuffer out = {bytes, n_bytes, 0};
    size_t rc = ZSTD_decompressStream(s->zstd, &out, &in);
    if (ZSTD_isError(rc)) return broken(s, "zstd", ZSTD_getErrorName(rc), err);
    if (!left && !out.pos) return broken(s, "zstd", "truncated", err);
    consume(s, in.pos);
    s->frame_open = rc != 0;
    *n_read = out.pos;
    return 0;
}

int rot_stream_read(rot_stream *s, void *bytes, size_t n_bytes, size_t *n_read, rot_err *err)
{
    *n_read = 0;
    for (;;) {
        ROT_TRY(fill(s, err));
        bool at_end = s->in_at == s->in_end;
        uint64_t before = s->in_offset;
        if (s->packing == PLAIN)
            ROT_TRY(read_plain(s, bytes, n_bytes, n_read));
        else if (s->packing == GZIP)
            ROT_TRY(read_gzip(s, bytes, n_bytes, n_read, err));
        else
            ROT_TRY(read_zstd(s, bytes, n_bytes, n_read, err));
        if (*n_read || at_end) return 0;
        if (s->in_offset == before) return broken(s, "compressed", "makes no progress", err);
    }
}

static int refill(rot_stream *s, rot_err *err)
{
    if (s->out_at < s->out_end) return 0;
    s->out_at = 0;
    s->out_end = 0;
    return rot_stream_read(s, s->out, CHUNK, &s->out_end, err);
}

int rot_stream_byte(rot_stream *s, int *byte, rot_err *err)
{
    ROT_TRY(refill(s, err));
    if (s->out_at == s->out_end) {
        *byte = -1;
        return 0;
    }
    *byte = s->out[s->out_at++];
    s->out_offset++;
    s->line_number += *byte == '\n';
    return 0;
}

int rot_stream_at_end(rot_stream *s, bool *at_end, rot_err *err)
{
    ROT_TRY(refill(s, err));
    *at_end = s->out_at == s->out_end;
    return 0;
}

uint64_t rot_stream_line_number(const rot_stream *s)
{
    return s->line_number + 1;
}

uint64_t rot_stream_offset(const rot_stream *s)
{
    return s->out_offset;
}

const char *rot_stream_path(const rot_stream *s)
{
    return s->path;
}

// Appends bytes to the line, as far as a line may go.
static int extend(rot_stream *s, rot_line *line, const void *bytes, size_t n, rot_err *err)
{
    if (n > ROT_LINE_MAX_BYTES - line->n_bytes) {
        line->too_long = true;
        n = ROT_LINE_MAX_BYTES - line->n_bytes;
    }
    ROT_TRY(rot_grow(&s->line, &s->line_capacity, line->n_bytes + n + 1, 1, err));
    memcpy(s->line + line->n_bytes, bytes, n);
    line->n_bytes += n;
    return 0;
}

int rot_stream_line(rot_stream *s, rot_line *line, rot_err *err)
{
    ROT_TRY(refill(s, err));
    if (s->out_at == s->out_end) return 0;
    if (!s->line_number && s->out_end >= 3 && !memcmp(s->out, "\xef\xbb\xbf", 3)) {
        s->out_at += 3;
        s->out_offset += 3;
    }
    *line = (rot_line){.number = ++s->line_number, .offset = s->out_offset};
    for (bool ended = false; !ended;) {
        ROT_TRY(refill(s, err));
        const unsigned char *from = s->out + s->out_at;
        size_t n = s->out_end - s->out_at;
        const unsigned char *lf = n ? memchr(from, '\n', n) : NULL;
        size_t taken = lf ? (size_t)(lf - from) : n;
        ROT_TRY(extend(s, line, from, taken, err));
        ended = lf || !n;
        taken += lf != NULL;
        s->out_at += taken;
        s->out_offset += taken;
    }
    s->line[line->n_bytes] = 0;
    line->text = s->line;
    return 1;
}
