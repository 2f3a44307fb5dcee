// config.json and preprocessor_config.json. Defaults and meanings: transformers 4.57,
// models/*/configuration_*.py, models/qwen2_vl/image_processing_qwen2_vl_fast.py.
#include "encoder/checkpoint_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "encoder/json.h"

enum { PATH_BYTES = 4096 };

// A list of 0-based blocks; an absent key leaves `fallback`.
static int read_blocks(const json_t *vision, const char *key, const int *fallback, int n_fallback,
                       int *out, int *n_out, const char *path, rot_err *err)
{
    const json_t *blocks = json_object_get(vision, key);
    if (!blocks || json_is_null(blocks)) {
        memcpy(out, fallback, (size_t)n_fallback * sizeof *out);
        *n_out = n_fallback;
        return 0;
    }
    if (!json_is_array(blocks) || json_array_size(blocks) > ROT_MAX_LISTED)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s' is not an array of at most %d", path, key,
                 ROT_MAX_LISTED);
    *n_out = (int)json_array_size(blocks);
    for (int i = 0; i < *n_out; i++) {
        const json_t *block = json_array_get(blocks, (size_t)i);
        int64_t n = json_is_integer(block) ? json_integer_value(block) : -1;
        if (n < 0 || n >= 1000000)
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: '%s'[%d] is no block", path, key, i);
        out[i] = (int)n;
    }
    return 0;
}

// A view of the tower: whole patches, a position for each and one for the class token.
static int check_view(const rot_vision_config *c, const char *where, rot_err *err)
{
    if (c->tile_px % c->patch_px)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: an image size of %d is no multiple of the patch size %d",
                 where, c->tile_px, c->patch_px);
    for (int i = 0; i < c->n_pinpoints; i++)
        for (int k = 0; k < 2; k++)
            if (c->pinpoints[i][k] % c->tile_px)
                ROT_FAIL(
                    err, ROT_ERR_UNSUPPORTED,
                    "%s: 'image_grid_pinpoints'[%d] is %dx%d: no multiple of the image size %d",
                    where, i, (int)c->pinpoints[i][0], (int)c->pinpoints[i][1], c->tile_px);
    return 0;
}

int rot_vision_config_check(const rot_vision_config *c, const char *where, rot_err *err)
{
    const rot_tower_family *family = rot_tower_family_of(c->model_type);
    int side = (int)lrint(sqrt((double)c->n_positions));
    if (c->width % c->heads)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: the width %d is no multiple of %d heads", where,
                 c->width, c->heads);
    if (c->width / c->heads % 4) // row and column share half a head, in pairs
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: heads of %d: rotary positions need a multiple of 4",
                 where, c->width / c->heads);
    if (family->positions == ROT_POSITIONS_GRID && side * side != c->n_positions)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %d position embeddings are no square", where,
                 c->n_positions);
    if (family->positions == ROT_POSITIONS_CLASS) ROT_TRY(check_view(c, where, err));
    if (c->in_channels != 3)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: %d input channels (supported: 3)", where,
                 c->in_channels);
    if (c->window_px && c->window_px / c->merge / c->patch_px < 1)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: a window of %d pixels holds no merged token", where,
                 c->window_px);
    for (int i = 0; i < c->n_taps; i++)
        if (c->taps[i] >= c->depth || (i && c->taps[i] <= c->taps[i - 1]))
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: deepstack block %d: %s", where, c->taps[i],
                     c->taps[i] >= c->depth ? "the tower is not that deep" : "not in rising order");
    return 0;
}

