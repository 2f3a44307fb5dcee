// What opening a tower costs, its checkpoint in the page cache: all of it, the packing of the
// weights within it, and a copy of as many bytes from the mapped files, measured in turn. One TSV
// row: medians, (opening - packing) / copy, and the peak of memory over the weights' bytes, after
// one image of 300 patches. load CHECKPOINT [THREADS [CACHE]]: with a folder, also opening from the
// packed weights kept there, the weights' hash known as a build knows it, and that over the copy;
// and the processor time of an image with weights that are mapped, over that with weights packed.
#include <fcntl.h>
#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "rotoscope/rotoscope.h"

enum { PASSES = 7 };

static double now_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double now(void)
{
    return now_of(CLOCK_MONOTONIC);
}

static double median(double *x)
{
    for (int i = 1; i < PASSES; i++)
        for (int k = i; k > 0 && x[k] < x[k - 1]; k--) {
            double swap = x[k];
            x[k] = x[k - 1], x[k - 1] = swap;
        }
    return x[PASSES / 2];
}

// Copies the first n bytes of the checkpoint's files into fresh memory; seconds.
static double copy(const char *checkpoint, size_t n)
{
    char pattern[4200];
    glob_t files;
    snprintf(pattern, sizeof pattern, "%s/*.safetensors", checkpoint);
    if (glob(pattern, 0, NULL, &files)) return -1;
    double start = now();
    unsigned char *to = malloc(n);
    size_t done = 0;
    for (size_t i = 0; i < files.gl_pathc && done < n; i++) {
        struct stat s;
        int fd = open(files.gl_pathv[i], O_RDONLY);
        if (fd < 0 || fstat(fd, &s) < 0) return -1;
        size_t part = (size_t)s.st_size < n - done ? (size_t)s.st_size : n - done;
        void *map = mmap(NULL, part, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) return -1;
        memcpy(to + done, map, part);
        done += part;
        munmap(map, part);
        close(fd);
    }
    double took = now() - start;
    free(to);
    globfree(&files);
    return took;
}

// Seconds of opening from the packed weights in `cache`; makes them before the first.
static int open_warm(const rot_encoder_options *options, const char *cache, const char *sha256,
                     bool first, double *seconds, rot_err *err)
{
    rot_encoder_options o = *options;
    rot_encoder *encoder;
    o.pack_cache = cache;
    o.weights_sha256 = sha256;
    for (int i = first ? 0 : 1; i < 2; i++) {
        int rc = rot_encoder_open(&o, &encoder, err);
        if (rc < 0) return rc;
        *seconds = rot_encoder_get_loading(encoder).seconds;
        rot_encoder_close(&encoder);
    }
    return 0;
}

static int encode_one(rot_encoder *encoder, const rot_encoder_info *info, rot_err *err)
{
    enum { WIDTH = 2400, HEIGHT = 32 }; // 300 patches of 16 x 16
    rot_image image = {calloc(WIDTH, HEIGHT), WIDTH, HEIGHT, 1};
    rot_grid grid;
    int rc = rot_geometry_grid(ROT_GEOMETRY_NATIVE, &info->preprocessor, WIDTH, HEIGHT, &grid, err);
    void *out = rc < 0 ? NULL : malloc((size_t)grid.k * (size_t)info->out_width * 4);
    if (rc == 0) rc = rot_encoder_encode(encoder, &image, &grid, 1, out, err);
    free(out);
    free((void *)(uintptr_t)image.pixels);
    return rc;
}

// Median of PASSES turns.
static int compare_encoding(rot_encoder_options o, const rot_encoder_info *info, const char *cache,
                            double *mapped_over_packed, rot_err *err)
{
    rot_encoder *e[2] = {NULL, NULL}; // packed, mapped
    double ratio[PASSES], took[2];
    int rc = rot_encoder_open(&o, &e[0], err);
    o.pack_cache = cache;
    o.weights_sha256 = info->weights_sha256;
    if (rc == 0) rc = rot_encoder_open(&o, &e[1], err);
    for (int k = 0; k < 2 && rc == 0; k++) rc = encode_one(e[k], info, err);
    for (int i = 0; i < PASSES && rc == 0; i++) {
        for (int k = 0; k < 2 && rc == 0; k++) {
            double start = now_of(CLOCK_PROCESS_CPUTIME_ID);
            rc = encode_one(e[k], info, err);
            took[k] = now_of(CLOCK_PROCESS_CPUTIME_ID) - start;
        }
        ratio[i] = took[1] / took[0];
    }
    for (int k = 0; k < 2; k++) rot_encoder_close(&e[k]);
    if (rc == 0) *mapped_over_packed = median(ratio);
    return rc;
}

int main(int argc, char **argv)
{
    rot_err err = {0};
    rot_encoder_options options = rot_encoder_options_default();
    rot_encoder_info info;
    double opening[PASSES], packing[PASSES], copying[PASSES], over[PASSES];
    double warm[PASSES] = {0}, warm_over[PASSES] = {0};
    double encoding = 0;
    const char *cache = argc > 3 ? argv[3] : NULL;
    size_t bytes = 0;
    struct rusage usage = {0};
    if (argc < 2) {
        fputs("usage: load CHECKPOINT [THREADS [CACHE]]\n", stderr);
        return 2;
    }
    options.checkpoint = argv[1];
    options.geometry = ROT_GEOMETRY_NATIVE;
    options.threads = argc > 2 ? atoi(argv[2]) : 0;
    int rc = rot_encoder_inspect(&options, cache != NULL, &info, &err);
    for (int i = 0; i < PASSES && rc == 0; i++) {
        rot_encoder *encoder;
        rc = rot_encoder_open(&options, &encoder, &err);
        if (rc < 0) break;
        rot_encoder_loading loading = rot_encoder_get_loading(encoder);
        opening[i] = loading.seconds;
        packing[i] = loading.packing_seconds;
        bytes = loading.weight_bytes;
        if (i == 0) rc = encode_one(encoder, &info, &err);
        if (i == 0) getrusage(RUSAGE_SELF, &usage); // before a copy takes memory too
        rot_encoder_close(&encoder);
        copying[i] = copy(argv[1], bytes);
        over[i] = (loading.seconds - loading.packing_seconds) / copying[i];
        if (rc == 0 && cache)
            rc = open_warm(&options, cache, info.weights_sha256, i == 0, &warm[i], &err);
        warm_over[i] = warm[i] / copying[i];
    }
    if (rc == 0 && cache) rc = compare_encoding(options, &info, cache, &encoding, &err);
    if (rc < 0) {
        fprintf(stderr, "load: %s\n", err.message);
        return 1;
    }
    printf(
        "backend\tweights_MB\topening_s\tpacking_s\tcopy_s\trest_over_copy\tpeak_over_weights%s\n"
        "%s\t%.0f\t%.3f\t%.3f\t%.3f\t%.2f\t%.2f",
        cache ? "\twarm_s\twarm_over_copy\tencoding_mapped_over_packed" : "", info.backend,
        (double)bytes * 1e-6, median(opening), median(packing), median(copying), median(over),
        (double)usage.ru_maxrss * 1024 / (double)bytes);
    if (cache) printf("\t%.3f\t%.2f\t%.3f", median(warm), median(warm_over), encoding);
    putchar('\n');
    return 0;
}
