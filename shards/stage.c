// stage.json: written when all shards are there, read to open a stage.
#include "shards/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "shards/seal.h"

static const char *const codec_names[] = {"none", "zstd", "zstd-bf16"};

/* ---- writing -----------------------------------------------------------------------------------
 */

typedef struct totals {
    rot_sha256 *root;
    rot_str shards; // JSON
    uint64_t skipped, payload_bytes, file_bytes;
} totals;

static int add_shard(totals *t, const char *dir, const rot_stage_spec *spec, uint32_t number,
                     rot_err *err)
{
    char path[PATH_MAX], name[32], hex[33];
    rot_shard shard;
    rot_trailer trailer;
    ROT_TRY(rot_shard_path(path, sizeof path, dir, number, err));
    ROT_TRY(rot_shard_open(path, spec, number, &shard, err));
    int rc = rot_shard_trailer(&shard, spec, number, &trailer, err);
    if (rc < 0) {
        rot_err_prefix(err, "%s: ", path);
    } else {
        for (uint64_t i = 0; i < shard.n_rows; i++) {
            rot_sha256_u64(t->root, shard.first_row + i);
            rot_sha256_add(t->root, trailer.hashes + 16 * i, 16);
        }
        t->skipped += trailer.skipped;
        t->payload_bytes += trailer.payload_bytes;
        t->file_bytes += shard.map.n_bytes;
        rot_shard_name(number, name);
        rot_hex(trailer.hash, 16, hex);
        rot_str_printf(&t->shards,
                       "%s\n  {\"name\": \"%s\", \"rows\": %llu, \"bytes\": %zu, \"hash\": \"%s\"}",
                       number ? "," : "", name, (unsigned long long)shard.n_rows, shard.map.n_bytes,
                       hex);
    }
    rot_shard_close(&shard);
    return rc;
}

static int stage_json(const totals *t, const rot_stage_spec *spec, const uint8_t root[32],
                      char **sealed, rot_err *err)
{
    rot_str text = {0};
    char root_hex[65], fingerprint[65], *plain = NULL;
    rot_hex(root, 32, root_hex);
    rot_hex(spec->fingerprint, 32, fingerprint);
    rot_str_printf(&text, "{\n\"format\": 1,\n\"stage\": \"%s\",\n\"fingerprint\": \"%s\",\n",
                   spec->stage, fingerprint);
    rot_str_printf(
        &text, "\"layout\": {\"codec\": \"%s\", \"shard_samples\": %u, \"commit_samples\": %u},\n",
        codec_names[spec->layout.codec], spec->layout.shard_samples, spec->layout.commit_samples);
    rot_str_printf(&text,
                   "\"rows\": %llu,\n\"samples\": %llu,\n\"skipped\": %llu,\n\"root\": \"%s\",\n",
                   (unsigned long long)spec->rows, (unsigned long long)(spec->rows - t->skipped),
                   (unsigned long long)t->skipped, root_hex);
    rot_str_printf(&text, "\"payload_bytes\": %llu,\n\"file_bytes\": %llu,\n\"shards\": [",
                   (unsigned long long)t->payload_bytes, (unsigned long long)t->file_bytes);
    rot_str_add(&text, t->shards.text ? t->shards.text : "", t->shards.n_bytes);
    rot_str_printf(&text, "],\n\"content\": %s\n}\n", spec->content ? spec->content : "{}");
    if (t->shards.failed) text.failed = true;
    ROT_TRY(rot_str_take(&text, &plain, err));
    int rc = rot_dataset_seal(plain, sealed, err);
    rot_free(plain);
    return rc;
}

static int check_content(const char *content, rot_err *err)
{
    json_error_t error;
    json_t *json = content ? json_loads(content, JSON_REJECT_DUPLICATES, &error) : json_object();
    bool good = json_is_object(json);
    json_decref(json);
    if (!good) ROT_FAIL(err, ROT_ERR_USAGE, "the content of a stage is no JSON object");
    return 0;
}

