// AdamW over a method's parameters, with the norm of the gradient and its clipping.
#ifndef ROT_TRAINER_OPTIMIZER_H
#define ROT_TRAINER_OPTIMIZER_H

#include "kernels/train.h"
#include "trainer/method.h"

typedef struct rot_optimizer rot_optimizer;

// The parameters are borrowed. Moments begin as zero.
int rot_optimizer_open(rot_train *train, const rot_train_config *config,
                       const rot_method_param *params, size_t n, rot_optimizer **out, rot_err *err);
void rot_optimizer_close(rot_optimizer **optimizer);

// The 2-norm over all gradients: squares are added in double, in fixed chunks and their order, so
// that threads do not matter. Not finite if one of them is not.
double rot_optimizer_norm(const rot_optimizer *optimizer);
// One step at `rate`. The gradient is `rescale` times what the parameters hold, and is scaled down
// to optimizer.clip as torch's clip_grad_norm_ does; `norm` is its norm, rescaled.
void rot_optimizer_step(rot_optimizer *optimizer, double rate, double rescale, double norm);
void rot_optimizer_reset(rot_optimizer *optimizer);

// For checkpoints: moments of parameter i (n floats each), and how many steps they have seen.
float *rot_optimizer_moment(rot_optimizer *optimizer, size_t i, int which);
int64_t rot_optimizer_get_steps(const rot_optimizer *optimizer);
void rot_optimizer_set_steps(rot_optimizer *optimizer, int64_t steps);

#endif
