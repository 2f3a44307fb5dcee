// What a model reads of a sample under Coconut's curriculum, its ablations, and iCoT.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "trainer/chain.h"

// Question 1 2, steps 11 | 21 22 | 31, answer 91 92.
static const int32_t ids[] = {1, 2, 11, 21, 22, 31, 91, 92};
static const int32_t steps[] = {2, 3, 5, 6};
static const rot_chain chain = {ids, steps, 3, 8};
static const rot_thought_tokens marks = {-7, -8, -9}; // start, end, thought

static rot_thoughts_options coconut(void)
{
    return (rot_thoughts_options){.kind = ROT_THOUGHTS_LATENT,
                                  .removal = ROT_REMOVE_STAGES,
                                  .per_step = 2,
                                  .epochs_per_stage = 3,
                                  .max_stage = 2,
                                  .pad_to_max = true,
                                  .all_beyond = -1};
}

typedef struct want {
    int32_t n, ids[24], first, thoughts, supervised_from;
} want;

static void check(const rot_sequence *got, const want *w)
{
    assert_int_equal(got->n, w->n);
    assert_memory_equal(got->ids, w->ids, (size_t)w->n * sizeof *w->ids);
    assert_int_equal(got->n_thoughts, w->thoughts);
    if (w->thoughts) assert_int_equal(got->first, w->first);
    for (int32_t i = 0; i < w->n; i++)
        assert_int_equal(got->labels[i], i < w->supervised_from ? -1 : w->ids[i]);
}

static void check_train(const rot_thoughts_options *options, int64_t epoch, const want *w)
{
    rot_sequence out = {0};
    rot_err err = {0};
    rot_thought_tokens tokens = {101, 102, 103};
    assert_int_equal(rot_thoughts_train(options, &tokens, &chain, 5, epoch,
                                        rot_thoughts_stage(options, epoch, 0.0), &out, &err),
                     0);
    check(&out, w);
    rot_sequence_free(&out);
}

static void coconut_takes_one_step_more_in_each_stage(void **state)
{
    (void)state;
    rot_thoughts_options o = coconut();
    check_train(&o, 0, &(want){10, {1, 2, 101, 102, 11, 21, 22, 31, 91, 92}, 3, 0, 4});
    check_train(&o, 2, &(want){10, {1, 2, 101, 102, 11, 21, 22, 31, 91, 92}, 3, 0, 4});
    check_train(&o, 3, &(want){11, {1, 2, 101, 103, 103, 102, 21, 22, 31, 91, 92}, 3, 2, 6});
    check_train(&o, 6, &(want){11, {1, 2, 101, 103, 103, 103, 103, 102, 31, 91, 92}, 3, 4, 8});
    // past the last stage no step is left
    check_train(&o, 9, &(want){10, {1, 2, 101, 103, 103, 103, 103, 102, 91, 92}, 3, 4, 8});
    check_train(&o, 60, &(want){10, {1, 2, 101, 103, 103, 103, 103, 102, 91, 92}, 3, 4, 8});
}

static void a_short_sample_is_padded_or_not(void **state)
{
    (void)state;
    rot_thoughts_options o = coconut();
    o.max_stage = 4;
    o.epochs_per_stage = 1;
    want four = {14, {1, 2, 101, 103, 103, 103, 103, 103, 103, 103, 103, 102, 91, 92}, 3, 8, 12};
    want three = {12, {1, 2, 101, 103, 103, 103, 103, 103, 103, 102, 91, 92}, 3, 6, 10};
    check_train(&o, 4, &four); // three steps, four groups, as published
    check_train(&o, 5, &four);
    o.pad_to_max = false;
    check_train(&o, 4, &four); // the published code pads here whatever the flag says
    check_train(&o, 5, &three);
    o.group_per_step = true;
    check_train(&o, 4, &three);

    rot_sequence out = {0};
    rot_err err = {0};
    rot_thought_tokens tokens = {101, 102, 103};
    assert_int_equal(rot_thoughts_prompt(&o, &tokens, &chain, 4, &out, &err), 0);
    check(&out, &(want){10, {1, 2, 101, 103, 103, 103, 103, 103, 103, 102}, 3, 6, 10});
    o.pad_to_max = true;
    assert_int_equal(rot_thoughts_prompt(&o, &tokens, &chain, 2, &out, &err), 0);
    check(&out, &(want){8, {1, 2, 101, 103, 103, 103, 103, 102}, 3, 4, 8});
    rot_sequence_free(&out);
}

static void ablations_leave_out_marks_or_steps(void **state)
{
    (void)state;
    rot_thoughts_options o = coconut();
    o.kind = ROT_THOUGHTS_NONE; // no thoughts
    check_train(&o, 3, &(want){7, {1, 2, 21, 22, 31, 91, 92}, 0, 0, 2});
    o.removal = ROT_REMOVE_NEVER; // CoT
    check_train(&o, 30, &(want){8, {1, 2, 11, 21, 22, 31, 91, 92}, 0, 0, 2});
    o.removal = ROT_REMOVE_ALWAYS; // no CoT
    check_train(&o, 0, &(want){4, {1, 2, 91, 92}, 0, 0, 2});
    o.kind = ROT_THOUGHTS_PAUSE; // pauses from the first epoch on
    check_train(&o, 0, &(want){10, {1, 2, 101, 103, 103, 103, 103, 102, 91, 92}, 3, 4, 8});
}

