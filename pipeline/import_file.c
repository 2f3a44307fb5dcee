// .npy and .safetensors files of other programs. Every size is checked against the file's.
#include "pipeline/import.h"

#include <ctype.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

static uint64_t get_le(const unsigned char *at, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++) v |= (uint64_t)at[i] << 8 * i;
    return v;
}

static const unsigned dtype_bytes[] = {2, 4, 2, 8};

// Bytes of the tensor; false if they do not fit 64 bits.
static bool tensor_bytes(const rot_tensor_view *t, uint64_t *out)
{
    *out = dtype_bytes[t->dtype];
    for (int i = 0; i < t->n_dims; i++)
        if (__builtin_mul_overflow(*out, t->shape[i], out)) return false;
    return true;
}

/* ---- npy ---------------------------------------------------------------------------------------
 */

// The value of a key in the header's Python dict: what follows 'KEY': up to where it ends.
static const char *value_of(const char *header, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *at = strstr(header, quoted);
    if (!at) return NULL;
    at += strlen(quoted);
    return at + strspn(at, " ");
}

static bool read_shape(const char *at, rot_tensor_view *out)
{
    if (!at || *at++ != '(') return false;
    for (;;) {
        at += strspn(at, " ,");
        if (*at == ')') return true;
        if (!isdigit((unsigned char)*at) || out->n_dims == 3) return false;
        uint64_t v = 0;
        for (; isdigit((unsigned char)*at); at++)
            if (__builtin_mul_overflow(v, 10, &v) ||
                __builtin_add_overflow(v, (uint64_t)(*at - '0'), &v))
                return false;
        out->shape[out->n_dims++] = v;
    }
}

static int parse_npy(const char *path, const char *header, rot_tensor_view *out, rot_err *err)
{
    static const struct {
        const char *descr;
        rot_file_dtype dtype;
    } dtypes[] = {{"'<f4'", ROT_FILE_F32},
                  {"'<f2'", ROT_FILE_F16},
                  {"'<u2'", ROT_FILE_BF16},
                  {"'<i8'", ROT_FILE_I64}};
    const char *descr = value_of(header, "descr"), *order = value_of(header, "fortran_order");
    size_t i = 0, n = sizeof dtypes / sizeof *dtypes;
    while (descr && i < n && strncmp(descr, dtypes[i].descr, strlen(dtypes[i].descr))) i++;
    if (!descr || i == n)
        ROT_FAIL(err, ROT_ERR_FORMAT,
                 "%s: an array of %.8s; <f4, <f2, <u2 (bits of bfloat16) and <i8 (offsets) are "
                 "read",
                 path, descr ? descr : "?");
    if (!order || strncmp(order, "False", 5))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: not in C order", path);
    if (!read_shape(value_of(header, "shape"), out))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: no shape of one to three dimensions", path);
    out->dtype = dtypes[i].dtype;
    return 0;
}

static int read_npy(const char *path, const rot_map *map, rot_tensor_view *out, rot_err *err)
{
    uint64_t n_header, begin, n_bytes;
    *out = (rot_tensor_view){0};
    if (map->n_bytes < 12 || memcmp(map->bytes, "\x93NUMPY", 6) || map->bytes[6] < 1 ||
        map->bytes[6] > 3)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: not a .npy file", path);
    begin = map->bytes[6] == 1 ? 10 : 12;
    n_header = get_le(map->bytes + 8, map->bytes[6] == 1 ? 2 : 4);
    if (n_header > map->n_bytes - begin || n_header > 65536)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: the header reaches beyond the file", path);
    char *header = rot_strndup((const char *)map->bytes + begin, n_header);
    if (!header) return rot_no_memory(err, n_header, path);
    int rc = parse_npy(path, header, out, err);
    rot_free(header);
    ROT_TRY(rc);
    begin += n_header;
    if (!tensor_bytes(out, &n_bytes) || n_bytes != map->n_bytes - begin)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %zu bytes of data do not fit its shape", path,
                 (size_t)(map->n_bytes - begin));
    out->bytes = map->bytes + begin;
    return 0;
}

/* ---- safetensors -------------------------------------------------------------------------------
 */

static int read_tensor(const char *path, const char *name, const json_t *json,
                       const unsigned char *data, uint64_t n_data, rot_tensor_view *out,
                       rot_err *err)
{
    static const char *const dtypes[] = {"BF16", "F32", "F16", "I64"};
    const char *dtype = json_string_value(json_object_get(json, "dtype"));
    const json_t *shape = json_object_get(json, "shape"),
                 *range = json_object_get(json, "data_offsets");
    json_int_t begin = json_integer_value(json_array_get(range, 0)),
               end = json_integer_value(json_array_get(range, 1));
    uint64_t n_bytes;
    int which = 0;
    *out = (rot_tensor_view){.n_dims = (int)json_array_size(shape)};
    while (dtype && which < 4 && strcmp(dtype, dtypes[which])) which++;
    if (!dtype || which == 4 || json_array_size(shape) > 3)
        ROT_FAIL(err, ROT_ERR_FORMAT,
                 "%s: tensor %s has dtype %s and %zu dimensions; BF16, F32, F16 or I64 and at "
                 "most 3 are read",
                 path, name, dtype ? dtype : "?", json_array_size(shape));
    out->dtype = (rot_file_dtype)which;
    for (int i = 0; i < out->n_dims; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: tensor %s has no shape", path, name);
        out->shape[i] = (uint64_t)json_integer_value(dim);
    }
    if (begin < 0 || end < begin || (uint64_t)end > n_data || !tensor_bytes(out, &n_bytes) ||
        n_bytes != (uint64_t)(end - begin))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: tensor %s does not fit its offsets", path, name);
    out->bytes = data + begin;
    return 0;
}

