// pipeline: claims and the queue of shards: taken over, swept, and without memory.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "pipeline/shard_queue.h"

static char root[64];
static rot_err err;
static const rot_ranks ranks = {0, 2, "flags"};

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/rot-claims-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static const char *in_root(const char *name)
{
    static char path[2][256];
    static int which;
    which = !which;
    snprintf(path[which], sizeof path[which], "%s/%s", root, name);
    return path[which];
}

// What a rank does with a stage of 5 shards, 5 taken and given back.
static int work(void)
{
    rot_team *team = NULL;
    rot_shard_queue queue = {0};
    rot_stage_plan plan = {.stage = "embeds", .folder = "embeds-1"};
    plan.spec.rows = 5;
    plan.spec.layout = (rot_stage_layout){ROT_CODEC_NONE, 1, 1};
    snprintf(plan.dir, sizeof plan.dir, "%s", in_root("stages/embeds-1"));
    int rc = rot_fs_mkdirs(plan.dir, &err);
    if (rc == 0) rc = rot_team_open(root, "d", &ranks, 60, &team, &err);
    if (rc == 0) rc = rot_shard_queue_open(&queue, team, &plan, NULL, &err);
    for (int i = 0; rc == 0 && i < 5; i++) {
        uint32_t shard;
        int got = rot_shard_queue_next(&queue, &shard, &err);
        if (got == 1)
            rot_shard_queue_done(&queue, shard);
        else
            rc = got < 0 ? got : ROT_ERR_INTERNAL;
    }
    rot_shard_queue_close(&queue);
    rot_team_close(&team, NULL);
    return rc;
}

static void without_memory_a_rank_fails_and_leaves_no_claim(void **state)
{
    (void)state;
    int failed = 0;
    for (long n = 1;; n++) {
        rot_mem_fail_at(n);
        int rc = work();
        rot_mem_fail_at(0);
        rmdir(in_root(".rotoscope/claims")); // it is empty, if it was made at all
        assert_int_equal(access(in_root(".rotoscope/claims"), F_OK), -1);
        if (rc == 0) break;
        assert_int_equal(rc, ROT_ERR_NO_MEMORY);
        failed++;
    }
    assert_true(failed >= 3);
}

static void the_claim_of_one_who_is_gone_is_taken_over(void **state)
{
    (void)state;
    rot_claim claim = {.fd = -1}, next = {.fd = -1};
    rot_claim_note gone = {.pid = 1, .rank = 3}, ours = {.pid = (long)getpid()}, before;
    strcpy(gone.owner, "another-host-1-0");
    rot_fs_unique(ours.owner);
    assert_int_equal(rot_claim_take(in_root("c"), &gone, 0, 60, &claim, NULL, &err), 1);
    double mtime = rot_claim_beat(&claim);
    assert_int_equal(rot_claim_take(in_root("c"), &ours, mtime + 30, 60, &next, &before, &err), 0);
    assert_int_equal(rot_claim_take(in_root("c"), &ours, mtime + 90, 60, &next, &before, &err), 1);
    assert_string_equal(before.owner, "another-host-1-0");
    // He wakes up: his beat does not bring him back, and what he lets go of is not ours.
    rot_claim_beat(&claim);
    rot_claim_release(&claim);
    assert_int_equal(rot_claim_read(in_root("c"), &before, &mtime, &err), 0);
    assert_string_equal(before.owner, ours.owner);
    rot_claim_release(&next);
    assert_int_equal(access(in_root("c"), F_OK), -1);
}

static void the_sweep_takes_what_is_of_the_dataset_alone(void **state)
{
    (void)state;
    static const char *const names[] = {"embeds-1.00007",     "embeds-1.00007.tmp.x-1-0",
                                        "finish.embeds-1",    "prepare.d",
                                        "finish.d.tmp.x-1-0", "prepare.d2",
                                        "embeds-12.00000"};
    rot_team *team;
    char path[128];
    assert_int_equal(rot_team_open(root, "d", &ranks, 60, &team, &err), 0);
    for (int i = 0; i < 7; i++) {
        snprintf(path, sizeof path, ".rotoscope/claims/%s", names[i]);
        assert_int_equal(rot_fs_write_atomic(in_root(path), "{}", 2, &err), 0);
    }
    rot_team_sweep_stage(team, "embeds-1");
    rot_team_sweep_dataset(team, "d");
    for (int i = 0; i < 7; i++) {
        snprintf(path, sizeof path, ".rotoscope/claims/%s", names[i]);
        assert_int_equal(rot_fs_is_file(in_root(path)), i >= 5);
    }
    rot_team_close(&team, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_memory_a_rank_fails_and_leaves_no_claim, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(the_claim_of_one_who_is_gone_is_taken_over, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(the_sweep_takes_what_is_of_the_dataset_alone, make_root,
                                        remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
