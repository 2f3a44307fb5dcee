#include "kernels/backend.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/threads.h"
#include "kernels/backends.h"

static const rot_backend_entry *const entries[] = {&rot_backend_cuda, &rot_backend_amx,
                                                   &rot_backend_onednn, &rot_backend_ref};
enum { N_ENTRIES = sizeof entries / sizeof *entries };

// The entry that `name` means here; its identity is written on the way.
static int resolve(const char *name, rot_precision precision, const rot_cpu *cpu,
                   char identity[128], const rot_backend_entry **out, rot_err *err)
{
    if (!name || !strcmp(name, "auto")) {
        rot_err why;
        const char *cpu_path = getenv("ROT_CPU");
        for (int i = 0; i < N_ENTRIES; i++) {
            if (entries[i] == &rot_backend_cuda && cpu_path && *cpu_path) continue;
            *out = entries[i];
            if (entries[i]->identify(cpu, precision, identity, &why) == 0) return 0;
        }
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "no backend runs on this machine: %s", why.message);
    }
    const char *emulate = getenv("ROT_AMX_EMULATE");
    for (int i = 0; i < N_ENTRIES; i++) {
        if (strcmp(name, entries[i]->name)) continue;
        *out = entries[i];
        if (entries[i] == &rot_backend_amx && emulate && !strcmp(emulate, "1"))
            *out = &rot_backend_amx_emulated;
        return (*out)->identify(cpu, precision, identity, err);
    }
    ROT_FAIL(err, ROT_ERR_USAGE, "backend \"%s\": not one of auto, ref, onednn, amx, cuda", name);
}

int rot_backend_identity(const char *name, rot_precision precision, char identity[128],
                         rot_err *err)
{
    rot_cpu cpu;
    const rot_backend_entry *entry;
    ROT_TRY(rot_cpu_detect(&cpu, err));
    return resolve(name, precision, &cpu, identity, &entry, err);
}

int rot_backend_open(const char *name, rot_precision precision, int threads, rot_backend **out,
                     rot_err *err)
{
    rot_cpu cpu;
    char identity[128];
    const rot_backend_entry *entry;
    *out = NULL;
    ROT_TRY(rot_cpu_detect(&cpu, err));
    ROT_TRY(resolve(name, precision, &cpu, identity, &entry, err));
    ROT_TRY(entry->open(&cpu, precision, rot_threads_or_default(threads), out, err));
    (*out)->precision = precision;
    memcpy((*out)->identity, identity, sizeof identity);
    return 0;
}

void rot_backend_close(rot_backend **backend)
{
    if (*backend) (*backend)->ops->close(*backend);
    *backend = NULL;
}
