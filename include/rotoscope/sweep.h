// Many variants of one config: a grid or a list of overrides, built into one root, where every
// stage that two of them have in common is made once (docs/sweep.md).
#ifndef ROTOSCOPE_SWEEP_H
#define ROTOSCOPE_SWEEP_H

#include "build.h"
#include "config.h"
#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rot_sweep rot_sweep; // immutable after loading

// Reads the sweep and the config of every variant. `sets` ("render.size_px=24") hold for all
// variants, under what a variant says itself; paths in them are relative to the working folder.
// ROT_ERR_CONFIG with file, line, column and the nearest valid key; ROT_ERR_MISSING: a named file.
int rot_sweep_load(const char *path, const char *const *sets, int n_sets, rot_sweep **out,
                   rot_err *err);
void rot_sweep_free(rot_sweep **sweep);

// Strings and configs belong to the sweep.
const char *rot_sweep_name(const rot_sweep *sweep);
const char *rot_sweep_root(const rot_sweep *sweep);                // of all variants
int rot_sweep_count(const rot_sweep *sweep);                       // of variants, at least 1
const rot_config *rot_sweep_config(const rot_sweep *sweep, int i); // its name is the variant's

// What the variants would do, as rot_build_plan, and what each takes over from those before it.
// JSON, freed by the caller. ROT_ERR_MISSING, ROT_ERR_CONFIG, ROT_ERR_UNSUPPORTED: a variant names
// what is not there or cannot be done. Other errors of a variant stand in its entry.
int rot_sweep_plan(const rot_sweep *sweep, const rot_build_options *options, char **json,
                   rot_err *err);

// Builds or resumes the variants, one after another, and writes the table of their figures as
// ROOT/sweeps/NAME.json, NAME.tsv and NAME.md. *json: the table; NULL after options->prepare_only.
// Returns how many variants failed (each entry says why), 0 if all are there. Negative:
// ROT_ERR_STOPPED (run again), ROT_ERR_IO and others when the table could not be written.
int rot_sweep_build(const rot_sweep *sweep, const rot_build_options *options, char **json,
                    rot_err *err);

typedef enum rot_table_format { ROT_TABLE_TSV, ROT_TABLE_MARKDOWN } rot_table_format;

// The JSON of one of the two calls above as a table, freed by the caller. ROT_ERR_FORMAT.
int rot_sweep_table(const char *json, rot_table_format format, char **text, rot_err *err);

// Rank of this process among those that build together, by options or environment; 0: the first,
// or alone. ROT_ERR_USAGE as rot_build.
int rot_sweep_rank(const rot_build_options *options, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
