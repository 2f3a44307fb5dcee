#include "encoder/json.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"

int rot_json_parse(const char *bytes, size_t n_bytes, bool unique, const char *where, json_t **out,
                   rot_err *err)
{
    json_error_t at;
    json_t *root = json_loadb(bytes, n_bytes, unique ? JSON_REJECT_DUPLICATES : 0, &at);
    if (!root && json_error_code(&at) == json_error_out_of_memory)
        return rot_no_memory(err, n_bytes, where);
    if (!root)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: line %d, column %d: %s", where, at.line, at.column,
                 at.text);
    if (!json_is_object(root)) {
        json_decref(root);
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: not a JSON object", where);
    }
    *out = root;
    return 0;
}

int rot_json_read(const char *path, bool unique, json_t **out, rot_err *err)
{
    char *bytes = NULL;
    size_t n_bytes;
    ROT_TRY(rot_fs_read(path, &bytes, &n_bytes, err));
    int rc = rot_json_parse(bytes, n_bytes, unique, path, out, err);
    rot_free(bytes);
    return rc;
}

int rot_json_int(const json_t *object, const char *key, int64_t low, int64_t high,
                 const int64_t *fallback, int64_t *out, const char *where, rot_err *err)
{
    const json_t *value = json_object_get(object, key);
    if ((!value || json_is_null(value)) && fallback) {
        *out = *fallback;
        return 0;
    }
    if (!value) ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is missing", where, key);
    if (!json_is_integer(value))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is not a whole number", where, key);
    int64_t n = json_integer_value(value);
    if (n < low || n > high)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is %lld, not in %lld to %lld", where, key,
                 (long long)n, (long long)low, (long long)high);
    *out = n;
    return 0;
}

int rot_json_object(const json_t *object, const char *key, const json_t **out, const char *where,
                    rot_err *err)
{
    const json_t *value = json_object_get(object, key);
    if (!value) ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is missing", where, key);
    if (!json_is_object(value))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is not an object", where, key);
    *out = value;
    return 0;
}

int rot_json_doubles(const json_t *object, const char *key, int n, double *out, const char *where,
                     rot_err *err)
{
    const json_t *value = json_object_get(object, key);
    if (!value) ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is missing", where, key);
    if (!json_is_array(value) || json_array_size(value) != (size_t)n)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is not an array of %d numbers", where, key, n);
    for (int i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, (size_t)i);
        if (!json_is_number(item) || !isfinite(json_number_value(item)))
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s'[%d] is not a number", where, key, i);
        out[i] = json_number_value(item);
    }
    return 0;
}
