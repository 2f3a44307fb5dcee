// The store: what is written is read; the same records make the same bytes, however often the
// writer was stopped.
#include "tests/unit/test_shards.h"

static const char *const stages[] = {"tokens", "images", "embeds"};

static void check_all_rows(const char *dir, const rot_stage_spec *spec)
{
    rot_stage *stage = NULL;
    rot_record got;
    uint64_t skipped = 0, payload = 0;
    OK(rot_stage_open(dir, &stage, &err));
    const rot_stage_info *info = rot_stage_get_info(stage);
    assert_int_equal(info->rows, spec->rows);
    for (uint64_t row = 0; row < spec->rows; row++) {
        rot_record wanted = record_of(spec->stage, row);
        OK(rot_stage_get(stage, row, &got, &err));
        assert_same_record(&wanted, &got);
        if (wanted.kind == ROT_KIND_TOMBSTONE)
            skipped++;
        else
            payload += wanted.n_bytes;
    }
    for (uint64_t i = 0; i < 2 * spec->rows; i++) {
        uint64_t row = mix(i) % spec->rows;
        rot_record wanted = record_of(spec->stage, row);
        OK(rot_stage_get(stage, row, &got, &err));
        assert_same_record(&wanted, &got);
    }
    assert_int_equal(info->skipped, skipped);
    assert_int_equal(info->samples, spec->rows - skipped);
    assert_int_equal(info->payload_bytes, payload);
    assert_int_equal(rot_stage_get(stage, spec->rows, &got, &err), ROT_ERR_NOT_FOUND);
    rot_stage_close(&stage);
}

static void records_of_every_kind_and_size_come_back(void **state)
{
    (void)state;
    for (int s = 0; s < 3; s++)
        for (int codec = 0; codec < 3; codec++) {
            char name[32];
            findings f = {0};
            snprintf(name, sizeof name, "%s %d", stages[s], codec);
            rot_stage_spec spec = spec_of(stages[s], (rot_codec)codec, 64, 16, 300);
            write_stage(in_scratch(name), &spec, NULL);
            check_all_rows(in_scratch(name), &spec);
            if (rot_stage_verify(in_scratch(name), note_finding, &f, &err) < 0)
                fail_msg("%s", f.cause);
        }
}

static void a_tree_of_many_pages_finds_every_row(void **state)
{
    (void)state;
    // Lone records of 64 KiB would take long; commit units of one row make a value of every record.
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_ZSTD, 40000, 1, 40000 + 157);
    rot_record record = {.kind = ROT_KIND_TOMBSTONE, .payload = "why", .n_bytes = 3, .shape = {3}};
    rot_shard_writer *writer;
    uint64_t row = 0, next;
    uint8_t root[32];
    for (uint32_t shard = 0; shard < 2; shard++) {
        OK(rot_shard_writer_open(in_scratch("many"), &spec, shard, NULL, &writer, &next, &err));
        for (uint64_t end = shard ? spec.rows : 40000; row < end; row++)
            OK(rot_shard_writer_append(writer, row, &record, &err));
        OK(rot_shard_writer_publish(&writer, &err));
    }
    OK(rot_stage_finish(in_scratch("many"), &spec, root, &err));
    rot_stage *stage;
    OK(rot_stage_open(in_scratch("many"), &stage, &err));
    for (row = 0; row < spec.rows; row++) OK(rot_stage_get(stage, row, &record, &err));
    assert_int_equal(rot_stage_get_info(stage)->skipped, spec.rows);
    rot_stage_close(&stage);
    OK(rot_stage_verify(in_scratch("many"), NULL, NULL, &err));
}

