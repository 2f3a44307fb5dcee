// The store under faults: flipped bytes, truncation, kill -9, no memory, folders that cannot be
// written.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/test_shards.h"

// Reads every row, whatever it gives. Returns how many could not be read.
static uint64_t read_all(const char *dir)
{
    rot_stage *stage = NULL;
    uint64_t bad = 0;
    int rc = rot_stage_open(dir, &stage, &err);
    if (rc < 0) {
        assert_int_equal(rc, ROT_ERR_CORRUPT);
        return 1;
    }
    for (uint64_t row = 0; row < rot_stage_get_info(stage)->rows; row++) {
        rot_record got, wanted = record_of(rot_stage_get_info(stage)->stage, row);
        rc = rot_stage_get(stage, row, &got, &err);
        if (rc < 0) {
            assert_int_equal(rc, ROT_ERR_CORRUPT);
            bad++;
        } else {
            assert_same_record(&wanted, &got); // never wrong bytes without an error
        }
    }
    rot_stage_close(&stage);
    return bad;
}

static int verify(const char *dir, findings *f)
{
    *f = (findings){0};
    return rot_stage_verify(dir, note_finding, f, &err);
}

static void flip_bytes(const char *stage_name, rot_codec codec, const char *file, int times)
{
    rot_stage_spec spec = spec_of(stage_name, codec, 40, 8, 40);
    char name[64], path[128], *bytes;
    size_t n;
    findings f;
    snprintf(name, sizeof name, "flip-%s-%d-%.5s", stage_name, codec, file);
    write_stage(in_scratch(name), &spec, NULL);
    snprintf(path, sizeof path, "%s/%s", name, file);
    OK(rot_fs_read(in_scratch(path), &bytes, &n, &err));
    for (int i = 0; i < times; i++) {
        // Half of them in what is not payload: the ends of the file.
        size_t at = mix(i * 77 + codec) % n;
        if (i % 4 == 1) at %= 8192 < n ? 8192 : n;
        if (i % 4 == 3) at = n - 1 - at % (12288 < n ? 12288 : n);
        char before = bytes[at];
        bytes[at] ^= (char)(1 << i % 8);
        put_file(in_scratch(path), bytes, n);
        if (verify(in_scratch(name), &f) != ROT_ERR_CORRUPT || f.n < 1)
            fail_msg("%s: byte %zu of %zu flipped, and verify says nothing", path, at, n);
        read_all(in_scratch(name));
        bytes[at] = before;
    }
    put_file(in_scratch(path), bytes, n);
    OK(verify(in_scratch(name), &f));
    assert_int_equal(read_all(in_scratch(name)), 0);
    rot_free(bytes);
}

static void a_flipped_byte_in_a_shard_is_found_and_never_read(void **state)
{
    (void)state;
    flip_bytes("tokens", ROT_CODEC_ZSTD, "shard-00000.mdb", 48);
    flip_bytes("images", ROT_CODEC_ZSTD, "shard-00000.mdb", 48);
    flip_bytes("embeds", ROT_CODEC_NONE, "shard-00000.mdb", 48);
    flip_bytes("embeds", ROT_CODEC_ZSTD_BF16, "shard-00000.mdb", 48);
}

static void a_flipped_byte_in_stage_json_is_found(void **state)
{
    (void)state;
    flip_bytes("tokens", ROT_CODEC_ZSTD, "stage.json", 150);
}

static void every_bit_of_the_trees_pages_is_checked(void **state)
{
    (void)state;
    // A shard with two leaf pages and a branch page: trailer, leaves, branch are its last pages.
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_NONE, 160, 1, 160);
    char *bytes;
    size_t n;
    findings f;
    write_stage(in_scratch("tree"), &spec, NULL);
    OK(rot_fs_read(in_scratch("tree/shard-00000.mdb"), &bytes, &n, &err));
    for (size_t at = n - 3 * 4096; at < n; at += 1 + at % 131) {
        bytes[at] ^= (char)(1 << at % 8);
        put_file(in_scratch("tree/shard-00000.mdb"), bytes, n);
        assert_int_equal(verify(in_scratch("tree"), &f), ROT_ERR_CORRUPT);
        read_all(in_scratch("tree"));
        bytes[at] ^= (char)(1 << at % 8);
    }
    rot_free(bytes);
}

