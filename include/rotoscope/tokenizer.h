// Hugging Face tokenizer.json (byte-level BPE) to token ids, and the sequence layouts of training.
#ifndef ROTOSCOPE_TOKENIZER_H
#define ROTOSCOPE_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rot_tokenizer rot_tokenizer;               // immutable, shared by all threads
typedef struct rot_tokenizer_worker rot_tokenizer_worker; // word cache and scratch, one per thread

// Reads `dir`/tokenizer.json. ROT_ERR_MISSING: no such file, or not a tokenizer (the message says
// where in the JSON); ROT_ERR_UNSUPPORTED: a model, normalizer, pre-tokenizer or key that is not
// implemented, named.
int rot_tokenizer_open(const char *dir, rot_tokenizer **out, rot_err *err);
void rot_tokenizer_close(rot_tokenizer **tokenizer);

// SHA-256 over everything of the file that determines ids (the parsed content, not JSON's white
// space).
void rot_tokenizer_hash(const rot_tokenizer *tokenizer, uint8_t out[32]);
// Number of ids with all added tokens: the smallest n with every id < n.
int32_t rot_tokenizer_size(const rot_tokenizer *tokenizer);
// The id of one whole token (added tokens in their text, others in byte-level form), or -1.
int32_t rot_tokenizer_find(const rot_tokenizer *tokenizer, const char *token);

// A worker borrows the tokenizer, which must outlive it.
int rot_tokenizer_worker_open(const rot_tokenizer *tokenizer, rot_tokenizer_worker **out,
                              rot_err *err);
void rot_tokenizer_worker_close(rot_tokenizer_worker **worker);

// Ids of `text` (UTF-8, n_bytes, may hold U+0000), with special tokens in it recognised as Hugging
// Face does and none added. *ids belongs to the worker and lives until its next call.
// ROT_ERR_INPUT on invalid UTF-8, with the byte offset.
int rot_tokenizer_encode(rot_tokenizer_worker *worker, const char *text, size_t n_bytes,
                         const int32_t **ids, size_t *n_ids, rot_err *err);
// Text of `ids`, NUL-terminated and owned by the worker until its next call; bytes that are no
// UTF-8 come out as they are, ids of the layout's tokens as their names. `ids` may be the worker's
// own. ROT_ERR_NOT_FOUND: an id that no token has.
int rot_tokenizer_decode(rot_tokenizer_worker *worker, const int32_t *ids, size_t n_ids,
                         const char **text, size_t *n_bytes, rot_err *err);

typedef enum rot_layout {
    ROT_LAYOUT_ROT,  // Render-of-Thought: chat template, <img_begin>, <img_end> (notes in docs/)
    ROT_LAYOUT_PLAIN // question, trace and answer as they are
} rot_layout;

// Ids of one sample, owned by the worker until its next call. The training sequence is
// question, K embeddings, answer. ROT_LAYOUT_ROT: question is the templated question followed by
// <img_begin>, answer is <img_end> followed by the templated answer; trace is the bare trace.
typedef struct rot_sample_ids {
    const int32_t *question, *trace, *answer;
    size_t n_question, n_trace, n_answer;
} rot_sample_ids;

// The three tokens that ROT_LAYOUT_ROT adds after the tokenizer's last id, in this order, unless
// the tokenizer has them already. They are matched in text like any added token.
typedef struct rot_layout_tokens {
    int32_t img_begin, img, img_end;
} rot_layout_tokens;

// ROT_ERR_UNSUPPORTED if the layout needs a token that the tokenizer lacks (named).
// ROT_LAYOUT_PLAIN has no such tokens: all -1.
int rot_tokenizer_layout_tokens(const rot_tokenizer *tokenizer, rot_layout layout,
                                rot_layout_tokens *out, rot_err *err);
int rot_tokenizer_encode_sample(rot_tokenizer_worker *worker, rot_layout layout,
                                const char *question, size_t n_question_bytes, const char *trace,
                                size_t n_trace_bytes, const char *answer, size_t n_answer_bytes,
                                rot_sample_ids *out, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
