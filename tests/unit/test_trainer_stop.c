// trainer: the classifier that ends Coconut's thoughts.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "trainer/stop.h"

enum { N = 40, D = 3 };

// The third number tells a little too late, the others nothing; a column that is always the same.
static void fill(float thoughts[N * D], bool last[N])
{
    for (int i = 0; i < N; i++) {
        thoughts[i * D] = (float)((i * 7) % 11);
        thoughts[i * D + 1] = 4.0f;
        thoughts[i * D + 2] = 100.0f + (float)i;
        last[i] = i >= 25;
    }
}

static void what_it_was_fitted_to_it_tells_apart(void **state)
{
    (void)state;
    float thoughts[N * D];
    bool last[N];
    rot_stop stop;
    rot_err err;
    fill(thoughts, last);
    assert_int_equal(rot_stop_fit(thoughts, last, N, D, &stop, &err), 0);
    int wrong = 0;
    for (int i = 0; i < N; i++) wrong += rot_stop_ends(&stop, thoughts + i * D) != last[i];
    assert_true(wrong <= 1);
    assert_true(stop.weight[1] == 0.0f && stop.weight[2] > 0.0f);
    rot_stop_free(&stop);
}

static void one_kind_or_a_number_that_is_none_is_refused(void **state)
{
    (void)state;
    float thoughts[N * D];
    bool last[N], none[N] = {0};
    rot_stop stop;
    rot_err err;
    fill(thoughts, last);
    assert_int_equal(rot_stop_fit(thoughts, none, N, D, &stop, &err), ROT_ERR_INPUT);
    assert_non_null(strstr(err.message, "0 of 40"));
    assert_int_equal(rot_stop_fit(thoughts, none, 0, D, &stop, &err), ROT_ERR_INPUT);
    thoughts[7 * D + 1] = NAN;
    assert_int_equal(rot_stop_fit(thoughts, last, N, D, &stop, &err), ROT_ERR_INPUT);
    assert_non_null(strstr(err.message, "thought 7"));
}

static void a_file_gives_back_what_was_written(void **state)
{
    (void)state;
    float weight[D] = {1.5f, -2.25f, 1e-30f};
    rot_stop stop = {D, weight, 0.125f}, got;
    rot_err err;
    char path[] = "/tmp/rot-stop-XXXXXX";
    close(mkstemp(path));
    assert_int_equal(rot_stop_save(&stop, path, &err), 0);
    assert_int_equal(rot_stop_load(path, D, &got, &err), 0);
    assert_memory_equal(got.weight, weight, sizeof weight);
    assert_true(got.bias == 0.125f && got.d == D);
    rot_stop_free(&got);
    assert_int_equal(rot_stop_load(path, D + 1, &got, &err), ROT_ERR_USAGE);
    assert_non_null(strstr(err.message, "3 numbers, the model has 4"));
    weight[1] = INFINITY;
    assert_int_equal(rot_stop_save(&stop, path, &err), 0);
    assert_int_equal(rot_stop_load(path, D, &got, &err), ROT_ERR_FORMAT);
    unlink(path);
}

static void memory_that_runs_out_is_an_error(void **state)
{
    (void)state;
    float thoughts[N * D];
    bool last[N];
    rot_err err;
    fill(thoughts, last);
    for (int n = 1;; n++) {
        rot_stop stop;
        rot_mem_fail_at(n);
        int rc = rot_stop_fit(thoughts, last, N, D, &stop, &err);
        rot_mem_fail_at(0);
        if (rc == 0) {
            rot_stop_free(&stop);
            assert_true(n > 2);
            return;
        }
        assert_int_equal(rc, ROT_ERR_NO_MEMORY);
        assert_true(n < 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_was_fitted_to_it_tells_apart),
        cmocka_unit_test(one_kind_or_a_number_that_is_none_is_refused),
        cmocka_unit_test(a_file_gives_back_what_was_written),
        cmocka_unit_test(memory_that_runs_out_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
