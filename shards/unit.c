#include "shards/unit.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "shards/spec.h"

static int keep_value(void *user, const rot_head *head, const void *stored,
                      const rot_pack_row *rows, uint32_t n_rows, rot_err *err)
{
    rot_unit *unit = user;
    ROT_TRY(
        rot_grow(&unit->bytes, &unit->bytes_capacity, unit->n_bytes + head->n_stored + 1, 1, err));
    ROT_TRY(rot_grow(&unit->values, &unit->values_capacity, unit->n_values + 1,
                     sizeof *unit->values, err));
    ROT_TRY(rot_grow(&unit->rows, &unit->rows_capacity, unit->n_packed + n_rows, sizeof *unit->rows,
                     err));
    unit->values[unit->n_values++] = (rot_unit_value){*head, unit->n_bytes, n_rows};
    if (head->n_stored) memcpy(unit->bytes + unit->n_bytes, stored, head->n_stored);
    memcpy(unit->rows + unit->n_packed, rows, n_rows * sizeof *rows);
    unit->n_bytes += head->n_stored;
    unit->n_packed += n_rows;
    return 0;
}

int rot_unit_open(const rot_stage_spec *spec, rot_unit **out, rot_err *err)
{
    int rc = 0;
    *out = NULL;
    ROT_TRY(rot_spec_check(spec, err));
    rot_unit *unit = rot_calloc(1, sizeof *unit);
    if (!unit) return rot_no_memory(err, sizeof *unit, "unit");
    ROT_GO(rot_spec_copy(spec, &unit->spec, err));
    ROT_GO(rot_codecs_new(&unit->codecs, err));
    unit->packer =
        (rot_packer){.spec = &unit->spec, .codecs = unit->codecs, .emit = keep_value, .user = unit};
    *out = unit;
    unit = NULL;
done:
    rot_unit_close(&unit);
    return rc;
}

void rot_unit_close(rot_unit **unit)
{
    rot_unit *u = *unit;
    if (!u) return;
    rot_packer_free(&u->packer);
    rot_codecs_free(&u->codecs);
    rot_free(u->bytes);
    rot_free(u->values);
    rot_free(u->rows);
    rot_spec_release(&u->spec);
    rot_free(u);
    *unit = NULL;
}

int rot_unit_begin(rot_unit *unit, uint64_t row, rot_err *err)
{
    const rot_stage_layout *layout = &unit->spec.layout;
    if (row >= unit->spec.rows || row % layout->shard_samples % layout->commit_samples)
        ROT_FAIL(err, ROT_ERR_USAGE, "row %llu begins no commit unit", (unsigned long long)row);
    unit->first_row = row;
    unit->n_rows = rot_unit_rows(&unit->spec, row);
    unit->n_bytes = unit->n_values = unit->n_packed = 0;
    rot_packer_begin(&unit->packer, row);
    return 0;
}

int rot_unit_add(rot_unit *unit, const rot_record *record, rot_err *err)
{
    if (unit->packer.next_row >= unit->first_row + unit->n_rows)
        ROT_FAIL(err, ROT_ERR_USAGE, "the commit unit of row %llu has all its rows",
                 (unsigned long long)unit->first_row);
    ROT_TRY(rot_record_check(record, ROT_ERR_USAGE, err));
    return rot_packer_add(&unit->packer, record, err);
}

uint64_t rot_unit_file_bytes(const rot_unit *unit)
{
    uint64_t pages = 0;
    for (size_t i = 0; i < unit->n_values; i++)
        pages += rot_value_pages(unit->values[i].head.n_stored);
    return pages * ROT_PAGE;
}
