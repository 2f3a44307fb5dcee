#include "pipeline/claim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"

enum { NOTE_BYTES = 2048 }; // written whole, so that a reader sees one note or another

static double mtime_of(const struct stat *st)
{
    return (double)st->st_mtim.tv_sec + (double)st->st_mtim.tv_nsec * 1e-9;
}

static bool write_note(int fd, const rot_claim_note *note)
{
    char bytes[NOTE_BYTES + 1];
    json_t *json = json_pack("{s:s, s:s, s:I, s:i, s:i, s:s, s:s, s:I, s:I, s:f, s:s}", "owner",
                             note->owner, "host", note->host, "pid", (json_int_t)note->pid, "rank",
                             note->rank, "ranks", note->ranks, "launcher", note->launcher,
                             "dataset", note->dataset, "row", (json_int_t)note->row, "rows",
                             (json_int_t)note->rows, "rate", note->rate, "error", note->error);
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(json);
    bool good = text && snprintf(bytes, sizeof bytes, "%-*s\n", NOTE_BYTES - 1, text) == NOTE_BYTES;
    free(text);
    // Synced, so that other machines see it.
    return good && pwrite(fd, bytes, NOTE_BYTES, 0) == NOTE_BYTES && fdatasync(fd) == 0;
}

static void read_text(const json_t *json, const char *key, char *out, size_t capacity)
{
    const char *text = json_string_value(json_object_get(json, key));
    snprintf(out, capacity, "%s", text ? text : "");
}

int rot_claim_read(const char *path, rot_claim_note *out, double *mtime, rot_err *err)
{
    struct stat st;
    *out = (rot_claim_note){0};
    *mtime = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT || errno == ESTALE)
            ROT_FAIL(err, ROT_ERR_MISSING, "%s: no such claim", path);
        return rot_err_errno(err, errno, "open", path);
    }
    char bytes[NOTE_BYTES];
    ssize_t n = pread(fd, bytes, sizeof bytes, 0);
    if (fstat(fd, &st) == 0) *mtime = mtime_of(&st);
    close(fd);
    json_t *json = n > 0 ? json_loadb(bytes, (size_t)n, 0, NULL) : NULL;
    if (!json_is_object(json)) {
        json_decref(json);
        return 0;
    }
    read_text(json, "owner", out->owner, sizeof out->owner);
    read_text(json, "host", out->host, sizeof out->host);
    read_text(json, "launcher", out->launcher, sizeof out->launcher);
    read_text(json, "dataset", out->dataset, sizeof out->dataset);
    read_text(json, "error", out->error, sizeof out->error);
    if (strchr(out->owner, '/')) out->owner[0] = 0; // it becomes part of a file's name
    out->pid = (long)json_integer_value(json_object_get(json, "pid"));
    out->rank = (int)json_integer_value(json_object_get(json, "rank"));
    out->ranks = (int)json_integer_value(json_object_get(json, "ranks"));
    out->row = (uint64_t)json_integer_value(json_object_get(json, "row"));
    out->rows = (uint64_t)json_integer_value(json_object_get(json, "rows"));
    out->rate = json_number_value(json_object_get(json, "rate"));
    json_decref(json);
    return 0;
}

// A process that has ended stays a while, until its parent asks for its exit code.
static bool is_zombie(long pid)
{
    char path[40], text[512];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *name_end = strrchr(text, ')'); // PID (NAME) STATE
    return name_end && (name_end[1] && (name_end[2] == 'Z' || name_end[2] == 'X'));
}

bool rot_owner_is_dead(const char *owner)
{
    char host[72];
    rot_fs_host(host);
    size_t n = strlen(host);
    if (strncmp(owner, host, n) || owner[n] != '-') return false;
    long pid = strtol(owner + n + 1, NULL, 10);
    return pid > 0 && ((kill((pid_t)pid, 0) < 0 && errno == ESRCH) || is_zombie(pid));
}

bool rot_claim_is_stale(const rot_claim_note *note, double mtime, double now, double stale_seconds)
{
    return note->error[0] || now - mtime > stale_seconds || rot_owner_is_dead(note->owner);
}

// A new file of our own takes the stale one's place, for its owner may wake up and beat again.
static int replace(rot_claim *claim, rot_err *err)
{
    char tmp[4600];
    snprintf(tmp, sizeof tmp, "%s.tmp.%s", claim->path, claim->note.owner);
    claim->fd = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (claim->fd < 0) return rot_err_errno(err, errno, "create", tmp);
    if (write_note(claim->fd, &claim->note) && rename(tmp, claim->path) == 0) return 1;
    int rc = rot_err_errno(err, errno, "write", tmp);
    close(claim->fd);
    claim->fd = -1;
    unlink(tmp);
    return rc;
}

int rot_claim_take(const char *path, const rot_claim_note *note, double now, double stale_seconds,
                   rot_claim *out, rot_claim_note *before, rot_err *err)
{
    double mtime;
    rot_claim_note other;
    out->fd = -1;
    out->note = *note;
    if (before) *before = (rot_claim_note){0};
    if (snprintf(out->path, sizeof out->path, "%s", path) >= (int)sizeof out->path)
        ROT_FAIL(err, ROT_ERR_USAGE, "%.200s...: the path is too long", path);
    out->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (out->fd >= 0) {
        if (write_note(out->fd, note)) return 1;
        int rc = rot_err_errno(err, errno, "write", path);
        rot_claim_release(out);
        return rc;
    }
    if (errno != EEXIST) return rot_err_errno(err, errno, "create", path);
    int rc = rot_claim_read(path, &other, &mtime, err);
    if (rc == ROT_ERR_MISSING) return 0; // released since: the next look will see
    ROT_TRY(rc);
    if (!rot_claim_is_stale(&other, mtime, now, stale_seconds)) return 0;
    if (before) *before = other;
    return replace(out, err);
}

double rot_claim_beat(rot_claim *claim)
{
    struct stat st;
    if (claim->fd < 0 || !write_note(claim->fd, &claim->note) || fstat(claim->fd, &st) < 0)
        return -1;
    return mtime_of(&st);
}

// False once another has taken it over.
static bool is_ours(const rot_claim *claim)
{
    struct stat ours, there;
    return fstat(claim->fd, &ours) == 0 && stat(claim->path, &there) == 0 &&
           ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

void rot_claim_release(rot_claim *claim)
{
    if (claim->fd < 0) return;
    bool ours = is_ours(claim);
    close(claim->fd); // first, or NFS leaves a .nfs file
    claim->fd = -1;
    if (ours) unlink(claim->path);
}

void rot_claims_clear(const char *root)
{
    char path[4200];
    if (rot_fs_join(path, sizeof path, root, ".rotoscope/claims", NULL) < 0) return;
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
}

void rot_claim_give_up(rot_claim *claim, const char *error)
{
    if (claim->fd < 0) return;
    snprintf(claim->note.error, sizeof claim->note.error, "%s", error);
    // What no longer fits into JSON (a character cut in two) says less.
    if (!write_note(claim->fd, &claim->note)) {
        snprintf(claim->note.error, sizeof claim->note.error, "failed");
        write_note(claim->fd, &claim->note);
    }
    close(claim->fd);
    claim->fd = -1;
}
