// config.json and preprocessor_config.json. Defaults and meanings: transformers 4.57,
// models/qwen3_vl/configuration_qwen3_vl.py, models/qwen2_vl/image_processing_qwen2_vl_fast.py.
#include "encoder/checkpoint_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "encoder/json.h"

enum { PATH_BYTES = 4096 };

static int read_taps(const json_t *vision, rot_vision_config *out, const char *path, rot_err *err)
{
    static const int defaults[] = {8, 16, 24};
    const json_t *taps = json_object_get(vision, "deepstack_visual_indexes");
    if (!taps || json_is_null(taps)) {
        memcpy(out->taps, defaults, sizeof defaults);
        out->n_taps = 3;
        return 0;
    }
    if (!json_is_array(taps) || json_array_size(taps) > ROT_MAX_TAPS)
        ROT_FAIL(err, ROT_ERR_FORMAT,
                 "%s: 'deepstack_visual_indexes' is not an array of at most %d", path,
                 ROT_MAX_TAPS);
    out->n_taps = (int)json_array_size(taps);
    for (int i = 0; i < out->n_taps; i++) {
        const json_t *tap = json_array_get(taps, (size_t)i);
        int64_t n = json_is_integer(tap) ? json_integer_value(tap) : -1;
        if (n < 0 || n >= 1000000)
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'deepstack_visual_indexes'[%d] is no block", path,
                     i);
        out->taps[i] = (int)n;
    }
    return 0;
}

int rot_vision_config_check(const rot_vision_config *c, const char *where, rot_err *err)
{
    int side = (int)lrint(sqrt((double)c->n_positions));
    if (c->width % c->heads)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: the width %d is no multiple of %d heads", where,
                 c->width, c->heads);
    if (c->width / c->heads % 4) // row and column share half a head, in pairs
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: heads of %d: rotary positions need a multiple of 4",
                 where, c->width / c->heads);
    if (side * side != c->n_positions)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %d position embeddings are no square", where,
                 c->n_positions);
    if (c->in_channels != 3)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: %d input channels (supported: 3)", where,
                 c->in_channels);
    for (int i = 0; i < c->n_taps; i++)
        if (c->taps[i] >= c->depth || (i && c->taps[i] <= c->taps[i - 1]))
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: deepstack block %d: %s", where, c->taps[i],
                     c->taps[i] >= c->depth ? "the tower is not that deep" : "not in rising order");
    return 0;
}

static int read_sizes(const json_t *vision, rot_vision_config *out, const char *path, rot_err *err)
{
    const struct {
        const char *key;
        int64_t low, high, fallback;
        int *field;
    } sizes[] = {
        {"depth", 1, 1000, 27, &out->depth},
        {"hidden_size", 4, 65536, 1152, &out->width},
        {"num_heads", 1, 4096, 16, &out->heads},
        {"intermediate_size", 1, 1 << 20, 4304, &out->mlp_width},
        {"out_hidden_size", 1, 1 << 20, 3584, &out->out_width},
        {"in_channels", 1, 16, 3, &out->in_channels},
        {"patch_size", 1, 256, 16, &out->patch_px},
        {"temporal_patch_size", 1, 16, 2, &out->temporal},
        {"spatial_merge_size", 1, 16, 2, &out->merge},
        {"num_position_embeddings", 1, 1 << 24, 2304, &out->n_positions},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int64_t n;
        ROT_TRY(rot_json_int(vision, sizes[i].key, sizes[i].low, sizes[i].high, &sizes[i].fallback,
                             &n, path, err));
        *sizes[i].field = (int)n;
    }
    return 0;
}

// The tower stands in `vision_config`, or the file is the tower's own config.
static int read_vision(const json_t *root, rot_vision_config *out, const char *path, rot_err *err)
{
    static const char *const supported[] = {"qwen3_vl", "qwen3_vl_moe", "qwen3_vl_vision",
                                            "qwen3_vl_moe_vision"};
    const char *type = json_string_value(json_object_get(root, "model_type"));
    if (!type) ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'model_type' is missing", path);
    const json_t *vision = json_object_get(root, "vision_config");
    bool known = false;
    for (int i = 0; i < (vision ? 2 : 4); i++) known |= !strcmp(type, supported[i]);
    if (!known)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED,
                 "%s: model_type '%.60s' (supported: qwen3_vl, qwen3_vl_moe)", path, type);
    if (vision && !json_is_object(vision))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'vision_config' is not an object", path);
    if (!vision && !json_object_get(root, "depth"))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'vision_config' is missing", path);
    if (!vision) vision = root;
    snprintf(out->model_type, sizeof out->model_type, "%s", type);
    const json_t *act = json_object_get(vision, "hidden_act");
    if (act && (!json_is_string(act) || strcmp(json_string_value(act), "gelu_pytorch_tanh")))
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: 'hidden_act' is not gelu_pytorch_tanh", path);
    ROT_TRY(read_sizes(vision, out, path, err));
    ROT_TRY(read_taps(vision, out, path, err));
    return rot_vision_config_check(out, path, err);
}

