#include "encoder/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "encoder/checkpoint_config.h"

enum { PATH_BYTES = 4096, NAME_BYTES = 128 };

struct entry {
    char name[NAME_BYTES]; // canonical
    const rot_tensor *tensor;
};

struct rot_checkpoint {
    rot_vision_config config;
    rot_preprocessor preprocessor;
    rot_safetensors *file;
    struct entry *entries; // sorted by name
    size_t n_entries;
    int64_t n_parameters;
};

// `format` takes an index (%.0d prints nothing for 0) and "weight" or "bias".
static void declare(rot_tower_tensor *out, int n_dims, const int64_t *shape, const char *format,
                    int i, const char *part)
{
    snprintf(out->name, sizeof out->name, format, i, part);
    out->n_dims = n_dims;
    memcpy(out->shape, shape, (size_t)n_dims * sizeof *shape);
}

// A weight [rows, cols] (or [rows] alone where cols is 0) and its bias [rows].
static size_t pair(rot_tower_tensor *out, const char *format, int i, int64_t rows, int64_t cols)
{
    declare(&out[0], cols ? 2 : 1, (int64_t[]){rows, cols}, format, i, "weight");
    declare(&out[1], 1, (int64_t[]){rows}, format, i, "bias");
    return 2;
}

size_t rot_tower_tensor_count(const rot_vision_config *c)
{
    return 3 + 12 * (size_t)c->depth + 6 * (size_t)(1 + c->n_taps);
}

// Shapes: transformers, models/qwen3_vl/modeling_qwen3_vl.py.
void rot_tower_tensors(const rot_vision_config *c, rot_tower_tensor *out)
{
    int64_t d = c->width, m = c->mlp_width, wide = d * c->merge * c->merge, o = c->out_width;
    const int64_t patch[] = {d, c->in_channels, c->temporal, c->patch_px, c->patch_px};
    declare(out++, 5, patch, "patch_embed.proj.%.0d%s", 0, "weight");
    declare(out++, 1, (int64_t[]){d}, "patch_embed.proj.%.0d%s", 0, "bias");
    declare(out++, 2, (int64_t[]){c->n_positions, d}, "pos_embed.%.0d%s", 0, "weight");
    for (int l = 0; l < c->depth; l++) {
        out += pair(out, "blocks.%d.norm1.%s", l, d, 0);
        out += pair(out, "blocks.%d.attn.qkv.%s", l, 3 * d, d);
        out += pair(out, "blocks.%d.attn.proj.%s", l, d, d);
        out += pair(out, "blocks.%d.norm2.%s", l, d, 0);
        out += pair(out, "blocks.%d.mlp.linear_fc1.%s", l, m, d);
        out += pair(out, "blocks.%d.mlp.linear_fc2.%s", l, d, m);
    }
    out += pair(out, "merger.norm.%.0d%s", 0, d, 0);
    out += pair(out, "merger.linear_fc1.%.0d%s", 0, wide, wide);
    out += pair(out, "merger.linear_fc2.%.0d%s", 0, o, wide);
    for (int j = 0; j < c->n_taps; j++) { // these norms are as wide as a merge cell
        out += pair(out, "deepstack_merger_list.%d.norm.%s", j, wide, 0);
        out += pair(out, "deepstack_merger_list.%d.linear_fc1.%s", j, wide, wide);
        out += pair(out, "deepstack_merger_list.%d.linear_fc2.%s", j, o, wide);
    }
}

static void put_shape(rot_str *text, int n_dims, const int64_t *shape)
{
    for (int i = 0; i < n_dims; i++)
        rot_str_printf(text, "%s%lld", i ? ", " : "[", (long long)shape[i]);
    rot_str_puts(text, n_dims ? "]" : "[]");
}

static int shape_error(const rot_tensor *tensor, const rot_tower_tensor *wanted, rot_err *err)
{
    rot_str text = {0};
    rot_str_printf(&text, "%s: %s has the shape ", tensor->file, tensor->name);
    put_shape(&text, tensor->n_dims, tensor->shape);
    rot_str_puts(&text, ", config.json says ");
    put_shape(&text, wanted->n_dims, wanted->shape);
    int rc = text.failed ? rot_no_memory(err, text.n_bytes, "a message")
                         : rot_err_set(err, ROT_ERR_FORMAT, "%s", text.text);
    rot_str_free(&text);
    return rc;
}

static int check_tensor(const rot_tensor *tensor, const rot_tower_tensor *wanted, rot_err *err)
{
    if (tensor->n_dims != wanted->n_dims ||
        memcmp(tensor->shape, wanted->shape, (size_t)wanted->n_dims * sizeof *wanted->shape))
        return shape_error(tensor, wanted, err);
    if (tensor->type != ROT_T_F32 && tensor->type != ROT_T_F16 && tensor->type != ROT_T_BF16)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s is not F32, F16 or BF16", tensor->file, tensor->name);
    return 0;
}

