// Whole runs in one process: every allocation that fails is an error and nothing else; a stop flag
// at any micro-batch changes nothing; a locked folder; what the reports say.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "rotoscope/build.h"
#include "rotoscope/encoder.h"
#include "rotoscope/train.h"
#include "trainer/decoder.h"
#include "trainer/method.h"

static char top[64];

static const char *in_top(const char *name)
{
    static char paths[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s/%s", top, name);
    return paths[next];
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(in_top(name), "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int model(const char *name, const char *arch, int out)
{
    rot_err err = {0};
    rot_init_model_options o = rot_init_model_options_default();
    o.dir = in_top(name);
    o.arch = arch;
    if (out)
        o.out_width = out, o.depth = 1, o.heads = 0;
    else
        o.width = 32, o.heads = 2, o.mlp_width = 48, o.depth = 2;
    if (rot_init_model(&o, &err) == 0) return 0;
    print_error("%s\n", err.message);
    return -1;
}

static int set_up(void **state)
{
    (void)state;
    strcpy(top, "/tmp/rot-train-run-XXXXXX");
    if (!mkdtemp(top)) return -1;
    if (model("lm", "qwen3-tiny", 0) || model("tower", "tiny", 32)) return -1;
    put("rows.jsonl",
        "{\"id\": \"a\", \"question\": \"1+1?\", \"cot\": \"1+1=2\", \"answer\": \"2\"}\n"
        "{\"id\": \"b\", \"question\": \"2+1?\", \"cot\": \"2+1=3\", \"answer\": \"3\"}\n"
        "{\"id\": \"c\", \"question\": \"2+9?\", \"cot\": \"11\", \"answer\": \"11\"}\n"
        "{\"id\": \"d\", \"question\": \"5?\", \"cot\": \"5\", \"answer\": \"5\"}\n"
        "{\"id\": \"e\", \"question\": \"6?\", \"cot\": \"3+3=6\", \"answer\": \"6\"}\n");
    put("b.yaml", "name: d\nroot: out\nsplits: {train: {files: [rows.jsonl], format: jsonl}}\n"
                  "tokenizer: {path: lm}\nrender: {thought_markers: false}\n"
                  "encode: {checkpoint: tower, geometry: native}\n");
    put("t.yaml", "out: run\nmodel: {checkpoint: lm}\ndata: {dataset: out/d.json, valid: train}\n"
                  "train: {batch: 2, accumulate: 2, epochs: 2}\noptimizer: {lr: 1e-3}\n"
                  "rot: {head_width: 8}\n");
    rot_err err = {0};
    rot_config *config = NULL;
    char *json = NULL;
    rot_build_options o = rot_build_options_default();
    if (rot_config_load(in_top("b.yaml"), NULL, 0, &config, &err) < 0) return -1;
    int rc = rot_build(config, &o, &json, &err);
    if (rc < 0) print_error("%s\n", err.message);
    free(json);
    rot_config_free(&config);
    return rc;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command);
}

static void forget(const char *name)
{
    char command[320];
    snprintf(command, sizeof command, "rm -rf '%s'", in_top(name));
    assert_int_equal(system(command), 0);
}

// A run into `out`; `more`: another key, or NULL.
static int train(const char *out, const char *more, const rot_train_options *options, rot_err *err)
{
    char set[300];
    rot_train_config *config = NULL;
    char *json = NULL;
    snprintf(set, sizeof set, "out=%s", in_top(out));
    const char *sets[] = {set, more ? more : "seed=0"};
    int rc = rot_train_config_load(in_top("t.yaml"), sets, 2, &config, err);
    if (rc == 0) rc = rot_train_run(config, options, &json, err);
    if (rc == 0) assert_non_null(json);
    free(json);
    rot_train_config_free(&config);
    return rc;
}

static void assert_same_state(const char *a, const char *b)
{
    char *x, *y, name[128];
    size_t n, m;
    rot_err err = {0};
    snprintf(name, sizeof name, "%s/last/state.safetensors", a);
    assert_int_equal(rot_fs_read(in_top(name), &x, &n, &err), 0);
    snprintf(name, sizeof name, "%s/last/state.safetensors", b);
    assert_int_equal(rot_fs_read(in_top(name), &y, &m, &err), 0);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

// Stops behind every `every`-th step that is shown.
typedef struct stopper {
    volatile sig_atomic_t stop;
    int every, shown;
} stopper;

static void count(void *user, const rot_train_progress *progress)
{
    stopper *s = user;
    assert_true(progress->step <= progress->steps);
    if (++s->shown % s->every == 0) s->stop = 1;
}

static void a_run_that_is_stopped_again_and_again_ends_the_same(void **state)
{
    (void)state;
    rot_err err = {0};
    rot_train_options o = rot_train_options_default();
    o.threads = 1;
    static const char *const kinds[] = {"seed=0",
                                        "model.tuning=lora",
                                        "model.tuning=full",
                                        "rot.train_rows=true",
                                        "loss.uncertainty=true",
                                        "optimizer.reset=epoch",
                                        "train.rest=carry"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        forget("whole");
        forget("parts");
        if (train("whole", kinds[i], &o, &err)) fail_msg("%s", err.message);
        int rc, parts = 0;
        do {
            stopper s = {.every = 1};
            rot_train_options stopped = o;
            stopped.stop = &s.stop;
            stopped.progress = count;
            stopped.user = &s;
            rc = train("parts", kinds[i], &stopped, &err);
            assert_true(++parts < 20);
        } while (rc == ROT_ERR_STOPPED);
        assert_int_equal(rc, 0);
        assert_true(parts > 2);
        assert_same_state("whole", "parts");
    }
}

static void lack_of_memory_is_an_error_and_loses_nothing(void **state)
{
    (void)state;
    rot_err err = {0};
    rot_train_options o = rot_train_options_default();
    o.threads = 1;
    static const char *const kinds[] = {"seed=0", "model.tuning=lora"};
    for (size_t i = 0; i < 2; i++) {
        int failed = 0, rc = -1;
        forget("whole");
        forget("short");
        if (train("whole", kinds[i], &o, &err)) fail_msg("%s", err.message);
        for (long n = 1; rc; n += 1 + n / 12) {
            err = (rot_err){0};
            rot_mem_fail_at(n);
            rc = train("short", kinds[i], &o, &err);
            rot_mem_fail_at(0);
            if (rc && rc != ROT_ERR_NO_MEMORY) fail_msg("allocation %ld: %s", n, err.message);
            failed += rc != 0;
        }
        assert_true(failed > 20);
        assert_same_state("whole", "short");
    }
}

static void a_folder_in_use_is_left_alone(void **state)
{
    (void)state;
    rot_err err = {0};
    rot_train_options o = rot_train_options_default();
    int fd;
    assert_int_equal(rot_fs_mkdirs(in_top("held"), &err), 0);
    assert_int_equal(rot_fs_lock(in_top("held/.lock"), &fd, &err), 0);
    assert_int_equal(train("held", NULL, &o, &err), ROT_ERR_LOCKED);
    close(fd);
    o.size = 3;
    assert_int_equal(train("held", NULL, &o, &err), ROT_ERR_USAGE);
}

static void a_plan_says_what_a_run_does(void **state)
{
    (void)state;
    rot_err err = {0};
    rot_train_config *config = NULL;
    char *json = NULL, set[300];
    rot_train_options o = rot_train_options_default();
    snprintf(set, sizeof set, "out=%s", in_top("planned"));
    const char *sets[] = {set};
    assert_int_equal(rot_train_config_load(in_top("t.yaml"), sets, 1, &config, &err), 0);
    assert_int_equal(rot_train_plan(config, &o, &json, &err), 0);
    // norm 2 * 32, in 8 * 32 + 8, gates 3 * 64, out 32 * 8 + 32
    assert_non_null(strstr(json, "\"trained_parameters\":808"));
    assert_non_null(strstr(json, "\"steps\":4"));
    assert_non_null(strstr(json, "\"micro_batches_per_epoch\":3"));
    assert_false(rot_fs_is_dir(in_top("planned")));
    free(json);
    rot_train_config_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_that_is_stopped_again_and_again_ends_the_same),
        cmocka_unit_test(lack_of_memory_is_an_error_and_loses_nothing),
        cmocka_unit_test(a_folder_in_use_is_left_alone),
        cmocka_unit_test(a_plan_says_what_a_run_does),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
