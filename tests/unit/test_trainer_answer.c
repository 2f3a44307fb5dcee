// trainer: answers within texts, by the published rule, the corrected one and Coconut's.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "trainer/answer.h"

static const char *released(const char *text)
{
    static rot_str out;
    rot_str_free(&out);
    rot_answer_released(text, strlen(text), &out);
    return out.text ? out.text : "";
}

// The outputs that the published extractor was seen to give.
static void the_published_rule_gives_what_it_gave(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"assistant\n### 120 ", "120"},
        {"-5", "5"},
        {"1,234", "234"},
        {"3/4", "4"},
        {".5", "5"},
        {"1e5", "5"},
        {"10:30", "30"},
        {"### $18 ", "18"},
        {"\\frac{3}{4}", "\\frac{3}{4}"},
        {"assistant\n### \\frac{3}{4} ", "assistant\n### \\frac{3}{4}"},
        {"#### 7 then 8", "7"},
        {"Therefore, it is 4 of 5", "4"},
        {"Therefore\n\n x 4", "4"},
        {"Therefore,5 x", "Therefore,5 x"},
        {"answer: 3. x", "3."},
        {"3.4.5", "4.5"},
        {"12. ", "12."},
        {"", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(released(cases[i][0]), cases[i][1]);
    assert_true(rot_answer_released_equal("8.0", 3, "8", 1));
    assert_false(rot_answer_released_equal("inf", 3, "inf", 3)); // inf - inf is no small number
    assert_true(rot_answer_released_equal(" a", 2, "a ", 2));
    released("");
}

static bool right(const char *text, const char *gold)
{
    rot_str found = {0};
    rot_err err = {0};
    bool is_right;
    if (rot_answer_corrected(text, strlen(text), gold, strlen(gold), &found, &is_right, &err) < 0)
        fail_msg("%s", err.message);
    rot_str_free(&found);
    return is_right;
}

static void the_corrected_rule_keeps_signs_and_thousands(void **state)
{
    (void)state;
    assert_true(right("assistant\n### -5 ", "-5"));
    assert_false(right("### -5", "5"));
    assert_true(right("### 1,234", "1234"));
    assert_false(right("### 1,234", "234"));
    assert_true(right("### $18 per day", "18"));
    assert_false(right("### 5 of 7", "7"));
    assert_false(right("### 8n^2+4n+1", "1")); // a term is no answer
    assert_false(right("### x + 7", "7"));
    assert_true(right("### x = 7 cm", "7"));
}

static void the_corrected_rule_reads_latex(void **state)
{
    (void)state;
    assert_true(right("### \\dfrac34", "0.75"));
    assert_true(right("so \\boxed{1\\frac{4}{5}}", "\\frac{9}{5}"));
    assert_true(right("### (3,4]", "\\left( 3, 4 \\right]"));
    assert_false(right("### [3,4]", "(3,4]"));
    assert_true(right("### C", "\\text{(C)}"));
    assert_true(right("### 15", "15\\mbox{ cm}^2"));
}

static void numbers_have_values(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_number;
        double value;
    } cases[] = {{"-0.5", true, -0.5},
                 {"3/4", true, 0.75},
                 {"\\frac{-3}{8}", true, -0.375},
                 {"1e-3", true, 1e-3},
                 {"2\\frac{1}{2}", true, 2.5},
                 {"1/0", false, 0},
                 {"", false, 0},
                 {"-", false, 0},
                 {"2k", false, 0},
                 {".", false, 0},
                 {"1.5\\frac{1}{2}", false, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double value = 0;
        assert_int_equal(rot_answer_value(cases[i].text, &value), cases[i].is_number);
        assert_true(value == cases[i].value);
    }
}

static void coconuts_rules(void **state)
{
    (void)state;
    const char *const steps[] = {"a", "b c"};
    rot_str out = {0};
    rot_answer_coconut("x # y ## 1,000 ", 15, &out);
    assert_string_equal(out.text, "1000");
    rot_str_free(&out);
    assert_true(rot_answer_coconut_chain("a\nb c\n### 3", 11, steps, 2));
    assert_false(rot_answer_coconut_chain("a\nb c d\n### 3", 13, steps, 2));
    assert_false(rot_answer_coconut_chain("a", 1, steps, 2));
    assert_true(rot_answer_coconut_chain(" ### 3", 6, NULL, 0));
}

static void answers_survive_failing_allocations(void **state)
{
    (void)state;
    int rc = ROT_ERR_NO_MEMORY, n = 1;
    for (; n < 100 && rc == ROT_ERR_NO_MEMORY; n++) {
        rot_str found = {0};
        bool is_right;
        rot_mem_fail_at(n);
        rc = rot_answer_corrected("### 1,234 eggs", 14, "1234", 4, &found, &is_right, NULL);
        rot_mem_fail_at(0);
        rot_str_free(&found);
    }
    assert_int_equal(rc, 0);
    assert_true(n > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_rule_gives_what_it_gave),
        cmocka_unit_test(the_corrected_rule_keeps_signs_and_thousands),
        cmocka_unit_test(the_corrected_rule_reads_latex),
        cmocka_unit_test(numbers_have_values),
        cmocka_unit_test(coconuts_rules),
        cmocka_unit_test(answers_survive_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
