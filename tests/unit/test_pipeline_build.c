// pipeline: whole builds from the project's samples with a tiny checkpoint. The same inputs give
// the same root, whatever the threads, stops and layouts; what changed is made again and nothing
// else.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "rotoscope/rotoscope.h"

static char top[64] = "/tmp/rot build XXXXXX"; // with a space on purpose
static char checkpoint[128];

static int make_top(void **state)
{
    (void)state;
    rot_err err = {0};
    if (!mkdtemp(top)) return -1;
    snprintf(checkpoint, sizeof checkpoint, "%s/tiny", top);
    rot_init_model_options options = rot_init_model_options_default();
    options.dir = checkpoint;
    options.arch = "tiny";
    options.seed = 7;
    int rc = rot_init_model(&options, &err);
    if (rc < 0) fprintf(stderr, "%s\n", err.message);
    return rc;
}

static int remove_top(void **state)
{
    (void)state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command);
}

typedef struct build_setup {
    const char *root; // folder name under top
    const char *file, *format;
    const char *extra[12];
    int threads;
    bool images_only, tokens_only;
    const volatile sig_atomic_t *stop;
    void (*progress)(void *, const rot_progress *);
    void *user;
} build_setup;

static rot_config *load(const build_setup *b, rot_err *err)
{
    static char sets[20][512];
    const char *list[32];
    int n = 0;
    snprintf(sets[n++], 512, "name=set");
    snprintf(sets[n++], 512, "root=%s/%s", top, b->root);
    snprintf(sets[n++], 512, "splits.train.files=[\"%s\"]",
             b->file ? b->file : "samples/gsm8k-aug.txt");
    snprintf(sets[n++], 512, "splits.train.format=%s", b->format ? b->format : "gsm8k-aug");
    snprintf(sets[n++], 512, "tokenizer.path=%s", checkpoint);
    if (!b->tokens_only) snprintf(sets[n++], 512, "render.preset=rot-paper");
    if (!b->tokens_only && !b->images_only)
        snprintf(sets[n++], 512, "encode.checkpoint=%s", checkpoint);
    for (int i = 0; i < n; i++) list[i] = sets[i];
    for (int i = 0; i < 12 && b->extra[i]; i++) list[n++] = b->extra[i];
    rot_config *config = NULL;
    rot_config_load(NULL, list, n, &config, err);
    return config;
}

// The build's return code; its dataset's root in `root` (empty on failure), its JSON if asked for.
static int build(const build_setup *b, char root[65], char **json_out, rot_err *err)
{
    rot_config *config = load(b, err);
    root[0] = 0;
    if (!config) return err->code;
    rot_build_options options = rot_build_options_default();
    options.threads = b->threads;
    options.stop = b->stop;
    options.progress = b->progress;
    options.user = b->user;
    char *json = NULL;
    int rc = rot_build(config, &options, &json, err);
    if (rc == 0) {
        json_t *dataset = json_loads(json, 0, NULL);
        snprintf(root, 65, "%s", json_string_value(json_object_get(dataset, "root")));
        json_decref(dataset);
    }
    if (json_out)
        *json_out = json;
    else
        free(json);
    rot_config_free(&config);
    return rc;
}

#define ASSERT_BUILT(setup, root)                                                                  \
    do {                                                                                           \
        rot_err err_ = {0};                                                                        \
        int rc_ = build(setup, root, NULL, &err_);                                                 \
        if (rc_ < 0) fail_msg("%s", err_.message);                                                 \
    } while (0)

static void verify_passes(const char *folder)
{
    char path[200];
    rot_err err = {0};
    snprintf(path, sizeof path, "%s/%s/set.json", top, folder);
    if (rot_dataset_verify(path, NULL, NULL, &err) < 0) fail_msg("%s", err.message);
}

static void one_thread_equals_two(void **state)
{
    (void)state;
    char one[65], two[65];
    ASSERT_BUILT((&(build_setup){.root = "one", .threads = 1}), one);
    ASSERT_BUILT((&(build_setup){.root = "two", .threads = 2}), two);
    assert_string_equal(one, two);
    verify_passes("one");
    verify_passes("two");
}

static time_t newest(const char *folder)
{
    char command[300];
    snprintf(command, sizeof command, "find '%s/%s' -type f -printf '%%T@\\n' | sort -n | tail -1",
             top, folder);
    FILE *out = popen(command, "r");
    double t = 0;
    assert_int_equal(fscanf(out, "%lf", &t), 1);
    pclose(out);
    return (time_t)(t * 1000);
}

