// Reading a split of a dataset: samples by number or id, embeddings without a copy or in ragged
// batches. One handle serves any number of threads, and goes on working in a child after fork().
#ifndef ROTOSCOPE_READER_H
#define ROTOSCOPE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store.h"

#ifdef __cplusplus
extern "C" {
#endif

// A sample is a row that no stage skipped; samples are numbered 0 .. samples - 1 in the order of
// rows.
typedef struct rot_reader rot_reader;

typedef struct rot_reader_options {
    size_t size;        // sizeof(rot_reader_options)
    const char *stages; // which to open, of "tokens,images,embeds"; NULL: all that are built
    bool verify;        // check every record against its hash when it is first touched; true
    // Write the indexes that were made into the stages' folders; true. They are made when they are
    // first needed, from one pass over a stage, and found again by the root of the stage. Where the
    // folder cannot be written they stay in memory.
    bool keep_index;
} rot_reader_options;

// The values named above.
rot_reader_options rot_reader_options_default(void);

typedef struct rot_reader_info {
    const char *name, *split, *root; // of the dataset; root in hex; owned by the reader
    uint64_t rows, samples, skipped;
    bool has_tokens, has_images, has_embeds; // open
    rot_codec embeds_codec;
    rot_dtype embeds_dtype; // bf16 or f32; with 0 samples bf16
    uint32_t embeds_width;  // d; 0 with 0 samples or without embeds. With taps (1 + taps) d
    uint32_t embeds_taps;   // deepstack taps behind each embedding; 0: none were asked for
} rot_reader_info;

// `dataset` is a dataset's JSON file; `split` may be NULL if it has one split. Maps nothing but
// the first record; opening costs the same for any number of rows, but for reading the stages'
// descriptions. ROT_ERR_MISSING: no such file or stage; ROT_ERR_NOT_FOUND: no such split;
// ROT_ERR_USAGE: several splits, an unknown stage; ROT_ERR_CORRUPT: a file is damaged or is not
// what the dataset names.
int rot_reader_open(const char *dataset, const char *split, const rot_reader_options *options,
                    rot_reader **out, rot_err *err);
// Nothing may be using the reader, or a view of it.
void rot_reader_close(rot_reader **reader);
const rot_reader_info *rot_reader_get_info(const rot_reader *reader);

// All calls below: any thread. ROT_ERR_NOT_FOUND: no such sample, row or id, or the stage is not
// open; ROT_ERR_CORRUPT: names the file and the row, never a signal. So is a shard that another
// program cut short since it was opened; within a call, or behind a view, that is SIGBUS.

// The row of a sample, and the sample of a row (ROT_ERR_NOT_FOUND: it was skipped).
int rot_reader_row(rot_reader *reader, uint64_t sample, uint64_t *row, rot_err *err);
int rot_reader_sample(rot_reader *reader, uint64_t row, uint64_t *sample, rot_err *err);
// The sample with this id, by an index on disk. An id of a row that was skipped is not found.
int rot_reader_find(rot_reader *reader, const char *id, size_t n_id_bytes, uint64_t *sample,
                    rot_err *err);
// K of every sample, (samples), from the index; owned by the reader.
int rot_reader_k(rot_reader *reader, const uint32_t **k, rot_err *err);

// The record of a sample in a stage ("tokens", "images", "embeds") without its payload, which is
// NULL: kind, dtype, shape, bytes. Touches the record's header alone.
int rot_reader_peek(rot_reader *reader, const char *stage, uint64_t sample, rot_record *out,
                    rot_err *err);
// The same with a view of the payload that lives as long as the reader, where the record is stored
// as it is: embeddings of codec none, at a multiple of 64 if they have 64 KiB or more, of 16 else.
// Where it is compressed, payload is NULL: use rot_reader_read.
int rot_reader_view(rot_reader *reader, const char *stage, uint64_t sample, rot_record *out,
                    rot_err *err);
// The payload, decoded into buffer[capacity]. ROT_ERR_TOO_LARGE: out->n_bytes are needed.
int rot_reader_read(rot_reader *reader, const char *stage, uint64_t sample, void *buffer,
                    size_t capacity, rot_record *out, rot_err *err);

// Texts and ids of a sample, as views into `payload`, what rot_reader_read gave for "tokens".
typedef struct rot_sample_texts {
    const int32_t *question_ids, *trace_ids, *answer_ids; // at payload, which is to be aligned at 4
    uint32_t n_question_ids, n_trace_ids, n_answer_ids;
    const char *id, *question, *trace, *answer; // UTF-8, without a NUL behind them
    uint32_t n_id, n_question, n_trace, n_answer; // bytes
} rot_sample_texts;
int rot_reader_texts(const rot_record *tokens, rot_sample_texts *out, rot_err *err);

// Where a batch of samples begins and ends in rows of [sum of K, d]: cu_seqlens (n + 1) begins
// with 0.
int rot_reader_lengths(rot_reader *reader, const uint64_t *samples, size_t n, int64_t *cu_seqlens,
                       rot_err *err);
// The embeddings of samples[0..n) one after another into out (sum of K, d) of bf16 or f32, as
// rot_reader_lengths laid them out; capacity_rows are the rows that `out` has. `threads` copy at
// once (1: this one). Pages that are not in memory are asked for before the first is copied.
int rot_reader_batch(rot_reader *reader, const uint64_t *samples, size_t n,
                     const int64_t *cu_seqlens, void *out, uint64_t capacity_rows, int threads,
                     rot_err *err);

// Tells the kernel to read the samples' records of `stage` ahead; returns at once.
int rot_reader_prefetch(rot_reader *reader, const char *stage, const uint64_t *samples, size_t n,
                        rot_err *err);
// The records are done with: their pages may go. For one pass over more than fits in memory.
int rot_reader_drop(rot_reader *reader, const char *stage, const uint64_t *samples, size_t n,
                    rot_err *err);

// Structs that other languages mirror: the size in bytes of struct i and its name (static
// storage), 0 past the last.
size_t rot_abi_size(int i, const char **name);

#ifdef __cplusplus
}
#endif
#endif
