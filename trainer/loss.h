// The loss between a latent and its target: Render-of-Thought's five.
#ifndef ROT_TRAINER_LOSS_H
#define ROT_TRAINER_LOSS_H

#include <stddef.h>

#include "rotoscope/train.h"

// Of one row p (d) against t (d). With `grad` (d): weight times the gradient with respect to p is
// added to it. Sums are in double.
//   mse      (p - t)^2, over d summed (paper) or averaged (released)
//   cosine   1 - cos(p, t), the cosine held within 1e-6 of -1 and 1; mse where a norm is below 1e-6
//   kl       KL(softmax t || softmax p); mse where that is not finite
//   huber    with delta = 1, reduced as mse
//   stable   0.5 mse + 0.3 cosine + 0.2 kl
double rot_latent_loss(rot_train_loss kind, rot_train_reduction reduction, size_t d, const float *p,
                       const float *t, double weight, float *grad);

#endif
