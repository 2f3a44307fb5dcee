// Which kinds of synthetic data there are, and the file that they are streamed to.
#include "pipeline/init_data.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/random.h"
#include "rotoscope/build.h"

enum { CHUNK = 1 << 16 };

// How a kind's rows are laid out: what stands before and behind a question, around all rows and
// between two.
typedef struct layout {
    const char *question, *behind, *before, *between, *after;
} layout;
static const layout text = {"", "||", "", "\n", "\n"},
                    line = {"\"question\": \"", "\", \"", "", "\n", "\n"},
                    array = {"\"question\": \"", "\", \"", "[\n", ",\n", "\n]\n"};

// The number of a kind is part of its draws. `row` NULL: chained arithmetic, which has bounds.
static const struct kind {
    const char *like;
    void (*row)(rot_draws *draws, rot_str *out);
    const layout *layout;
} kinds[] = {
    {"gsm8k-aug", rot_story_equations, &text}, {"gsm8k", rot_story_words, &line},
    {"prosqa", rot_graph_json, &array},        {"arithmetic", NULL, &text},
    {"prontoqa", rot_ontology_json, &array},
};

rot_draws rot_draws_of(uint64_t seed, uint64_t kind, uint64_t row)
{
    uint64_t golden = UINT64_C(0x9e3779b97f4a7c15);
    return (rot_draws){
        .key = rot_mix64(rot_mix64(rot_mix64(seed + golden) ^ (kind + 1) * golden) + row * golden)};
}

uint32_t rot_draw(rot_draws *draws, uint32_t n)
{
    uint64_t z = rot_mix64(draws->key + ++draws->n * UINT64_C(0x9e3779b97f4a7c15));
    return (uint32_t)((z >> 32) * n >> 32);
}

uint32_t rot_draw_weighted(rot_draws *draws, const uint16_t *weights, uint32_t n)
{
    uint32_t sum = 0, i = 0;
    for (uint32_t j = 0; j < n; j++) sum += weights[j];
    for (uint32_t left = rot_draw(draws, sum); left >= weights[i]; i++) left -= weights[i];
    return i;
}

