// Synthetic samples, each a function of the seed and its row alone: integers and a counter, so that
// every machine writes the same bytes and row i does not depend on how many there are.
#ifndef ROT_PIPELINE_INIT_DATA_H
#define ROT_PIPELINE_INIT_DATA_H

#include <stdint.h>

#include "base/str.h"
#include "rotoscope/build.h"

// Random numbers: `key` names the sequence, `n` counts what was drawn from it.
typedef struct rot_draws {
    uint64_t key, n;
} rot_draws;

// The sequence of one row of one kind of data.
rot_draws rot_draws_of(uint64_t seed, uint64_t kind, uint64_t row);
uint32_t rot_draw(rot_draws *draws, uint32_t n); // below n, which is not 0
static inline int32_t rot_draw_between(rot_draws *draws, int32_t low, int32_t high)
{
    return low + (int32_t)rot_draw(draws, (uint32_t)(high - low + 1));
}
// An index of weights[n], drawn in proportion to them.
uint32_t rot_draw_weighted(rot_draws *draws, const uint16_t *weights, uint32_t n);

// One row, appended: a line of GSM8k-Aug's text, ...
void rot_story_equations(rot_draws *draws, rot_str *out);
// (chained arithmetic: between min_steps and max_steps of them, no number over `largest`)
void rot_chain_equations(rot_draws *draws, const rot_init_data_options *options, rot_str *out);
// ... of GSM8K's JSONL, ...
void rot_story_words(rot_draws *draws, rot_str *out);
// ... or an element of Coconut's JSON, without a comma.
void rot_graph_json(rot_draws *draws, rot_str *out);
void rot_ontology_json(rot_draws *draws, rot_str *out);

#endif
