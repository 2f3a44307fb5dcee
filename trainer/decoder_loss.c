// Both ends of the decoder: the embedding, and the head with its loss.
#include <string.h>

#include "base/err.h"
#include "trainer/decoder_parts.h"

enum { CHUNK_FLOATS = 1 << 23 }; // of logits

static int check_ids(const rot_decoder *decoder, const int32_t *ids, size_t n, rot_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= decoder->shape.info.vocab)
            ROT_FAIL(err, ROT_ERR_USAGE, "id %d at %zu, the vocabulary has %d", ids[i], i,
                     decoder->shape.info.vocab);
    return 0;
}

void rot_decoder_row(const rot_decoder *decoder, const rot_tensor *tensor, int32_t id, float *out)
{
    size_t d = (size_t)decoder->shape.info.d;
    for (size_t i = 0; i < decoder->n_rows; i++)
        if (decoder->rows[i].id == id) {
            memcpy(out, decoder->rows[i].values, d * sizeof *out);
            return;
        }
    if (id < tensor->shape[0])
        rot_tensor_to_f32(tensor, (size_t)id * d, d, out);
    else
        memset(out, 0, d * sizeof *out);
}

int rot_decoder_embed(const rot_decoder *decoder, const int32_t *ids, size_t n, float *out,
                      rot_err *err)
{
    size_t d = (size_t)decoder->shape.info.d;
    ROT_TRY(check_ids(decoder, ids, n, err));
    if (decoder->embedding_value)
        decoder->train->ops->gather(decoder->train, n, d, decoder->embedding_value, d, ids, false,
                                    out, d);
    for (size_t i = 0; i < n && !decoder->embedding_value; i++)
        rot_decoder_row(decoder, decoder->embedding, ids[i], out + i * d);
    return 0;
}

void rot_decoder_embed_backward(rot_decoder *decoder, const int32_t *ids, size_t n,
                                const float *d_rows)
{
    size_t d = (size_t)decoder->shape.info.d;
    if (decoder->embedding_grad)
        decoder->train->ops->scatter(decoder->train, n, d, d_rows, d, ids, true,
                                     decoder->embedding_grad, d);
}

int rot_decoder_set_row(rot_decoder *decoder, int32_t id, const float *row, rot_err *err)
{
    size_t d = (size_t)decoder->shape.info.d, at = 0;
    ROT_TRY(check_ids(decoder, &id, 1, err));
    if (decoder->head_value) memcpy(decoder->head_value + (size_t)id * d, row, d * sizeof *row);
    if (decoder->embedding_value)
        memcpy(decoder->embedding_value + (size_t)id * d, row, d * sizeof *row);
    if (!decoder->embedding_value || (decoder->head_tensor && !decoder->head_value)) {
        while (at < decoder->n_rows && decoder->rows[at].id != id) at++;
        if (at == decoder->n_rows) {
            ROT_TRY(
                rot_grow(&decoder->rows, &decoder->rows_capacity, at + 1, sizeof(rot_row), err));
            float *values = rot_malloc(d * sizeof *values);
            if (!values) return rot_no_memory(err, d * sizeof *values, "a row");
            decoder->rows[decoder->n_rows++] = (rot_row){id, values};
        }
        memcpy(decoder->rows[at].values, row, d * sizeof *row);
    }
    return decoder->train->ops->weight_set(decoder->train, decoder->head, (size_t)id, 1, row, d,
                                           false, err);
}

int rot_decoder_logits(rot_decoder *decoder, const float *hidden, size_t n, float *logits,
                       rot_err *err)
{
    size_t d = (size_t)decoder->shape.info.d, vocab = (size_t)decoder->shape.info.vocab;
    return decoder->train->ops->linear(decoder->train, decoder->head, n, hidden, d, NULL, false,
                                       logits, vocab, err);
}

int rot_decoder_cross_entropy(rot_decoder *decoder, const float *hidden, const int32_t *labels,
                              const float *weights, size_t n, float *losses, float *d_hidden,
                              rot_err *err)
{
    rot_train *t = decoder->train;
    size_t d = (size_t)decoder->shape.info.d, vocab = (size_t)decoder->shape.info.vocab;
    size_t chunk = CHUNK_FLOATS / vocab;
    float *grad = decoder->shape.info.tied ? decoder->embedding_grad : decoder->head_grad;
    ROT_TRY(check_ids(decoder, labels, n, err));
    if (d_hidden && !weights) ROT_FAIL(err, ROT_ERR_USAGE, "a gradient of losses without weights");
    if (chunk < 16) chunk = 16;
    if (chunk > n) chunk = n;
    float *logits = t->ops->alloc(t, chunk * vocab, "logits", err);
    if (!logits) return ROT_ERR_NO_MEMORY;
    int rc = 0;
    for (size_t at = 0; at < n; at += chunk) {
        size_t rows = n - at < chunk ? n - at : chunk;
        const float *h = hidden + at * d;
        ROT_GO(rot_decoder_logits(decoder, h, rows, logits, err));
        t->ops->cross_entropy(t, rows, vocab, labels + at, d_hidden ? weights + at : NULL, logits,
                              losses + at);
        if (!d_hidden) continue;
        ROT_GO(t->ops->linear_back(t, decoder->head, rows, logits, vocab, false, d_hidden + at * d,
                                   d, err));
        if (grad) ROT_GO(t->ops->outer(t, rows, vocab, d, logits, vocab, h, d, grad, d, err));
    }
done:
    t->ops->release(t, logits);
    return rc;
}