static void tree_pages_full_of_noise_do_no_harm(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_NONE, 160, 1, 160);
    char *bytes;
    size_t n;
    findings f;
    write_stage(in_scratch("noise"), &spec, NULL);
    OK(rot_fs_read(in_scratch("noise/shard-00000.mdb"), &bytes, &n, &err));
    for (int round = 0; round < 100; round++) {
        char *copy = malloc(n);
        memcpy(copy, bytes, n);
        for (int i = 0; i < 64; i++) {
            uint64_t r = mix(round * 64 + i);
            // Headers and pointers mostly, the meta page too.
            size_t page = r % 4 == 0 ? 1 : n / 4096 - 1 - r / 4 % 3,
                   at = page * 4096 + (r >> 20) % (r % 8 < 6 ? 64 : 4096);
            copy[at] = (char)(r >> 50);
        }
        put_file(in_scratch("noise/shard-00000.mdb"), copy, n);
        assert_int_equal(verify(in_scratch("noise"), &f), ROT_ERR_CORRUPT);
        read_all(in_scratch("noise"));
        free(copy);
    }
    rot_free(bytes);
}

static void verify_names_the_bad_rows(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("embeds", ROT_CODEC_NONE, 8, 4, 16);
    static uint8_t payload[70000];
    rot_record record = {.kind = ROT_KIND_EMBEDS,
                         .dtype = ROT_DTYPE_BF16,
                         .shape = {1, 35000, 1, 1},
                         .payload = payload,
                         .n_bytes = 70000};
    uint8_t root[32];
    findings f;
    for (uint32_t shard = 0; shard < 2; shard++) {
        rot_shard_writer *writer;
        uint64_t row;
        OK(rot_shard_writer_open(in_scratch("names"), &spec, shard, NULL, &writer, &row, &err));
        for (int i = 0; i < 8; i++) OK(rot_shard_writer_append(writer, row++, &record, &err));
        OK(rot_shard_writer_publish(&writer, &err));
    }
    OK(rot_stage_finish(in_scratch("names"), &spec, root, &err));
    int fd = open(in_scratch("names/shard-00001.mdb"), O_RDWR);
    // 18 pages a record: rows 10 and 13 of the stage are 2 and 5 of this shard.
    assert_int_equal(pwrite(fd, "x", 1, (2 + 2 * 18 + 3) * 4096 + 100), 1);
    assert_int_equal(pwrite(fd, "x", 1, (2 + 5 * 18 + 3) * 4096 + 100), 1);
    close(fd);
    assert_int_equal(verify(in_scratch("names"), &f), ROT_ERR_CORRUPT);
    assert_int_equal(f.n, 2);
    assert_int_equal(f.row, 13);
    assert_non_null(strstr(f.cause, "shard-00001.mdb"));
}

static void a_truncated_shard_gives_an_error_and_no_signal(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("embeds", ROT_CODEC_ZSTD_BF16, 40, 8, 40);
    struct stat st;
    findings f;
    write_stage(in_scratch("cut"), &spec, NULL);
    assert_int_equal(stat(in_scratch("cut/shard-00000.mdb"), &st), 0);
    for (int i = 0; i < 60; i++) {
        off_t length = i < 6    ? i * 4096
                       : i < 12 ? st.st_size - (i - 5) * 4096 + (i % 2)
                                : (off_t)(mix(i) % (uint64_t)st.st_size);
        char *bytes;
        size_t n;
        OK(rot_fs_read(in_scratch("cut/shard-00000.mdb"), &bytes, &n, &err));
        assert_int_equal(truncate(in_scratch("cut/shard-00000.mdb"), length), 0);
        assert_int_equal(verify(in_scratch("cut"), &f), ROT_ERR_CORRUPT);
        assert_int_not_equal(read_all(in_scratch("cut")), 0);
        put_file(in_scratch("cut/shard-00000.mdb"), bytes, n);
        rot_free(bytes);
    }
    unlink(in_scratch("cut/shard-00000.mdb"));
    assert_int_equal(verify(in_scratch("cut"), &f), ROT_ERR_CORRUPT);
    assert_int_not_equal(read_all(in_scratch("cut")), 0);
}

