#include "cli/cli.h"

int cli_stats(int argc, char **argv)
{
    return cli_later(argc, argv);
}
