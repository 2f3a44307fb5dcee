// pipeline: the reader of a split. What it reads is what was written, by sample, by id and in
// batches, from many threads and from children; damage is an error that names the row.
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "test_reader.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CHILD_THREADS 1 // it refuses new threads in a child of a process that has several
#define FORK_WHILE_READING false
#endif
#endif
#ifndef CHILD_THREADS
#define CHILD_THREADS 2
#endif
// The allocators of ASan and TSan do not let go of their locks in a child: there the threads end
// before the fork.
#ifdef __SANITIZE_ADDRESS__
#define FORK_WHILE_READING false
#endif
#ifndef FORK_WHILE_READING
#define FORK_WHILE_READING true
#endif

static void embeds_dir(const char *name, char out[300])
{
    rot_dataset *dataset;
    OK(rot_dataset_open(in_scratch(name), &dataset, &err));
    snprintf(out, 300, "%s", rot_dataset_stage_dir(dataset, "train", "embeds"));
    rot_dataset_close(&dataset);
}

static rot_reader *open_reader(const char *name)
{
    rot_reader *reader = NULL;
    OK(rot_reader_open(in_scratch(name), NULL, NULL, &reader, &err));
    return reader;
}

static int make_datasets(void **state)
{
    if (make_scratch(state) < 0) return -1;
    write_dataset("plain", ROT_CODEC_NONE, false, ROWS);
    write_dataset("packed", ROT_CODEC_ZSTD_BF16, false, ROWS);
    write_dataset("skips", ROT_CODEC_NONE, true, ROWS);
    write_dataset("empty", ROT_CODEC_NONE, false, 0);
    return 0;
}

static void info_says_what_was_written(void **state)
{
    (void)state;
    rot_reader *r = open_reader("skips.json");
    const rot_reader_info *info = rot_reader_get_info(r);
    assert_string_equal(info->name, "skips");
    assert_string_equal(info->split, "train");
    assert_int_equal(info->rows, ROWS);
    assert_int_equal(info->samples + info->skipped, ROWS);
    assert_int_equal(info->embeds_width, D);
    assert_int_equal(info->embeds_dtype, ROT_DTYPE_BF16);
    assert_true(info->has_tokens && info->has_embeds && !info->has_images);
    rot_reader_close(&r);
    assert_null(r);
}

static void samples_are_the_rows_that_were_not_skipped(void **state)
{
    (void)state;
    rot_reader *r = open_reader("skips.json");
    uint64_t sample = 0, row, back;
    for (uint64_t i = 0; i < ROWS; i++) {
        if (skipped(i, true)) {
            assert_int_equal(rot_reader_sample(r, i, &back, &err), ROT_ERR_NOT_FOUND);
            continue;
        }
        OK(rot_reader_row(r, sample, &row, &err));
        assert_int_equal(row, i);
        OK(rot_reader_sample(r, i, &back, &err));
        assert_int_equal(back, sample++);
    }
    assert_int_equal(rot_reader_row(r, sample, &row, &err), ROT_ERR_NOT_FOUND);
    assert_int_equal(rot_reader_sample(r, ROWS, &row, &err), ROT_ERR_NOT_FOUND);
    rot_reader_close(&r);
}

static void ids_lead_to_their_samples(void **state)
{
    (void)state;
    static const char *const names[] = {"plain.json", "skips.json"};
    for (int j = 0; j < 2; j++)
        for (int again = 0; again < 2; again++) { // the second time from the file
            rot_reader *r = open_reader(names[j]);
            for (uint64_t row = 0; row < ROWS; row++) {
                char id[32];
                uint64_t sample = 0, back;
                int n = snprintf(id, sizeof id, "id-%llu", (unsigned long long)row);
                int rc = rot_reader_find(r, id, (size_t)n, &sample, &err);
                if (skipped(row, j)) {
                    assert_int_equal(rc, ROT_ERR_NOT_FOUND);
                    continue;
                }
                assert_int_equal(rc, 0);
                OK(rot_reader_row(r, sample, &back, &err));
                assert_int_equal(back, row);
            }
            uint64_t sample;
            assert_int_equal(rot_reader_find(r, "id-", 3, &sample, &err), ROT_ERR_NOT_FOUND);
            assert_non_null(strstr(err.message, "'id-'"));
            assert_int_equal(rot_reader_find(r, "", 0, &sample, &err), ROT_ERR_NOT_FOUND);
            rot_reader_close(&r);
        }
}

