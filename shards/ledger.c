#include "shards/ledger.h"

#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

int rot_ledger_init(rot_ledger *ledger, const rot_stage_spec *spec, uint32_t shard, rot_err *err)
{
    *ledger = (rot_ledger){.spec = spec, .shard = shard};
    rot_shard_range(spec, shard, &ledger->first_row, &ledger->n_rows);
    ledger->now.next_page = ledger->committed.next_page = ROT_FIRST_PAGE;
    ledger->hashes = rot_calloc(ledger->n_rows, 16);
    return ledger->hashes ? 0 : rot_no_memory(err, 16 * ledger->n_rows, "hashes of a shard");
}

void rot_ledger_free(rot_ledger *ledger)
{
    rot_free(ledger->entries);
    rot_free(ledger->seals);
    rot_free(ledger->hashes);
    *ledger = (rot_ledger){0};
}

int rot_ledger_add_value(rot_ledger *ledger, uint64_t key, const rot_head *head, const void *stored,
                         rot_err *err)
{
    size_t n = ledger->now.n_values;
    // One more than it holds: the trailer's entry goes there at the end.
    ROT_TRY(
        rot_grow(&ledger->entries, &ledger->entries_capacity, n + 2, sizeof *ledger->entries, err));
    ROT_TRY(rot_grow(&ledger->seals, &ledger->seals_capacity, n + 1, ROT_SEAL, err));
    ledger->entries[n] = (rot_entry){key, ledger->now.next_page, ROT_HEAD + head->n_stored};
    rot_value_seal(head, stored, ledger->seals + n * ROT_SEAL);
    ledger->now.n_values++;
    ledger->now.next_page += rot_value_pages(head->n_stored);
    return 0;
}

bool rot_ledger_add_row(rot_ledger *ledger, rot_kind kind, uint32_t n_bytes, const uint8_t hash[16])
{
    rot_ledger_mark *now = &ledger->now;
    memcpy(ledger->hashes + 16 * now->n_rows, hash, 16);
    now->n_rows++;
    if (kind == ROT_KIND_TOMBSTONE)
        now->skipped++;
    else
        now->payload_bytes += n_bytes;
    return now->n_rows % ledger->spec->layout.commit_samples == 0 || now->n_rows == ledger->n_rows;
}

/* ---- scanning ----------------------------------------------------------------------------------
 */

typedef struct scanner {
    rot_ledger *ledger;
    rot_codecs *codecs;
    rot_buffer block, record;
} scanner;

// Adds the row after checking its record. *unit_end: as rot_ledger_add_row.
static int scan_record(scanner *s, const rot_head *head, const uint8_t *stored, bool *unit_end,
                       rot_err *err)
{
    rot_record record;
    ROT_TRY(rot_record_open(head, stored, s->codecs, &s->record, &record, err));
    *unit_end = rot_ledger_add_row(s->ledger, record.kind, head->n_logical, head->hash);
    return 0;
}

static int scan_block(scanner *s, const rot_value *value, bool *unit_end, rot_err *err)
{
    const rot_head *head = &value->head;
    const uint8_t *members, *stored;
    rot_head member;
    size_t at = 0;
    uint64_t row = s->ledger->first_row + s->ledger->now.n_rows;
    ROT_TRY(rot_block_open(value, s->codecs, &s->block, &members, err));
    ROT_TRY(rot_block_check(head, members, err));
    if (head->shape[0] == 0 || rot_block_first_row(head) != row || head->shape[3])
        ROT_FAIL(err, ROT_ERR_CORRUPT, "a block of row %llu where row %llu should be",
                 (unsigned long long)rot_block_first_row(head), (unsigned long long)row);
    for (uint32_t i = 0; i < head->shape[0]; i++) {
        if (*unit_end) ROT_FAIL(err, ROT_ERR_CORRUPT, "a block reaches beyond its commit unit");
        ROT_TRY(rot_member_next(members, head->n_logical, &at, &member, &stored, err));
        ROT_TRY(scan_record(s, &member, stored, unit_end, err));
    }
    if (at != head->n_logical) ROT_FAIL(err, ROT_ERR_CORRUPT, "a block is longer than its records");
    return 0;
}