static int read_sizes(const json_t *vision, const rot_tower_family *family, rot_vision_config *out,
                      const char *path, rot_err *err)
{
    out->temporal = out->merge = 1; // where a family has no key for them
    for (int i = 0; i < ROT_FAMILY_SIZES && family->sizes[i].key; i++) {
        const rot_family_size *size = &family->sizes[i];
        int64_t n;
        if (!strcmp(size->key, "mlp_ratio")) { // a whole number that may be written as a float
            const json_t *ratio = json_object_get(vision, size->key);
            double r = json_is_number(ratio) ? json_number_value(ratio) : 4;
            if (!(r > 0) || r > 64 || r * out->width != floor(r * out->width))
                ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'mlp_ratio' is %g", path, r);
            n = (int64_t)(r * out->width);
        } else
            ROT_TRY(rot_json_int(vision, size->key, size->low, size->high, &size->fallback, &n,
                                 path, err));
        *(int *)(void *)((char *)out + size->offset) = (int)n;
    }
    out->used_depth = out->depth;
    return 0;
}

// "gelu" and the like: what `key` says must be `wanted`.
static int want_string(const json_t *object, const char *key, const char *wanted, const char *path,
                       rot_err *err)
{
    const json_t *value = json_object_get(object, key);
    if (value && (!json_is_string(value) || strcmp(json_string_value(value), wanted)))
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: '%s' is not %s", path, key, wanted);
    return 0;
}

// [[height, width], ...], in the order in which ties are decided.
static int read_pinpoints(const json_t *root, int *n_out, int32_t (*out)[2], const char *path,
                          rot_err *err)
{
    static const int32_t usual[5][2] = {
        {336, 672}, {672, 336}, {672, 672}, {1008, 336}, {336, 1008}};
    const json_t *list = json_object_get(root, "image_grid_pinpoints");
    if (!list || json_is_null(list)) {
        memcpy(out, usual, sizeof usual);
        *n_out = 5;
        return 0;
    }
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n < 1 || n > ROT_MAX_PINPOINTS)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'image_grid_pinpoints' is not an array of 1 to %d", path,
                 ROT_MAX_PINPOINTS);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < 2; k++) {
            const json_t *pair = json_array_get(list, i), *side = json_array_get(pair, k);
            int64_t px = json_is_integer(side) ? json_integer_value(side) : 0;
            if (json_array_size(pair) != 2 || px < 1 || px > 1 << 15)
                ROT_FAIL(err, ROT_ERR_FORMAT,
                         "%s: 'image_grid_pinpoints'[%zu] is no height and width", path, i);
            out[i][k] = (int32_t)px;
        }
    *n_out = (int)n;
    return 0;
}

// What stands beside the tower's own config: the projector, and which block it reads.
static int read_llava(const json_t *root, const json_t *vision, rot_vision_config *out,
                      const char *path, rot_err *err)
{
    const int64_t usual = -2, text_width = 4096;
    int64_t layer, width;
    const json_t *text = json_object_get(root, "text_config");
    ROT_TRY(want_string(vision, "model_type", "clip_vision_model", path, err));
    ROT_TRY(want_string(root, "projector_hidden_act", "gelu", path, err));
    ROT_TRY(want_string(root, "vision_feature_select_strategy", "default", path, err));
    if (json_is_false(json_object_get(root, "multimodal_projector_bias")))
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: 'multimodal_projector_bias' is false", path);
    if (json_is_array(json_object_get(root, "vision_feature_layer")))
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: 'vision_feature_layer' is a list", path);
    // hidden_states has the input of the first block and the output of each
    ROT_TRY(rot_json_int(root, "vision_feature_layer", -out->depth - 1, out->depth, &usual, &layer,
                         path, err));
    out->used_depth = (int)(layer < 0 ? out->depth + 1 + layer : layer);
    ROT_TRY(rot_json_int(text, "hidden_size", 1, 1 << 20, &text_width, &width, path, err));
    out->out_width = (int)width;
    const json_t *eps = json_object_get(vision, "layer_norm_eps");
    if (json_is_number(eps) && json_number_value(eps) > 0)
        out->norm_eps = (float)json_number_value(eps);
    ROT_TRY(read_pinpoints(root, &out->n_pinpoints, out->pinpoints, path, err));
    out->n_positions = out->tile_px / out->patch_px * (out->tile_px / out->patch_px) + 1;
    return 0;
}

