// Reading. The format: u64 little-endian header length, a JSON header {name: {dtype, shape,
// data_offsets}}, then the tensors' bytes without holes (huggingface/safetensors, README "Format").
#include "encoder/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bf16.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "encoder/json.h"

enum { PATH_BYTES = 4096, MAX_HEADER_BYTES = 100000000 }; // the format's own limit of the header

typedef struct shard {
    rot_map map;
    const char *path, *name; // name: without its folder
} shard;

struct rot_safetensors {
    shard *shards;
    rot_tensor *tensors; // sorted by name
    size_t n_shards, shards_capacity, n_tensors, tensors_capacity;
    rot_arena names;
};

static const struct dtype {
    const char *name;
    int bits;
    rot_tensor_type type;
} dtypes[] = {
    {"F32", 32, ROT_T_F32},      {"F16", 16, ROT_T_F16},      {"BF16", 16, ROT_T_BF16},
    {"I64", 64, ROT_T_I64},      {"I32", 32, ROT_T_I32},      {"U8", 8, ROT_T_U8},
    {"F64", 64, ROT_T_OTHER},    {"I16", 16, ROT_T_OTHER},    {"I8", 8, ROT_T_OTHER},
    {"U64", 64, ROT_T_OTHER},    {"U32", 32, ROT_T_OTHER},    {"U16", 16, ROT_T_OTHER},
    {"BOOL", 8, ROT_T_OTHER},    {"F8_E4M3", 8, ROT_T_OTHER}, {"F8_E5M2", 8, ROT_T_OTHER},
    {"F8_E8M0", 8, ROT_T_OTHER}, {"F6_E2M3", 6, ROT_T_OTHER}, {"F6_E3M2", 6, ROT_T_OTHER},
    {"F4", 4, ROT_T_OTHER},      {"C64", 64, ROT_T_OTHER},
};

static const struct dtype *find_dtype(const char *name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (!strcmp(dtypes[i].name, name)) return &dtypes[i];
    return NULL;
}

static int parse_shape(const json_t *shape, const char *name, rot_tensor *out, const char *path,
                       rot_err *err)
{
    if (!json_is_array(shape)) ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s: no shape", path, name);
    if (json_array_size(shape) > ROT_TENSOR_DIMS)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s: %zu dimensions, at most %d are read", path, name,
                 json_array_size(shape), ROT_TENSOR_DIMS);
    out->n_dims = (int)json_array_size(shape);
    size_t n = 1;
    for (int i = 0; i < out->n_dims; i++) {
        const json_t *item = json_array_get(shape, (size_t)i);
        int64_t side = json_is_integer(item) ? json_integer_value(item) : -1;
        if (side < 0)
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s: side %d of its shape is no size", path, name, i);
        if (__builtin_mul_overflow(n, (size_t)side, &n))
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s: its shape is too large", path, name);
        out->shape[i] = side;
    }
    out->n_elements = n;
    return 0;
}

// data_offsets [from, to) within the data that starts at `data` and has n_data bytes.
static int parse_offsets(const json_t *offsets, const struct dtype *dtype,
                         const unsigned char *data, size_t n_data, const char *name,
                         rot_tensor *out, const char *path, rot_err *err)
{
    const json_t *a = json_array_get(offsets, 0), *b = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(a) || !json_is_integer(b) ||
        json_integer_value(a) < 0 || json_integer_value(b) < json_integer_value(a))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s: bad data_offsets", path, name);
    size_t from = (size_t)json_integer_value(a), to = (size_t)json_integer_value(b);
    size_t n_bits;
    if (__builtin_mul_overflow(out->n_elements, (size_t)dtype->bits, &n_bits) || n_bits % 8 ||
        n_bits / 8 != to - from)
        ROT_FAIL(err, ROT_ERR_FORMAT,
                 "%s: %s: its offsets span %zu bytes, its shape and %s need %zu", path, name,
                 to - from, dtype->name, out->n_elements * (size_t)dtype->bits / 8);
    if (to > n_data)
        ROT_FAIL(err, ROT_ERR_FORMAT,
                 "%s: truncated: %s ends at byte %zu of the data, which has %zu", path, name, to,
                 n_data);
    out->n_bytes = to - from;
    out->data = data + from;
    return 0;
}

