// Commit units packed ahead of their writing: the same files, whoever packs them and when.
#include "test_shards.h"

enum { ROWS = 150, SHARD = 64, COMMIT = 16 };

static void pack(rot_unit *unit, const rot_stage_spec *spec, uint64_t first, uint64_t n)
{
    OK(rot_unit_begin(unit, first, &err));
    for (uint64_t i = 0; i < n; i++) {
        rot_record record = record_of(spec->stage, first + i);
        OK(rot_unit_add(unit, &record, &err));
    }
}

// Every shard from units, two of which are packed before the first of them is appended.
static void write_by_units(const char *dir, const rot_stage_spec *spec, rot_unit *units[2])
{
    for (uint32_t shard = 0; shard < rot_shard_count(spec); shard++) {
        rot_shard_writer *writer;
        uint64_t first, n, row;
        rot_shard_range(spec, shard, &first, &n);
        OK(rot_shard_writer_open(dir, spec, shard, NULL, &writer, &row, &err));
        assert_int_equal(row, first);
        for (uint64_t end = first + n; row < end;) {
            uint64_t sizes[2] = {0};
            for (int i = 1; i >= 0; i--) { // the later one first
                uint64_t at = row + (uint64_t)i * COMMIT;
                if (at >= end) continue;
                sizes[i] = end - at < COMMIT ? end - at : COMMIT;
                pack(units[i], spec, at, sizes[i]);
            }
            for (int i = 0; i < 2 && sizes[i]; i++, row += COMMIT)
                OK(rot_shard_writer_append_unit(writer, units[i], &err));
        }
        OK(rot_shard_writer_publish(&writer, &err));
    }
}

static void files_are_those_of_records_appended_one_by_one(void **state)
{
    static const struct {
        const char *stage;
        rot_codec codec;
    } cases[] = {{"tokens", ROT_CODEC_ZSTD},
                 {"images", ROT_CODEC_ZSTD},
                 {"embeds", ROT_CODEC_NONE},
                 {"embeds", ROT_CODEC_ZSTD_BF16}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rot_stage_spec spec = spec_of(cases[i].stage, cases[i].codec, SHARD, COMMIT, ROWS);
        char a[64], b[64];
        rot_unit *units[2];
        snprintf(a, sizeof a, "rows%zu", i);
        snprintf(b, sizeof b, "units%zu", i);
        for (int j = 0; j < 2; j++) OK(rot_unit_open(&spec, &units[j], &err));
        write_stage(in_scratch(a), &spec, NULL);
        write_by_units(in_scratch(b), &spec, units);
        for (int j = 0; j < 2; j++) rot_unit_close(&units[j]);
        for (uint32_t shard = 0; shard < rot_shard_count(&spec); shard++) {
            char x[128], y[128];
            snprintf(x, sizeof x, "%s/shard-%05u.mdb", a, shard);
            snprintf(y, sizeof y, "%s/shard-%05u.mdb", b, shard);
            assert_same_file(in_scratch(x), in_scratch(y));
        }
    }
}

static void units_and_rows_may_take_turns(void **state)
{
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_ZSTD, SHARD, COMMIT, SHARD);
    rot_shard_writer *writer;
    rot_unit *unit;
    uint64_t row;
    (void)state;
    write_stage(in_scratch("turns a"), &spec, NULL);
    OK(rot_unit_open(&spec, &unit, &err));
    OK(rot_shard_writer_open(in_scratch("turns b"), &spec, 0, NULL, &writer, &row, &err));
    for (; row < SHARD; row += COMMIT) {
        pack(unit, &spec, row, COMMIT);
        for (uint64_t i = 0; row % (2 * COMMIT) == 0 && i < COMMIT; i++) {
            rot_record record = record_of("tokens", row + i);
            OK(rot_shard_writer_append(writer, row + i, &record, &err));
        }
        if (row % (2 * COMMIT)) OK(rot_shard_writer_append_unit(writer, unit, &err));
    }
    OK(rot_shard_writer_publish(&writer, &err));
    rot_unit_close(&unit);
    assert_same_file(in_scratch("turns a/shard-00000.mdb"), in_scratch("turns b/shard-00000.mdb"));
}

