// Which of how many processes this is: one build shared by ranks that a launcher started.
#ifndef ROT_PIPELINE_RANKS_H
#define ROT_PIPELINE_RANKS_H

#include "rotoscope/error.h"

typedef struct rot_ranks {
    int rank, size;       // 0 <= rank < size
    const char *launcher; // "flags", "torchrun", "Open MPI", "PMI", "Slurm step", "Slurm array",
                          // "Slurm array of steps", or "none" (rank 0 of 1)
} rot_ranks;

// From flags (both >= 0; -1: not given), else torchrun's RANK and WORLD_SIZE, else Open MPI's or
// PMI's variables, else Slurm's: SLURM_PROCID inside an srun step, SLURM_ARRAY_TASK_ID, or both
// combined. ROT_ERR_USAGE: a set of variables of which one is missing, no number, or out of range.
int rot_ranks_detect(int flag_rank, int flag_size, rot_ranks *out, rot_err *err);

#endif
