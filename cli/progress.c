#include "cli/progress.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BAR_CELLS = 20 };
static const double terminal_seconds = 0.1, plain_seconds = 5;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void cli_progress_open(cli_progress *progress, const cli_common *common)
{
    const char *term = getenv("TERM");
    *progress =
        (cli_progress){.common = common, .terminal = isatty(2) && !(term && !strcmp(term, "dumb"))};
}

static void print_json(const rot_progress *now, double rate)
{
    json_t *line =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:f, s:f}", "split", now->split, "stage", now->stage,
                  "done", (json_int_t)now->done, "total", (json_int_t)now->total, "resumed",
                  (json_int_t)now->resumed, "seconds", now->seconds, "rows_per_second", rate);
    double took = now->encoding_seconds;
    if (took > 0) {
        json_t *more =
            json_pack("{s:I, s:I, s:f, s:f, s:f, s:f}", "images", (json_int_t)now->images,
                      "merged_tokens", (json_int_t)now->merged_tokens, "images_per_second",
                      (double)now->images / took, "merged_tokens_per_second",
                      (double)now->merged_tokens / took, "tflops", now->flop / took * 1e-12,
                      "eta_seconds", rate > 0 ? (double)(now->total - now->done) / rate : -1);
        json_object_update(line, more);
        json_decref(more);
    }
    json_dumpf(line, stderr, JSON_COMPACT | JSON_REAL_PRECISION(6));
    fputc('\n', stderr);
    json_decref(line);
}

static void clock_text(double s, char out[16])
{
    if (s >= 0 && s < 3600)
        snprintf(out, 16, "%02d:%02d", (int)s / 60, (int)s % 60);
    else if (s >= 0 && s < 360000)
        snprintf(out, 16, "%d:%02d:%02d", (int)s / 3600, (int)s / 60 % 60, (int)s % 60);
    else
        snprintf(out, 16, "?");
}

static void rate_text(const rot_progress *now, double rate, char out[96])
{
    double took = now->encoding_seconds;
    if (took > 0)
        snprintf(out, 96, "%.1f images/s, %.0f merged tokens/s, %.3f TFLOP/s",
                 (double)now->images / took, (double)now->merged_tokens / took,
                 now->flop / took * 1e-12);
    else
        snprintf(out, 96, "%.1f rows/s", rate);
}

static void print_text(const cli_progress *p, const rot_progress *now, double rate)
{
    char took[16], left[16], rates[96], bar[3 * BAR_CELLS + 1] = "";
    clock_text(now->seconds, took);
    clock_text(rate > 0 ? (double)(now->total - now->done) / rate : -1, left);
    rate_text(now, rate, rates);
    int full = now->total ? (int)(now->done * BAR_CELLS / now->total) : BAR_CELLS;
    for (int i = 0; i < BAR_CELLS; i++) strcat(bar, i < full ? "\u2588" : " ");
    fprintf(stderr, "%s%s %s: %3d%%|%s| %llu/%llu [%s<%s, %s]%s", p->terminal ? "\r" : "",
            now->split, now->stage, now->total ? (int)(100 * now->done / now->total) : 100, bar,
            (unsigned long long)now->done, (unsigned long long)now->total, took, left, rates,
            p->terminal ? "\033[K" : "\n");
}

void cli_progress_show(void *progress, const rot_progress *now)
{
    cli_progress *p = progress;
    if (p->common->quiet) return;
    char stage[128];
    double at = seconds(),
           every = p->terminal && !p->common->json ? terminal_seconds : plain_seconds;
    snprintf(stage, sizeof stage, "%s %s", now->split, now->stage);
    bool other = strcmp(stage, p->stage) != 0, last = now->done == now->total;
    if (!other && !last && at - p->last_seconds < every) return;
    if (other && p->open_line) fputc('\n', stderr);
    // Loading a tower is not part of its rate.
    double took = now->encoding_seconds > 0 ? now->encoding_seconds : now->seconds;
    uint64_t made = now->done - now->resumed;
    double rate = took > 0 ? (double)made / took : 0;
    if (p->common->json)
        print_json(now, rate);
    else
        print_text(p, now, rate);
    p->open_line = p->terminal && !p->common->json;
    p->last_seconds = at;
    memcpy(p->stage, stage, sizeof stage);
    fflush(stderr);
}

void cli_progress_note(void *progress, const char *message)
{
    cli_progress *p = progress;
    if (p->common->quiet) return;
    if (p->open_line) fputc('\n', stderr);
    p->open_line = false;
    if (p->common->json) {
        json_t *line = json_pack("{s:s}", "note", message);
        if (line) json_dumpf(line, stderr, JSON_COMPACT);
        fputc('\n', stderr);
        json_decref(line);
    } else {
        fprintf(stderr, "rotoscope: %s\n", message);
    }
}

void cli_progress_close(cli_progress *progress)
{
    if (progress->open_line) fputc('\n', stderr);
    progress->open_line = false;
}
