// encoder: safetensors files, well-formed and not.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "encoder/safetensors.h"
#include "rotoscope/encoder.h"

static char dir[] = "/tmp/rot test XXXXXX"; // with spaces

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static const char *in_dir(const char *name)
{
    static char path[4][256];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/%s", dir, name);
    return out;
}

// A file of this header and n_data bytes 0, 1, 2, ...
static const char *put(const char *name, const char *header, size_t n_data)
{
    const char *path = in_dir(name);
    FILE *file = fopen(path, "wb");
    uint64_t n = strlen(header);
    assert_non_null(file);
    fwrite(&n, 8, 1, file);
    fwrite(header, 1, n, file);
    for (size_t i = 0; i < n_data; i++) fputc((int)(i & 255), file);
    fclose(file);
    return path;
}

static void put_text(const char *name, const char *text)
{
    assert_int_equal(rot_fs_write_atomic(in_dir(name), text, strlen(text), NULL), 0);
}

static void wants_error(const char *path, int code, const char *words)
{
    rot_safetensors *file;
    rot_err err = {0};
    int rc = rot_safetensors_open(path, &file, &err);
    if (rc != code || !strstr(err.message, words) || !strstr(err.message, dir))
        fail_msg("%s: wanted %d with '%s', got %d: %s", path, code, words, rc, err.message);
    assert_null(file);
}

static void a_written_file_is_read_back(void **state)
{
    (void)state;
    const rot_tensor_decl tensors[] = {{"b.weight", ROT_T_F32, 2, {2, 3}},
                                       {"a \"quoted\" \xc3\xa4", ROT_T_BF16, 1, {5}},
                                       {"scalar", ROT_T_I64, 0, {0}},
                                       {"empty", ROT_T_F16, 2, {0, 7}}};
    const float b[6] = {1, -2, 3.5f, 0, 1e30f, -1e-30f};
    const uint16_t a[5] = {0x3f80, 0xbf80, 0x7f80, 1, 0};
    const int64_t scalar = -5;
    rot_safetensors_writer *writer;
    const char *path = in_dir("round.safetensors");
    assert_int_equal(rot_safetensors_create(path, tensors, 4, &writer, NULL), 0);
    assert_false(rot_fs_is_file(path)); // not before it is finished
    assert_int_equal(rot_safetensors_write(writer, b, 5, NULL), 0);
    assert_int_equal(rot_safetensors_write(writer, (const char *)b + 5, 19, NULL), 0);
    assert_int_equal(rot_safetensors_write(writer, a, sizeof a, NULL), 0);
    assert_int_equal(rot_safetensors_write(writer, &scalar, 8, NULL), 0);
    assert_int_equal(rot_safetensors_finish(&writer, NULL), 0);
    assert_null(writer);

    rot_safetensors *file;
    rot_err err = {0};
    if (rot_safetensors_open(path, &file, &err) < 0) fail_msg("%s", err.message);
    assert_int_equal(rot_safetensors_count(file), 4);
    for (size_t i = 1; i < 4; i++)
        assert_true(
            strcmp(rot_safetensors_at(file, i - 1)->name, rot_safetensors_at(file, i)->name) < 0);
    const rot_tensor *t = rot_safetensors_find(file, "b.weight");
    assert_non_null(t);
    assert_int_equal(t->type, ROT_T_F32);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->shape[1], 3);
    assert_memory_equal(t->data, b, sizeof b);
    float out[3];
    rot_tensor_to_f32(t, 2, 3, out);
    assert_memory_equal(out, b + 2, sizeof out);
    t = rot_safetensors_find(file, tensors[1].name);
    assert_non_null(t);
    assert_memory_equal(t->data, a, sizeof a);
    t = rot_safetensors_find(file, "scalar");
    assert_int_equal(t->n_elements, 1);
    assert_memory_equal(t->data, &scalar, 8);
    assert_int_equal(rot_safetensors_find(file, "empty")->n_bytes, 0);
    assert_null(rot_safetensors_find(file, "b"));
    rot_safetensors_close(&file);
    assert_null(file);
}

