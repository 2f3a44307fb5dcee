#include "shards/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "shards/leftover.h"
#include "shards/unit.h"

int rot_writer_errno(rot_shard_writer *writer, int error_number, const char *what, rot_err *err)
{
    // Some file systems (sshfs, a network disk that writes late) say EIO for a full disk.
    struct statvfs fs;
    if (error_number == EIO && fstatvfs(writer->fd, &fs) == 0 && fs.f_bavail == 0)
        error_number = ENOSPC;
    return rot_err_errno(err, error_number, what, writer->tmp);
}

static int write_pieces(rot_shard_writer *writer, struct iovec *pieces, int n, uint64_t offset,
                        rot_err *err)
{
    while (n > 0) {
        ssize_t done = pwritev(writer->fd, pieces, n, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            writer->failed = writer->spoilt = true;
            return rot_writer_errno(writer, done < 0 ? errno : ENOSPC, "write", err);
        }
        offset += (uint64_t)done;
        for (; n > 0 && (size_t)done >= pieces->iov_len; n--) done -= (ssize_t)pieces++->iov_len;
        if (n > 0) {
            pieces->iov_base = (uint8_t *)pieces->iov_base + done;
            pieces->iov_len -= (size_t)done;
        }
    }
    return 0;
}

int rot_writer_pwrite(rot_shard_writer *writer, const void *bytes, size_t n_bytes, uint64_t offset,
                      rot_err *err)
{
    return write_pieces(writer, &(struct iovec){(void *)bytes, n_bytes}, 1, offset, err);
}

static int write_value(rot_shard_writer *writer, const rot_head *head, const void *stored,
                       rot_err *err)
{
    static const uint8_t zeros[ROT_PAGE];
    rot_ledger *ledger = &writer->ledger;
    uint64_t page = ledger->now.next_page;
    size_t n_pages = rot_value_pages(head->n_stored);
    uint8_t front[ROT_PAGE_HEAD + ROT_HEAD];
    rot_tree_overflow_head(page, (uint32_t)n_pages, front);
    rot_head_write(head, front + ROT_PAGE_HEAD);
    struct iovec pieces[] = {{front, sizeof front},
                             {(void *)stored, head->n_stored},
                             {(void *)zeros, n_pages * ROT_PAGE - sizeof front - head->n_stored}};
    ROT_TRY(
        rot_ledger_add_value(ledger, ledger->first_row + ledger->now.n_rows, head, stored, err));
    return write_pieces(writer, pieces, 3, page * ROT_PAGE, err);
}

// What the packer emits, and what a unit has kept.
static int take_value(void *user, const rot_head *head, const void *stored,
                      const rot_pack_row *rows, uint32_t n_rows, rot_err *err)
{
    rot_shard_writer *writer = user;
    rot_ledger *ledger = &writer->ledger;
    ROT_TRY(write_value(writer, head, stored, err));
    for (uint32_t i = 0; i < n_rows; i++)
        if (rot_ledger_add_row(ledger, rows[i].kind, rows[i].n_bytes, rows[i].hash))
            ledger->committed = ledger->now;
    return 0;
}

static int check_next(const rot_shard_writer *writer, uint64_t row, rot_err *err)
{
    uint64_t next = writer->packer.next_row;
    if (writer->failed) ROT_FAIL(err, ROT_ERR_IO, "%s: a write failed before", writer->tmp);
    if (row != next || row >= writer->ledger.first_row + writer->ledger.n_rows)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: row %llu appended where %llu comes next", writer->path,
                 (unsigned long long)row, (unsigned long long)next);
    return 0;
}

int rot_shard_writer_append(rot_shard_writer *writer, uint64_t row, const rot_record *record,
                            rot_err *err)
{
    ROT_TRY(check_next(writer, row, err));
    ROT_TRY(rot_record_check(record, ROT_ERR_USAGE, err));
    int rc = rot_packer_add(&writer->packer, record, err);
    if (rc < 0) writer->failed = true;
    return rc;
}