int rot_stage_finish(const char *dir, const rot_stage_spec *spec, uint8_t root[32], rot_err *err)
{
    int rc = 0;
    char path[PATH_MAX], *text = NULL;
    totals t = {0};
    ROT_TRY(rot_spec_check(spec, err));
    ROT_TRY(check_content(spec->content, err));
    ROT_TRY(rot_fs_join(path, sizeof path, dir, "stage.json", err));
    t.root = rot_sha256_new();
    if (!t.root) return rot_no_memory(err, 0, "SHA-256");
    ROT_GO(rot_fs_mkdirs(dir, err));
    for (uint32_t i = 0; i < rot_shard_count(spec); i++) ROT_GO(add_shard(&t, dir, spec, i, err));
    rot_sha256_end(t.root, root);
    t.root = NULL;
    ROT_GO(stage_json(&t, spec, root, &text, err));
    ROT_GO(rot_fs_write_atomic(path, text, strlen(text), err));
done:
    rot_sha256_end(t.root, NULL);
    rot_str_free(&t.shards);
    rot_free(text);
    return rc;
}

/* ---- reading -----------------------------------------------------------------------------------
 */

static bool get_u64(const json_t *object, const char *key, uint64_t max, uint64_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return *out <= max;
}

static bool get_hex(const json_t *object, const char *key, uint8_t *out, size_t n)
{
    const char *hex = json_string_value(json_object_get(object, key));
    return hex && rot_unhex(hex, out, n) == 0;
}

static bool read_layout(const json_t *json, rot_stage_layout *out)
{
    const json_t *layout = json_object_get(json, "layout");
    const char *codec = json_string_value(json_object_get(layout, "codec"));
    uint64_t shard = 0, commit = 0;
    if (!codec || !get_u64(layout, "shard_samples", UINT32_MAX, &shard) ||
        !get_u64(layout, "commit_samples", UINT32_MAX, &commit))
        return false;
    out->shard_samples = (uint32_t)shard;
    out->commit_samples = (uint32_t)commit;
    for (int i = 0; i < 3; i++)
        if (strcmp(codec, codec_names[i]) == 0) {
            out->codec = (rot_codec)i;
            return true;
        }
    return false;
}

// The parts of stage.json but for its shards. NULL, or the key that is missing or wrong.
static const char *read_head(rot_stage *stage, const json_t *json)
{
    rot_stage_spec *spec = &stage->spec;
    rot_stage_info *info = &stage->info;
    uint64_t format;
    const char *name = json_string_value(json_object_get(json, "stage"));
    if (!get_u64(json, "format", 1, &format) || format != 1) return "format";
    if (!name || strlen(name) >= sizeof info->stage) return "stage";
    if (!get_hex(json, "fingerprint", spec->fingerprint, 32)) return "fingerprint";
    if (!get_hex(json, "root", stage->root, 32)) return "root";
    if (!read_layout(json, &spec->layout)) return "layout";
    if (!get_u64(json, "rows", UINT64_MAX, &spec->rows)) return "rows";
    if (!get_u64(json, "samples", spec->rows, &info->samples)) return "samples";
    if (!get_u64(json, "skipped", spec->rows, &info->skipped)) return "skipped";
    if (info->samples + info->skipped != spec->rows) return "skipped";
    if (!get_u64(json, "payload_bytes", UINT64_MAX, &info->payload_bytes)) return "payload_bytes";
    if (!get_u64(json, "file_bytes", UINT64_MAX, &info->file_bytes)) return "file_bytes";
    if (!json_is_object(json_object_get(json, "content"))) return "content";
    snprintf(info->stage, sizeof info->stage, "%s", name);
    rot_hex(spec->fingerprint, 32, info->fingerprint);
    rot_hex(stage->root, 32, info->root);
    info->layout = spec->layout;
    info->rows = spec->rows;
    return NULL;
}

