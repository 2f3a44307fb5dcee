// Packed weights in a file: the same bits with and without, whatever is done to the file.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "rotoscope/encoder.h"

enum { OUT = 40, WIDTH = 64, HEIGHT = 32, MOST_BYTES = 4 * 4 * OUT };

static char dir[64], checkpoint_dir[128], cache_dir[128];
static int n_notes;
static char last_note[2048];

static int make_checkpoint(void **state)
{
    (void)state;
    rot_err err;
    snprintf(dir, sizeof dir, "/tmp/rot pack XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(checkpoint_dir, sizeof checkpoint_dir, "%s/checkpoint", dir);
    snprintf(cache_dir, sizeof cache_dir, "%s/cache", dir);
    rot_init_model_options o = rot_init_model_options_default();
    o.dir = checkpoint_dir;
    o.arch = "custom";
    o.depth = 2, o.width = 48, o.heads = 2, o.mlp_width = 100, o.out_width = OUT;
    return rot_init_model(&o, &err);
}

static int remove_all(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command);
}

static int empty_cache(void **state)
{
    (void)state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf '%s'", cache_dir);
    n_notes = 0;
    last_note[0] = 0;
    return system(command);
}

static void count_note(void *user, const char *message)
{
    (void)user;
    n_notes++;
    snprintf(last_note, sizeof last_note, "%s", message);
}

typedef struct subject {
    const char *backend, *emulate; // ROT_AMX_EMULATE
    rot_dtype dtype;
} subject;
static const subject subjects[] = {{"ref", NULL, ROT_DTYPE_F32},
                                   {"ref", NULL, ROT_DTYPE_BF16},
                                   {"onednn", NULL, ROT_DTYPE_BF16},
                                   {"amx", "1", ROT_DTYPE_BF16},
                                   {"amx", NULL, ROT_DTYPE_BF16}};
enum { N_SUBJECTS = sizeof subjects / sizeof *subjects };

static rot_encoder_options options_of(const subject *s, const char *cache)
{
    rot_encoder_options o = rot_encoder_options_default();
    if (s->emulate)
        setenv("ROT_AMX_EMULATE", s->emulate, 1);
    else
        unsetenv("ROT_AMX_EMULATE");
    o.checkpoint = checkpoint_dir;
    o.geometry = ROT_GEOMETRY_NATIVE;
    o.backend = s->backend;
    o.dtype = s->dtype;
    o.threads = 1;
    o.pack_cache = cache;
    o.note = count_note;
    return o;
}

// One image through a tower that is opened for it; MOST_BYTES at `out`, what is not written is 0.
static int encode(const rot_encoder_options *options, unsigned char *out, rot_err *err)
{
    rot_encoder *e = NULL;
    uint8_t pixels[WIDTH * HEIGHT];
    rot_encoder_info info;
    memset(out, 0, MOST_BYTES);
    int rc = rot_encoder_inspect(options, false, &info, err);
    if (rc == 0) rc = rot_encoder_open(options, &e, err);
    for (int i = 0; i < WIDTH * HEIGHT; i++) pixels[i] = (uint8_t)(i * i % 251);
    rot_image image = {pixels, WIDTH, HEIGHT, 1};
    rot_grid grid;
    if (rc == 0)
        rc = rot_geometry_grid(ROT_GEOMETRY_NATIVE, &info.preprocessor, WIDTH, HEIGHT, &grid, err);
    if (rc == 0) {
        assert_true((size_t)grid.k * OUT * 4 <= MOST_BYTES);
        rc = rot_encoder_encode(e, &image, &grid, 1, out, err);
    }
    rot_encoder_close(&e);
    return rc;
}

static void must_encode(const rot_encoder_options *options, unsigned char *out)
{
    rot_err err = {0};
    if (encode(options, out, &err) < 0) fail_msg("%s", err.message);
}

