#include "pipeline/ranks.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"

// 1: set, a number from 0 on; 0: not set (or empty).
static int read_variable(const char *name, long *out, rot_err *err)
{
    const char *text = getenv(name);
    char *end;
    if (!text || !*text) return 0;
    errno = 0;
    *out = strtol(text, &end, 10);
    if (errno || *end || end == text || *out < 0 || *out > 1 << 24)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s=%s: not a number from 0 to %d", name, text, 1 << 24);
    return 1;
}

static int check(long rank, long size, const char *launcher, rot_ranks *out, rot_err *err)
{
    if (size < 1 || rank >= size)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: rank %ld of %ld is none", launcher, rank, size);
    *out = (rot_ranks){(int)rank, (int)size, launcher};
    return 1;
}

// A launcher that gives a rank and a size in two variables. 1: it does; 0: neither is set.
static int read_pair(const char *rank_name, const char *size_name, const char *launcher,
                     rot_ranks *out, rot_err *err)
{
    long rank = 0, size = 0;
    int has_rank = read_variable(rank_name, &rank, err);
    ROT_TRY(has_rank);
    int has_size = read_variable(size_name, &size, err);
    ROT_TRY(has_size);
    if (!has_rank && !has_size) return 0;
    if (has_rank != has_size)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s is set and %s is not (%s sets both)",
                 has_rank ? rank_name : size_name, has_rank ? size_name : rank_name, launcher);
    return check(rank, size, launcher, out, err);
}

// Slurm sets SLURM_PROCID in a batch script too, where it means nothing: only a step has
// SLURM_STEP_ID.
static int read_step(rot_ranks *out, rot_err *err)
{
    long step;
    int in_step = read_variable("SLURM_STEP_ID", &step, err);
    if (in_step <= 0) return in_step;
    const char *size_name =
        getenv("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
    return read_pair("SLURM_PROCID", size_name, "Slurm step", out, err);
}

// The tasks of an array are numbered over its range. Ids with gaps (--array=3,5,9, or some tasks of
// an array that are run again) leave numbers that nobody has: their shards are taken by the others.
static int read_array(rot_ranks *out, rot_err *err)
{
    long id = 0, count = 0, min = 0, max = 0, step = 1;
    int has_id = read_variable("SLURM_ARRAY_TASK_ID", &id, err);
    ROT_TRY(has_id);
    int has_count = read_variable("SLURM_ARRAY_TASK_COUNT", &count, err);
    ROT_TRY(has_count);
    if (!has_id && !has_count) return 0;
    int has_min = read_variable("SLURM_ARRAY_TASK_MIN", &min, err);
    ROT_TRY(has_min);
    int has_max = read_variable("SLURM_ARRAY_TASK_MAX", &max, err);
    ROT_TRY(has_max);
    ROT_TRY(read_variable("SLURM_ARRAY_TASK_STEP", &step, err));
    if (!has_id || !has_count || !has_min)
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "of SLURM_ARRAY_TASK_ID, SLURM_ARRAY_TASK_COUNT and SLURM_ARRAY_TASK_MIN some are "
                 "not set");
    if (step < 1 || id < min || (has_max && id > max))
        ROT_FAIL(err, ROT_ERR_USAGE, "Slurm array: task %ld is not in %ld to %ld, step %ld", id,
                 min, has_max ? max : min + (count - 1) * step, step);
    if (has_max && (max - min != (count - 1) * step || (id - min) % step)) { // gaps
        step = 1;
        count = max - min + 1;
    }
    return check((id - min) / step, count, "Slurm array", out, err);
}

static int read_slurm(rot_ranks *out, rot_err *err)
{
    rot_ranks step = {0}, array = {0};
    int in_step = read_step(&step, err);
    ROT_TRY(in_step);
    int in_array = read_array(&array, err);
    ROT_TRY(in_array);
    if (in_step && in_array)
        return check((long)array.rank * step.size + step.rank, (long)array.size * step.size,
                     "Slurm array of steps", out, err);
    if (in_step) *out = step;
    if (in_array) *out = array;
    return in_step || in_array;
}

int rot_ranks_detect(int flag_rank, int flag_size, rot_ranks *out, rot_err *err)
{
    *out = (rot_ranks){0, 1, "none"};
    if (flag_rank >= 0 || flag_size >= 0) {
        if (flag_rank < 0 || flag_size < 0)
            ROT_FAIL(err, ROT_ERR_USAGE, "--rank and --ranks belong together");
        int rc = check(flag_rank, flag_size, "flags", out, err);
        return rc < 0 ? rc : 0;
    }
    int found = read_pair("RANK", "WORLD_SIZE", "torchrun", out, err);
    if (!found)
        found = read_pair("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "Open MPI", out, err);
    if (!found) found = read_pair("PMI_RANK", "PMI_SIZE", "PMI", out, err);
    if (!found) found = read_slurm(out, err);
    return found < 0 ? found : 0;
}
