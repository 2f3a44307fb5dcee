#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

static int open_error(rot_err *err, const char *path)
{
    if (errno == ENOENT || errno == ENOTDIR)
        ROT_FAIL(err, ROT_ERR_MISSING, "%s: no such file", path);
    return rot_err_errno(err, errno, "open", path);
}

static int read_full(int fd, char *bytes, size_t n_bytes, const char *path, rot_err *err)
{
    for (size_t at = 0; at < n_bytes;) {
        ssize_t n = read(fd, bytes + at, n_bytes - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return rot_err_errno(err, errno, "read", path);
        if (n == 0) ROT_FAIL(err, ROT_ERR_IO, "read %s: it became shorter while it was read", path);
        at += (size_t)n;
    }
    return 0;
}

int rot_fs_read(const char *path, char **bytes, size_t *n_bytes, rot_err *err)
{
    int rc = 0;
    char *block = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return open_error(err, path);
    struct stat st;
    if (fstat(fd, &st) < 0) {
        rc = rot_err_errno(err, errno, "stat", path);
        goto done;
    }
    if (!S_ISREG(st.st_mode)) ROT_FAIL_GO(err, ROT_ERR_MISSING, "%s: not a file", path);
    block = rot_malloc((size_t)st.st_size + 1);
    if (!block) {
        rc = rot_no_memory(err, (size_t)st.st_size, path);
        goto done;
    }
    ROT_GO(read_full(fd, block, (size_t)st.st_size, path, err));
    block[st.st_size] = 0;
    *bytes = block;
    if (n_bytes) *n_bytes = (size_t)st.st_size;
    block = NULL;
done:
    rot_free(block);
    close(fd);
    return rc;
}

static int write_full(int fd, const char *bytes, size_t n_bytes, const char *path, rot_err *err)
{
    for (size_t at = 0; at < n_bytes;) {
        ssize_t n = write(fd, bytes + at, n_bytes - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return rot_err_errno(err, n < 0 ? errno : ENOSPC, "write", path);
        at += (size_t)n;
    }
    return 0;
}

void rot_fs_host(char out[72])
{
    memset(out, 0, 72);
    gethostname(out, 71);
    for (char *c = out; *c; c++)
        if (*c == '/') *c = '_';
}

void rot_fs_unique(char out[112])
{
    char host[72];
    uint32_t salt = 0;
    rot_fs_host(host);
    if (getrandom(&salt, sizeof salt, GRND_NONBLOCK) < 0) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        salt = (uint32_t)now.tv_nsec;
    }
    snprintf(out, 112, "%s-%ld-%08x", host, (long)getpid(), salt);
}

int rot_fs_tmp_name(const char *path, char *out, size_t capacity, rot_err *err)
{
    char unique[112];
    rot_fs_unique(unique);
    if (snprintf(out, capacity, "%s.tmp.%s", path, unique) >= (int)capacity)
        ROT_FAIL(err, ROT_ERR_USAGE, "%.200s...: the path is too long", path);
    return 0;
}

int rot_fs_write_atomic(const char *path, const void *bytes, size_t n_bytes, rot_err *err)
{
    char tmp[4096], dir[4096];
    struct stat st;
    if (stat(path, &st) == 0 &&
        !S_ISREG(st.st_mode)) // a rename would put a file in a device's place
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: not a regular file", path);
    ROT_TRY(rot_fs_tmp_name(path, tmp, sizeof tmp, err));
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return rot_err_errno(err, errno, "create", tmp);
    int rc = write_full(fd, bytes, n_bytes, tmp, err);
    if (rc == 0 && fsync(fd) < 0) rc = rot_err_errno(err, errno, "sync", tmp);
    if (close(fd) < 0 && rc == 0) rc = rot_err_errno(err, errno, "close", tmp);
    if (rc == 0 && rename(tmp, path) < 0) rc = rot_err_errno(err, errno, "rename to", path);
    if (rc < 0) {
        unlink(tmp);
        return rc;
    }
    rot_fs_dirname(path, dir, sizeof dir);
    return rot_fs_sync_dir(dir, err);
}

int rot_fs_mkdirs(const char *path, rot_err *err)
{
    char part[4096];
    size_t n = strlen(path);
    if (n >= sizeof part) ROT_FAIL(err, ROT_ERR_USAGE, "%.200s...: the path is too long", path);
    if (rot_fs_is_dir(path)) return 0;
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0) continue;
        char kept = part[i];
        part[i] = 0;
        if (mkdir(part, 0777) == 0) {
            // What is synced in a folder is lost with it if its own name is not on the disk. A
            // parent that may not be read cannot be synced: no reason to stop.
            char parent[4096];
            rot_fs_dirname(part, parent, sizeof parent);
            if (access(parent, R_OK) == 0) ROT_TRY(rot_fs_sync_dir(parent, err));
        } else if (errno != EEXIST) {
            return rot_err_errno(err, errno, "create folder", part);
        }
        part[i] = kept;
    }
    if (!rot_fs_is_dir(path)) ROT_FAIL(err, ROT_ERR_IO, "%s: not a folder", path);
    return 0;
}

