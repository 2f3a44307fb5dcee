// How many megabytes a second one core tokenizes, record by record: with an empty word cache and a
// warm one. tokenize [DIR [FILE]]: the tokenizer of DIR, records of FILE separated by U+0000;
// without them the project's own tokenizer and made-up traces. One TSV row per case;
// bench/tokenize_peer.py gives the rate of Hugging Face's library on the same records.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cpu.h"
#include "base/fs.h"
#include "rotoscope/rotoscope.h"

enum { N_BYTES = 4 << 20, PASSES = 9 };

static const char *const words[] = {
    "the",   "of",     "each", "eggs",         "day",      "so",     "he",         "she",
    "has",   "pays",   "$18",  "times",        "16",       "-",      "3",          "=",
    "total", "number", "then", "There",        "are",      "per",    "Therefore,", "multiply",
    "both",  "sides",  "by",   "\\frac{2}{3}", "farmers'", "market."};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Records of about 280 bytes, as in GSM8K; a fifth of the words are calculations.
static char *make_records(size_t *n_bytes)
{
    char *text = malloc(N_BYTES + 64);
    unsigned seed = 1;
    size_t n = 0, record = 0;
    while (n < N_BYTES) {
        seed = seed * 1664525u + 1013904223u;
        unsigned r = seed >> 8;
        n +=
            (size_t)(r % 5 ? sprintf(text + n, "%s ", words[r / 5 % (sizeof words / sizeof *words)])
                           : sprintf(text + n, "%u*%u=<<%u>> ", r % 97, r % 89, r % 9973));
        if (n - record > 280) {
            text[n - 1] = 0;
            record = n;
        }
    }
    *n_bytes = n;
    return text;
}

static int fail(const rot_err *err)
{
    fprintf(stderr, "tokenize: %s\n", err->message);
    return 1;
}

// All records once; the number of ids, or -1.
static long pass(rot_tokenizer_worker *worker, const char *text, size_t n_bytes, rot_err *err)
{
    long total = 0;
    for (size_t at = 0; at < n_bytes;) {
        const char *end = memchr(text + at, 0, n_bytes - at);
        size_t n = end ? (size_t)(end - text) - at : n_bytes - at, n_ids;
        const int32_t *ids;
        if (rot_tokenizer_encode(worker, text + at, n, &ids, &n_ids, err) < 0) return -1;
        total += (long)n_ids;
        at += n + 1;
    }
    return total;
}

static int measure(const rot_tokenizer *tokenizer, bool warm, const char *text, size_t n_bytes,
                   const char *cpu)
{
    rot_err err;
    rot_tokenizer_worker *worker = NULL;
    double rates[PASSES];
    long n_ids = 0;
    for (int i = -1; i < PASSES; i++) { // pass -1 is not counted
        if (!warm) rot_tokenizer_worker_close(&worker);
        if (!worker && rot_tokenizer_worker_open(tokenizer, &worker, &err) < 0) return fail(&err);
        double start = now();
        n_ids = pass(worker, text, n_bytes, &err);
        double rate = (double)n_bytes / 1e6 / (now() - start);
        if (n_ids < 0) return fail(&err);
        int at = i; // sorted, fastest first
        for (; at > 0 && rates[at - 1] < rate; at--) rates[at] = rates[at - 1];
        if (i >= 0) rates[at] = rate;
    }
    printf("%s\t%.1f\t%.1f\t%.2f\t%s\n", warm ? "warm" : "empty cache", rates[0], rates[PASSES / 2],
           (double)n_bytes / (double)n_ids, cpu);
    rot_tokenizer_worker_close(&worker);
    return 0;
}

int main(int argc, char **argv)
{
    rot_err err = {0};
    rot_cpu cpu = {0};
    rot_tokenizer *tokenizer;
    char *text = NULL;
    size_t n_bytes;
    if (argc > 2 && rot_fs_read(argv[2], &text, &n_bytes, &err) < 0) return fail(&err);
    if (!text) text = make_records(&n_bytes);
    if (rot_cpu_detect(&cpu, &err) < 0) return fail(&err);
    if (rot_tokenizer_open(argc > 1 ? argv[1] : "configs/tokenizer-small", &tokenizer, &err) < 0)
        return fail(&err);
    puts("case\tMB_per_s_best\tMB_per_s_median\tbytes_per_token\tcpu");
    int code = measure(tokenizer, false, text, n_bytes, cpu.name);
    if (!code) code = measure(tokenizer, true, text, n_bytes, cpu.name);
    rot_tokenizer_close(&tokenizer);
    free(text);
    return code;
}
