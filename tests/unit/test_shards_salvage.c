// What is left of a damaged shard: the records that repair may keep are right ones, and no fault is
// more than an error.
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/unit/test_shards.h"

enum { ROWS = 40 };

// Rows of shard 0 that can be had; each must be what was written.
static int count_good(const char *dir, const rot_stage_spec *spec, bool *whole)
{
    rot_stage *known = NULL;
    rot_salvage *salvage = NULL;
    int good = 0;
    rot_stage_open(dir, &known, NULL);
    OK(rot_salvage_open(dir, spec, 0, known, &salvage, &err));
    *whole = rot_salvage_is_whole(salvage);
    for (uint64_t row = 0; row < ROWS; row++) {
        rot_record got, wanted = record_of(spec->stage, row);
        int rc = rot_salvage_get(salvage, row, &got, &err);
        if (rc == 0) assert_same_record(&wanted, &got);
        if (rc < 0) assert_int_equal(rc, ROT_ERR_CORRUPT);
        good += rc == 0;
    }
    rot_salvage_close(&salvage);
    rot_stage_close(&known);
    return good;
}

static void what_is_kept_of_a_damaged_shard_is_right(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("embeds", ROT_CODEC_NONE, ROWS, 4, ROWS);
    char *bytes;
    size_t n;
    bool whole;
    int kept = 0;
    write_stage(in_scratch("salvage"), &spec, NULL);
    assert_int_equal(count_good(in_scratch("salvage"), &spec, &whole), ROWS);
    assert_true(whole);
    OK(rot_fs_read(in_scratch("salvage/shard-00000.mdb"), &bytes, &n, &err));
    for (int i = 0; i < 80; i++) {
        char *copy = malloc(n);
        memcpy(copy, bytes, n);
        copy[mix(i) % n] ^= (char)(1 << i % 8);
        put_file(in_scratch("salvage/shard-00000.mdb"), copy, i % 4 == 3 ? mix(i) % n : n);
        kept += count_good(in_scratch("salvage"), &spec, &whole);
        assert_false(whole);
        free(copy);
    }
    assert_true(kept > 80 * ROWS / 3); // one byte does not cost the shard
    unlink(in_scratch("salvage/shard-00000.mdb"));
    assert_int_equal(count_good(in_scratch("salvage"), &spec, &whole), 0);
    rot_free(bytes);
}

static void a_shard_of_another_stage_gives_nothing(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_ZSTD, ROWS, 4, ROWS), other = spec;
    bool whole;
    other.fingerprint[0] ^= 1;
    write_stage(in_scratch("foreign"), &spec, NULL);
    assert_int_equal(count_good(in_scratch("foreign"), &other, &whole), 0);
    assert_false(whole);
}

static void no_memory_is_an_error(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("images", ROT_CODEC_ZSTD, ROWS, 4, ROWS);
    bool done = false;
    write_stage(in_scratch("lack"), &spec, NULL);
    for (int i = 1; i < 400 && !done; i++) {
        rot_salvage *salvage = NULL;
        rot_record record;
        rot_mem_fail_at(i);
        int rc = rot_salvage_open(in_scratch("lack"), &spec, 0, NULL, &salvage, &err);
        if (rc == 0) rc = rot_salvage_get(salvage, 7, &record, &err);
        rot_mem_fail_at(0);
        rot_salvage_close(&salvage);
        if (rc < 0) assert_int_equal(rc, ROT_ERR_NO_MEMORY);
        done = rc == 0;
    }
    assert_true(done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_kept_of_a_damaged_shard_is_right),
        cmocka_unit_test(a_shard_of_another_stage_gives_nothing),
        cmocka_unit_test(no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
