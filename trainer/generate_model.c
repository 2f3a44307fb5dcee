// What generation runs on: decoder, tokenizer, head and the marks around latents, checked against
// each other.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "encoder/safetensors.h"
#include "trainer/chain.h"
#include "trainer/decoder_family.h"
#include "trainer/generate.h"

enum { PATH_BYTES = 4096 };

static int check_options(const rot_generate_options *o, rot_err *err)
{
    const bool rot = o->method == ROT_GENERATE_ROT;
    if (rot && !o->head) ROT_FAIL(err, ROT_ERR_USAGE, "Render-of-Thought needs a head");
    if (!rot && o->head) ROT_FAIL(err, ROT_ERR_USAGE, "a head has no effect with this method");
    if (o->latents < 0 || o->latents > 1 << 20)
        ROT_FAIL(err, ROT_ERR_USAGE, "latents of %d: not from 0 on", o->latents);
    if (o->max_new_tokens < 1 || o->batch < 1 || o->batch > 4096)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s of %d: out of range",
                 o->batch < 1 || o->batch > 4096 ? "batch" : "max_new_tokens",
                 o->batch < 1 || o->batch > 4096 ? o->batch : o->max_new_tokens);
    if (o->stop == ROT_STOP_DISTANCE && !(o->distance > 0 && isfinite(o->distance)))
        ROT_FAIL(err, ROT_ERR_USAGE, "a distance of %g: not above 0", o->distance);
    const bool classifier = o->stop == ROT_STOP_CLASSIFIER || o->fit_per_step > 0;
    if (classifier && o->method != ROT_GENERATE_COCONUT)
        ROT_FAIL(err, ROT_ERR_USAGE, "the classifier is of Coconut's latents");
    if (o->fit_per_step > 0 && o->stop != ROT_STOP_BUDGET)
        ROT_FAIL(err, ROT_ERR_USAGE, "the classifier is fitted to latents that nothing stops");
    if (o->classifier && !classifier)
        ROT_FAIL(err, ROT_ERR_USAGE, "the classifier's file has no effect with this stop");
    const bool steps = o->method == ROT_GENERATE_COCONUT || rot;
    if (!steps && (o->stop != ROT_STOP_BUDGET || o->latents_out))
        ROT_FAIL(err, ROT_ERR_USAGE, "%s has no effect: this method has no latents",
                 o->latents_out ? "latents_out" : "stop");
    if (o->tree_out && o->method != ROT_GENERATE_COCONUT)
        ROT_FAIL(err, ROT_ERR_USAGE, "the search tree is of Coconut's latents");
    if (o->top_k < 1 || o->top_k > 100)
        ROT_FAIL(err, ROT_ERR_USAGE, "top_k of %d: not in 1 to 100", o->top_k);
    return 0;
}

// Folders that a head's folder brings along.
static int folder_of(const char *given, const char *head, const char *name, char out[PATH_BYTES],
                     rot_err *err)
{
    out[0] = 0;
    if (given) {
        if (strlen(given) >= PATH_BYTES) ROT_FAIL(err, ROT_ERR_USAGE, "%.100s...: too long", given);
        strcpy(out, given);
    } else if (head) {
        ROT_TRY(rot_fs_join(out, PATH_BYTES, head, name, err));
        if (!rot_fs_is_dir(out)) out[0] = 0;
    }
    return 0;
}

// The marks' ids, as training numbers them: tokens of their names, else behind the tokenizer's.
static int find_marks(rot_generator *g, rot_err *err)
{
    const rot_generate_options *o = g->options;
    g->begin = g->end = g->thought = -1;
    if (o->method == ROT_GENERATE_PLAIN) return 0;
    if (o->method == ROT_GENERATE_ROT) {
        rot_layout_tokens t;
        ROT_TRY(rot_tokenizer_layout_tokens(g->tokenizer, ROT_LAYOUT_ROT, &t, err));
        g->begin = t.img_begin;
        g->end = t.img_end;
        g->thought = t.img;
        return 0;
    }
    const int32_t size = rot_tokenizer_size(g->tokenizer);
    g->begin = rot_tokenizer_find(g->tokenizer, "<|start-latent|>");
    g->end = rot_tokenizer_find(g->tokenizer, "<|end-latent|>");
    g->thought = rot_tokenizer_find(g->tokenizer, "<|latent|>");
    if (g->begin < 0) g->begin = size;
    if (g->end < 0) g->end = size + 1;
    if (g->thought < 0) g->thought = size + 2;
    return 0;
}

static int set_row(rot_generator *g, const rot_safetensors *file, const char *path,
                   const char *name, int32_t id, rot_err *err)
{
    const rot_tensor *t = rot_safetensors_find(file, name);
    float *row = rot_malloc((size_t)g->d * sizeof *row);
    int rc = 0;
    if (!row) return rot_no_memory(err, (size_t)g->d * sizeof *row, "a row");
    if (!t || t->n_elements != (size_t)g->d ||
        (t->type != ROT_T_F32 && t->type != ROT_T_F16 && t->type != ROT_T_BF16))
        ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: no row %s of %d numbers", path, name, g->d);
    rot_tensor_to_f32(t, 0, (size_t)g->d, row);
    for (int32_t i = 0; i < g->d; i++)
        if (!isfinite(row[i]))
            ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: %s: element %d is not finite", path, name, i);
    rc = rot_decoder_set_row(g->decoder, id, row, err);
done:
    rot_free(row);
    return rc;
}