static void halves_become_floats_exactly(void **state)
{
    (void)state;
    const uint16_t f16[] = {0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff,
                            0x0400, 0x0001, 0x03ff, 0x3555, 0x7c00};
    const float f16_value[] = {0,          -0.0f,           1,       -2, 65504, 0x1p-14f, 0x1p-24f,
                               0x3ffp-24f, 0.333251953125f, INFINITY};
    const uint16_t bf16[] = {0x3f80, 0xc0a0, 0x0001, 0x7f7f, 0xff80, 0x3dcc};
    const float bf16_value[] = {1, -5, 0x1p-133f, 0x1.fep127f, -INFINITY, 0.099609375f};
    float out[16];
    rot_tensor t = {.type = ROT_T_F16, .data = f16, .n_elements = 10};
    rot_tensor_to_f32(&t, 0, 10, out);
    assert_memory_equal(out, f16_value, sizeof f16_value);
    t = (rot_tensor){.type = ROT_T_BF16, .data = bf16, .n_elements = 6};
    rot_tensor_to_f32(&t, 0, 6, out);
    assert_memory_equal(out, bf16_value, sizeof bf16_value);
}

static void an_abandoned_file_leaves_nothing(void **state)
{
    (void)state;
    const rot_tensor_decl tensor = {"x", ROT_T_F32, 1, {1000}};
    const float x[1000] = {0};
    for (int way = 0; way < 3; way++) {
        rot_safetensors_writer *writer;
        assert_int_equal(
            rot_safetensors_create(in_dir("gone.safetensors"), &tensor, 1, &writer, NULL), 0);
        assert_int_equal(rot_safetensors_write(writer, x, way == 1 ? sizeof x : 100, NULL), 0);
        if (way == 0)
            rot_safetensors_abort(&writer);
        else if (way == 1) { // more than was declared
            assert_int_equal(rot_safetensors_write(writer, x, 1, NULL), ROT_ERR_INTERNAL);
            rot_safetensors_abort(&writer);
        } else
            assert_int_equal(rot_safetensors_finish(&writer, NULL), ROT_ERR_INTERNAL); // less
        assert_null(writer);
    }
    DIR *folder = opendir(dir);
    for (struct dirent *entry; (entry = readdir(folder));)
        assert_null(strstr(entry->d_name, "gone"));
    closedir(folder);
}

static void names_are_checked_before_writing(void **state)
{
    (void)state;
    const rot_tensor_decl twice[] = {{"x", ROT_T_F32, 1, {1}}, {"x", ROT_T_U8, 1, {1}}};
    const rot_tensor_decl bad[] = {{"\xff", ROT_T_F32, 1, {1}},
                                   {"__metadata__", ROT_T_F32, 1, {1}},
                                   {"y", ROT_T_F32, 1, {-1}},
                                   {"z", ROT_T_F32, 2, {INT64_MAX, 16}},
                                   {"o", ROT_T_OTHER, 1, {1}}};
    rot_safetensors_writer *writer;
    assert_int_equal(rot_safetensors_create(in_dir("n.safetensors"), twice, 2, &writer, NULL),
                     ROT_ERR_USAGE);
    for (int i = 0; i < 5; i++)
        assert_int_equal(rot_safetensors_create(in_dir("n.safetensors"), &bad[i], 1, &writer, NULL),
                         ROT_ERR_USAGE);
}

static void only_a_regular_file_is_replaced(void **state)
{
    (void)state;
    const rot_tensor_decl tensor = {"x", ROT_T_U8, 1, {1}};
    rot_safetensors_writer *writer;
    rot_err err = {0};
    assert_int_equal(mkfifo(in_dir("fifo"), 0666), 0);
    assert_int_equal(rot_safetensors_create(in_dir("fifo"), &tensor, 1, &writer, &err),
                     ROT_ERR_USAGE);
    assert_non_null(strstr(err.message, "not a regular file"));
    assert_int_equal(rot_safetensors_create(dir, &tensor, 1, &writer, NULL), ROT_ERR_USAGE);
    assert_int_equal(rot_safetensors_create(in_dir("old"), &tensor, 1, &writer, NULL), 0);
    assert_int_equal(rot_safetensors_write(writer, "a", 1, NULL), 0);
    assert_int_equal(rot_safetensors_finish(&writer, NULL), 0);
    assert_int_equal(rot_safetensors_create(in_dir("old"), &tensor, 1, &writer, NULL), 0);
    rot_safetensors_abort(&writer);
    assert_true(rot_fs_is_file(in_dir("old")));
}

