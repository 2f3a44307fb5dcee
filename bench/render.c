// How many lines a second one core draws: through the word cache, and shaping every line whole.
// One TSV row per case; bench/render_peer.py gives Pillow's rate on the same lines.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rotoscope/rotoscope.h"

// Not in the public headers: keeps a worker from its word cache.
void rot_render_worker_set_slow(rot_render_worker *worker, bool slow);

enum { N_LINES = 4000, PASSES = 8 };

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

// Lines of about 98 characters; a fifth of the words are numbers of their own, as in real traces.
static char *make_line(unsigned *seed)
{
    char *line = malloc(160);
    size_t n = 0;
    while (n < 92) {
        *seed = *seed * 1664525u + 1013904223u;
        unsigned r = *seed >> 8;
        n +=
            (size_t)(r % 5 ? sprintf(line + n, "%s ", words[r / 5 % (sizeof words / sizeof *words)])
                           : sprintf(line + n, "%u*%u=<<%u>> ", r % 97, r % 89, r % 9973));
    }
    return line;
}

static void cpu_name(char *out, size_t capacity)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[512], *colon;
    snprintf(out, capacity, "unknown");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "model name", 10) && (colon = strchr(line, ':'))) {
            line[strcspn(line, "\n")] = 0;
            snprintf(out, capacity, "%.100s", colon + 2);
            break;
        }
    if (file) fclose(file);
}

static int fail(const rot_err *err)
{
    fprintf(stderr, "render: %s\n", err->message);
    return 1;
}

int main(int argc, char **argv)
{
    static char *lines[N_LINES];
    unsigned seed = 1;
    for (int i = 0; i < N_LINES; i++) lines[i] = make_line(&seed);
    if (argc > 1 && !strcmp(argv[1], "--lines")) { // for the peer
        for (int i = 0; i < N_LINES; i++) puts(lines[i]);
        return 0;
    }
    rot_err err = {0};
    char cpu[128];
    cpu_name(cpu, sizeof cpu);
    rot_render_options options = rot_render_options_default();
    options.thought_markers = false;
    rot_renderer *renderer;
    if (rot_renderer_open(&options, &renderer, &err) < 0) return fail(&err);
    puts("case\tlines_per_s_best\tlines_per_s_median\tcpu");
    for (int slow = 0; slow < 2; slow++) {
        rot_render_worker *worker;
        double rates[PASSES];
        if (rot_render_worker_open(renderer, &worker, &err) < 0) return fail(&err);
        rot_render_worker_set_slow(worker, slow);
        for (int pass = 0; pass < PASSES; pass++) {
            double start = now();
            for (int i = 0; i < N_LINES; i++) {
                rot_image image;
                if (rot_render(worker, lines[i], strlen(lines[i]), &image, NULL, &err) < 0)
                    return fail(&err);
            }
            double rate = N_LINES / (now() - start);
            int at = pass; // sorted, fastest first
            for (; at > 0 && rates[at - 1] < rate; at--) rates[at] = rates[at - 1];
            rates[at] = rate;
        }
        printf("%s\t%.0f\t%.0f\t%s\n", slow ? "shaped whole" : "word cache", rates[0],
               rates[PASSES / 2], cpu);
        rot_render_worker_close(&worker);
    }
    rot_renderer_close(&renderer);
    for (int i = 0; i < N_LINES; i++) free(lines[i]);
    return 0;
}
