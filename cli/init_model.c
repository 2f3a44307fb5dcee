#include "cli/cli.h"

int cli_init_model(int argc, char **argv)
{
    return cli_later(argc, argv);
}
