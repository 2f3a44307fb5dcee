// The key table against the structs, the defaults and the documents made from it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "pipeline/config_value.h"
#include "rotoscope/config.h"
#include "schemas/keys.h"

#define DERIVED(type, field)                                                                       \
    {                                                                                              \
        offsetof(type, field), sizeof(((type *)0)->field)                                          \
    }

typedef struct range {
    size_t offset, size;
} range;

// Fails if a byte that is no padding belongs neither to a key nor to a field in `derived`.
static void cover(unsigned char *value_bytes, size_t n_bytes, const rot_key *keys, size_t n_keys,
                  const range *derived, size_t n_derived)
{
    for (size_t k = 0; k < n_keys; k++) memset(value_bytes + keys[k].offset, 0, keys[k].size);
    for (size_t i = 0; i < n_derived; i++)
        memset(value_bytes + derived[i].offset, 0, derived[i].size);
    for (size_t i = 0; i < n_bytes; i++)
        if (value_bytes[i]) fail_msg("no key claims byte %zu of the struct", i);
}

static void every_field_has_a_key(void **state)
{
    (void)state;
#if defined __has_builtin && __has_builtin(__builtin_clear_padding)
    static const range of_config[] = {DERIVED(rot_config, path),
                                      DERIVED(rot_config, splits),
                                      DERIVED(rot_config, n_splits),
                                      DERIVED(rot_config, has_render),
                                      DERIVED(rot_config, has_encode),
                                      DERIVED(rot_config, render.size),
                                      DERIVED(rot_config, render.n_fonts),
                                      DERIVED(rot_config, render.missing_glyph),
                                      DERIVED(rot_config, encode.size),
                                      DERIVED(rot_config, encode.background),
                                      DERIVED(rot_config, encode.threads),
                                      DERIVED(rot_config, where),
                                      DERIVED(rot_config, encode.note),
                                      DERIVED(rot_config, encode.weights_sha256),
                                      DERIVED(rot_config, encode.note_user)};
    static const range of_split[] = {DERIVED(rot_split_config, name),
                                     DERIVED(rot_split_config, n_files)};
    rot_config config;
    rot_split_config split;
    memset(&config, 0xff, sizeof config);
    memset(&split, 0xff, sizeof split);
    __builtin_clear_padding(&config);
    __builtin_clear_padding(&split);
    cover((unsigned char *)&config, sizeof config, rot_config_keys, rot_n_config_keys, of_config,
          sizeof of_config / sizeof *of_config);
    cover((unsigned char *)&split, sizeof split, rot_split_keys, rot_n_split_keys, of_split,
          sizeof of_split / sizeof *of_split);
#else
    skip();
#endif
}

static void keys_are_unique_and_well_formed(void **state)
{
    (void)state;
    for (size_t i = 0; i < rot_n_config_keys; i++) {
        const rot_key *key = &rot_config_keys[i];
        bool numeric = key->type == ROT_KEY_INTEGER || key->type == ROT_KEY_COUNT ||
                       key->type == ROT_KEY_NUMBER;
        bool worded =
            key->type == ROT_KEY_ENUM || key->type == ROT_KEY_WORD || key->type == ROT_KEY_PRESET;
        assert_ptr_equal(rot_key_find(rot_config_keys, rot_n_config_keys, key->name), key);
        assert_true(strlen(key->doc) > 10);
        assert_int_equal(numeric, key->min < key->max);
        assert_int_equal(worded, key->words[0] != NULL);
        if (key->type == ROT_KEY_ENUM) assert_int_equal(key->size, sizeof(int));
    }
}

// The text of a default in the table is what the options structs say.
static void defaults_are_those_of_the_structs(void **state)
{
    (void)state;
    rot_config config = {.render = rot_render_options_default(),
                         .encode = rot_encoder_options_default(),
                         .shard_samples = 4096,
                         .commit_samples = 64};
    for (size_t i = 0; i < rot_n_config_keys; i++) {
        const rot_key *key = &rot_config_keys[i];
        rot_str text = {0};
        if (!key->by_default || key->type == ROT_KEY_PRESET) continue;
        rot_value_write(key, &config, &text);
        const char *wanted = key->type == ROT_KEY_FONTS ? "[\"DejaVuSans.ttf\"]" : key->by_default;
        if (strcmp(text.text, wanted)) fail_msg("%s: %s, not %s", key->name, text.text, wanted);
        rot_str_free(&text);
    }
}

static void nearest(const char *section, const char *word, const char *wanted)
{
    char name[96];
    rot_key_nearest(section, word, name);
    assert_string_equal(name, wanted);
}

static void the_nearest_key_is_named(void **state)
{
    (void)state;
    assert_int_equal(rot_edit_distance("size_px", "size_px"), 0);
    assert_int_equal(rot_edit_distance("szie_px", "size_px"), 1);
    assert_int_equal(rot_edit_distance("", "abc"), 3);
    assert_int_equal(rot_edit_distance("kitten", "sitting"), 3);
    nearest("render", "size_pz", "render.size_px");
    nearest("", "encdoe", "encode");
    nearest("", "split", "splits");
    nearest("", "extend", "extends");
    nearest("", "size_px", "render.size_px");
    nearest("store", "codec", "store.embeds_codec");
    nearest("splits.train", "fiels", "splits.train.files");
    nearest("splits.train", "kyes", "splits.train.keys");
    nearest("splits.train.keys", "ct", "splits.train.keys.cot");
    char name[96], word[400];
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = 0;
    rot_key_nearest(word, word, name);
    rot_key_nearest("splits.", word, name);
}

static void same_as_file(const char *path, char *text)
{
    char *file = NULL;
    size_t n = 0;
    rot_err err = {0};
    assert_int_equal(rot_fs_read(path, &file, &n, &err), 0);
    if (strcmp(file, text)) fail_msg("%s is not what the table says: run `make docs`", path);
    free(file);
    free(text);
}

static void documents_are_up_to_date(void **state)
{
    (void)state;
    char *text = NULL;
    rot_err err = {0};
    assert_int_equal(rot_config_document(&text, &err), 0);
    for (size_t i = 0; i < rot_n_config_keys; i++)
        assert_non_null(strstr(text, rot_config_keys[i].name));
    same_as_file("docs/config.md", text);
    assert_int_equal(rot_config_json_schema(&text, &err), 0);
    json_t *schema = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(schema);
    json_decref(schema);
    same_as_file("schemas/config.schema.json", text);
}

static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    for (long n = 1; n < 40; n++) {
        char *text = NULL;
        rot_err err = {0};
        rot_mem_fail_at(n);
        int rc = n % 2 ? rot_config_document(&text, &err) : rot_config_json_schema(&text, &err);
        rot_mem_fail_at(0);
        assert_true(rc == 0 || rc == ROT_ERR_NO_MEMORY);
        if (rc == 0) free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_has_a_key),
        cmocka_unit_test(keys_are_unique_and_well_formed),
        cmocka_unit_test(defaults_are_those_of_the_structs),
        cmocka_unit_test(the_nearest_key_is_named),
        cmocka_unit_test(documents_are_up_to_date),
        cmocka_unit_test(lack_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
