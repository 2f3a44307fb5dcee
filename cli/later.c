#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

int cli_later(int argc, char **argv)
{
    const char *verb = argv[0] + sizeof "rotoscope";
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-?")) {
            printf("Usage: rotoscope %s\n%s does not exist yet: it comes with a later version.\n",
                   verb, verb);
            return cli_done(0);
        }
    return cli_usage("%s does not exist yet", verb);
}