static int by_data(const void *a, const void *b)
{
    const rot_tensor *x = a, *y = b;
    if (x->data != y->data) return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const rot_tensor *)a)->name, ((const rot_tensor *)b)->name);
}

// The tensors of one file, sorted by place, must tile its data: no overlap, no hole, nothing
// behind.
static int check_tiling(rot_tensor *tensors, size_t n, const unsigned char *data, size_t n_data,
                        const char *path, rot_err *err)
{
    const unsigned char *at = data;
    if (n) qsort(tensors, n, sizeof *tensors, by_data);
    for (size_t i = 0; i < n; i++) {
        const unsigned char *from = tensors[i].data;
        if (from < at)
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s overlaps %s", path, tensors[i].name,
                     tensors[i - 1].name);
        if (from > at)
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %zu bytes before %s belong to no tensor", path,
                     (size_t)(from - at), tensors[i].name);
        at = from + tensors[i].n_bytes;
    }
    if (at != data + n_data)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %zu bytes at its end belong to no tensor", path,
                 (size_t)(data + n_data - at));
    return 0;
}

static int add_tensor(rot_safetensors *file, const shard *from, const char *name,
                      const json_t *entry, const unsigned char *data, size_t n_data, rot_err *err)
{
    rot_tensor tensor = {.file = from->path};
    if (!json_is_object(entry))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s: not an object", from->path, name);
    const char *dtype_name = json_string_value(json_object_get(entry, "dtype"));
    const struct dtype *dtype = dtype_name ? find_dtype(dtype_name) : NULL;
    if (!dtype)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s: unknown dtype '%.40s'", from->path, name,
                 dtype_name ? dtype_name : "");
    tensor.type = dtype->type;
    ROT_TRY(parse_shape(json_object_get(entry, "shape"), name, &tensor, from->path, err));
    ROT_TRY(parse_offsets(json_object_get(entry, "data_offsets"), dtype, data, n_data, name,
                          &tensor, from->path, err));
    tensor.name = rot_arena_strdup(&file->names, name);
    if (!tensor.name) return rot_no_memory(err, strlen(name), "a tensor's name");
    ROT_TRY(
        rot_grow(&file->tensors, &file->tensors_capacity, file->n_tensors + 1, sizeof tensor, err));
    file->tensors[file->n_tensors++] = tensor;
    return 0;
}

static int read_header(rot_safetensors *file, const shard *from, rot_err *err)
{
    const unsigned char *bytes = from->map.bytes;
    size_t n_bytes = from->map.n_bytes;
    if (n_bytes < 8)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: truncated: %zu bytes are no safetensors file",
                 from->path, n_bytes);
    uint64_t n_header = 0;
    for (int i = 0; i < 8; i++) n_header |= (uint64_t)bytes[i] << (8 * i);
    if (n_header > MAX_HEADER_BYTES)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: no safetensors file: a header of %" PRIu64 " bytes",
                 from->path, n_header);
    if (n_header > n_bytes - 8)
        ROT_FAIL(err, ROT_ERR_FORMAT,
                 "%s: truncated: its header has %" PRIu64 " bytes, the file %zu", from->path,
                 n_header, n_bytes);
    json_t *root = NULL;
    int rc =
        rot_json_parse((const char *)bytes + 8, (size_t)n_header, true, from->path, &root, err);
    if (rc == ROT_ERR_FORMAT) rot_err_prefix(err, "header of ");
    if (rc < 0) return rc;
    const unsigned char *data = bytes + 8 + n_header;
    size_t n_data = n_bytes - 8 - (size_t)n_header, first = file->n_tensors;
    const char *name;
    json_t *entry;
    json_object_foreach(root, name, entry)
    {
        if (!strcmp(name, "__metadata__")) continue;
        ROT_GO(add_tensor(file, from, name, entry, data, n_data, err));
    }
    if (file->tensors) // none at all: the file must have no data
        rc = check_tiling(file->tensors + first, file->n_tensors - first, data, n_data, from->path,
                          err);
    else if (n_data)
        rc = check_tiling(NULL, 0, data, n_data, from->path, err);
