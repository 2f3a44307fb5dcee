#include "cli/cli.h"

int cli_inspect(int argc, char **argv)
{
    return cli_later(argc, argv);
}
