// From judged samples to figures: means over questions, then mean and 95% interval over seeds.
#ifndef ROT_TRAINER_SCORE_H
#define ROT_TRAINER_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rotoscope/error.h"

// One question asked once. NAN: not known. A failure is wrong by every rule.
typedef struct rot_score_row {
    uint32_t seed; // its index
    bool failed, corrected, released, coconut, chain;
    double latents, chain_tokens; // thoughts and tokens before the answer: #L is their sum
    double seconds;
    double text_tokens;     // of the gold trace
    double teacher_latents; // K of its image
} rot_score_row;

// Figures as JSON, freed by the caller; rows in any order, every seed < n_seeds. Percentages for
// the rules' Pass@1. What no row knows is null. The published code's compression figures are the
// mean of text_tokens / teacher_latents and of the share saved; ours is the sum of text tokens over
// the sum of latents that were used.
int rot_score_report(const rot_score_row *rows, size_t n, const int64_t *seeds, uint32_t n_seeds,
                     size_t n_questions, char **json, rot_err *err);

// Half the width of the 95% interval of the mean of values[n]: Student's t with n - 1 degrees of
// freedom; NAN for n < 2.
double rot_score_interval(const double *values, size_t n);
// The t below which Student's distribution with `freedom` degrees has the probability p, 0 < p < 1.
double rot_score_t(double p, double freedom);

#endif
