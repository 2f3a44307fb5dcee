// The report: its pieces, and a page over a store made by hand, also when memory runs out.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "pipeline/report.h"

static void text_is(const char *in, size_t n, const char *want)
{
    rot_str s = {0};
    char *text;
    report_text(&s, in, n);
    assert_int_equal(rot_str_take(&s, &text, NULL), 0);
    assert_string_equal(text, want);
    free(text);
}

static void text_is_escaped(void **state)
{
    (void)state;
    text_is("a<b>&\"c\"\n", 9, "a&lt;b&gt;&amp;&quot;c&quot;\n");
    text_is("\xff\x01z", 3, "\xef\xbf\xbd\xef\xbf\xbdz");
    text_is("\xce\xbb", 2, "\xce\xbb");
}

static void base64_is(const char *in, const char *want)
{
    rot_str s = {0};
    char *text;
    report_base64(&s, (const uint8_t *)in, strlen(in));
    assert_int_equal(rot_str_take(&s, &text, NULL), 0);
    assert_string_equal(text, want);
    free(text);
}

static void base64_follows_rfc_4648(void **state)
{
    (void)state;
    base64_is("f", "Zg==");
    base64_is("fo", "Zm8=");
    base64_is("foo", "Zm9v");
    base64_is("foob", "Zm9vYg==");
    base64_is("fooba", "Zm9vYmE=");
    base64_is("foobar", "Zm9vYmFy");
}

// The numbers behind "to N: COUNT</title>" of every bar add up to the values.
static void histogram_counts_every_value_once(void **state)
{
    (void)state;
    uint32_t values[1000];
    for (uint32_t i = 0; i < 1000; i++) values[i] = 7 + i * i / 100;
    report_values v = {values, 1000, 1000};
    rot_str s = {0};
    char *text;
    report_histogram(&s, &v, "x");
    assert_int_equal(rot_str_take(&s, &text, NULL), 0);
    unsigned long sum = 0, bars = 0;
    for (const char *at = text; (at = strstr(at, "<title>")); bars++) {
        unsigned long from, to, count;
        assert_int_equal(sscanf(at, "<title>%lu to %lu: %lu", &from, &to, &count), 3);
        sum += count;
        at++;
    }
    assert_int_equal(sum, 1000);
    assert_in_range(bars, 2, 40);
    free(text);
    v = (report_values){values, 1, 1}; // one value, one bar
    report_histogram(&s, &v, "x");
    assert_int_equal(rot_str_take(&s, &text, NULL), 0);
    assert_non_null(strstr(text, "7 to 7: 1</title>"));
    free(text);
    v.values = (uint32_t[]){0, UINT32_MAX};
    v.n = 2;
    report_histogram(&s, &v, "x");
    assert_int_equal(rot_str_take(&s, &text, NULL), 0);
    free(text);
}

/* ---- a store by hand: images, embeds that name the geometry, one tombstone --------------------
 */

enum { ROWS = 5, LOST = 2 };
static const uint32_t widths[ROWS] = {457, 1300, 0, 1778, 3000};
static const char images_content[] = "{\"render\":{\"size_px\":20},\"stage\":\"images\"}";
static const char embeds_content[] = "{\"geometry\":\"released\",\"preprocessor\":{\"max_pixels\":"
                                     "16777216,\"merge\":2,\"min_pixels\":65536,"
                                     "\"patch_px\":16,\"temporal\":2},\"stage\":\"embeds\"}";

static rot_record record_of(const char *stage, uint64_t row, uint8_t *bytes)
{
    if (row == LOST)
        return (rot_record){
            .kind = ROT_KIND_TOMBSTONE, .shape = {4}, .payload = "json", .n_bytes = 4};
    if (!strcmp(stage, "embeds")) {
        memset(bytes, 0, 2 * 64);
        return (rot_record){ROT_KIND_EMBEDS, ROT_DTYPE_BF16, {1, 64, 2, 2}, bytes, 2 * 64};
    }
    memset(bytes, 255, widths[row] * 32);
    return (rot_record){
        ROT_KIND_IMAGE, ROT_DTYPE_U8, {widths[row], 32, 1, 0}, bytes, widths[row] * 32};
}

static void make_stage(const char *root, const char *stage, const char *content,
                       rot_stage_root *out)
{
    static uint8_t bytes[3000 * 32];
    char dir[256], folder[64];
    rot_err err = {0};
    rot_stage_spec spec = {
        .stage = stage, .content = content, .layout = {ROT_CODEC_ZSTD, 64, 64}, .rows = ROWS};
    if (!strcmp(stage, "embeds")) spec.layout.codec = ROT_CODEC_NONE;
    rot_sha256_bytes(content, strlen(content), spec.fingerprint);
    rot_stage_folder(&spec, folder);
    snprintf(dir, sizeof dir, "%s/stages/%s", root, folder);
    assert_int_equal(rot_fs_mkdirs(dir, &err), 0);
    rot_shard_writer *writer;
    uint64_t next;
    assert_int_equal(rot_shard_writer_open(dir, &spec, 0, NULL, &writer, &next, &err), 0);
    for (uint64_t row = 0; row < ROWS; row++) {
        rot_record record = record_of(stage, row, bytes);
        assert_int_equal(rot_shard_writer_append(writer, row, &record, &err), 0);
    }
    assert_int_equal(rot_shard_writer_publish(&writer, &err), 0);
    *out = (rot_stage_root){.split = "train", .stage = stage};
    assert_int_equal(rot_stage_finish(dir, &spec, out->root, &err), 0);
}

