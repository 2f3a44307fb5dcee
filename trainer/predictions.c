#include "trainer/predictions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "encoder/json.h"
#include "encoder/safetensors.h"

enum { PATH_BYTES = 4096 };

/* ---- which run it is ------------------------------------------------------------------------- */

static int add_file(rot_sha256 *hash, const char *folder, const char *name, rot_err *err)
{
    char path[PATH_BYTES];
    uint8_t bytes[32];
    ROT_TRY(rot_fs_join(path, sizeof path, folder, name, err));
    if (!rot_fs_is_file(path)) return 0;
    ROT_TRY(rot_sha256_file(path, bytes, err));
    rot_sha256_field(hash, name, strlen(name));
    rot_sha256_add(hash, bytes, sizeof bytes);
    return 0;
}

static int add_tensors(rot_sha256 *hash, const char *path, rot_err *err)
{
    rot_safetensors *file = NULL;
    uint8_t bytes[16];
    ROT_TRY(rot_safetensors_open(path, &file, err));
    for (size_t i = 0; i < rot_safetensors_count(file); i++) {
        const rot_tensor *t = rot_safetensors_at(file, i);
        rot_sha256_field(hash, t->name, strlen(t->name));
        rot_sha256_u64(hash, t->type);
        rot_xxh128_bytes(t->data, t->n_bytes, bytes);
        rot_sha256_add(hash, bytes, sizeof bytes);
        rot_tensor_drop(t);
    }
    rot_safetensors_close(&file);
    return 0;
}

// Over all that was read of the model's folders.
static int hash_model(const rot_generator *g, char hex[65], rot_err *err)
{
    const rot_generate_options *o = g->options;
    const char *tokenizer = o->tokenizer ? o->tokenizer : g->checkpoint;
    char path[PATH_BYTES];
    uint8_t bytes[32];
    int rc = 0;
    rot_sha256 *hash = rot_sha256_new();
    if (!hash) return rot_no_memory(err, 0, "a hash");
    ROT_GO(add_file(hash, tokenizer, "tokenizer.json", err));
    ROT_GO(add_file(hash, g->checkpoint, "config.json", err));
    ROT_GO(add_file(hash, g->checkpoint, "generation_config.json", err));
    ROT_GO(add_tensors(hash, g->checkpoint, err));
    if (g->adapter[0]) ROT_GO(add_file(hash, g->adapter, "adapter_config.json", err));
    if (g->adapter[0]) ROT_GO(add_tensors(hash, g->adapter, err));
    for (int i = 0; o->method == ROT_GENERATE_ROT && i < 2; i++) {
        ROT_GO(rot_fs_join(path, sizeof path, o->head,
                           i ? "tokens.safetensors" : "head.safetensors", err));
        ROT_GO(add_tensors(hash, path, err));
    }
    if (o->stop == ROT_STOP_CLASSIFIER) {
        ROT_GO(rot_generator_classifier(o, path, sizeof path, err));
        ROT_GO(add_tensors(hash, path, err));
    }
    rot_sha256_end(hash, bytes);
    rot_hex(bytes, sizeof bytes, hex);
    return 0;
done:
    rot_sha256_end(hash, bytes);
    return rc;
}

// Over all questions, whatever --limit says: a run of the first ones is the beginning of one of
// all.
static int hash_questions(const rot_questions *questions, char hex[65], rot_err *err)
{
    uint8_t bytes[32];
    rot_sha256 *hash = rot_sha256_new();
    if (!hash) return rot_no_memory(err, 0, "a hash");
    for (size_t i = 0; i < rot_questions_count(questions); i++) {
        const rot_question *q = rot_questions_get(questions, i);
        rot_sha256_field(hash, q->id, strlen(q->id));
        rot_sha256_field(hash, q->question, strlen(q->question));
    }
    rot_sha256_end(hash, bytes);
    rot_hex(bytes, sizeof bytes, hex);
    return 0;
}

// What predictions depend on, as a JSON object.
static int describe(const rot_generator *g, const rot_questions *questions, json_t **out,
                    rot_err *err)
{
    static const char *const methods[] = {"rot", "coconut", "pause", "plain"};
    static const char *const stops[] = {"fixed", "token", "distance", "classifier"};
    const rot_generate_options *o = g->options;
    char model[65], asked[65];
    ROT_TRY(hash_model(g, model, err));
    ROT_TRY(hash_questions(questions, asked, err));
    *out =
        json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:i, s:f, s:f, s:f, s:I, s:i}", "model", model,
                  "questions", asked, "backend", g->train->identity, "method", methods[o->method],
                  "bf16", o->precision, "stop", stops[o->stop], "latents", (int)o->latents,
                  "distance", o->distance, "temperature", o->temperature, "top-p", o->top_p, "seed",
                  (json_int_t)o->seed, "max-new-tokens", (int)o->max_new_tokens);
    return *out ? 0 : rot_no_memory(err, 0, "a run's description");
}

