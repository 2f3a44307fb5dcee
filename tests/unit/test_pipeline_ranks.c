// pipeline: ranks from flags and launchers' variables, in the order of the design; partial sets are
// errors.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/ranks.h"

static const char *const variables[] = {"RANK",
                                        "WORLD_SIZE",
                                        "OMPI_COMM_WORLD_RANK",
                                        "OMPI_COMM_WORLD_SIZE",
                                        "PMI_RANK",
                                        "PMI_SIZE",
                                        "SLURM_STEP_ID",
                                        "SLURM_PROCID",
                                        "SLURM_NTASKS",
                                        "SLURM_STEP_NUM_TASKS",
                                        "SLURM_ARRAY_TASK_ID",
                                        "SLURM_ARRAY_TASK_COUNT",
                                        "SLURM_ARRAY_TASK_MIN",
                                        "SLURM_ARRAY_TASK_MAX",
                                        "SLURM_ARRAY_TASK_STEP"};

static int clear(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) unsetenv(variables[i]);
    return 0;
}

static void set(const char *pairs) // "A=1 B=2"
{
    char text[512], *save = NULL;
    strcpy(text, pairs);
    for (char *p = strtok_r(text, " ", &save); p; p = strtok_r(NULL, " ", &save)) {
        char *equals = strchr(p, '=');
        *equals = 0;
        setenv(p, equals + 1, 1);
    }
}

static void expect(int rank, int size, const char *launcher)
{
    rot_ranks ranks;
    rot_err err = {0};
    if (rot_ranks_detect(-1, -1, &ranks, &err) < 0) fail_msg("%s", err.message);
    assert_int_equal(ranks.rank, rank);
    assert_int_equal(ranks.size, size);
    assert_string_equal(ranks.launcher, launcher);
}

static void refuse(const char *word)
{
    rot_ranks ranks;
    rot_err err = {0};
    assert_int_equal(rot_ranks_detect(-1, -1, &ranks, &err), ROT_ERR_USAGE);
    assert_non_null(strstr(err.message, word));
}

static void nothing_set_is_one_rank(void **state)
{
    (void)state;
    expect(0, 1, "none");
}

static void flags_come_first(void **state)
{
    (void)state;
    rot_ranks ranks;
    rot_err err = {0};
    set("RANK=1 WORLD_SIZE=2");
    assert_int_equal(rot_ranks_detect(3, 4, &ranks, &err), 0);
    assert_int_equal(ranks.rank, 3);
    assert_int_equal(ranks.size, 4);
    assert_int_equal(rot_ranks_detect(3, -1, &ranks, &err), ROT_ERR_USAGE);
    assert_int_equal(rot_ranks_detect(4, 4, &ranks, &err), ROT_ERR_USAGE);
}

static void torchrun_precedes_mpi_precedes_slurm(void **state)
{
    (void)state;
    set("SLURM_STEP_ID=0 SLURM_PROCID=5 SLURM_NTASKS=8");
    expect(5, 8, "Slurm step");
    set("PMI_RANK=4 PMI_SIZE=6");
    expect(4, 6, "PMI");
    set("OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3");
    expect(2, 3, "Open MPI");
    set("RANK=1 WORLD_SIZE=2");
    expect(1, 2, "torchrun");
}

static void a_batch_script_is_no_step(void **state)
{
    (void)state;
    set("SLURM_PROCID=0 SLURM_NTASKS=8");
    expect(0, 1, "none");
}

static void arrays_start_anywhere_and_step(void **state)
{
    (void)state;
    set("SLURM_ARRAY_TASK_ID=14 SLURM_ARRAY_TASK_COUNT=4 SLURM_ARRAY_TASK_MIN=10 "
        "SLURM_ARRAY_TASK_STEP=2");
    expect(2, 4, "Slurm array");
}

// Each id of an array with gaps is a rank of its own, the lowest the first.
static void arrays_may_have_gaps(void **state)
{
    (void)state;
    set("SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_MIN=3 SLURM_ARRAY_TASK_MAX=9 "
        "SLURM_ARRAY_TASK_STEP=1 SLURM_ARRAY_TASK_ID=3"); // --array=3,5,9
    expect(0, 7, "Slurm array");
    set("SLURM_ARRAY_TASK_ID=5");
    expect(2, 7, "Slurm array");
    set("SLURM_ARRAY_TASK_ID=9");
    expect(6, 7, "Slurm array");
    set("SLURM_ARRAY_TASK_STEP=2 SLURM_ARRAY_TASK_MAX=6"); // --array=3,5,6
    set("SLURM_ARRAY_TASK_ID=5");
    expect(2, 4, "Slurm array");
    set("SLURM_ARRAY_TASK_ID=6");
    expect(3, 4, "Slurm array");
    set("SLURM_ARRAY_TASK_ID=7");
    refuse("task 7 is not in 3 to 6");
    set("SLURM_ARRAY_TASK_ID=7 SLURM_ARRAY_TASK_MAX=7"); // --array=3-7:2
    expect(2, 3, "Slurm array");
    set("SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_MIN=5 SLURM_ARRAY_TASK_MAX=5 "
        "SLURM_ARRAY_TASK_COUNT=1"); // one task that is run again
    expect(0, 1, "Slurm array");
}

static void an_array_of_steps_combines_both(void **state)
{
    (void)state;
    set("SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_COUNT=4 SLURM_ARRAY_TASK_MIN=1");
    set("SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2");
    expect(5, 8, "Slurm array of steps");
}

static void partial_sets_are_errors(void **state)
{
    (void)state;
    set("RANK=0");
    refuse("WORLD_SIZE");
    clear(NULL);
    set("SLURM_ARRAY_TASK_ID=1");
    refuse("SLURM_ARRAY_TASK_COUNT");
    clear(NULL);
    set("OMPI_COMM_WORLD_RANK=x OMPI_COMM_WORLD_SIZE=2");
    refuse("OMPI_COMM_WORLD_RANK=x");
    clear(NULL);
    set("PMI_RANK=2 PMI_SIZE=2");
    refuse("PMI");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_set_is_one_rank, clear),
        cmocka_unit_test_setup(flags_come_first, clear),
        cmocka_unit_test_setup(torchrun_precedes_mpi_precedes_slurm, clear),
        cmocka_unit_test_setup(a_batch_script_is_no_step, clear),
        cmocka_unit_test_setup(arrays_start_anywhere_and_step, clear),
        cmocka_unit_test_setup(arrays_may_have_gaps, clear),
        cmocka_unit_test_setup(an_array_of_steps_combines_both, clear),
        cmocka_unit_test_setup(partial_sets_are_errors, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
