// base: errors, arenas, strings, UTF-8, hashes against published vectors, atomic files, locks.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bf16.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"
#include "base/threads.h"
#include "base/utf8.h"

static void error_keeps_code_and_message(void **state)
{
    (void)state;
    rot_err err;
    assert_int_equal(rot_err_set(&err, ROT_ERR_CORRUPT, "row %d", 7), ROT_ERR_CORRUPT);
    assert_string_equal(err.message, "row 7");
    rot_err_prefix(&err, "shard %d: ", 3);
    assert_string_equal(err.message, "shard 3: row 7");
    assert_int_equal(rot_exit_code(ROT_ERR_CORRUPT), 3);
    assert_int_equal(rot_exit_code(ROT_ERR_STOPPED), 75);
    assert_int_equal(rot_exit_code(ROT_ERR_CONFIG), 2);
    assert_int_equal(rot_exit_code(ROT_ERR_INPUT), 1);
}

static void arena_blocks_are_aligned_and_reused(void **state)
{
    (void)state;
    rot_arena arena = {0};
    for (int round = 0; round < 3; round++) {
        for (size_t n = 1; n < 300000; n = n * 3 + 1) {
            unsigned char *p = rot_arena_alloc(&arena, n);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % 64, 0);
            memset(p, 0xab, n);
        }
        rot_arena_reset(&arena);
    }
    rot_arena_free(&arena);
}

static void nth_allocation_fails(void **state)
{
    (void)state;
    rot_mem_fail_at(2);
    void *a = rot_malloc(8), *b = rot_malloc(8), *c = rot_malloc(8);
    rot_mem_fail_at(0);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    rot_free(a);
    rot_free(c);
}

static void json_strings_are_escaped(void **state)
{
    (void)state;
    rot_str s = {0};
    const char text[] = "a\"b\\\n\x01\xc3\xa9";
    rot_str_json(&s, text, sizeof text - 1);
    assert_string_equal(s.text, "\"a\\\"b\\\\\\n\\u0001\xc3\xa9\"");
    rot_str_free(&s);
}

static void utf8_round_trips_every_scalar(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        if (c >= 0xd800 && c <= 0xdfff) continue;
        char bytes[4];
        size_t n = rot_utf8_put(c, bytes), at = 0;
        assert_int_equal(rot_utf8_next(bytes, n, &at), c);
        assert_int_equal(at, n);
    }
}

static void utf8_rejects_what_is_none(void **state)
{
    (void)state;
    const char *bad[] = {"\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",
                         "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xff",
                         "\xe2\x82",     "abcdefgh\xc3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(rot_utf8_valid(bad[i], strlen(bad[i])), i == 9 ? 8 : 0);
}

// FIPS 180-2's vector; XXH3-128 of the empty string from xxHash's documentation of the format.
static void hashes_equal_published_vectors(void **state)
{
    (void)state;
    uint8_t digest[32];
    char hex[65];
    rot_sha256 *h = rot_sha256_new();
    rot_sha256_add(h, "a", 1);
    rot_sha256_add(h, "bc", 2);
    rot_sha256_end(h, digest);
    rot_hex(digest, 32, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    rot_xxh128_bytes("", 0, digest);
    rot_hex(digest, 16, hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    uint8_t two[16], back[16];
    rot_xxh128_two("hello ", 6, "world", 5, two);
    rot_xxh128_bytes("hello world", 11, digest);
    assert_memory_equal(two, digest, 16);
    rot_hex(two, 16, hex);
    assert_int_equal(rot_unhex(hex, back, 16), 0);
    assert_memory_equal(two, back, 16);
    assert_int_equal(rot_unhex("0g", back, 1), -1);
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(rot_f32_to_bf16(1.0f), 0x3f80);
    assert_int_equal(rot_f32_to_bf16(1.00390625f), 0x3f80); // halfway, to even
    assert_int_equal(rot_f32_to_bf16(1.01171875f), 0x3f82); // halfway, to even
    assert_int_equal(rot_f32_to_bf16(3.4e38f), 0x7f80);     // over the largest finite one
    assert_true(isnan(rot_bf16_to_f32(rot_f32_to_bf16(NAN))));
    assert_true(rot_f16_to_f32(0x0001) == 0x1p-24f && rot_f16_to_f32(0x3c00) == 1.0f);
    assert_true(rot_f16_to_f32(0xfbff) == -65504.0f && isinf(rot_f16_to_f32(0x7c00)));
}

static void atomic_write_replaces_and_lock_excludes(void **state)
{
    (void)state;
    char dir[] = "/tmp/rot base XXXXXX", path[128];
    assert_non_null(mkdtemp(dir));
    rot_err err = {0};
    assert_int_equal(rot_fs_join(path, sizeof path, dir, "a/b", &err), 0);
    assert_int_equal(rot_fs_mkdirs(path, &err), 0);
    assert_int_equal(rot_fs_join(path, sizeof path, dir, "a/b/file", &err), 0);
    assert_int_equal(rot_fs_write_atomic(path, "one", 3, &err), 0);
    assert_int_equal(rot_fs_write_atomic(path, "three", 5, &err), 0);
    char *bytes;
    size_t n;
    assert_int_equal(rot_fs_read(path, &bytes, &n, &err), 0);
    assert_int_equal(n, 5);
    assert_string_equal(bytes, "three");
    rot_free(bytes);
    int fd;
    assert_int_equal(rot_fs_lock(path, &fd, &err), 0);
    if (fork() == 0) {
        int other;
        _exit(rot_fs_lock(path, &other, &err) == ROT_ERR_LOCKED ? 0 : 1);
    }
    int status;
    wait(&status);
    assert_int_equal(status, 0);
    close(fd);
    assert_int_equal(rot_fs_read("/nowhere/at/all", &bytes, &n, &err), ROT_ERR_MISSING);
    char command[160];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    assert_int_equal(system(command), 0);
}

static void threads_follow_slurm(void **state)
{
    (void)state;
    setenv("SLURM_CPUS_PER_TASK", "1", 1);
    assert_int_equal(rot_threads_available(), 1);
    unsetenv("SLURM_CPUS_PER_TASK");
    assert_true(rot_threads_available() >= 1);
    assert_int_equal(rot_threads_or_default(3), 3);
}

// The integral of the normal density up to the draw is the uniform number that it was made of.
static void normal_draws_invert_the_distribution(void **state)
{
    (void)state;
    double sum = 0, squares = 0;
    enum { N = 100000 };
    for (uint64_t i = 0; i < N; i++) {
        double x = rot_random_normal(5, i);
        double p = ((double)(rot_random_at(5, i) >> 12) + 0.5) * 0x1p-52;
        double below = 0.5 * erfc(-x / sqrt(2)), above = 0.5 * erfc(x / sqrt(2));
        assert_true(fabs(below - p) < 1e-7 * p && fabs(above - (1 - p)) < 1e-7 * (1 - p));
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / N) < 5 / sqrt(N) && fabs(squares / N - 1) < 5 * sqrt(2.0 / N));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_keeps_code_and_message),
        cmocka_unit_test(arena_blocks_are_aligned_and_reused),
        cmocka_unit_test(nth_allocation_fails),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(utf8_round_trips_every_scalar),
        cmocka_unit_test(utf8_rejects_what_is_none),
        cmocka_unit_test(hashes_equal_published_vectors),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(normal_draws_invert_the_distribution),
        cmocka_unit_test(atomic_write_replaces_and_lock_excludes),
        cmocka_unit_test(threads_follow_slurm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