// The prefix under which the tower lies. The patch embedding decides; without it the one under
// which the first block's norm lies, so that the error can name what is missing.
static const char *find_prefix(const rot_safetensors *file)
{
    static const char *const prefixes[] = {"model.visual.", "visual.", ""};
    static const char *const witnesses[] = {"patch_embed.proj.weight", "blocks.0.norm1.weight"};
    char name[NAME_BYTES];
    for (int w = 0; w < 2; w++)
        for (int p = 0; p < 3; p++) {
            snprintf(name, sizeof name, "%s%s", prefixes[p], witnesses[w]);
            if (rot_safetensors_find(file, name)) return prefixes[p];
        }
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int find_tensors(rot_checkpoint *checkpoint, const char *dir, rot_err *err)
{
    const char *prefix = find_prefix(checkpoint->file);
    if (!prefix)
        ROT_FAIL(
            err, ROT_ERR_FORMAT,
            "%s: no vision tower in its tensors (no patch_embed.proj.weight under 'model.visual.', "
            "'visual.' or without a prefix)",
            dir);
    size_t n = rot_tower_tensor_count(&checkpoint->config);
    rot_tower_tensor *wanted = rot_malloc(n * sizeof *wanted);
    checkpoint->entries = rot_malloc(n * sizeof *checkpoint->entries);
    int rc = 0;
    if (!wanted || !checkpoint->entries) {
        rc = rot_no_memory(err, n * sizeof *wanted, "the tensors' names");
        goto done;
    }
    rot_tower_tensors(&checkpoint->config, wanted);
    for (size_t i = 0; i < n; i++) {
        char name[NAME_BYTES + 16];
        snprintf(name, sizeof name, "%s%s", prefix, wanted[i].name);
        const rot_tensor *tensor = rot_safetensors_find(checkpoint->file, name);
        if (!tensor) ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: the tensor %s is missing", dir, name);
        ROT_GO(check_tensor(tensor, &wanted[i], err));
        memcpy(checkpoint->entries[i].name, wanted[i].name, sizeof wanted[i].name);
        checkpoint->entries[i].tensor = tensor;
        checkpoint->n_parameters += (int64_t)tensor->n_elements;
    }
    checkpoint->n_entries = n;
    qsort(checkpoint->entries, n, sizeof *checkpoint->entries, by_name);
done:
    rot_free(wanted);
    return rc;
}

int rot_checkpoint_open(const char *dir, rot_checkpoint **out, rot_err *err)
{
    *out = NULL;
    if (!rot_fs_is_dir(dir)) ROT_FAIL(err, ROT_ERR_MISSING, "%s: no such checkpoint folder", dir);
    rot_checkpoint *checkpoint = rot_calloc(1, sizeof *checkpoint);
    if (!checkpoint) return rot_no_memory(err, sizeof *checkpoint, dir);
    int rc = 0;
    ROT_GO(rot_checkpoint_read_config(dir, &checkpoint->config, err));
    ROT_GO(
        rot_checkpoint_read_preprocessor(dir, &checkpoint->config, &checkpoint->preprocessor, err));
    ROT_GO(rot_safetensors_open(dir, &checkpoint->file, err));
    ROT_GO(find_tensors(checkpoint, dir, err));
    *out = checkpoint;
    checkpoint = NULL;
done:
    rot_checkpoint_close(&checkpoint);
    return rc;
}

void rot_checkpoint_close(rot_checkpoint **checkpoint)
{
    if (!*checkpoint) return;
    rot_safetensors_close(&(*checkpoint)->file);
    rot_free((*checkpoint)->entries);
    rot_free(*checkpoint);
    *checkpoint = NULL;
}

const rot_vision_config *rot_checkpoint_config(const rot_checkpoint *checkpoint)
{
    return &checkpoint->config;
}

const rot_preprocessor *rot_checkpoint_preprocessor(const rot_checkpoint *checkpoint)
{
    return &checkpoint->preprocessor;
}

const rot_tensor *rot_checkpoint_tensor(const rot_checkpoint *checkpoint, const char *name)
{
    struct entry key;
    if (snprintf(key.name, sizeof key.name, "%s", name) >= (int)sizeof key.name) return NULL;
    const struct entry *found =
        bsearch(&key, checkpoint->entries, checkpoint->n_entries, sizeof key, by_name);
    return found ? found->tensor : NULL;
}

int64_t rot_checkpoint_parameters(const rot_checkpoint *checkpoint)
{
    return checkpoint->n_parameters;
}

int rot_checkpoint_hash(const rot_checkpoint *checkpoint, char hex[65], rot_err *err)
{
    rot_sha256 *hash = rot_sha256_new();
    if (!hash) return rot_no_memory(err, 0, "a hash");
    for (size_t i = 0; i < checkpoint->n_entries; i++) {
        const struct entry *entry = &checkpoint->entries[i];
        const rot_tensor *tensor = entry->tensor;
        if (!strncmp(entry->name, "deepstack_merger_list.", 22)) continue;
        const char *type = rot_tensor_type_name(tensor->type);
        rot_sha256_field(hash, entry->name, strlen(entry->name));
        rot_sha256_field(hash, type, strlen(type));
        rot_sha256_u64(hash, (uint64_t)tensor->n_dims);
        for (int d = 0; d < tensor->n_dims; d++) rot_sha256_u64(hash, (uint64_t)tensor->shape[d]);
        rot_sha256_field(hash, tensor->data, tensor->n_bytes);
    }
    uint8_t digest[32];
    rot_sha256_end(hash, digest);
    rot_hex(digest, sizeof digest, hex);
    return 0;
}
