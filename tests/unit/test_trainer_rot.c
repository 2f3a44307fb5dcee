// The parts of a training run alone: losses, head, AdamW, rates, batches, which configs go on.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "base/mem.h"
#include "base/random.h"
#include "trainer/batches.h"
#include "trainer/checkpoint_config.h"
#include "trainer/head.h"
#include "trainer/loss.h"
#include "trainer/optimizer.h"
#include "trainer/schedule.h"

enum { D = 24, WIDTH = 17, ROWS = 5 };

static void fill(float *x, size_t n, uint64_t key, double spread)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(spread * rot_random_normal(key, i));
}

/* ---- losses ---------------------------------------------------------------------------------- */

static void gradients_of_losses_are_their_slopes(void **state)
{
    (void)state;
    for (int kind = ROT_LOSS_MSE; kind <= ROT_LOSS_STABLE; kind++)
        for (int reduction = ROT_REDUCE_PAPER; reduction <= ROT_REDUCE_RELEASED; reduction++) {
            float p[D], t[D], grad[D] = {0};
            fill(p, D, 1, 1.5);
            fill(t, D, 2, 1.5);
            rot_latent_loss(kind, reduction, D, p, t, 0.5, grad);
            for (int i = 0; i < D; i++) {
                float keep = p[i], step = 1.0f / 1024;
                p[i] = keep + step;
                double above = rot_latent_loss(kind, reduction, D, p, t, 1, NULL);
                p[i] = keep - step;
                double below = rot_latent_loss(kind, reduction, D, p, t, 1, NULL);
                p[i] = keep;
                double slope = 0.5 * (above - below) / (2 * (double)step);
                assert_true(fabs(slope - (double)grad[i]) <= 1e-4 * (1 + fabs(slope)));
            }
        }
}

static void a_loss_falls_back_where_it_has_no_value(void **state)
{
    (void)state;
    float zero[D] = {0}, t[D], huge[D];
    fill(t, D, 3, 1);
    double mse = rot_latent_loss(ROT_LOSS_MSE, ROT_REDUCE_PAPER, D, zero, t, 1, NULL);
    assert_true(rot_latent_loss(ROT_LOSS_COSINE, ROT_REDUCE_PAPER, D, zero, t, 1, NULL) == mse);
    for (int i = 0; i < D; i++) huge[i] = i ? 0 : INFINITY;
    double kl = rot_latent_loss(ROT_LOSS_KL, ROT_REDUCE_PAPER, D, huge, t, 1, NULL);
    assert_true(isinf(kl)); // that of mse, which is no number either: the caller says so
    float grad[D] = {0};
    double same = rot_latent_loss(ROT_LOSS_COSINE, ROT_REDUCE_PAPER, D, t, t, 1, grad);
    assert_true(fabs(same - 1e-6) < 1e-12); // held within its limits, where it has no slope
    for (int i = 0; i < D; i++) assert_true(grad[i] == 0);
}

static void reductions_differ_by_d(void **state)
{
    (void)state;
    float p[D], t[D];
    fill(p, D, 4, 1);
    fill(t, D, 5, 1);
    double paper = rot_latent_loss(ROT_LOSS_MSE, ROT_REDUCE_PAPER, D, p, t, 1, NULL);
    double released = rot_latent_loss(ROT_LOSS_MSE, ROT_REDUCE_RELEASED, D, p, t, 1, NULL);
    assert_true(fabs(paper - D * released) <= 1e-12 * paper);
}

/* ---- head ------------------------------------------------------------------------------------ */