static void headers_that_lie_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t n_data;
        const char *words;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "truncated"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9,
         "1 bytes at its end"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4,
         "its shape and F32 need 8"},
        {"{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
         "unknown dtype 'F33'"},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "unknown dtype ''"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "no size"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, "no size"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, "no shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8,
         "9 dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807,9],\"data_offsets\":[0,8]}}", 8,
         "too large"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387906],\"data_offsets\":[0,8]}}", 8,
         "need"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "bad data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8,
         "bad data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "bad data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "bad data_offsets"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "need"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
         12, "overlaps"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
         12, "4 bytes before b"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2, "duplicate"},
        {"{\"a\":7}", 0, "not an object"},
        {"[]", 0, "not a JSON object"},
        {"{", 0, "header of"},
        {"", 0, "header of"},
        {"{\"a\\u0000b\":{}}", 0, "header of"},
        {"{\"\xff\":{}}", 0, "header of"},
        {"{}", 3, "3 bytes at its end"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        wants_error(put("lie.safetensors", cases[i].header, cases[i].n_data), ROT_ERR_FORMAT,
                    cases[i].words);
    unlink(in_dir("lie.safetensors"));
}

static void an_empty_header_and_foreign_types_are_read(void **state)
{
    (void)state;
    rot_safetensors *file;
    assert_int_equal(
        rot_safetensors_open(put("e.safetensors", "{\"__metadata__\":{\"format\":\"pt\"}}   ", 0),
                             &file, NULL),
        0);
    assert_int_equal(rot_safetensors_count(file), 0);
    assert_null(rot_safetensors_find(file, "a"));
    rot_safetensors_close(&file);
    put("e.safetensors",
        "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[0,3]},"
        "\"b\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[3,5]}}",
        5);
    assert_int_equal(rot_safetensors_open(in_dir("e.safetensors"), &file, NULL), 0);
    assert_int_equal(rot_safetensors_find(file, "b")->type, ROT_T_OTHER);
    rot_safetensors_close(&file);
    unlink(in_dir("e.safetensors"));
}

static void a_file_cut_anywhere_is_truncated(void **state)
{
    (void)state;
    const char *header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                         "\"b\":{\"dtype\":\"F16\",\"shape\":[4,4],\"data_offsets\":[8,40]}}";
    size_t whole = 8 + strlen(header) + 40;
    for (size_t length = 0; length < whole; length++) {
        const char *path = put("cut.safetensors", header, 40);
        assert_int_equal(truncate(path, (off_t)length), 0);
        wants_error(path, ROT_ERR_FORMAT, "truncated");
    }
    const char *path = in_dir("cut.safetensors");
    FILE *file = fopen(path, "wb"); // a length that no file has
    fwrite("\xff\xff\xff\xff\xff\xff\xff\xff{}", 1, 10, file);
    fclose(file);
    wants_error(path, ROT_ERR_FORMAT, "no safetensors file");
    unlink(path);
}

static void what_is_not_there_is_missing(void **state)
{
    (void)state;
    wants_error(in_dir("nothing.safetensors"), ROT_ERR_MISSING, "no such file");
    assert_int_equal(mkdir(in_dir("empty"), 0777), 0);
    wants_error(in_dir("empty"), ROT_ERR_MISSING, "no *.safetensors");
}

#define ONE(name) "{\"" name "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}"

