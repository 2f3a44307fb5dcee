// The backends there are. Each tells its identity, or why it cannot run here, without opening.
#ifndef ROT_KERNELS_BACKENDS_H
#define ROT_KERNELS_BACKENDS_H

#include "base/cpu.h"
#include "kernels/backend.h"

typedef struct rot_backend_entry {
    const char *name;
    // 0 and the identity, or ROT_ERR_UNSUPPORTED and why
    int (*identify)(const rot_cpu *cpu, rot_precision precision, char identity[128], rot_err *err);
    int (*open)(const rot_cpu *cpu, rot_precision precision, int threads, rot_backend **out,
                rot_err *err);
} rot_backend_entry;

extern const rot_backend_entry rot_backend_ref, rot_backend_onednn, rot_backend_amx,
    rot_backend_cuda;
// As "amx", with every tile operation in C, on any processor that has AVX-512. For tests:
// ROT_AMX_EMULATE=1 makes the name "amx" mean this one; "auto" never does.
extern const rot_backend_entry rot_backend_amx_emulated;

#endif