// The head in double, as its header has it.
static void head_in_double(const rot_method_param *p, const float *h, double *y)
{
    double n[D], x[WIDTH], u[WIDTH], z[WIDTH], mean = 0, var = 0;
    for (int i = 0; i < D; i++) mean += (double)h[i] / D;
    for (int i = 0; i < D; i++) var += ((double)h[i] - mean) * ((double)h[i] - mean) / D;
    for (int i = 0; i < D; i++)
        n[i] = ((double)h[i] - mean) / sqrt(var + 1e-6) * (double)p[0].value[i] +
               (double)p[1].value[i];
    for (int j = 0; j < WIDTH; j++) {
        x[j] = p[3].value[j];
        for (int i = 0; i < D; i++) x[j] += (double)p[2].value[j * D + i] * n[i];
    }
    for (int j = 0; j < WIDTH; j++) {
        double g = 0, v = 0;
        for (int i = 0; i < WIDTH; i++) {
            g += (double)p[4].value[j * WIDTH + i] * x[i];
            v += (double)p[5].value[j * WIDTH + i] * x[i];
        }
        u[j] = g / (1 + exp(-g)) * v;
    }
    for (int j = 0; j < WIDTH; j++) {
        z[j] = 0;
        for (int i = 0; i < WIDTH; i++) z[j] += (double)p[6].value[j * WIDTH + i] * u[i];
    }
    for (int i = 0; i < D; i++) {
        y[i] = p[8].value[i];
        for (int j = 0; j < WIDTH; j++) y[i] += (double)p[7].value[i * WIDTH + j] * z[j];
    }
}

// Sum over rows of w . head(h)
static double weighed(const rot_method_param *p, const float *h, const float *w)
{
    double sum = 0, y[D];
    for (int r = 0; r < ROWS; r++) {
        head_in_double(p, h + r * D, y);
        for (int i = 0; i < D; i++) sum += (double)w[r * D + i] * y[i];
    }
    return sum;
}

static double slope_at(const rot_method_param *p, const float *h, const float *w, float *x)
{
    float keep = *x, step = 1.0f / 512;
    *x = keep + step;
    double above = weighed(p, h, w);
    *x = keep - step;
    double below = weighed(p, h, w);
    *x = keep;
    return (above - below) / (2 * (double)step);
}

static void the_head_is_its_formula_and_its_gradient_the_slope(void **state)
{
    (void)state;
    rot_err err = {0};
    rot_train *train = NULL;
    rot_head *head = NULL;
    rot_method_param p[ROT_HEAD_TENSORS];
    float h[ROWS * D], w[ROWS * D], y[ROWS * D], dh[ROWS * D];
    assert_int_equal(rot_train_open("ref", ROT_PRECISION_F32, 2, &train, &err), 0);
    assert_int_equal(rot_head_open(train, D, WIDTH, 7, &head, &err), 0);
    rot_head_params(head, p);
    fill(p[0].value, D, 10, 1);
    fill(p[1].value, D, 11, 1);
    assert_int_equal(rot_head_update(head, &err), 0);
    fill(h, ROWS * D, 12, 2);
    fill(w, ROWS * D, 13, 1);
    assert_int_equal(rot_head_forward(head, ROWS, h, true, y, &err), 0);
    for (int r = 0; r < ROWS; r++) {
        double want[D];
        head_in_double(p, h + r * D, want);
        for (int i = 0; i < D; i++) assert_true(fabs((double)y[r * D + i] - want[i]) <= 1e-5);
    }
    rot_head_zero_grad(head);
    assert_int_equal(rot_head_backward(head, w, true, dh, &err), 0);
    for (int k = 0; k < ROT_HEAD_TENSORS; k++)
        for (size_t i = 0; i < p[k].n; i += 7) {
            double slope = slope_at(p, h, w, &p[k].value[i]);
            assert_true(fabs(slope - (double)p[k].grad[i]) <= 1e-3 * (1 + fabs(slope)));
        }
    for (int i = 0; i < ROWS * D; i += 3) {
        double slope = slope_at(p, h, w, &h[i]);
        assert_true(fabs(slope - (double)dh[i]) <= 1e-3 * (1 + fabs(slope)));
    }
    rot_head_close(&head);
    rot_train_close(&train);
}