// Those of the three tensors that are there; dims of the others stay 0.
static int read_safetensors(const char *path, const char *name, const rot_map *map,
                            rot_tensor_view out[3], rot_err *err)
{
    const char *names[] = {name, "cu_seqlens", "grid"};
    json_error_t error;
    uint64_t n_header = map->n_bytes >= 8 ? get_le(map->bytes, 8) : 0;
    if (map->n_bytes < 8 || n_header > map->n_bytes - 8)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: not a .safetensors file, or truncated", path);
    json_t *json = json_loadb((const char *)map->bytes + 8, n_header, 0, &error);
    if (!json_is_object(json)) {
        json_decref(json);
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: its header is no JSON object", path);
    }
    int rc = 0;
    for (int i = 0; i < 3; i++) {
        const json_t *one = json_object_get(json, names[i]);
        out[i] = (rot_tensor_view){0};
        if (one)
            ROT_GO(read_tensor(path, names[i], one, map->bytes + 8 + n_header,
                               map->n_bytes - 8 - n_header, &out[i], err));
    }
    if (out[0].n_dims == 0) ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: no tensor '%s'", path, name);
done:
    json_decref(json);
    return rc;
}

/* ---- what they mean ----------------------------------------------------------------------------
 */

static int check_offsets(const char *path, const rot_tensor_view *t, rot_import_file *f,
                         rot_err *err)
{
    if (t->dtype != ROT_FILE_I64 || t->n_dims != 1 || t->shape[0] < 1)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: offsets are int64 of shape (n + 1)", path);
    f->cu = t->bytes;
    f->n = t->shape[0] - 1;
    uint64_t before = 0;
    for (uint64_t i = 0; i <= f->n; i++) {
        uint64_t at = get_le(f->cu + 8 * i, 8);
        if (at < before || (i == 0 && at) || at > f->rows)
            ROT_FAIL(err, ROT_ERR_FORMAT,
                     "%s: offset %llu is %lld: they begin with 0, do not fall and end with %llu",
                     path, (unsigned long long)i, (long long)at, (unsigned long long)f->rows);
        before = at;
    }
    if (before != f->rows)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: the last offset is %llu, and there are %llu rows", path,
                 (unsigned long long)before, (unsigned long long)f->rows);
    return 0;
}

static int check_values(const char *path, rot_import_file *f, rot_err *err)
{
    rot_tensor_view *t = &f->values;
    if (t->dtype == ROT_FILE_I64 || t->n_dims < 2)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: embeddings are numbers of two or three dimensions",
                 path);
    f->n = t->shape[0];
    f->k = t->n_dims == 3 ? t->shape[1] : 1;
    f->width = t->shape[t->n_dims - 1];
    if (f->width == 0 || f->width > UINT32_MAX || f->k > UINT32_MAX)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: embeddings of width %llu", path,
                 (unsigned long long)f->width);
    f->rows = f->n * f->k; // fits: the file has as many numbers
    return 0;
}

static int take_parts(const rot_import_options *o, bool npy, rot_tensor_view parts[3],
                      rot_import_file *f, rot_err *err)
{
    f->values = parts[0];
    ROT_TRY(check_values(o->input, f, err));
    if (o->offsets) {
        ROT_TRY(rot_fs_map(o->offsets, &f->offsets_map, err));
        ROT_TRY(read_npy(o->offsets, &f->offsets_map, &parts[1], err));
    }
    if (parts[1].n_dims && f->values.n_dims == 3)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: offsets beside embeddings of three dimensions",
                 o->input);
    if (parts[1].n_dims)
        ROT_TRY(check_offsets(o->offsets ? o->offsets : o->input, &parts[1], f, err));
    if (npy || parts[2].n_dims == 0) return 0;
    if (parts[2].dtype != ROT_FILE_I64 || parts[2].n_dims != 2 || parts[2].shape[0] != f->n ||
        parts[2].shape[1] != 2)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: grid is int64 of shape (%llu, 2)", o->input,
                 (unsigned long long)f->n);
    f->grid = parts[2].bytes;
    return 0;
}

int rot_import_file_open(const rot_import_options *o, rot_import_file *out, rot_err *err)
{
    rot_tensor_view parts[3] = {0};
    size_t n = strlen(o->input);
    bool npy = n > 4 && strcmp(o->input + n - 4, ".npy") == 0;
    *out = (rot_import_file){0};
    int rc = rot_fs_map(o->input, &out->map, err);
    if (rc == 0)
        rc = npy ? read_npy(o->input, &out->map, &parts[0], err)
                 : read_safetensors(o->input, o->tensor ? o->tensor : "embeddings", &out->map,
                                    parts, err);
    if (rc == 0) rc = take_parts(o, npy, parts, out, err);
    if (rc < 0) rot_import_file_close(out);
    return rc;
}

void rot_import_file_close(rot_import_file *file)
{
    rot_fs_unmap(&file->map);
    rot_fs_unmap(&file->offsets_map);
}

void rot_import_file_sample(const rot_import_file *f, uint64_t i, uint64_t *begin, uint64_t *k)
{
    *begin = f->cu ? get_le(f->cu + 8 * i, 8) : i * f->k;
    *k = f->cu ? get_le(f->cu + 8 * (i + 1), 8) - *begin : f->k;
}
