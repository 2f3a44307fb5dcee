// Verbs of the form `rotoscope VERB ROOT|DATASET [--json]`.
#ifndef ROT_CLI_ON_PATH_H
#define ROT_CLI_ON_PATH_H

#include "cli/cli.h"

typedef struct cli_path_arguments {
    cli_common common;
    const char *path, *other; // `other` only if max_paths is 2
    int max_paths;
} cli_path_arguments;

void cli_parse_paths(int argc, char **argv, const char *form, const char *doc,
                     cli_path_arguments *out);

#endif
