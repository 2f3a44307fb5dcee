// Where rows lie in their files. The tokens stage keeps texts, not places (its root must not depend
// on how the input is cut into files), so a row that is refused later is looked up there again.
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "pipeline/job.h"

typedef struct row_place {
    const char *file; // the config's
    uint64_t line, offset;
} row_place;

struct rot_places {
    const rot_split_config *split;
    row_place *rows;
    size_t capacity;
    uint64_t n;
};

static int read_places(struct rot_places *places)
{
    rot_input *input = NULL;
    rot_row row;
    int rc = rot_input_open(places->split, &input, NULL);
    while (rc >= 0 && (rc = rot_input_next(input, &row, NULL)) > 0) {
        rc = rot_grow(&places->rows, &places->capacity, places->n + 1, sizeof *places->rows, NULL);
        if (rc == 0) places->rows[places->n++] = (row_place){row.file, row.line, row.offset};
    }
    rot_input_close(&input);
    return rc;
}

// The places of a split: read once, forgotten when the next split asks.
static const struct rot_places *places_of(rot_job *job, const char *split)
{
    if (job->places && !strcmp(job->places->split->name, split)) return job->places;
    rot_places_free(&job->places);
    job->places = rot_calloc(1, sizeof *job->places);
    for (int i = 0; job->places && i < job->config->n_splits; i++)
        if (!strcmp(job->config->splits[i].name, split))
            job->places->split = &job->config->splits[i];
    if (job->places && (!job->places->split || read_places(job->places) < 0))
        rot_places_free(&job->places);
    return job->places;
}

void rot_job_locate(rot_job *job, const char *split, uint64_t row, rot_err *err)
{
#pragma omp critical(rot_job_locate)
    {
        const struct rot_places *places = places_of(job, split);
        if (places && row < places->n) // else the row's number has to do
            rot_err_prefix(err, "%s:%llu: byte %llu: ", places->rows[row].file,
                           (unsigned long long)places->rows[row].line,
                           (unsigned long long)places->rows[row].offset);
    }
}

void rot_places_free(struct rot_places **places)
{
    if (!*places) return;
    rot_free((*places)->rows);
    rot_free(*places);
    *places = NULL;
}
