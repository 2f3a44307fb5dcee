// How close is the store to the machine? Writing against write(2) + fsync of the same bytes,
// reading against memcpy, the codec against memcpy and against the entropy of its input. Random
// payload with the distribution of a vision tower's output: Gaussian, a log-normal scale per
// dimension, a few outliers.
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rotoscope/rotoscope.h"

enum { REPEATS = 5, DIMS = 2560 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Of this thread: what reads is compared per core, on a machine that does other things too.
static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *what, const rot_err *err)
{
    fprintf(stderr, "store: %s: %s\n", what, err->message);
    exit(1);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *seconds)
{
    qsort(seconds, REPEATS, sizeof *seconds, ascending);
    return seconds[REPEATS / 2];
}

static double uniform(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)((*state >> 11) + 1) * 0x1p-53;
}

static double gaussian(uint64_t *state)
{
    double radius = sqrt(-2 * log(uniform(state)));
    return radius * cos(6.283185307179586 * uniform(state));
}

// (n / DIMS, DIMS) bf16
static uint16_t *tower_output(size_t n)
{
    uint64_t state = 1;
    static float scale[DIMS];
    uint16_t *out = malloc(2 * n);
    if (!out) exit(1);
    for (int i = 0; i < DIMS; i++) scale[i] = (float)exp(0.5 * gaussian(&state));
    for (int i = 0; i < 8; i++) scale[(int)(uniform(&state) * DIMS) % DIMS] *= 20 + 4 * (float)i;
    for (size_t i = 0; i < n; i++) {
        float x = (float)gaussian(&state) * scale[i % DIMS];
        uint32_t bits;
        memcpy(&bits, &x, 4);
        out[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
    return out;
}

static double entropy_ratio(const uint16_t *values, size_t n)
{
    size_t count[256] = {0};
    double bits = 8; // sign and mantissa, taken as incompressible
    for (size_t i = 0; i < n; i++) count[values[i] >> 7 & 255]++;
    for (int i = 0; i < 256; i++)
        if (count[i]) bits -= (double)count[i] / (double)n * log2((double)count[i] / (double)n);
    return bits / 16;
}

typedef struct job {
    const char *dir, *cpu;
    const uint16_t *payload;
    uint32_t k, rows; // tokens per record, records
    rot_codec codec;
} job;

static size_t record_bytes(const job *j)
{
    return (size_t)j->k * DIMS * 2;
}

static const uint8_t *record_at(const job *j, uint32_t row)
{
    return (const uint8_t *)j->payload + row * record_bytes(j);
}

static rot_stage_spec spec_of(const job *j)
{
    rot_stage_spec spec = {
        .stage = "embeds", .content = "{}", .rows = j->rows, .layout = {j->codec, 4096, 64}};
    return spec;
}

static void write_store(const job *j)
{
    rot_err err;
    rot_shard_writer *writer;
    uint64_t row;
    rot_stage_spec spec = spec_of(j);
    if (rot_shard_writer_open(j->dir, &spec, 0, NULL, &writer, &row, &err) < 0) die("open", &err);
    for (; row < j->rows; row++) {
        rot_record record = {.kind = ROT_KIND_EMBEDS,
                             .dtype = ROT_DTYPE_BF16,
                             .shape = {j->k, DIMS, 2, 2 * j->k},
                             .payload = record_at(j, (uint32_t)row),
                             .n_bytes = record_bytes(j)};
        if (rot_shard_writer_append(writer, row, &record, &err) < 0) die("append", &err);
    }
    if (rot_shard_writer_publish(&writer, &err) < 0) die("publish", &err);
}

static void write_flat(const job *j, const char *path)
{
    rot_err err = {.message = "write failed"};
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    for (uint32_t row = 0; row < j->rows; row++)
        if (write(fd, record_at(j, row), record_bytes(j)) != (ssize_t)record_bytes(j))
            die(path, &err);
    if (fsync(fd) < 0 || close(fd) < 0) die(path, &err);
}

// Every record, into one buffer as a batch would be; with its hash checked or without.
static double read_store(const job *j, rot_stage *stage, uint8_t *out, bool check)
{
    rot_err err;
    rot_record record;
    double start = cpu_now();
    for (uint32_t i = 0; i < j->rows; i++) {
        uint64_t row = (uint64_t)i * 7919 % j->rows;
        uint8_t *to = out + i % 16 * record_bytes(j);
        if (rot_stage_read(stage, row, check, to, record_bytes(j), &record, &err) < 0)
            die("read", &err);
    }
    return cpu_now() - start;
}

static double copy_flat(const job *j, uint8_t *out)
{
    double start = cpu_now();
    for (uint32_t i = 0; i < j->rows; i++)
        memcpy(out + i % 16 * record_bytes(j),
               record_at(j, (uint32_t)((uint64_t)i * 7919 % j->rows)), record_bytes(j));
    return cpu_now() - start;
}

static void row(const job *j, const char *what, double bytes, double seconds, double ratio,
                const char *to)
{
    printf("%s\t%s\t%s\t%zu\t%.0f\t%.3f\t%s\n", j->cpu, what, j->codec ? "zstd-bf16" : "none",
           record_bytes(j), bytes / seconds * 1e-6, ratio, to);
}

static void measure(job *j)
{
    double store[REPEATS], flat[REPEATS], bytes = (double)record_bytes(j) * j->rows;
    char shard[512], flat_path[512];
    uint8_t root[32], *out = malloc(16 * record_bytes(j));
    rot_err err;
    rot_stage *stage;
    if (!out) exit(1);
    memset(out, 1, 16 * record_bytes(j));
    snprintf(shard, sizeof shard, "%s/shard-00000.mdb", j->dir);
    snprintf(flat_path, sizeof flat_path, "%s/flat", j->dir);
    for (int i = 0; i < REPEATS; i++) { // in turn, so that the disk's moods hit both
        double start = now();
        unlink(shard);
        write_store(j);
        store[i] = now() - start;
        start = now();
        unlink(flat_path);
        write_flat(j, flat_path);
        flat[i] = now() - start;
    }
    double s = median(store);
    row(j, "write", bytes, s, median(flat) / s, "write(2)+fsync");
    unlink(flat_path);
    rot_stage_spec spec = spec_of(j);
    if (rot_stage_finish(j->dir, &spec, root, &err) < 0) die("finish", &err);
    if (rot_stage_open(j->dir, &stage, &err) < 0) die("open", &err);
    double file = (double)rot_stage_get_info(stage)->file_bytes;
    printf("%s\tsize\t%s\t%zu\t\t%.4f\tpayload\n", j->cpu, j->codec ? "zstd-bf16" : "none",
           record_bytes(j), file / bytes);
    read_store(j, stage, out, false); // maps the pages
    for (int check = 0; check < 2; check++) {
        for (int i = 0; i < REPEATS; i++) {
            store[i] = read_store(j, stage, out, check);
            flat[i] = copy_flat(j, out);
        }
        s = median(store);
        row(j, check ? "read and hash" : "read", bytes, s, median(flat) / s, "memcpy");
    }
    rot_stage_close(&stage);
    unlink(shard);
    free(out);
}

static void cpu_name(char out[128])
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(out, 128, "unknown");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "model name : %127[^\n]", out) == 1) break;
    if (file) fclose(file);
}

int main(int argc, char **argv)
{
    char dir[256], command[300], cpu[128];
    size_t n = (size_t)(argc > 1 ? atoi(argv[1]) : 256) << 20; // MiB of payload
    snprintf(dir, sizeof dir, "%s/bench-store-XXXXXX", argc > 2 ? argv[2] : "/tmp");
    if (n == 0 || !mkdtemp(dir)) return 2;
    cpu_name(cpu);
    uint16_t *payload = tower_output(n / 2);
    printf("cpu\twhat\tcodec\trecord_bytes\tMB/s\tratio\tto\n");
    printf("%s\tentropy bound\tzstd-bf16\t\t\t%.4f\tpayload\n", cpu, entropy_ratio(payload, n / 2));
    static const uint32_t ks[] = {2, 32, 52, 62};
    for (int codec = 0; codec < 3; codec += 2)
        for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
            job j = {dir,
                     cpu,
                     payload,
                     ks[i],
                     (uint32_t)(n / ((size_t)ks[i] * DIMS * 2)),
                     (rot_codec)codec};
            if (j.rows > 4096) j.rows = 4096;
            measure(&j);
        }
    free(payload);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) ? 1 : 0;
}
