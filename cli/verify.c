#include "cli/cli.h"

int cli_verify(int argc, char **argv)
{
    return cli_later(argc, argv);
}
