// The projection head: from the last hidden state to the next latent.
//
//   y = W3 u + b3,  u = V3 (silu(V1 x) * (V2 x)),  x = W1 layer_norm(h) + b1
//
// with h and y of width d, x and u of `width`. Tensors are named as the published code saves them.
#ifndef ROT_TRAINER_HEAD_H
#define ROT_TRAINER_HEAD_H

#include "encoder/safetensors.h"
#include "kernels/train.h"
#include "trainer/method.h"

typedef struct rot_head rot_head;
enum { ROT_HEAD_TENSORS = 9 };

// Random as torch begins a Linear: uniform within 1 / sqrt(inputs); the norm as 1 and 0.
int rot_head_open(rot_train *train, size_t d, size_t width, uint64_t seed, rot_head **out,
                  rot_err *err);
// From `file`: 0.weight, 0.bias, 1.weight, … of F32, F16 or BF16. ROT_ERR_USAGE: made for another
// d, both named; ROT_ERR_FORMAT: a tensor that is missing, misshapen or not finite.
int rot_head_load(rot_train *train, const char *file, size_t d, rot_head **out, rot_err *err);
void rot_head_close(rot_head **head);
size_t rot_head_width(const rot_head *head);
int rot_head_save(const rot_head *head, const char *file, rot_err *err);

// What trains: names with "head." before them.
void rot_head_params(rot_head *head, rot_method_param out[ROT_HEAD_TENSORS]);
void rot_head_zero_grad(rot_head *head);
int rot_head_update(rot_head *head, rot_err *err); // values were changed

// y (rows, d) of h (rows, d). With `save` what the backward needs is kept, and h is to stay as it
// is until then.
int rot_head_forward(rot_head *head, size_t rows, const float *h, bool save, float *y,
                     rot_err *err);
// Of the forward that was saved last: dy (rows, d); dh (rows, d) may be NULL; with `train` the
// gradients of the parameters are added to.
int rot_head_backward(rot_head *head, const float *dy, bool train, float *dh, rot_err *err);

#endif