static int open_head(rot_generator *g, rot_err *err)
{
    const rot_generate_options *o = g->options;
    char path[PATH_BYTES];
    rot_safetensors *rows = NULL;
    ROT_TRY(rot_fs_join(path, sizeof path, o->head, "head.safetensors", err));
    ROT_TRY(rot_head_load(g->train, path, (size_t)g->d, &g->head, err));
    ROT_TRY(rot_fs_join(path, sizeof path, o->head, "tokens.safetensors", err));
    ROT_TRY(rot_safetensors_open(path, &rows, err));
    int rc = set_row(g, rows, path, "img_begin", g->begin, err);
    if (rc == 0) rc = set_row(g, rows, path, "img_end", g->end, err);
    if (rc == 0 && rot_safetensors_find(rows, "img")) // only its logit counts
        rc = set_row(g, rows, path, "img", g->thought, err);
    rot_safetensors_close(&rows);
    return rc;
}

static int open_decoder(rot_generator *g, rot_err *err)
{
    const rot_generate_options *o = g->options;
    const char *checkpoint = g->checkpoint, *adapter = g->adapter[0] ? g->adapter : NULL;
    rot_decoder_options d = rot_decoder_options_default();
    int32_t vocab;
    ROT_TRY(rot_decoder_read_vocab(checkpoint, &vocab, err));
    int32_t needed = g->end > g->thought ? g->end + 1 : g->thought + 1;
    if (needed > vocab && o->method != ROT_GENERATE_ROT && !adapter)
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "%s has %d rows of tokens, the marks of latents are %d to %d: it was not trained "
                 "with them",
                 checkpoint, vocab, g->begin, g->thought);
    d.checkpoint = checkpoint;
    d.adapter = adapter;
    d.backend = o->backend;
    d.precision = o->precision ? ROT_PRECISION_BF16 : ROT_PRECISION_F32;
    d.threads = o->threads;
    d.extra_rows = needed > vocab ? (uint32_t)(needed - vocab) : 0;
    ROT_TRY(rot_decoder_open(&d, &g->decoder, err));
    const rot_decoder_info *info = rot_decoder_get_info(g->decoder);
    if (info->n_eos < 1)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s/config.json names no eos_token_id", checkpoint);
    g->d = info->d;
    g->vocab = info->vocab;
    return 0;
}

// What tokenizer.json calls special.
static int find_special(rot_generator *g, const char *folder, rot_err *err)
{
    char path[PATH_BYTES];
    json_t *root = NULL;
    ROT_TRY(rot_fs_join(path, sizeof path, folder, "tokenizer.json", err));
    ROT_TRY(rot_json_read(path, false, &root, err));
    const json_t *added = json_object_get(root, "added_tokens");
    const size_t n = json_array_size(added);
    g->special = rot_malloc((n + 1) * sizeof *g->special);
    for (size_t i = 0; g->special && i < n; i++) {
        const json_t *token = json_array_get(added, i), *id = json_object_get(token, "id");
        if (json_is_true(json_object_get(token, "special")) && json_is_integer(id))
            g->special[g->n_special++] = (int32_t)json_integer_value(id);
    }
    json_decref(root);
    return g->special ? 0 : rot_no_memory(err, n * sizeof *g->special, "special tokens");
}

int rot_generator_classifier(const rot_generate_options *o, char *out, size_t n, rot_err *err)
{
    if (!o->classifier) return rot_fs_join(out, n, o->checkpoint, "../stop.safetensors", err);
    if (snprintf(out, n, "%s", o->classifier) >= (int)n)
        ROT_FAIL(err, ROT_ERR_USAGE, "%.100s...: too long", o->classifier);
    return 0;
}

int rot_generator_open(const rot_generate_options *o, rot_generator *g, rot_err *err)
{
    *g = (rot_generator){.options = o};
    ROT_TRY(check_options(o, err));
    ROT_TRY(folder_of(o->checkpoint, o->head, "model", g->checkpoint, err));
    ROT_TRY(folder_of(o->adapter, o->head, "adapter", g->adapter, err));
    if (!g->checkpoint[0]) ROT_FAIL(err, ROT_ERR_USAGE, "no checkpoint is named");
    const char *tokenizer = o->tokenizer ? o->tokenizer : g->checkpoint;
    int rc = rot_tokenizer_open(tokenizer, &g->tokenizer, err);
    if (rc == 0) rc = rot_tokenizer_worker_open(g->tokenizer, &g->worker, err);
    if (rc == 0) rc = find_special(g, tokenizer, err);
    if (rc == 0) rc = find_marks(g, err);
    if (rc == 0) rc = rot_chain_begin(tokenizer, &g->first, err);
    if (rc == 0) rc = open_decoder(g, err);
    if (rc == 0)
        rc = rot_train_open(o->backend, o->precision ? ROT_PRECISION_BF16 : ROT_PRECISION_F32,
                            o->threads, &g->train, err);
    if (rc == 0 && o->method == ROT_GENERATE_ROT) rc = open_head(g, err);
    char classifier[PATH_BYTES];
    if (rc == 0 && o->stop == ROT_STOP_CLASSIFIER) {
        rc = rot_generator_classifier(o, classifier, sizeof classifier, err);
        if (rc == 0) rc = rot_stop_load(classifier, (size_t)g->d, &g->stop, err);
    }
    if (rc == 0) rc = rot_sampler_open(o->temperature, o->top_p, g->vocab, &g->sampler, err);
    if (rc < 0) rot_generator_close(g);
    return rc;
}

void rot_generator_close(rot_generator *g)
{
    rot_sampler_close(&g->sampler);
    rot_free(g->special);
    g->special = NULL;
    rot_stop_free(&g->stop);
    rot_head_close(&g->head);
    rot_train_close(&g->train);
    rot_decoder_close(&g->decoder);
    rot_tokenizer_worker_close(&g->worker);
    rot_tokenizer_close(&g->tokenizer);
}