static void the_same_records_make_the_same_bytes(void **state)
{
    (void)state;
    uint8_t a[32], b[32];
    for (int s = 0; s < 3; s++) {
        rot_stage_spec spec = spec_of(stages[s], ROT_CODEC_ZSTD_BF16, 64, 16, 100);
        char name[2][32], file[2][80];
        for (int i = 0; i < 2; i++) {
            snprintf(name[i], sizeof name[i], "same-%s-%d", stages[s], i);
            write_stage(in_scratch(name[i]), &spec, i ? b : a);
        }
        assert_memory_equal(a, b, 32);
        const char *const files[] = {"shard-00000.mdb", "shard-00001.mdb", "stage.json"};
        for (int k = 0; k < 3; k++) {
            for (int i = 0; i < 2; i++)
                snprintf(file[i], sizeof file[i], "%s/%s", name[i], files[k]);
            assert_same_file(in_scratch(file[0]), in_scratch(file[1]));
        }
    }
}

static void a_writer_stopped_after_any_row_ends_with_the_same_bytes(void **state)
{
    (void)state;
    for (int s = 0; s < 3; s++) {
        rot_stage_spec spec = spec_of(stages[s], ROT_CODEC_ZSTD_BF16, 40, 8, 40);
        char whole[32], name[32], a[64], b[64];
        snprintf(whole, sizeof whole, "whole-%s", stages[s]);
        write_stage(in_scratch(whole), &spec, NULL);
        snprintf(a, sizeof a, "%s/shard-00000.mdb", whole);
        for (uint64_t stop = 0; stop <= 40; stop++) {
            snprintf(name, sizeof name, "stop-%s-%d", stages[s], (int)stop);
            write_some(in_scratch(name), &spec, 0, stop);
            uint64_t again = stop < 40 ? write_some(in_scratch(name), &spec, 0, UINT64_MAX) : 0;
            assert_int_equal(again, stop < 40 ? 40 - stop / 8 * 8 : 0);
            snprintf(b, sizeof b, "%s/shard-00000.mdb", name);
            assert_same_file(in_scratch(a), in_scratch(b));
        }
    }
}

static void small_steps_make_the_same_bytes(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("images", ROT_CODEC_ZSTD, 64, 4, 64);
    write_stage(in_scratch("one go"), &spec, NULL);
    while (!rot_shard_is_published(in_scratch("steps"), 0))
        write_some(in_scratch("steps"), &spec, 0, 5);
    assert_same_file(in_scratch("one go/shard-00000.mdb"), in_scratch("steps/shard-00000.mdb"));
}

static void a_published_shard_is_not_written_again(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_ZSTD, 8, 8, 8);
    rot_shard_writer *writer;
    uint64_t row;
    write_stage(in_scratch("done"), &spec, NULL);
    assert_int_equal(rot_shard_writer_open(in_scratch("done"), &spec, 0, "r7", &writer, &row, &err),
                     ROT_ERR_NOT_FOUND);
    assert_null(writer);
    assert_int_equal(rot_shard_writer_open(in_scratch("done"), &spec, 1, NULL, &writer, &row, &err),
                     ROT_ERR_USAGE);
}

static void of_two_writers_of_a_shard_the_first_wins(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("embeds", ROT_CODEC_NONE, 8, 8, 8);
    rot_shard_writer *writers[2];
    uint64_t row;
    for (int i = 0; i < 2; i++) {
        OK(rot_shard_writer_open(in_scratch("race"), &spec, 0, i ? "b" : "a", &writers[i], &row,
                                 &err));
        assert_int_equal(row, 0);
    }
    for (row = 0; row < 8; row++)
        for (int i = 0; i < 2; i++) {
            rot_record record = record_of("embeds", row);
            OK(rot_shard_writer_append(writers[i], row, &record, &err));
        }
    for (int i = 0; i < 2; i++) OK(rot_shard_writer_publish(&writers[i], &err));
    assert_false(rot_fs_is_file(in_scratch("race/shard-00000.mdb.a.tmp")));
    assert_false(rot_fs_is_file(in_scratch("race/shard-00000.mdb.b.tmp")));
    uint8_t root[32];
    OK(rot_stage_finish(in_scratch("race"), &spec, root, &err));
    OK(rot_stage_verify(in_scratch("race"), NULL, NULL, &err));
}

