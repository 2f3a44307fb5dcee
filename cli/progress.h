// Progress on stderr: one line that is drawn again on a terminal, a plain line every few seconds
// elsewhere, JSON lines with --json.
#ifndef ROT_CLI_PROGRESS_H
#define ROT_CLI_PROGRESS_H

#include "cli/cli.h"

typedef struct cli_progress {
    const cli_common *common;
    bool terminal;
    bool open_line;      // a line without its newline stands on the terminal
    double last_seconds; // when something was printed
    char stage[128];     // of the last print
} cli_progress;

void cli_progress_open(cli_progress *progress, const cli_common *common);
void cli_progress_show(void *progress, const rot_progress *now); // rot_build_options.progress
void cli_progress_note(void *progress, const char *message);     // rot_build_options.note
void cli_progress_close(cli_progress *progress);

#endif
