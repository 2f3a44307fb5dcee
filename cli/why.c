#include "cli/cli.h"

int cli_why(int argc, char **argv)
{
    return cli_later(argc, argv);
}
