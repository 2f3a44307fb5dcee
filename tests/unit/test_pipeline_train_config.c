// The training config: defaults by preset and stage, strictness, writing and reading back.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "rotoscope/train.h"
#include "schemas/train_keys.h"

static char top[64];

static int set_up(void **state)
{
    (void)state;
    strcpy(top, "/tmp/rot-train-config-XXXXXX");
    if (!mkdtemp(top)) return -1;
    char path[128];
    snprintf(path, sizeof path, "%s/model", top);
    if (mkdir(path, 0777)) return -1;
    snprintf(path, sizeof path, "%s/d.json", top);
    FILE *f = fopen(path, "w");
    return !f || fclose(f) ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command);
}

static int load(const char *yaml, const char *set, rot_train_config **out, rot_err *err)
{
    char path[128];
    snprintf(path, sizeof path, "%s/t.yaml", top);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(yaml, f);
    assert_int_equal(fclose(f), 0);
    return rot_train_config_load(path, &set, set ? 1 : 0, out, err);
}

static const char base[] = "out: runs/a\n"
                           "model: {checkpoint: model}\n"
                           "data: {dataset: d.json}\n";

static void a_preset_and_a_stage_set_the_defaults(void **state)
{
    (void)state;
    rot_train_config *c = NULL;
    rot_err err = {0};
    assert_int_equal(load(base, NULL, &c, &err), 0);
    assert_int_equal(c->head_width, 4096);
    assert_int_equal(c->tuning, ROT_TUNE_NONE);
    assert_true(c->vision_weight == 10 && c->lm_weight == 1 && c->train_head);
    assert_int_equal(c->reduction, ROT_REDUCE_PAPER);
    rot_train_config_free(&c);
    assert_int_equal(load(base, "preset=rot-released", &c, &err), 0);
    assert_int_equal(c->head_width, 2048);
    assert_int_equal(c->accumulate, 4);
    assert_int_equal(c->length, ROT_LENGTH_MICRO_BATCHES);
    assert_int_equal(c->shuffle, ROT_SHUFFLE_ONCE);
    assert_int_equal(c->seed, 42);
    rot_train_config_free(&c);
    char yaml[512];
    snprintf(yaml, sizeof yaml, "%srot: {stage: 2, head: model}\n", base);
    assert_int_equal(load(yaml, NULL, &c, &err), 0);
    assert_int_equal(c->tuning, ROT_TUNE_LORA);
    assert_true(c->vision_weight == 0 && !c->train_head && c->epochs == 2);
    rot_train_config_free(&c);
}

static void what_is_written_reads_back_the_same(void **state)
{
    (void)state;
    rot_err err = {0};
    for (int released = 0; released < 2; released++) {
        rot_train_config *c = NULL, *again = NULL;
        char *text = NULL, *twice = NULL;
        assert_int_equal(load(base, released ? "preset=rot-released" : NULL, &c, &err), 0);
        assert_int_equal(rot_train_config_write(c, &text, &err), 0);
        assert_int_equal(load(text, NULL, &again, &err), 0);
        assert_int_equal(rot_train_config_write(again, &twice, &err), 0);
        assert_string_equal(text, twice);
        assert_int_equal(c->accumulate, again->accumulate);
        free(text);
        free(twice);
        rot_train_config_free(&c);
        rot_train_config_free(&again);
    }
}

