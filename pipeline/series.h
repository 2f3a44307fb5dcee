// Numbers of which a mean and quantiles are wanted.
#ifndef ROT_PIPELINE_SERIES_H
#define ROT_PIPELINE_SERIES_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "rotoscope/error.h"

typedef struct rot_series {
    uint32_t *values;
    size_t n, capacity;
    double sum;
} rot_series;

int rot_series_add(rot_series *series, uint32_t value, rot_err *err);
// mean, min, p5, p50, p95, max and sum; null if there is none. Sorts the values. Quantiles are
// values that occur: the one at rank floor(q (n - 1)).
json_t *rot_series_json(rot_series *series);
void rot_series_free(rot_series *series);

#endif
