#include "cli/cli.h"

int cli_later(int argc, char **argv)
{
    (void)argc;
    return cli_usage("%s does not exist yet", argv[0] + sizeof "rotoscope");
}
