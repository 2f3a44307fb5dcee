// pipeline: the order of samples and their batches. For any number of ranks, workers and stops,
// every sample of an epoch comes exactly once, in the same batches.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rotoscope/order.h"

static rot_err err;

#define OK(expr)                                                                                   \
    do {                                                                                           \
        int ok_ = (expr);                                                                          \
        if (ok_ < 0) fail_msg("%s: %s: %s", #expr, rot_error_name(ok_), err.message);              \
    } while (0)

static uint64_t dice;

static uint64_t throw_dice(uint64_t sides)
{
    dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (dice >> 33) % sides;
}

static void every_epoch_is_a_permutation(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 1000, 4096, 10007};
    static const uint64_t blocks[] = {0, 1, 2, 7, 64, 20000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t j = 0; j < sizeof blocks / sizeof *blocks; j++)
            for (uint64_t epoch = 0; epoch < 3; epoch++) {
                rot_order order = {sizes[i], 5, blocks[j], true};
                uint8_t *seen = calloc(sizes[i], 1);
                for (uint64_t p = 0; p < sizes[i]; p++) {
                    uint64_t s = rot_order_at(&order, epoch, p);
                    assert_true(s < sizes[i]);
                    assert_int_equal(seen[s]++, 0);
                    assert_int_equal(rot_order_position(&order, epoch, s), p);
                }
                free(seen);
            }
}

static void an_order_that_is_not_shuffled_is_that_of_the_store(void **state)
{
    (void)state;
    rot_order order = {100, 5, 0, false};
    for (uint64_t p = 0; p < 100; p++) assert_int_equal(rot_order_at(&order, 7, p), p);
}

// Chi-square of where each of n samples lands, over many epochs; 99.99% of fair ones are below.
static void samples_land_everywhere_alike(void **state)
{
    (void)state;
    enum { N = 10, EPOCHS = 20000 };
    unsigned counts[N][N] = {{0}};
    rot_order order = {N, 11, 0, true};
    for (uint64_t e = 0; e < EPOCHS; e++)
        for (uint64_t p = 0; p < N; p++) counts[p][rot_order_at(&order, e, p)]++;
    double chi = 0, expected = (double)EPOCHS / N;
    for (int p = 0; p < N; p++)
        for (int s = 0; s < N; s++)
            chi += (counts[p][s] - expected) * (counts[p][s] - expected) / expected;
    if (chi > 140) fail_msg("chi-square %.1f with 81 degrees of freedom", chi);
}

static void neighbours_do_not_stay_together(void **state)
{
    (void)state;
    rot_order order = {10007, 3, 0, true};
    int together = 0;
    for (uint64_t p = 1; p < order.n; p++)
        together += rot_order_at(&order, 0, p) == rot_order_at(&order, 0, p - 1) + 1;
    assert_in_range(together, 0, 8); // one is expected
    int same = 0;
    for (uint64_t p = 0; p < order.n; p++)
        same += rot_order_at(&order, 0, p) == rot_order_at(&order, 1, p);
    assert_in_range(same, 0, 8);
}

static void blocks_keep_their_samples_together(void **state)
{
    (void)state;
    rot_order order = {1000, 3, 64, true};
    int switches = 0;
    for (uint64_t p = 1; p < order.n; p++)
        switches += rot_order_at(&order, 0, p) / 64 != rot_order_at(&order, 0, p - 1) / 64;
    assert_int_equal(switches, 15);
}

/* ---- batches -----------------------------------------------------------------------------------
 */

enum { MAX_N = 600 };

typedef struct list {
    uint64_t samples[4 * MAX_N];
    size_t begins[4 * MAX_N], n_samples, n_batches;
} list;

static void add(list *l, const uint64_t *samples, size_t n)
{
    l->begins[l->n_batches++] = l->n_samples;
    memcpy(l->samples + l->n_samples, samples, n * sizeof *samples);
    l->n_samples += n;
    l->begins[l->n_batches] = l->n_samples;
}