static void rows_of_the_head_do_not_depend_on_the_others(void **state)
{
    (void)state;
    rot_err err = {0};
    rot_train *train = NULL;
    rot_head *head = NULL;
    float h[ROWS * D], all[ROWS * D], one[D];
    assert_int_equal(rot_train_open("auto", ROT_PRECISION_F32, 1, &train, &err), 0);
    assert_int_equal(rot_head_open(train, D, WIDTH, 7, &head, &err), 0);
    fill(h, ROWS * D, 12, 2);
    assert_int_equal(rot_head_forward(head, ROWS, h, false, all, &err), 0);
    for (int r = 0; r < ROWS; r++) {
        assert_int_equal(rot_head_forward(head, 1, h + r * D, false, one, &err), 0);
        for (int i = 0; i < D; i++) assert_true(fabsf(one[i] - all[r * D + i]) <= 1e-6f);
    }
    rot_head_close(&head);
    rot_train_close(&train);
}

static void a_saved_head_reads_back(void **state)
{
    (void)state;
    rot_err err = {0};
    rot_train *train = NULL;
    rot_head *head = NULL, *again = NULL;
    rot_method_param a[ROT_HEAD_TENSORS], b[ROT_HEAD_TENSORS];
    char path[] = "/tmp/rot-head-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(rot_train_open("ref", ROT_PRECISION_F32, 1, &train, &err), 0);
    assert_int_equal(rot_head_open(train, D, WIDTH, 7, &head, &err), 0);
    assert_int_equal(rot_head_save(head, path, &err), 0);
    assert_int_equal(rot_head_load(train, path, D + 1, &again, &err), ROT_ERR_USAGE);
    assert_non_null(strstr(err.message, "24"));
    assert_non_null(strstr(err.message, "25"));
    assert_int_equal(rot_head_load(train, path, D, &again, &err), 0);
    assert_int_equal(rot_head_width(again), WIDTH);
    rot_head_params(head, a);
    rot_head_params(again, b);
    for (int i = 0; i < ROT_HEAD_TENSORS; i++)
        assert_memory_equal(a[i].value, b[i].value, a[i].n * sizeof(float));
    rot_head_close(&head);
    rot_head_close(&again);
    rot_train_close(&train);
    remove(path);
}

/* ---- AdamW ----------------------------------------------------------------------------------- */

typedef struct adam {
    double value, m, s;
} adam;

// Loshchilov and Hutter 2019, algorithm 2, with torch's order of operations.
static void adamw_in_double(adam *a, double grad, double lr, double decay, int step)
{
    a->value *= 1 - lr * decay;
    a->m = 0.9 * a->m + 0.1 * grad;
    a->s = 0.999 * a->s + 0.001 * grad * grad;
    double m = a->m / (1 - pow(0.9, step)), s = a->s / (1 - pow(0.999, step));
    a->value -= lr * m / (sqrt(s) + 1e-8);
}

static void adamw_follows_its_formula_and_clips(void **state)
{
    (void)state;
    enum { N = 50 };
    rot_err err = {0};
    rot_train *train = NULL;
    rot_optimizer *optimizer = NULL;
    float value[N], grad[N];
    adam want[N];
    fill(value, N, 20, 1);
    for (int i = 0; i < N; i++) want[i] = (adam){value[i], 0, 0};
    rot_method_param p = {.name = "x",
                          .n_dims = 1,
                          .shape = {N},
                          .n = N,
                          .value = value,
                          .grad = grad,
                          .decay = true};
    rot_train_config c = {
        .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .clip = 2};
    assert_int_equal(rot_train_open("auto", ROT_PRECISION_F32, 2, &train, &err), 0);
    assert_int_equal(rot_optimizer_open(train, &c, &p, 1, &optimizer, &err), 0);
    for (int step = 1; step <= 20; step++) {
        double sum = 0;
        fill(grad, N, 20 + (uint64_t)step, step % 2 ? 1 : 0.1); // over the limit, and below it
        for (int i = 0; i < N; i++) sum += (double)grad[i] * (double)grad[i];
        double norm = 0.5 * rot_optimizer_norm(optimizer), scale = 2 / (norm + 1e-6);
        assert_true(fabs(norm - 0.5 * sqrt(sum)) <= 1e-12 * norm);
        rot_optimizer_step(optimizer, 0.01, 0.5, norm);
        for (int i = 0; i < N; i++)
            adamw_in_double(&want[i], 0.5 * (double)grad[i] * (scale < 1 ? scale : 1), 0.01, 0.1,
                            step);
        for (int i = 0; i < N; i++) assert_true(fabs((double)value[i] - want[i].value) <= 2e-6);
    }
    assert_int_equal(rot_optimizer_get_steps(optimizer), 20);
    rot_optimizer_reset(optimizer);
    assert_int_equal(rot_optimizer_get_steps(optimizer), 0);
    for (int i = 0; i < N; i++) assert_true(rot_optimizer_moment(optimizer, 0, 1)[i] == 0);
    rot_optimizer_close(&optimizer);
    rot_train_close(&train);
}