// Files in the cache; the path of the last one.
static int files(char path[512])
{
    int n = 0;
    DIR *d = opendir(cache_dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, 512, "%s/%s", cache_dir, e->d_name);
        n++;
    }
    if (d) closedir(d);
    return n;
}

static void put(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

// Fills the cache for a subject; false: this machine lacks it.
static bool fill(const subject *s, unsigned char *plain, char path[512])
{
    rot_encoder_info info;
    rot_err err;
    rot_encoder_options without = options_of(s, ""), with = options_of(s, cache_dir);
    unsigned char out[MOST_BYTES];
    empty_cache(NULL);
    if (rot_encoder_inspect(&without, false, &info, &err) == ROT_ERR_UNSUPPORTED) return false;
    must_encode(&without, plain);
    must_encode(&with, out);
    assert_memory_equal(out, plain, MOST_BYTES);
    assert_int_equal(files(path), 1);
    assert_int_equal(n_notes, 0);
    return true;
}

static void written_once_then_read_with_the_same_bits(void **state)
{
    (void)state;
    int tried = 0;
    for (int i = 0; i < N_SUBJECTS; i++) {
        unsigned char plain[MOST_BYTES], out[MOST_BYTES];
        char path[512];
        struct stat before, after;
        if (!fill(&subjects[i], plain, path)) continue;
        rot_encoder_options o = options_of(&subjects[i], cache_dir);
        for (o.threads = 1; o.threads < 4; o.threads++) {
            assert_int_equal(stat(path, &before), 0);
            must_encode(&o, out);
            assert_memory_equal(out, plain, MOST_BYTES);
            assert_int_equal(stat(path, &after), 0);
            assert_int_equal(before.st_ino, after.st_ino); // not made again
        }
        assert_int_equal(files(path), 1);
        assert_int_equal(n_notes, 0);
        tried++;
    }
    assert_true(tried >= 2);
}

// That the weights come from the file: one whose weights and checksums are those of a tower of
// zeros, under the name of ours, gives its embeddings.
static void what_the_file_holds_is_what_runs(void **state)
{
    (void)state;
    unsigned char plain[MOST_BYTES], out[MOST_BYTES];
    char path[512], *bytes;
    size_t n;
    rot_err err;
    assert_true(fill(&subjects[0], plain, path));
    assert_int_equal(rot_fs_read(path, &bytes, &n, &err), 0);
    uint64_t n_entries;
    memcpy(&n_entries, bytes + 56, sizeof n_entries);
    size_t at = 128 + 64 * n_entries;
    memset(bytes + at, 0, n - at);
    for (uint64_t i = 0; i < n_entries; i++) {
        uint64_t n_bytes;
        char *entry = bytes + 128 + 64 * i;
        memcpy(&n_bytes, entry + 24, sizeof n_bytes);
        n_bytes = (n_bytes + 63) / 64 * 64;
        rot_xxh128_bytes(bytes + at, n_bytes, (uint8_t *)entry + 48);
        at += n_bytes;
    }
    rot_xxh128_bytes(bytes + 24, 128 + 64 * n_entries - 24, (uint8_t *)bytes + 8);
    put(path, bytes, n);
    free(bytes);
    rot_encoder_options o = options_of(&subjects[0], cache_dir);
    must_encode(&o, out);
    assert_int_equal(n_notes, 0);
    assert_memory_not_equal(out, plain, MOST_BYTES);
}

static void expect_made_again(const subject *s, const char *path, const char *good, size_t n_good,
                              const unsigned char *plain)
{
    unsigned char out[MOST_BYTES];
    char *bytes, other[512];
    size_t n;
    rot_err err;
    rot_encoder_options o = options_of(s, cache_dir);
    n_notes = 0;
    must_encode(&o, out);
    assert_memory_equal(out, plain, MOST_BYTES);
    assert_int_equal(n_notes, 1);
    assert_non_null(strstr(last_note, path));
    assert_non_null(strstr(last_note, "packed again"));
    assert_int_equal(rot_fs_read(path, &bytes, &n, &err), 0);
    assert_int_equal(n, n_good);
    assert_memory_equal(bytes, good, n);
    free(bytes);
    assert_int_equal(files(other), 1);
}

static void a_damaged_byte_anywhere_is_seen(void **state)
{
    (void)state;
    for (int i = 0; i < N_SUBJECTS; i++) {
        unsigned char plain[MOST_BYTES];
        char path[512], *good;
        size_t n;
        rot_err err;
        if (!fill(&subjects[i], plain, path)) continue;
        assert_int_equal(rot_fs_read(path, &good, &n, &err), 0);
        char *bad = malloc(n);
        // every kind of byte of the header and the table, then some in each weight
        for (size_t at = 0; at < n; at += at < 128 ? 9 : at < 1280 ? 97 : n / 7) {
            memcpy(bad, good, n);
            bad[at] = (char)(bad[at] ^ 1 << at % 8);
            put(path, bad, n);
            expect_made_again(&subjects[i], path, good, n, plain);
        }
        memcpy(bad, good, n);
        bad[n - 1] ^= 1;
        put(path, bad, n);
        expect_made_again(&subjects[i], path, good, n, plain);
        free(bad);
        free(good);
    }
}

static void a_file_of_another_length_is_seen(void **state)
{
    (void)state;
    unsigned char plain[MOST_BYTES];
    char path[512], *good;
    size_t n;
    rot_err err;
    assert_true(fill(&subjects[1], plain, path));
    assert_int_equal(rot_fs_read(path, &good, &n, &err), 0);
    const size_t lengths[] = {0, 1, 63, 127, 128, 129, 200, n / 2, n - 64, n - 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        put(path, good, lengths[i]);
        expect_made_again(&subjects[1], path, good, n, plain);
    }
    char *longer = calloc(1, n + 64);
    memcpy(longer, good, n);
    put(path, longer, n + 64);
    expect_made_again(&subjects[1], path, good, n, plain);
    free(longer);
    free(good);
}

static void a_file_of_other_weights_is_not_taken(void **state)
{
    (void)state;
    unsigned char plain[MOST_BYTES], out[MOST_BYTES];
    char path[512], second[512], other[512], *good, *bytes;
    size_t n, n_other;
    rot_err err;
    assert_true(fill(&subjects[1], plain, path));
    assert_int_equal(rot_fs_read(path, &good, &n, &err), 0);
    assert_int_equal(unlink(path), 0);
    rot_encoder_options o = options_of(&subjects[1], cache_dir);
    o.weights_sha256 = "another hash";
    must_encode(&o, out);
    assert_int_equal(files(second), 1);
    assert_string_not_equal(path, second); // another name
    put(second, good, n);                  // and under it what was made for the first
    n_notes = 0;
    must_encode(&o, out);
    assert_int_equal(n_notes, 1);
    assert_memory_equal(out, plain, MOST_BYTES);
    assert_int_equal(rot_fs_read(second, &bytes, &n_other, &err), 0);
    assert_memory_not_equal(bytes, good, 128);
    free(bytes);
    // every backend and precision has a file of its own
    empty_cache(NULL);
    int n_files = 0;
    for (int i = 0; i < N_SUBJECTS; i++) {
        rot_encoder_options each = options_of(&subjects[i], cache_dir);
        rot_encoder *e;
        if (rot_encoder_open(&each, &e, &err) < 0) continue;
        rot_encoder_close(&e);
        n_files++;
    }
    assert_int_equal(files(other), n_files);
    free(good);
}

// A file where the folder would be, and a disk that takes no more.
static void leftovers_of_killed_writers_are_removed(void **state)
{
    (void)state;
    static const char *const names[] = {"00.packed.tmp.host-1-2", "11.packed.tmp.host-3-4",
                                        "22.packed.tmp", "33.tmp.host-5-6"};
    unsigned char out[MOST_BYTES];
    char path[512];
    int fds[4];
    assert_int_equal(mkdir(cache_dir, 0777), 0);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", cache_dir, names[i]);
        fds[i] = open(path, O_RDWR | O_CREAT, 0666);
        assert_true(fds[i] >= 0);
    }
    assert_int_equal(flock(fds[1], LOCK_EX), 0); // its writer lives
    rot_encoder_options o = options_of(&subjects[0], cache_dir);
    must_encode(&o, out);
    assert_int_equal(n_notes, 0);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", cache_dir, names[i]);
        assert_int_equal(access(path, F_OK) == 0, i > 0);
        close(fds[i]);
    }
    must_encode(&o, out);
    snprintf(path, sizeof path, "%s/%s", cache_dir, names[1]);
    assert_int_equal(access(path, F_OK), -1);
}

