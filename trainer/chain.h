// Samples as question, steps and answer in token ids: what Coconut, its baselines and iCoT train
// on. Laid out as Coconut's published code does: the question and each step are followed by a line
// feed, the answer stands behind "### " and ends with the end token.
#ifndef ROT_TRAINER_CHAIN_H
#define ROT_TRAINER_CHAIN_H

#include "rotoscope/reader.h"
#include "rotoscope/tokenizer.h"
#include "trainer/thoughts.h"

// Where a trace is cut into steps; what is left at the ends of a step is cut off, empty steps are
// none.
typedef enum rot_step_rule {
    ROT_STEPS_SPACE,    // GSM8k-Aug's equations
    ROT_STEPS_LINE,     // GSM8K's lines
    ROT_STEPS_SENTENCE, // ProsQA's sentences: behind a full stop that a space follows
    ROT_STEPS_PAIR      // ProntoQA's: two sentences to a step
} rot_step_rule;

// Pieces of a text, (n): bytes [begin, end).
typedef struct rot_step_spans {
    size_t *begin, *end;
    size_t n, capacity;
} rot_step_spans;

int rot_steps_split(rot_step_rule rule, const char *trace, size_t n_bytes, rot_step_spans *out,
                    rot_err *err);
void rot_step_spans_free(rot_step_spans *spans);

// The token that the post-processor of folder/tokenizer.json puts before a text, as transformers
// does unless told otherwise (Llama's <|begin_of_text|>); -1: none.
int rot_chain_begin(const char *folder, int32_t *begin, rot_err *err);

typedef struct rot_chains rot_chains; // immutable once filled; any thread

// Every sample of an open dataset, tokenized. `end` follows every answer; `begin`, unless negative,
// precedes every question. ROT_ERR_CORRUPT: a damaged record; ROT_ERR_NOT_FOUND: no tokens stage.
int rot_chains_read(rot_reader *reader, const rot_tokenizer *tokenizer, rot_step_rule rule,
                    int32_t begin, int32_t end, rot_chains **out, rot_err *err);
void rot_chains_free(rot_chains **chains);
size_t rot_chains_count(const rot_chains *chains);
rot_chain rot_chains_get(const rot_chains *chains, size_t sample);
// Ids in the longest chain.
int32_t rot_chains_longest(const rot_chains *chains);

#endif
