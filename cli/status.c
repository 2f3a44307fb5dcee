#include "cli/cli.h"

int cli_status(int argc, char **argv)
{
    return cli_later(argc, argv);
}
