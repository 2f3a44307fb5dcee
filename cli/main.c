#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static const cli_verb verbs[] = {
    {"build", "make or resume a dataset; --plan shows what it would do", cli_build},
    {"render", "draw text as an image", cli_render},
    {"tokenize", "token ids of lines of JSON", cli_tokenize},
    {"encode", "vision embeddings of image files", cli_encode},
    {"inspect", "one sample of a dataset in full", cli_inspect},
    {"verify", "check every record, hash and root", cli_verify},
    {"stats", "counts, widths, K, bytes of a root or dataset", cli_stats},
    {"status", "what of a root is built, and what is not", cli_status},
    {"why", "what fingerprints are made of, and how two differ", cli_why},
    {"report", "a self-contained HTML page on a dataset", cli_report},
    {"init-model", "a checkpoint with seeded random weights", cli_init_model},
    {"init-data", "seeded synthetic traces", cli_init_data},
    {"doctor", "cpu paths, libraries, limits, file system", cli_doctor},
    {"export", "a split as npy, safetensors, png or jsonl", cli_export},
    {"import", "embeddings made elsewhere, as a stage", cli_import},
    {"repair", "make only the bad records of a dataset again", cli_repair},
    {"gc", "show or remove stages that no dataset names", cli_gc},
    {"sweep", "make many variants of a dataset, and a table of them", cli_sweep},
    {"submit", "write the scripts of a build on a cluster", cli_submit},
    {"view", "browse a dataset, in a web browser", cli_view},
    {"train", "train a model on a dataset, or go on with it", cli_train},
    {"merge", "add an adapter to its model", cli_merge},
    {"generate", "answers by latent thoughts", cli_generate},
    {"evaluate", "score predictions: answers, lengths, intervals", cli_evaluate},
};

static void print_verbs(FILE *out)
{
    fputs("usage: rotoscope VERB [OPTION...]    rotoscope VERB --help\n\n", out);
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        fprintf(out, "  %-11s %s\n", verbs[i].name, verbs[i].summary);
}

// A stream that the caller closed would be the number of the next file opened, and words would go
// into a shard. Its place is taken; stdout's for reading alone, so that data is not lost silently.
static void hold_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
    hold_streams();
    cli_catch_cut_files();
    argp_err_exit_status = CLI_EXIT_USAGE;
    if (argc < 2) {
        print_verbs(stderr);
        return CLI_EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_verbs(stdout);
        return cli_done(0);
    }
    if (!strcmp(argv[1], "--version")) {
        puts("rotoscope " ROT_VERSION);
        return cli_done(0);
    }
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(argv[1], verbs[i].name)) continue;
        char name[64]; // what argp and cli_usage call the program
        snprintf(name, sizeof name, "rotoscope %s", verbs[i].name);
        argv[1] = name;
        return verbs[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "rotoscope: no verb '%s'\n", argv[1]);
    print_verbs(stderr);
    return CLI_EXIT_USAGE;
}