static int append_values(rot_shard_writer *writer, const rot_unit *unit, rot_err *err)
{
    const rot_pack_row *rows = unit->rows;
    for (size_t i = 0; i < unit->n_values; i++) {
        const rot_unit_value *value = &unit->values[i];
        ROT_TRY(
            take_value(writer, &value->head, unit->bytes + value->at, rows, value->n_rows, err));
        rows += value->n_rows;
    }
    return 0;
}

int rot_shard_writer_append_unit(rot_shard_writer *writer, const rot_unit *unit, rot_err *err)
{
    ROT_TRY(check_next(writer, unit->first_row, err));
    const rot_stage_spec *a = &writer->spec, *b = &unit->spec;
    if (strcmp(a->stage, b->stage) || a->layout.codec != b->layout.codec ||
        unit->n_rows != rot_unit_rows(a, unit->first_row) || writer->packer.n_open)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: the unit is that of another layout", writer->path);
    if (unit->n_packed != unit->n_rows)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: a unit with %zu of %llu rows", writer->path,
                 unit->n_packed, (unsigned long long)unit->n_rows);
    int rc = append_values(writer, unit, err);
    if (rc < 0) writer->failed = true;
    rot_packer_begin(&writer->packer, unit->first_row + unit->n_rows);
    return rc;
}

/* ---- opening and resuming ----------------------------------------------------------------------
 */

void rot_writer_free(rot_shard_writer **writer)
{
    rot_shard_writer *w = *writer;
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    rot_ledger_free(&w->ledger);
    rot_codecs_free(&w->codecs);
    rot_packer_free(&w->packer);
    rot_spec_release(&w->spec);
    rot_free(w);
    *writer = NULL;
}

void rot_shard_writer_close(rot_shard_writer **writer)
{
    rot_shard_writer *w = *writer;
    if (!w) return;
    // What lies behind the last whole unit would be cut off by the next open too.
    bool spoilt = w->spoilt;
    off_t size = (off_t)(w->ledger.committed.next_page * ROT_PAGE);
    if (w->fd >= 0 && !spoilt && ftruncate(w->fd, size) < 0) spoilt = true;
    // A network file system may tell of a failed write only here.
    if (w->fd >= 0 && close(w->fd) < 0) spoilt = true;
    w->fd = -1;
    // After a failed write the kernel may show bytes that it has not kept: nobody goes on with
    // them.
    if (spoilt) unlink(w->tmp);
    rot_writer_free(writer);
}

static int name_files(rot_shard_writer *w, const char *dir, const char *scratch, const char *owner,
                      rot_err *err)
{
    uint32_t shard = w->ledger.shard;
    if (snprintf(w->dir, sizeof w->dir, "%s", dir) >= (int)sizeof w->dir)
        ROT_FAIL(err, ROT_ERR_USAGE, "%.200s...: the path is too long", dir);
    ROT_TRY(rot_shard_path(w->path, sizeof w->path, dir, shard, err));
    if (scratch) ROT_TRY(rot_shard_tmp_path(w->near, dir, NULL, shard, owner, err));
    return rot_shard_tmp_path(w->tmp, dir, scratch, shard, owner, err);
}

// Starts the file: two pages, empty but for the note. LMDB refuses them until the shard is
// complete.
static int start(rot_shard_writer *w, rot_err *err)
{
    uint8_t front[2 * ROT_PAGE] = {0};
    if (ftruncate(w->fd, 0) < 0) return rot_writer_errno(w, errno, "truncate", err);
    rot_shard_note(&w->spec, w->ledger.shard, front + ROT_NOTE_AT);
    return rot_writer_pwrite(w, front, sizeof front, 0, err);
}

