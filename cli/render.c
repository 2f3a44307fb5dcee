#include "cli/cli.h"

int cli_render(int argc, char **argv)
{
    return cli_later(argc, argv);
}
