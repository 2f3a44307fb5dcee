// What is left of a published shard, for repair: whether it is whole, and each record that can
// still be told to be its row's.
#include "shards/ledger.h"
#include "shards/shard.h"
#include "shards/spec.h"
#include "shards/stage.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

struct rot_salvage {
    rot_stage_spec spec;
    rot_shard shard; // its map; its tree if `has_tree`
    rot_codecs *codecs;
    rot_ledger ledger; // of the values from the first up to the first fault
    rot_buffer block, record;
    bool has_tree;
    bool is_noted; // page 0 says that this is that shard
    bool is_whole;
    bool is_foreign;  // whole in itself, and not the one that stage.json names
    uint8_t *trusted; // (n_rows, 16): record hashes by a trailer that holds; NULL: none does
    // The block that was opened last.
    const uint8_t *members;
    uint64_t members_page;
};

// The records are all there: compares the file with the one that they call for.
static int compare(rot_salvage *s, const uint8_t *known, rot_err *err)
{
    uint8_t meta[2 * ROT_PAGE], *tail = NULL, hash[16];
    size_t n_tail = 0, at = s->ledger.now.next_page * ROT_PAGE;
    const rot_map *map = &s->shard.map;
    ROT_TRY(rot_ledger_finish(&s->ledger, meta, &tail, &n_tail, hash, err));
    s->is_foreign = known && memcmp(known, hash, 16) != 0;
    s->is_whole = !s->is_foreign && map->n_bytes == at + n_tail &&
                  memcmp(map->bytes, meta, sizeof meta) == 0 &&
                  memcmp(map->bytes + at, tail, n_tail) == 0;
    rot_free(tail);
    if (s->is_foreign) return 0;
    s->trusted = rot_malloc(16 * s->ledger.n_rows);
    if (!s->trusted) return rot_no_memory(err, 16 * s->ledger.n_rows, "hashes of a shard");
    memcpy(s->trusted, s->ledger.hashes, 16 * s->ledger.n_rows);
    return 0;
}

// Some are not: takes the hashes of the trailer, if that holds.
static int read_trailer(rot_salvage *s, const uint8_t *known, rot_err *err)
{
    rot_trailer trailer;
    if (!s->has_tree || rot_shard_trailer(&s->shard, &s->spec, s->ledger.shard, &trailer, NULL) < 0)
        return 0;
    s->is_foreign = known && memcmp(known, trailer.hash, 16) != 0;
    if (s->is_foreign) return 0;
    s->trusted = rot_malloc(16 * s->shard.n_rows);
    if (!s->trusted) return rot_no_memory(err, 16 * s->shard.n_rows, "hashes of a shard");
    memcpy(s->trusted, trailer.hashes, 16 * s->shard.n_rows);
    return 0;
}

static int look(rot_salvage *s, const uint8_t *known, rot_err *err)
{
    uint8_t note[ROT_NOTE];
    rot_err cause = {0};
    const rot_map *map = &s->shard.map;
    if (map->n_bytes < 2 * ROT_PAGE) return 0;
    rot_shard_note(&s->spec, s->ledger.shard, note);
    s->is_noted = memcmp(map->bytes + ROT_NOTE_AT, note, ROT_NOTE) == 0;
    s->has_tree = rot_tree_open(map, &s->shard.tree, NULL) == 0;
    ROT_TRY(rot_ledger_scan(&s->ledger, map, s->codecs, &cause, err));
    return cause.code ? read_trailer(s, known, err) : compare(s, known, err);
}

int rot_salvage_open(const char *dir, const rot_stage_spec *spec, uint32_t shard,
                     const rot_stage *known, rot_salvage **out, rot_err *err)
{
    char path[PATH_MAX];
    int rc = 0;
    *out = NULL;
    ROT_TRY(rot_spec_check(spec, err));
    ROT_TRY(rot_shard_path(path, sizeof path, dir, shard, err));
    rot_salvage *s = rot_calloc(1, sizeof *s);
    if (!s) return rot_no_memory(err, sizeof *s, "salvage");
    ROT_GO(rot_spec_copy(spec, &s->spec, err));
    ROT_GO(rot_ledger_init(&s->ledger, &s->spec, shard, err));
    ROT_GO(rot_codecs_new(&s->codecs, err));
    s->shard.first_row = s->ledger.first_row;
    s->shard.n_rows = s->ledger.n_rows;
    rc = rot_fs_map(path, &s->shard.map, err);
    if (rc == ROT_ERR_MISSING) rc = 0; // nothing is left
    ROT_GO(rc);
    bool fits = known && shard < known->n_shards;
    ROT_GO(look(s, fits ? known->shards[shard].trailer_hash : NULL, err));
    *out = s;
    s = NULL;
done:
    rot_salvage_close(&s);
    return rc;
}