static void a_tmp_of_another_spec_is_thrown_away(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_ZSTD, 32, 4, 32), other = spec;
    rot_shard_writer *writer;
    uint64_t row;
    other.fingerprint[5] ^= 1;
    write_some(in_scratch("other"), &spec, 0, 16);
    OK(rot_shard_writer_open(in_scratch("other"), &other, 0, NULL, &writer, &row, &err));
    assert_int_equal(row, 0);
    rot_shard_writer_close(&writer);
}

static void rows_come_in_order_and_records_make_sense(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("embeds", ROT_CODEC_NONE, 32, 4, 32);
    rot_shard_writer *writer;
    uint64_t row;
    static const uint8_t zeros[48];
    const rot_record good = {.kind = ROT_KIND_EMBEDS,
                             .dtype = ROT_DTYPE_BF16,
                             .shape = {3, 8, 1, 12},
                             .payload = zeros,
                             .n_bytes = 48};
    rot_record bad = good;
    OK(rot_shard_writer_open(in_scratch("order"), &spec, 0, NULL, &writer, &row, &err));
    assert_int_equal(rot_shard_writer_append(writer, 1, &good, &err), ROT_ERR_USAGE);
    bad.n_bytes -= 1;
    assert_int_equal(rot_shard_writer_append(writer, 0, &bad, &err), ROT_ERR_USAGE);
    bad = good, bad.kind = (rot_kind)9;
    assert_int_equal(rot_shard_writer_append(writer, 0, &bad, &err), ROT_ERR_USAGE);
    bad = good, bad.shape[0] = UINT32_MAX, bad.shape[1] = UINT32_MAX;
    assert_int_equal(rot_shard_writer_append(writer, 0, &bad, &err), ROT_ERR_TOO_LARGE);
    OK(rot_shard_writer_append(writer, 0, &good, &err));
    assert_int_equal(rot_shard_writer_publish(&writer, &err), ROT_ERR_USAGE); // 31 rows are missing
    assert_null(writer);
}

static void a_large_lone_record_is_aligned_and_in_the_map(void **state)
{
    (void)state;
    enum { K = 62, D = 2560 };
    rot_stage_spec spec = spec_of("embeds", ROT_CODEC_NONE, 8, 4, 8);
    rot_shard_writer *writer;
    uint64_t row;
    uint8_t *payload = calloc(K, D * 2), root[32];
    rot_record record = {.kind = ROT_KIND_EMBEDS,
                         .dtype = ROT_DTYPE_BF16,
                         .shape = {K, D, 2, 124},
                         .payload = payload,
                         .n_bytes = K * D * 2},
               first, second;
    OK(rot_shard_writer_open(in_scratch("lone"), &spec, 0, NULL, &writer, &row, &err));
    for (; row < 8; row++) {
        payload[0] = (uint8_t)row;
        OK(rot_shard_writer_append(writer, row, &record, &err));
    }
    OK(rot_shard_writer_publish(&writer, &err));
    OK(rot_stage_finish(in_scratch("lone"), &spec, root, &err));
    rot_stage *stage;
    OK(rot_stage_open(in_scratch("lone"), &stage, &err));
    OK(rot_stage_get(stage, 3, &first, &err));
    OK(rot_stage_get(stage, 4, &second, &err));
    assert_int_equal((uintptr_t)first.payload % 64, 0);
    assert_int_equal(((const uint8_t *)first.payload)[0], 3); // still there after the next call
    assert_int_equal(((const uint8_t *)second.payload)[0], 4);
    rot_stage_close(&stage);
    free(payload);
}

