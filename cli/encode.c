#include "cli/cli.h"

int cli_encode(int argc, char **argv)
{
    return cli_later(argc, argv);
}
