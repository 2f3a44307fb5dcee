// The next token from logits. What is drawn is a function of the logits, a key and a counter.
#ifndef ROT_TRAINER_SAMPLE_H
#define ROT_TRAINER_SAMPLE_H

#include <stdint.h>

#include "rotoscope/error.h"

typedef struct rot_sampler {
    double temperature; // 0: the largest logit, the first of equals
    double top_p; // of the fewest most probable tokens whose sum reaches this; 1: all
    double *probabilities; // (vocab)
    int32_t *order;        // (vocab), for top_p
    int32_t vocab;
} rot_sampler;

// ROT_ERR_USAGE: a temperature that is negative or no number, top_p outside (0, 1].
int rot_sampler_open(double temperature, double top_p, int32_t vocab, rot_sampler *out,
                     rot_err *err);
void rot_sampler_close(rot_sampler *sampler);

// logits (vocab). Element n of the key's sequence decides (base/random.h).
int32_t rot_sample(rot_sampler *sampler, const float *logits, uint64_t key, uint64_t n);
// softmax(logits / temperature) into probabilities, renormalised over what top_p leaves, 0
// elsewhere; rot_sample draws from this. The temperature is not 0.
void rot_sampler_distribution(rot_sampler *sampler, const float *logits);

// The first of the largest.
int32_t rot_argmax(const float *values, int32_t n);
// The k largest in falling order, the first of equals first: their places into best[k]; k <= n.
void rot_top_k(const float *values, int32_t n, int32_t k, int32_t *best);

#endif
