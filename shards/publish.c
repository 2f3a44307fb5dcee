// Ending a shard: trailer, tree, meta pages, sync, link(2) under the final name.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "shards/leftover.h"
#include "shards/shard.h"
#include "shards/writer.h"

static int complete(rot_shard_writer *w, rot_err *err)
{
    uint8_t meta[2 * ROT_PAGE], *tail = NULL;
    size_t n_tail = 0;
    ROT_TRY(rot_ledger_finish(&w->ledger, meta, &tail, &n_tail, NULL, err));
    uint64_t at = w->ledger.now.next_page * ROT_PAGE;
    int rc = rot_writer_pwrite(w, tail, n_tail, at, err);
    rot_free(tail);
    ROT_TRY(rc);
    ROT_TRY(rot_writer_pwrite(w, meta, sizeof meta, 0, err));
    if (ftruncate(w->fd, (off_t)(at + n_tail)) < 0)
        rc = rot_writer_errno(w, errno, "truncate", err);
    if (rc == 0 && fsync(w->fd) < 0) rc = rot_writer_errno(w, errno, "sync", err);
    int fd = w->fd;
    w->fd = -1;
    // A network file system may tell of a failed write only here.
    if (close(fd) < 0 && rc == 0) rc = rot_err_errno(err, errno, "close", w->tmp);
    w->spoilt = rc < 0;
    return rc;
}

// Another rank was first. Content is deterministic, so its shard must be ours.
static int check_winner(const rot_shard_writer *w, rot_err *err)
{
    rot_shard shard;
    rot_trailer trailer;
    ROT_TRY(rot_shard_open(w->path, &w->spec, w->ledger.shard, &shard, err));
    int rc = rot_shard_trailer(&shard, &w->spec, w->ledger.shard, &trailer, err);
    if (rc < 0) rot_err_prefix(err, "%s: ", w->path);
    // The seals of compressed values may differ between versions of zstd; the records may not.
    else if (memcmp(trailer.hashes, w->ledger.hashes, 16 * w->ledger.n_rows) != 0)
        rc = rot_err_set(err, ROT_ERR_CORRUPT, "%s was published before, with other records",
                         w->path);
    rot_shard_close(&shard);
    return rc;
}

// Like link(2) sets errno. File systems without hard links rename, and never over another's shard.
static int take_name(const char *tmp, const char *path)
{
    if (link(tmp, path) == 0) return 0;
    // Another rank finished the stage and swept this one away: what counts is whose name it is.
    if (errno == ENOENT && rot_fs_is_file(path)) errno = EEXIST;
    if (errno != EPERM && errno != ENOTSUP && errno != ENOSYS) return -1;
    return renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE);
}

// From scratch into the root. Nothing stays there of a copy that failed.
static int bring_near(const rot_shard_writer *w, rot_err *err)
{
    return w->near[0] && !rot_fs_is_file(w->path) ? rot_shard_copy(w->tmp, w->near, err) : 0;
}

static int publish(rot_shard_writer *w, rot_err *err)
{
    char parent[PATH_MAX];
    int rc = 0;
    if (w->failed) ROT_FAIL(err, ROT_ERR_IO, "%s: a write failed before", w->tmp);
    ROT_TRY(rot_packer_flush(&w->packer, err));
    if (w->ledger.now.n_rows != w->ledger.n_rows)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: published with %zu of %llu rows", w->path,
                 w->ledger.now.n_rows, (unsigned long long)w->ledger.n_rows);
    ROT_TRY(complete(w, err));
    w->spoilt = w->near[0]; // until it is published: nobody looks for it on scratch
    ROT_TRY(bring_near(w, err));
    if (take_name(w->near[0] ? w->near : w->tmp, w->path) < 0) {
        int error = errno;
        if (error == EEXIST)
            rc = check_winner(w, err);
        else
            rc = rot_err_errno(err, error, "publish as", w->path);
    }
    if (w->near[0]) unlink(w->near);
    ROT_TRY(rc);
    ROT_TRY(rot_fs_sync_dir(w->dir, err));
    rot_fs_dirname(w->dir, parent, sizeof parent);
    ROT_TRY(rot_fs_sync_dir(parent, err));
    if (unlink(w->tmp) < 0 && errno != ENOENT) return rot_err_errno(err, errno, "remove", w->tmp);
    return 0;
}

int rot_shard_writer_publish(rot_shard_writer **writer, rot_err *err)
{
    int rc = publish(*writer, err);
    if (rc < 0) rot_shard_writer_close(writer); // which throws a spoilt .tmp away
    rot_writer_free(writer);
    return rc;
}
