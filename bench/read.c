// How fast a store is read: batches of records in random order, warm and cold, against LMDB's own
// library on the same files and against memcpy; and what opening costs with many rows.
//
//     read [DIR]                   makes stores in DIR (/tmp) and prints a TSV row per case
//     read make FILE.json BYTES ROWS   only makes a store, for bench/read_peer.py
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "rotoscope/rotoscope.h"

enum { BATCH = 32, K = 32 };

typedef struct store {
    char json[512], dir[512];
    uint64_t rows;
    size_t n_bytes; // of a record
} store;

static char cpu[128];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static void name_cpu(void)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[512], *colon;
    snprintf(cpu, sizeof cpu, "unknown");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "model name", 10) && (colon = strchr(line, ':'))) {
            line[strcspn(line, "\n")] = 0;
            snprintf(cpu, sizeof cpu, "%.100s", colon + 2);
            break;
        }
    if (file) fclose(file);
}

static void die(const char *what, const rot_err *err)
{
    fprintf(stderr, "read: %s: %s\n", what, err->message);
    exit(1);
}

/* ---- making stores -----------------------------------------------------------------------------
 */

static void write_stage(const char *dir, const rot_stage_spec *spec, size_t n_bytes,
                        uint8_t root[32])
{
    rot_err err = {0};
    uint64_t *payload = malloc(n_bytes);
    uint32_t k = n_bytes >= 64 * K ? K : 1;
    for (uint32_t shard = 0; shard < rot_shard_count(spec); shard++) {
        rot_shard_writer *writer;
        uint64_t first, n, row;
        rot_shard_range(spec, shard, &first, &n);
        if (rot_shard_is_published(dir, shard)) continue;
        if (rot_shard_writer_open(dir, spec, shard, NULL, &writer, &row, &err) < 0) die(dir, &err);
        for (; row < first + n; row++) {
            for (size_t i = 0; i < n_bytes / 8; i++) payload[i] = mix(row << 20 | i);
            rot_record record = {.kind = ROT_KIND_EMBEDS,
                                 .dtype = ROT_DTYPE_BF16,
                                 .shape = {k, (uint32_t)(n_bytes / 2 / k), 2, 2 * k},
                                 .payload = payload,
                                 .n_bytes = n_bytes};
            if (rot_shard_writer_append(writer, row, &record, &err) < 0) die(dir, &err);
        }
        if (rot_shard_writer_publish(&writer, &err) < 0) die(dir, &err);
    }
    if (rot_stage_finish(dir, spec, root, &err) < 0) die(dir, &err);
    free(payload);
}

static void make(store *s, const char *json_path, size_t n_bytes, uint64_t rows)
{
    rot_stage_spec spec = {.stage = "embeds", .content = "{}", .rows = rows};
    rot_stage_root roots[1] = {{"train", "embeds", {0}}};
    char folder[64], hex[3][65], dir[480];
    uint8_t root[32];
    spec.layout = (rot_stage_layout){ROT_CODEC_NONE, 4096, 64};
    memcpy(spec.fingerprint, &n_bytes, sizeof n_bytes);
    rot_stage_folder(&spec, folder);
    snprintf(dir, sizeof dir, "%.400s", json_path);
    char *slash = strrchr(dir, '/');
    if (slash) *slash = 0;
    snprintf(s->json, sizeof s->json, "%s", json_path);
    snprintf(s->dir, sizeof s->dir, "%.380s/stages/%.60s-%llu", slash ? dir : ".", folder,
             (unsigned long long)rows);
    s->rows = rows;
    s->n_bytes = n_bytes;
    write_stage(s->dir, &spec, n_bytes, roots[0].root);
    rot_dataset_root_hash(roots, 1, root);
    for (int i = 0; i < 32; i++) {
        sprintf(hex[0] + 2 * i, "%02x", root[i]);
        sprintf(hex[1] + 2 * i, "%02x", roots[0].root[i]);
        sprintf(hex[2] + 2 * i, "%02x", spec.fingerprint[i]);
    }
    FILE *f = fopen(json_path, "w");
    if (!f) {
        perror(json_path);
        exit(1);
    }
    fprintf(
        f,
        "{\"format\": 1, \"name\": \"bench\", \"root\": \"%s\", \"splits\": {\"train\": {"
        "\"rows\": %llu, \"samples\": %llu, \"skipped\": 0, \"stages\": {\"embeds\": {\"path\": "
        "\"%s\", \"root\": \"%s\", \"fingerprint\": \"%s\"}}}}}\n",
        hex[0], (unsigned long long)rows, (unsigned long long)rows,
        s->dir + (slash ? strlen(dir) + 1 : 2), hex[1], hex[2]);
    fclose(f);
}

/* ---- reading -----------------------------------------------------------------------------------
 */

