// The pages of `rotoscope view`: a dataset to browse, as answers to GET. No network here: whoever
// serves them asks for a path.
#ifndef ROTOSCOPE_VIEW_H
#define ROTOSCOPE_VIEW_H

#include <stddef.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rot_view rot_view;

// `dataset` is a dataset's JSON file. Reads the stages' descriptions and no sample. Errors of
// rot_dataset_open; ROT_ERR_CORRUPT: a stage that it names is gone.
int rot_view_open(const char *dataset, rot_view **out, rot_err *err);
void rot_view_close(rot_view **view);

// What was asked for: the path, percent signs decoded, and values of the query, NULL where absent.
typedef struct rot_view_request {
    const char *path;
    const char *from, *id; // of a split: the first row that is listed; a sample's id
} rot_view_request;

typedef struct rot_view_answer {
    int status;       // of HTTP: 200, 303 (body: where to), 400, 404, 500
    const char *type; // of the body, static storage
    char *body;       // n_bytes and a NUL; the caller frees it
    size_t n_bytes;
} rot_view_answer;

// Paths: "/" the splits; "/report" what rot_report writes; "/split/NAME" rows from `from` on, or
// the way to the row of `id`; "/split/NAME/ROW" one row in full; "/split/NAME/ROW.png" its picture.
// What cannot be shown is an answer too, with its cause: 400 a number that is none, 404 no such
// page, split, row or id, 500 a damaged record. < 0: ROT_ERR_NO_MEMORY. One thread at a time.
int rot_view_get(rot_view *view, const rot_view_request *request, rot_view_answer *out,
                 rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
