#include "base/threads.h"

#include <sched.h>
#include <stdlib.h>

int rot_threads_available(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    const char *slurm = getenv("SLURM_CPUS_PER_TASK");
    int limit = slurm ? atoi(slurm) : 0;
    if (limit > 0 && limit < n) n = limit;
    return n > 0 ? n : 1;
}

int rot_threads_or_default(int asked)
{
    return asked > 0 ? asked : rot_threads_available();
}
