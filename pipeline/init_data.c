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
#include "rotoscope/build.h"

enum { CHUNK = 1 << 16 };

static const struct kind {
    const char *like;
    void (*row)(rot_draws *draws, rot_str *out);
    const char *before, *between, *after; // all rows, two rows, all rows
} kinds[] = {
    {"gsm8k-aug", rot_story_equations, "", "\n", "\n"},
    {"gsm8k", rot_story_words, "", "\n", "\n"},
    {"prosqa", rot_graph_json, "[\n", ",\n", "\n]\n"},
    {"arithmetic", rot_chain_equations, "", "\n", "\n"},
};

// The finalizer of splitmix64 (Steele, Lea, Flood 2014).
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

rot_draws rot_draws_of(uint64_t seed, uint64_t kind, uint64_t row)
{
    uint64_t golden = UINT64_C(0x9e3779b97f4a7c15);
    return (rot_draws){.key = mix(mix(mix(seed + golden) ^ (kind + 1) * golden) + row * golden)};
}

uint32_t rot_draw(rot_draws *draws, uint32_t n)
{
    uint64_t z = mix(draws->key + ++draws->n * UINT64_C(0x9e3779b97f4a7c15));
    return (uint32_t)((z >> 32) * n >> 32);
}

uint32_t rot_draw_weighted(rot_draws *draws, const uint16_t *weights, uint32_t n)
{
    uint32_t sum = 0, i = 0;
    for (uint32_t j = 0; j < n; j++) sum += weights[j];
    for (uint32_t left = rot_draw(draws, sum); left >= weights[i]; i++) left -= weights[i];
    return i;
}

static int write_out(int fd, const char *path, rot_str *text, rot_err *err)
{
    if (text->failed) return rot_no_memory(err, text->n_bytes, "rows");
    for (size_t at = 0; at < text->n_bytes;) {
        ssize_t n = write(fd, text->text + at, text->n_bytes - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return rot_err_errno(err, errno, "write", path);
        at += (size_t)n;
    }
    text->n_bytes = 0;
    return 0;
}

static int write_rows(const struct kind *kind, uint64_t rows, uint64_t seed, int fd,
                      const char *path, rot_err *err)
{
    rot_str text = {0};
    int rc = 0;
    rot_str_puts(&text, kind->before);
    for (uint64_t row = 0; rc == 0 && row < rows; row++) {
        rot_draws draws = rot_draws_of(seed, (uint64_t)(kind - kinds), row);
        if (row) rot_str_puts(&text, kind->between);
        kind->row(&draws, &text);
        if (text.n_bytes >= CHUNK || text.failed) rc = write_out(fd, path, &text, err);
    }
    rot_str_puts(&text, kind->after);
    if (rc == 0) rc = write_out(fd, path, &text, err);
    rot_str_free(&text);
    return rc;
}

// A file gets its name when it is whole; a pipe or device is written as it is.
static int write_file(const struct kind *kind, uint64_t rows, uint64_t seed, const char *path,
                      rot_err *err)
{
    char tmp[4200];
    struct stat st;
    bool direct = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
    if (!direct) ROT_TRY(rot_fs_tmp_name(path, tmp, sizeof tmp, err));
    int fd = open(direct ? path : tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return rot_err_errno(err, errno, "create", path);
    int rc = write_rows(kind, rows, seed, fd, path, err);
    if (rc == 0 && !direct && fsync(fd) < 0) rc = rot_err_errno(err, errno, "sync", path);
    if (close(fd) < 0 && rc == 0) rc = rot_err_errno(err, errno, "close", path);
    if (direct) return rc;
    if (rc == 0 && rename(tmp, path) < 0) rc = rot_err_errno(err, errno, "rename to", path);
    if (rc < 0) unlink(tmp);
    return rc;
}

int rot_init_data(const char *like, uint64_t rows, uint64_t seed, const char *path, rot_err *err)
{
    const size_t n = sizeof kinds / sizeof *kinds;
    size_t i = 0;
    while (i < n && strcmp(kinds[i].like, like)) i++;
    if (i == n)
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "there is no data like '%s': gsm8k-aug, gsm8k, prosqa or arithmetic", like);
    if (!rows) ROT_FAIL(err, ROT_ERR_USAGE, "no rows");
    if (!strcmp(path, "-")) return write_rows(&kinds[i], rows, seed, STDOUT_FILENO, "stdout", err);
    return write_file(&kinds[i], rows, seed, path, err);
}