// The first n records in the order of `seed`; returns seconds.
static double read_batches(const store *s, rot_reader *r, uint64_t seed, uint64_t n, int ahead,
                           uint8_t *out)
{
    rot_err err = {0};
    rot_order order = {s->rows, seed, 0, true};
    int64_t cu[BATCH + 1];
    double begin = now();
    for (uint64_t at = 0; at + BATCH <= n; at += BATCH) {
        uint64_t samples[BATCH], next[BATCH];
        for (int i = 0; i < BATCH; i++) samples[i] = rot_order_at(&order, 0, at + (uint64_t)i);
        for (int a = at ? ahead : 1; ahead && a <= ahead; a++) {
            uint64_t from = at + (uint64_t)a * BATCH;
            if (from + BATCH > n) break;
            for (int i = 0; i < BATCH; i++) next[i] = rot_order_at(&order, 0, from + (uint64_t)i);
            if (rot_reader_prefetch(r, "embeds", next, BATCH, &err) < 0) die("prefetch", &err);
        }
        if (rot_reader_lengths(r, samples, BATCH, cu, &err) < 0 ||
            rot_reader_batch(r, samples, BATCH, cu, out, (uint64_t)cu[BATCH], 1, &err) < 0)
            die("batch", &err);
    }
    return now() - begin;
}

// The same with liblmdb on the same shards: look up, copy.
typedef struct lmdb_shard {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
} lmdb_shard;

static size_t open_lmdb(const store *s, lmdb_shard *shards, unsigned flags)
{
    size_t n = (size_t)((s->rows + 4095) / 4096);
    for (size_t i = 0; i < n; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/shard-%05zu.mdb", s->dir, i);
        if (mdb_env_create(&shards[i].env) ||
            mdb_env_open(shards[i].env, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK | flags,
                         0644) ||
            mdb_txn_begin(shards[i].env, NULL, MDB_RDONLY, &shards[i].txn) ||
            mdb_dbi_open(shards[i].txn, NULL, 0, &shards[i].dbi)) {
            fprintf(stderr, "read: liblmdb cannot open %s\n", path);
            exit(1);
        }
    }
    return n;
}

static double read_lmdb(const store *s, lmdb_shard *shards, uint64_t seed, uint64_t n, uint8_t *out)
{
    rot_order order = {s->rows, seed, 0, true};
    double begin = now();
    for (uint64_t at = 0; at < n; at++) {
        uint64_t row = rot_order_at(&order, 0, at);
        lmdb_shard *shard = &shards[row / 4096];
        MDB_val key = {8, &row}, value;
        if (mdb_get(shard->txn, shard->dbi, &key, &value)) {
            fprintf(stderr, "read: liblmdb finds no row %llu\n", (unsigned long long)row);
            exit(1);
        }
        memcpy(out + at % BATCH * s->n_bytes, (uint8_t *)value.mv_data + 48, s->n_bytes);
    }
    return now() - begin;
}

static void close_lmdb(lmdb_shard *shards, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mdb_txn_abort(shards[i].txn);
        mdb_env_close(shards[i].env);
    }
}