static void what_cannot_be_written_is_a_note(void **state)
{
    (void)state;
    unsigned char plain[MOST_BYTES], out[MOST_BYTES];
    char path[512];
    assert_true(fill(&subjects[1], plain, path));
    empty_cache(NULL);
    put(cache_dir, "", 0);
    rot_encoder_options o = options_of(&subjects[1], cache_dir);
    must_encode(&o, out);
    assert_memory_equal(out, plain, MOST_BYTES);
    assert_true(n_notes >= 1);
    assert_non_null(strstr(last_note, "not kept"));
    empty_cache(NULL);
    struct rlimit before, little;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    little = before;
    little.rlim_cur = 10000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    rot_err err = {0};
    int rc = encode(&o, out, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(rc, 0);
    assert_memory_equal(out, plain, MOST_BYTES);
    assert_int_equal(n_notes, 1);
    assert_non_null(strstr(last_note, "not kept"));
    assert_int_equal(files(path), 0); // nothing half written
}

// Failing to make the file is a note, failing to make the tower an error; the next start is whole.
static void failed_allocations_leave_no_bad_file(void **state)
{
    (void)state;
    for (int i = 1; i < 3; i++) { // ref, onednn
        for (int warm = 0; warm < 2; warm++) {
            unsigned char plain[MOST_BYTES], out[MOST_BYTES];
            char path[512];
            int failures = 0, done = 0;
            if (!fill(&subjects[i], plain, path)) continue;
            rot_encoder_options o = options_of(&subjects[i], cache_dir);
            for (long n = 1; n < 3000 && !done; n += 7) {
                rot_err err = {0};
                if (!warm) empty_cache(NULL);
                n_notes = 0;
                rot_mem_fail_at(n);
                int rc = encode(&o, out, &err);
                rot_mem_fail_at(0);
                if (rc < 0) assert_int_equal(rc, ROT_ERR_NO_MEMORY);
                if (rc == 0) assert_memory_equal(out, plain, MOST_BYTES);
                failures += rc < 0;
                done = rc == 0 && n_notes == 0 && n > 30;
            }
            assert_true(done && failures > 10);
            must_encode(&o, out);
            assert_memory_equal(out, plain, MOST_BYTES);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(written_once_then_read_with_the_same_bits, empty_cache),
        cmocka_unit_test_setup(what_the_file_holds_is_what_runs, empty_cache),
        cmocka_unit_test_setup(a_damaged_byte_anywhere_is_seen, empty_cache),
        cmocka_unit_test_setup(a_file_of_another_length_is_seen, empty_cache),
        cmocka_unit_test_setup(a_file_of_other_weights_is_not_taken, empty_cache),
        cmocka_unit_test_setup(leftovers_of_killed_writers_are_removed, empty_cache),
        cmocka_unit_test_setup(what_cannot_be_written_is_a_note, empty_cache),
        cmocka_unit_test_setup(failed_allocations_leave_no_bad_file, empty_cache),
    };
    return cmocka_run_group_tests(tests, make_checkpoint, remove_all);
}