done:
    json_decref(root);
    return rc;
}

static int add_shard(rot_safetensors *file, const char *dir, const char *name, rot_err *err)
{
    char path[PATH_BYTES];
    if (dir) ROT_TRY(rot_fs_join(path, sizeof path, dir, name, err));
    ROT_TRY(
        rot_grow(&file->shards, &file->shards_capacity, file->n_shards + 1, sizeof(shard), err));
    shard *added = &file->shards[file->n_shards];
    *added = (shard){.path = rot_arena_strdup(&file->names, dir ? path : name)};
    added->name = rot_arena_strdup(&file->names, name);
    if (!added->path || !added->name) return rot_no_memory(err, sizeof path, "a file name");
    ROT_TRY(rot_fs_map(added->path, &added->map, err));
    file->n_shards++;
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// All *.safetensors of the folder, in the order of their names.
static int add_folder(rot_safetensors *file, const char *dir, rot_err *err)
{
    static const char ending[] = ".safetensors";
    char **names = NULL;
    size_t n = 0, capacity = 0;
    int rc = 0;
    DIR *folder = opendir(dir);
    if (!folder) return rot_err_errno(err, errno, "open folder", dir);
    for (struct dirent *entry; (entry = readdir(folder));) {
        size_t length = strlen(entry->d_name);
        if (entry->d_name[0] == '.' || length < sizeof ending ||
            strcmp(entry->d_name + length - (sizeof ending - 1), ending))
            continue;
        ROT_GO(rot_grow(&names, &capacity, n + 1, sizeof *names, err));
        names[n] = rot_arena_strdup(&file->names, entry->d_name);
        if (!names[n]) {
            rc = rot_no_memory(err, length, "a file name");
            goto done;
        }
        n++;
    }
    if (!n) ROT_FAIL_GO(err, ROT_ERR_MISSING, "%s: no *.safetensors file in it", dir);
    qsort(names, n, sizeof *names, by_text);
    for (size_t i = 0; i < n; i++) ROT_GO(add_shard(file, dir, names[i], err));
done:
    closedir(folder);
    rot_free(names);
    return rc;
}

// A shard's name must stay in the folder.
static bool is_plain_name(const char *name)
{
    return name && *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

static const shard *find_shard(const rot_safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->n_shards; i++)
        if (!strcmp(file->shards[i].name, name)) return &file->shards[i];
    return NULL;
}

// Opens every file that the index names.
static int add_indexed(rot_safetensors *file, const char *dir, const char *index, const json_t *map,
                       rot_err *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!is_plain_name(name))
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s: '%.100s' is no file name", index, tensor,
                     name ? name : "");
        if (find_shard(file, name)) continue;
        int rc = add_shard(file, dir, name, err);
        if (rc < 0) {
            rot_err_prefix(err, "%s names a file: ", index);
            return rc;
        }
    }
    if (!file->n_shards) ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'weight_map' names no file", index);
    return 0;
}

// Keeps the tensors that the index places in their file, and wants every one it names.
static int apply_index(rot_safetensors *file, const char *index, const json_t *map, rot_err *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < file->n_tensors; i++) {
        const char *where = json_string_value(json_object_get(map, file->tensors[i].name));
        const shard *owner = where ? find_shard(file, where) : NULL;
        if (owner && owner->path == file->tensors[i].file) file->tensors[kept++] = file->tensors[i];
    }
    file->n_tensors = kept;
    if (kept == json_object_size(map)) return 0;
    if (kept) qsort(file->tensors, kept, sizeof *file->tensors, by_name);
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)map, name, value)
    {
        if (!rot_safetensors_find(file, name))
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s is not in %s", index, name,
                     json_string_value(value));
    }
    ROT_FAIL(err, ROT_ERR_FORMAT, "%s: a tensor of it is missing", index);
}

