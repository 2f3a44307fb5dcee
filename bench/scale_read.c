// What opening a dataset costs and how fast its samples are read one by one in random order, in the
// page cache: for bench/scale, which asks whether that depends on the number of rows.
//
//     scale_read FILE.json         a TSV line: open_ms, then samples per second of tokens and
//     images
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "rotoscope/rotoscope.h"

enum { READS = 4000, CAPACITY = 64 << 20 };

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

static int fail(const rot_err *err)
{
    fprintf(stderr, "scale_read: %s\n", err->message);
    return 1;
}

// Samples per second; every record checked against its hash at its first touch, as by default.
static int read_stage(rot_reader *reader, const char *stage, void *buffer, double *rate,
                      rot_err *err)
{
    uint64_t samples = rot_reader_get_info(reader)->samples;
    double start = now();
    for (uint64_t i = 0; i < READS; i++) {
        rot_record record;
        int rc = rot_reader_read(reader, stage, mix(i) % samples, buffer, CAPACITY, &record, err);
        if (rc < 0) return rc;
    }
    *rate = READS / (now() - start);
    return 0;
}

int main(int argc, char **argv)
{
    rot_err err = {0};
    rot_reader *reader;
    double tokens, images;
    void *buffer = malloc(CAPACITY);
    if (argc != 2 || !buffer) {
        fputs("usage: scale_read FILE.json\n", stderr);
        return 2;
    }
    double start = now();
    if (rot_reader_open(argv[1], NULL, NULL, &reader, &err) < 0) return fail(&err);
    double open_ms = 1e3 * (now() - start);
    if (read_stage(reader, "tokens", buffer, &tokens, &err) < 0) return fail(&err);
    if (read_stage(reader, "images", buffer, &images, &err) < 0) return fail(&err);
    printf("%.2f\t%.0f\t%.0f\n", open_ms, tokens, images);
    rot_reader_close(&reader);
    free(buffer);
    return 0;
}