int rot_checkpoint_read_config(const char *dir, rot_vision_config *out, rot_err *err)
{
    char path[PATH_BYTES];
    json_t *root;
    *out = (rot_vision_config){0};
    ROT_TRY(rot_fs_join(path, sizeof path, dir, "config.json", err));
    ROT_TRY(rot_json_read(path, true, &root, err));
    int rc = read_vision(root, out, path, err);
    json_decref(root);
    return rc;
}

// Areas: size.shortest_edge and longest_edge, over which min_pixels and max_pixels have precedence.
static int read_areas(const json_t *root, rot_preprocessor *out, const char *path, rot_err *err)
{
    const json_t *size = json_object_get(root, "size");
    const struct {
        const char *edge, *area;
        int64_t *field;
    } limits[] = {{"shortest_edge", "min_pixels", &out->min_pixels},
                  {"longest_edge", "max_pixels", &out->max_pixels}};
    for (int i = 0; i < 2; i++) {
        const json_t *object = root;
        const char *key = limits[i].area;
        const json_t *direct = json_object_get(root, key);
        if (!direct || json_is_null(direct)) {
            object = size;
            if (json_object_get(size, limits[i].edge)) key = limits[i].edge;
        }
        if (!object || !json_is_object(object))
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: neither 'size' nor '%s'", path, key);
        ROT_TRY(rot_json_int(object, key, 1, INT32_MAX, NULL, limits[i].field, path, err));
    }
    if (out->min_pixels > out->max_pixels)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: its smallest area %lld is over its largest %lld", path,
                 (long long)out->min_pixels, (long long)out->max_pixels);
    return 0;
}

// Switches that would change the pixels if they were not as Qwen3-VL sets them.
static int check_switches(const json_t *root, const char *path, rot_err *err)
{
    static const char *const on[] = {"do_resize", "do_rescale", "do_normalize", "do_convert_rgb"};
    for (int i = 0; i < 4; i++)
        if (json_is_false(json_object_get(root, on[i])))
            ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: '%s' is false", path, on[i]);
    const json_t *resample = json_object_get(root, "resample"),
                 *factor = json_object_get(root, "rescale_factor");
    if (resample && !json_is_null(resample) && json_integer_value(resample) != 3)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: 'resample' is not 3 (bicubic)", path);
    if (factor && !json_is_null(factor) && json_number_value(factor) != 1 / 255.0)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: 'rescale_factor' is not 1/255", path);
    return 0;
}

static int read_processor(const json_t *root, const rot_vision_config *config,
                          rot_preprocessor *out, const char *path, rot_err *err)
{
    const struct {
        const char *key;
        int wanted;
        int32_t *field;
    } sizes[] = {{"patch_size", config->patch_px, &out->patch_px},
                 {"temporal_patch_size", config->temporal, &out->temporal},
                 {"merge_size", config->merge, &out->merge}};
    for (int i = 0; i < 3; i++) {
        int64_t n;
        ROT_TRY(rot_json_int(root, sizes[i].key, 1, 256, NULL, &n, path, err));
        if (n != sizes[i].wanted)
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is %lld, config.json says %d", path,
                     sizes[i].key, (long long)n, sizes[i].wanted);
        *sizes[i].field = (int32_t)n;
    }
    ROT_TRY(read_areas(root, out, path, err));
    ROT_TRY(rot_json_doubles(root, "image_mean", 3, out->mean, path, err));
    ROT_TRY(rot_json_doubles(root, "image_std", 3, out->std, path, err));
    for (int i = 0; i < 3; i++)
        if ((float)out->std[i] == 0)
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'image_std'[%d] is 0", path, i);
    return check_switches(root, path, err);
}

int rot_checkpoint_read_preprocessor(const char *dir, const rot_vision_config *config,
                                     rot_preprocessor *out, rot_err *err)
{
    char path[PATH_BYTES];
    json_t *root;
    *out = (rot_preprocessor){0};
    ROT_TRY(rot_fs_join(path, sizeof path, dir, "preprocessor_config.json", err));
    ROT_TRY(rot_json_read(path, true, &root, err));
    int rc = read_processor(root, config, out, path, err);
    json_decref(root);
    return rc;
}