static void shards_that_change_places_are_found(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_ZSTD, 8, 8, 16);
    findings f;
    write_stage(in_scratch("swap"), &spec, NULL);
    assert_int_equal(rename(in_scratch("swap/shard-00001.mdb"), in_scratch("swap/shard-00000.mdb")),
                     0);
    write_some(in_scratch("swap"), &spec, 1, UINT64_MAX);
    assert_int_equal(verify(in_scratch("swap"), &f), ROT_ERR_CORRUPT);
    assert_int_equal(read_all(in_scratch("swap")), 8);
}

/* ---- killed writers ----------------------------------------------------------------------------
 */

static void kill_and_resume(const char *stage_name, int kills)
{
    rot_stage_spec spec = spec_of(stage_name, ROT_CODEC_ZSTD_BF16, 96, 8, 96);
    char whole[64], broken[64], a[96], b[96];
    snprintf(whole, sizeof whole, "undisturbed-%s", stage_name);
    snprintf(broken, sizeof broken, "killed-%s", stage_name);
    write_stage(in_scratch(whole), &spec, NULL);
    snprintf(a, sizeof a, "%s/shard-00000.mdb", whole);
    snprintf(b, sizeof b, "%s/shard-00000.mdb", broken);
    for (int i = 0; i < kills; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            // Again and again, so that the kill meets opening, appending, publishing.
            in_child = 1;
            for (;;) {
                unlink(in_scratch(b));
                write_some(in_scratch(broken), &spec, 0, 3 + mix(i) % 96);
            }
        }
        usleep(500 + mix(i) % 60000);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        if (!rot_shard_is_published(in_scratch(broken), 0))
            write_some(in_scratch(broken), &spec, 0, UINT64_MAX);
        assert_same_file(in_scratch(a), in_scratch(b));
        unlink(in_scratch(b));
        write_some(in_scratch(broken), &spec, 0, mix(i + 1000) % 90); // the next one resumes
    }
}

static void a_killed_writer_resumes_to_the_same_bytes(void **state)
{
    (void)state;
    kill_and_resume("tokens", 10);
    kill_and_resume("embeds", 10);
}

static void a_damaged_tmp_keeps_what_is_whole(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("embeds", ROT_CODEC_NONE, 40, 4, 40);
    struct stat st;
    write_stage(in_scratch("good"), &spec, NULL);
    for (int i = 0; i < 40; i++) {
        char name[32], tmp[64], done[64];
        snprintf(name, sizeof name, "damaged %d", i);
        snprintf(tmp, sizeof tmp, "%s/shard-00000.mdb.tmp", name);
        snprintf(done, sizeof done, "%s/shard-00000.mdb", name);
        write_some(in_scratch(name), &spec, 0, 30);
        assert_int_equal(stat(in_scratch(tmp), &st), 0);
        off_t at = (off_t)(mix(i) % (uint64_t)st.st_size);
        if (i % 3 ==
            0) { // what a power failure leaves of pages that were not synced: zeros, or nothing
            static const char zeros[4096];
            int fd = open(in_scratch(tmp), O_RDWR);
            assert_int_equal(pwrite(fd, zeros, 4096, at / 4096 * 4096), 4096);
            close(fd);
        } else if (i % 3 == 1) {
            assert_int_equal(truncate(in_scratch(tmp), at), 0);
        } else {
            int fd = open(in_scratch(tmp), O_RDWR);
            assert_int_equal(pwrite(fd, "noise", 5, at), 5);
            close(fd);
        }
        write_some(in_scratch(name), &spec, 0, UINT64_MAX);
        assert_same_file(in_scratch("good/shard-00000.mdb"), in_scratch(done));
    }
}

/* ---- memory, permissions -----------------------------------------------------------------------
 */

static int write_read_verify(const char *dir, const rot_stage_spec *spec, const rot_record *record)
{
    rot_shard_writer *writer = NULL;
    rot_stage *stage = NULL;
    uint64_t row;
    uint8_t root[32];
    int rc = rot_shard_writer_open(dir, spec, 0, NULL, &writer, &row, &err);
    for (; rc == 0 && row < spec->rows; row++)
        rc = rot_shard_writer_append(writer, row, record, &err);
    if (rc == 0) rc = rot_shard_writer_publish(&writer, &err);
    rot_shard_writer_close(&writer);
    if (rc == ROT_ERR_NOT_FOUND) rc = 0;
    if (rc == 0) rc = rot_stage_finish(dir, spec, root, &err);
    if (rc == 0) rc = rot_stage_open(dir, &stage, &err);
    for (row = 0; rc == 0 && row < spec->rows; row++) {
        rot_record got;
        rc = rot_stage_get(stage, row, &got, &err);
    }
    rot_stage_close(&stage);
    return rc == 0 ? rot_stage_verify(dir, NULL, NULL, &err) : rc;
}

