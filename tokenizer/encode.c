// Text to ids and back: added tokens are cut out, what is between them is normalized, cut again,
// split into words, and each word looked up or merged (tokenizers, tokenizer/mod.rs: encode).
#include "base/utf8.h"
#include "tokenizer/internal.h"

int rot_tokenizer_worker_open(const rot_tokenizer *tokenizer, rot_tokenizer_worker **out,
                              rot_err *err)
{
    int rc = 0;
    rot_tokenizer_worker *worker = *out = rot_calloc(1, sizeof *worker);
    if (!worker) return rot_no_memory(err, sizeof *worker, "tokenizer worker");
    worker->tokenizer = tokenizer;
    ROT_GO(rot_grow(&worker->ids, &worker->ids_capacity, 1024, sizeof *worker->ids, err));
    ROT_GO(tok_cache_open(&worker->cache, err));
    for (size_t i = 0; i < tokenizer->n_steps; i++)
        if (tokenizer->steps[i].pattern)
            ROT_GO(tok_pattern_state_open(tokenizer->steps[i].pattern, &worker->states[i], err));
done:
    if (rc < 0) rot_tokenizer_worker_close(out);
    return rc;
}

void rot_tokenizer_worker_close(rot_tokenizer_worker **worker)
{
    rot_tokenizer_worker *w = *worker;
    if (!w) return;
    for (size_t i = 0; i < TOK_MAX_STEPS; i++) tok_pattern_state_close(&w->states[i]);
    tok_normalizer_close(&w->normalizer);
    tok_bpe_close(&w->bpe);
    tok_cache_close(&w->cache);
    rot_free(w->prefixed);
    rot_free(w->template);
    rot_free(w->ids);
    rot_free(w->decoded);
    rot_free(w);
    *worker = NULL;
}

static int reserve(rot_tokenizer_worker *w, size_t n, rot_err *err)
{
    if (w->ids_capacity - w->n_ids >= n) return 0;
    return rot_grow(&w->ids, &w->ids_capacity, w->n_ids + n, sizeof *w->ids, err);
}

int tok_push_id(rot_tokenizer_worker *worker, int32_t id, rot_err *err)
{
    ROT_TRY(reserve(worker, 1, err));
    worker->ids[worker->n_ids++] = id;
    return 0;
}

// A word that is followed by `readable` - n_bytes more bytes of text.
static int add_word(rot_tokenizer_worker *w, tok_span word, size_t readable, rot_err *err)
{
    const tok_model *model = &w->tokenizer->model;
    ROT_TRY(reserve(w, TOK_CACHE_MAX_IDS, err));
    if (word.n_bytes == 1 && model->byte_ids[(unsigned char)word.text[0]] >= 0) {
        w->ids[w->n_ids++] = model->byte_ids[(unsigned char)word.text[0]];
        return 0;
    }
    int n = tok_cache_get(w->cache, word, readable, w->ids + w->n_ids);
    if (n >= 0) {
        w->n_ids += (size_t)n;
        return 0;
    }
    ROT_TRY(tok_bpe_word(&w->bpe, model, word, err));
    ROT_TRY(reserve(w, w->bpe.n_ids, err));
    if (w->bpe.n_ids) memcpy(w->ids + w->n_ids, w->bpe.ids, w->bpe.n_ids * sizeof *w->ids);
    w->n_ids += w->bpe.n_ids;
    tok_cache_put(w->cache, word, w->bpe.ids, w->bpe.n_ids);
    return 0;
}

static int add_words(rot_tokenizer_worker *w, size_t step, tok_span piece, size_t readable,
                     rot_err *err);

static int add_matches(rot_tokenizer_worker *w, size_t step, tok_span piece, size_t readable,
                       rot_err *err)
{
    const tok_pattern *pattern = w->tokenizer->steps[step].pattern;
    for (size_t at = 0, start, end; at < piece.n_bytes; at = end) {
        ROT_TRY(tok_pattern_next(pattern, w->states[step], piece, at, &start, &end, err));
        if (start > at) // between two matches
            ROT_TRY(add_words(w, step + 1, (tok_span){piece.text + at, start - at}, readable - at,
                              err));
        if (end > start)
            ROT_TRY(add_words(w, step + 1, (tok_span){piece.text + start, end - start},
                              readable - start, err));
    }
    return 0;
}

