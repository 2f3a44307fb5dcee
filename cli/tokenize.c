#include "cli/cli.h"

int cli_tokenize(int argc, char **argv)
{
    return cli_later(argc, argv);
}
