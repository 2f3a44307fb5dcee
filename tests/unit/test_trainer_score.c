// trainer: figures over questions and seeds.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "trainer/score.h"

// Tables of Student's t (Abramowitz and Stegun, 26.10), to their digits.
static void t_is_that_of_the_tables(void **state)
{
    (void)state;
    static const struct {
        double p, freedom, t, to;
    } cases[] = {{0.975, 1, 12.706, 5e-4}, {0.975, 2, 4.303, 5e-4},  {0.975, 4, 2.776, 5e-4},
                 {0.975, 9, 2.262, 5e-4},  {0.975, 30, 2.042, 5e-4}, {0.975, 1e6, 1.960, 5e-4},
                 {0.9, 5, 1.476, 5e-4},    {0.995, 3, 5.841, 5e-4},  {0.025, 4, -2.776, 5e-4},
                 {0.5, 7, 0, 1e-12}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_true(fabs(rot_score_t(cases[i].p, cases[i].freedom) - cases[i].t) <= cases[i].to);
}

static void one_seed_has_no_interval(void **state)
{
    (void)state;
    double values[] = {1, 3};
    assert_true(isnan(rot_score_interval(values, 1)));
    assert_true(fabs(rot_score_interval(values, 2) - 12.7062047 * 1) < 1e-6); // sqrt 2 / sqrt 2
}

static double figure(const json_t *root, const char *name)
{
    const json_t *mean = json_object_get(json_object_get(root, name), "mean");
    return mean ? json_number_value(mean) : NAN;
}

static void failures_are_wrong_and_what_is_not_known_is_null(void **state)
{
    (void)state;
    const rot_score_row rows[] = {
        {0, false, true, true, false, false, 8, 2, 0.5, 40, NAN},
        {0, true, true, true, true, true, NAN, NAN, NAN, 40, NAN},
    };
    const int64_t seeds[] = {7};
    char *text = NULL;
    assert_int_equal(rot_score_report(rows, 2, seeds, 1, 2, &text, NULL), 0);
    json_t *root = json_loads(text, 0, NULL);
    assert_true(figure(root, "pass_at_1") == 50);
    assert_true(figure(root, "pass_at_1_released_of_answered") == 100);
    assert_true(figure(root, "pass_at_1_coconut") == 0);
    assert_true(figure(root, "length") == 10);
    assert_true(figure(root, "pass_at_1_per_length") == 5);
    assert_true(figure(root, "text_tokens_per_latent") == 5);
    assert_true(json_is_null(json_object_get(root, "compression_released_ratio")));
    assert_int_equal(json_integer_value(json_object_get(root, "failures")), 1);
    json_decref(root);
    rot_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(t_is_that_of_the_tables),
        cmocka_unit_test(one_seed_has_no_interval),
        cmocka_unit_test(failures_are_wrong_and_what_is_not_known_is_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
