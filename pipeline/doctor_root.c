#include "pipeline/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/fs.h"

#define LUSTRE_SUPER_MAGIC_ 0x0BD00BD0
#define GPFS_SUPER_MAGIC_ 0x47504653
#define BEEGFS_SUPER_MAGIC_ 0x19830326
#define CEPH_SUPER_MAGIC_ 0x00c36400
#define ZFS_SUPER_MAGIC_ 0x2fc12fc1
#define XFS_SUPER_MAGIC_ 0x58465342
#define CIFS_SUPER_MAGIC_ 0xFF534D42

static const struct {
    unsigned magic;
    const char *name;
    bool network;
} file_systems[] = {
    {EXT4_SUPER_MAGIC, "ext2/3/4", false}, {XFS_SUPER_MAGIC_, "xfs", false},
    {BTRFS_SUPER_MAGIC, "btrfs", false},   {ZFS_SUPER_MAGIC_, "zfs", false},
    {TMPFS_MAGIC, "tmpfs", false},         {OVERLAYFS_SUPER_MAGIC, "overlayfs", false},
    {F2FS_SUPER_MAGIC, "f2fs", false},     {RAMFS_MAGIC, "ramfs", false},
    {NFS_SUPER_MAGIC, "nfs", true},        {CIFS_SUPER_MAGIC_, "cifs", true},
    {SMB2_SUPER_MAGIC, "smb2", true},      {LUSTRE_SUPER_MAGIC_, "lustre", true},
    {GPFS_SUPER_MAGIC_, "gpfs", true},     {BEEGFS_SUPER_MAGIC_, "beegfs", true},
    {CEPH_SUPER_MAGIC_, "ceph", true},     {V9FS_MAGIC, "9p", true},
    {FUSE_SUPER_MAGIC, "fuse", true},      {AFS_SUPER_MAGIC, "afs", true},
};

static json_t *describe(const struct statfs *fs, bool *network)
{
    char magic[32];
    const char *name = NULL;
    *network = false;
    for (size_t i = 0; i < sizeof file_systems / sizeof *file_systems && !name; i++)
        if (file_systems[i].magic == (unsigned)fs->f_type) {
            name = file_systems[i].name;
            *network = file_systems[i].network;
        }
    snprintf(magic, sizeof magic, "unknown (0x%lx)", (unsigned long)fs->f_type);
    return json_pack("{s:s, s:b, s:I, s:I}", "type", name ? name : magic, "network", (int)*network,
                     "free_bytes", (json_int_t)fs->f_bavail * (json_int_t)fs->f_bsize,
                     "free_inodes", (json_int_t)fs->f_ffree);
}

// The folder itself, or the nearest one above it that is there.
static void nearest(const char *root, char *out, size_t capacity)
{
    char above[PATH_MAX];
    snprintf(out, capacity, "%s", root);
    while (!rot_fs_is_dir(out) && strcmp(out, "/") && strcmp(out, ".")) {
        rot_fs_dirname(out, above, sizeof above);
        if (!strcmp(above, out)) return;
        snprintf(out, capacity, "%s", above);
    }
}

typedef struct probe {
    char file[PATH_MAX], linked[PATH_MAX];
    bool writable, link, sync_dir, lock, map;
    int error; // errno of the first step that failed
    const char *step;
} probe;

static bool step(probe *p, const char *name, bool ok)
{
    if (!ok && !p->step) {
        p->error = errno;
        p->step = name;
    }
    return ok;
}

static bool can_map(int fd)
{
    void *map = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
    bool ok = map != MAP_FAILED && *(const char *)map == 'r';
    if (map != MAP_FAILED) munmap(map, 1);
    return ok;
}

// Does in small what publishing a shard does: write, sync, link, sync the folder, lock, map.
static void try_folder(const char *dir, probe *p)
{
    int n = snprintf(p->file, sizeof p->file, "%s/.rotoscope-doctor-%d", dir, (int)getpid());
    int m = snprintf(p->linked, sizeof p->linked, "%s/.rotoscope-doctor-%d.2", dir, (int)getpid());
    if (n >= (int)sizeof p->file || m >= (int)sizeof p->linked) {
        errno = ENAMETOOLONG;
        step(p, "open", false);
        return;
    }
    int fd = open(p->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (!step(p, "open", fd >= 0)) return;
    p->writable = step(p, "write", write(fd, "r", 1) == 1 && fsync(fd) == 0);
    p->map = p->writable && step(p, "mmap", can_map(fd));
    p->lock = step(p, "flock", flock(fd, LOCK_EX | LOCK_NB) == 0);
    p->link = step(p, "link", link(p->file, p->linked) == 0);
    int folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    p->sync_dir = step(p, "fsync of the folder", folder >= 0 && fsync(folder) == 0);
    if (folder >= 0) close(folder);
    close(fd);
    if (p->link) unlink(p->linked);
    unlink(p->file);
}

static void judge(const char *dir, const probe *p, const struct statfs *fs, bool network,
                  json_t *verdicts)
{
    bool ok = p->writable && p->link && p->sync_dir && p->lock && p->map;
    double free_gb = (double)fs->f_bavail * (double)fs->f_bsize / 1e9;
    if (ok)
        rot_doctor_say(verdicts, "root", 1, "%s takes shards: write, sync, link, lock and map work",
                       dir);
    else
        rot_doctor_say(verdicts, "root", 0, "%s cannot hold a root: %s failed: %s", dir,
                       p->step ? p->step : "a step", strerror(p->error));
    rot_doctor_say(verdicts, "space", free_gb >= 1, "%.1f GB free%s", free_gb,
                   free_gb >= 1 ? "" : ": a build of a few thousand samples needs more");
    if (network)
        rot_doctor_say(
            verdicts, "file system", 1,
            "a network file system: ranks can share the root; locks may be local to a host");
}

json_t *rot_doctor_root(const char *root, json_t *verdicts)
{
    char dir[PATH_MAX];
    struct statfs fs;
    bool network;
    probe p = {0};
    if (rot_fs_is_file(root))
        rot_doctor_say(verdicts, "root", 0, "%s is a file, not a folder", root);
    nearest(root, dir, sizeof dir);
    if (statfs(dir, &fs) != 0) {
        rot_doctor_say(verdicts, "root", 0, "%s: %s", dir, strerror(errno));
        return json_pack("{s:o, s:o}", "path", rot_doctor_text(root), "looked_at",
                         rot_doctor_text(dir));
    }
    json_t *out = describe(&fs, &network);
    try_folder(dir, &p);
    json_t *can = json_pack("{s:o, s:o, s:b, s:b, s:b, s:b, s:b, s:b}", "path",
                            rot_doctor_text(root), "looked_at", rot_doctor_text(dir), "exists",
                            rot_fs_is_dir(root), "writable", (int)p.writable, "link", (int)p.link,
                            "sync_folder", (int)p.sync_dir, "lock", (int)p.lock, "map", (int)p.map);
    if (out && can) json_object_update(out, can);
    json_decref(can);
    judge(dir, &p, &fs, network, verdicts);
    return out;
}
