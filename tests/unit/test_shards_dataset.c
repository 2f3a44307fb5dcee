// Datasets: the JSON file that names stages, its root, and verify over files, folders and store
// roots.
#include "tests/unit/test_shards.h"

// A dataset of one split over tokens and embeds of 20 rows; its text is returned.
static char *make_dataset(const char *root_dir, bool sealed)
{
    static const char *const names[] = {"tokens", "embeds"};
    char folder[64], dir[300], text[2000], hex[2][65], all[65], fingerprint[2][65], *out;
    rot_stage_root roots[2];
    uint8_t digest[32];
    for (int i = 0; i < 2; i++) {
        rot_stage_spec spec = spec_of(names[i], ROT_CODEC_NONE, 16, 8, 20);
        rot_stage_folder(&spec, folder);
        snprintf(dir, sizeof dir, "%s/stages/%s", in_scratch(root_dir), folder);
        roots[1 - i] =
            (rot_stage_root){.split = "train", .stage = names[i]}; // the order does not matter
        write_stage(dir, &spec, roots[1 - i].root);
        rot_hex(roots[1 - i].root, 32, hex[i]);
        rot_hex(spec.fingerprint, 32, fingerprint[i]);
    }
    rot_dataset_root_hash(roots, 2, digest);
    rot_hex(digest, 32, all);
    rot_stage_spec tokens = spec_of("tokens", ROT_CODEC_NONE, 16, 8, 20),
                   embeds = spec_of("embeds", ROT_CODEC_NONE, 16, 8, 20);
    char a[64], b[64];
    rot_stage_folder(&tokens, a);
    rot_stage_folder(&embeds, b);
    uint64_t skipped = 0;
    for (uint64_t row = 0; row < 20; row++)
        skipped += record_of("embeds", row).kind == ROT_KIND_TOMBSTONE;
    snprintf(
        text, sizeof text,
        "{\"format\": 1, \"name\": \"t\", \"root\": \"%s\", \"splits\": {\"train\": {\"rows\": 20, "
        "\"samples\": %d, "
        "\"skipped\": %d, \"stages\": {\"tokens\": {\"path\": \"stages/%s\", \"root\": \"%s\", "
        "\"fingerprint\": \"%s\"}, "
        "\"embeds\": {\"path\": \"stages/%s\", \"root\": \"%s\", \"fingerprint\": \"%s\"}}}}%s}\n",
        all, 20 - (int)skipped, (int)skipped, a, hex[0], fingerprint[0], b, hex[1], fingerprint[1],
        sealed ? ", \"provenance\": {\"skipped\": {}}" : "");
    if (sealed)
        OK(rot_dataset_seal(text, &out, &err));
    else
        out = rot_strdup(text);
    snprintf(dir, sizeof dir, "%s/t.json", in_scratch(root_dir));
    OK(rot_fs_write_atomic(dir, out, strlen(out), &err));
    return out;
}

static void a_dataset_names_its_stages(void **state)
{
    (void)state;
    rot_dataset *dataset;
    rot_split_info split;
    free(make_dataset("one", false));
    OK(rot_dataset_open(in_scratch("one/t.json"), &dataset, &err));
    assert_string_equal(rot_dataset_name(dataset), "t");
    assert_int_equal(strlen(rot_dataset_root(dataset)), 64);
    assert_int_equal(rot_dataset_splits(dataset), 1);
    OK(rot_dataset_split(dataset, 0, &split));
    assert_string_equal(split.name, "train");
    assert_int_equal(split.rows, 20);
    assert_int_equal(split.samples + split.skipped, 20);
    assert_int_equal(rot_dataset_split(dataset, 1, &split), ROT_ERR_NOT_FOUND);
    assert_null(rot_dataset_stage_dir(dataset, "train", "images"));
    assert_null(rot_dataset_stage_dir(dataset, "test", "tokens"));
    rot_stage *stage;
    OK(rot_stage_open(rot_dataset_stage_dir(dataset, "train", "embeds"), &stage, &err));
    rot_stage_close(&stage);
    rot_dataset_close(&dataset);
    assert_int_equal(rot_dataset_open(in_scratch("one/none.json"), &dataset, &err),
                     ROT_ERR_MISSING);
}

