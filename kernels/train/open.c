// Choosing a backend of training.
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/threads.h"
#include "kernels/train/host.h"

typedef int open_backend(const rot_cpu *cpu, rot_precision precision, rot_train **out,
                         rot_err *err);

// The quickest first.
static const struct entry {
    const char *name;
    open_backend *open;
} entries[] = {
    {"amx", rot_train_amx_open}, {"avx512", rot_train_avx512_open}, {"ref", rot_train_ref_open}};
enum { N_ENTRIES = sizeof entries / sizeof *entries };

// ROT_AMX_EMULATE=1: what is named is not what runs, for tests.
static open_backend *opener(const struct entry *entry, bool meant)
{
    const char *emulate = getenv("ROT_AMX_EMULATE");
    bool emulated = meant && emulate && !strcmp(emulate, "1");
    return emulated && entry->open == rot_train_amx_open ? rot_train_amx_emulated_open
                                                         : entry->open;
}

int rot_train_open(const char *name, rot_precision precision, int threads, rot_train **out,
                   rot_err *err)
{
    rot_cpu cpu;
    *out = NULL;
    ROT_TRY(rot_cpu_detect(&cpu, err));
    bool any = !name || !strcmp(name, "auto"), known = any;
    for (int i = 0; i < N_ENTRIES && !*out; i++) {
        bool meant = !any && !strcmp(name, entries[i].name);
        if (!any && !meant) continue;
        known = true;
        int rc = opener(&entries[i], meant)(&cpu, precision, out, err);
        if (rc < 0 && (meant || rc != ROT_ERR_UNSUPPORTED)) return rc;
    }
    if (!known)
        ROT_FAIL(err, ROT_ERR_USAGE, "backend \"%s\": not one of auto, amx, avx512, ref", name);
    (*out)->precision = precision;
    (*out)->threads = rot_threads_or_default(threads);
    return 0;
}

void rot_train_close(rot_train **train)
{
    if (*train) (*train)->ops->close(*train);
    *train = NULL;
}
