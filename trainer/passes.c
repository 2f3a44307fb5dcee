#include "trainer/passes.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

typedef struct batch {
    rot_decoder *decoder;
    rot_context *context;
    const rot_sequence *sequences;
    size_t n, n_rows, d;
    int32_t n_passes; // m + 1
    size_t *begins;   // (n) the first row of a sequence in what follows
    float *rows;      // (n_rows, d) inputs
    float *grads;     // (n_rows, d) of the inputs
    float *packed;    // (n_rows, d) rows of one pass, one sequence after another
    float *hidden;    // (n_rows, d) what a pass gave, or the gradient of it
    int32_t *counts;  // (n) rows of a pass
} batch;

static int32_t thoughts_of(const batch *b, size_t i)
{
    return b->n_passes > 1 ? b->sequences[i].n_thoughts : 0;
}

// Rows [from, from + counts[i]) of sequence i in pass p.
static int32_t span(batch *b, int32_t p, size_t i)
{
    const rot_sequence *s = &b->sequences[i];
    int32_t thoughts = thoughts_of(b, i), from = 0, to = (int32_t)s->n;
    if (p < b->n_passes - 1) {
        from = p == 0 ? 0 : s->first + p - 1;
        to = p < thoughts ? s->first + p : from;
    } else if (thoughts)
        from = s->first + thoughts - 1;
    b->counts[i] = to - from;
    return from;
}

// Copies the rows of pass p between `whole` (n_rows, d) and `packed`; returns their number.
static size_t pack(batch *b, int32_t p, float *whole, float *packed, bool back)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        float *at = whole + (b->begins[i] + (size_t)span(b, p, i)) * b->d;
        size_t bytes = (size_t)b->counts[i] * b->d * sizeof(float);
        if (back)
            memcpy(at, packed + n * b->d, bytes);
        else
            memcpy(packed + n * b->d, at, bytes);
        n += (size_t)b->counts[i];
    }
    return n;
}

// The row of thought p, which pass p makes, of a sequence that has one.
static float *thought_row(const batch *b, float *whole, int32_t p, size_t i)
{
    return whole + (b->begins[i] + (size_t)b->sequences[i].first + (size_t)p) * b->d;
}

static int forward(batch *b, bool save, rot_err *err)
{
    for (int32_t p = 0; p < b->n_passes; p++) {
        pack(b, p, b->rows, b->packed, false);
        ROT_TRY(rot_context_forward(b->context, b->counts, b->packed, save, b->hidden, err));
        if (p == b->n_passes - 1) break;
        size_t row = 0;
        for (size_t i = 0; i < b->n; i++) {
            row += (size_t)b->counts[i];
            if (p < thoughts_of(b, i))
                memcpy(thought_row(b, b->rows, p, i), b->hidden + (row - 1) * b->d,
                       b->d * sizeof(float));
        }
    }
    return 0;
}

// From the gradient of the last pass's hidden rows in b->hidden back to all inputs.
static int backward(batch *b, rot_err *err)
{
    for (int32_t p = b->n_passes - 1; p >= 0; p--) {
        if (p < b->n_passes - 1) {
            size_t row = 0;
            for (size_t i = 0; i < b->n; i++) span(b, p, i), row += (size_t)b->counts[i];
            memset(b->hidden, 0, row * b->d * sizeof(float));
            row = 0;
            for (size_t i = 0; i < b->n; i++) {
                row += (size_t)b->counts[i];
                if (p < thoughts_of(b, i))
                    memcpy(b->hidden + (row - 1) * b->d, thought_row(b, b->grads, p, i),
                           b->d * sizeof(float));
            }
        }
        ROT_TRY(rot_context_backward(b->context, b->hidden, b->packed, err));
        pack(b, p, b->grads, b->packed, true);
    }
    for (size_t i = 0; i < b->n; i++) { // thoughts that are hidden states have no embedding
        const rot_sequence *s = &b->sequences[i];
        int32_t thoughts = thoughts_of(b, i), head = thoughts ? s->first : (int32_t)s->n;
        float *grads = b->grads + b->begins[i] * b->d;
        rot_decoder_embed_backward(b->decoder, s->ids, (size_t)head, grads);
        int32_t tail = head + thoughts;
        rot_decoder_embed_backward(b->decoder, s->ids + tail, s->n - (size_t)tail,
                                   grads + (size_t)tail * b->d);
    }
    return 0;
}

typedef struct supervised {
    size_t n;
    size_t *row, *sequence;  // (n) of the last pass's rows
    int32_t *labels;         // (n)
    float *weights, *losses; // (n)
    float *hidden, *grads;   // (n, d)
} supervised;

static void free_supervised(supervised *s)
{
    void *all[] = {s->row, s->sequence, s->labels, s->weights, s->losses, s->hidden, s->grads};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) rot_free(all[i]);
}

