// Embeddings of another program's file, checked: what import_file.c reads and import.c writes as a
// stage.
#ifndef ROT_PIPELINE_IMPORT_H
#define ROT_PIPELINE_IMPORT_H

#include <jansson.h>

#include "base/fs.h"
#include "rotoscope/export.h"

typedef enum rot_file_dtype {
    ROT_FILE_BF16,
    ROT_FILE_F32,
    ROT_FILE_F16,
    ROT_FILE_I64
} rot_file_dtype;

// A tensor in a map: row-major, little-endian, of any alignment.
typedef struct rot_tensor_view {
    const unsigned char *bytes;
    rot_file_dtype dtype;
    int n_dims;
    uint64_t shape[3];
} rot_tensor_view;

typedef struct rot_import_file {
    rot_map map, offsets_map;
    rot_tensor_view values;  // (rows, d)
    const unsigned char *cu; // (n + 1) int64, or NULL: every sample has `k` rows
    const unsigned char *grid; // (n, 2) int64, or NULL
    uint64_t n, rows, width, k;
} rot_import_file;

int rot_import_file_open(const rot_import_options *options, rot_import_file *out, rot_err *err);
void rot_import_file_close(rot_import_file *file);
// Rows [*begin, *begin + *k) are those of sample i.
void rot_import_file_sample(const rot_import_file *file, uint64_t i, uint64_t *begin, uint64_t *k);

#endif
