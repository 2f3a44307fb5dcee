// Embeddings that another program made, as a stage and a dataset that names it.
#include "pipeline/import.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bf16.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "rotoscope/reader.h"

rot_import_options rot_import_options_default(void)
{
    return (rot_import_options){.size = sizeof(rot_import_options),
                                .layout = {ROT_CODEC_NONE, 4096, 64}};
}

typedef struct job {
    const rot_import_options *options;
    rot_import_file file;
    rot_reader *with;
    rot_dataset *dataset; // of `with`
    const char *split;
    uint64_t rows;
    rot_stage_spec spec;
    char *content, dir[PATH_MAX], folder[64];
    void *converted; // one sample as f32
    size_t converted_bytes;
    int lock;
} job;

/* ---- what it is --------------------------------------------------------------------------------
 */

static int open_with(job *j, rot_err *err)
{
    const rot_import_options *o = j->options;
    j->split = o->split ? o->split : "train";
    j->rows = j->file.n;
    if (!o->with) return 0;
    ROT_TRY(rot_reader_open(o->with, o->split, NULL, &j->with, err));
    ROT_TRY(rot_dataset_open(o->with, &j->dataset, err));
    const rot_reader_info *info = rot_reader_get_info(j->with);
    if (info->samples != j->file.n)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s has %llu samples, split %s of %s has %llu", o->input,
                 (unsigned long long)j->file.n, info->split, o->with,
                 (unsigned long long)info->samples);
    j->split = info->split;
    j->rows = info->rows;
    return 0;
}

// The content fingerprint of an imported stage: all numbers, where samples begin, which rows they
// are.
static int describe(job *j, rot_err *err)
{
    const rot_import_file *f = &j->file;
    const rot_tensor_view *t = &f->values;
    uint8_t digest[32];
    char hex[65];
    rot_sha256 *hash = rot_sha256_new();
    rot_str text = {0};
    if (!hash) return rot_no_memory(err, 0, "SHA-256");
    static const unsigned sizes[] = {2, 4, 2};
    rot_sha256_field(hash, t->bytes, f->rows * f->width * sizes[t->dtype]);
    rot_sha256_field(hash, f->grid, f->grid ? 16 * f->n : 0);
    for (uint64_t i = 0; i < f->n; i++) {
        uint64_t begin, k, row = i;
        int rc = j->with ? rot_reader_row(j->with, i, &row, err) : 0;
        if (rc < 0) {
            rot_sha256_end(hash, NULL);
            return rc;
        }
        rot_import_file_sample(f, i, &begin, &k);
        rot_sha256_u64(hash, row);
        rot_sha256_u64(hash, k);
    }
    rot_sha256_end(hash, digest);
    rot_hex(digest, 32, hex);
    rot_str_printf(&text,
                   "{\"imported\": {\"sha256\": \"%s\", \"dtype\": \"%s\", \"d\": %llu, "
                   "\"rows\": %llu, \"samples\": %llu}}",
                   hex, t->dtype == ROT_FILE_BF16 ? "bf16" : "f32", (unsigned long long)f->width,
                   (unsigned long long)j->rows, (unsigned long long)f->n);
    ROT_TRY(rot_str_take(&text, &j->content, err));
    j->spec = (rot_stage_spec){
        .stage = "embeds", .content = j->content, .layout = j->options->layout, .rows = j->rows};
    rot_sha256_bytes(j->content, strlen(j->content), j->spec.fingerprint);
    rot_stage_folder(&j->spec, j->folder);
    if (snprintf(j->dir, sizeof j->dir, "%s/stages/%s", j->options->root, j->folder) >=
        (int)sizeof j->dir)
        ROT_FAIL(err, ROT_ERR_USAGE, "%.200s...: the path is too long", j->options->root);
    return 0;
}

/* ---- its stage ---------------------------------------------------------------------------------
 */