static void stage_json(char *out, size_t capacity, const char *content, const rot_stage_root *root)
{
    char folder[64], hex[65], fingerprint[65];
    rot_stage_spec spec = {.stage = root->stage, .layout = {ROT_CODEC_ZSTD, 64, 64}, .rows = ROWS};
    if (!strcmp(root->stage, "embeds")) spec.layout.codec = ROT_CODEC_NONE;
    rot_sha256_bytes(content, strlen(content), spec.fingerprint);
    rot_stage_folder(&spec, folder);
    rot_hex(root->root, 32, hex);
    rot_hex(spec.fingerprint, 32, fingerprint);
    snprintf(out, capacity,
             "\"%s\":{\"path\":\"stages/%s\",\"root\":\"%s\",\"fingerprint\":\"%s\"}", root->stage,
             folder, hex, fingerprint);
}

static int make_store(void **state)
{
    static char path[256];
    char root[] = "/tmp/rotoscope-report-XXXXXX", hex[65], images[512], embeds[512], json[2048];
    rot_stage_root roots[2];
    uint8_t digest[32];
    assert_non_null(mkdtemp(root));
    make_stage(root, "images", images_content, &roots[0]);
    make_stage(root, "embeds", embeds_content, &roots[1]);
    rot_dataset_root_hash(roots, 2, digest);
    rot_hex(digest, 32, hex);
    stage_json(images, sizeof images, images_content, &roots[0]);
    stage_json(embeds, sizeof embeds, embeds_content, &roots[1]);
    snprintf(json, sizeof json,
             "{\"format\":1,\"name\":\"a & "
             "b\",\"root\":\"%s\",\"splits\":{\"train\":{\"rows\":5,\"samples\":4,"
             "\"skipped\":1,\"stages\":{%s,%s}}},\"provenance\":{}}",
             hex, images, embeds);
    snprintf(path, sizeof path, "%s/d.json", root);
    *state = path;
    return rot_fs_write_atomic(path, json, strlen(json), NULL);
}

static int remove_store(void **state)
{
    char command[512], dir[256];
    rot_fs_dirname(*state, dir, sizeof dir);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static void page_holds_every_picture_with_its_grid(void **state)
{
    char *html;
    rot_err err = {0};
    assert_int_equal(rot_report(*state, &html, &err), 0);
    // K by width: notes of the geometry's own tests.
    assert_non_null(strstr(
        html, "row 0: drawn 457 × 32 px, seen as 1024 × 64 px, 2 rows of merged tokens, K = 64"));
    assert_non_null(strstr(html, "row 1: drawn 1300 × 32 px"));
    assert_non_null(strstr(html, "2 rows of merged tokens, K = 110"));
    assert_non_null(strstr(html, "row 3: drawn 1778 × 32 px"));
    assert_non_null(strstr(html, "1 row of merged tokens, K = 64"));
    assert_non_null(strstr(html, "K = 94"));
    assert_null(strstr(html, "row 2: drawn"));
    assert_non_null(strstr(html, "2 (json)"));
    assert_non_null(strstr(html, "<title>a &amp; b</title>"));
    free(html);
}

static void no_memory_is_an_error_and_no_crash(void **state)
{
    rot_err err = {0};
    int failed = 0;
    for (long n = 1; n < 400; n++) {
        char *html = NULL;
        rot_mem_fail_at(n);
        int rc = rot_report(*state, &html, &err);
        rot_mem_fail_at(0);
        if (rc == 0) {
            free(html);
            if (n > 100) break;
            continue;
        }
        assert_int_equal(rc, ROT_ERR_NO_MEMORY);
        failed++;
    }
    assert_true(failed > 3);
}

static void missing_dataset_is_named(void **state)
{
    (void)state;
    char *html = NULL;
    rot_err err = {0};
    assert_int_equal(rot_report("/nonexistent/x.json", &html, &err), ROT_ERR_MISSING);
    assert_non_null(strstr(err.message, "/nonexistent/x.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_escaped),
        cmocka_unit_test(base64_follows_rfc_4648),
        cmocka_unit_test(histogram_counts_every_value_once),
        cmocka_unit_test(missing_dataset_is_named),
        cmocka_unit_test_setup_teardown(page_holds_every_picture_with_its_grid, make_store,
                                        remove_store),
        cmocka_unit_test_setup_teardown(no_memory_is_an_error_and_no_crash, make_store,
                                        remove_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
