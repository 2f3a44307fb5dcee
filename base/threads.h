// How many threads this process may use.
#ifndef ROT_BASE_THREADS_H
#define ROT_BASE_THREADS_H

// The smaller of the affinity mask and SLURM_CPUS_PER_TASK, at least 1; never the machine's count.
int rot_threads_available(void);
// `asked` if positive, else rot_threads_available().
int rot_threads_or_default(int asked);

#endif
