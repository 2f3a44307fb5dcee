// trainer: generation without memory and without questions.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "rotoscope/encoder.h"
#include "rotoscope/generate.h"

static char dir[] = "/tmp/rot generate XXXXXX";
static char model[64], questions[64], predictions[64], latents[64], tree[64];

static void path_of(char out[64], const char *name)
{
    snprintf(out, 64, "%s/%s", dir, name);
}

static int make_files(void **state)
{
    static const char text[] =
        "[{\"question\":\"Tom is a x. Is Tom a x or y?\",\"answer\":\"a\",\"steps\":[\"s\"],"
        "\"idx_to_symbol\":[\"Tom\",\"x\"],\"edges\":[[0,1]],\"root\":0,\"target\":1,"
        "\"neg_target\":1}]";
    (void)state;
    if (!mkdtemp(dir)) return -1;
    path_of(model, "model");
    path_of(questions, "questions");
    path_of(predictions, "predictions");
    path_of(latents, "latents");
    path_of(tree, "tree");
    rot_init_model_options o = rot_init_model_options_default();
    o.dir = model;
    o.arch = "qwen3-tiny";
    o.depth = 1;
    o.width = o.mlp_width = 32;
    return rot_init_model(&o, NULL) < 0 ? -1
                                        : rot_fs_write_atomic(questions, text, strlen(text), NULL);
}

static int remove_files(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static rot_generate_options options(void)
{
    rot_generate_options o = rot_generate_options_default();
    o.checkpoint = model;
    o.questions = questions;
    o.format = "prosqa";
    o.method = ROT_GENERATE_COCONUT;
    o.latents = 2;
    o.max_new_tokens = 2;
    o.backend = "ref";
    o.threads = 1;
    o.predictions = predictions;
    o.latents_out = latents;
    o.tree_out = tree;
    return o;
}

// Every allocation of a run is too many to fail one by one: those at the beginning, then some.
static void fail_one_by_one(const rot_generate_options *options)
{
    rot_generate_options o = *options;
    int rc = -1;
    long n = 1;
    for (; rc < 0; n += n < 20 ? 1 : 1 + n / 20) {
        rot_err err = {0};
        rot_mem_fail_at(n);
        rc = rot_generate(&o, &err);
        rot_mem_fail_at(0);
        if (rc < 0 && rc != ROT_ERR_NO_MEMORY) fail_msg("allocation %ld: %s", n, err.message);
        assert_int_equal(rot_fs_is_file(predictions), rc == 0);
        assert_true(n < 1000000);
    }
    assert_true(n > 100);
    remove(predictions);
}

static void without_memory_there_are_no_predictions(void **state)
{
    (void)state;
    rot_generate_options o = options();
    fail_one_by_one(&o);
    assert_true(rot_fs_is_file(latents) && rot_fs_is_file(tree));
}

static void without_memory_a_run_can_go_on(void **state)
{
    (void)state;
    rot_generate_options o = options();
    o.latents_out = o.tree_out = NULL;
    fail_one_by_one(&o);
}

static void an_empty_list_of_questions_is_an_error(void **state)
{
    (void)state;
    rot_generate_options o = options();
    char empty[64];
    rot_err err = {0};
    path_of(empty, "empty");
    assert_int_equal(rot_fs_write_atomic(empty, "[]", 2, NULL), 0);
    o.questions = empty;
    assert_int_equal(rot_generate(&o, &err), ROT_ERR_INPUT);
    assert_non_null(strstr(err.message, "no questions"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_memory_there_are_no_predictions),
        cmocka_unit_test(without_memory_a_run_can_go_on),
        cmocka_unit_test(an_empty_list_of_questions_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
