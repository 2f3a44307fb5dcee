// What lies in a root: its datasets and its stage folders.
#ifndef ROT_PIPELINE_ROOTS_H
#define ROT_PIPELINE_ROOTS_H

#include <stdbool.h>

#include "rotoscope/error.h"

typedef struct rot_names {
    char **names; // sorted paths
    int n;
} rot_names;

// Dataset files (NAME.json) of a root, or the one that `path` is. ROT_ERR_MISSING: neither.
int rot_root_datasets(const char *path, rot_names *out, rot_err *err);
// Folders below ROOT/stages, ROOT being `path` or the folder of the dataset that it is.
int rot_root_stages(const char *path, rot_names *out, rot_err *err);
void rot_names_free(rot_names *names);

#endif