static void shards_are_found_by_index_or_by_name(void **state)
{
    (void)state;
    rot_safetensors *file;
    rot_err err = {0};
    assert_int_equal(mkdir(in_dir("two"), 0777), 0);
    put("two/model-1.safetensors", ONE("a"), 1);
    put("two/model-2.safetensors", ONE("b"), 1);
    put("two/.hidden.safetensors", "x", 1);
    if (rot_safetensors_open(in_dir("two"), &file, &err) < 0) fail_msg("%s", err.message);
    assert_int_equal(rot_safetensors_count(file), 2);
    rot_safetensors_close(&file);

    put("two/model-3.safetensors", ONE("b"), 1); // a second b, which only an index can tell apart
    wants_error(in_dir("two"), ROT_ERR_FORMAT, "b is in");
    put_text("two/model.safetensors.index.json",
             "{\"weight_map\":{\"b\":\"model-3.safetensors\",\"a\":\"model-1.safetensors\"}}");
    if (rot_safetensors_open(in_dir("two"), &file, &err) < 0) fail_msg("%s", err.message);
    assert_int_equal(rot_safetensors_count(file), 2);
    assert_non_null(strstr(rot_safetensors_find(file, "b")->file, "model-3"));
    rot_safetensors_close(&file);

    static const struct {
        const char *text;
        int code;
        const char *words;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"model-9.safetensors\"}}", ROT_ERR_MISSING,
         "model-9.safetensors: no such file"},
        {"{\"weight_map\":{\"c\":\"model-1.safetensors\"}}", ROT_ERR_FORMAT,
         "c is not in model-1.safetensors"},
        {"{\"weight_map\":{\"a\":\"../two/model-1.safetensors\"}}", ROT_ERR_FORMAT, "no file name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", ROT_ERR_FORMAT, "no file name"},
        {"{\"weight_map\":{\"a\":7}}", ROT_ERR_FORMAT, "no file name"},
        {"{\"weight_map\":{}}", ROT_ERR_FORMAT, "names no file"},
        {"{\"weight_map\":[]}", ROT_ERR_FORMAT, "not an object"},
        {"{}", ROT_ERR_FORMAT, "'weight_map' is missing"},
        {"{\n\"weight_map\":", ROT_ERR_FORMAT, "line 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_text("two/model.safetensors.index.json", cases[i].text);
        wants_error(in_dir("two"), cases[i].code, cases[i].words);
    }
}

static void opening_survives_failing_allocations(void **state)
{
    (void)state;
    put("alloc.safetensors", ONE("a"), 1);
    int rc = ROT_ERR_NO_MEMORY, n = 1;
    for (; n < 100 && rc == ROT_ERR_NO_MEMORY; n++) {
        rot_safetensors *file;
        rot_mem_fail_at(n);
        rc = rot_safetensors_open(in_dir("alloc.safetensors"), &file, NULL);
        rot_mem_fail_at(0);
        rot_safetensors_close(&file);
    }
    assert_int_equal(rc, 0);
    assert_true(n > 3);
}

static void the_public_file_refuses_wrong_use(void **state)
{
    (void)state;
    rot_tensor_file *file;
    const int64_t shape[] = {2};
    const char *path = in_dir("public.safetensors");
    assert_int_equal(rot_tensor_file_new(path, &file, NULL), 0);
    assert_int_equal(rot_tensor_file_declare(file, "x", "F31", shape, 1, NULL), ROT_ERR_USAGE);
    assert_int_equal(rot_tensor_file_declare(file, "x", "I64", shape, 9, NULL), ROT_ERR_USAGE);
    assert_int_equal(rot_tensor_file_declare(file, "x", "I64", shape, 1, NULL), 0);
    assert_int_equal(rot_tensor_file_write(file, (int64_t[]){3, 4}, 16, NULL), 0);
    assert_int_equal(rot_tensor_file_declare(file, "y", "I64", shape, 1, NULL), ROT_ERR_USAGE);
    assert_int_equal(rot_tensor_file_finish(&file, NULL), 0);
    assert_null(file);
    rot_safetensors *back;
    assert_int_equal(rot_safetensors_open(path, &back, NULL), 0);
    assert_memory_equal(rot_safetensors_find(back, "x")->data, ((int64_t[]){3, 4}), 16);
    rot_safetensors_close(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_written_file_is_read_back),
        cmocka_unit_test(halves_become_floats_exactly),
        cmocka_unit_test(an_abandoned_file_leaves_nothing),
        cmocka_unit_test(names_are_checked_before_writing),
        cmocka_unit_test(only_a_regular_file_is_replaced),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(an_empty_header_and_foreign_types_are_read),
        cmocka_unit_test(a_file_cut_anywhere_is_truncated),
        cmocka_unit_test(what_is_not_there_is_missing),
        cmocka_unit_test(shards_are_found_by_index_or_by_name),
        cmocka_unit_test(opening_survives_failing_allocations),
        cmocka_unit_test(the_public_file_refuses_wrong_use),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