static void views_are_aligned_and_equal(void **state)
{
    (void)state;
    rot_reader *r = open_reader("plain.json");
    const uint16_t *views[ROWS];
    for (uint64_t i = 0; i < ROWS; i++) {
        rot_record record;
        OK(rot_reader_view(r, "embeds", i, &record, &err));
        assert_int_equal(record.shape[0], k_of(i));
        assert_non_null(record.payload);
        assert_int_equal((uintptr_t)record.payload % (record.n_bytes >= 65536 ? 64 : 16), 0);
        views[i] = record.payload;
    }
    for (uint64_t i = 0; i < ROWS; i++) check_numbers(views[i], i); // none moved
    rot_reader_close(&r);
    rot_record record;
    r = open_reader("packed.json");
    OK(rot_reader_view(r, "embeds", 7, &record, &err));
    assert_null(record.payload);
    assert_int_equal(record.shape[0], 5000);
    rot_reader_close(&r);
}

static void peek_gives_k_and_no_payload(void **state)
{
    (void)state;
    rot_reader *r = open_reader("packed.json");
    const uint32_t *k;
    OK(rot_reader_k(r, &k, &err));
    for (uint64_t i = 0; i < ROWS; i++) {
        rot_record record;
        OK(rot_reader_peek(r, "embeds", i, &record, &err));
        assert_null(record.payload);
        assert_int_equal(record.shape[0], k_of(i));
        assert_int_equal(k[i], k_of(i));
    }
    rot_reader_close(&r);
}

static void texts_and_ids_come_back(void **state)
{
    (void)state;
    rot_reader *r = open_reader("plain.json");
    _Alignas(8) uint8_t buffer[256];
    rot_record record;
    rot_sample_texts t;
    OK(rot_reader_read(r, "tokens", 123, buffer, sizeof buffer, &record, &err));
    OK(rot_reader_texts(&record, &t, &err));
    assert_int_equal(t.question_ids[0], 123);
    assert_int_equal(t.answer_ids[0], 6);
    assert_int_equal(t.n_trace_ids, 2);
    assert_int_equal(t.n_question, 12);
    assert_memory_equal(t.question, "what is 123?", 12);
    assert_memory_equal(t.answer, "42", 2);
    assert_int_equal(rot_reader_read(r, "tokens", 123, buffer, 8, &record, &err),
                     ROT_ERR_TOO_LARGE);
    assert_in_range(record.n_bytes, 9, sizeof buffer);
    assert_int_equal(rot_reader_read(r, "images", 0, buffer, 8, &record, &err), ROT_ERR_NOT_FOUND);
    assert_int_equal(rot_reader_read(r, "tokens", ROWS, buffer, 8, &record, &err),
                     ROT_ERR_NOT_FOUND);
    record.shape[3]++;
    record.n_bytes++;
    assert_int_equal(rot_reader_texts(&record, &t, &err), ROT_ERR_CORRUPT);
    rot_reader_close(&r);
}