static void icot_takes_out_tokens_from_the_left(void **state)
{
    (void)state;
    rot_thoughts_options o = {.removal = ROT_REMOVE_TOKENS, .per_epoch = 1.5, .all_beyond = -1};
    check_train(&o, 0, &(want){8, {1, 2, 11, 21, 22, 31, 91, 92}, 0, 0, 2});
    check_train(&o, 1, &(want){7, {1, 2, 21, 22, 31, 91, 92}, 0, 0, 2});
    check_train(&o, 2, &(want){5, {1, 2, 31, 91, 92}, 0, 0, 2});
    check_train(&o, 9, &(want){4, {1, 2, 91, 92}, 0, 0, 2}); // the answer stays
    assert_int_equal(rot_thoughts_stage(&o, 1, 0.5), 2);
    o.all_beyond = 2;
    check_train(&o, 2, &(want){4, {1, 2, 91, 92}, 0, 0, 2});
    o.all_beyond = -1;

    // with smoothing, o more tokens go with probability e^(-o) (1 - 1/e)
    o.smoothing = 1.0;
    rot_sequence out = {0};
    rot_err err = {0};
    int removed[4] = {0}, n = 4000;
    for (int i = 0; i < n; i++) {
        assert_int_equal(rot_thoughts_train(&o, &marks, &chain, (uint64_t)i, 0, 0, &out, &err), 0);
        int left = (int)out.n;
        if (8 - left < 4) removed[8 - left]++;
    }
    assert_in_range(removed[0], 2400, 2660); // 0.632, 0.233, 0.086
    assert_in_range(removed[1], 830, 1030);
    assert_in_range(removed[2], 275, 415);
    rot_sequence_free(&out);
}

static void uniform_draws_a_stage_for_its_share_of_samples(void **state)
{
    (void)state;
    rot_thoughts_options o = coconut();
    o.uniform = 0.3;
    rot_sequence out = {0}, again = {0};
    rot_err err = {0};
    int groups[4] = {0}, n = 4000;
    for (int i = 0; i < n; i++) {
        assert_int_equal(rot_thoughts_train(&o, &marks, &chain, (uint64_t)i, 3, 1, &out, &err), 0);
        assert_int_equal(rot_thoughts_train(&o, &marks, &chain, (uint64_t)i, 3, 1, &again, &err),
                         0);
        assert_int_equal(out.n, again.n);
        assert_memory_equal(out.ids, again.ids, out.n * sizeof *out.ids);
        groups[out.n_thoughts / 2]++;
    }
    // 0.7 + 0.3/4 of stage 1, 0.3/4 of stage 0, and 2 * 0.3/4 of two groups (stages 2 and 3)
    assert_in_range(groups[0], 240, 360);
    assert_in_range(groups[1], 3000, 3200);
    assert_in_range(groups[2], 510, 690);
    assert_int_equal(groups[3], 0);
    rot_sequence_free(&out);
    rot_sequence_free(&again);
}

static void check_split(rot_step_rule rule, const char *trace, const char *joined)
{
    rot_step_spans spans = {0};
    rot_err err = {0};
    char got[256] = "";
    size_t at = 0;
    assert_int_equal(rot_steps_split(rule, trace, strlen(trace), &spans, &err), 0);
    for (size_t i = 0; i < spans.n; i++)
        at += (size_t)snprintf(got + at, sizeof got - at, "[%.*s]",
                               (int)(spans.end[i] - spans.begin[i]), trace + spans.begin[i]);
    assert_string_equal(got, joined);
    rot_step_spans_free(&spans);
}

static void traces_are_cut_into_steps(void **state)
{
    (void)state;
    check_split(ROT_STEPS_SPACE, "<<2*3=6>>  <<6+1=7>>", "[<<2*3=6>>][<<6+1=7>>]");
    check_split(ROT_STEPS_LINE, "He has 3.\r\n\nSo 3 * 2 = 6 .", "[He has 3.][So 3 * 2 = 6 .]");
    const char *four = "Tom is a 1.5 pus. Every pus is a mus.  Every mus is red. Tom is red.";
    check_split(ROT_STEPS_SENTENCE, four,
                "[Tom is a 1.5 pus.][Every pus is a mus.][Every mus is red.][Tom is red.]");
    check_split(ROT_STEPS_PAIR, four,
                "[Tom is a 1.5 pus. Every pus is a mus.][Every mus is red. Tom is red.]");
    check_split(ROT_STEPS_PAIR, "A. B. C.", "[A. B.][C.]");
    check_split(ROT_STEPS_SENTENCE, "", "");
    check_split(ROT_STEPS_SPACE, " \n ", "");
}

static void no_memory_is_an_error(void **state)
{
    (void)state;
    rot_thoughts_options o = coconut();
    for (long i = 1; i <= 2; i++) {
        rot_sequence out = {0};
        rot_err err = {0};
        rot_mem_fail_at(i);
        assert_int_equal(rot_thoughts_train(&o, &marks, &chain, 0, 0, 0, &out, &err),
                         ROT_ERR_NO_MEMORY);
        rot_mem_fail_at(0);
        rot_sequence_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(coconut_takes_one_step_more_in_each_stage),
        cmocka_unit_test(a_short_sample_is_padded_or_not),
        cmocka_unit_test(ablations_leave_out_marks_or_steps),
        cmocka_unit_test(icot_takes_out_tokens_from_the_left),
        cmocka_unit_test(uniform_draws_a_stage_for_its_share_of_samples),
        cmocka_unit_test(traces_are_cut_into_steps),
        cmocka_unit_test(no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
