// Checks everything against everything: each record against its hash, the file against the file
// that its records call for, trailers against stage.json, the root against the records.
#include "shards/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "shards/ledger.h"
#include "shards/seal.h"
#include "shards/stage.h"

void rot_verifier_say(rot_verifier *verifier, const char *path, uint64_t row, const char *format,
                      ...)
{
    char cause[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(cause, sizeof cause, format, args);
    va_end(args);
    verifier->summary.bad++;
    if (verifier->report) verifier->report(verifier->user, path, row, cause);
}

// A fault to report, or a failure (memory, input and output) to return.
static bool is_fault(int rc)
{
    return rc == ROT_ERR_CORRUPT || rc == ROT_ERR_FORMAT || rc == ROT_ERR_MISSING;
}

typedef struct shard_check {
    rot_verifier *v;
    rot_stage *stage;
    rot_shard *shard;
    uint32_t number;
    char path[PATH_MAX];
    rot_ledger ledger;
} shard_check;

// Offset of the first difference, or n.
static size_t differs_at(const uint8_t *a, const uint8_t *b, size_t n)
{
    if (memcmp(a, b, n) == 0) return n;
    size_t i = 0;
    while (a[i] == b[i]) i++;
    return i;
}

// The whole file against the one that the records in it call for. *fault: what differs, or "".
static int check_file(shard_check *c, char *fault, size_t capacity, rot_err *err)
{
    rot_err cause = {0};
    uint8_t meta[2 * ROT_PAGE], *tail = NULL, trailer_hash[16];
    size_t n_tail = 0;
    const rot_map *map = &c->shard->map;
    ROT_TRY(rot_ledger_scan(&c->ledger, map, c->stage->codecs, &cause, err));
    snprintf(fault, capacity, "%s", cause.message);
    if (cause.code) return 0;
    ROT_TRY(rot_ledger_finish(&c->ledger, meta, &tail, &n_tail, trailer_hash, err));
    size_t at = c->ledger.now.next_page * ROT_PAGE,
           n_trailer =
               ROT_PAGE * rot_value_pages((uint32_t)(ROT_TRAILER_HEAD + 16 * c->ledger.n_rows));
    size_t d = differs_at(map->bytes, meta, sizeof meta);
    if (d < sizeof meta) {
        snprintf(fault, capacity, "damaged meta page (byte %zu)", d);
    } else if (map->n_bytes != at + n_tail) {
        snprintf(fault, capacity, "the file has %zu bytes instead of %zu", map->n_bytes,
                 at + n_tail);
    } else if ((d = differs_at(map->bytes + at, tail, n_tail)) < n_tail) {
        snprintf(fault, capacity, "the %s does not fit the records (byte %zu)",
                 d < n_trailer ? "trailer" : "tree", at + d);
    } else if (memcmp(trailer_hash, c->stage->shards[c->number].trailer_hash, 16) != 0) {
        snprintf(fault, capacity, "the trailer is not the one that stage.json names");
    }
    rot_free(tail);
    return 0;
}

// Names the rows that cannot be read.
static int name_rows(shard_check *c, const char *fault, rot_err *err)
{
    rot_err cause = {0};
    rot_trailer trailer;
    uint64_t before = c->v->summary.bad;
    int rc = rot_shard_trailer(c->shard, &c->stage->spec, c->number, &trailer, &cause);
    if (rc < 0) rot_verifier_say(c->v, c->path, UINT64_MAX, "%s", cause.message);
    for (uint64_t i = 0; i < c->shard->n_rows; i++) {
        rot_record record;
        uint64_t row = c->shard->first_row + i;
        rc = rot_stage_find(c->stage, c->shard, row, &record, &cause);
        if (rc < 0 && !is_fault(rc)) return rot_err_set(err, rc, "%s: %s", c->path, cause.message);
        if (rc < 0) rot_verifier_say(c->v, c->path, row, "%s", cause.message);
    }
    if (c->v->summary.bad == before) rot_verifier_say(c->v, c->path, UINT64_MAX, "%s", fault);
    return 0;
}

typedef struct stage_totals {
    rot_sha256 *root;
    uint64_t skipped, payload_bytes, file_bytes;
} stage_totals;

static int verify_shard(rot_verifier *v, rot_stage *stage, uint32_t number, stage_totals *totals,
                        rot_err *err)
{
    shard_check c = {.v = v, .stage = stage, .number = number};
    char fault[1024] = "";
    rot_err cause = {0};
    ROT_TRY(rot_shard_path(c.path, sizeof c.path, stage->dir, number, err));
    int rc = rot_stage_open_shard(stage, number, &c.shard, &cause);
    if (rc < 0) {
        if (!is_fault(rc)) return rot_err_set(err, rc, "%s", cause.message);
        size_t n = strlen(c.path);
        bool named =
            strncmp(cause.message, c.path, n) == 0 && strncmp(cause.message + n, ": ", 2) == 0;
        rot_verifier_say(v, c.path, UINT64_MAX, "%s", cause.message + (named ? n + 2 : 0));
        return 0;
    }
    ROT_GO(rot_ledger_init(&c.ledger, &stage->spec, number, err));
    ROT_GO(check_file(&c, fault, sizeof fault, err));
    v->summary.records += c.shard->n_rows;
    if (fault[0]) ROT_GO(name_rows(&c, fault, err));
    for (uint64_t i = 0; i < c.ledger.n_rows; i++) {
        rot_sha256_u64(totals->root, c.ledger.first_row + i);
        rot_sha256_add(totals->root, c.ledger.hashes + 16 * i, 16);
    }
    totals->skipped += c.ledger.now.skipped;
    totals->payload_bytes += c.ledger.now.payload_bytes;
    totals->file_bytes += c.shard->map.n_bytes;
done:
    rot_ledger_free(&c.ledger);
    stage->members = NULL; // the block that was read last may lie in this map
    rot_shard_close(&stage->shards[number].open);
    stage->shards[number].is_open = false;
    return rc;
}

static int verify_shards(rot_verifier *v, rot_stage *stage, const char *json, rot_err *err)
{
    int rc = 0;
    uint8_t root[32];
    uint64_t before = v->summary.bad;
    stage_totals totals = {.root = rot_sha256_new()};
    if (!totals.root) return rot_no_memory(err, 0, "SHA-256");
    for (uint32_t i = 0; i < stage->n_shards; i++) ROT_GO(verify_shard(v, stage, i, &totals, err));
    rot_sha256_end(totals.root, root);
    totals.root = NULL;
    if (v->summary.bad != before) return 0; // the totals are wrong for a reason that was named
    if (memcmp(root, stage->root, 32) != 0)
        rot_verifier_say(v, json, UINT64_MAX, "the root does not fit the records");
    if (totals.skipped != stage->info.skipped ||
        totals.payload_bytes != stage->info.payload_bytes ||
        totals.file_bytes != stage->info.file_bytes)
        rot_verifier_say(v, json, UINT64_MAX, "the counts do not fit the shards");
done:
    rot_sha256_end(totals.root, NULL);
    return rc;
}

static int seen_before(rot_verifier *v, const char *dir, bool *seen, rot_err *err)
{
    struct stat st;
    *seen = false;
    if (stat(dir, &st) < 0) return 0;
    for (size_t i = 0; i < v->n_seen; i++)
        if (v->seen[i].device == st.st_dev && v->seen[i].inode == st.st_ino) *seen = true;
    if (*seen) return 0;
    ROT_TRY(rot_grow(&v->seen, &v->capacity, v->n_seen + 1, sizeof *v->seen, err));
    v->seen[v->n_seen++] = (struct rot_verified){st.st_dev, st.st_ino};
    return 0;
}

// plan.json tells in words what stage.json says; a flipped byte in it is a fault all the same.
static int check_note(rot_verifier *v, const char *dir, rot_err *err)
{
    char path[PATH_MAX];
    json_t *json = NULL;
    bool sealed = false;
    rot_err cause = {0};
    ROT_TRY(rot_fs_join(path, sizeof path, dir, "plan.json", err));
    if (!rot_fs_is_file(path)) return 0;
    int rc = rot_seal_read(path, &json, &sealed, &cause);
    json_decref(json);
    if (rc < 0 && !is_fault(rc)) return rot_err_set(err, rc, "%s", cause.message);
    if (rc < 0 || !sealed)
        rot_verifier_say(v, path, UINT64_MAX, "%s", rc < 0 ? cause.message : "it has no seal");
    return 0;
}

int rot_verifier_stage(rot_verifier *v, const char *dir, rot_err *err)
{
    char json[PATH_MAX];
    bool seen;
    rot_stage *stage = NULL;
    rot_err cause = {0};
    ROT_TRY(rot_fs_join(json, sizeof json, dir, "stage.json", err));
    ROT_TRY(seen_before(v, dir, &seen, err));
    if (seen) return 0;
    int rc = rot_stage_open(dir, &stage, &cause);
    if (rc == ROT_ERR_CORRUPT) {
        v->summary.stages++;
        rot_verifier_say(v, json, UINT64_MAX, "%s", cause.message);
        return 0;
    }
    if (rc < 0) return rot_err_set(err, rc, "%s", cause.message);
    v->summary.stages++;
    rc = verify_shards(v, stage, json, err);
    rot_stage_close(&stage);
    return rc < 0 ? rc : check_note(v, dir, err);
}

int rot_verifier_end(rot_verifier *v, const char *path, rot_err *err)
{
    rot_free(v->seen);
    v->seen = NULL;
    if (v->summary.bad == 0) return 0;
    ROT_FAIL(err, ROT_ERR_CORRUPT, "%s: %llu bad record%s or file%s", path,
             (unsigned long long)v->summary.bad, v->summary.bad > 1 ? "s" : "",
             v->summary.bad > 1 ? "s" : "");
}

int rot_stage_verify(const char *dir, rot_verify_report *report, void *user, rot_err *err)
{
    rot_verifier v = {.report = report, .user = user};
    int rc = rot_verifier_stage(&v, dir, err);
    int end = rot_verifier_end(&v, dir, rc < 0 ? NULL : err);
    return rc < 0 ? rc : end;
}