static void a_finished_build_writes_nothing(void **state)
{
    (void)state;
    char one[65], again[65];
    ASSERT_BUILT((&(build_setup){.root = "twice"}), one);
    time_t before = newest("twice");
    ASSERT_BUILT((&(build_setup){.root = "twice"}), again);
    assert_string_equal(one, again);
    assert_int_equal(before, newest("twice"));
}

static volatile sig_atomic_t stop_flag;

static void stop_in(void *user, const rot_progress *progress)
{
    if (!strcmp(progress->stage, user)) stop_flag = 1;
}

static void stopped_builds_go_on_to_the_same_root(void **state)
{
    (void)state;
    static const char *const stages[] = {"tokens", "images", "embeds"};
    char undisturbed[65], root[65];
    // Units of 4 rows, so that a stop after the first step leaves work.
    build_setup b = {.root = "undisturbed",
                     .extra = {"store.commit_samples=4", "store.shard_samples=16"}};
    ASSERT_BUILT(&b, undisturbed);
    for (int i = 0; i < 3; i++) {
        rot_err err = {0};
        int stops = 0;
        build_setup stopped = b;
        stopped.root = stages[i];
        stopped.stop = &stop_flag;
        stopped.progress = stop_in;
        stopped.user = (void *)stages[i];
        for (;;) {
            stop_flag = 0;
            int rc = build(&stopped, root, NULL, &err);
            if (rc == 0) break;
            assert_int_equal(rc, ROT_ERR_STOPPED);
            assert_true(++stops < 1000);
        }
        assert_true(stops > 0);
        assert_string_equal(root, undisturbed);
        verify_passes(stages[i]);
    }
}

static void killed_builds_go_on_to_the_same_root(void **state)
{
    (void)state;
    char undisturbed[65], root[65];
    build_setup b = {.root = "unkilled",
                     .extra = {"store.commit_samples=4", "store.shard_samples=16"}};
    ASSERT_BUILT(&b, undisturbed);
    b.root = "killed";
    for (int i = 1; i <= 6; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            setenv("ROT_TEST_TOP", top, 1);
            execl("/proc/self/exe", "test", "build", b.root, NULL);
            _exit(1);
        }
        usleep((useconds_t)(i * 40000));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    ASSERT_BUILT(&b, root);
    assert_string_equal(root, undisturbed);
    verify_passes("killed");
}

static void another_layout_is_transcoded_to_the_same_content(void **state)
{
    (void)state;
    char plain[65], coded[65], small[65];
    build_setup b = {.root = "layouts"};
    ASSERT_BUILT(&b, plain);
    b.extra[0] = "store.embeds_codec=zstd-bf16";
    ASSERT_BUILT(&b, coded);
    b.extra[0] = "store.shard_samples=8";
    b.extra[1] = "store.commit_samples=4";
    ASSERT_BUILT(&b, small);
    assert_string_equal(plain, coded);
    assert_string_equal(plain, small);
    verify_passes("layouts");
}

static json_t *stages_of(const char *folder)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s/set.json", top, folder);
    json_t *dataset = json_load_file(path, 0, NULL);
    json_t *stages =
        json_object_get(json_object_get(json_object_get(dataset, "splits"), "train"), "stages");
    json_incref(stages);
    json_decref(dataset);
    return stages;
}

static bool same_path(json_t *a, json_t *b, const char *stage)
{
    return json_equal(json_object_get(json_object_get(a, stage), "path"),
                      json_object_get(json_object_get(b, stage), "path"));
}

static void only_what_changed_is_made_again(void **state)
{
    (void)state;
    char root[65];
    build_setup b = {.root = "changes"};
    ASSERT_BUILT(&b, root);
    json_t *first = stages_of("changes");
    b.extra[0] = "render.size_px=18";
    ASSERT_BUILT(&b, root);
    json_t *size = stages_of("changes");
    assert_true(same_path(first, size, "tokens"));
    assert_false(same_path(first, size, "images"));
    assert_false(same_path(first, size, "embeds"));
    b.extra[0] = "encode.geometry=patch16";
    ASSERT_BUILT(&b, root);
    json_t *geometry = stages_of("changes");
    assert_true(same_path(first, geometry, "tokens"));
    assert_true(same_path(first, geometry, "images"));
    assert_false(same_path(first, geometry, "embeds"));
    b.extra[0] = "tokenizer.layout=plain";
    ASSERT_BUILT(&b, root);
    json_t *layout = stages_of("changes");
    assert_false(same_path(first, layout, "tokens"));
    assert_true(same_path(first, layout, "images"));
    assert_true(same_path(first, layout, "embeds"));
    json_decref(first);
    json_decref(size);
    json_decref(geometry);
    json_decref(layout);
}

