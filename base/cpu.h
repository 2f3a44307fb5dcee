// What the processor can do, and what ROT_CPU allows us to use of it.
#ifndef ROT_BASE_CPU_H
#define ROT_BASE_CPU_H

#include <stdbool.h>

#include "rotoscope/error.h"

typedef struct rot_cpu {
    bool avx2, avx512, avx512_bf16, amx; // usable by us: there, and not above ROT_CPU
    bool ref_only;                       // ROT_CPU=ref
    char name[64];                       // as the processor calls itself
} rot_cpu;

// ROT_CPU is "ref", "avx2", "avx512" or "amx" (or unset: everything). ROT_ERR_USAGE: another word;
// ROT_ERR_UNSUPPORTED: a path that this processor lacks.
int rot_cpu_detect(rot_cpu *out, rot_err *err);

#endif
