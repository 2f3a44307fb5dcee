// Writes the scripts that build a dataset on a cluster into ROOT/jobs; --go hands them over.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

enum {
    KEY_LAUNCHER = 1,
    KEY_SWEEP,
    KEY_ARRAY,
    KEY_SCRATCH,
    KEY_GO,
    KEY_REQUEUE,
    KEY_SBATCH = 0x200
};

// Options that go to sbatch as they are.
static const char *const passed[] = {"partition", "time", "account",       "qos",
                                     "gpus",      "mem",  "cpus-per-task", "constraint"};
enum { N_PASSED = sizeof passed / sizeof *passed };

typedef struct arguments {
    cli_common common;
    const char *config, *sweep, *launcher, *scratch, *values[N_PASSED];
    int n, width; // ranks; how many at once, 0: all
    bool go, requeue;
} arguments;

static const struct argp_option options[] = {
    {"config", 'c', "CONFIG", 0, "the build's YAML", 0},
    {"sweep", KEY_SWEEP, "SWEEP", 0, "or a sweep's: its variants one after another", 0},
    {"launcher", KEY_LAUNCHER, "slurm|mpi", 0, "what starts the ranks", 0},
    {"array", KEY_ARRAY, "N[%W]", 0, "N ranks, at most W at once (8)", 0},
    {"scratch", KEY_SCRATCH, "DIR", 0, "each node's own disk; may name variables such as $TMPDIR",
     0},
    {"requeue", KEY_REQUEUE, 0, 0, "let Slurm start again what was preempted", 0},
    {"go", KEY_GO, 0, 0, "submit as well", 0},
    {"partition", KEY_SBATCH + 0, "P", 0, "as sbatch takes it; so are those below", 1},
    {"time", KEY_SBATCH + 1, "T", 0, 0, 1},
    {"account", KEY_SBATCH + 2, "A", 0, 0, 1},
    {"qos", KEY_SBATCH + 3, "Q", 0, 0, 1},
    {"gpus", KEY_SBATCH + 4, "G", 0, "per rank", 1},
    {"mem", KEY_SBATCH + 5, "M", 0, "per rank", 1},
    {"cpus-per-task", KEY_SBATCH + 6, "C", 0, "per rank", 1},
    {"constraint", KEY_SBATCH + 7, "F", 0, 0, 1},
    {0}};

static void parse_array(arguments *a, const char *text, struct argp_state *state)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10), width = 0;
    if (end != text && *end == '%') {
        text = end + 1;
        width = strtol(text, &end, 10);
        if (width < 1) end = (char *)text;
    }
    if (errno || end == text || *end || n < 1 || n > 1 << 24 || width > n)
        argp_error(state, "--array takes N or N%%W with 1 <= W <= N");
    a->n = (int)n;
    a->width = (int)width;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; return 0;
    case 'c': a->config = arg; return 0;
    case KEY_SWEEP: a->sweep = arg; return 0;
    case KEY_LAUNCHER:
        if (strcmp(arg, "slurm") && strcmp(arg, "mpi"))
            argp_error(state, "--launcher takes slurm or mpi, not '%s'", arg);
        a->launcher = arg;
        return 0;
    case KEY_ARRAY: parse_array(a, arg, state); return 0;
    case KEY_SCRATCH:
        if (strpbrk(arg, "\"\\`\n")) argp_error(state, "--scratch: no quotes in '%s'", arg);
        a->scratch = arg;
        return 0;
    case KEY_GO: a->go = true; return 0;
    case KEY_REQUEUE: a->requeue = true; return 0;
    case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", arg); return 0;
    case ARGP_KEY_END:
        if (!a->config && !a->sweep) argp_error(state, "-c CONFIG or --sweep SWEEP is missing");
        if (a->config && a->sweep) argp_error(state, "-c and --sweep exclude each other");
        if (!a->launcher) argp_error(state, "--launcher slurm|mpi is missing");
        return 0;
    default:
        if (key < KEY_SBATCH || key >= KEY_SBATCH + N_PASSED) return ARGP_ERR_UNKNOWN;
        if (!*arg || strpbrk(arg, " \t\r\n\"'\\`$;"))
            argp_error(state, "--%s=%s: not one word", passed[key - KEY_SBATCH], arg);
        a->values[key - KEY_SBATCH] = arg;
        return 0;
    }
}

