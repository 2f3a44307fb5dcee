#include "pipeline/stage_note.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"

int rot_stage_note_write(const rot_job *job, const rot_stage_plan *plan, rot_err *err)
{
    char path[4200], hex[65];
    rot_hex(plan->spec.fingerprint, 32, hex);
    json_t *note =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:o}", "stage", plan->stage, "split", plan->split,
                  "dataset", job->config->name, "rows", (json_int_t)plan->spec.rows,
                  "shard_samples", (json_int_t)plan->spec.layout.shard_samples, "fingerprint", hex,
                  "content", json_loads(plan->content, 0, NULL));
    char *text = note ? json_dumps(note, JSON_INDENT(2)) : NULL;
    json_decref(note);
    if (!text) return rot_no_memory(err, 0, "plan.json");
    char *sealed = NULL;
    int rc = rot_dataset_seal(text, &sealed, err);
    free(text);
    ROT_TRY(rc);
    snprintf(path, sizeof path, "%s/plan.json", plan->dir);
    rc = rot_fs_mkdirs(plan->dir, err);
    if (rc == 0) rc = rot_fs_write_atomic(path, sealed, strlen(sealed), err);
    free(sealed);
    return rc;
}

json_t *rot_stage_note_read(const char *dir)
{
    char path[4500];
    snprintf(path, sizeof path, "%s/plan.json", dir);
    json_t *note = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(note)) return note;
    json_decref(note);
    return NULL;
}
