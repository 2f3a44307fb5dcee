// What the verbs share: options that every verb has, errors, signals. A verb is one short file that
// parses, calls the library and prints: results to stdout, words to stderr.
#ifndef ROT_CLI_H
#define ROT_CLI_H

#include <argp.h>
#include <signal.h>
#include <stdbool.h>

#include "rotoscope/rotoscope.h"

typedef struct cli_verb {
    const char *name, *summary;
    int (*run)(int argc, char **argv); // returns the exit code; argv[0] is "rotoscope NAME"
} cli_verb;

// --json, -q, -v, --threads: every verb's argp takes them as its child (see cli_children) and reads
// them here. `input` of the child is a cli_common: set it in the parser's ARGP_KEY_INIT.
typedef struct cli_common {
    bool json, quiet, verbose;
    int threads; // 0: not given
} cli_common;
extern const struct argp cli_common_argp;
extern const struct argp_child cli_children[];

enum { CLI_EXIT_USAGE = 2 };

// "rotoscope: message" on stderr; returns the exit code of err->code.
int cli_fail(const rot_err *err);
// "rotoscope VERB: message" on stderr and exit code 2.
__attribute__((format(printf, 1, 2))) int cli_usage(const char *format, ...);
// Flushes stdout; a full disk or a closed pipe there is exit code 1. Use as the last step of a
// verb.
int cli_done(int exit_code);

// SIGTERM, SIGINT and SIGUSR1 set the flag; a second one ends the process with 128 + n.
const volatile sig_atomic_t *cli_catch_signals(void);

// A mapped file that is cut while it is read is exit code 3 and a message that names it.
void cli_catch_cut_files(void);

int cli_build(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_encode(int argc, char **argv);
int cli_evaluate(int argc, char **argv);
int cli_export(int argc, char **argv);
int cli_gc(int argc, char **argv);
int cli_init_data(int argc, char **argv);
int cli_merge(int argc, char **argv);
int cli_generate(int argc, char **argv);
int cli_import(int argc, char **argv);
int cli_init_model(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_render(int argc, char **argv);
int cli_repair(int argc, char **argv);
int cli_report(int argc, char **argv);
int cli_stats(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_submit(int argc, char **argv);
int cli_sweep(int argc, char **argv);
int cli_tokenize(int argc, char **argv);
int cli_train(int argc, char **argv);
int cli_verify(int argc, char **argv);
int cli_view(int argc, char **argv);
int cli_why(int argc, char **argv);

#endif