static void a_stage_without_rows_is_a_stage(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_ZSTD, 64, 16, 0);
    uint8_t root[32], nothing[32];
    rot_stage *stage;
    rot_record record;
    assert_int_equal(rot_shard_count(&spec), 0);
    OK(rot_stage_finish(in_scratch("empty"), &spec, root, &err));
    rot_sha256_bytes("", 0, nothing);
    assert_memory_equal(root, nothing, 32);
    OK(rot_stage_open(in_scratch("empty"), &stage, &err));
    assert_int_equal(rot_stage_get(stage, 0, &record, &err), ROT_ERR_NOT_FOUND);
    rot_stage_close(&stage);
    OK(rot_stage_verify(in_scratch("empty"), NULL, NULL, &err));
}

static void a_stage_is_finished_with_all_its_shards_alone(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_ZSTD, 16, 8, 48);
    uint8_t root[32];
    rot_stage *stage;
    write_some(in_scratch("part"), &spec, 0, UINT64_MAX);
    write_some(in_scratch("part"), &spec, 2, UINT64_MAX);
    assert_int_equal(rot_stage_finish(in_scratch("part"), &spec, root, &err), ROT_ERR_MISSING);
    assert_non_null(strstr(err.message, "shard-00001.mdb"));
    assert_int_equal(rot_stage_open(in_scratch("part"), &stage, &err), ROT_ERR_MISSING);
    assert_null(stage);
}

static void transcoding_there_and_back_keeps_the_root(void **state)
{
    (void)state;
    static const rot_codec ways[] = {ROT_CODEC_ZSTD_BF16, ROT_CODEC_ZSTD, ROT_CODEC_NONE};
    rot_stage_spec spec = spec_of("embeds", ROT_CODEC_NONE, 64, 16, 150);
    uint8_t root[32];
    char from[32] = "way 0", to[32];
    write_stage(in_scratch(from), &spec, root);
    for (int i = 0; i < 3; i++) {
        rot_stage *stage = NULL;
        spec.layout = (rot_stage_layout){ways[i], i == 1 ? 96 : 64, 16};
        snprintf(to, sizeof to, "way %d", i + 1);
        OK(rot_stage_open(in_scratch(from), &stage, &err));
        OK(rot_stage_transcode(stage, in_scratch(to), &spec, NULL, &err));
        rot_stage_close(&stage);
        check_all_rows(in_scratch(to), &spec);
        snprintf(from, sizeof from, "%s", to);
    }
    assert_same_file(in_scratch("way 0/shard-00001.mdb"), in_scratch("way 3/shard-00001.mdb"));
    assert_same_file(in_scratch("way 0/stage.json"), in_scratch("way 3/stage.json"));
}

static void the_layout_is_part_of_the_folders_name(void **state)
{
    (void)state;
    char a[64], b[64];
    rot_stage_spec spec = spec_of("embeds", ROT_CODEC_NONE, 4096, 64, 0);
    rot_stage_folder(&spec, a);
    assert_memory_equal(a, "embeds-", 7);
    assert_int_equal(strlen(a), 7 + 16);
    spec.layout.commit_samples = 32;
    rot_stage_folder(&spec, b);
    assert_string_not_equal(a, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_of_every_kind_and_size_come_back),
        cmocka_unit_test(a_tree_of_many_pages_finds_every_row),
        cmocka_unit_test(the_same_records_make_the_same_bytes),
        cmocka_unit_test(a_writer_stopped_after_any_row_ends_with_the_same_bytes),
        cmocka_unit_test(small_steps_make_the_same_bytes),
        cmocka_unit_test(a_published_shard_is_not_written_again),
        cmocka_unit_test(of_two_writers_of_a_shard_the_first_wins),
        cmocka_unit_test(a_tmp_of_another_spec_is_thrown_away),
        cmocka_unit_test(rows_come_in_order_and_records_make_sense),
        cmocka_unit_test(a_large_lone_record_is_aligned_and_in_the_map),
        cmocka_unit_test(a_stage_without_rows_is_a_stage),
        cmocka_unit_test(a_stage_is_finished_with_all_its_shards_alone),
        cmocka_unit_test(transcoding_there_and_back_keeps_the_root),
        cmocka_unit_test(the_layout_is_part_of_the_folders_name),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
