// See pack_cache.h.
#include "encoder/pack_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

typedef struct header {
    char magic[8];
    uint8_t hash[16];
    uint8_t key[32];
    uint64_t n, n_bytes;
    uint8_t zeros[56];
} header;

enum { HASHED_FROM = 24, ALIGN = 64 };
static const char magic[8] = "ROTPACK";
_Static_assert(sizeof(header) == 128 && sizeof(rot_pack_entry) == 64, "they are the file's bytes");
_Static_assert(offsetof(header, key) == HASHED_FROM, "the hash covers what follows it");

__attribute__((format(printf, 2, 3))) static void note(const rot_pack_cache *cache,
                                                       const char *format, ...)
{
    char text[sizeof((rot_err *)0)->message + 128];
    if (!cache->notes.note) return;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cache->notes.note(cache->notes.user, text);
}

static uint64_t padded(uint64_t n_bytes)
{
    return (n_bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static void make_key(rot_pack_cache *cache, const char *weights_sha256)
{
    rot_cpu cpu = {0};
    char text[512];
    (void)rot_cpu_detect(&cpu, NULL); // the backend has asked it
    int n =
        snprintf(text, sizeof text, "packed %d\n%s\n%s\n%d\n%s", ROT_PACKED_VERSION, weights_sha256,
                 cache->backend->identity, (int)cache->backend->precision, cpu.name);
    rot_sha256_bytes(text, (size_t)n, cache->key);
}

// Why the header or the table is not to be trusted, or NULL.
static const char *check_table(const rot_pack_cache *cache, const rot_map *map)
{
    const header *h = (const header *)map->bytes;
    uint8_t hash[16];
    if (map->n_bytes < sizeof *h) return "it is shorter than its header";
    if (memcmp(h->magic, magic, sizeof magic)) return "it is no file of packed weights";
    if (h->n > (map->n_bytes - sizeof *h) / sizeof(rot_pack_entry) || h->n_bytes != map->n_bytes)
        return "its size is not what its header says";
    size_t end = sizeof *h + (size_t)h->n * sizeof(rot_pack_entry);
    rot_xxh128_bytes(map->bytes + HASHED_FROM, end - HASHED_FROM, hash);
    if (memcmp(h->hash, hash, sizeof hash)) return "the checksum of its table is wrong";
    if (memcmp(h->key, cache->key, sizeof h->key))
        return "it is of other weights or another machine";
    const rot_pack_entry *entries = (const rot_pack_entry *)(h + 1);
    size_t left = map->n_bytes - end;
    for (uint64_t i = 0; i < h->n; i++) {
        if (entries[i].n_bytes > left || padded(entries[i].n_bytes) > left)
            return "a weight ends behind the file's end";
        left -= (size_t)padded(entries[i].n_bytes);
    }
    return left ? "bytes follow its last weight" : NULL;
}

// The first weight whose checksum is wrong, or n. Threads check runs of weights of about the same
// bytes: reading them is what a warm start costs.
static uint64_t check_weights(const rot_pack_cache *cache, const rot_map *map)
{
    const header *h = (const header *)map->bytes;
    const rot_pack_entry *entries = (const rot_pack_entry *)(h + 1);
    uint64_t n = h->n, bad = n;
    size_t start = sizeof *h + (size_t)n * sizeof *entries, all = map->n_bytes - start;
    int threads = cache->backend->threads;
#pragma omp parallel for schedule(static, 1) num_threads(threads) reduction(min : bad)
    for (int t = 0; t < threads; t++) {
        size_t from = all / (size_t)threads * (size_t)t, at = 0;
        size_t to = t + 1 < threads ? all / (size_t)threads * (size_t)(t + 1) : all + 1;
        for (uint64_t i = 0; i < n; i++) {
            size_t n_bytes = (size_t)padded(entries[i].n_bytes);
            uint8_t hash[16];
            if (at >= from && at < to) {
                rot_xxh128_bytes(map->bytes + start + at, n_bytes, hash);
                if (memcmp(hash, entries[i].hash, sizeof hash) && i < bad) bad = i;
            }
            at += n_bytes;
        }
    }
    return bad;
}

static void map_file(rot_pack_cache *cache)
{
    rot_map map;
    rot_err err = {0};
    int rc = rot_fs_map(cache->path, &map, &err);
    if (rc < 0) { // not there yet, or a reason that writing will meet too
        if (access(cache->path, F_OK) == 0) note(cache, "%s: the weights are packed", err.message);
        return;
    }
    const char *why = check_table(cache, &map);
    uint64_t n = why ? 0 : ((const header *)map.bytes)->n,
             bad = why ? 0 : check_weights(cache, &map);
    if (why)
        note(cache, "%s: %s: the weights are packed again", cache->path, why);
    else if (bad < n)
        note(cache, "%s: the checksum of weight %llu is wrong: the weights are packed again",
             cache->path, (unsigned long long)bad);
    if (why || bad < n) {
        rot_fs_unmap(&map);
        return;
    }
    cache->map = map;
    cache->n = n;
    cache->entries = (const rot_pack_entry *)(map.bytes + sizeof(header));
    cache->bytes = (const uint8_t *)(cache->entries + n);
}

// What killed writers left. A living one holds a lock on its file.
static void remove_leftovers(const char *dir)
{
    DIR *folder = opendir(dir);
    if (!folder) return;
    for (struct dirent *e; (e = readdir(folder));) {
        if (!strstr(e->d_name, ".packed.tmp.")) continue;
        int fd = openat(dirfd(folder), e->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0) continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(dirfd(folder), e->d_name, 0);
        close(fd);
    }
    closedir(folder);
}

void rot_pack_cache_open(rot_pack_cache *cache, const char *dir, const char *weights_sha256,
                         const rot_backend *backend, rot_pack_notes notes)
{
    char name[80];
    rot_err err = {0};
    *cache = (rot_pack_cache){.backend = backend, .notes = notes};
    if (!dir || !backend->ops->linear_packed) return;
    make_key(cache, weights_sha256);
    rot_hex(cache->key, sizeof cache->key, name);
    memcpy(name + 2 * sizeof cache->key, ".packed", sizeof ".packed");
    if (rot_fs_join(cache->dir, sizeof cache->dir, dir, "", &err) < 0 ||
        rot_fs_join(cache->path, sizeof cache->path, dir, name, &err) < 0) {
        note(cache, "%s: no packed weights are kept", err.message);
        cache->path[0] = 0;
        return;
    }
    remove_leftovers(cache->dir);
    map_file(cache);
}

bool rot_pack_cache_take(rot_pack_cache *cache, size_t n_in, size_t n_out, rot_epilogue epilogue,
                         rot_packed *out)
{
    if (!cache->entries) return false;
    const rot_pack_entry *e = &cache->entries[cache->next];
    if (cache->next == cache->n || e->n_in != n_in || e->n_out != n_out ||
        e->epilogue != (uint64_t)epilogue) {
        rot_pack_cache_distrust(cache, "its weights are not the tower's");
        return false;
    }
    *out = (rot_packed){.bytes = cache->bytes, .n_bytes = (size_t)e->n_bytes};
    memcpy(out->layout, e->layout, sizeof out->layout);
    cache->bytes += (size_t)padded(e->n_bytes);
    cache->next++;
    return true;
}

void rot_pack_cache_distrust(rot_pack_cache *cache, const char *why)
{
    note(cache, "%s: %s: the weights are packed again", cache->path, why);
    cache->entries = NULL;
}

int rot_pack_cache_made(rot_pack_cache *cache, const rot_linear *linear, size_t n_in, size_t n_out,
                        rot_epilogue epilogue, rot_err *err)
{
    if (!cache->path[0]) return 0;
    ROT_TRY(
        rot_grow(&cache->made, &cache->made_capacity, cache->n_made + 1, sizeof *cache->made, err));
    cache->made[cache->n_made++] = (struct rot_pack_made){
        linear, {.n_in = n_in, .n_out = n_out, .epilogue = (uint64_t)epilogue}};
    return 0;
}

static int write_all(int fd, const void *bytes, size_t n_bytes, const char *path, rot_err *err)
{
    for (size_t done = 0; done < n_bytes;) {
        ssize_t n = write(fd, (const char *)bytes + done, n_bytes - done);
        if (n < 0 && errno != EINTR) return rot_err_errno(err, errno, "write", path);
        if (n > 0) done += (size_t)n;
    }
    return 0;
}

// Sizes and checksums of what was made, and the header over them.
static void describe(rot_pack_cache *cache, header *h, rot_pack_entry *table)
{
    static const uint8_t zeros[ALIGN];
    const rot_backend *b = cache->backend;
    size_t n = cache->n_made;
    *h = (header){.n = n, .n_bytes = sizeof *h + n * sizeof *table};
    memcpy(h->magic, magic, sizeof magic);
    memcpy(h->key, cache->key, sizeof h->key);
#pragma omp parallel for schedule(dynamic, 1) num_threads(b->threads)
    for (size_t i = 0; i < n; i++) {
        rot_packed packed;
        b->ops->linear_packed(b, cache->made[i].linear, &packed);
        table[i] = cache->made[i].entry;
        table[i].n_bytes = packed.n_bytes;
        memcpy(table[i].layout, packed.layout, sizeof packed.layout);
        rot_xxh128_two(packed.bytes, packed.n_bytes, zeros,
                       (size_t)padded(packed.n_bytes) - packed.n_bytes, table[i].hash);
    }
    for (size_t i = 0; i < n; i++) h->n_bytes += padded(table[i].n_bytes);
    rot_xxh128_two((const uint8_t *)h + HASHED_FROM, sizeof *h - HASHED_FROM, table,
                   n * sizeof *table, h->hash);
}

static int write_file(rot_pack_cache *cache, int fd, const char *path, rot_err *err)
{
    static const uint8_t zeros[ALIGN];
    const rot_backend *b = cache->backend;
    header h;
    int rc = 0;
    rot_pack_entry *table = rot_calloc(cache->n_made + 1, sizeof *table);
    if (!table) return rot_no_memory(err, cache->n_made * sizeof *table, "packed weights");
    describe(cache, &h, table);
    ROT_GO(write_all(fd, &h, sizeof h, path, err));
    ROT_GO(write_all(fd, table, cache->n_made * sizeof *table, path, err));
    for (size_t i = 0; i < cache->n_made; i++) {
        rot_packed packed;
        b->ops->linear_packed(b, cache->made[i].linear, &packed);
        ROT_GO(write_all(fd, packed.bytes, packed.n_bytes, path, err));
        ROT_GO(write_all(fd, zeros, (size_t)padded(packed.n_bytes) - packed.n_bytes, path, err));
    }
    if (fsync(fd) < 0) ROT_GO(rot_err_errno(err, errno, "sync", path));
done:
    rot_free(table);
    return rc;
}

// Beside it, synced, renamed over it: two processes that write at once write the same bytes, and
// who has the old file mapped keeps it.
static int replace(rot_pack_cache *cache, rot_err *err)
{
    char tmp[sizeof cache->path];
    ROT_TRY(rot_fs_mkdirs(cache->dir, err));
    ROT_TRY(rot_fs_tmp_name(cache->path, tmp, sizeof tmp, err));
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return rot_err_errno(err, errno, "create", tmp);
    // Where locks are not to be had, nobody gets one to remove it either.
    (void)flock(fd, LOCK_EX);
    int rc = write_file(cache, fd, tmp, err);
    if (close(fd) < 0 && rc == 0) rc = rot_err_errno(err, errno, "close", tmp);
    if (rc == 0 && rename(tmp, cache->path) < 0)
        rc = rot_err_errno(err, errno, "rename to", cache->path);
    if (rc < 0) {
        unlink(tmp);
        return rc;
    }
    return rot_fs_sync_dir(cache->dir, err);
}

void rot_pack_cache_write(rot_pack_cache *cache)
{
    rot_err err = {0};
    if (!cache->path[0]) return;
    if (cache->entries && cache->next == cache->n) return;
    if (cache->entries) rot_pack_cache_distrust(cache, "it has more weights than the tower");
    if (replace(cache, &err) < 0) note(cache, "packed weights are not kept: %s", err.message);
}

void rot_pack_cache_close(rot_pack_cache *cache)
{
    rot_free(cache->made);
    cache->made = NULL;
    cache->n_made = cache->made_capacity = 0;
    rot_fs_unmap(&cache->map);
}