typedef struct scripts {
    const arguments *a;
    const char *name;
    const rot_sweep *sweep; // NULL: one dataset
    int n_datasets;
    char program[PATH_MAX], config[PATH_MAX], root[PATH_MAX], jobs[PATH_MAX + 8];
} scripts;

// As one word of a shell.
static void put_word(FILE *out, const char *text)
{
    putc('\'', out);
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", out);
        else
            putc(*text, out);
    putc('\'', out);
}

static FILE *begin(const scripts *s, const char *what, char path[PATH_MAX + 400])
{
    snprintf(path, PATH_MAX + 400, "%s/%s.%s", s->jobs, s->name, what);
    FILE *out = fopen(path, "w");
    if (!out) cli_usage("%s: %s", path, strerror(errno));
    return out;
}

static int end(FILE *out, const char *path)
{
    bool bad = ferror(out);
    if (fclose(out) < 0 || bad || chmod(path, 0755) < 0) {
        fprintf(stderr, "rotoscope: %s: %s\n", path, strerror(errno));
        return 1;
    }
    printf("%s\n", path);
    return 0;
}

static void put_head(FILE *out, const scripts *s, const char *what, bool array)
{
    fprintf(out, "#!/bin/bash\n#SBATCH --job-name=%s-%s\n#SBATCH --ntasks=1\n", s->name, what);
    fprintf(out, "#SBATCH --open-mode=append\n#SBATCH --output=%%x-%s.log\n",
            array ? "%A_%a" : "%j");
    for (int i = 0; i < N_PASSED; i++)
        if (s->a->values[i] && (array || i < 4))
            fprintf(out, "#SBATCH --%s=%s\n", passed[i], s->a->values[i]);
    if (!array) return;
    fprintf(out, "#SBATCH --array=0-%d", s->a->n - 1);
    if (s->a->width) fprintf(out, "%%%d", s->a->width);
    // The program drains within one commit unit of the signal.
    fprintf(out, "\n#SBATCH --signal=B:USR1@120\n#SBATCH --%s\n",
            s->a->requeue ? "requeue" : "no-requeue");
}

static void put_build(FILE *out, const scripts *s, const char *rest)
{
    put_word(out, s->program);
    fputs(s->a->sweep ? " sweep " : " build -c ", out);
    put_word(out, s->config);
    if (s->a->scratch) fprintf(out, " --scratch \"%s\"", s->a->scratch);
    fputs(rest, out);
}

static int write_slurm(const scripts *s)
{
    char path[PATH_MAX + 400];
    FILE *out = begin(s, "prepare.sbatch", path);
    if (!out) return 1;
    put_head(out, s, "prepare", false);
    fputs("# Tokens and images of all splits, and the cost of every shard of embeddings.\nexec ",
          out);
    put_build(out, s, " --rank 0 --ranks 1 --prepare\n");
    if (end(out, path)) return 1;
    if (!(out = begin(s, "array.sbatch", path))) return 1;
    put_head(out, s, "embeds", true);
    fputs("# One rank a task. Any number of them may be killed, requeued or started later.\n", out);
    put_build(out, s, " &\npid=$!\ntrap 'kill -USR1 $pid 2>/dev/null' USR1 TERM\n");
    fputs("wait $pid; code=$?\nwhile kill -0 $pid 2>/dev/null; do wait $pid; code=$?; done\n", out);
    if (s->a->requeue)
        // RequeueExit would make jobs that wait for this one wait for ever.
        fputs("# 75: stopped before the end. Not by RequeueExit, which breaks dependencies.\n"
              "[ $code != 75 ] || scontrol requeue \"$SLURM_JOB_ID\"\n",
              out);
    fputs("exit $code\n", out);
    if (end(out, path) || !(out = begin(s, "finish.sbatch", path))) return 1;
    put_head(out, s, "finish", false);
    fputs("# What the array left undone, the dataset file, and every record checked.\n", out);
    put_build(out, s, " --rank 0 --ranks 1");
    for (int i = 0; i < s->n_datasets; i++) {
        char dataset[PATH_MAX + 400];
        snprintf(dataset, sizeof dataset, "%s/%s.json", s->root,
                 s->sweep ? rot_sweep_config(s->sweep, i)->name : s->name);
        fputs(" &&\n", out);
        put_word(out, s->program);
        fputs(" verify ", out);
        put_word(out, dataset);
    }
    putc('\n', out);
    if (end(out, path) || !(out = begin(s, "submit.sh", path))) return 1;
    fputs("#!/bin/bash\n# Hands the three jobs to Slurm.\nset -eu\ncd ", out);
    put_word(out, s->jobs);
    fprintf(out, "\nprepare=$(sbatch --parsable %s.prepare.sbatch)\n", s->name);
    fprintf(out,
            "array=$(sbatch --parsable --kill-on-invalid-dep=yes --dependency=afterok:$prepare "
            "%s.array.sbatch)\n",
            s->name);
    fputs("# afterany: the finish job makes what a failed task has left.\n", out);
    fprintf(out, "sbatch --parsable --dependency=afterany:$array %s.finish.sbatch\n", s->name);
    return end(out, path);
}