static void one_batch(rot_reader *r, const uint64_t *samples, size_t n, int threads)
{
    int64_t cu[65];
    OK(rot_reader_lengths(r, samples, n, cu, &err));
    uint16_t *out = malloc((size_t)cu[n] * D * 2 + 1);
    OK(rot_reader_batch(r, samples, n, cu, out, (uint64_t)cu[n], threads, &err));
    for (size_t i = 0; i < n; i++) {
        uint64_t row;
        OK(rot_reader_row(r, samples[i], &row, &err));
        assert_int_equal(cu[i + 1] - cu[i], k_of(row));
        check_numbers(out + (size_t)cu[i] * D, row);
    }
    free(out);
}

static void batches_equal_their_samples(void **state)
{
    (void)state;
    static const char *const names[] = {"plain.json", "packed.json", "skips.json"};
    for (int j = 0; j < 3; j++) {
        rot_reader *r = open_reader(names[j]);
        uint64_t n = rot_reader_get_info(r)->samples, samples[64];
        one_batch(r, samples, 0, 1);
        for (uint64_t trial = 0; trial < 60; trial++) {
            size_t m = 1 + mix(trial) % 64;
            for (size_t i = 0; i < m; i++) samples[i] = mix(trial * 64 + i) % n;
            OK(rot_reader_prefetch(r, "embeds", samples, m, &err));
            one_batch(r, samples, m, 1 + (int)(trial % 3));
            OK(rot_reader_drop(r, "embeds", samples, m, &err));
        }
        rot_reader_close(&r);
    }
}

static void a_batch_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    rot_reader *r = open_reader("plain.json");
    uint64_t samples[2] = {1, 2};
    int64_t cu[3];
    uint16_t out[200 * D];
    OK(rot_reader_lengths(r, samples, 2, cu, &err));
    assert_int_equal(rot_reader_batch(r, samples, 2, cu, out, (uint64_t)cu[2] - 1, 1, &err),
                     ROT_ERR_TOO_LARGE);
    cu[1]++;
    assert_int_equal(rot_reader_batch(r, samples, 2, cu, out, 200, 1, &err), ROT_ERR_CORRUPT);
    cu[1] = -1;
    assert_int_equal(rot_reader_batch(r, samples, 2, cu, out, 200, 1, &err), ROT_ERR_USAGE);
    samples[1] = ROWS;
    assert_int_equal(rot_reader_lengths(r, samples, 2, cu, &err), ROT_ERR_NOT_FOUND);
    assert_int_equal(rot_reader_prefetch(r, "embeds", samples, 2, &err), ROT_ERR_NOT_FOUND);
    rot_reader_close(&r);
}

typedef struct crowd {
    rot_reader *reader;
    uint64_t seed;
    int wrong;
} crowd;

// Without cmocka's checks, which belong to the main thread.
static void *read_at_random(void *user)
{
    crowd *c = user;
    rot_err e;
    for (uint64_t i = 0; i < 400; i++) {
        uint64_t sample = mix(c->seed * 1000 + i) % ROWS, found;
        uint32_t k = k_of(sample);
        uint16_t *out = malloc((size_t)k * D * 2 + 1);
        int64_t cu[2];
        char id[32];
        int n = snprintf(id, sizeof id, "id-%llu", (unsigned long long)sample);
        c->wrong += rot_reader_find(c->reader, id, (size_t)n, &found, &e) < 0 || found != sample;
        c->wrong += rot_reader_lengths(c->reader, &sample, 1, cu, &e) < 0 || cu[1] != k;
        c->wrong += rot_reader_batch(c->reader, &sample, 1, cu, out, k, 1, &e) < 0;
        for (uint64_t j = 0; j < (uint64_t)k * D; j++) c->wrong += out[j] != number(sample, j);
        free(out);
    }
    return NULL;
}

static void join_crowds(pthread_t *threads, const crowd *crowds)
{
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(crowds[i].wrong, 0);
    }
}

