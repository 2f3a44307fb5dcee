// Unfinished shards: where they lie, how another writer goes on with one, how they get from scratch
// to the root.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "shards/leftover.h"
#include "shards/shard.h"

int rot_shard_tmp_path(char out[PATH_MAX], const char *dir, const char *scratch, uint32_t shard,
                       const char *owner, rot_err *err)
{
    char name[32];
    const char *slash = strrchr(dir, '/'), *stage = slash ? slash + 1 : dir;
    if (owner && (!*owner || strchr(owner, '/')))
        ROT_FAIL(err, ROT_ERR_USAGE, "'%s' cannot be part of a file's name", owner);
    rot_shard_name(shard, name);
    if (snprintf(out, PATH_MAX, "%s/%s%s%s%s%s.tmp", scratch ? scratch : dir, scratch ? stage : "",
                 scratch ? "." : "", name, owner ? "." : "", owner ? owner : "") >= PATH_MAX)
        ROT_FAIL(err, ROT_ERR_USAGE, "%.200s...: the path is too long", dir);
    return 0;
}

static int copy_bytes(int from, int to)
{
    static const size_t at_once = 1 << 20;
    char bytes[1 << 16];
    for (bool in_kernel = true;;) {
        ssize_t n = in_kernel ? copy_file_range(from, NULL, to, NULL, at_once, 0)
                              : read(from, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && in_kernel && errno != ENOSPC && errno != EDQUOT && errno != EIO) {
            in_kernel = false; // between these two file systems it cannot
            continue;
        }
        if (n <= 0) return (int)n;
        for (ssize_t at = 0; !in_kernel && at < n;) {
            ssize_t done = write(to, bytes + at, (size_t)(n - at));
            if (done < 0 && errno == EINTR) continue;
            if (done <= 0) return -1;
            at += done;
        }
    }
}

int rot_shard_copy(const char *from, const char *to, rot_err *err)
{
    int rc = 0, in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0) return rot_err_errno(err, errno, "open", from);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out < 0) {
        rc = rot_err_errno(err, errno, "create", to);
        close(in);
        return rc;
    }
    errno = 0;
    if (copy_bytes(in, out) < 0) rc = rot_err_errno(err, errno, "copy to", to);
    // A full disk may show as late as here.
    if (rc == 0 && fsync(out) < 0) rc = rot_err_errno(err, errno, "sync", to);
    if (close(out) < 0 && rc == 0) rc = rot_err_errno(err, errno, "close", to);
    close(in);
    if (rc < 0) unlink(to);
    return rc;
}

// The owner in the name of an unfinished file of this shard ("" for none), or NULL: it is none.
static const char *owner_of(const char *name, const char *shard, char out[256])
{
    size_t n = strlen(name), m = strlen(shard);
    if (n < m + 4 || strncmp(name, shard, m) || strcmp(name + n - 4, ".tmp")) return NULL;
    if (n == m + 4) return memcpy(out, "", 1);
    if (name[m] != '.' || n - m - 5 >= 256) return NULL;
    snprintf(out, 256, "%.*s", (int)(n - m - 5), name + m + 1);
    return out;
}

// The longest one of another owner: the content is the same, and all is checked when it is opened.
static bool find_longest(const char *dir, uint32_t shard, const char *owner, char found[256])
{
    char name[32], other[256];
    off_t longest = 0;
    DIR *folder = opendir(dir);
    if (!folder) return false;
    rot_shard_name(shard, name);
    for (struct dirent *e; (e = readdir(folder));) {
        struct stat st;
        if (!owner_of(e->d_name, name, other) || !strcmp(other, owner ? owner : "")) continue;
        if (fstatat(dirfd(folder), e->d_name, &st, 0) < 0 || st.st_nlink > 1) continue;
        if (st.st_size <= longest) continue;
        longest = st.st_size;
        memcpy(found, other, sizeof other);
    }
    closedir(folder);
    return longest > 0;
}

int rot_shard_find_leftovers(const char *dir, uint32_t n, bool *left, rot_err *err)
{
    memset(left, 0, n * sizeof *left);
    DIR *folder = opendir(dir);
    if (!folder) return errno == ENOENT ? 0 : rot_err_errno(err, errno, "open folder", dir);
    for (struct dirent *e; (e = readdir(folder));) {
        char name[32], other[256];
        unsigned shard;
        if (sscanf(e->d_name, "shard-%u.", &shard) != 1 || shard >= n) continue;
        rot_shard_name(shard, name);
        if (owner_of(e->d_name, name, other)) left[shard] = true;
    }
    closedir(folder);
    return 0;
}

bool rot_shard_is_left(const char *dir, uint32_t shard)
{
    char path[PATH_MAX];
    return rot_shard_tmp_path(path, dir, NULL, shard, NULL, NULL) == 0 && rot_fs_is_file(path);
}

int rot_shard_adopt(const char *dir, const char *scratch, uint32_t shard, const char *owner,
                    bool (*is_dead)(const char *owner), rot_err *err)
{
    char ours[PATH_MAX], theirs[PATH_MAX], other[256];
    ROT_TRY(rot_shard_tmp_path(ours, dir, scratch, shard, owner, err));
    if (rot_fs_is_file(ours) || !find_longest(dir, shard, owner, other)) return 0;
    ROT_TRY(rot_shard_tmp_path(theirs, dir, NULL, shard, *other ? other : NULL, err));
    // One without an owner was left by a process that is done with it.
    if (!*other && !scratch && rename(theirs, ours) == 0) return 1;
    if (rot_shard_copy(theirs, ours, NULL) < 0) return 0; // begins anew, which says what is wrong
    if (*other && is_dead && is_dead(other)) unlink(theirs);
    return 1;
}

void rot_shard_leave(const char *dir, const char *scratch, uint32_t shard, const char *owner)
{
    char ours[PATH_MAX], there[PATH_MAX], left[PATH_MAX];
    if (rot_shard_tmp_path(ours, dir, scratch, shard, owner, NULL) < 0 ||
        rot_shard_tmp_path(there, dir, NULL, shard, owner, NULL) < 0 ||
        rot_shard_tmp_path(left, dir, NULL, shard, NULL, NULL) < 0 || !rot_fs_is_file(ours))
        return;
    bool published = rot_shard_is_published(dir, shard);
    if (!published && (!scratch || rot_shard_copy(ours, there, NULL) == 0) && owner)
        rename(there, left);
    if (published || scratch) unlink(ours);
}