static int check_run(const char *part, const json_t *theirs, json_t *ours, rot_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(ours, key, value)
    {
        const json_t *other = json_object_get(theirs, key);
        if (json_equal(other, value)) continue;
        char *is = json_dumps(value, JSON_ENCODE_ANY),
             *was = other ? json_dumps(other, JSON_ENCODE_ANY) : NULL;
        rot_err_set(err, ROT_ERR_USAGE,
                    "%s holds predictions of another run: '%s' was %.80s, is %.80s; finish that "
                    "run or remove the file",
                    part, key, was ? was : "not there", is ? is : "?");
        free(is);
        free(was);
        return ROT_ERR_USAGE;
    }
    return 0;
}

/* ---- the file -------------------------------------------------------------------------------- */

static int write_all(rot_predictions *p, const char *bytes, size_t n, rot_err *err)
{
    while (n) {
        ssize_t m = write(p->fd, bytes, n);
        if (m < 0 && errno == EINTR) continue;
        if (m < 0) return rot_err_errno(err, errno, "write", p->part);
        bytes += m;
        n -= (size_t)m;
    }
    return 0;
}

static bool is_prediction_of(const char *line, size_t n, const char *id)
{
    json_t *json = json_loadb(line, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    const char *text = json_string_value(json_object_get(json, "id"));
    bool good = text && !strcmp(text, id);
    json_decref(json);
    return good;
}

// The lines of an earlier start; *end: behind the last good one. Without a whole first line there
// is nothing: *end stays 0.
static int read_part(rot_predictions *p, const rot_questions *questions, size_t n, json_t *run,
                     size_t *end, rot_err *err)
{
    char *bytes = NULL;
    size_t n_bytes;
    *end = 0;
    ROT_TRY(rot_fs_read(p->part, &bytes, &n_bytes, err));
    int rc = 0;
    json_t *theirs = NULL;
    const char *line_end = memchr(bytes, '\n', n_bytes);
    if (!line_end) goto done;
    theirs = json_loadb(bytes, (size_t)(line_end - bytes), 0, NULL);
    if (!json_is_object(theirs))
        ROT_FAIL_GO(err, ROT_ERR_USAGE, "%s:1: not a run of generation; remove the file", p->part);
    ROT_GO(check_run(p->part, theirs, run, err));
    *end = (size_t)(line_end - bytes) + 1;
    const size_t first = *end;
    while (p->done < n && (line_end = memchr(bytes + *end, '\n', n_bytes - *end))) {
        size_t length = (size_t)(line_end - bytes) - *end;
        if (!is_prediction_of(bytes + *end, length, rot_questions_get(questions, p->done)->id))
            break;
        *end += length + 1;
        p->done++;
    }
    rot_str_add(&p->lines, bytes + first, *end - first);
    p->n_written = p->lines.n_bytes;
    if (p->lines.failed) rc = rot_no_memory(err, n_bytes, "predictions");
done:
    json_decref(theirs);
    rot_free(bytes);
    return rc;
}

static int begin_part(rot_predictions *p, const json_t *run, rot_err *err)
{
    char *text = json_dumps(run, 0);
    if (!text) return rot_no_memory(err, 0, "a run's description");
    int rc = write_all(p, text, strlen(text), err);
    if (rc == 0) rc = write_all(p, "\n", 1, err);
    free(text);
    return rc;
}

int rot_predictions_open(const rot_generator *g, const rot_questions *questions, size_t n,
                         bool resume, rot_predictions *out, rot_err *err)
{
    const char *path = g->options->predictions;
    json_t *run = NULL;
    size_t end = 0;
    int rc = 0;
    *out = (rot_predictions){.fd = -1};
    if (!resume) return 0;
    if (snprintf(out->part, sizeof out->part, "%s.part", path) >= PATH_BYTES)
        ROT_FAIL(err, ROT_ERR_USAGE, "%.100s...: too long", path);
    ROT_TRY(describe(g, questions, &run, err));
    ROT_GO(rot_fs_lock(out->part, &out->fd, err));
    ROT_GO(read_part(out, questions, n, run, &end, err));
    if (ftruncate(out->fd, (off_t)end) < 0 || lseek(out->fd, 0, SEEK_END) < 0)
        ROT_GO(rot_err_errno(err, errno, "truncate", out->part));
    if (!end) rc = begin_part(out, run, err);
done:
    json_decref(run);
    return rc;
}

int rot_predictions_flush(rot_predictions *p, rot_err *err)
{
    if (p->lines.failed) return rot_no_memory(err, p->lines.n_bytes, "predictions");
    if (p->fd < 0) return 0;
    ROT_TRY(write_all(p, p->lines.text + p->n_written, p->lines.n_bytes - p->n_written, err));
    p->n_written = p->lines.n_bytes;
    return 0;
}

int rot_predictions_finish(rot_predictions *p, const char *path, rot_err *err)
{
    ROT_TRY(rot_fs_write_atomic(path, p->lines.text, p->lines.n_bytes, err));
    if (p->fd >= 0) unlink(p->part);
    return 0;
}

void rot_predictions_close(rot_predictions *p)
{
    if (p->fd >= 0) close(p->fd);
    rot_str_free(&p->lines);
}
