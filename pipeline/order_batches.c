// Batches: the order is taken a window at a time, and each window cut into batches by itself, so
// that a place in the run is told by the window and the number of its batches that are done.
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "rotoscope/order.h"

typedef struct member {
    uint64_t sample;
    uint32_t k, at; // at: in the window
} member;

struct rot_batches {
    rot_batches_options options;
    const uint32_t *k;
    rot_batches_state state; // between two steps
    uint64_t step;           // of this rank since the start or the last set_state
    // The window that was cut last
    bool cut;
    uint64_t cut_epoch, cut_position;
    member *members;    // (window)
    uint64_t *samples;  // (window), batch after batch
    uint32_t *begins;   // (n_batches + 1)
    uint32_t *sequence; // (n_batches): the order in which batches are dealt
    uint32_t n_batches;
};

rot_batches_options rot_batches_options_default(void)
{
    return (rot_batches_options){
        .size = sizeof(rot_batches_options), .batch_size = 1, .ranks = 1, .workers = 1};
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t digest_of(const rot_batches_options *o, const uint32_t *k)
{
    const uint64_t parts[] = {o->order.n,    o->order.seed, o->order.block, o->order.shuffle,
                              o->batch_size, o->budget,     o->padded,      o->bucket,
                              o->drop_last,  o->window};
    uint64_t digest = 1;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        digest = mix(digest * 31 + parts[i] + UINT64_C(0x9e3779b97f4a7c15));
    if (o->budget || o->bucket)
        for (uint64_t i = 0; i < o->order.n; i++) digest = mix(digest * 31 + k[i] + 1);
    return digest >> 1; // fits a signed integer, which is what other languages and JSON have
}

static int check(rot_batches_options *o, const uint32_t *k, rot_err *err)
{
    if (o->size != sizeof *o)
        ROT_FAIL(err, ROT_ERR_USAGE, "batches: options of %zu bytes, not %zu", o->size, sizeof *o);
    if (o->batch_size == 0 && o->budget == 0)
        ROT_FAIL(err, ROT_ERR_USAGE, "batches: neither a batch size nor a budget");
    if (o->ranks == 0 || o->rank >= o->ranks || o->workers == 0 || o->worker >= o->workers)
        ROT_FAIL(err, ROT_ERR_USAGE, "batches: rank %u of %u, worker %u of %u", o->rank, o->ranks,
                 o->worker, o->workers);
    if ((o->budget || o->bucket) && !k)
        ROT_FAIL(err, ROT_ERR_USAGE, "batches: a budget or buckets need the K of every sample");
    if (o->window == 0 && o->budget) o->window = 4096;
    if (o->window == 0 && o->batch_size <= UINT32_MAX / 64) o->window = 64 * o->batch_size;
    if (o->window == 0 || o->window > UINT32_MAX / 2 || o->batch_size > o->window)
        ROT_FAIL(err, ROT_ERR_USAGE, "batches: a window of %llu samples, batches of %llu",
                 (unsigned long long)o->window, (unsigned long long)o->batch_size);
    // Only the last window may have a batch that is not full.
    if (!o->budget) o->window -= o->window % o->batch_size;
    return 0;
}

int rot_batches_open(const rot_batches_options *options, const uint32_t *k, rot_batches **out,
                     rot_err *err)
{
    int rc = 0;
    *out = NULL;
    rot_batches *b = rot_calloc(1, sizeof *b);
    if (!b) return rot_no_memory(err, sizeof *b, "batches");
    b->options = *options;
    b->k = k;
    ROT_GO(check(&b->options, k, err));
    size_t n = b->options.window;
    if (n > options->order.n) n = options->order.n ? options->order.n : 1;
    b->members = rot_calloc(n, sizeof *b->members);
    b->samples = rot_calloc(n, sizeof *b->samples);
    b->begins = rot_calloc(n + 1, sizeof *b->begins);
    b->sequence = rot_calloc(n, sizeof *b->sequence);
    if (!b->members || !b->samples || !b->begins || !b->sequence) {
        rc = rot_no_memory(err, n * 32, "batches");
        goto done;
    }
    b->state.digest = digest_of(&b->options, k);
    *out = b;
    b = NULL;
done:
    rot_batches_close(&b);
    return rc;
}

void rot_batches_close(rot_batches **batches)
{
    rot_batches *b = *batches;
    if (!b) return;
    rot_free(b->members);
    rot_free(b->samples);
    rot_free(b->begins);
    rot_free(b->sequence);
    rot_free(b);
    *batches = NULL;
}

/* ---- one window --------------------------------------------------------------------------------
 */

static int by_k(const void *a, const void *b)
{
    const member *x = a, *y = b;
    if (x->k != y->k) return x->k < y->k ? -1 : 1;
    return x->at < y->at ? -1 : 1;
}

static bool fits(const rot_batches_options *o, uint64_t n, uint64_t sum, uint64_t largest,
                 uint64_t k)
{
    if (o->batch_size && n + 1 > o->batch_size) return false;
    if (!o->budget) return true;
    if (k > largest) largest = k;
    return o->padded ? largest <= o->budget / (n + 1) : sum + k <= o->budget;
}

// Cuts the window at `position` of `epoch` into batches.
static void cut(rot_batches *b, uint64_t epoch, uint64_t position)
{
    const rot_batches_options *o = &b->options;
    uint64_t left = o->order.n - position;
    uint32_t n = (uint32_t)(left < o->window ? left : o->window);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t sample = rot_order_at(&o->order, epoch, position + i);
        b->members[i] = (member){sample, b->k ? b->k[sample] : 0, i};
    }
    if (o->bucket) qsort(b->members, n, sizeof *b->members, by_k);
    b->n_batches = 0;
    uint64_t size = 0, sum = 0, largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t k = b->members[i].k;
        b->samples[i] = b->members[i].sample;
        if (i == 0 || !fits(o, size, sum, largest, k)) {
            b->begins[b->n_batches++] = i;
            size = sum = largest = 0;
        }
        size++;
        sum += k;
        if (k > largest) largest = k;
    }
    b->begins[b->n_batches] = n;
    if (o->drop_last && !o->budget && n % o->batch_size) b->n_batches--;
    // Else batches of short samples would always come first.
    rot_order order = {.n = b->n_batches,
                       .seed = o->order.seed + position + 1,
                       .shuffle = o->bucket && o->order.shuffle};
    for (uint32_t i = 0; i < b->n_batches; i++)
        b->sequence[i] = (uint32_t)rot_order_at(&order, epoch, i);
    b->cut = true;
    b->cut_epoch = epoch;
    b->cut_position = position;
}

