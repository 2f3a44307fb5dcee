// When Coconut's latent thoughts end, told by the latest of them: logistic regression on the hidden
// state that the thought is (Hao et al. 2024, section 3: "a binary classifier on latent thoughts").
// The published code has none and always takes the same number.
#ifndef ROT_TRAINER_STOP_H
#define ROT_TRAINER_STOP_H

#include <stdbool.h>
#include <stddef.h>

#include "rotoscope/error.h"

typedef struct rot_stop {
    size_t d;
    float *weight; // (d)
    float bias;
} rot_stop;

// From thoughts (n, d), last[i]: thinking ends behind thought i. Least of the log loss plus half
// the squared norm of the weights of standardized features, by Newton's method. ROT_ERR_INPUT:
// thoughts of one kind alone, a number that is not finite.
int rot_stop_fit(const float *thoughts, const bool *last, size_t n, size_t d, rot_stop *out,
                 rot_err *err);
// Whether thinking is to end behind thought (d).
bool rot_stop_ends(const rot_stop *stop, const float *thought);
// A safetensors file with `weight` (d) and `bias` (1) in F32.
int rot_stop_save(const rot_stop *stop, const char *path, rot_err *err);
// ROT_ERR_USAGE: for another width than d, both named; ROT_ERR_FORMAT: no such tensors.
int rot_stop_load(const char *path, size_t d, rot_stop *out, rot_err *err);
void rot_stop_free(rot_stop *stop);

#endif