// The rows of the last pass that predict something.
static int gather(batch *b, float weight, supervised *s, rot_err *err)
{
    size_t most = b->n_rows ? b->n_rows : 1, row = 0;
    s->row = rot_malloc(most * sizeof *s->row);
    s->sequence = rot_malloc(most * sizeof *s->sequence);
    s->labels = rot_malloc(most * sizeof *s->labels);
    s->weights = rot_malloc(most * sizeof *s->weights);
    s->losses = rot_malloc(most * sizeof *s->losses);
    if (!s->row || !s->sequence || !s->labels || !s->weights || !s->losses)
        return rot_no_memory(err, most * 32, "supervised rows");
    for (size_t i = 0; i < b->n; i++) {
        const rot_sequence *q = &b->sequences[i];
        int32_t from = span(b, b->n_passes - 1, i);
        for (int32_t r = from; r + 1 < (int32_t)q->n; r++) {
            if (q->labels[r + 1] < 0) continue;
            s->row[s->n] = row + (size_t)(r - from);
            s->sequence[s->n] = i;
            s->labels[s->n++] = q->labels[r + 1];
        }
        row += (size_t)b->counts[i];
    }
    for (size_t i = 0; i < s->n; i++) s->weights[i] = weight / (float)s->n;
    size_t bytes = (s->n ? s->n : 1) * b->d * sizeof(float);
    s->hidden = rot_malloc(bytes);
    s->grads = rot_malloc(bytes);
    if (!s->hidden || !s->grads) return rot_no_memory(err, 2 * bytes, "supervised rows");
    for (size_t i = 0; i < s->n; i++)
        memcpy(s->hidden + i * b->d, b->hidden + s->row[i] * b->d, b->d * sizeof(float));
    return 0;
}

// Adds up the losses; false if one is not finite.
static bool add_losses(const supervised *s, rot_passes_loss *out)
{
    out->n_tokens = (int64_t)s->n;
    for (size_t i = 0; i < s->n; i++) {
        if (out->not_finite < 0 && !isfinite(s->losses[i]))
            out->not_finite = (int64_t)s->sequence[i];
        out->sum += (double)s->losses[i];
    }
    return out->not_finite < 0;
}

// A finite loss may have a gradient that is not.
static void check_gradients(const batch *b, rot_passes_loss *out)
{
    for (size_t i = 0; i < b->n && out->not_finite < 0; i++) {
        const float *grads = b->grads + b->begins[i] * b->d;
        float sum = 0;
        for (size_t k = 0; k < b->sequences[i].n * b->d; k++) sum += grads[k] * 0; // NaN, inf stay
        if (sum != 0) out->not_finite = (int64_t)i;
    }
}

static int run(batch *b, bool train, float weight, rot_passes_loss *out, rot_err *err)
{
    supervised s = {0};
    int code = forward(b, train, err);
    if (code == 0) code = gather(b, weight, &s, err);
    if (code == 0 && s.n)
        code = rot_decoder_cross_entropy(b->decoder, s.hidden, s.labels, s.weights, s.n, s.losses,
                                         train ? s.grads : NULL, err);
    if (code == 0 && add_losses(&s, out) && train && s.n) {
        size_t rows = 0;
        for (size_t i = 0; i < b->n; i++) rows += (size_t)b->counts[i]; // of the last pass
        memset(b->hidden, 0, rows * b->d * sizeof(float));
        for (size_t i = 0; i < s.n; i++)
            memcpy(b->hidden + s.row[i] * b->d, s.grads + i * b->d, b->d * sizeof(float));
        code = backward(b, err);
        if (code == 0) check_gradients(b, out);
    }
    free_supervised(&s);
    return code;
}

// Lays the rows out, opens the context, embeds.
static int prepare(batch *b, bool latent, rot_context **context, rot_err *err)
{
    b->n_passes = 1;
    for (size_t i = 0; i < b->n; i++) {
        const rot_sequence *s = &b->sequences[i];
        b->begins[i] = b->n_rows;
        b->n_rows += s->n;
        b->counts[i] = (int32_t)s->n;
        if (!latent || !s->n_thoughts) continue;
        if (s->first == 0) ROT_FAIL(err, ROT_ERR_INPUT, "a latent thought with nothing before it");
        if (s->n_thoughts >= b->n_passes) b->n_passes = s->n_thoughts + 1;
    }
    size_t bytes = (b->n_rows ? b->n_rows : 1) * b->d * sizeof(float);
    float **blocks[] = {&b->rows, &b->grads, &b->packed, &b->hidden};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (!(*blocks[i] = rot_malloc(bytes))) return rot_no_memory(err, bytes, "rows of a batch");
    if (*context)
        ROT_TRY(rot_context_reset(*context, b->n, b->counts, err));
    else
        ROT_TRY(rot_context_open(b->decoder, b->n, b->counts, true, context, err));
    b->context = *context;
    for (size_t i = 0; i < b->n; i++)
        ROT_TRY(rot_decoder_embed(b->decoder, b->sequences[i].ids, b->sequences[i].n,
                                  b->rows + b->begins[i] * b->d, err));
    return 0;
}

int rot_passes_run(rot_decoder *decoder, const rot_sequence *sequences, size_t n, bool latent,
                   bool train, float weight, uint64_t seed, const uint64_t *keys,
                   rot_context **context, rot_passes_loss *out, rot_err *err)
{
    *out = (rot_passes_loss){.not_finite = -1};
    if (n == 0) return 0;
    batch b = {.decoder = decoder,
               .sequences = sequences,
               .n = n,
               .d = (size_t)rot_decoder_get_info(decoder)->d,
               .begins = rot_calloc(n, sizeof *b.begins),
               .counts = rot_calloc(n, sizeof *b.counts)};
    int code = b.begins && b.counts ? prepare(&b, latent, context, err)
                                    : rot_no_memory(err, n * sizeof *b.begins, "a batch");
    if (code == 0) rot_context_dropout(b.context, seed, keys);
    if (code == 0) code = run(&b, train, weight, out, err);
    void *all[] = {b.begins, b.counts, b.rows, b.grads, b.packed, b.hidden};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) rot_free(all[i]);
    return code;
}
