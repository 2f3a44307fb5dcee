// Options of a verb that builds: build and sweep. A child of the verb's argp; its input is the
// struct, begun with CLI_BUILD_ARGS.
#ifndef ROT_CLI_BUILD_ARGS_H
#define ROT_CLI_BUILD_ARGS_H

#include "cli/cli.h"
#include "cli/progress.h"

enum { CLI_MAX_SETS = 256 };

typedef struct cli_build_args {
    const char *sets[CLI_MAX_SETS];
    int n_sets;
    bool plan, rehash, no_preflight, prepare;
    int rank, ranks; // -1: not given
    double stale_seconds;
    const char *scratch;
} cli_build_args;

#define CLI_BUILD_ARGS ((cli_build_args){.rank = -1, .ranks = -1})

// First the options that every verb has (input: a cli_common), then those of a build.
extern const struct argp_child cli_build_children[];

// What the library is to do: signals caught, progress shown on `progress`.
rot_build_options cli_build_options(const cli_build_args *args, const cli_common *common,
                                    cli_progress *progress);

#endif