static int sample_record(job *j, uint64_t sample, rot_record *out, rot_err *err)
{
    const rot_import_file *f = &j->file;
    const rot_tensor_view *t = &f->values;
    uint64_t begin, k;
    rot_import_file_sample(f, sample, &begin, &k);
    uint64_t n = k * f->width, size = t->dtype == ROT_FILE_F32 ? 4 : 2;
    const unsigned char *from = t->bytes + begin * f->width * size;
    if (k > UINT32_MAX || n > UINT32_MAX)
        ROT_FAIL(err, ROT_ERR_TOO_LARGE, "%s: sample %llu has %llu rows", j->options->input,
                 (unsigned long long)sample, (unsigned long long)k);
    *out = (rot_record){
        .kind = ROT_KIND_EMBEDS,
        .dtype = t->dtype == ROT_FILE_BF16 ? ROT_DTYPE_BF16 : ROT_DTYPE_F32,
        .shape = {(uint32_t)k, (uint32_t)f->width, 0, 0},
        .payload = from,
        .n_bytes = n * (t->dtype == ROT_FILE_BF16 ? 2 : 4),
    };
    for (int i = 0; f->grid && i < 2; i++) {
        int64_t patches;
        memcpy(&patches, f->grid + 16 * sample + 8 * i, 8);
        if (patches < 0 || patches > UINT32_MAX)
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: grid %lld of sample %llu", j->options->input,
                     (long long)patches, (unsigned long long)sample);
        out->shape[2 + i] = (uint32_t)patches;
    }
    if (t->dtype != ROT_FILE_F16) return 0;
    ROT_TRY(rot_grow(&j->converted, &j->converted_bytes, out->n_bytes + 1, 1, err));
    for (uint64_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, from + 2 * i, 2);
        float value = rot_f16_to_f32(half);
        memcpy((char *)j->converted + 4 * i, &value, 4);
    }
    out->payload = j->converted;
    return 0;
}

static int append_row(job *j, rot_shard_writer *writer, uint64_t row, rot_err *err)
{
    static const char cause[] = "skipped";
    rot_record record = {.kind = ROT_KIND_TOMBSTONE,
                         .shape = {sizeof cause - 1},
                         .payload = cause,
                         .n_bytes = sizeof cause - 1};
    uint64_t sample = row;
    int rc = j->with ? rot_reader_sample(j->with, row, &sample, NULL) : 0;
    if (rc < 0 && rc != ROT_ERR_NOT_FOUND) return rot_reader_sample(j->with, row, &sample, err);
    if (rc == 0) ROT_TRY(sample_record(j, sample, &record, err));
    return rot_shard_writer_append(writer, row, &record, err);
}

static int write_shard(job *j, uint32_t shard, rot_err *err)
{
    rot_shard_writer *writer = NULL;
    uint64_t first, n, row;
    if (rot_shard_is_published(j->dir, shard)) return 0;
    rot_shard_range(&j->spec, shard, &first, &n);
    int rc = rot_shard_writer_open(j->dir, &j->spec, shard, NULL, &writer, &row, err);
    for (; rc == 0 && row < first + n; row++) rc = append_row(j, writer, row, err);
    if (rc == 0) rc = rot_shard_writer_publish(&writer, err);
    rot_shard_writer_close(&writer);
    return rc;
}

static int write_stage(job *j, rot_err *err)
{
    uint8_t root[32];
    for (uint32_t i = 0; i < rot_shard_count(&j->spec); i++) ROT_TRY(write_shard(j, i, err));
    ROT_TRY(rot_stage_finish(j->dir, &j->spec, root, err));
    return rot_stage_verify(j->dir, NULL, NULL, err);
}

/* ---- its dataset -------------------------------------------------------------------------------
 */

// How the new dataset file names a stage's folder: relative where it lies in the same root.
static int name_folder(const job *j, const char *dir, char out[PATH_MAX], rot_err *err)
{
    char root[PATH_MAX], real[PATH_MAX];
    if (!realpath(j->options->root, root) || !realpath(dir, real))
        ROT_FAIL(err, ROT_ERR_MISSING, "%s: no such folder", dir);
    size_t n = strlen(root);
    bool inside = strncmp(real, root, n) == 0 && real[n] == '/';
    snprintf(out, PATH_MAX, "%s", inside ? real + n + 1 : real);
    return 0;
}

