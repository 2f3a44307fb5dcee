// The parts of a sweep: its file (sweep_load.c), names of variants (sweep_name.c), planning and
// building (sweep.c), figures of a built variant (sweep_figures.c), tables (sweep_table.c).
#ifndef ROT_PIPELINE_SWEEP_H
#define ROT_PIPELINE_SWEEP_H

#include <jansson.h>

#include "pipeline/config_load.h"
#include "rotoscope/sweep.h"

enum { ROT_SWEEP_MAX_VARIANTS = 1000 };

typedef struct rot_overrides {
    rot_override *list; // of the sweep's file and --set, then of the variant, then the name
    size_t n, capacity;
} rot_overrides;

typedef struct rot_variant {
    const char *label; // of a list's entry: its `name`; NULL: made from the overrides
    const char *where; // the entry, or the grid
    rot_overrides own; // what this variant alone says
    const char *name;
    rot_config *config;
} rot_variant;

struct rot_sweep {
    rot_arena arena; // nodes and strings
    const char *path, *base, *name;
    const char *where_k; // NULL: no `k`
    rot_geometry k;      // of variants that encode nothing
    rot_overrides common;
    rot_variant *variants;
    int n;
};

// Names for all variants, from what they override. Fails if two of them override the same.
int rot_sweep_name_variants(rot_sweep *sweep, rot_err *err);
// A node as JSON: numbers and booleans as they are, words as strings. NULL: no memory.
json_t *rot_node_json(const rot_node *node);

// What a built variant looks like: counts, widths, K, tokens per token, bytes. `stages` (an object)
// gets {folder: bytes} of its stages.
int rot_sweep_figures(const rot_sweep *sweep, const rot_config *config, json_t *out, json_t *stages,
                      rot_err *err);

// Writes ROOT/sweeps/NAME.json and its tables. `only_if_other`: leave them alone if they say the
// same but for seconds.
int rot_sweep_write_tables(const rot_sweep *sweep, const json_t *table, bool only_if_other,
                           rot_err *err);

#endif
