// Synthetic data: the same bytes for the same seed, right arithmetic, right graphs, real lengths.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka wants the four above first.
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "rotoscope/build.h"

static char dir[] = "/tmp/rot_init_data_XXXXXX";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

static int init_data(const char *like, uint64_t rows, uint64_t seed, const char *path, rot_err *err)
{
    rot_init_data_options o = rot_init_data_options_default();
    o.like = like;
    o.rows = rows;
    o.seed = seed;
    return rot_init_data(&o, path, err);
}

// The text of so many rows; the caller frees it.
static char *make(const char *like, uint64_t rows, uint64_t seed)
{
    char path[300], *text;
    rot_err err = {0};
    size_t n;
    snprintf(path, sizeof path, "%s/a file", dir);
    if (init_data(like, rows, seed, path, &err) < 0) fail_msg("%s", err.message);
    assert_int_equal(rot_fs_read(path, &text, &n, &err), 0);
    unlink(path);
    assert_int_equal(strlen(text), n);
    return text;
}

// The golden hashes were made on x86-64; they hold for every machine, or the contract is broken.
static void bytes_are_those_of_every_machine(void **state)
{
    static const struct {
        const char *like, *hash;
    } golden[] = {
        {"gsm8k-aug", "d57ba98f07b26f328dc4303d8526516d"},
        {"gsm8k", "5445601501b8dfa86716c8168f39e819"},
        {"prosqa", "f748b9cb876df1ca567e1ca9480b8870"},
        {"arithmetic", "1ff70e6de335e1f44fe3059e31108db8"},
        {"prontoqa", "2cd2271d1e5fde03c9f27903ff406957"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        char *text = make(golden[i].like, 1000, 7), hex[33];
        uint8_t hash[16];
        rot_xxh128_bytes(text, strlen(text), hash);
        rot_hex(hash, 16, hex);
        assert_string_equal(hex, golden[i].hash);
        free(text);
    }
}

static void a_row_does_not_depend_on_how_many_there_are(void **state)
{
    char *few = make("gsm8k-aug", 10, 3), *many = make("gsm8k-aug", 500, 3);
    char *other = make("gsm8k-aug", 10, 4);
    (void)state;
    assert_memory_equal(few, many, strlen(few));
    assert_string_not_equal(few, other);
    free(few);
    free(many);
    free(other);
}

/* ---- arithmetic --------------------------------------------------------------------------------
 */

// "a op b op c": products before sums, as everybody reads it.
static double evaluate(const char *at, const char *end)
{
    double sum = 0, product = 0;
    char sign = '+', op = 0;
    while (at < end) {
        char *next;
        double x = strtod(at, &next);
        assert_true(next > at);
        product = op == '*' ? product * x : op == '/' ? product / x : x;
        at = next;
        op = at < end ? *at++ : '+';
        if (op == '+' || op == '-') {
            sum += sign == '+' ? product : -product;
            sign = op;
        }
    }
    return sum;
}

// Checks every <<left=right>> up to `end`; the last right side, or `none` if there is none.
static double check_equations(const char *text, const char *end, double none, int *n)
{
    double last = none;
    for (const char *at = text; (at = strstr(at, "<<")) && at < end; at++) {
        const char *equals = strchr(at, '='), *close = strstr(at, ">>");
        assert_true(equals && close && equals < close);
        last = strtod(equals + 1, NULL);
        assert_true(fabs(evaluate(at + 2, equals) - last) < 1e-6);
        assert_true(last >= 0);
        (*n)++;
    }
    return last;
}

static void check_lines(const char *like, int min_equations)
{
    char *text = make(like, 3000, 11);
    int n_lines = 0, n = 0;
    for (char *line = text, *lf; (lf = strchr(line, '\n')); line = lf + 1, n_lines++) {
        *lf = 0;
        const char *hashes = strstr(line, "#### ");
        assert_non_null(hashes);
        double answer = strtod(hashes + 5, NULL);
        assert_true(fabs(check_equations(line, hashes, answer, &n) - answer) < 1e-6);
    }
    assert_int_equal(n_lines, 3000);
    assert_true(n > min_equations);
    free(text);
}

static void equations_are_right_and_end_in_the_answer(void **state)
{
    (void)state;
    check_lines("gsm8k-aug", 9000);
    check_lines("gsm8k", 9000);
    check_lines("arithmetic", 9000);
}

static void lengths_are_those_of_gsm8k_aug(void **state)
{
    char *text = make("gsm8k-aug", 20000, 0);
    int n_empty = 0, longest = 0;
    double cot = 0, question = 0;
    (void)state;
    for (char *line = text, *lf; (lf = strchr(line, '\n')); line = lf + 1) {
        const char *bars = strstr(line, "||");
        assert_true(bars && bars < lf);
        const char *hashes = strstr(bars, " #### ");
        assert_true(hashes && hashes < lf);
        int n = hashes > bars + 2 ? (int)(hashes - bars - 2) : 0;
        n_empty += n == 0;
        longest = n > longest ? n : longest;
        cot += n;
        question += (double)(bars - line);
    }
    // Its validation and test sets: 42.6 and 238 characters on average, 173 at most, 1.3% empty.
    assert_true(cot / 20000 > 40 && cot / 20000 < 46);
    assert_true(question / 20000 > 225 && question / 20000 < 260);
    assert_true(n_empty > 180 && n_empty < 340);
    assert_true(longest > 130 && longest < 250);
    free(text);
}

/* ---- graphs ------------------------------------------------------------------------------------
 */

// Steps from the root to every node, or 99: edges lead upwards, so one pass in order is enough.
static void distances(const json_t *edges, int root, int n, int out[64])
{
    for (int i = 0; i < n; i++) out[i] = i == root ? 0 : 99;
    for (int node = 0; node < n; node++) {
        size_t i;
        json_t *edge;
        json_array_foreach(edges, i, edge)
        {
            int from = (int)json_integer_value(json_array_get(edge, 0));
            int to = (int)json_integer_value(json_array_get(edge, 1));
            assert_true(from < to && to < n);
            if (from == node && out[from] + 1 < out[to]) out[to] = out[from] + 1;
        }
    }
}

static void check_graph(const json_t *one)
{
    json_t *edges = json_object_get(one, "edges"), *steps = json_object_get(one, "steps"), *step;
    int n = (int)json_array_size(json_object_get(one, "idx_to_symbol")), far[64];
    int root = (int)json_integer_value(json_object_get(one, "root"));
    int target = (int)json_integer_value(json_object_get(one, "target"));
    int other = (int)json_integer_value(json_object_get(one, "neg_target"));
    const char *question = json_string_value(json_object_get(one, "question"));
    size_t i;
    assert_in_range(n, 18, 28);
    distances(edges, root, n, far);
    assert_int_equal(far[target], json_array_size(steps));
    assert_in_range(far[target], 3, 6);
    assert_int_equal(far[other], 99);
    json_array_foreach(steps, i, step) assert_non_null(strstr(question, json_string_value(step)));
}

static void graphs_have_one_answer_the_shortest_way_to_it(void **state)
{
    char *text = make("prosqa", 500, 5);
    json_error_t e;
    json_t *all = json_loads(text, JSON_REJECT_DUPLICATES, &e), *one;
    size_t i;
    (void)state;
    if (!all) fail_msg("%d: %s", e.line, e.text);
    assert_int_equal(json_array_size(all), 500);
    json_array_foreach(all, i, one) check_graph(one);
    json_decref(all);
    free(text);
}

/* ---- refusals ----------------------------------------------------------------------------------
 */

static void what_it_cannot_make_is_refused(void **state)
{
    rot_err err = {0};
    char path[300];
    (void)state;
    snprintf(path, sizeof path, "%s/none", dir);
    assert_int_equal(init_data("gsm9k", 1, 0, path, &err), ROT_ERR_USAGE);
    assert_non_null(strstr(err.message, "prosqa"));
    assert_int_equal(init_data("gsm8k", 0, 0, path, &err), ROT_ERR_USAGE);
    assert_int_equal(access(path, F_OK), -1);
    snprintf(path, sizeof path, "%s/no folder/file", dir);
    assert_int_equal(init_data("gsm8k", 1, 0, path, &err), ROT_ERR_IO);
    if (access("/dev/full", W_OK) == 0)
        assert_int_equal(init_data("gsm8k", 1, 0, "/dev/full", &err), ROT_ERR_NO_SPACE);
}

static void splits_share_no_question_and_bounds_hold(void **state)
{
    (void)state;
    static const char *const splits[] = {"train", "valid", "test"};
    char path[300], *text[3];
    size_t n;
    rot_err err = {0};
    snprintf(path, sizeof path, "%s/split", dir);
    for (int i = 0; i < 3; i++) {
        rot_init_data_options o = rot_init_data_options_default();
        o.like = "arithmetic"; // so few questions that seeds share some
        o.rows = 400;
        o.split = splits[i];
        o.min_steps = o.max_steps = 1;
        o.largest = 9;
        if (rot_init_data(&o, path, &err) < 0) fail_msg("%s", err.message);
        assert_int_equal(rot_fs_read(path, &text[i], &n, &err), 0);
    }
    unlink(path);
    for (int i = 0; i < 3; i++) {
        char *rest = NULL, *copy = strdup(text[i]);
        int rows = 0;
        for (char *one = strtok_r(copy, "\n", &rest); one; one = strtok_r(NULL, "\n", &rest)) {
            assert_null(strstr(text[(i + 1) % 3], one));
            int a, b, c;
            char sign;
            assert_int_equal(sscanf(strstr(one, "<<"), "<<%d%c%d=%d>> ####", &a, &sign, &b, &c), 4);
            assert_true(a <= 9 && b <= 9 && c <= 9);
            rows++;
        }
        assert_int_equal(rows, 400);
        free(copy);
    }
    for (int i = 0; i < 3; i++) free(text[i]);
    rot_init_data_options o = rot_init_data_options_default();
    o.rows = 1;
    o.split = "dev";
    assert_int_equal(rot_init_data(&o, path, &err), ROT_ERR_USAGE);
    o.split = NULL;
    o.largest = 99;
    assert_int_equal(rot_init_data(&o, path, &err), ROT_ERR_USAGE);
}

static void without_memory_there_is_no_file(void **state)
{
    static const char *const likes[] = {"gsm8k-aug", "gsm8k", "prosqa", "arithmetic", "prontoqa"};
    char path[300];
    (void)state;
    snprintf(path, sizeof path, "%s/none", dir);
    for (int i = 0; i < 5; i++) {
        int rc = -1;
        for (long n = 1; rc < 0; n++) {
            rot_err err = {0};
            rot_mem_fail_at(n);
            rc = init_data(likes[i], 20, 1, path, &err);
            rot_mem_fail_at(0);
            if (rc < 0) assert_int_equal(rc, ROT_ERR_NO_MEMORY);
            assert_int_equal(access(path, F_OK), rc < 0 ? -1 : 0);
            assert_true(n < 200);
        }
        unlink(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_those_of_every_machine),
        cmocka_unit_test(a_row_does_not_depend_on_how_many_there_are),
        cmocka_unit_test(equations_are_right_and_end_in_the_answer),
        cmocka_unit_test(lengths_are_those_of_gsm8k_aug),
        cmocka_unit_test(graphs_have_one_answer_the_shortest_way_to_it),
        cmocka_unit_test(what_it_cannot_make_is_refused),
        cmocka_unit_test(splits_share_no_question_and_bounds_hold),
        cmocka_unit_test(without_memory_there_is_no_file),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