/* ---- rates and batches ----------------------------------------------------------------------- */

static void rates_follow_their_schedules(void **state)
{
    (void)state;
    rot_train_config c = {.lr = 2, .warmup_steps = 4, .zero_first = true};
    assert_true(rot_schedule_rate(&c, 0, 10) == 0); // as transformers begins
    assert_true(rot_schedule_rate(&c, 1, 10) == 0.5);
    assert_true(rot_schedule_rate(&c, 4, 10) == 2 && rot_schedule_rate(&c, 99, 10) == 2);
    c.zero_first = false;
    assert_true(rot_schedule_rate(&c, 0, 10) == 0.5 && rot_schedule_rate(&c, 3, 10) == 2);
    c.schedule = ROT_SCHEDULE_LINEAR;
    assert_true(fabs(rot_schedule_rate(&c, 7, 10) - 1) < 1e-12);
    assert_true(rot_schedule_rate(&c, 10, 10) == 0 && rot_schedule_rate(&c, 50, 10) == 0);
    c.min_ratio = 0.25;
    assert_true(fabs(rot_schedule_rate(&c, 7, 10) - 2 * (0.25 + 0.75 * 0.5)) < 1e-12);
    c.schedule = ROT_SCHEDULE_COSINE;
    c.min_ratio = 0;
    assert_true(fabs(rot_schedule_rate(&c, 6, 10) - (1 + cos(acos(-1.0) / 3))) < 1e-12);
    c = (rot_train_config){
        .lr = 1, .warmup_steps = 20, .zero_first = true, .warmup = ROT_WARMUP_LOG};
    assert_true(rot_schedule_rate(&c, 0, 10) == 0); // DeepSpeed's WarmupLR
    assert_true(fabs(rot_schedule_rate(&c, 9, 10) - log(10) / log(20)) < 1e-12);
    assert_true(rot_schedule_rate(&c, 20, 10) == 1);
}

// The published code's own example: 385,620 samples in 16s on two machines, 4 to a step, 2 epochs
// (one machine here): the rate ends at three quarters of its peak.
static void the_released_schedule_never_ends(void **state)
{
    (void)state;
    rot_train_config c = {.lr = 1,
                          .warmup_steps = 20,
                          .zero_first = true,
                          .batch = 16,
                          .accumulate = 4,
                          .epochs = 2,
                          .rest = ROT_REST_CARRY,
                          .schedule = ROT_SCHEDULE_LINEAR};
    uint64_t micro = 2 * rot_epoch_micro_batches(&c, 385620), steps = rot_run_steps(&c, 385620);
    assert_int_equal(micro, 48204);
    assert_int_equal(steps, 12051);
    assert_true(fabs(rot_schedule_rate(&c, steps, micro) - 0.75) < 1e-3);
}

static void every_sample_comes_once_an_epoch(void **state)
{
    (void)state;
    enum { N = 103 };
    uint32_t lengths[N];
    rot_err err = {0};
    for (int i = 0; i < N; i++) lengths[i] = rot_random_below(9, (uint64_t)i, 50);
    rot_train_config c = {.batch = 8, .accumulate = 1, .epochs = 1, .bucket = true};
    rot_epoch_batches first, second, once;
    assert_int_equal(rot_epoch_batches_make(&c, 0, N, lengths, &first, &err), 0);
    assert_int_equal(rot_epoch_batches_make(&c, 1, N, lengths, &second, &err), 0);
    c.shuffle = ROT_SHUFFLE_ONCE;
    assert_int_equal(rot_epoch_batches_make(&c, 1, N, lengths, &once, &err), 0);
    int seen[N] = {0};
    assert_int_equal(first.n, 13);
    assert_int_equal(first.starts[first.n], N);
    for (int i = 0; i < N; i++) seen[first.samples[i]]++;
    for (int i = 0; i < N; i++) assert_int_equal(seen[i], 1);
    assert_memory_not_equal(first.samples, second.samples, N * sizeof *first.samples);
    assert_memory_equal(first.samples, once.samples, N * sizeof *first.samples);
    rot_epoch_batches_free(&first);
    rot_epoch_batches_free(&second);
    rot_epoch_batches_free(&once);
}

