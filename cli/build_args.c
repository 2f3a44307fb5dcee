#include "cli/build_args.h"

#include <stdlib.h>

enum {
    KEY_SET = 0x1100,
    KEY_PLAN,
    KEY_NO_PREFLIGHT,
    KEY_REHASH,
    KEY_RANK,
    KEY_RANKS,
    KEY_STALE,
    KEY_SCRATCH,
    KEY_PREPARE
};

static const struct argp_option options[] = {
    {"set", KEY_SET, "KEY=VALUE", 0, "override a key of the config, such as render.size_px=24", 0},
    {"plan", KEY_PLAN, 0, 0, "show stages, what is reused, bytes and time; build nothing", 0},
    {"no-preflight", KEY_NO_PREFLIGHT, 0, 0, "begin even if the disk seems too small", 0},
    {"rehash", KEY_REHASH, 0, 0, "forget remembered hashes of big files", 0},
    {"rank", KEY_RANK, "R", 0, "this process is rank R of --ranks N that share the root", 1},
    {"ranks", KEY_RANKS, "N", 0,
     "(default: as torchrun, Open MPI, PMI or Slurm say in the environment)", 1},
    {"stale", KEY_STALE, "SECONDS", 0, "take over the work of a rank silent for so long (60)", 1},
    {"scratch", KEY_SCRATCH, "DIR", 0, "write unfinished shards there, on this machine's disk", 1},
    {"prepare", KEY_PREPARE, 0, 0, "end when all is ready for ranks that encode", 1},
    {0}};

static double number(struct argp_state *state, const char *option, const char *text, double max)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0 && value <= max))
        argp_error(state, "%s takes a number from 0 to %.0f, not '%s'", option, max, text);
    return value;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    cli_build_args *a = state->input;
    switch (key) {
    case KEY_SET:
        if (a->n_sets == CLI_MAX_SETS) argp_error(state, "more than %d --set", CLI_MAX_SETS);
        a->sets[a->n_sets++] = arg;
        return 0;
    case KEY_PLAN: a->plan = true; return 0;
    case KEY_NO_PREFLIGHT: a->no_preflight = true; return 0;
    case KEY_REHASH: a->rehash = true; return 0;
    case KEY_RANK: a->rank = (int)number(state, "--rank", arg, 1 << 24); return 0;
    case KEY_RANKS: a->ranks = (int)number(state, "--ranks", arg, 1 << 24); return 0;
    case KEY_STALE: a->stale_seconds = number(state, "--stale", arg, 1e6); return 0;
    case KEY_SCRATCH: a->scratch = arg; return 0;
    case KEY_PREPARE: a->prepare = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp build_argp = {.options = options, .parser = parse};
const struct argp_child cli_build_children[] = {
    {&cli_common_argp, 0, NULL, 0}, {&build_argp, 0, NULL, 0}, {0}};

rot_build_options cli_build_options(const cli_build_args *args, const cli_common *common,
                                    cli_progress *progress)
{
    rot_build_options build = rot_build_options_default();
    build.threads = common->threads;
    build.rehash = args->rehash;
    build.no_preflight = args->no_preflight;
    build.stop = cli_catch_signals();
    build.progress = cli_progress_show;
    build.note = cli_progress_note;
    build.user = progress;
    build.rank = args->rank;
    build.ranks = args->ranks;
    build.stale_seconds = args->stale_seconds;
    build.scratch = args->scratch;
    build.prepare_only = args->prepare;
    return build;
}
