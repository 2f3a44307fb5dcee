// trainer: questions with their steps and graphs, and what is refused.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "rotoscope/questions.h"

static char path[] = "/tmp/rot questions XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static rot_questions *read_text(const char *format, const char *text)
{
    rot_questions *q = NULL;
    rot_err err = {0};
    assert_int_equal(rot_fs_write_atomic(path, text, strlen(text), NULL), 0);
    if (rot_questions_read(path, format, NULL, &q, &err) < 0) fail_msg("%s", err.message);
    return q;
}

static void refused(const char *format, const char *text, int code, const char *words)
{
    rot_questions *q = NULL;
    rot_err err = {0};
    assert_int_equal(rot_fs_write_atomic(path, text, strlen(text), NULL), 0);
    assert_int_equal(rot_questions_read(path, format, NULL, &q, &err), code);
    if (!strstr(err.message, words)) fail_msg("no '%s' in: %s", words, err.message);
    assert_null(q);
}

static void equations_are_steps(void **state)
{
    (void)state;
    rot_questions *q = read_text("gsm8k-aug", "q||<<1+1=2>> <<2+1=3>> #### 3\nr|| #### 4\n");
    assert_int_equal(rot_questions_count(q), 2);
    const rot_question *one = rot_questions_get(q, 0);
    assert_int_equal(one->n_steps, 2);
    assert_string_equal(one->steps[1], "<<2+1=3>>");
    assert_string_equal(one->answer, "3");
    assert_int_equal(rot_questions_get(q, 1)->n_steps, 0);
    rot_questions_free(&q);
    q = read_text("gsm8k", "{\"question\":\"q\",\"answer\":\"a b\\nc\\n#### 3\"}");
    assert_int_equal(rot_questions_get(q, 0)->n_steps, 2);
    assert_string_equal(rot_questions_get(q, 0)->steps[0], "a b");
    rot_questions_free(&q);
}

#define GRAPH(edges, rest)                                                                         \
    "[{\"question\":\"q\",\"answer\":\"a\",\"steps\":[\"x "                                        \
    "y\",\"z\"],\"idx_to_symbol\":[\"A\",\"b\","                                                   \
    "\"c\"],\"edges\":" edges rest "}]"
#define ENDS ",\"root\":0,\"target\":1,\"neg_target\":2"

static void graphs_come_with_prosqa(void **state)
{
    (void)state;
    rot_questions *q = read_text("prosqa", GRAPH("[[0,1],[2,1]]", ENDS));
    const rot_question *one = rot_questions_get(q, 0);
    assert_non_null(one->graph);
    assert_int_equal(one->graph->n_nodes, 3);
    assert_int_equal(one->graph->n_edges, 2);
    assert_int_equal(one->graph->edges[1][0], 2);
    assert_int_equal(one->graph->neg_target, 2);
    assert_string_equal(one->graph->symbols[2], "c");
    assert_string_equal(one->steps[0], "x y");
    rot_questions_free(&q);
    q = read_text("coconut", GRAPH("[[0,1]]", ENDS));
    assert_null(rot_questions_get(q, 0)->graph);
    rot_questions_free(&q);
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    refused("prosqa", GRAPH("[[0,3]]", ENDS), ROT_ERR_INPUT, ":1: edge 0 is no pair of nodes");
    refused("prosqa", GRAPH("[[0,-1]]", ENDS), ROT_ERR_INPUT, "edge 0");
    refused("prosqa", GRAPH("[[0]]", ENDS), ROT_ERR_INPUT, "edge 0");
    refused("prosqa", GRAPH("{}", ENDS), ROT_ERR_INPUT, "'edges'");
    refused("prosqa", GRAPH("[]", ",\"root\":0,\"target\":\"b\""), ROT_ERR_INPUT, "'target'");
    refused("prosqa", "[{\"question\":\"q\",\"answer\":\"a\",\"steps\":[]}]", ROT_ERR_INPUT,
            "'idx_to_symbol'");
    refused("gsm8k-aug", "q||a #### 1\nno bars\n", ROT_ERR_INPUT, ":2: ");
    refused("gsm9k", "", ROT_ERR_USAGE, "multiarith");
    rot_questions *q = NULL;
    rot_err err = {0};
    assert_int_equal(rot_questions_read(path, "gsm8k", "train", &q, &err), ROT_ERR_USAGE);
    assert_int_equal(rot_questions_read("/no/such", "gsm8k", NULL, &q, &err), ROT_ERR_MISSING);
}

static void reading_survives_failing_allocations(void **state)
{
    (void)state;
    const char *text = GRAPH("[[0,1],[2,1]]", ENDS);
    int rc = ROT_ERR_NO_MEMORY, n = 1;
    assert_int_equal(rot_fs_write_atomic(path, text, strlen(text), NULL), 0);
    for (; n < 500 && rc == ROT_ERR_NO_MEMORY; n++) {
        rot_questions *q = NULL;
        rot_mem_fail_at(n);
        rc = rot_questions_read(path, "prosqa", NULL, &q, NULL);
        rot_mem_fail_at(0);
        rot_questions_free(&q);
    }
    assert_int_equal(rc, 0);
    assert_true(n > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equations_are_steps),
        cmocka_unit_test(graphs_come_with_prosqa),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(reading_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