static void threads_and_children_share_a_reader(void **state)
{
    (void)state;
    static const char *const names[] = {"plain.json", "packed.json"};
    for (int j = 0; j < 2; j++) {
        rot_reader *r = open_reader(names[j]);
        pthread_t threads[6];
        crowd crowds[6];
        for (uint64_t i = 0; i < 6; i++) {
            crowds[i] = (crowd){r, i, 0};
            assert_int_equal(pthread_create(&threads[i], NULL, read_at_random, &crowds[i]), 0);
        }
        if (!FORK_WHILE_READING) join_crowds(threads, crowds);
        pid_t child = fork();
        if (child == 0) {
            crowd c = {r, 77, 0};
            uint64_t samples[8] = {1, 2, 3, 4, 5, 6, 7, 8};
            int64_t cu[9];
            read_at_random(&c);
            uint16_t *out = NULL;
            bool bad = rot_reader_lengths(r, samples, 8, cu, &err) < 0;
            out = bad ? NULL : malloc((size_t)cu[8] * D * 2);
            bad = bad || rot_reader_batch(r, samples, 8, cu, out, (uint64_t)cu[8], CHILD_THREADS,
                                          &err) < 0;
            _exit(c.wrong || bad);
        }
        if (FORK_WHILE_READING) join_crowds(threads, crowds);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        rot_reader_close(&r);
    }
}

/* ---- indexes -----------------------------------------------------------------------------------
 */

static void indexes_are_made_once_and_again_when_damaged(void **state)
{
    (void)state;
    char dir[300], path[320];
    write_dataset("index", ROT_CODEC_NONE, true, 300);
    embeds_dir("index.json", dir);
    snprintf(path, sizeof path, "%s/rows.idx", dir);
    for (int round = 0; round < 4; round++) {
        rot_reader *r = open_reader("index.json");
        uint64_t row;
        OK(rot_reader_row(r, 10, &row, &err));
        assert_int_equal(row, 11);
        rot_reader_close(&r);
        char *bytes;
        size_t n;
        OK(rot_fs_read(path, &bytes, &n, &err));
        if (round == 0) bytes[200] ^= 1; // a row
        if (round == 1) n = 100;         // cut within its header
        if (round == 2) bytes[33] ^= 1;  // the stage that it is of
        if (round < 3) OK(rot_fs_write_atomic(path, bytes, n, &err));
        rot_free(bytes);
    }
    rot_verify_summary summary;
    OK(rot_store_verify(dir, NULL, NULL, &summary, &err));
}

static void a_reader_that_keeps_no_index_writes_nothing(void **state)
{
    (void)state;
    char dir[300], path[320];
    write_dataset("quiet", ROT_CODEC_NONE, true, 300);
    embeds_dir("quiet.json", dir);
    snprintf(path, sizeof path, "%s/rows.idx", dir);
    rot_reader_options options = rot_reader_options_default();
    options.keep_index = false;
    rot_reader *r;
    uint64_t row;
    OK(rot_reader_open(in_scratch("quiet.json"), "train", &options, &r, &err));
    OK(rot_reader_row(r, 10, &row, &err));
    assert_int_equal(row, 11);
    rot_reader_close(&r);
    assert_false(rot_fs_is_file(path));
}

static void an_empty_split_can_be_opened(void **state)
{
    (void)state;
    rot_reader *r = open_reader("empty.json");
    const uint32_t *k;
    uint64_t sample;
    assert_int_equal(rot_reader_get_info(r)->samples, 0);
    OK(rot_reader_k(r, &k, &err));
    assert_int_equal(rot_reader_find(r, "x", 1, &sample, &err), ROT_ERR_NOT_FOUND);
    assert_int_equal(rot_reader_row(r, 0, &sample, &err), ROT_ERR_NOT_FOUND);
    rot_reader_close(&r);
}

/* ---- what is refused, and damage ---------------------------------------------------------------
 */