static int write_out(int fd, const char *path, rot_str *rows, rot_err *err)
{
    if (rows->failed) return rot_no_memory(err, rows->n_bytes, "rows");
    for (size_t at = 0; at < rows->n_bytes;) {
        ssize_t n = write(fd, rows->text + at, rows->n_bytes - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return rot_err_errno(err, errno, "write", path);
        at += (size_t)n;
    }
    rows->n_bytes = 0;
    return 0;
}

// Of 20 questions 18 are for training, one for validation, one for the test, told by the question's
// text: so whatever the seeds, no question of a split is in another.
static bool in_split(const char *split, const layout *l, const char *row)
{
    static const char *const last[] = {"valid", "test"};
    if (!split) return true;
    const char *begin = strstr(row, l->question) + strlen(l->question),
               *end = strstr(begin, l->behind);
    uint64_t hash = UINT64_C(0xcbf29ce484222325); // FNV-1a
    for (; begin < end; begin++) hash = (hash ^ (unsigned char)*begin) * UINT64_C(0x100000001b3);
    uint64_t part = rot_mix64(hash) % 20;
    return part < 18 ? !strcmp(split, "train") : !strcmp(split, last[part - 18]);
}

// Row `row`, drawn again until its question is of the split.
static void add_row(const struct kind *kind, const rot_init_data_options *o, uint64_t row,
                    rot_str *rows)
{
    const size_t begin = rows->n_bytes;
    for (uint64_t attempt = 0;; attempt++) {
        rot_draws draws = rot_draws_of(o->seed, (uint64_t)(kind - kinds) + 256 * attempt, row);
        rows->n_bytes = begin;
        if (kind->row)
            kind->row(&draws, rows);
        else
            rot_chain_equations(&draws, o, rows);
        if (rows->failed || in_split(o->split, kind->layout, rows->text + begin)) return;
    }
}

static int write_rows(const struct kind *kind, const rot_init_data_options *o, int fd,
                      const char *path, rot_err *err)
{
    rot_str rows = {0};
    int rc = 0;
    rot_str_puts(&rows, kind->layout->before);
    for (uint64_t row = 0; rc == 0 && row < o->rows; row++) {
        if (row) rot_str_puts(&rows, kind->layout->between);
        add_row(kind, o, row, &rows);
        if (rows.n_bytes >= CHUNK || rows.failed) rc = write_out(fd, path, &rows, err);
    }
    rot_str_puts(&rows, kind->layout->after);
    if (rc == 0) rc = write_out(fd, path, &rows, err);
    rot_str_free(&rows);
    return rc;
}

// A file gets its name when it is whole; a pipe or device is written as it is.
static int write_file(const struct kind *kind, const rot_init_data_options *o, const char *path,
                      rot_err *err)
{
    char tmp[4200];
    struct stat st;
    bool direct = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
    if (!direct) ROT_TRY(rot_fs_tmp_name(path, tmp, sizeof tmp, err));
    int fd = open(direct ? path : tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return rot_err_errno(err, errno, "create", path);
    int rc = write_rows(kind, o, fd, path, err);
    if (rc == 0 && !direct && fsync(fd) < 0) rc = rot_err_errno(err, errno, "sync", path);
    if (close(fd) < 0 && rc == 0) rc = rot_err_errno(err, errno, "close", path);
    if (direct) return rc;
    if (rc == 0 && rename(tmp, path) < 0) rc = rot_err_errno(err, errno, "rename to", path);
    if (rc < 0) unlink(tmp);
    return rc;
}

rot_init_data_options rot_init_data_options_default(void)
{
    return (rot_init_data_options){.size = sizeof(rot_init_data_options), .like = "gsm8k-aug"};
}

// Bounds are of chained arithmetic alone; 0 leaves them as they are.
static int check(const struct kind *kind, rot_init_data_options *o, rot_err *err)
{
    if (!o->rows) ROT_FAIL(err, ROT_ERR_USAGE, "no rows");
    if (o->split && strcmp(o->split, "train") && strcmp(o->split, "valid") &&
        strcmp(o->split, "test"))
        ROT_FAIL(err, ROT_ERR_USAGE, "there is no split '%s': train, valid or test", o->split);
    if (kind->row && (o->min_steps || o->max_steps || o->largest))
        ROT_FAIL(err, ROT_ERR_USAGE, "steps and largest have no effect on data like %s",
                 kind->like);
    if (!o->min_steps) o->min_steps = 2;
    if (!o->max_steps) o->max_steps = o->min_steps > 6 ? o->min_steps : 6;
    if (!o->largest) o->largest = 9999;
    if (o->min_steps < 1 || o->max_steps > 1000 || o->min_steps > o->max_steps)
        ROT_FAIL(err, ROT_ERR_USAGE, "from %d to %d steps: not within 1 to 1000", o->min_steps,
                 o->max_steps);
    if (o->largest < 9 || o->largest > 9999999)
        ROT_FAIL(err, ROT_ERR_USAGE, "largest of %d: not in 9 to 9999999", o->largest);
    return 0;
}

int rot_init_data(const rot_init_data_options *options, const char *path, rot_err *err)
{
    const size_t n = sizeof kinds / sizeof *kinds;
    rot_init_data_options o = *options;
    size_t i = 0;
    while (i < n && strcmp(kinds[i].like, o.like)) i++;
    if (i == n)
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "there is no data like '%s': gsm8k-aug, gsm8k, prosqa, arithmetic or prontoqa",
                 o.like);
    ROT_TRY(check(&kinds[i], &o, err));
    if (!strcmp(path, "-")) return write_rows(&kinds[i], &o, STDOUT_FILENO, "stdout", err);
    return write_file(&kinds[i], &o, path, err);
}