static void a_store_root_is_verified_once_each(void **state)
{
    (void)state;
    rot_verify_summary s;
    findings f = {0};
    free(make_dataset("root", false));
    rot_stage_spec unfinished = spec_of("images", ROT_CODEC_ZSTD, 8, 8, 16);
    write_some(in_scratch("root/stages/images-0"), &unfinished, 0, UINT64_MAX);
    OK(rot_store_verify(in_scratch("root"), note_finding, &f, &s, &err));
    assert_int_equal(s.datasets, 1);
    assert_int_equal(s.stages, 2);
    assert_int_equal(s.records, 40);
    assert_int_equal(s.unfinished, 1);
    OK(rot_dataset_verify(in_scratch("root/t.json"), note_finding, &f, &err));
    assert_int_equal(f.n, 0);
    assert_int_equal(rot_store_verify(in_scratch("nowhere"), NULL, NULL, &s, &err),
                     ROT_ERR_MISSING);
    OK(rot_fs_mkdirs(in_scratch("bare"), &err));
    OK(rot_store_verify(in_scratch("bare"), NULL, NULL, &s, &err));
    assert_int_equal(s.datasets + s.stages, 0);
}

static void a_flipped_byte_in_a_dataset_is_found(void **state)
{
    (void)state;
    for (int sealed = 0; sealed < 2; sealed++) {
        char name[16], path[32];
        snprintf(name, sizeof name, "flip %d", sealed);
        snprintf(path, sizeof path, "%s/t.json", name);
        char *text = make_dataset(name, sealed);
        size_t n = strlen(text), missed = 0;
        for (size_t at = 0; at < n; at++) {
            findings f = {0};
            char before = text[at];
            text[at] ^= (char)(1 << at % 7);
            put_file(in_scratch(path), text, n);
            int rc = rot_dataset_verify(in_scratch(path), note_finding, &f, &err);
            if (rc == 0)
                missed++;
            else
                assert_int_equal(rc, ROT_ERR_CORRUPT);
            text[at] = before;
        }
        // Without a seal, the name and white space may change unnoticed; roots, paths and counts
        // may not.
        assert_true(sealed ? missed == 0 : missed < 64);
        rot_free(text);
    }
}

static void a_dataset_of_another_stage_is_found(void **state)
{
    (void)state;
    findings f = {0};
    free(make_dataset("moved", true));
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_NONE, 16, 8, 20);
    char folder[64], dir[300];
    uint8_t root[32];
    rot_stage_folder(&spec, folder);
    snprintf(dir, sizeof dir, "%s/stages/%s", in_scratch("moved"), folder);
    char command[400];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(rot_dataset_verify(in_scratch("moved/t.json"), note_finding, &f, &err),
                     ROT_ERR_CORRUPT);
    assert_non_null(strstr(f.cause, "stage.json")); // not there
    spec.rows = 19;
    write_stage(dir, &spec, root);
    assert_int_equal(rot_dataset_verify(in_scratch("moved/t.json"), note_finding, &f, &err),
                     ROT_ERR_CORRUPT);
    assert_int_equal(f.n, 3); // not there, then: other root, other counts
}

static void rubbish_is_no_dataset(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{}",
        "null",
        "{\"format\": 2}",
        "{\"format\": 1, \"name\": 3}",
        "{\"format\": 1, \"name\": \"x\", \"root\": \"00\", \"splits\": {}}",
        "\xff\xfe",
        "{\"sha256\": \"\"}",
        "{\"format\": 1, \"format\": 1}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        rot_dataset *dataset;
        OK(rot_fs_write_atomic(in_scratch("x.json"), texts[i], strlen(texts[i]), &err));
        int rc = rot_dataset_open(in_scratch("x.json"), &dataset, &err);
        assert_true(rc == ROT_ERR_FORMAT || rc == ROT_ERR_CORRUPT);
        assert_null(dataset);
        assert_non_null(strstr(err.message, "x.json"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dataset_names_its_stages),
        cmocka_unit_test(a_store_root_is_verified_once_each),
        cmocka_unit_test(a_flipped_byte_in_a_dataset_is_found),
        cmocka_unit_test(a_dataset_of_another_stage_is_found),
        cmocka_unit_test(rubbish_is_no_dataset),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