static void gzip_equals_plain(void **state)
{
    (void)state;
    char plain[65], packed[65], command[400], file[200];
    snprintf(file, sizeof file, "%s/rows.gz", top);
    snprintf(command, sizeof command, "gzip -c samples/gsm8k-aug.txt > '%s'", file);
    assert_int_equal(system(command), 0);
    ASSERT_BUILT((&(build_setup){.root = "plain", .images_only = true}), plain);
    ASSERT_BUILT((&(build_setup){.root = "packed", .images_only = true, .file = file}), packed);
    assert_string_equal(plain, packed);
}

static void bad_rows_follow_the_policy(void **state)
{
    (void)state;
    char root[65], file[200], path[256];
    rot_err err = {0};
    snprintf(file, sizeof file, "%s/bad.jsonl", top);
    const char rows[] = "{\"question\":\"a\",\"cot\":\"1+1\",\"answer\":\"2\"}\n{broken\n{"
                        "\"question\":\"c\",\"cot\":\"2+2\",\"answer\":\"4\"}\n";
    assert_int_equal(rot_fs_write_atomic(file, rows, sizeof rows - 1, &err), 0);
    build_setup b = {.root = "bad", .file = file, .format = "jsonl"};
    assert_int_equal(build(&b, root, NULL, &err), ROT_ERR_INPUT);
    assert_non_null(strstr(err.message, "bad.jsonl:2"));
    b.extra[0] = "on.bad_row=skip";
    ASSERT_BUILT(&b, root);
    verify_passes("bad");
    rot_dataset *dataset = NULL;
    rot_split_info split;
    snprintf(path, sizeof path, "%s/bad/set.json", top);
    assert_int_equal(rot_dataset_open(path, &dataset, &err), 0);
    assert_int_equal(rot_dataset_split(dataset, 0, &split), 0);
    assert_int_equal(split.rows, 3);
    assert_int_equal(split.samples, 2);
    assert_int_equal(split.skipped, 1);
    rot_dataset_close(&dataset);
    char *json = NULL; // the third row keeps its ordinal
    assert_int_equal(rot_inspect(path, NULL, 2, NULL, NULL, &json, &err), 0);
    assert_non_null(strstr(json, "2+2"));
    free(json);
    assert_int_equal(rot_inspect(path, NULL, 1, NULL, NULL, &json, &err), 0);
    assert_non_null(strstr(json, "\"skipped\""));
    free(json);
    assert_int_equal(rot_inspect(path, NULL, 3, NULL, NULL, &json, &err), ROT_ERR_NOT_FOUND);
}

static void images_too_large_follow_the_policy(void **state)
{
    (void)state;
    char root[65], file[200], row[14000];
    rot_err err = {0};
    snprintf(file, sizeof file, "%s/long.jsonl", top);
    int n = snprintf(
        row, sizeof row,
        "{\"question\":\"a\",\"cot\":\"1+1\",\"answer\":\"2\"}\n{\"question\":\"b\",\"cot\":\"");
    memset(row + n, 'x', 12000);
    n += 12000;
    n += snprintf(row + n, sizeof row - (size_t)n, "\",\"answer\":\"4\"}\n");
    assert_int_equal(rot_fs_write_atomic(file, row, (size_t)n, &err), 0);
    build_setup b = {.root = "long", .file = file, .format = "jsonl"};
    assert_int_equal(build(&b, root, NULL, &err), ROT_ERR_TOO_LARGE);
    assert_non_null(strstr(err.message, "row 1"));
    b.extra[0] = "on.too_large=skip";
    ASSERT_BUILT(&b, root);
    verify_passes("long");
    b.extra[0] = NULL; // the stage is there, but the policy is fail again
    assert_int_equal(build(&b, root, NULL, &err), ROT_ERR_INPUT);
}

static void missing_glyphs_follow_the_policy(void **state)
{
    (void)state;
    char root[65], drawn[65], file[200];
    rot_err err = {0};
    snprintf(file, sizeof file, "%s/glyph.jsonl", top);
    const char rows[] = "{\"question\":\"a\",\"cot\":\"1+1\",\"answer\":\"2\"}\n"
                        "{\"question\":\"b\",\"cot\":\"\xe4\xb8\xad\",\"answer\":\"3\"}\n";
    assert_int_equal(rot_fs_write_atomic(file, rows, sizeof rows - 1, &err), 0);
    build_setup b = {.root = "glyph", .file = file, .format = "jsonl", .images_only = true};
    assert_int_equal(build(&b, root, NULL, &err), ROT_ERR_MISSING_GLYPH);
    assert_non_null(strstr(err.message, "U+4E2D"));
    b.extra[0] = "on.missing_glyph=skip";
    ASSERT_BUILT(&b, root);
    b.extra[0] = "on.missing_glyph=draw"; // not the stage with the tombstone
    ASSERT_BUILT(&b, drawn);
    assert_string_not_equal(root, drawn);
    b.extra[0] = NULL;
    assert_int_equal(build(&b, root, NULL, &err), ROT_ERR_INPUT);
    verify_passes("glyph");
}

