#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { KEY_JSON = 0x1001, KEY_THREADS };

static const struct argp_option common_options[] = {
    {"json", KEY_JSON, 0, 0, "report as JSON on stdout, progress as JSON lines on stderr", 100},
    {"quiet", 'q', 0, 0, "errors only", 100},
    {"verbose", 'v', 0, 0, "more words on stderr", 100},
    {"threads", KEY_THREADS, "N", 0, "threads to use (default: those this process may use)", 100},
    {0}};

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
    cli_common *common = state->input;
    char *end;
    switch (key) {
    case KEY_JSON: common->json = true; return 0;
    case 'q': common->quiet = true; return 0;
    case 'v': common->verbose = true; return 0;
    case KEY_THREADS:
        errno = 0;
        long n = strtol(arg, &end, 10);
        if (errno || *end || end == arg || n < 1 || n > 4096)
            argp_error(state, "--threads takes a number from 1 to 4096, not '%s'", arg);
        common->threads = (int)n;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

const struct argp cli_common_argp = {.options = common_options, .parser = parse_common};
const struct argp_child cli_children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};

int cli_fail(const rot_err *err)
{
    fflush(stdout);
    fprintf(stderr, "rotoscope: %s\n", err->message);
    return rot_exit_code(err->code);
}

int cli_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("rotoscope: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return CLI_EXIT_USAGE;
}

int cli_done(int exit_code)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return exit_code;
    fprintf(stderr, "rotoscope: cannot write to stdout: %s\n", strerror(errno));
    return exit_code ? exit_code : 1;
}

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    if (stop) _exit(128 + number);
    stop = number;
}

const volatile sig_atomic_t *cli_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    return &stop;
}
