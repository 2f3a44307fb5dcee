#include "cli/cli.h"

int cli_doctor(int argc, char **argv)
{
    return cli_later(argc, argv);
}
