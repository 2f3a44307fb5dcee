// A split in other formats, and embeddings of other programs as a stage.
#ifndef ROTOSCOPE_EXPORT_H
#define ROTOSCOPE_EXPORT_H

#include <stddef.h>
#include <stdint.h>

#include "store.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rot_export_options {
    size_t size; // sizeof(rot_export_options)
    const char *dataset, *split; // a dataset's JSON file; split may be NULL if it has one
    // "npy": a new folder of embeddings.npy (sum of K, d), cu_seqlens.npy (n + 1), grid.npy (n, 2)
    // and index.npy (n); bfloat16 as its bits in uint16, for numpy has none. "safetensors": a new
    // file with tensors of the same names; bfloat16 is BF16. "png": a new folder of a picture per
    // sample, named by its number in 9 digits. "jsonl": a new file, or one that is no regular file
    // (/dev/stdout), with a line per sample.
    const char *format, *output;
    // Conditions "KEY OP VALUE", all of which must hold. KEY: index, row, K, width, height,
    // question_ids, trace_ids, answer_ids (their number), id, question, trace, answer (as text, =
    // and != alone). OP: = == != < <= > >=.
    const char *const *where;
    size_t n_where;
    uint64_t limit; // samples at most; UINT64_MAX
} rot_export_options;

// No limit, no conditions.
rot_export_options rot_export_options_default(void);
// *n_samples were written. The output appears when it is whole; a folder with what was written so
// far stays after a failure. ROT_ERR_USAGE: format, condition, an output that is there already;
// ROT_ERR_NOT_FOUND: a stage that the format or a condition needs; errors of rot_reader_open;
// ROT_ERR_IO, ROT_ERR_NO_SPACE.
int rot_export(const rot_export_options *options, uint64_t *n_samples, rot_err *err);

typedef struct rot_import_options {
    size_t size; // sizeof(rot_import_options)
    // .npy, or .safetensors with a tensor `tensor` ("embeddings"): (N, d) with one row per sample,
    // (N, K, d), or (sum of K, d) with offsets. BF16, F32, or F16, which becomes f32; a .npy of
    // uint16 is taken as bits of bfloat16.
    const char *input, *tensor;
    // .npy of int64 (N + 1) that begins with 0; NULL: the tensor "cu_seqlens" of a .safetensors, if
    // there is one. A tensor "grid", int64 (N, 2), gives patches; without it they are 0.
    const char *offsets;
    // A dataset whose split's samples these are, in order: its other stages are named beside the
    // new one, and its skipped rows stay skipped. NULL: the embeddings stand alone.
    const char *with;
    const char *split;       // "train", or the split of `with`, which may be NULL if it has one
    const char *root, *name; // of the dataset that is made: ROOT/NAME.json, which must not be there
    rot_stage_layout layout; // none, 4096, 64
} rot_import_options;

// The layout of a build: none, 4096, 64.
rot_import_options rot_import_options_default(void);
// Writes the stage, verifies it, then names it in the dataset. Run again after a kill, it goes on.
// *path (ROOT/NAME.json) is freed by the caller. ROT_ERR_MISSING, ROT_ERR_FORMAT: the input;
// ROT_ERR_USAGE: numbers of samples that differ, a dataset that is there; ROT_ERR_LOCKED;
// ROT_ERR_IO, ROT_ERR_NO_SPACE.
int rot_import(const rot_import_options *options, char **path, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
