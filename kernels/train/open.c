// Choosing a backend of training.
#include <string.h>

#include "base/err.h"
#include "base/threads.h"
#include "kernels/train/host.h"

int rot_train_open(const char *name, rot_precision precision, int threads, rot_train **out,
                   rot_err *err)
{
    rot_cpu cpu;
    *out = NULL;
    ROT_TRY(rot_cpu_detect(&cpu, err));
    if (name && strcmp(name, "auto") && strcmp(name, "ref"))
        ROT_FAIL(err, ROT_ERR_USAGE, "backend \"%s\": not one of auto, ref", name);
    ROT_TRY(rot_train_ref_open(&cpu, out, err));
    (*out)->precision = precision;
    (*out)->threads = rot_threads_or_default(threads);
    return 0;
}

void rot_train_close(rot_train **train)
{
    if (*train) (*train)->ops->close(*train);
    *train = NULL;
}