static void what_cannot_be_opened_is_said(void **state)
{
    (void)state;
    rot_reader *r;
    rot_reader_options options = rot_reader_options_default();
    assert_int_equal(rot_reader_open(in_scratch("no.json"), NULL, NULL, &r, &err), ROT_ERR_MISSING);
    assert_null(r);
    assert_int_equal(rot_reader_open(in_scratch("plain.json"), "test", NULL, &r, &err),
                     ROT_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "test"));
    options.stages = "images";
    assert_int_equal(rot_reader_open(in_scratch("plain.json"), NULL, &options, &r, &err),
                     ROT_ERR_MISSING);
    options.stages = "embeds,pictures";
    assert_int_equal(rot_reader_open(in_scratch("plain.json"), NULL, &options, &r, &err),
                     ROT_ERR_USAGE);
    options.stages = "embeds";
    OK(rot_reader_open(in_scratch("plain.json"), NULL, &options, &r, &err));
    rot_record record;
    assert_int_equal(rot_reader_peek(r, "tokens", 0, &record, &err), ROT_ERR_NOT_FOUND);
    uint64_t sample;
    OK(rot_reader_find(r, "id-5", 4, &sample, &err)); // ids are always there
    assert_int_equal(sample, 5);
    rot_reader_close(&r);
    options.size = 3;
    assert_int_equal(rot_reader_open(in_scratch("plain.json"), NULL, &options, &r, &err),
                     ROT_ERR_USAGE);
}

static void flip(const char *path, size_t at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, (long)at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, (long)at, SEEK_SET);
    fputc(c ^ 1, f);
    fclose(f);
}

// Every byte that matters, some of them: a read is right or an error, and both calls agree.
static void a_flipped_byte_is_an_error_that_names_the_row(void **state)
{
    (void)state;
    char dir[300], path[330];
    write_dataset("bad", ROT_CODEC_NONE, false, 200);
    embeds_dir("bad.json", dir);
    snprintf(path, sizeof path, "%s/shard-00000.mdb", dir);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    int found = 0;
    for (uint64_t trial = 0; trial < 150; trial++) {
        size_t at = mix(trial) % (size_t)st.st_size;
        flip(path, at);
        rot_reader *r = NULL;
        int rc = rot_reader_open(in_scratch("bad.json"), NULL, NULL, &r, &err), errors = 0;
        assert_true(rc == 0 || rc == ROT_ERR_CORRUPT);
        for (uint64_t i = 0; rc == 0 && i < 200; i++) {
            uint16_t *out = malloc((size_t)k_of(i) * D * 2 + 1);
            int64_t cu[2] = {0, k_of(i)};
            int got = rot_reader_batch(r, &i, 1, cu, out, k_of(i), 1, &err);
            assert_true(got == 0 || got == ROT_ERR_CORRUPT);
            if (got == 0) check_numbers(out, i);
            if (got < 0) assert_non_null(strstr(err.message, "row "));
            errors += got < 0;
            rot_record record;
            int viewed = rot_reader_view(r, "embeds", i, &record, &err);
            assert_int_equal(viewed, got);
            free(out);
        }
        found += rc < 0 || errors;
        rot_reader_close(&r);
        flip(path, at);
    }
    assert_in_range(found, 100, 150); // the others fell between records
}

static void verifying_can_be_switched_off(void **state)
{
    (void)state;
    char dir[300], path[330];
    write_dataset("trust", ROT_CODEC_NONE, false, 50);
    embeds_dir("trust.json", dir);
    snprintf(path, sizeof path, "%s/shard-00000.mdb", dir);
    rot_reader_options options = rot_reader_options_default();
    rot_reader *r;
    rot_record record;
    char *bytes;
    size_t n, at = 0;
    rot_record wanted = embeds_of(7);
    OK(rot_fs_read(path, &bytes, &n, &err));
    while (at + wanted.n_bytes <= n && memcmp(bytes + at, wanted.payload, wanted.n_bytes)) at += 16;
    assert_true(at + wanted.n_bytes <= n);
    rot_free(bytes);
    flip(path, at + 4);
    OK(rot_reader_open(in_scratch("trust.json"), NULL, &options, &r, &err));
    assert_int_equal(rot_reader_view(r, "embeds", 7, &record, &err), ROT_ERR_CORRUPT);
    rot_reader_close(&r);
    options.verify = false;
    OK(rot_reader_open(in_scratch("trust.json"), NULL, &options, &r, &err));
    OK(rot_reader_view(r, "embeds", 7, &record, &err));
    rot_reader_close(&r);
}

