// Files and folders: whole reads, atomic writes, locks.
#ifndef ROT_BASE_FS_H
#define ROT_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rotoscope/error.h"

// The whole file, with a NUL behind it; the caller frees *bytes. ROT_ERR_MISSING: no such file.
int rot_fs_read(const char *path, char **bytes, size_t *n_bytes, rot_err *err);
void rot_fs_host(char out[72]); // this host's name, without slashes
// HOST-PID-RANDOM: part of the names of files that no other process writes. Pids are few, and
// containers may share a host's name, hence the random part.
void rot_fs_unique(char out[112]);
// Writes path.tmp.UNIQUE beside it, syncs, renames over `path`, syncs the folder: old or new, never
// half.
int rot_fs_write_atomic(const char *path, const void *bytes, size_t n_bytes, rot_err *err);
// path.tmp.UNIQUE: another name with every call.
int rot_fs_tmp_name(const char *path, char *out, size_t capacity, rot_err *err);
int rot_fs_mkdirs(const char *path, rot_err *err); // like mkdir -p
int rot_fs_sync_dir(const char *path, rot_err *err);
// Copies from/name, if it is there, to to/name, whole and synced.
int rot_fs_copy(const char *from, const char *to, const char *name, rot_err *err);
// Removes `name` within the folder open at `at` (or AT_FDCWD) and all in it, as far as it can.
void rot_fs_remove_tree(int at, const char *name);
bool rot_fs_is_file(const char *path);
bool rot_fs_is_dir(const char *path);
// "dir/name" into the caller's buffer; ROT_ERR_USAGE if it does not fit.
int rot_fs_join(char *out, size_t capacity, const char *dir, const char *name, rot_err *err);
// Everything before the last slash, "." if there is none, "/" for "/x".
void rot_fs_dirname(const char *path, char *out, size_t capacity);

// Exclusive lock on `path` (created); *fd is kept open as long as the lock is held. The kernel lets
// go when the process ends, however it ends. ROT_ERR_LOCKED: another process has it.
int rot_fs_lock(const char *path, int *fd, rot_err *err);
// The same, held by any number of processes at once; it and the exclusive one exclude each other.
int rot_fs_lock_shared(const char *path, int *fd, rot_err *err);

// A file mapped for reading. An empty file gives size 0 and no map.
typedef struct rot_map {
    const unsigned char *bytes;
    size_t n_bytes;
} rot_map;
int rot_fs_map(const char *path, rot_map *out, rot_err *err);
// Whether the file still has the bytes that are mapped: reading behind the end of one that was cut
// is SIGBUS. Where the kernel does not tell (before Linux 5.14), it has.
bool rot_fs_map_is_whole(const rot_map *map);
void rot_fs_unmap(rot_map *map);

#endif
