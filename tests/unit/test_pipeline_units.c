// Commit units made by many threads at once: in order, the same files, the first failure named.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka wants the four above first.
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "pipeline/units.h"

enum { ROWS = 203, SHARD = 32, COMMIT = 8, NEVER = 1 << 20 };

static char top[] = "/tmp/rot units XXXXXX";
static rot_err err;

static int make_top(void **state)
{
    (void)state;
    return mkdtemp(top) ? 0 : -1;
}

static int remove_top(void **state)
{
    char command[80];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command);
}

typedef struct labour {
    uint64_t taken; // the row that is to be taken next
    bool out_of_order;
    uint64_t take_fails, fail_a, fail_b; // at the units of these rows
    volatile sig_atomic_t stop;
    uint64_t stop_at; // set the flag when this row is made
} labour;

static int take(void *user, int thread, uint64_t first, uint64_t n, rot_err *e)
{
    labour *l = user;
    (void)thread;
    if (l->taken == NEVER) l->taken = first; // a build that goes on
    l->out_of_order |= l->taken != first;
    l->taken = first + n;
    if (first <= l->take_fails && l->take_fails < first + n)
        ROT_FAIL(e, ROT_ERR_INPUT, "take %d", (int)l->take_fails);
    return 0;
}

static int make(void *user, int thread, uint64_t first, uint64_t n, rot_unit *unit, rot_err *e)
{
    labour *l = user;
    (void)thread;
    if (first / COMMIT % 3 == 0) usleep(2000); // so that others overtake it
    for (uint64_t row = first; row < first + n; row++) {
        char text[64];
        if (row == l->fail_a || row == l->fail_b) ROT_FAIL(e, ROT_ERR_CORRUPT, "make %d", (int)row);
        if (row == l->stop_at) __atomic_store_n(&l->stop, 1, __ATOMIC_RELAXED);
        snprintf(text, sizeof text, "cause of row %d", (int)row);
        rot_record record = rot_tombstone(text);
        ROT_TRY(rot_unit_add(unit, &record, e));
    }
    return 0;
}

static labour no_trouble(void)
{
    return (labour){
        .taken = NEVER, .take_fails = NEVER, .fail_a = NEVER, .fail_b = NEVER, .stop_at = NEVER};
}

static int run(const char *name, int threads, labour *l, rot_stage_plan *plan)
{
    rot_job job = {.options = rot_build_options_default(), .threads = threads};
    rot_unit_work work = {.take = take, .make = make, .user = l};
    *plan = (rot_stage_plan){.stage = "tokens",
                             .split = "train",
                             .spec = {.stage = "tokens",
                                      .content = "{}",
                                      .layout = {ROT_CODEC_ZSTD, SHARD, COMMIT},
                                      .rows = ROWS}};
    job.options.stop = &l->stop;
    snprintf(plan->dir, sizeof plan->dir, "%s/%s", top, name);
    err = (rot_err){0};
    return rot_units_make(&job, plan, &work, &err);
}

static void finish(const rot_stage_plan *plan, uint8_t root[32])
{
    if (rot_stage_finish(plan->dir, &plan->spec, root, &err) < 0) fail_msg("%s", err.message);
    assert_int_equal(rot_stage_verify(plan->dir, NULL, NULL, &err), 0);
}

static void rows_are_in_order_for_any_number_of_threads(void **state)
{
    uint8_t one[32], many[32];
    rot_stage_plan plan;
    (void)state;
    for (int threads = 1; threads <= 9; threads += 4) {
        char name[32];
        labour l = no_trouble();
        snprintf(name, sizeof name, "order %d", threads);
        assert_int_equal(run(name, threads, &l, &plan), 0);
        assert_false(l.out_of_order);
        finish(&plan, threads == 1 ? one : many);
        if (threads > 1) assert_memory_equal(one, many, 32);
    }
    rot_stage *stage;
    assert_int_equal(rot_stage_open(plan.dir, &stage, &err), 0);
    for (uint64_t row = 0; row < ROWS; row++) {
        char text[64];
        rot_record record;
        assert_int_equal(rot_stage_walk(stage, row, &record, &err), 0);
        int n = snprintf(text, sizeof text, "cause of row %d", (int)row);
        assert_int_equal(record.n_bytes, n);
        assert_memory_equal(record.payload, text, (size_t)n);
    }
    rot_stage_close(&stage);
}

// A slow unit fails after the one behind it has.
static void the_first_row_that_fails_is_named_and_what_is_before_stays(void **state)
{
    rot_stage_plan plan;
    labour l = no_trouble();
    uint8_t root[32];
    (void)state;
    l.fail_a = 75; // in the unit of row 72, which is slow
    l.fail_b = 81; // in the next, which is not
    assert_int_equal(run("failed", 4, &l, &plan), ROT_ERR_CORRUPT);
    assert_string_equal(err.message, "make 75");
    l = no_trouble();
    assert_int_equal(run("failed", 4, &l, &plan), 0);
    finish(&plan, root);

    l = no_trouble();
    l.take_fails = 81;
    l.fail_a = 75;
    assert_int_equal(run("take", 4, &l, &plan), ROT_ERR_CORRUPT);
    assert_string_equal(err.message, "make 75");
    l = no_trouble();
    l.take_fails = 81;
    assert_int_equal(run("take", 4, &l, &plan), ROT_ERR_INPUT);
    assert_string_equal(err.message, "take 81");
}

static void a_stopped_stage_goes_on_at_a_unit(void **state)
{
    rot_stage_plan plan;
    labour l = no_trouble();
    uint8_t root[32];
    (void)state;
    l.stop_at = 75;
    assert_int_equal(run("stopped", 3, &l, &plan), ROT_ERR_STOPPED);
    l = no_trouble();
    assert_int_equal(run("stopped", 2, &l, &plan), 0);
    assert_false(l.out_of_order);
    assert_int_equal(l.taken, ROWS);
    finish(&plan, root);
}

// The shard is synced by another thread; that it cannot get its name is an error all the same.
static void a_shard_that_cannot_be_published_is_an_error(void **state)
{
    rot_stage_plan plan;
    labour l = no_trouble();
    char path[128];
    (void)state;
    l.stop_at = 10;
    assert_int_equal(run("unpublished", 2, &l, &plan), ROT_ERR_STOPPED);
    snprintf(path, sizeof path, "%s/unpublished/shard-00000.mdb", top);
    assert_int_equal(mkdir(path, 0777), 0);
    l = no_trouble();
    assert_true(run("unpublished", 2, &l, &plan) < 0);
    assert_non_null(strstr(err.message, "shard-00000.mdb"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_in_order_for_any_number_of_threads),
        cmocka_unit_test(the_first_row_that_fails_is_named_and_what_is_before_stays),
        cmocka_unit_test(a_stopped_stage_goes_on_at_a_unit),
        cmocka_unit_test(a_shard_that_cannot_be_published_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_top, remove_top);
}
