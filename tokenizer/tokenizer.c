// Opening and closing, and what a tokenizer says about itself.
#include <stdlib.h>

#include "base/fs.h"
#include "base/hash.h"
#include "tokenizer/internal.h"

// As transformers' add_tokens makes them of plain strings: special false, normalized true.
static int add_layout_tokens(rot_tokenizer *t, rot_err *err)
{
    static const char *const names[] = {"<img_begin>", "<img>", "<img_end>"};
    int32_t *const ids[] = {&t->layout_tokens.img_begin, &t->layout_tokens.img,
                            &t->layout_tokens.img_end};
    int32_t next = t->size;
    for (size_t i = 0; i < t->added.n_tokens; i++)
        ROT_TRY(tok_added_add(&t->layout_added, &t->added.tokens[i], err));
    for (size_t i = 0; i < 3; i++) {
        tok_span text = {names[i], strlen(names[i])};
        const tok_added *there = tok_added_find(&t->added, text);
        tok_added token = {.text = (char *)names[i], .n_bytes = text.n_bytes, .normalized = true};
        token.id = there ? there->id : tok_model_find(&t->model, text);
        if (token.id < 0) token.id = next++;
        *ids[i] = token.id;
        if (!there) ROT_TRY(tok_added_add(&t->layout_added, &token, err));
    }
    return tok_added_index(&t->layout_added, t->nfc, &t->unicode, err);
}

static int compare_ranks(const void *a, const void *b)
{
    uint32_t x = ((const tok_merge *)a)->rank, y = ((const tok_merge *)b)->rank;
    return (x > y) - (x < y);
}

// Merges in the order of their ranks: of equal pairs only the last counts, and gaps do not.
static int hash_merges(rot_sha256 *hash, const tok_model *model, rot_err *err)
{
    size_t n = 0;
    tok_merge *sorted = rot_malloc(model->n_merge_slots * sizeof *sorted);
    if (!sorted) return rot_no_memory(err, model->n_merge_slots * sizeof *sorted, "merges");
    for (size_t i = 0; i < model->n_merge_slots; i++)
        if (model->merges[i].pair != UINT64_MAX) sorted[n++] = model->merges[i];
    qsort(sorted, n, sizeof *sorted, compare_ranks);
    rot_sha256_u64(hash, n);
    for (size_t i = 0; i < n; i++) {
        rot_sha256_u64(hash, sorted[i].pair);
        rot_sha256_u64(hash, sorted[i].id);
    }
    rot_free(sorted);
    return 0;
}

static int hash_content(rot_tokenizer *t, rot_err *err)
{
    static const char scheme[] = "rotoscope tokenizer 1";
    rot_sha256 *hash = rot_sha256_new();
    if (!hash) return rot_no_memory(err, 0, "hash");
    rot_sha256_field(hash, scheme, strlen(scheme));
    rot_sha256_u64(hash, (uint64_t)t->nfc | (uint64_t)t->add_prefix_space << 1 |
                             (uint64_t)t->model.ignore_merges << 2);
    rot_sha256_u64(hash, t->n_steps);
    for (size_t i = 0; i < t->n_steps; i++)
        rot_sha256_field(hash, t->steps[i].source, t->steps[i].n_source);
    rot_sha256_u64(hash, t->model.n_tokens);
    for (size_t id = 0; id < t->model.n_ids; id++) {
        if (!tok_model_has(&t->model, id)) continue;
        rot_sha256_u64(hash, id);
        rot_sha256_field(hash, t->model.strings + t->model.tokens[id].text,
                         t->model.tokens[id].n_text);
    }
    rot_sha256_u64(hash, t->added.n_tokens);
    for (size_t i = 0; i < t->added.n_tokens; i++) {
        const tok_added *a = &t->added.tokens[i];
        rot_sha256_u64(hash, (uint64_t)a->id);
        rot_sha256_u64(hash, (uint64_t)a->single_word | (uint64_t)a->lstrip << 1 |
                                 (uint64_t)a->rstrip << 2 | (uint64_t)a->normalized << 3);
        rot_sha256_field(hash, a->text, a->n_bytes);
    }
    int rc = hash_merges(hash, &t->model, err);
    rot_sha256_end(hash, t->hash);
    return rc;
}

static int32_t size_of(const rot_tokenizer *t)
{
    int32_t size = (int32_t)t->model.n_ids;
    for (size_t i = 0; i < t->added.n_tokens; i++)
        if (t->added.tokens[i].id >= size) size = t->added.tokens[i].id + 1;
    return size;
}

int rot_tokenizer_open(const char *dir, rot_tokenizer **out, rot_err *err)
{
    int rc = 0;
    char path[4096], *json = NULL;
    size_t n_bytes;
    rot_tokenizer *t = *out = rot_calloc(1, sizeof *t);
    if (!t) return rot_no_memory(err, sizeof *t, "tokenizer");
    ROT_GO(rot_fs_join(path, sizeof path, dir, "tokenizer.json", err));
    ROT_GO(rot_fs_read(path, &json, &n_bytes, err));
    ROT_GO(tok_unicode_open(&t->unicode, err));
    ROT_GO(tok_load(t, path, json, n_bytes, err));
    ROT_GO(tok_added_index(&t->added, t->nfc, &t->unicode, err));
    t->size = size_of(t);
    ROT_GO(add_layout_tokens(t, err));
    ROT_GO(hash_content(t, err));
done:
    rot_free(json);
    if (rc < 0) rot_tokenizer_close(out);
    return rc;
}

void rot_tokenizer_close(rot_tokenizer **tokenizer)
{
    rot_tokenizer *t = *tokenizer;
    if (!t) return;
    for (size_t i = 0; i < t->n_steps; i++) tok_step_close(&t->steps[i]);
    tok_model_close(&t->model);
    tok_added_close(&t->added);
    tok_added_close(&t->layout_added);
    tok_unicode_close(&t->unicode);
    rot_free(t);
    *tokenizer = NULL;
}

void rot_tokenizer_hash(const rot_tokenizer *tokenizer, uint8_t out[32])
{
    memcpy(out, tokenizer->hash, 32);
}

int32_t rot_tokenizer_size(const rot_tokenizer *tokenizer)
{
    return tokenizer->size;
}

int32_t rot_tokenizer_find(const rot_tokenizer *tokenizer, const char *token)
{
    tok_span text = {token, strlen(token)};
    const tok_added *added = tok_added_find(&tokenizer->added, text);
    return added ? added->id : tok_model_find(&tokenizer->model, text);
}