// Out of the page cache: nothing may have it mapped.
static void evict(const store *s)
{
    for (uint64_t i = 0; i < (s->rows + 4095) / 4096; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/shard-%05llu.mdb", s->dir, (unsigned long long)i);
        int fd = open(path, O_RDONLY);
        if (fd < 0) continue;
        fsync(fd);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void row(const char *what, const store *s, double *seconds, int n, uint64_t samples)
{
    qsort(seconds, (size_t)n, sizeof *seconds, by_size);
    double best = (double)samples / seconds[0], median = (double)samples / seconds[n / 2];
    printf("%s\t%zu\t%.0f\t%.0f\t%.2f\t%s\n", what, s->n_bytes, best, median,
           best * (double)s->n_bytes / 1e9, cpu);
    fflush(stdout);
}

static rot_reader *open_reader(const store *s, bool verify)
{
    rot_err err = {0};
    rot_reader *r;
    rot_reader_options o = rot_reader_options_default();
    o.verify = verify;
    if (rot_reader_open(s->json, NULL, &o, &r, &err) < 0) die(s->json, &err);
    return r;
}

static void warm(const store *s, uint8_t *out)
{
    enum { N = 7 };
    double ours[N], theirs[N], first[N], copies[N];
    lmdb_shard shards[128];
    bool lone = s->n_bytes >= 65536; // small ones lie in blocks, which liblmdb does not look into
    size_t n = lone ? open_lmdb(s, shards, 0) : 0;
    rot_reader *r = open_reader(s, true);
    const uint32_t *k;
    rot_err err = {0};
    if (rot_reader_k(r, &k, &err) < 0) die("index", &err);
    read_batches(s, r, 99, s->rows, 0, out);
    size_t n_from = s->rows;
    uint8_t *from = malloc(n_from * s->n_bytes);
    memset(from, 7, n_from * s->n_bytes);
    rot_order order = {n_from, 5, 0, true};
    for (int i = 0; i < N; i++) {
        ours[i] = read_batches(s, r, (uint64_t)i, s->rows, 0, out);
        if (lone) theirs[i] = read_lmdb(s, shards, (uint64_t)i, s->rows, out);
        double begin = now();
        for (uint64_t at = 0; at < n_from; at++)
            memcpy(out + at % BATCH * s->n_bytes,
                   from + rot_order_at(&order, (uint64_t)i, at) * s->n_bytes, s->n_bytes);
        copies[i] = now() - begin;
        rot_reader *checking = open_reader(s, true);
        first[i] = read_batches(s, checking, (uint64_t)i, s->rows, 0, out);
        rot_reader_close(&checking);
    }
    free(from);
    rot_reader_close(&r);
    close_lmdb(shards, n);
    row("warm rot_reader_batch", s, ours, N, s->rows);
    row("warm, hashes checked at first touch", s, first, N, s->rows);
    if (lone) row("warm liblmdb get and copy", s, theirs, N, s->rows);
    row("memcpy of as many, random order", s, copies, N, n_from);
}

// A small part of the store, as at the start of an epoch over more than fits in memory: pages that
// the kernel reads around a record are then of no use.
static void cold(const store *s, uint8_t *out)
{
    enum { N = 5, FEW = 512 };
    double ours[N], no_ahead[N], theirs[N], no_readahead[N];
    lmdb_shard shards[128];
    for (int i = 0; i < N; i++) {
        for (int ahead = 0; ahead <= 2; ahead += 2) {
            evict(s);
            rot_reader *r = open_reader(s, false);
            (ahead ? ours : no_ahead)[i] = read_batches(s, r, (uint64_t)i, FEW, ahead, out);
            rot_reader_close(&r);
        }
        for (int plain = 0; plain < 2; plain++) {
            evict(s);
            size_t n = open_lmdb(s, shards, plain ? MDB_NORDAHEAD : 0);
            (plain ? no_readahead : theirs)[i] = read_lmdb(s, shards, (uint64_t)i, FEW, out);
            close_lmdb(shards, n);
        }
    }
    row("cold random, batches two ahead", s, ours, N, FEW);
    row("cold random, one batch at a time", s, no_ahead, N, FEW);
    row("cold random, liblmdb as it is", s, theirs, N, FEW);
    row("cold random, liblmdb MDB_NORDAHEAD", s, no_readahead, N, FEW);
}

static void opening(const store *few, const store *many)
{
    enum { N = 15 };
    double seconds[2][N];
    const store *stores[] = {few, many};
    for (int i = 0; i < N; i++)
        for (int j = 0; j < 2; j++) {
            rot_err err = {0};
            const uint32_t *k;
            double begin = now();
            rot_reader *r = open_reader(stores[j], true);
            if (rot_reader_k(r, &k, &err) < 0) die("index", &err);
            seconds[j][i] = now() - begin;
            rot_reader_close(&r);
        }
    for (int j = 0; j < 2; j++) {
        qsort(seconds[j], N, sizeof **seconds, by_size);
        printf("open %llu samples, K of all: milliseconds\t%zu\t%.2f\t%.2f\t\t%s\n",
               (unsigned long long)stores[j]->rows, stores[j]->n_bytes, 1e3 * seconds[j][0],
               1e3 * seconds[j][N / 2], cpu);
    }
}

int main(int argc, char **argv)
{
    store s, few, many;
    char path[512];
    const char *dir = argc > 1 ? argv[1] : "/tmp";
    name_cpu();
    if (argc == 5 && !strcmp(argv[1], "make")) {
        make(&s, argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
        puts(s.dir);
        return 0;
    }
    char top[400];
    snprintf(top, sizeof top, "%.300s/rotoscope-read-XXXXXX", dir);
    if (!mkdtemp(top)) {
        perror(top);
        return 1;
    }
    uint8_t *out = malloc((size_t)BATCH * 163840);
    puts("case\trecord_bytes\tsamples_per_s_best\tsamples_per_s_median\tGB_per_s_best\tcpu");
    snprintf(path, sizeof path, "%s/large.json", top);
    make(&s, path, 163840, 4096);
    warm(&s, out);
    snprintf(path, sizeof path, "%s/more.json", top);
    make(&s, path, 163840, 8192);
    cold(&s, out);
    snprintf(path, sizeof path, "%s/small.json", top);
    make(&s, path, 8192, 32768);
    warm(&s, out);
    snprintf(path, sizeof path, "%s/few.json", top);
    make(&few, path, 64, 1000);
    snprintf(path, sizeof path, "%s/many.json", top);
    make(&many, path, 64, 385620);
    opening(&few, &many);
    free(out);
    char command[500];
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command) != 0;
}