static int scan_value(scanner *s, const rot_map *map, rot_err *err)
{
    rot_ledger *ledger = s->ledger;
    uint64_t page = ledger->now.next_page;
    rot_value value;
    bool unit_end = false;
    ROT_TRY(rot_value_at(map, page, &value, err));
    ROT_TRY(rot_value_check_padding(map, page, &value, err));
    ROT_TRY(rot_ledger_add_value(ledger, ledger->first_row + ledger->now.n_rows, &value.head,
                                 value.stored, err));
    switch (value.head.kind) {
    case ROT_KIND_BLOCK: ROT_TRY(scan_block(s, &value, &unit_end, err)); break;
    case ROT_KIND_TRAILER: ROT_FAIL(err, ROT_ERR_CORRUPT, "the trailer comes too early");
    default: ROT_TRY(scan_record(s, &value.head, value.stored, &unit_end, err));
    }
    if (unit_end) ledger->committed = ledger->now;
    return 0;
}

int rot_ledger_scan(rot_ledger *ledger, const rot_map *map, rot_codecs *codecs, rot_err *cause,
                    rot_err *err)
{
    scanner s = {.ledger = ledger, .codecs = codecs};
    int rc = 0;
    while (rc == 0 && ledger->now.n_rows < ledger->n_rows) rc = scan_value(&s, map, cause);
    rot_buffer_free(&s.block);
    rot_buffer_free(&s.record);
    if (rc == 0) *cause = (rot_err){0};
    if (rc < 0 && rc != ROT_ERR_CORRUPT) return rot_err_set(err, rc, "%s", cause->message);
    return 0;
}

/* ---- the end of a shard ------------------------------------------------------------------------
 */

static void write_trailer(const rot_ledger *ledger, uint8_t *payload)
{
    memcpy(payload, ledger->spec->fingerprint, 32);
    rot_xxh128_bytes(ledger->seals, ledger->now.n_values * ROT_SEAL, payload + 32);
    rot_put64(payload + 48, ledger->shard);
    rot_put64(payload + 56, ledger->first_row);
    rot_put64(payload + 64, ledger->n_rows);
    rot_put64(payload + 72, ledger->now.skipped);
    rot_put64(payload + 80, ledger->now.payload_bytes);
    rot_put64(payload + 88, ledger->now.n_values);
    memcpy(payload + ROT_TRAILER_HEAD, ledger->hashes, 16 * ledger->n_rows);
}

int rot_ledger_finish(const rot_ledger *ledger, uint8_t meta[2 * ROT_PAGE], uint8_t **tail,
                      size_t *n_tail, uint8_t trailer_hash[16], rot_err *err)
{
    uint32_t n_payload = (uint32_t)(ROT_TRAILER_HEAD + 16 * ledger->n_rows);
    size_t n_pages = rot_value_pages(n_payload), n_tree = 0, n = ledger->now.n_values;
    uint8_t *tree_pages = NULL;
    rot_tree tree;
    ledger->entries[n] = (rot_entry){ROT_TRAILER_KEY, ledger->now.next_page, ROT_HEAD + n_payload};
    ROT_TRY(rot_tree_build(ledger->entries, n + 1, ledger->now.next_page + n_pages, &tree_pages,
                           &n_tree, &tree, err));
    uint8_t *bytes = rot_calloc(n_pages + n_tree, ROT_PAGE);
    if (!bytes) {
        rot_free(tree_pages);
        return rot_no_memory(err, (n_pages + n_tree) * ROT_PAGE, "end of a shard");
    }
    uint8_t *payload = bytes + ROT_PAGE_HEAD + ROT_HEAD;
    rot_tree_overflow_head(ledger->now.next_page, (uint32_t)n_pages, bytes);
    write_trailer(ledger, payload);
    rot_head head = {.kind = ROT_KIND_TRAILER,
                     .shape = {(uint32_t)ledger->n_rows},
                     .n_logical = n_payload,
                     .n_stored = n_payload};
    rot_record record = {.kind = (rot_kind)ROT_KIND_TRAILER,
                         .shape = {(uint32_t)ledger->n_rows},
                         .payload = payload,
                         .n_bytes = n_payload};
    rot_record_hash(&record, head.hash);
    rot_head_write(&head, bytes + ROT_PAGE_HEAD);
    memcpy(bytes + n_pages * ROT_PAGE, tree_pages, n_tree * ROT_PAGE);
    rot_free(tree_pages);
    for (int i = 0; i < 2; i++) rot_tree_meta(&tree, i, meta + i * ROT_PAGE);
    rot_shard_note(ledger->spec, ledger->shard, meta + ROT_NOTE_AT);
    if (trailer_hash) memcpy(trailer_hash, head.hash, 16);
    *tail = bytes;
    *n_tail = (n_pages + n_tree) * ROT_PAGE;
    return 0;
}