static int add_stage(const job *j, const char *name, const char *dir, json_t *stages,
                     rot_stage_root *root, rot_err *err)
{
    rot_stage *stage = NULL;
    char path[PATH_MAX];
    ROT_TRY(name_folder(j, dir, path, err));
    ROT_TRY(rot_stage_open(dir, &stage, err));
    const rot_stage_info *info = rot_stage_get_info(stage);
    *root = (rot_stage_root){.split = j->split, .stage = name};
    rot_unhex(info->root, root->root, 32);
    json_object_set_new(stages, name,
                        json_pack("{s:s, s:s, s:s}", "path", path, "root", info->root,
                                  "fingerprint", info->fingerprint));
    rot_stage_close(&stage);
    return 0;
}

static int dataset_text(const job *j, char **out, rot_err *err)
{
    static const char *const names[] = {"tokens", "images"};
    json_t *stages = json_object();
    rot_stage_root roots[3];
    size_t n = 0;
    uint8_t digest[32];
    char hex[65], *text = NULL;
    int rc = 0;
    for (int i = 0; i < 2 && j->dataset; i++) {
        const char *dir = rot_dataset_stage_dir(j->dataset, j->split, names[i]);
        if (dir) ROT_GO(add_stage(j, names[i], dir, stages, &roots[n++], err));
    }
    ROT_GO(add_stage(j, "embeds", j->dir, stages, &roots[n++], err));
    rot_dataset_root_hash(roots, n, digest);
    rot_hex(digest, 32, hex);
    json_t *json = json_pack("{s:i, s:s, s:s, s:{s:{s:I, s:I, s:I, s:O}}}", "format", 1, "name",
                             j->options->name, "root", hex, "splits", j->split, "rows",
                             (json_int_t)j->rows, "samples", (json_int_t)j->file.n, "skipped",
                             (json_int_t)(j->rows - j->file.n), "stages", stages);
    text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    json_decref(json);
    rc = text ? rot_dataset_seal(text, out, err) : rot_no_memory(err, 0, "dataset");
done:
    free(text);
    json_decref(stages);
    return rc;
}

static int write_dataset(const job *j, const char *path, rot_err *err)
{
    char *text = NULL;
    ROT_TRY(dataset_text(j, &text, err));
    int rc = rot_fs_write_atomic(path, text, strlen(text), err);
    rot_free(text);
    return rc;
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

static int take_lock(job *j, rot_err *err)
{
    char path[PATH_MAX];
    ROT_TRY(rot_fs_join(path, sizeof path, j->options->root, ".rotoscope", err));
    ROT_TRY(rot_fs_mkdirs(path, err));
    ROT_TRY(rot_fs_join(path, sizeof path, j->options->root, ".rotoscope/lock", err));
    return rot_fs_lock(path, &j->lock, err);
}

static int check_options(const rot_import_options *o, char path[PATH_MAX], rot_err *err)
{
    char file[300];
    if (o->size != sizeof *o)
        ROT_FAIL(err, ROT_ERR_USAGE, "import: options of %zu bytes, not %zu", o->size, sizeof *o);
    if (!o->input || !o->root || !o->name || !*o->name || strchr(o->name, '/') || *o->name == '.' ||
        strlen(o->name) > 200)
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "import needs a file, a root and a dataset's name without slashes");
    snprintf(file, sizeof file, "%s.json", o->name);
    ROT_TRY(rot_fs_join(path, PATH_MAX, o->root, file, err));
    if (rot_fs_is_file(path)) ROT_FAIL(err, ROT_ERR_USAGE, "%s is there already", path);
    return 0;
}

int rot_import(const rot_import_options *o, char **path, rot_err *err)
{
    int rc = 0;
    char dataset[PATH_MAX];
    job j = {.options = o, .lock = -1};
    *path = NULL;
    ROT_TRY(check_options(o, dataset, err));
    ROT_GO(rot_import_file_open(o, &j.file, err));
    ROT_GO(open_with(&j, err));
    ROT_GO(describe(&j, err));
    ROT_GO(take_lock(&j, err));
    ROT_GO(write_stage(&j, err));
    ROT_GO(write_dataset(&j, dataset, err));
    *path = rot_strdup(dataset);
    if (!*path) rc = rot_no_memory(err, strlen(dataset), "path");
done:
    if (j.lock >= 0) close(j.lock);
    rot_free(j.converted);
    rot_free(j.content);
    rot_dataset_close(&j.dataset);
    rot_reader_close(&j.with);
    rot_import_file_close(&j.file);
    return rc;
}
