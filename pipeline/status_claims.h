// What the claims of a root say: who works on what, how fast, who is gone, who gave up.
#ifndef ROT_PIPELINE_STATUS_CLAIMS_H
#define ROT_PIPELINE_STATUS_CLAIMS_H

#include <jansson.h>

// Those on `what` (a stage's folder, or "rank", "prepare"), as a list of objects: of ("00012"),
// state (running, stale, failed), host, pid, rank, age_seconds, row, rows, rows_per_second, error.
json_t *rot_status_claims(const char *root, const char *what);

#endif