static const char *read_shards(rot_stage *stage, const json_t *shards)
{
    if (!json_is_array(shards) || json_array_size(shards) != stage->n_shards) return "shards";
    for (uint32_t i = 0; i < stage->n_shards; i++) {
        const json_t *one = json_array_get(shards, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        char expected[32];
        uint64_t rows, first, n;
        rot_shard_name(i, expected);
        rot_shard_range(&stage->spec, i, &first, &n);
        if (!name || strcmp(name, expected) || !get_u64(one, "rows", n, &rows) || rows != n ||
            !get_u64(one, "bytes", UINT64_MAX, &stage->shards[i].bytes) ||
            !get_hex(one, "hash", stage->shards[i].trailer_hash, 16))
            return "shards";
    }
    return NULL;
}

static int read_json(rot_stage *stage, rot_err *err)
{
    char path[PATH_MAX];
    json_t *json;
    bool sealed;
    int rc = 0;
    ROT_TRY(rot_fs_join(path, sizeof path, stage->dir, "stage.json", err));
    rc = rot_seal_read(path, &json, &sealed, err);
    if (rc == ROT_ERR_FORMAT && err) err->code = ROT_ERR_CORRUPT; // nobody but us writes this file
    if (rc < 0) return rc == ROT_ERR_FORMAT ? ROT_ERR_CORRUPT : rc;
    const char *bad = sealed ? read_head(stage, json) : "sha256";
    if (bad) ROT_FAIL_GO(err, ROT_ERR_CORRUPT, "%s: '%s' is missing or wrong", path, bad);
    char *content = json_dumps(json_object_get(json, "content"), JSON_COMPACT);
    stage->spec.content = stage->info.content = content;
    stage->spec.stage = rot_strdup(stage->info.stage);
    if (!content || !stage->spec.stage) {
        rc = rot_no_memory(err, 0, "stage");
        goto done;
    }
    if (rot_spec_check(&stage->spec, err) < 0) {
        if (err) err->code = ROT_ERR_CORRUPT;
        rc = ROT_ERR_CORRUPT;
        rot_err_prefix(err, "%s: ", path);
        goto done;
    }
    stage->n_shards = rot_shard_count(&stage->spec);
    if (json_array_size(json_object_get(json, "shards")) != stage->n_shards)
        ROT_FAIL_GO(err, ROT_ERR_CORRUPT, "%s: 'shards' is missing or wrong", path);
    stage->shards = rot_calloc(stage->n_shards, sizeof *stage->shards);
    if (!stage->shards) {
        rc = rot_no_memory(err, stage->n_shards * sizeof *stage->shards, "stage");
        goto done;
    }
    bad = read_shards(stage, json_object_get(json, "shards"));
    if (bad) ROT_FAIL_GO(err, ROT_ERR_CORRUPT, "%s: '%s' is missing or wrong", path, bad);
done:
    json_decref(json);
    return rc;
}

int rot_stage_open(const char *dir, rot_stage **out, rot_err *err)
{
    int rc = 0;
    *out = NULL;
    rot_stage *stage = rot_calloc(1, sizeof *stage);
    if (!stage) return rot_no_memory(err, sizeof *stage, "stage");
    if (snprintf(stage->dir, sizeof stage->dir, "%s", dir) >= (int)sizeof stage->dir)
        ROT_FAIL_GO(err, ROT_ERR_USAGE, "%.200s...: the path is too long", dir);
    ROT_GO(read_json(stage, err));
    ROT_GO(rot_codecs_new(&stage->codecs, err));
    *out = stage;
    stage = NULL;
done:
    rot_stage_close(&stage);
    return rc;
}

void rot_stage_unmap(rot_stage *stage)
{
    stage->members = NULL; // the block that was read last may lie in a map
    for (uint32_t i = 0; stage->shards && i < stage->n_shards; i++) {
        if (stage->shards[i].is_open) rot_shard_close(&stage->shards[i].open);
        stage->shards[i].is_open = false;
    }
}

void rot_stage_close(rot_stage **stage)
{
    rot_stage *s = *stage;
    if (!s) return;
    rot_stage_unmap(s);
    rot_free(s->shards);
    rot_codecs_free(&s->codecs);
    rot_buffer_free(&s->block);
    rot_buffer_free(&s->record);
    free((char *)s->spec.content);
    rot_spec_release(&s->spec);
    rot_free(s);
    *stage = NULL;
}

const rot_stage_info *rot_stage_get_info(const rot_stage *stage)
{
    return &stage->info;
}