/* ---- the sequence of all batches, and whose they are -------------------------------------------
 */

// The batch at `at` of the whole sequence, and `at` moved behind it; *n is 0 at the end of the
// epoch.
static void take(rot_batches *b, rot_batches_state *at, const uint64_t **samples, size_t *n)
{
    const rot_batches_options *o = &b->options;
    *n = 0;
    while (at->position < o->order.n) {
        if (!b->cut || b->cut_epoch != at->epoch || b->cut_position != at->position)
            cut(b, at->epoch, at->position);
        if (at->batch < b->n_batches) {
            uint32_t i = b->sequence[at->batch++], begin = b->begins[i];
            *samples = b->samples + begin;
            *n = b->begins[i + 1] - begin;
            return;
        }
        uint64_t left = o->order.n - at->position;
        at->position += left < o->window ? left : o->window;
        at->batch = 0;
    }
}

// One step of all ranks. *n is 0 if this rank has no batch in it, *end if the epoch has no such
// step. The samples of a step may lie in two windows, and the window cut last takes the place of
// the one before: then this rank's batch is taken again.
static void take_step(rot_batches *b, rot_batches_state *at, const uint64_t **samples, size_t *n,
                      bool *end)
{
    const rot_batches_options *o = &b->options;
    rot_batches_state mine = *at, begin = *at;
    const uint64_t *others;
    uint32_t rank = 0;
    for (; rank < o->ranks; rank++) {
        size_t n_other;
        if (rank == o->rank) mine = *at;
        take(b, at, &others, &n_other);
        if (n_other == 0) break;
    }
    *n = 0;
    *end = rank == 0 || (o->drop_last && rank < o->ranks);
    if (*end) {
        *at = begin;
        return;
    }
    if (o->rank < rank) take(b, &mine, samples, n);
}

void rot_batches_next(rot_batches *batches, const uint64_t **samples, size_t *n)
{
    rot_batches *b = batches;
    const rot_batches_options *o = &b->options;
    bool end = false;
    *samples = NULL;
    *n = 0;
    while (!end) {
        bool mine = b->step % o->workers == o->worker;
        take_step(b, &b->state, samples, n, &end);
        if (end) break;
        b->step++;
        if (mine && *n > 0) return;
    }
    *n = 0;
    b->state.epoch++;
    b->state.position = b->state.batch = 0;
    b->step = 0;
}

void rot_batches_get_state(const rot_batches *batches, rot_batches_state *out)
{
    *out = batches->state;
}

int rot_batches_set_state(rot_batches *batches, const rot_batches_state *state, rot_err *err)
{
    const rot_batches_options *o = &batches->options;
    if (state->digest != batches->state.digest)
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "batches: a state of other data, another seed or another way to cut batches");
    if (state->position > o->order.n ||
        (state->position < o->order.n && state->position % o->window))
        ROT_FAIL(err, ROT_ERR_USAGE, "batches: position %llu is not the beginning of a window",
                 (unsigned long long)state->position);
    rot_batches_state at = *state;
    if (at.position < o->order.n) {
        cut(batches, at.epoch, at.position);
        if (at.batch > batches->n_batches)
            ROT_FAIL(err, ROT_ERR_USAGE, "batches: batch %llu of a window of %u",
                     (unsigned long long)at.batch, batches->n_batches);
    }
    batches->state = at;
    batches->step = 0;
    return 0;
}
