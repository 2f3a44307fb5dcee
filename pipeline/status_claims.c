#include "pipeline/status_claims.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pipeline/claim.h"

// Those who look on leave no file, so heartbeats are compared with this machine's clock, and with
// the limit that builds have by default.
enum { STALE_SECONDS = 60 };

static json_t *claim_json(const char *path, const char *of)
{
    rot_claim_note note;
    double mtime, now = (double)time(NULL);
    if (rot_claim_read(path, &note, &mtime, NULL) < 0 || !note.owner[0]) return NULL;
    const char *state = note.error[0]                                          ? "failed"
                        : rot_claim_is_stale(&note, mtime, now, STALE_SECONDS) ? "stale"
                                                                               : "running";
    json_t *out = json_pack(
        "{s:s, s:s, s:s, s:I, s:i, s:i, s:I, s:I, s:I, s:f}", "of", of, "state", state, "host",
        note.host, "pid", (json_int_t)note.pid, "rank", note.rank, "ranks", note.ranks,
        "age_seconds", (json_int_t)(now > mtime ? now - mtime : 0), "row", (json_int_t)note.row,
        "rows", (json_int_t)note.rows, "rows_per_second", note.rate);
    if (out && note.error[0]) json_object_set_new(out, "error", json_string(note.error));
    return out;
}

json_t *rot_status_claims(const char *root, const char *what)
{
    char dir[4300];
    json_t *out = json_array();
    struct dirent **names;
    size_t n_what = strlen(what);
    snprintf(dir, sizeof dir, "%s/.rotoscope/claims", root);
    int n = scandir(dir, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        if (!strncmp(name, what, n_what) && name[n_what] == '.' && !strstr(name, ".tmp.")) {
            char path[4700];
            snprintf(path, sizeof path, "%s/%s", dir, name);
            json_t *one = claim_json(path, name + n_what + 1);
            if (one) json_array_append_new(out, one);
        }
        free(names[i]);
    }
    if (n >= 0) free(names);
    return out;
}
