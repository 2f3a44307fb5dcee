// safetensors files: mapped reading (one file or a sharded folder) and writing.
#ifndef ROT_ENCODER_SAFETENSORS_H
#define ROT_ENCODER_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "rotoscope/error.h"

typedef enum rot_tensor_type {
    ROT_T_F32, ROT_T_F16, ROT_T_BF16, ROT_T_I64, ROT_T_I32, ROT_T_U8, ROT_T_OTHER
} rot_tensor_type;

const char *rot_tensor_type_name(rot_tensor_type type); // "F32"; "other"
size_t rot_tensor_type_bytes(rot_tensor_type type);     // of one element; 0: ROT_T_OTHER

enum { ROT_TENSOR_DIMS = 8 };

typedef struct rot_tensor {
    const char *name;
    rot_tensor_type type;
    int n_dims;
    int64_t shape[ROT_TENSOR_DIMS];
    const void *data; // in the map of its file, little-endian, not necessarily aligned
    size_t n_bytes, n_elements;
    const char *file; // path, for messages
} rot_tensor;

typedef struct rot_safetensors rot_safetensors;

// `path`: a .safetensors file, or a folder with model.safetensors.index.json (all its files) or
// else *.safetensors. Headers are read and every offset is checked against the file's size.
// ROT_ERR_MISSING: nothing there; ROT_ERR_FORMAT: truncated or malformed (file and cause).
int rot_safetensors_open(const char *path, rot_safetensors **out, rot_err *err);
void rot_safetensors_close(rot_safetensors **file);
size_t rot_safetensors_count(const rot_safetensors *file);
const rot_tensor *rot_safetensors_at(const rot_safetensors *file, size_t i);
const rot_tensor *rot_safetensors_find(const rot_safetensors *file, const char *name); // NULL: none

// Elements [from, from + n) as float32 (F32, F16 and BF16 tensors; exact).
void rot_tensor_to_f32(const rot_tensor *tensor, size_t from, size_t n, float *out);

// Its pages need not stay in this process: reading it again brings them back.
void rot_tensor_drop(const rot_tensor *tensor);

// Writes one file: all tensors are declared first (name, type, shape), then their data follow in
// the same order in pieces of any size. Finishing syncs and renames into place; closing early
// leaves nothing.
typedef struct rot_safetensors_writer rot_safetensors_writer;
typedef struct rot_tensor_decl {
    const char *name;
    rot_tensor_type type;
    int n_dims;
    int64_t shape[ROT_TENSOR_DIMS];
} rot_tensor_decl;
int rot_safetensors_create(const char *path, const rot_tensor_decl *tensors, size_t n,
                           rot_safetensors_writer **out, rot_err *err);
int rot_safetensors_write(rot_safetensors_writer *writer, const void *bytes, size_t n_bytes,
                          rot_err *err);
int rot_safetensors_finish(rot_safetensors_writer **writer, rot_err *err);
void rot_safetensors_abort(rot_safetensors_writer **writer);

#endif