static void each_allocation_may_fail(void **state)
{
    (void)state;
    static uint8_t payload[1 << 16];
    for (int lone = 0; lone < 2; lone++) {
        rot_stage_spec spec = spec_of("embeds", ROT_CODEC_ZSTD_BF16, 8, 4, 8);
        size_t n = lone ? 1 << 16 : 4096;
        rot_record record = {.kind = ROT_KIND_EMBEDS,
                             .dtype = ROT_DTYPE_BF16,
                             .shape = {1, (uint32_t)n / 2, 1, 1},
                             .payload = payload,
                             .n_bytes = n};
        bool done = false;
        for (int i = 1; i < 400 && !done; i++) {
            char name[32];
            snprintf(name, sizeof name, "memory %d %d", lone, i);
            rot_mem_fail_at(i);
            int rc = write_read_verify(in_scratch(name), &spec, &record);
            rot_mem_fail_at(0);
            if (rc != 0 && rc != ROT_ERR_NO_MEMORY)
                fail_msg("allocation %d fails: %s", i, err.message);
            done = rc == 0;
            OK(write_read_verify(in_scratch(name), &spec, &record)); // and the next run is well
        }
        assert_true(done);
    }
}

static void a_folder_that_cannot_be_made_is_an_error(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_ZSTD, 8, 8, 8);
    rot_shard_writer *writer;
    uint64_t row;
    uint8_t root[32];
    put_file(in_scratch("a file"), "x", 1);
    int rc = rot_shard_writer_open(in_scratch("a file/stage"), &spec, 0, NULL, &writer, &row, &err);
    assert_true(rc == ROT_ERR_IO || rc == ROT_ERR_MISSING);
    assert_non_null(strstr(err.message, "a file"));
    assert_true(rot_stage_finish(in_scratch("a file/stage"), &spec, root, &err) < 0);
    assert_int_equal(rot_stage_verify(in_scratch("nothing here"), NULL, NULL, &err),
                     ROT_ERR_MISSING);
}

// "write DIR": writes and publishes a stage, for the scripts of tests/faults. Prints the error.
static int write_for_a_script(const char *dir)
{
    rot_stage_spec spec = spec_of("embeds", ROT_CODEC_NONE, 48, 4, 96);
    uint8_t root[32];
    int rc = 0;
    for (uint32_t shard = 0; rc == 0 && shard < rot_shard_count(&spec); shard++) {
        rot_shard_writer *writer = NULL;
        uint64_t first, n, row;
        rot_shard_range(&spec, shard, &first, &n);
        rc = rot_shard_writer_open(dir, &spec, shard, NULL, &writer, &row, &err);
        if (rc == ROT_ERR_NOT_FOUND) {
            rc = 0;
            continue;
        }
        for (; rc == 0 && row < first + n; row++) {
            rot_record record = record_of("embeds", row);
            rc = rot_shard_writer_append(writer, row, &record, &err);
        }
        if (rc == 0) rc = rot_shard_writer_publish(&writer, &err);
        rot_shard_writer_close(&writer);
    }
    if (rc == 0) rc = rot_stage_finish(dir, &spec, root, &err);
    if (rc == 0) rc = rot_stage_verify(dir, NULL, NULL, &err);
    if (rc < 0) printf("%s: %s\n", rot_error_name(rc), err.message);
    return rot_exit_code(rc);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "write") == 0) return write_for_a_script(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_byte_in_a_shard_is_found_and_never_read),
        cmocka_unit_test(a_flipped_byte_in_stage_json_is_found),
        cmocka_unit_test(every_bit_of_the_trees_pages_is_checked),
        cmocka_unit_test(tree_pages_full_of_noise_do_no_harm),
        cmocka_unit_test(verify_names_the_bad_rows),
        cmocka_unit_test(a_truncated_shard_gives_an_error_and_no_signal),
        cmocka_unit_test(shards_that_change_places_are_found),
        cmocka_unit_test(a_killed_writer_resumes_to_the_same_bytes),
        cmocka_unit_test(a_damaged_tmp_keeps_what_is_whole),
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
