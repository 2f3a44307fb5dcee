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
    bool counts; // for the embeddings
};

struct rot_checkpoint {
    rot_vision_config config;
    rot_preprocessor preprocessor;
    rot_safetensors *file;
    struct entry *entries; // sorted by name
    size_t n_entries;
    int64_t n_parameters;
};

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
static const char *find_prefix(const rot_safetensors *file, const rot_tower_family *family)
{
    char witnesses[2][NAME_BYTES], name[2 * NAME_BYTES];
    snprintf(witnesses[0], NAME_BYTES, "%s.weight", family->patch);
    const char *number = strstr(family->norm1, "%d");
    snprintf(witnesses[1], NAME_BYTES, "%.*s0%s.weight", (int)(number - family->norm1),
             family->norm1, number + 2);
    for (int w = 0; w < 2; w++)
        for (int p = 0; p < ROT_FAMILY_PREFIXES && family->prefixes[p]; p++) {
            snprintf(name, sizeof name, "%s%s", family->prefixes[p], witnesses[w]);
            if (rot_safetensors_find(file, name)) return family->prefixes[p];
        }
    return NULL;
}

static int no_tower(const char *dir, const rot_tower_family *family, rot_err *err)
{
    char tried[128] = "";
    for (int p = 0; p < ROT_FAMILY_PREFIXES && family->prefixes[p]; p++)
        snprintf(tried + strlen(tried), sizeof tried - strlen(tried), "%s%s%s%s", p ? ", " : "",
                 *family->prefixes[p] ? "'" : "",
                 *family->prefixes[p] ? family->prefixes[p] : "none",
                 *family->prefixes[p] ? "'" : "");
    ROT_FAIL(err, ROT_ERR_FORMAT,
             "%s: no vision tower in its tensors (no %s.weight under any of these prefixes: %s)",
             dir, family->patch, tried);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int find_tensors(rot_checkpoint *checkpoint, const char *dir, rot_err *err)
{
    const rot_tower_family *family = rot_tower_family_of(checkpoint->config.model_type);
    const char *prefix = find_prefix(checkpoint->file, family);
    if (!prefix) return no_tower(dir, family, err);
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
        if (wanted[i].use == ROT_USE_NONE) continue;
        snprintf(name, sizeof name, "%s%s", prefix, wanted[i].name);
        const rot_tensor *tensor = rot_safetensors_find(checkpoint->file, name);
        if (!tensor) ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: the tensor %s is missing", dir, name);
        ROT_GO(check_tensor(tensor, &wanted[i], err));
        struct entry *entry = &checkpoint->entries[checkpoint->n_entries++];
        memcpy(entry->name, wanted[i].name, sizeof entry->name);
        entry->tensor = tensor;
        entry->counts = wanted[i].use == ROT_USE_OUTPUT;
        checkpoint->n_parameters += (int64_t)tensor->n_elements;
    }
    qsort(checkpoint->entries, checkpoint->n_entries, sizeof *checkpoint->entries, by_name);
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

// What config.json alone decides: no tensor's shape shows it.
static void add_config(rot_sha256 *hash, const rot_vision_config *c)
{
    uint32_t eps;
    memcpy(&eps, &c->norm_eps, sizeof eps);
    const uint64_t values[] = {(uint64_t)c->heads,
                               (uint64_t)c->used_depth,
                               (uint64_t)c->window_px,
                               (uint64_t)c->merge,
                               eps,
                               (uint64_t)c->n_full};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) rot_sha256_u64(hash, values[i]);
    for (int i = 0; i < c->n_full; i++) rot_sha256_u64(hash, (uint64_t)c->full[i]);
}

// As in all published Qwen3-VL checkpoints. Their hashes are older than add_config, and stay what
// they were.
static bool is_published(const rot_vision_config *c)
{
    return rot_tower_family_of(c->model_type)->id == ROT_FAMILY_QWEN3_VL && c->heads == 16 &&
           c->merge == 2;
}

int rot_checkpoint_hash(const rot_checkpoint *checkpoint, bool with_taps, char hex[65],
                        rot_err *err)
{
    rot_sha256 *hash = rot_sha256_new();
    if (!hash) return rot_no_memory(err, 0, "a hash");
    for (size_t i = 0; i < checkpoint->n_entries; i++) {
        const struct entry *entry = &checkpoint->entries[i];
        const rot_tensor *tensor = entry->tensor;
        if (!entry->counts && !with_taps) continue;
        const char *type = rot_tensor_type_name(tensor->type);
        rot_sha256_field(hash, entry->name, strlen(entry->name));
        rot_sha256_field(hash, type, strlen(type));
        rot_sha256_u64(hash, (uint64_t)tensor->n_dims);
        for (int d = 0; d < tensor->n_dims; d++) rot_sha256_u64(hash, (uint64_t)tensor->shape[d]);
        rot_sha256_field(hash, tensor->data, tensor->n_bytes);
    }
    const rot_vision_config *c = &checkpoint->config;
    if (!is_published(c)) add_config(hash, c);
    for (int i = 0; with_taps && i < c->n_taps; i++) rot_sha256_u64(hash, (uint64_t)c->taps[i]);
    uint8_t digest[32];
    rot_sha256_end(hash, digest);
    rot_hex(digest, sizeof digest, hex);
    return 0;
}
