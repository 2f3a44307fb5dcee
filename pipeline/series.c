#include "pipeline/series.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"

int rot_series_add(rot_series *series, uint32_t value, rot_err *err)
{
    ROT_TRY(
        rot_grow(&series->values, &series->capacity, series->n + 1, sizeof *series->values, err));
    series->values[series->n++] = value;
    series->sum += value;
    return 0;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

json_t *rot_series_json(rot_series *series)
{
    if (!series->n) return json_null();
    uint32_t *values = series->values;
    qsort(values, series->n, sizeof *values, ascending);
    size_t last = series->n - 1;
    return json_pack("{s:f, s:I, s:I, s:I, s:I, s:I, s:f}", "mean", series->sum / (double)series->n,
                     "min", (json_int_t)values[0], "p5", (json_int_t)values[last * 5 / 100], "p50",
                     (json_int_t)values[last / 2], "p95", (json_int_t)values[last * 95 / 100],
                     "max", (json_int_t)values[last], "sum", series->sum);
}

void rot_series_free(rot_series *series)
{
    rot_free(series->values);
    *series = (rot_series){0};
}