static void two_builds_exclude_each_other(void **state)
{
    (void)state;
    char path[200], root[65];
    rot_err err = {0};
    int fd;
    snprintf(path, sizeof path, "%s/busy/.rotoscope", top);
    assert_int_equal(rot_fs_mkdirs(path, &err), 0);
    snprintf(path, sizeof path, "%s/busy/.rotoscope/lock", top);
    assert_int_equal(rot_fs_lock(path, &fd, &err), 0);
    assert_int_equal(build(&(build_setup){.root = "busy"}, root, NULL, &err), ROT_ERR_LOCKED);
    assert_int_equal(rot_exit_code(ROT_ERR_LOCKED), 1);
    close(fd);
    ASSERT_BUILT((&(build_setup){.root = "busy"}), root);
}

static void reports_are_json(void **state)
{
    (void)state;
    char root[65], path[200], other[200];
    rot_err err = {0};
    char *json = NULL;
    ASSERT_BUILT((&(build_setup){.root = "reports"}), root);
    ASSERT_BUILT((&(build_setup){.root = "reports2", .extra = {"render.padding_px=6"}}), root);
    snprintf(path, sizeof path, "%s/reports/set.json", top);
    snprintf(other, sizeof other, "%s/reports2/set.json", top);
    assert_int_equal(rot_stats(path, &json, &err), 0);
    json_t *stats = json_loads(json, 0, NULL);
    free(json);
    json_t *train = json_object_get(json_object_get(json_array_get(stats, 0), "splits"), "train");
    assert_true(json_integer_value(json_object_get(json_object_get(train, "k"), "min")) >=
                64); // the floor of `released`
    json_decref(stats);
    snprintf(path, sizeof path, "%s/reports", top);
    assert_int_equal(rot_status(path, &json, &err), 0);
    assert_non_null(strstr(json, "\"building\": false"));
    assert_null(strstr(json, "stopped"));
    free(json);
    snprintf(path, sizeof path, "%s/reports/set.json", top);
    assert_int_equal(rot_why(path, other, &json, &err), 0);
    assert_non_null(strstr(json, "padding_px"));
    free(json);
    rot_config *config =
        load(&(build_setup){.root = "reports", .extra = {"render.size_px=17"}}, &err);
    rot_build_options options = rot_build_options_default();
    assert_int_equal(rot_build_plan(config, &options, &json, &err), 0);
    json_t *plan = json_loads(json, 0, NULL);
    json_t *stages =
        json_object_get(json_object_get(json_object_get(plan, "splits"), "train"), "stages");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(stages, "tokens"), "state")), "done");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(stages, "images"), "state")), "new");
    json_decref(plan);
    free(json);
    rot_config_free(&config);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "build")) { // the child that killed_builds_... kills
        snprintf(top, sizeof top, "%s", getenv("ROT_TEST_TOP"));
        snprintf(checkpoint, sizeof checkpoint, "%s/tiny", top);
        char root[65];
        rot_err err = {0};
        build_setup b = {.root = argv[2],
                         .extra = {"store.commit_samples=4", "store.shard_samples=16"}};
        return build(&b, root, NULL, &err) < 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_equals_two),
        cmocka_unit_test(a_finished_build_writes_nothing),
        cmocka_unit_test(stopped_builds_go_on_to_the_same_root),
        cmocka_unit_test(killed_builds_go_on_to_the_same_root),
        cmocka_unit_test(another_layout_is_transcoded_to_the_same_content),
        cmocka_unit_test(only_what_changed_is_made_again),
        cmocka_unit_test(gzip_equals_plain),
        cmocka_unit_test(bad_rows_follow_the_policy),
        cmocka_unit_test(images_too_large_follow_the_policy),
        cmocka_unit_test(missing_glyphs_follow_the_policy),
        cmocka_unit_test(two_builds_exclude_each_other),
        cmocka_unit_test(reports_are_json),
    };
    return cmocka_run_group_tests(tests, make_top, remove_top);
}