/* ---- which configs go on --------------------------------------------------------------------- */

static void a_config_that_changes_the_numbers_is_another(void **state)
{
    (void)state;
    static const char before[] =
        "seed: 1\nout: \"/a\"\ntrain:\n  batch: 16\n  epochs: 2\nlora:\n  r: 4\n";
    static const char longer[] =
        "seed: 1\nout: \"/b\"\ntrain:\n  batch: 16\n  epochs: 9\nlora:\n  r: 4\n";
    static const char batch[] =
        "seed: 1\nout: \"/a\"\ntrain:\n  batch: 8\n  epochs: 2\nlora:\n  r: 4\n";
    static const char less[] = "seed: 1\nout: \"/a\"\ntrain:\n  batch: 16\n  epochs: 2\n";
    char out[256];
    assert_false(rot_config_difference(before, before, out, sizeof out));
    assert_false(rot_config_difference(before, longer, out, sizeof out));
    assert_true(rot_config_difference(before, batch, out, sizeof out));
    assert_string_equal(out, "train.batch was 16, now it is 8");
    assert_true(rot_config_difference(before, less, out, sizeof out));
    assert_string_equal(out, "lora.r was 4, now it is not set");
    assert_true(rot_config_difference(less, before, out, sizeof out));
    assert_string_equal(out, "lora.r was not set, now it is 4");
}

static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    int failed = 0;
    for (long n = 1;; n++) {
        rot_err err = {0};
        rot_train *train = NULL;
        rot_head *head = NULL;
        rot_optimizer *optimizer = NULL;
        rot_train_config c = {0};
        rot_method_param p[ROT_HEAD_TENSORS];
        float h[D] = {0}, y[D];
        assert_int_equal(rot_train_open("ref", ROT_PRECISION_F32, 1, &train, &err), 0);
        rot_mem_fail_at(n);
        int rc = rot_head_open(train, D, WIDTH, 7, &head, &err);
        if (rc == 0) rot_head_params(head, p);
        if (rc == 0) rc = rot_optimizer_open(train, &c, p, ROT_HEAD_TENSORS, &optimizer, &err);
        if (rc == 0) rc = rot_head_forward(head, 1, h, true, y, &err);
        if (rc == 0) rc = rot_head_backward(head, y, true, NULL, &err);
        rot_mem_fail_at(0);
        rot_optimizer_close(&optimizer);
        rot_head_close(&head);
        rot_train_close(&train);
        if (rc == 0) break;
        assert_int_equal(rc, ROT_ERR_NO_MEMORY);
        failed++;
    }
    assert_true(failed > 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_losses_are_their_slopes),
        cmocka_unit_test(a_loss_falls_back_where_it_has_no_value),
        cmocka_unit_test(reductions_differ_by_d),
        cmocka_unit_test(the_head_is_its_formula_and_its_gradient_the_slope),
        cmocka_unit_test(rows_of_the_head_do_not_depend_on_the_others),
        cmocka_unit_test(a_saved_head_reads_back),
        cmocka_unit_test(adamw_follows_its_formula_and_clips),
        cmocka_unit_test(rates_follow_their_schedules),
        cmocka_unit_test(the_released_schedule_never_ends),
        cmocka_unit_test(every_sample_comes_once_an_epoch),
        cmocka_unit_test(a_config_that_changes_the_numbers_is_another),
        cmocka_unit_test(lack_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
