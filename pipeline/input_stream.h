// The bytes of an input file, plain, gzip or zstd (told by its first bytes, not by its name), and
// its lines.
#ifndef ROT_PIPELINE_INPUT_STREAM_H
#define ROT_PIPELINE_INPUT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rotoscope/error.h"

typedef struct rot_stream rot_stream;

// ROT_ERR_MISSING: no such file.
int rot_stream_open(const char *path, rot_stream **out, rot_err *err);
void rot_stream_close(rot_stream **stream);
// Up to n_bytes of decompressed content; *n_read 0 is the end. ROT_ERR_INPUT: the compressed stream
// is truncated or broken (file, offset, cause); ROT_ERR_IO.
int rot_stream_read(rot_stream *stream, void *bytes, size_t n_bytes, size_t *n_read, rot_err *err);

// One byte at a time for parsers, through a buffer. -1: the end.
int rot_stream_byte(rot_stream *stream, int *byte, rot_err *err);
uint64_t rot_stream_offset(const rot_stream *stream); // of the next byte that rot_stream_byte gives
uint64_t rot_stream_line_number(const rot_stream *stream); // the line that this byte is on, from 1
const char *rot_stream_path(const rot_stream *stream);

enum { ROT_LINE_MAX_BYTES = 64 << 20 };

typedef struct rot_line {
    const char *text; // without its LF, NUL-terminated; the stream's until the next call
    size_t n_bytes;
    uint64_t number; // from 1
    uint64_t offset; // of its first byte
    bool too_long;   // over ROT_LINE_MAX_BYTES: text is cut there, the rest was skipped
} rot_line;

// Whether every byte has been given out. Negative: as rot_stream_read.
int rot_stream_at_end(rot_stream *stream, bool *at_end, rot_err *err);

// 1: a line, ended by LF alone or by the end of the file; 0: the end; negative: as rot_stream_read.
// A byte order mark at the start of the file is no part of the first line.
int rot_stream_line(rot_stream *stream, rot_line *line, rot_err *err);

#endif