static int open_all(rot_safetensors *file, const char *path, rot_err *err)
{
    char index[PATH_BYTES];
    json_t *root = NULL;
    const json_t *map = NULL;
    int rc = 0;
    if (!rot_fs_is_dir(path))
        ROT_GO(add_shard(file, NULL, path, err));
    else {
        ROT_GO(rot_fs_join(index, sizeof index, path, "model.safetensors.index.json", err));
        if (rot_fs_is_file(index)) {
            ROT_GO(rot_json_read(index, true, &root, err));
            ROT_GO(rot_json_object(root, "weight_map", &map, index, err));
            ROT_GO(add_indexed(file, path, index, map, err));
        } else
            ROT_GO(add_folder(file, path, err));
    }
    for (size_t i = 0; i < file->n_shards; i++) ROT_GO(read_header(file, &file->shards[i], err));
    if (map) ROT_GO(apply_index(file, index, map, err));
    if (file->n_tensors) qsort(file->tensors, file->n_tensors, sizeof *file->tensors, by_name);
    for (size_t i = 1; i < file->n_tensors; i++) {
        const rot_tensor *a = &file->tensors[i - 1], *b = &file->tensors[i];
        if (!strcmp(a->name, b->name))
            ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: %s is in %s too", b->file, b->name, a->file);
    }
done:
    json_decref(root);
    return rc;
}

int rot_safetensors_open(const char *path, rot_safetensors **out, rot_err *err)
{
    *out = NULL;
    rot_safetensors *file = rot_calloc(1, sizeof *file);
    if (!file) return rot_no_memory(err, sizeof *file, path);
    int rc = open_all(file, path, err);
    if (rc < 0) rot_safetensors_close(&file);
    *out = file;
    return rc;
}

void rot_safetensors_close(rot_safetensors **file)
{
    if (!*file) return;
    for (size_t i = 0; i < (*file)->n_shards; i++) rot_fs_unmap(&(*file)->shards[i].map);
    rot_arena_free(&(*file)->names);
    rot_free((*file)->shards);
    rot_free((*file)->tensors);
    rot_free(*file);
    *file = NULL;
}

size_t rot_safetensors_count(const rot_safetensors *file)
{
    return file->n_tensors;
}

const rot_tensor *rot_safetensors_at(const rot_safetensors *file, size_t i)
{
    return &file->tensors[i];
}

const rot_tensor *rot_safetensors_find(const rot_safetensors *file, const char *name)
{
    if (!file->n_tensors) return NULL;
    rot_tensor key = {.name = name};
    return bsearch(&key, file->tensors, file->n_tensors, sizeof key, by_name);
}

const char *rot_tensor_type_name(rot_tensor_type type)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (dtypes[i].type == type && type != ROT_T_OTHER) return dtypes[i].name;
    return "other";
}

size_t rot_tensor_type_bytes(rot_tensor_type type)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (dtypes[i].type == type && type != ROT_T_OTHER) return (size_t)dtypes[i].bits / 8;
    return 0;
}

void rot_tensor_to_f32(const rot_tensor *tensor, size_t from, size_t n, float *out)
{
    const unsigned char *bytes = tensor->data;
    if (tensor->type == ROT_T_F32) {
        memcpy(out, bytes + 4 * from, 4 * n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * (from + i), 2);
        out[i] = tensor->type == ROT_T_BF16 ? rot_bf16_to_f32(half) : rot_f16_to_f32(half);
    }
}

void rot_tensor_drop(const rot_tensor *tensor)
{
    enum { PAGE = 4096 }; // a larger page refuses the address, and keeps its pages
    uintptr_t from = ((uintptr_t)tensor->data + PAGE - 1) / PAGE * PAGE;
    uintptr_t to = ((uintptr_t)tensor->data + tensor->n_bytes) / PAGE * PAGE;
    if (to > from) (void)madvise((void *)from, to - from, MADV_DONTNEED);
}