// The tower stands in `vision_config`, or the file is the tower's own config.
static int read_vision(const json_t *root, rot_vision_config *out, const char *path, rot_err *err)
{
    const char *type = json_string_value(json_object_get(root, "model_type"));
    if (!type) ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'model_type' is missing", path);
    const json_t *vision = json_object_get(root, "vision_config");
    const rot_tower_family *family = rot_tower_family_of(type);
    bool known = family && !vision;
    for (int i = 0; family && i < family->n_whole; i++)
        known |= !strcmp(type, family->model_types[i]);
    if (!known) {
        char list[256];
        rot_tower_families_list(list, sizeof list);
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: model_type '%.60s' (supported: %s)", path, type,
                 list);
    }
    if (vision && !json_is_object(vision))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'vision_config' is not an object", path);
    if (!vision && (family->newline || !json_object_get(root, "depth")))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'vision_config' is missing", path);
    if (!vision) vision = root;
    snprintf(out->model_type, sizeof out->model_type, "%s", type);
    out->norm_eps = family->norm_eps;
    ROT_TRY(want_string(vision, "hidden_act", family->hidden_act, path, err));
    ROT_TRY(read_sizes(vision, family, out, path, err));
    static const int taps[] = {8, 16, 24};
    if (family->tap)
        ROT_TRY(read_blocks(vision, "deepstack_visual_indexes", taps, 3, out->taps, &out->n_taps,
                            path, err));
    if (family->full_key)
        ROT_TRY(read_blocks(vision, family->full_key, family->full_fallback,
                            family->n_full_fallback, out->full, &out->n_full, path, err));
    if (family->newline) ROT_TRY(read_llava(root, vision, out, path, err));
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

// Switches that would change the pixels if they were not as the published files set them.
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

static int read_patches(const json_t *root, const rot_vision_config *config, rot_preprocessor *out,
                        const char *path, rot_err *err)
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
    return read_areas(root, out, path, err);
}

// A size of LLaVA's processor: a number, or an object with one of two keys.
static int want_side(const json_t *root, const char *key, int wanted, const char *path,
                     rot_err *err)
{
    const json_t *value = json_object_get(root, key), *side = value;
    if (json_is_object(value)) side = json_object_get(value, "shortest_edge");
    if (json_is_object(value) && !side) side = json_object_get(value, "height");
    if (!json_is_integer(side) || json_integer_value(side) != wanted)
        ROT_FAIL(err, json_is_integer(side) ? ROT_ERR_UNSUPPORTED : ROT_ERR_FORMAT,
                 "%s: '%s' is not the 'image_size' of config.json, %d", path, key, wanted);
    return 0;
}

static int read_tiles(const json_t *root, const rot_vision_config *config, rot_preprocessor *out,
                      const char *path, rot_err *err)
{
    int n;
    if (json_is_false(json_object_get(root, "do_center_crop")))
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "%s: 'do_center_crop' is false", path);
    ROT_TRY(want_side(root, "size", config->tile_px, path, err));
    ROT_TRY(want_side(root, "crop_size", config->tile_px, path, err));
    ROT_TRY(read_pinpoints(root, &n, out->pinpoints, path, err));
    if (n != config->n_pinpoints ||
        memcmp(out->pinpoints, config->pinpoints, (size_t)n * sizeof *out->pinpoints))
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 'image_grid_pinpoints' are not those of config.json",
                 path);
    out->n_pinpoints = n;
    out->tile_px = config->tile_px;
    out->patch_px = config->patch_px;
    out->temporal = out->merge = 1;
    out->min_pixels = 1;
    out->max_pixels = INT32_MAX;
    return 0;
}

static int read_processor(const json_t *root, const rot_vision_config *config,
                          rot_preprocessor *out, const char *path, rot_err *err)
{
    out->family = rot_tower_family_of(config->model_type)->id;
    if (out->family == ROT_FAMILY_LLAVA_NEXT)
        ROT_TRY(read_tiles(root, config, out, path, err));
    else
        ROT_TRY(read_patches(root, config, out, path, err));
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