static void what_is_no_next_whole_unit_is_refused(void **state)
{
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_ZSTD, SHARD, COMMIT, ROWS);
    rot_shard_writer *writer;
    rot_unit *unit;
    uint64_t row;
    (void)state;
    OK(rot_unit_open(&spec, &unit, &err));
    OK(rot_shard_writer_open(in_scratch("refused"), &spec, 0, NULL, &writer, &row, &err));
    assert_int_equal(rot_unit_begin(unit, 3, &err), ROT_ERR_USAGE);
    assert_int_equal(rot_unit_begin(unit, 160, &err), ROT_ERR_USAGE);
    pack(unit, &spec, COMMIT, COMMIT);
    rot_record record = record_of("tokens", 0);
    assert_int_equal(rot_unit_add(unit, &record, &err), ROT_ERR_USAGE);
    assert_int_equal(rot_shard_writer_append_unit(writer, unit, &err), ROT_ERR_USAGE);
    pack(unit, &spec, 0, COMMIT - 1);
    assert_int_equal(rot_shard_writer_append_unit(writer, unit, &err), ROT_ERR_USAGE);
    pack(unit, &spec, 0, COMMIT);
    record = record_of("tokens", 0);
    OK(rot_shard_writer_append(writer, 0, &record, &err)); // a block is open now
    assert_int_equal(rot_shard_writer_append_unit(writer, unit, &err), ROT_ERR_USAGE);
    rot_unit_close(&unit);
    rot_shard_writer_close(&writer);
}

static void without_memory_a_unit_fails_and_nothing_leaks(void **state)
{
    rot_stage_spec spec = spec_of("images", ROT_CODEC_ZSTD, SHARD, COMMIT, COMMIT);
    int rc = -1;
    long n = 1;
    (void)state;
    for (; rc < 0; n++) {
        rot_unit *unit = NULL;
        rot_mem_fail_at(n);
        rc = rot_unit_open(&spec, &unit, &err);
        if (rc == 0) rc = rot_unit_begin(unit, 0, &err);
        for (uint64_t row = 0; rc == 0 && row < COMMIT; row++) {
            rot_record record = record_of("images", row);
            rc = rot_unit_add(unit, &record, &err);
        }
        rot_mem_fail_at(0);
        if (rc < 0) assert_int_equal(rc, ROT_ERR_NO_MEMORY);
        rot_unit_close(&unit);
    }
    assert_true(n > 8);
}

static int shards_mapped(void)
{
    char line[512];
    int n = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) return -1;
    while (fgets(line, sizeof line, maps)) n += strstr(line, "shard-0000") != NULL;
    fclose(maps);
    return n;
}

static void a_walk_gives_all_records_and_maps_one_shard(void **state)
{
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_ZSTD, SHARD, COMMIT, ROWS);
    rot_stage *stage;
    (void)state;
    write_stage(in_scratch("walk"), &spec, NULL);
    OK(rot_stage_open(in_scratch("walk"), &stage, &err));
    for (uint64_t row = 0; row < ROWS; row++) {
        rot_record record, expected = record_of("tokens", row);
        OK(rot_stage_walk(stage, row, &record, &err));
        assert_same_record(&record, &expected);
    }
    if (shards_mapped() >= 0) assert_int_equal(shards_mapped(), 1);
    rot_record record;
    assert_int_equal(rot_stage_walk(stage, ROWS, &record, &err), ROT_ERR_NOT_FOUND);
    rot_stage_close(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_those_of_records_appended_one_by_one),
        cmocka_unit_test(units_and_rows_may_take_turns),
        cmocka_unit_test(what_is_no_next_whole_unit_is_refused),
        cmocka_unit_test(a_walk_gives_all_records_and_maps_one_shard),
        cmocka_unit_test(without_memory_a_unit_fails_and_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