static rot_batches_options some_options(uint64_t n)
{
    rot_batches_options o = rot_batches_options_default();
    o.order = (rot_order){n, throw_dice(1000), throw_dice(2) ? 0 : 1 + throw_dice(40),
                          throw_dice(4) != 0};
    o.batch_size = 1 + throw_dice(9);
    if (throw_dice(2)) {
        o.budget = 50 + throw_dice(500);
        if (throw_dice(2)) o.batch_size = 0;
        o.padded = throw_dice(2);
    }
    o.bucket = throw_dice(2);
    o.window = throw_dice(3) ? 10 + throw_dice(100) : 0;
    return o;
}

// An epoch from `from` on (NULL: its beginning) by `ranks` ranks of `workers` workers, at most
// `steps` of them; dealt out step by step as a data loader does. *to: the state then.
static void run(rot_batches_options o, const uint32_t *k, uint32_t ranks, uint32_t workers,
                const rot_batches_state *from, size_t steps, list *out, rot_batches_state *to)
{
    static rot_batches *all[8][4];
    bool open[8][4];
    for (uint32_t r = 0; r < ranks; r++)
        for (uint32_t w = 0; w < workers; w++) {
            o.rank = r, o.ranks = ranks, o.worker = w, o.workers = workers;
            OK(rot_batches_open(&o, k, &all[r][w], &err));
            if (from) OK(rot_batches_set_state(all[r][w], from, &err));
            open[r][w] = true;
        }
    if (from)
        *to = *from;
    else
        rot_batches_get_state(all[0][0], to);
    for (size_t step = 0; step < steps; step++) {
        bool any = false;
        for (uint32_t r = 0; r < ranks; r++) {
            const uint64_t *samples;
            size_t n;
            uint32_t w = (uint32_t)(step % workers);
            if (!open[r][w]) continue;
            rot_batches_next(all[r][w], &samples, &n);
            rot_batches_state now;
            rot_batches_get_state(all[r][w], &now);
            if (n == 0) {
                open[r][w] = false;
                continue;
            }
            add(out, samples, n);
            if (any) assert_memory_equal(&now, to, sizeof now); // the same on every rank
            *to = now;
            any = true;
        }
        if (!any) break;
    }
    for (uint32_t r = 0; r < ranks; r++)
        for (uint32_t w = 0; w < workers; w++) rot_batches_close(&all[r][w]);
}

static void any_ranks_workers_and_stops_give_the_same_batches(void **state)
{
    (void)state;
    dice = 1;
    static list one, many;
    for (int trial = 0; trial < 300; trial++) {
        uint64_t n = throw_dice(MAX_N);
        uint32_t k[MAX_N];
        for (uint64_t i = 0; i < n; i++) k[i] = (uint32_t)(1 + throw_dice(120));
        rot_batches_options o = some_options(n);
        rot_batches_state end, at;
        memset(&one, 0, sizeof one);
        memset(&many, 0, sizeof many);
        run(o, k, 1, 1, NULL, SIZE_MAX, &one, &end);
        bool first = true;
        for (int leg = 0; leg < 6; leg++) { // stops, then goes on with other ranks and workers
            rot_batches_state next;
            run(o, k, 1 + (uint32_t)throw_dice(8), 1 + (uint32_t)throw_dice(4), first ? NULL : &at,
                leg == 5 ? SIZE_MAX : throw_dice(12), &many, &next);
            at = next;
            first = false;
        }
        assert_int_equal(many.n_batches, one.n_batches);
        assert_int_equal(many.n_samples, n);
        assert_memory_equal(many.samples, one.samples, n * sizeof *one.samples);
        assert_memory_equal(many.begins, one.begins, one.n_batches * sizeof *one.begins);
        uint8_t seen[MAX_N] = {0};
        for (uint64_t i = 0; i < n; i++) assert_int_equal(seen[one.samples[i]]++, 0);
    }
}

