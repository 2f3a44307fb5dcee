// The row-wise arithmetic with AVX-512. Callers have asked rot_cpu.avx512.
#ifdef __x86_64__
#define FN static __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#else
#define FN static
#endif
#define ROWS rot_train_rows_avx512
#if defined __x86_64__ && defined __clang__ // clang passes vectors among functions of one target
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))),        \
                             apply_to = function)
#endif
#include "kernels/train/rows_body.h"
#if defined __x86_64__ && defined __clang__
#pragma clang attribute pop
#endif
