#include "cli/cli.h"

int cli_build(int argc, char **argv)
{
    return cli_later(argc, argv);
}