static void batches_keep_to_size_and_budget(void **state)
{
    (void)state;
    dice = 2;
    static list l;
    for (int trial = 0; trial < 200; trial++) {
        uint64_t n = throw_dice(MAX_N);
        uint32_t k[MAX_N];
        for (uint64_t i = 0; i < n; i++) k[i] = (uint32_t)(1 + throw_dice(120));
        rot_batches_options o = some_options(n);
        rot_batches_state end;
        memset(&l, 0, sizeof l);
        run(o, k, 1, 1, NULL, SIZE_MAX, &l, &end);
        for (size_t b = 0; b < l.n_batches; b++) {
            size_t m = l.begins[b + 1] - l.begins[b];
            uint64_t sum = 0, largest = 0;
            for (size_t i = l.begins[b]; i < l.begins[b + 1]; i++) {
                sum += k[l.samples[i]];
                if (k[l.samples[i]] > largest) largest = k[l.samples[i]];
            }
            if (o.batch_size) assert_true(m <= o.batch_size);
            if (o.budget && m > 1) assert_true((o.padded ? largest * m : sum) <= o.budget);
        }
    }
}

static void buckets_waste_less(void **state)
{
    (void)state;
    dice = 3;
    static list l;
    uint32_t k[MAX_N];
    for (uint64_t i = 0; i < MAX_N; i++) k[i] = (uint32_t)(1 + throw_dice(120));
    uint64_t padding[2];
    for (int bucket = 0; bucket < 2; bucket++) {
        rot_batches_options o = rot_batches_options_default();
        o.order = (rot_order){MAX_N, 1, 0, true};
        o.batch_size = 8;
        o.bucket = bucket;
        o.window = 256;
        rot_batches_state end;
        memset(&l, 0, sizeof l);
        run(o, k, 1, 1, NULL, SIZE_MAX, &l, &end);
        padding[bucket] = 0;
        for (size_t b = 0; b < l.n_batches; b++) {
            uint32_t largest = 0;
            for (size_t i = l.begins[b]; i < l.begins[b + 1]; i++)
                if (k[l.samples[i]] > largest) largest = k[l.samples[i]];
            for (size_t i = l.begins[b]; i < l.begins[b + 1]; i++)
                padding[bucket] += largest - k[l.samples[i]];
        }
    }
    assert_true(padding[1] * 4 < padding[0]);
}

static void drop_last_gives_every_rank_as_many_full_batches(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 70; n++)
        for (int bucket = 0; bucket < 2; bucket++) {
            uint32_t k[70];
            for (int i = 0; i < 70; i++) k[i] = 1 + (uint32_t)(i * 7 % 13);
            size_t batches[3] = {0};
            for (uint32_t r = 0; r < 3; r++) {
                rot_batches_options o = rot_batches_options_default();
                o.order = (rot_order){n, 1, 0, true};
                o.batch_size = 4;
                o.drop_last = true;
                o.bucket = bucket;
                o.rank = r, o.ranks = 3;
                rot_batches *b;
                const uint64_t *samples;
                size_t m;
                OK(rot_batches_open(&o, k, &b, &err));
                for (rot_batches_next(b, &samples, &m); m; rot_batches_next(b, &samples, &m)) {
                    assert_int_equal(m, 4);
                    batches[r]++;
                }
                rot_batches_close(&b);
            }
            for (int r = 0; r < 3; r++) assert_int_equal(batches[r], n / 4 / 3);
        }
}

static void epochs_follow_each_other_and_differ(void **state)
{
    (void)state;
    rot_batches_options o = rot_batches_options_default();
    o.order = (rot_order){100, 1, 0, true};
    o.batch_size = 100;
    rot_batches *b;
    rot_batches_state at;
    const uint64_t *samples;
    uint64_t first[100];
    size_t n;
    OK(rot_batches_open(&o, NULL, &b, &err));
    rot_batches_next(b, &samples, &n);
    assert_int_equal(n, 100);
    memcpy(first, samples, sizeof first);
    rot_batches_next(b, &samples, &n);
    assert_int_equal(n, 0);
    rot_batches_get_state(b, &at);
    assert_int_equal(at.epoch, 1);
    rot_batches_next(b, &samples, &n);
    assert_int_equal(n, 100);
    assert_memory_not_equal(first, samples, sizeof first);
    rot_batches_close(&b);
}