// Keeps the whole commit units of a file of the same spec that pass every check; a kill or a power
// failure may have left anything behind them.
static int resume(rot_shard_writer *w, rot_err *err)
{
    uint8_t note[ROT_NOTE];
    rot_ledger *ledger = &w->ledger;
    rot_map map;
    rot_err cause;
    ROT_TRY(rot_fs_map(w->tmp, &map, err));
    rot_shard_note(&w->spec, ledger->shard, note);
    bool ours = map.n_bytes >= 2 * ROT_PAGE && memcmp(map.bytes + ROT_NOTE_AT, note, ROT_NOTE) == 0;
    int rc = ours ? rot_ledger_scan(ledger, &map, w->codecs, &cause, err) : 0;
    rot_fs_unmap(&map);
    ROT_TRY(rc);
    ledger->now = ledger->committed;
    if (ledger->now.n_rows == 0) return start(w, err);
    if (ftruncate(w->fd, (off_t)(ledger->now.next_page * ROT_PAGE)) < 0)
        return rot_writer_errno(w, errno, "truncate", err);
    uint8_t front[2 * ROT_PAGE] = {0}; // a kill while publishing has left meta pages
    memcpy(front + ROT_NOTE_AT, note, ROT_NOTE);
    return rot_writer_pwrite(w, front, sizeof front, 0, err);
}

static int open_tmp(rot_shard_writer *w, rot_err *err)
{
    struct stat st;
    // A second name means that the file is published under the first: never write to that one.
    if (stat(w->tmp, &st) == 0 && st.st_nlink > 1 && unlink(w->tmp) < 0)
        return rot_err_errno(err, errno, "remove", w->tmp);
    w->fd = open(w->tmp, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (w->fd < 0) return rot_err_errno(err, errno, "create", w->tmp);
    if (fstat(w->fd, &st) < 0) return rot_err_errno(err, errno, "stat", w->tmp);
    return st.st_size > 0 ? resume(w, err) : start(w, err);
}

int rot_shard_writer_open_scratch(const char *dir, const char *scratch, const rot_stage_spec *spec,
                                  uint32_t shard, const char *owner, rot_shard_writer **out,
                                  uint64_t *next_row, rot_err *err)
{
    int rc = 0;
    *out = NULL;
    ROT_TRY(rot_spec_check(spec, err));
    if (shard >= rot_shard_count(spec))
        ROT_FAIL(err, ROT_ERR_USAGE, "shard %u of a stage of %llu rows", shard,
                 (unsigned long long)spec->rows);
    rot_shard_writer *w = rot_calloc(1, sizeof *w);
    if (!w) return rot_no_memory(err, sizeof *w, "writer");
    w->fd = -1;
    w->ledger.shard = shard;
    ROT_GO(name_files(w, dir, scratch, owner, err));
    ROT_GO(rot_fs_mkdirs(dir, err));
    if (scratch) ROT_GO(rot_fs_mkdirs(scratch, err));
    if (rot_fs_is_file(w->path)) {
        unlink(w->tmp); // of a build that was killed right after publishing
        ROT_FAIL_GO(err, ROT_ERR_NOT_FOUND, "%s is published already", w->path);
    }
    ROT_GO(rot_spec_copy(spec, &w->spec, err));
    ROT_GO(rot_ledger_init(&w->ledger, &w->spec, shard, err));
    ROT_GO(rot_codecs_new(&w->codecs, err));
    ROT_GO(open_tmp(w, err));
    w->packer = (rot_packer){.spec = &w->spec, .codecs = w->codecs, .emit = take_value, .user = w};
    *next_row = w->ledger.first_row + w->ledger.now.n_rows;
    rot_packer_begin(&w->packer, *next_row);
    *out = w;
    w = NULL;
done:
    if (w && w->spoilt)
        rot_shard_writer_close(&w);
    else
        rot_writer_free(&w);
    return rc;
}

int rot_shard_writer_open(const char *dir, const rot_stage_spec *spec, uint32_t shard,
                          const char *owner, rot_shard_writer **out, uint64_t *next_row,
                          rot_err *err)
{
    return rot_shard_writer_open_scratch(dir, NULL, spec, shard, owner, out, next_row, err);
}