// Splits a piece by the steps from `step` on; each sees what the one before left, as a text of its
// own.
static int add_words(rot_tokenizer_worker *w, size_t step, tok_span piece, size_t readable,
                     rot_err *err)
{
    const rot_tokenizer *t = w->tokenizer;
    if (step == t->n_steps) return add_word(w, piece, readable, err);
    if (t->steps[step].scanner == TOK_SCAN_PATTERN)
        return add_matches(w, step, piece, readable, err);
    bool qwen = t->steps[step].scanner == TOK_SCAN_QWEN, last = step + 1 == t->n_steps;
    for (size_t at = 0, end; at < piece.n_bytes; at = end) {
        end = qwen ? tok_scan_qwen(&t->unicode, piece.text, piece.n_bytes, at)
                   : tok_scan_gpt2(&t->unicode, piece.text, piece.n_bytes, at);
        tok_span word = {piece.text + at, end - at};
        ROT_TRY(last ? add_word(w, word, readable - at, err)
                     : add_words(w, step + 1, word, readable - at, err));
    }
    return 0;
}

static int add_piece(rot_tokenizer_worker *w, tok_span piece, rot_err *err)
{
    if (!piece.n_bytes) return 0;
    if (w->tokenizer->add_prefix_space && piece.text[0] != ' ') {
        ROT_TRY(rot_grow(&w->prefixed, &w->prefixed_capacity, piece.n_bytes + 1, 1, err));
        w->prefixed[0] = ' ';
        memcpy(w->prefixed + 1, piece.text, piece.n_bytes);
        piece = (tok_span){w->prefixed, piece.n_bytes + 1};
    }
    return add_words(w, 0, piece, piece.n_bytes, err);
}

// A piece without exact added tokens: normalized, and cut at the normalized ones.
static int add_normalized(rot_tokenizer_worker *w, const tok_added_set *added, tok_span piece,
                          rot_err *err)
{
    tok_cutter cutter;
    tok_cut cut;
    if (w->tokenizer->nfc)
        ROT_TRY(tok_nfc(&w->normalizer, &w->tokenizer->unicode, piece, &piece, err));
    if (!added->normalized.n_nodes) return add_piece(w, piece, err);
    tok_cutter_start(&cutter, added, &added->normalized, &w->tokenizer->unicode, piece);
    while (tok_cutter_next(&cutter, &cut))
        ROT_TRY(cut.id >= 0
                    ? tok_push_id(w, cut.id, err)
                    : add_piece(w, (tok_span){piece.text + cut.start, cut.end - cut.start}, err));
    return 0;
}

int tok_encode(rot_tokenizer_worker *w, const tok_added_set *added, tok_span text, const char *what,
               rot_err *err)
{
    tok_cutter cutter;
    tok_cut cut;
    size_t valid = rot_utf8_valid(text.text, text.n_bytes);
    if (valid < text.n_bytes)
        ROT_FAIL(err, ROT_ERR_INPUT, "%s: invalid UTF-8 at byte %zu", what, valid);
    tok_cutter_start(&cutter, added, &added->exact, &w->tokenizer->unicode, text);
    while (tok_cutter_next(&cutter, &cut))
        ROT_TRY(cut.id >= 0
                    ? tok_push_id(w, cut.id, err)
                    : add_normalized(w, added,
                                     (tok_span){text.text + cut.start, cut.end - cut.start}, err));
    return 0;
}

int rot_tokenizer_encode(rot_tokenizer_worker *worker, const char *text, size_t n_bytes,
                         const int32_t **ids, size_t *n_ids, rot_err *err)
{
    worker->n_ids = 0;
    ROT_TRY(tok_encode(worker, &worker->tokenizer->added, (tok_span){text, n_bytes}, "text", err));
    *ids = worker->ids;
    *n_ids = worker->n_ids;
    return 0;
}

// The bytes that `id` stands for: added tokens and the layout's their text, others their raw bytes.
static bool bytes_of(const rot_tokenizer *t, int32_t id, tok_span *out)
{
    const tok_added *added = tok_added_by_id(&t->layout_added, id);
    if (added) {
        *out = (tok_span){added->text, added->n_bytes};
        return true;
    }
    if (id < 0 || !tok_model_has(&t->model, (size_t)id)) return false;
    const tok_token *token = &t->model.tokens[id];
    *out = (tok_span){t->model.strings + token->raw, token->n_raw};
    return true;
}

int rot_tokenizer_decode(rot_tokenizer_worker *worker, const int32_t *ids, size_t n_ids,
                         const char **text, size_t *n_bytes, rot_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < n_ids; i++) {
        tok_span bytes;
        if (!bytes_of(worker->tokenizer, ids[i], &bytes))
            ROT_FAIL(err, ROT_ERR_NOT_FOUND, "id %zu: the tokenizer has no token %d", i,
                     (int)ids[i]);
        ROT_TRY(
            rot_grow(&worker->decoded, &worker->decoded_capacity, n + bytes.n_bytes + 1, 1, err));
        memcpy(worker->decoded + n, bytes.text, bytes.n_bytes);
        n += bytes.n_bytes;
    }
    ROT_TRY(rot_grow(&worker->decoded, &worker->decoded_capacity, n + 1, 1, err));
    worker->decoded[n] = 0;
    *text = worker->decoded;
    *n_bytes = n;
    return 0;
}
