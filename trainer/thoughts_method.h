// Coconut and what it is compared with, as methods.
#ifndef ROT_TRAINER_THOUGHTS_METHOD_H
#define ROT_TRAINER_THOUGHTS_METHOD_H

#include "trainer/method.h"

enum { ROT_THOUGHTS_METHODS = 6 };
// In the order of rot_train_method behind ROT_METHOD_ROT.
extern const rot_method_ops rot_thoughts_ops[ROT_THOUGHTS_METHODS];

#endif