static void a_truncated_or_missing_shard_is_an_error(void **state)
{
    (void)state;
    char dir[300], path[330];
    write_dataset("cut", ROT_CODEC_NONE, false, 600);
    embeds_dir("cut.json", dir);
    snprintf(path, sizeof path, "%s/shard-00001.mdb", dir);
    rot_reader *r;
    rot_record record;
    assert_int_equal(truncate(path, 8192), 0);
    r = open_reader("cut.json");
    OK(rot_reader_view(r, "embeds", 0, &record, &err));
    assert_int_equal(rot_reader_view(r, "embeds", 300, &record, &err), ROT_ERR_CORRUPT);
    OK(rot_reader_view(r, "embeds", 599, &record, &err));
    rot_reader_close(&r);
    assert_int_equal(unlink(path), 0);
    r = open_reader("cut.json");
    assert_int_equal(rot_reader_view(r, "embeds", 300, &record, &err), ROT_ERR_CORRUPT);
    uint64_t sample = 300;
    assert_int_equal(rot_reader_prefetch(r, "embeds", &sample, 1, &err), ROT_ERR_CORRUPT);
    rot_reader_close(&r);
}

// After everything was read once, so that nothing but the look at the file's size is in the way.
static void a_shard_cut_while_it_is_open_is_an_error(void **state)
{
    (void)state;
    static uint16_t out[600 * 90 * D + 12 * 5000 * D];
    static const rot_codec codecs[] = {ROT_CODEC_NONE, ROT_CODEC_ZSTD_BF16};
    rot_map map; // an older kernel does not tell
    OK(rot_fs_map("/proc/self/exe", &map, &err));
    bool tells = madvise((void *)map.bytes, 1, MADV_POPULATE_READ) == 0;
    rot_fs_unmap(&map);
    if (!tells) skip();
    for (int c = 0; c < 2; c++) {
        char dir[300], path[330], text[256];
        uint64_t samples[600];
        int64_t cu[601];
        rot_record record;
        const size_t n_out = sizeof out / D / 2;
        write_dataset(c ? "half" : "gone", codecs[c], false, 600);
        rot_reader *r = open_reader(c ? "half.json" : "gone.json");
        for (uint64_t i = 0; i < 600; i++) samples[i] = i;
        OK(rot_reader_lengths(r, samples, 600, cu, &err));
        for (int again = 0; again < 2; again++)
            OK(rot_reader_batch(r, samples, 600, cu, out, n_out, 1, &err));
        OK(rot_reader_read(r, "tokens", 300, text, sizeof text, &record, &err));
        embeds_dir(c ? "half.json" : "gone.json", dir);
        snprintf(path, sizeof path, "%s/shard-00001.mdb", dir);
        assert_int_equal(truncate(path, 8192), 0);
        for (int threads = 1; threads < 3; threads++) {
            int rc = rot_reader_batch(r, samples, 600, cu, out, n_out, threads, &err);
            assert_int_equal(rc, ROT_ERR_CORRUPT);
            assert_non_null(strstr(err.message, "shard-00001.mdb"));
            assert_non_null(strstr(err.message, "cut short"));
        }
        const int64_t one[2] = {0, cu[301] - cu[300]};
        assert_int_equal(rot_reader_batch(r, samples + 300, 1, one, out, n_out, 1, &err),
                         ROT_ERR_CORRUPT);
        assert_int_equal(rot_reader_view(r, "embeds", 300, &record, &err), ROT_ERR_CORRUPT);
        assert_int_equal(rot_reader_peek(r, "embeds", 300, &record, &err), ROT_ERR_CORRUPT);
        assert_int_equal(rot_reader_read(r, "embeds", 301, out, sizeof out, &record, &err),
                         ROT_ERR_CORRUPT);
        assert_int_equal(rot_reader_prefetch(r, "embeds", samples + 300, 1, &err), ROT_ERR_CORRUPT);
        OK(rot_reader_batch(r, samples, 256, cu, out, n_out, 1, &err)); // the other shards
        OK(rot_reader_read(r, "embeds", 599, out, sizeof out, &record, &err));
        OK(rot_reader_read(r, "tokens", 301, text, sizeof text, &record, &err));
        rot_reader_close(&r);
    }
}

