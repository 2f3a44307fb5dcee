// trainer: the next token from logits.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>

#include "base/mem.h"
#include "trainer/sample.h"

enum { VOCAB = 6, DRAWS = 60000 };
static const float logits[VOCAB] = {1.0f, -2.0f, 3.0f, 3.0f, 0.5f, -30.0f};

static void the_largest_logit_without_a_temperature(void **state)
{
    (void)state;
    rot_sampler s;
    assert_int_equal(rot_sampler_open(0, 1, VOCAB, &s, NULL), 0);
    for (uint64_t n = 0; n < 5; n++) assert_int_equal(rot_sample(&s, logits, 1, n), 2);
    rot_sampler_close(&s);
}

// softmax(logits / temperature) written out, and the tokens that top_p leaves of it chosen by hand.
static void draw(double temperature, double top_p, const int kept[VOCAB])
{
    double p[VOCAB], sum = 0, chi = 0;
    int counts[VOCAB] = {0}, freedom = -1;
    rot_sampler s;
    for (int i = 0; i < VOCAB; i++) sum += p[i] = kept[i] ? exp(logits[i] / temperature) : 0;
    assert_int_equal(rot_sampler_open(temperature, top_p, VOCAB, &s, NULL), 0);
    rot_sampler_distribution(&s, logits);
    for (int i = 0; i < VOCAB; i++) assert_true(fabs(s.probabilities[i] - p[i] / sum) < 1e-12);
    for (uint64_t n = 0; n < DRAWS; n++) counts[rot_sample(&s, logits, 9, n)]++;
    for (int i = 0; i < VOCAB; i++) {
        double want = DRAWS * p[i] / sum;
        if (!kept[i]) assert_int_equal(counts[i], 0);
        if (want < 5) continue;
        chi += (counts[i] - want) * (counts[i] - want) / want;
        freedom++;
    }
    // Mean and spread of chi square.
    assert_true(freedom == 0 || chi < freedom + 5 * sqrt(2.0 * freedom));
    rot_sampler_close(&s);
}

static void draws_follow_the_distribution(void **state)
{
    (void)state;
    draw(1, 1, (int[]){1, 1, 1, 1, 1, 1});
    draw(2.5, 1, (int[]){1, 1, 1, 1, 1, 1});
    draw(0.3, 1, (int[]){1, 1, 1, 1, 1, 1});
}

// Shares at temperature 1: 0.452, 0.452, 0.061, 0.037, ...: the first of equals, both, three.
static void top_p_leaves_the_fewest_that_reach_it(void **state)
{
    (void)state;
    draw(1, 0.3, (int[]){0, 0, 1, 0, 0, 0});
    draw(1, 0.5, (int[]){0, 0, 1, 1, 0, 0});
    draw(1, 0.93, (int[]){1, 0, 1, 1, 0, 0});
    draw(1, 1e-9, (int[]){0, 0, 1, 0, 0, 0});
}

static void draws_depend_on_key_and_counter_alone(void **state)
{
    (void)state;
    rot_sampler s;
    int differ = 0;
    assert_int_equal(rot_sampler_open(2, 1, VOCAB, &s, NULL), 0);
    for (uint64_t n = 0; n < 50; n++) {
        int32_t token = rot_sample(&s, logits, 3, n);
        assert_int_equal(rot_sample(&s, logits, 3, n), token);
        differ += rot_sample(&s, logits, 4, n) != token;
    }
    assert_in_range(differ, 10, 50);
    rot_sampler_close(&s);
}

static void the_largest_in_falling_order(void **state)
{
    (void)state;
    int32_t best[VOCAB];
    rot_top_k(logits, VOCAB, 3, best);
    assert_int_equal(best[0], 2);
    assert_int_equal(best[1], 3);
    assert_int_equal(best[2], 0);
    rot_top_k(logits, VOCAB, VOCAB, best);
    assert_int_equal(best[5], 5);
}

static void senseless_settings_are_refused(void **state)
{
    (void)state;
    static const double bad[][2] = {{-1, 1}, {NAN, 1}, {HUGE_VAL, 1}, {1, 0}, {1, 1.5}, {1, NAN}};
    rot_sampler s;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(rot_sampler_open(bad[i][0], bad[i][1], VOCAB, &s, NULL), ROT_ERR_USAGE);
    for (int n = 1; n < 3; n++) {
        rot_mem_fail_at(n);
        assert_int_equal(rot_sampler_open(1, 1, VOCAB, &s, NULL), ROT_ERR_NO_MEMORY);
        rot_mem_fail_at(0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_logit_without_a_temperature),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(top_p_leaves_the_fewest_that_reach_it),
        cmocka_unit_test(draws_depend_on_key_and_counter_alone),
        cmocka_unit_test(the_largest_in_falling_order),
        cmocka_unit_test(senseless_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
