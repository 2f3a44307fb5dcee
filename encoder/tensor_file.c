// The public face of safetensors_write.c.
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "encoder/safetensors.h"
#include "rotoscope/encoder.h"

struct rot_tensor_file {
    char *path;
    rot_arena names;
    rot_tensor_decl *tensors;
    size_t n_tensors, capacity;
    rot_safetensors_writer *writer; // from the first write on
};

int rot_tensor_file_new(const char *path, rot_tensor_file **out, rot_err *err)
{
    *out = NULL;
    rot_tensor_file *file = rot_calloc(1, sizeof *file);
    if (!file || !(file->path = rot_strdup(path))) {
        rot_free(file);
        return rot_no_memory(err, sizeof *file, path);
    }
    *out = file;
    return 0;
}

int rot_tensor_file_declare(rot_tensor_file *file, const char *name, const char *dtype,
                            const int64_t *shape, int n_dims, rot_err *err)
{
    static const rot_tensor_type types[] = {ROT_T_F32, ROT_T_F16, ROT_T_BF16,
                                            ROT_T_I64, ROT_T_I32, ROT_T_U8};
    if (file->writer)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: %s is declared after data", file->path, name);
    if (n_dims < 0 || n_dims > ROT_TENSOR_DIMS)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: %s has %d dimensions", file->path, name, n_dims);
    rot_tensor_decl tensor = {.type = ROT_T_OTHER, .n_dims = n_dims};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (!strcmp(dtype, rot_tensor_type_name(types[i]))) tensor.type = types[i];
    if (tensor.type == ROT_T_OTHER)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: %s: dtype '%.20s'", file->path, name, dtype);
    if (n_dims) memcpy(tensor.shape, shape, (size_t)n_dims * sizeof *shape);
    tensor.name = rot_arena_strdup(&file->names, name);
    if (!tensor.name) return rot_no_memory(err, strlen(name), "a tensor's name");
    ROT_TRY(rot_grow(&file->tensors, &file->capacity, file->n_tensors + 1, sizeof tensor, err));
    file->tensors[file->n_tensors++] = tensor;
    return 0;
}

static int begin(rot_tensor_file *file, rot_err *err)
{
    if (file->writer) return 0;
    return rot_safetensors_create(file->path, file->tensors, file->n_tensors, &file->writer, err);
}

int rot_tensor_file_write(rot_tensor_file *file, const void *bytes, size_t n_bytes, rot_err *err)
{
    ROT_TRY(begin(file, err));
    return rot_safetensors_write(file->writer, bytes, n_bytes, err);
}

int rot_tensor_file_finish(rot_tensor_file **file, rot_err *err)
{
    int rc = begin(*file, err);
    if (rc == 0) rc = rot_safetensors_finish(&(*file)->writer, err);
    rot_tensor_file_abort(file);
    return rc;
}

void rot_tensor_file_abort(rot_tensor_file **file)
{
    if (!*file) return;
    rot_safetensors_abort(&(*file)->writer);
    rot_arena_free(&(*file)->names);
    rot_free((*file)->tensors);
    rot_free((*file)->path);
    rot_free(*file);
    *file = NULL;
}
