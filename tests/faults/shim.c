// Preloaded into the program by tests/faults/faults.py: makes the n-th call of a kind fail, and
// logs what changes the files below a folder, so that a power failure can be replayed from the log.
//   FAULTS_ROOT=DIR         files below it, by absolute path
//   FAULTS_FAIL=OP:ERRNO:N  the N-th OP fails: open write pwritev ftruncate fsync close link rename
//   FAULTS_ONLY=WORD        count only files with it in their path
//   FAULTS_BLIND=1          madvise tells nothing, as that of an old kernel
//   FAULTS_LOG=FILE         a record per call: a line "OP FILE_ID OFFSET LENGTH PATH PATH2" with
//                           tabs between, paths relative to the root; then LENGTH bytes of data
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], fail_op[16], only[64];
static size_t n_root;
static int fail_errno, fail_at, log_fd = -1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void)
{
    const char *r = getenv("FAULTS_ROOT"), *f = getenv("FAULTS_FAIL"), *l = getenv("FAULTS_LOG");
    if (r) n_root = (size_t)snprintf(root, sizeof root, "%s", r);
    if (f && sscanf(f, "%15[^:]:%d:%d", fail_op, &fail_errno, &fail_at) != 3) fail_at = 0;
    if (getenv("FAULTS_ONLY")) snprintf(only, sizeof only, "%s", getenv("FAULTS_ONLY"));
    if (l) log_fd = REAL(open)(l, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

// The path below the root, or NULL: none of ours.
static const char *below(const char *path, char full[PATH_MAX])
{
    char dir[PATH_MAX], real[PATH_MAX];
    if (!n_root) return NULL;
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    const char *base = slash ? slash + 1 : path;
    if (slash) *slash = 0;
    if (!realpath(slash ? (*dir ? dir : "/") : ".", real)) return NULL;
    if (snprintf(full, PATH_MAX, "%s/%s", real, base) >= PATH_MAX) return NULL;
    if (strncmp(full, root, n_root) || (full[n_root] && full[n_root] != '/')) return NULL;
    return full[n_root] ? full + n_root + 1 : ".";
}

static const char *of_fd(int fd, char full[PATH_MAX])
{
    char link_path[32];
    snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link_path, full, PATH_MAX - 1);
    if (n < 0 || !n_root) return NULL;
    full[n] = 0;
    if (strncmp(full, root, n_root) || (full[n_root] && full[n_root] != '/')) return NULL;
    return full[n_root] ? full + n_root + 1 : ".";
}

static unsigned long long inode(int fd)
{
    struct stat st;
    return fstat(fd, &st) < 0 ? 0 : (unsigned long long)st.st_ino;
}

static void put(char op, unsigned long long file, long long offset, const void *data, size_t n,
                const char *a, const char *b)
{
    char head[2 * PATH_MAX + 128];
    if (log_fd < 0) return;
    int k = snprintf(head, sizeof head, "%c\t%llu\t%lld\t%zu\t%s\t%s\n", op, file, offset, n, a, b);
    struct iovec pieces[] = {{head, (size_t)k}, {(void *)data, n}};
    if (REAL(writev)(log_fd, pieces, 2) != (ssize_t)((size_t)k + n)) abort();
}

// With the mutex held: this call is the one that is to fail.
static int fails(const char *op, const char *path)
{
    if (!path || !strstr(path, only) || !fail_at || strcmp(op, fail_op) || --fail_at) return 0;
    errno = fail_errno;
    return 1;
}

static int open_logged(int dir, const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];
    pthread_mutex_lock(&mutex);
    const char *ours = dir == AT_FDCWD && (flags & O_CREAT) ? below(path, full) : NULL;
    int there = ours && access(path, F_OK) == 0, fd = -1;
    if (!fails("open", ours)) fd = REAL(openat)(dir, path, flags, mode);
    if (ours && fd >= 0 && !there) put('C', inode(fd), 0, "", 0, ours, "");
    if (ours && fd >= 0 && there && (flags & O_TRUNC)) put('T', inode(fd), 0, "", 0, ours, "");
    pthread_mutex_unlock(&mutex);
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_logged(AT_FDCWD, path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    char full[PATH_MAX];
    pthread_mutex_lock(&mutex);
    const char *ours = of_fd(fd, full);
    long long at = ours ? (long long)lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t done = fails("write", ours) ? -1 : REAL(write)(fd, bytes, n);
    if (ours && done > 0) put('W', inode(fd), at, bytes, (size_t)done, ours, "");
    pthread_mutex_unlock(&mutex);
    return done;
}

ssize_t pwritev(int fd, const struct iovec *pieces, int n, off_t at)
{
    char full[PATH_MAX];
    pthread_mutex_lock(&mutex);
    const char *ours = of_fd(fd, full);
    ssize_t done = fails("pwritev", ours) ? -1 : REAL(pwritev)(fd, pieces, n, at), left = done;
    for (int i = 0; ours && i < n && left > 0; i++) {
        ssize_t k = (ssize_t)pieces[i].iov_len < left ? (ssize_t)pieces[i].iov_len : left;
        put('W', inode(fd), (long long)at, pieces[i].iov_base, (size_t)k, ours, "");
        at += k;
        left -= k;
    }
    pthread_mutex_unlock(&mutex);
    return done;
}

int madvise(void *at, size_t n, int advice)
{
    if (getenv("FAULTS_BLIND")) {
        errno = EINVAL;
        return -1;
    }
    return REAL(madvise)(at, n, advice);
}

int ftruncate(int fd, off_t size)
{
    char full[PATH_MAX];
    pthread_mutex_lock(&mutex);
    const char *ours = of_fd(fd, full);
    int rc = fails("ftruncate", ours) ? -1 : REAL(ftruncate)(fd, size);
    if (ours && rc == 0) put('T', inode(fd), (long long)size, "", 0, ours, "");
    pthread_mutex_unlock(&mutex);
    return rc;
}

int fsync(int fd)
{
    char full[PATH_MAX];
    pthread_mutex_lock(&mutex);
    const char *ours = of_fd(fd, full);
    struct stat st;
    int is_dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    int rc = fails("fsync", ours) ? -1 : REAL(fsync)(fd);
    if (ours && rc == 0) put(is_dir ? 'D' : 'S', inode(fd), 0, "", 0, ours, "");
    pthread_mutex_unlock(&mutex);
    return rc;
}

// The descriptor is gone even if this fails.
int close(int fd)
{
    char full[PATH_MAX];
    pthread_mutex_lock(&mutex);
    const char *ours = of_fd(fd, full);
    struct stat st;
    int writable = (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY, is_file;
    is_file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    int rc = REAL(close)(fd);
    if (is_file && writable && fails("close", ours)) rc = -1;
    pthread_mutex_unlock(&mutex);
    return rc;
}

static int two_paths(char op, const char *name, const char *from, const char *to,
                     int (*call)(const char *, const char *))
{
    char full_a[PATH_MAX], full_b[PATH_MAX];
    pthread_mutex_lock(&mutex);
    const char *a = below(from, full_a), *b = below(to, full_b);
    int rc = fails(name, b) ? -1 : call(from, to);
    if (a && b && rc == 0) put(op, 0, 0, "", 0, a, b);
    pthread_mutex_unlock(&mutex);
    return rc;
}

int link(const char *from, const char *to)
{
    return two_paths('L', "link", from, to, REAL(link));
}

int rename(const char *from, const char *to)
{
    return two_paths('R', "rename", from, to, REAL(rename));
}

static int one_path(char op, const char *path, int rc, const char *full)
{
    (void)path;
    if (full && rc == 0) put(op, 0, 0, "", 0, full, "");
    return rc;
}

int unlink(const char *path)
{
    char full[PATH_MAX];
    pthread_mutex_lock(&mutex);
    const char *ours = below(path, full);
    int rc = one_path('U', path, REAL(unlink)(path), ours);
    pthread_mutex_unlock(&mutex);
    return rc;
}

int unlinkat(int dir, const char *path, int flags)
{
    char full[PATH_MAX], joined[PATH_MAX];
    pthread_mutex_lock(&mutex);
    const char *folder = of_fd(dir, full);
    int rc = REAL(unlinkat)(dir, path, flags);
    if (folder && snprintf(joined, sizeof joined, "%s/%s", folder, path) < PATH_MAX)
        one_path('U', path, rc, joined);
    pthread_mutex_unlock(&mutex);
    return rc;
}

int rmdir(const char *path)
{
    char full[PATH_MAX];
    pthread_mutex_lock(&mutex);
    const char *ours = below(path, full);
    int rc = one_path('U', path, REAL(rmdir)(path), ours);
    pthread_mutex_unlock(&mutex);
    return rc;
}

int mkdir(const char *path, mode_t mode)
{
    char full[PATH_MAX];
    pthread_mutex_lock(&mutex);
    const char *ours = below(path, full);
    int rc = REAL(mkdir)(path, mode);
    if (ours && rc == 0) put('M', 0, 0, "", 0, ours, "");
    pthread_mutex_unlock(&mutex);
    return rc;
}