int rot_fs_sync_dir(const char *path, rot_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return rot_err_errno(err, errno, "open folder", path);
    int rc = 0;
    // Some network file systems cannot sync a folder and say EINVAL.
    if (fsync(fd) < 0 && errno != EINVAL) rc = rot_err_errno(err, errno, "sync folder", path);
    close(fd);
    return rc;
}

int rot_fs_copy(const char *from, const char *to, const char *name, rot_err *err)
{
    char source[4096], target[4096], *bytes = NULL;
    size_t n_bytes;
    ROT_TRY(rot_fs_join(source, sizeof source, from, name, err));
    ROT_TRY(rot_fs_join(target, sizeof target, to, name, err));
    if (!rot_fs_is_file(source)) return 0;
    ROT_TRY(rot_fs_read(source, &bytes, &n_bytes, err));
    int rc = rot_fs_write_atomic(target, bytes, n_bytes, err);
    rot_free(bytes);
    return rc;
}

void rot_fs_remove_tree(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    if (!folder) {
        if (fd >= 0) close(fd);
        unlinkat(at, name, 0);
        return;
    }
    for (struct dirent *e; (e = readdir(folder));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) rot_fs_remove_tree(fd, e->d_name);
    closedir(folder);
    unlinkat(at, name, AT_REMOVEDIR);
}

bool rot_fs_is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool rot_fs_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int rot_fs_join(char *out, size_t capacity, const char *dir, const char *name, rot_err *err)
{
    if (snprintf(out, capacity, "%s/%s", dir, name) >= (int)capacity)
        ROT_FAIL(err, ROT_ERR_USAGE, "%.200s.../%s: the path is too long", dir, name);
    return 0;
}

void rot_fs_dirname(const char *path, char *out, size_t capacity)
{
    const char *slash = strrchr(path, '/');
    size_t n = !slash ? 1 : slash == path ? 1 : (size_t)(slash - path);
    snprintf(out, capacity, "%.*s", (int)n, slash ? path : ".");
}

static int take_lock(const char *path, int operation, int *fd, rot_err *err)
{
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) return rot_err_errno(err, errno, "create", path);
    if (flock(file, operation | LOCK_NB) < 0) {
        int error = errno;
        close(file);
        if (error == EWOULDBLOCK)
            ROT_FAIL(err, ROT_ERR_LOCKED, "%s: another process holds it", path);
        return rot_err_errno(err, error, "lock", path);
    }
    *fd = file;
    return 0;
}

int rot_fs_lock(const char *path, int *fd, rot_err *err)
{
    return take_lock(path, LOCK_EX, fd, err);
}

int rot_fs_lock_shared(const char *path, int *fd, rot_err *err)
{
    return take_lock(path, LOCK_SH, fd, err);
}

int rot_fs_map(const char *path, rot_map *out, rot_err *err)
{
    *out = (rot_map){0};
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return open_error(err, path);
    struct stat st;
    if (fstat(fd, &st) < 0)
        rc = rot_err_errno(err, errno, "stat", path);
    else if (!S_ISREG(st.st_mode))
        rc = rot_err_set(err, ROT_ERR_MISSING, "%s: not a file", path);
    else if (st.st_size > 0) {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
            rc = rot_err_errno(err, errno, "map", path);
        else
            *out = (rot_map){map, (size_t)st.st_size};
    }
    close(fd);
    return rc;
}

bool rot_fs_map_is_whole(const rot_map *map)
{
#ifdef MADV_POPULATE_READ
    if (map->n_bytes == 0) return true;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), last = (map->n_bytes - 1) / page * page;
    return madvise((void *)(map->bytes + last), 1, MADV_POPULATE_READ) == 0 || errno != EFAULT;
#else
    (void)map;
    return true;
#endif
}

void rot_fs_unmap(rot_map *map)
{
    if (map->bytes) munmap((void *)map->bytes, map->n_bytes);
    *map = (rot_map){0};
}