void rot_salvage_close(rot_salvage **salvage)
{
    rot_salvage *s = *salvage;
    if (!s) return;
    rot_shard_close(&s->shard);
    rot_ledger_free(&s->ledger);
    rot_codecs_free(&s->codecs);
    rot_buffer_free(&s->block);
    rot_buffer_free(&s->record);
    rot_free(s->trusted);
    rot_spec_release(&s->spec);
    rot_free(s);
    *salvage = NULL;
}

bool rot_salvage_is_whole(const rot_salvage *salvage)
{
    return salvage->is_whole;
}

// The value of a row that the scan went over.
static int scanned_value(const rot_salvage *s, uint64_t row, rot_value *value, uint64_t *page,
                         uint64_t *first_row, rot_err *err)
{
    const rot_entry *entries = s->ledger.entries;
    size_t low = 0, high = s->ledger.now.n_values;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (entries[middle].key <= row)
            low = middle;
        else
            high = middle;
    }
    *page = entries[low].page;
    *first_row = entries[low].key;
    return rot_value_at(&s->shard.map, *page, value, err);
}

static int find_value(const rot_salvage *s, uint64_t row, rot_value *value, uint64_t *page,
                      uint64_t *first_row, rot_err *err)
{
    if (row - s->ledger.first_row < s->ledger.now.n_rows)
        return scanned_value(s, row, value, page, first_row, err);
    if (!s->has_tree) ROT_FAIL(err, ROT_ERR_CORRUPT, "the row cannot be found");
    ROT_TRY(rot_shard_find(&s->shard, row, value, first_row, err));
    *page = (uint64_t)(value->stored - s->shard.map.bytes) / ROT_PAGE;
    return 0;
}

static int find_member(rot_salvage *s, const rot_value *value, uint64_t page, uint64_t index,
                       rot_head *head, const uint8_t **stored, rot_err *err)
{
    size_t at = 0;
    if (index >= value->head.shape[0]) ROT_FAIL(err, ROT_ERR_CORRUPT, "the row is in no block");
    if (!s->members || s->members_page != page) {
        s->members = NULL;
        const uint8_t *members;
        ROT_TRY(rot_block_open(value, s->codecs, &s->block, &members, err));
        s->members = members;
        s->members_page = page;
    }
    for (uint64_t i = 0; i <= index; i++)
        ROT_TRY(rot_member_next(s->members, value->head.n_logical, &at, head, stored, err));
    return 0;
}

int rot_salvage_get(rot_salvage *s, uint64_t row, rot_record *out, rot_err *err)
{
    rot_value value;
    uint64_t page = 0, first_row = 0, index = row - s->ledger.first_row;
    if (row < s->ledger.first_row || index >= s->ledger.n_rows)
        ROT_FAIL(err, ROT_ERR_NOT_FOUND, "row %llu is not of this shard", (unsigned long long)row);
    if (s->is_foreign || (!s->trusted && !s->is_noted))
        ROT_FAIL(err, ROT_ERR_CORRUPT, "nothing says that this is the shard");
    ROT_TRY(find_value(s, row, &value, &page, &first_row, err));
    rot_head head = value.head;
    const uint8_t *stored = value.stored;
    if (head.kind == ROT_KIND_BLOCK)
        ROT_TRY(find_member(s, &value, page, row - first_row, &head, &stored, err));
    if (head.kind == ROT_KIND_TRAILER || head.kind == ROT_KIND_BLOCK)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "no record");
    if (s->trusted && memcmp(s->trusted + 16 * index, head.hash, 16) != 0)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "the record is not the one that the trailer names");
    return rot_record_open(&head, stored, s->codecs, &s->record, out, err);
}