static void a_key_that_is_wrong_is_an_error_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        int code;
        const char *words[2];
    } cases[] = {
        {"optimiser: {lr: 1}\n", ROT_ERR_CONFIG, {"t.yaml:4:1", "'optimizer'"}},
        {"optimizer: {Ir: 1}\n", ROT_ERR_CONFIG, {"t.yaml:4:13", "'optimizer.lr'"}},
        {"optimizer: {lr: '2e-5'}\n", ROT_ERR_CONFIG, {"t.yaml:4:17", "a number"}},
        {"optimizer: {lr: 11}\n", ROT_ERR_CONFIG, {"out of range", "0 to 10"}},
        {"lora: {r: 8}\n", ROT_ERR_CONFIG, {"lora.r has no effect", "model.tuning: lora"}},
        {"schedule: {min_ratio: 0.1}\n", ROT_ERR_CONFIG, {"no effect", "constant"}},
        {"train: {rest: carry}\n", ROT_ERR_CONFIG, {"no effect", "train.accumulate: 1"}},
        {"valid: {every: 10}\n", ROT_ERR_CONFIG, {"no effect", "data.valid"}},
        {"rot: {stage: 2}\n", ROT_ERR_CONFIG, {"rot.head is missing", "t.yaml:4"}},
        {"rot: {stage: 3}\n", ROT_ERR_CONFIG, {"out of range", "rot.stage"}},
        {"rot: {train_head: false}\n", ROT_ERR_CONFIG, {"nothing trains", "model.tuning"}},
        {"rot: {head: nowhere}\n", ROT_ERR_MISSING, {"no such folder", "nowhere"}},
        {"loss: {vision: 0, lm: 0}\n", ROT_ERR_CONFIG, {"loss.vision", "both 0"}},
        {"splits: {}\n", ROT_ERR_CONFIG, {"no key 'splits'", "t.yaml:4"}},
        {"preset: rot-papr\n", ROT_ERR_CONFIG, {"rot-paper", "t.yaml:4"}},
        {"method: coco\n", ROT_ERR_CONFIG, {"method", "rot"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rot_train_config *c = NULL;
        rot_err err = {0};
        char yaml[512];
        snprintf(yaml, sizeof yaml, "%s%s", base, cases[i].yaml);
        assert_int_equal(load(yaml, NULL, &c, &err), cases[i].code);
        for (int w = 0; w < 2; w++)
            if (!strstr(err.message, cases[i].words[w]))
                fail_msg("%s lacks '%s'", err.message, cases[i].words[w]);
        assert_null(c);
    }
}

static void an_adapter_says_its_own_rank(void **state)
{
    (void)state;
    static const char yaml[] = "out: a\nmodel: {checkpoint: model, adapter: model, tuning: %s}\n"
                               "data: {dataset: d.json}\n%s";
    static const struct {
        const char *tuning, *more, *word;
    } cases[] = {{"lora", "lora: {r: 8}\n", "lora.r has no effect with model.adapter"},
                 {"lora", "lora: {targets: v_proj}\n", "lora.targets has no effect"},
                 {"full", "", "merge it"},
                 {"lora", "lora: {dropout: 0}\n", NULL},
                 {"none", "", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rot_train_config *c = NULL;
        rot_err err = {0};
        char text[512];
        snprintf(text, sizeof text, yaml, cases[i].tuning, cases[i].more);
        assert_int_equal(load(text, NULL, &c, &err), cases[i].word ? ROT_ERR_CONFIG : 0);
        if (cases[i].word) assert_non_null(strstr(err.message, cases[i].word));
        rot_train_config_free(&c);
    }
}

static void every_key_that_is_needed_is_asked_for(void **state)
{
    (void)state;
    rot_train_config *c = NULL;
    rot_err err = {0};
    assert_int_equal(load("out: a\nmodel: {checkpoint: model}\n", NULL, &c, &err), ROT_ERR_CONFIG);
    assert_non_null(strstr(err.message, "data.dataset is missing"));
    assert_int_equal(
        load("out: a\nmodel: {checkpoint: model}\ndata: {dataset: e.json}\n", NULL, &c, &err),
        ROT_ERR_MISSING);
    assert_non_null(strstr(err.message, "no such file"));
}

// Coconut's published configs (its args/*.yaml): epochs run from `resume` to num_epochs - 1.
static void presets_of_coconut_are_the_published_configs(void **state)
{
    static const struct {
        const char *preset, *method;
        uint32_t resume, num_epochs, c_thought, epochs_per_stage, max_stage;
        rot_train_reset reset;
    } published[] = {{"coconut-gsm", "coconut", 3, 25, 2, 3, 3, ROT_RESET_EPOCH},
                     {"coconut-gsm", "cot", 0, 25, 0, 0, 0, ROT_RESET_NEVER},
                     {"coconut-prosqa", "coconut", 0, 50, 1, 5, 6, ROT_RESET_EPOCH}};
    (void)state;
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        rot_train_config *c = NULL;
        rot_err err = {0};
        char yaml[256];
        snprintf(yaml, sizeof yaml, "%spreset: %s\nmethod: %s\n", base, published[i].preset,
                 published[i].method);
        assert_int_equal(load(yaml, NULL, &c, &err), 0);
        assert_int_equal(c->first_epoch, published[i].resume);
        assert_int_equal(c->first_epoch + c->epochs, published[i].num_epochs);
        assert_int_equal(c->reset, published[i].reset);
        assert_true(c->lr == 1e-4 && c->weight_decay == 0.01 && c->clip == 0 && c->batch == 32);
        if (published[i].c_thought) {
            assert_int_equal(c->thoughts_per_step, published[i].c_thought);
            assert_int_equal(c->epochs_per_stage, published[i].epochs_per_stage);
            assert_int_equal(c->max_stage, published[i].max_stage);
            assert_true(c->pad_to_max && c->curriculum && c->uniform == 0);
        }
        rot_train_config_free(&c);
    }
}

// The table says what rot_train_defaults does.
static void documented_defaults_are_the_defaults(void **state)
{
    (void)state;
    rot_train_config *c = NULL;
    rot_err err = {0};
    assert_int_equal(load(base, NULL, &c, &err), 0);
    for (size_t i = 0; i < rot_n_train_keys; i++) {
        const rot_key *key = &rot_train_keys[i];
        const void *field = (const char *)c + key->offset;
        const char *d = key->by_default;
        int word;
        if (!d || !strncmp(d, "by ", 3)) continue;
        switch (key->type) {
        case ROT_KEY_COUNT: assert_int_equal(*(const uint32_t *)field, strtoul(d, NULL, 10)); break;
        case ROT_KEY_INTEGER: assert_int_equal(*(const int *)field, atoi(d)); break;
        case ROT_KEY_NUMBER: assert_true(*(const double *)field == strtod(d, NULL)); break;
        case ROT_KEY_BOOL: assert_int_equal(*(const bool *)field, !strcmp(d, "true")); break;
        case ROT_KEY_ENUM:
            memcpy(&word, field, sizeof word);
            assert_string_equal(key->words[word], d);
            break;
        default: break;
        }
    }
    rot_train_config_free(&c);
}

static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    int failed = 0;
    for (long n = 1;; n++) {
        rot_train_config *c = NULL;
        rot_err err = {0};
        rot_mem_fail_at(n);
        int rc = load(base, "seed=3", &c, &err);
        rot_mem_fail_at(0);
        if (rc == 0) {
            rot_train_config_free(&c);
            break;
        }
        assert_int_equal(rc, ROT_ERR_NO_MEMORY);
        assert_null(c);
        failed++;
    }
    assert_true(failed > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_preset_and_a_stage_set_the_defaults),
        cmocka_unit_test(what_is_written_reads_back_the_same),
        cmocka_unit_test(a_key_that_is_wrong_is_an_error_with_its_place),
        cmocka_unit_test(an_adapter_says_its_own_rank),
        cmocka_unit_test(every_key_that_is_needed_is_asked_for),
        cmocka_unit_test(presets_of_coconut_are_the_published_configs),
        cmocka_unit_test(documented_defaults_are_the_defaults),
        cmocka_unit_test(lack_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
