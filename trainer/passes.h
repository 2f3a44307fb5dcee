// Loss and gradients of a batch of sequences with latent thoughts.
//
// With m thoughts at most in the batch there are m + 1 forwards over the rows that were not run yet
// (Hao et al. 2024): the question up to the first thought; thought after thought, each of whose
// inputs is the last hidden state, after the final norm, of the row before it; the rest. Nothing is
// detached: the gradient of a thought's input goes on through the forward that made it.
#ifndef ROT_TRAINER_PASSES_H
#define ROT_TRAINER_PASSES_H

#include "trainer/decoder.h"
#include "trainer/thoughts.h"

typedef struct rot_passes_loss {
    double sum;         // of the cross entropy over supervised tokens, in nats
    int64_t n_tokens;   // supervised
    int64_t not_finite; // the first sequence with a loss or gradient that is not finite; -1: none
} rot_passes_loss;

// Sequences that are read together. `latent`: thoughts are hidden states; otherwise they are
// tokens like others and there is one forward. With `train`, the gradients of `weight` times the
// mean over the batch's supervised tokens are added to the decoder's; if one is not finite they are
// worth nothing. `seed` and keys[n]: rot_context_dropout's. *context: NULL, or that of another
// call, whose memory serves again; the caller closes it. ROT_ERR_INPUT: a thought with nothing
// before it; ROT_ERR_TOO_LARGE: a sequence longer than the decoder's positions.
int rot_passes_run(rot_decoder *decoder, const rot_sequence *sequences, size_t n, bool latent,
                   bool train, float weight, uint64_t seed, const uint64_t *keys,
                   rot_context **context, rot_passes_loss *out, rot_err *err);

#endif