static int write_mpi(const scripts *s)
{
    char path[PATH_MAX + 400];
    FILE *out = begin(s, "submit.sh", path);
    if (!out) return 1;
    fputs(
        "#!/bin/bash\n# Ranks under mpirun. It ends all when one is preempted (75): run it again.\n"
        "# MPIRUN_FLAGS: such as --hostfile FILE or --oversubscribe.\n",
        out);
    fprintf(out, "exec mpirun --bind-to none ${MPIRUN_FLAGS:-} -np %d ", s->a->n);
    put_build(out, s, "\n");
    return end(out, path);
}

// The highest number of an array's tasks; what Slurm has by default if it cannot be asked.
static int max_array_size(void)
{
    int n = 1001;
    char line[256];
    FILE *in = popen("scontrol show config 2>/dev/null", "r");
    while (in && fgets(line, sizeof line, in)) sscanf(line, "MaxArraySize = %d", &n);
    if (in) pclose(in);
    return n;
}

static int check(const arguments *a)
{
    if (getenv("SLURM_JOB_ID"))
        return cli_usage("submit: this is job %s already: run it on a login node",
                         getenv("SLURM_JOB_ID"));
    int max = strcmp(a->launcher, "slurm") ? 0 : max_array_size();
    if (max && a->n > max)
        return cli_usage("submit: --array %d, and this Slurm takes %d (MaxArraySize)", a->n, max);
    return 0;
}

static int go(const scripts *s)
{
    char path[PATH_MAX + 400];
    snprintf(path, sizeof path, "%s/%s.submit.sh", s->jobs, s->name);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        execl(path, path, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status)) return 1;
    return WEXITSTATUS(status);
}

static int run(const arguments *a, const rot_config *config, const rot_sweep *sweep)
{
    scripts s = {.a = a,
                 .name = sweep ? rot_sweep_name(sweep) : config->name,
                 .sweep = sweep,
                 .n_datasets = sweep ? rot_sweep_count(sweep) : 1};
    const char *root = sweep ? rot_sweep_root(sweep) : config->root;
    ssize_t n = readlink("/proc/self/exe", s.program, sizeof s.program - 1);
    if (n < 0) return cli_usage("submit: where this program lies cannot be told");
    if ((mkdir(root, 0777) < 0 && errno != EEXIST) || !realpath(root, s.root) ||
        !realpath(sweep ? a->sweep : a->config, s.config)) {
        fprintf(stderr, "rotoscope: %s: %s\n", root, strerror(errno));
        return 1;
    }
    snprintf(s.jobs, sizeof s.jobs, "%s/jobs", s.root);
    if (mkdir(s.jobs, 0777) < 0 && errno != EEXIST) {
        fprintf(stderr, "rotoscope: %s: %s\n", s.jobs, strerror(errno));
        return 1;
    }
    int code = strcmp(a->launcher, "slurm") ? write_mpi(&s) : write_slurm(&s);
    return code || !a->go ? code : go(&s);
}

int cli_submit(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse,
        "-c CONFIG --launcher slurm|mpi\n--sweep SWEEP.yaml --launcher slurm|mpi",
        "Writes the scripts that build a dataset on a cluster.",
        cli_children,
        0,
        0};
    arguments a = {.n = 8};
    rot_err err = {0};
    rot_config *config = NULL;
    rot_sweep *sweep = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    int code = check(&a);
    if (code) return code;
    int rc = a.sweep ? rot_sweep_load(a.sweep, NULL, 0, &sweep, &err)
                     : rot_config_load(a.config, NULL, 0, &config, &err);
    if (rc < 0) return cli_fail(&err);
    code = run(&a, config, sweep);
    rot_config_free(&config);
    rot_sweep_free(&sweep);
    return cli_done(code);
}