static void a_stage_that_is_not_the_named_one_is_refused(void **state)
{
    (void)state;
    lie_about_root = true;
    write_dataset("lie", ROT_CODEC_NONE, false, 50);
    lie_about_root = false;
    rot_reader *r;
    assert_int_equal(rot_reader_open(in_scratch("lie.json"), NULL, NULL, &r, &err),
                     ROT_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "is not the stage that the dataset lie names"));
}

static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    write_dataset("mem", ROT_CODEC_ZSTD_BF16, true, 100);
    int rc = ROT_ERR_NO_MEMORY;
    for (long n = 1; n < 400 && rc; n++) {
        rot_reader *r = NULL;
        rot_reader_options options = rot_reader_options_default();
        options.keep_index = false;
        uint64_t samples[2] = {9, 10}, sample;
        int64_t cu[3];
        uint16_t *out = NULL;
        rot_mem_fail_at(n);
        rc = rot_reader_open(in_scratch("mem.json"), NULL, &options, &r, &err);
        if (rc == 0) rc = rot_reader_find(r, "id-3", 4, &sample, &err);
        if (rc == 0) rc = rot_reader_lengths(r, samples, 2, cu, &err);
        if (rc == 0) out = malloc((size_t)cu[2] * D * 2 + 1);
        if (rc == 0) rc = rot_reader_batch(r, samples, 2, cu, out, (uint64_t)cu[2], 1, &err);
        rot_mem_fail_at(0);
        if (rc != 0 && rc != ROT_ERR_NO_MEMORY)
            fail_msg("allocation %ld: %s: %s", n, rot_error_name(rc), err.message);
        free(out);
        rot_reader_close(&r);
    }
    assert_int_equal(rc, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info_says_what_was_written),
        cmocka_unit_test(samples_are_the_rows_that_were_not_skipped),
        cmocka_unit_test(ids_lead_to_their_samples),
        cmocka_unit_test(views_are_aligned_and_equal),
        cmocka_unit_test(peek_gives_k_and_no_payload),
        cmocka_unit_test(texts_and_ids_come_back),
        cmocka_unit_test(batches_equal_their_samples),
        cmocka_unit_test(a_batch_that_does_not_fit_is_refused),
        cmocka_unit_test(threads_and_children_share_a_reader),
        cmocka_unit_test(indexes_are_made_once_and_again_when_damaged),
        cmocka_unit_test(a_reader_that_keeps_no_index_writes_nothing),
        cmocka_unit_test(an_empty_split_can_be_opened),
        cmocka_unit_test(what_cannot_be_opened_is_said),
        cmocka_unit_test(a_flipped_byte_is_an_error_that_names_the_row),
        cmocka_unit_test(verifying_can_be_switched_off),
        cmocka_unit_test(a_truncated_or_missing_shard_is_an_error),
        cmocka_unit_test(a_shard_cut_while_it_is_open_is_an_error),
        cmocka_unit_test(a_stage_that_is_not_the_named_one_is_refused),
        cmocka_unit_test(lack_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_datasets, remove_scratch);
}
