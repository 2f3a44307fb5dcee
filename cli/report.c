#include "cli/cli.h"

int cli_report(int argc, char **argv)
{
    return cli_later(argc, argv);
}