static void a_state_of_something_else_is_refused(void **state)
{
    (void)state;
    uint32_t k[50];
    for (int i = 0; i < 50; i++) k[i] = 3;
    rot_batches_options o = rot_batches_options_default();
    o.order = (rot_order){50, 1, 0, true};
    o.budget = 20;
    rot_batches *a, *b;
    rot_batches_state at;
    OK(rot_batches_open(&o, k, &a, &err));
    rot_batches_get_state(a, &at);
    k[7] = 4;
    OK(rot_batches_open(&o, k, &b, &err));
    assert_int_equal(rot_batches_set_state(b, &at, &err), ROT_ERR_USAGE);
    assert_int_equal(rot_batches_set_state(a, &at, &err), 0);
    at.position = 1;
    assert_int_equal(rot_batches_set_state(a, &at, &err), ROT_ERR_USAGE);
    at.position = 0;
    at.batch = 1000;
    assert_int_equal(rot_batches_set_state(a, &at, &err), ROT_ERR_USAGE);
    rot_batches_close(&a);
    rot_batches_close(&b);
}

static void options_without_sense_are_refused(void **state)
{
    (void)state;
    uint32_t k[5] = {1, 1, 1, 1, 1};
    rot_batches *b;
    rot_batches_options o = rot_batches_options_default(), good;
    o.order.n = 5;
    good = o;
    o.batch_size = 0;
    assert_int_equal(rot_batches_open(&o, k, &b, &err), ROT_ERR_USAGE);
    o = good;
    o.rank = 1;
    assert_int_equal(rot_batches_open(&o, k, &b, &err), ROT_ERR_USAGE);
    o = good;
    o.worker = 1;
    assert_int_equal(rot_batches_open(&o, k, &b, &err), ROT_ERR_USAGE);
    o = good;
    o.bucket = true;
    assert_int_equal(rot_batches_open(&o, NULL, &b, &err), ROT_ERR_USAGE);
    o = good;
    o.window = 3;
    o.batch_size = 4;
    assert_int_equal(rot_batches_open(&o, k, &b, &err), ROT_ERR_USAGE);
    o = good;
    o.size = 8;
    assert_int_equal(rot_batches_open(&o, k, &b, &err), ROT_ERR_USAGE);
    assert_null(b);
}

static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    rot_batches_options o = rot_batches_options_default();
    o.order.n = 5;
    int rc = ROT_ERR_NO_MEMORY;
    for (long n = 1; n < 20 && rc; n++) {
        rot_batches *b;
        rot_mem_fail_at(n);
        rc = rot_batches_open(&o, NULL, &b, &err);
        rot_mem_fail_at(0);
        assert_true(rc == 0 || rc == ROT_ERR_NO_MEMORY);
        rot_batches_close(&b);
    }
    assert_int_equal(rc, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_epoch_is_a_permutation),
        cmocka_unit_test(an_order_that_is_not_shuffled_is_that_of_the_store),
        cmocka_unit_test(samples_land_everywhere_alike),
        cmocka_unit_test(neighbours_do_not_stay_together),
        cmocka_unit_test(blocks_keep_their_samples_together),
        cmocka_unit_test(any_ranks_workers_and_stops_give_the_same_batches),
        cmocka_unit_test(batches_keep_to_size_and_budget),
        cmocka_unit_test(buckets_waste_less),
        cmocka_unit_test(drop_last_gives_every_rank_as_many_full_batches),
        cmocka_unit_test(epochs_follow_each_other_and_differ),
        cmocka_unit_test(a_state_of_something_else_is_refused),
        cmocka_unit_test(options_without_sense_are_refused),
        cmocka_unit_test(lack_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
