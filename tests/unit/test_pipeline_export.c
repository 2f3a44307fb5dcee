// pipeline: export and import. What the formats' own libraries read back is in
// tests/peers/test_export.py.
#include <sys/stat.h>

#include "test_reader.h"

#include "rotoscope/export.h"

static int make_dataset(void **state)
{
    if (make_scratch(state) < 0) return -1;
    write_dataset("skips", ROT_CODEC_ZSTD_BF16, true, 100);
    return 0;
}

static uint64_t export_to(const char *format, const char *output, const char *const *where,
                          size_t n_where)
{
    rot_export_options o = rot_export_options_default();
    uint64_t n = 0;
    o.dataset = in_scratch("skips.json");
    o.format = format;
    o.output = output;
    o.where = where;
    o.n_where = n_where;
    OK(rot_export(&o, &n, &err));
    return n;
}

static void conditions_choose_samples(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"row<10", NULL},  {"row <= 10", "row>=3"},  {"id=id-7", NULL},     {"id != id-7", "row<9"},
        {"K==5000", NULL}, {"question_ids=3", NULL}, {"trace_ids!=2", NULL}};
    static const uint64_t wanted[] = {9, 7, 1, 7, 2, 89, 0};
    for (int i = 0; i < 7; i++) {
        char name[32];
        snprintf(name, sizeof name, "choice %d.jsonl", i);
        assert_int_equal(export_to("jsonl", in_scratch(name), cases[i], cases[i][1] ? 2 : 1),
                         wanted[i]);
    }
}

static void a_stage_that_is_not_there_is_said(void **state)
{
    (void)state;
    static const char *const where[] = {"width>3"};
    rot_export_options o = rot_export_options_default();
    uint64_t n;
    o.dataset = in_scratch("skips.json");
    o.format = "png";
    o.output = in_scratch("no png");
    assert_int_equal(rot_export(&o, &n, &err), ROT_ERR_NOT_FOUND);
    o.format = "jsonl";
    o.where = where;
    o.n_where = 1;
    assert_int_equal(rot_export(&o, &n, &err), ROT_ERR_NOT_FOUND);
    assert_false(rot_fs_is_file(o.output) || rot_fs_is_dir(o.output));
}

static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    static const char *const formats[] = {"jsonl", "safetensors"};
    for (int i = 0; i < 2; i++) {
        rot_export_options o = rot_export_options_default();
        uint64_t n;
        o.dataset = in_scratch("skips.json");
        o.format = formats[i];
        o.output = "/dev/full";
        assert_int_equal(rot_export(&o, &n, &err), ROT_ERR_NO_SPACE);
    }
}

static void an_import_has_the_same_root(void **state)
{
    (void)state;
    char *path = NULL;
    rot_import_options o = rot_import_options_default();
    o.input = in_scratch("all.safetensors");
    assert_int_equal(export_to("safetensors", o.input, NULL, 0), 89);
    o.with = in_scratch("skips.json");
    o.root = in_scratch("imported");
    o.name = "back";
    o.layout = (rot_stage_layout){ROT_CODEC_ZSTD_BF16, 256, 64};
    OK(rot_import(&o, &path, &err));
    OK(rot_dataset_verify(path, NULL, NULL, &err));
    rot_reader *a, *b;
    OK(rot_reader_open(o.with, NULL, NULL, &a, &err));
    OK(rot_reader_open(path, NULL, NULL, &b, &err));
    for (uint64_t i = 0; i < 89; i++) {
        uint8_t x[80000], y[80000];
        rot_record p, q;
        OK(rot_reader_read(a, "embeds", i, x, sizeof x, &p, &err));
        OK(rot_reader_read(b, "embeds", i, y, sizeof y, &q, &err));
        assert_same_record(&p, &q);
    }
    rot_reader_close(&a);
    rot_reader_close(&b);
    free(path);
    assert_int_equal(rot_import(&o, &path, &err), ROT_ERR_USAGE); // it is there
    assert_null(path);
}

static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    char input[256], root[256], name[32];
    snprintf(input, sizeof input, "%s", in_scratch("small.safetensors"));
    snprintf(root, sizeof root, "%s", in_scratch("mem"));
    export_to("safetensors", input, (const char *[]){"row<20"}, 1);
    int rc = ROT_ERR_NO_MEMORY;
    for (long n = 1; n < 3000 && rc; n += 1 + n / 16) {
        rot_export_options o = rot_export_options_default();
        uint64_t count;
        char out[256];
        snprintf(name, sizeof name, "mem %ld", n);
        snprintf(out, sizeof out, "%s", in_scratch(name));
        o.dataset = in_scratch("skips.json");
        o.format = "npy";
        o.output = out;
        o.limit = 9;
        rot_mem_fail_at(n);
        rc = rot_export(&o, &count, &err);
        rot_mem_fail_at(0);
        assert_true(rc == 0 || rc == ROT_ERR_NO_MEMORY);
    }
    assert_int_equal(rc, 0);
    rc = ROT_ERR_NO_MEMORY;
    for (long n = 1; n < 3000 && rc; n += 1 + n / 16) {
        rot_import_options o = rot_import_options_default();
        char *path = NULL;
        o.input = input;
        o.root = root;
        o.name = "m";
        rot_mem_fail_at(n);
        rc = rot_import(&o, &path, &err);
        rot_mem_fail_at(0);
        // Jansson's own memory does not count; what it could not be given is told as the file's
        // fault.
        if (rc != 0 && rc != ROT_ERR_NO_MEMORY)
            fail_msg("allocation %ld: %s: %s", n, rot_error_name(rc), err.message);
        free(path);
    }
    assert_int_equal(rc, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditions_choose_samples),
        cmocka_unit_test(a_stage_that_is_not_there_is_said),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(an_import_has_the_same_root),
        cmocka_unit_test(lack_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_dataset, remove_scratch);
}
