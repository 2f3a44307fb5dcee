// The decoder's promises that need no other library: passes in pieces, threads, checkpointing and
// dropout give the bits that they should, gradients follow the loss, memory that is lacking is an
// error. (tests/peers/test_decoder.py compares with transformers, torch and peft.)
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/random.h"
#include "rotoscope/encoder.h"
#include "trainer/decoder.h"

static const char *const archs[] = {"qwen3-tiny", "llama-tiny", "gpt2-tiny"};
enum { N_ARCHS = 3, SEQUENCES = 3, ROWS = 24 };
static const int32_t counts[SEQUENCES] = {11, 1, 12}, room[SEQUENCES] = {16, 16, 16};
static char dir[64];

static const char *checkpoint(int arch)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, archs[arch]);
    return path;
}

static int make_checkpoints(void **state)
{
    (void)state;
    rot_err err;
    snprintf(dir, sizeof dir, "/tmp/rot decoder XXXXXX");
    if (!mkdtemp(dir)) return -1;
    for (int i = 0; i < N_ARCHS; i++) {
        rot_init_model_options o = rot_init_model_options_default();
        o.dir = checkpoint(i), o.arch = archs[i], o.depth = 2, o.width = 48;
        if (rot_init_model(&o, &err) < 0) return fprintf(stderr, "%s\n", err.message), -1;
    }
    return 0;
}

static int remove_checkpoints(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command);
}

static rot_decoder_options options_of(int arch, int threads)
{
    rot_decoder_options o = rot_decoder_options_default();
    o.checkpoint = checkpoint(arch);
    o.precision = ROT_PRECISION_F32;
    o.threads = threads;
    return o;
}

// Opens it and moves what trains away from where it begins, so that nothing is zero or flat.
static rot_decoder *open_decoder(const rot_decoder_options *o)
{
    rot_decoder *d;
    rot_err err;
    size_t n;
    if (rot_decoder_open(o, &d, &err) < 0) fail_msg("%s", err.message);
    const rot_param *params = rot_decoder_params(d, &n);
    for (size_t p = 0; p < n; p++)
        for (size_t i = 0; i < params[p].n; i++)
            params[p].value[i] += (float)(rot_random_unit(p, i) - 0.5) * 0.5f;
    assert_int_equal(rot_decoder_update(d, &err), 0);
    return d;
}

typedef struct result {
    double loss;
    float *hidden, *d_inputs, *grads; // (rows, d) twice, all parameters
    size_t d, n_grads;
} result;

// A context that held other sequences before: fewer, then as many but longer ones.
static rot_context *open_used(rot_decoder *d)
{
    const int32_t few[1] = {2}, more[SEQUENCES] = {17, 20, 3}, counts_more[SEQUENCES] = {9, 20, 1};
    float *rows = malloc(30 * (size_t)rot_decoder_get_info(d)->d * sizeof *rows);
    for (size_t i = 0; i < 30 * (size_t)rot_decoder_get_info(d)->d; i++)
        rows[i] = (float)rot_random_normal(4, i);
    rot_context *c;
    rot_err err;
    assert_int_equal(rot_context_open(d, 1, few, true, &c, &err), 0);
    assert_int_equal(rot_context_forward(c, few, rows, true, NULL, &err), 0);
    assert_int_equal(rot_context_reset(c, SEQUENCES, more, &err), 0);
    rot_context_dropout(c, 3, (const uint64_t[]){4, 5, 6});
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rot_context_reset(c, SEQUENCES, more, &err), 0);
        assert_int_equal(rot_context_forward(c, counts_more, rows, true, NULL, &err), 0);
    }
    assert_int_equal(rot_context_backward(c, rows, NULL, &err), 0);
    rot_decoder_zero_grad(d);
    free(rows);
    assert_int_equal(rot_context_reset(c, SEQUENCES, room, &err), 0);
    assert_int_equal(rot_context_backward(c, NULL, NULL, &err), ROT_ERR_USAGE);
    return c;
}

// One supervised pass over three sequences, saved in `pieces` parts of each; `used`: in a context
// that was not opened for them.
static result run_in(const rot_decoder_options *o, int pieces, bool dropout, bool used)
{
    rot_decoder *d = open_decoder(o);
    const rot_decoder_info *info = rot_decoder_get_info(d);
    size_t width = (size_t)info->d, n_params;
    rot_context *c;
    rot_err err;
    int32_t ids[ROWS], labels[ROWS];
    float weights[ROWS], losses[ROWS];
    float *rows = malloc(ROWS * width * sizeof *rows),
          *packed = malloc(ROWS * width * sizeof *rows);
    float *grads = malloc(ROWS * width * sizeof *grads);
    result r = {
        0, malloc(ROWS * width * sizeof *rows), malloc(ROWS * width * sizeof *rows), NULL, width,
        0};
    for (int i = 0; i < ROWS; i++) {
        ids[i] = i * 37 % info->vocab, labels[i] = i * 53 % info->vocab;
        weights[i] = i % 5 ? 0.25f : 0;
    }
    assert_int_equal(rot_decoder_embed(d, ids, ROWS, rows, &err), 0);
    if (used)
        c = open_used(d);
    else
        assert_int_equal(rot_context_open(d, SEQUENCES, room, true, &c, &err), 0);
    if (dropout) rot_context_dropout(c, 3, (const uint64_t[]){7, 8, 9});
    // piece p of sequence i: rows [counts[i] * p / pieces, counts[i] * (p + 1) / pieces)
    for (int back = 0; back < 2; back++) {
        for (int at = 0; at < pieces; at++) {
            int p = back ? pieces - 1 - at : at;
            int32_t now[SEQUENCES];
            float *from = back ? grads : rows, *to = back ? r.d_inputs : r.hidden;
            for (int way = 0; way < 2; way++) {
                size_t begin = 0, n = 0;
                for (int i = 0; i < SEQUENCES; begin += (size_t)counts[i++]) {
                    size_t a = (size_t)(counts[i] * p / pieces);
                    now[i] = counts[i] * (p + 1) / pieces - (int32_t)a;
                    float *whole = (way ? to : from) + (begin + a) * width;
                    size_t n_bytes = (size_t)now[i] * width * sizeof *whole;
                    memcpy(way ? whole : packed + n * width, way ? packed + n * width : whole,
                           n_bytes);
                    n += (size_t)now[i];
                }
                if (way) continue;
                int rc = back ? rot_context_backward(c, packed, packed, &err)
                              : rot_context_forward(c, now, packed, true, packed, &err);
                assert_int_equal(rc, 0);
            }
        }
        if (back) break;
        assert_int_equal(
            rot_decoder_cross_entropy(d, r.hidden, labels, weights, ROWS, losses, grads, &err), 0);
    }
    rot_decoder_embed_backward(d, ids, ROWS, r.d_inputs);
    for (int i = 0; i < ROWS; i++) r.loss += (double)weights[i] * losses[i];
    const rot_param *params = rot_decoder_params(d, &n_params);
    for (size_t p = 0; p < n_params; p++) r.n_grads += params[p].n;
    r.grads = malloc((r.n_grads + 1) * sizeof *r.grads);
    for (size_t p = 0, at = 0; p < n_params; at += params[p++].n)
        memcpy(r.grads + at, params[p].grad, params[p].n * sizeof *r.grads);
    rot_context_close(&c);
    rot_decoder_close(&d);
    free(rows), free(packed), free(grads);
    return r;
}

static result run(const rot_decoder_options *o, int pieces, bool dropout)
{
    return run_in(o, pieces, dropout, false);
}

static void forget(result *r)
{
    free(r->hidden), free(r->d_inputs), free(r->grads);
}

static void assert_same(const result *a, const result *b)
{
    assert_int_equal(a->n_grads, b->n_grads);
    assert_true(a->loss == b->loss);
    assert_memory_equal(a->hidden, b->hidden, ROWS * a->d * sizeof(float));
    assert_memory_equal(a->d_inputs, b->d_inputs, ROWS * a->d * sizeof(float));
    assert_memory_equal(a->grads, b->grads, a->n_grads * sizeof(float));
}

static double distance(const float *a, const float *b, size_t n)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(error / norm);
}

static void passes_in_pieces_equal_one(void **state)
{
    (void)state;
    for (int arch = 0; arch < N_ARCHS; arch++)
        for (int ref = 0; ref < 2; ref++) {
            rot_decoder_options o = options_of(arch, 2);
            o.train_all = true;
            o.backend = ref ? "ref" : "auto";
            result one = run(&o, 1, false), four = run(&o, 4, false);
            if (ref) // an element's chain does not depend on the other rows
                assert_memory_equal(one.hidden, four.hidden, ROWS * one.d * sizeof(float));
            assert_true(distance(four.hidden, one.hidden, ROWS * one.d) < 1e-5);
            assert_true(distance(four.d_inputs, one.d_inputs, ROWS * one.d) < 1e-4);
            assert_true(distance(four.grads, one.grads, one.n_grads) < 1e-4);
            forget(&one), forget(&four);
        }
}

static void threads_checkpointing_and_earlier_use_change_no_bit(void **state)
{
    (void)state;
    for (int arch = 0; arch < N_ARCHS; arch++)
        for (int kind = 0; kind < 4; kind++) {
            rot_decoder_options o = options_of(arch, 1);
            bool lora = kind & 1;
            o.train_all = !lora;
            if (lora)
                o.lora = (rot_lora_options){
                    4, 8, 0.2, arch == 2 ? "c_attn,c_proj,c_fc" : "q_proj,v_proj,o_proj,up_proj",
                    5};
            o.precision = kind & 2 ? ROT_PRECISION_BF16 : ROT_PRECISION_F32;
            result plain = run(&o, 2, lora);
            result used = run_in(&o, 2, lora, true);
            o.threads = 2;
            result threads = run(&o, 2, lora);
            o.checkpointing = true;
            result again = run(&o, 2, lora);
            assert_true(plain.n_grads > 0);
            assert_same(&plain, &threads);
            assert_same(&plain, &again);
            assert_same(&plain, &used);
            forget(&plain), forget(&threads), forget(&again), forget(&used);
        }
}

// Along the gradient the loss grows by its square.
static void gradients_follow_the_loss(void **state)
{
    (void)state;
    for (int arch = 0; arch < N_ARCHS; arch++) {
        rot_decoder_options o = options_of(arch, 2);
        o.train_all = true;
        result r = run(&o, 3, false);
        double square = 0, sides[2];
        for (size_t i = 0; i < r.n_grads; i++) square += (double)r.grads[i] * r.grads[i];
        double step = 1e-2 / sqrt(square);
        for (int side = 0; side < 2; side++) {
            rot_decoder *d = open_decoder(&o);
            size_t n, at = 0;
            rot_err err;
            const rot_param *params = rot_decoder_params(d, &n);
            for (size_t p = 0; p < n; p++)
                for (size_t i = 0; i < params[p].n; i++)
                    params[p].value[i] += (float)((side ? -step : step) * r.grads[at++]);
            assert_int_equal(rot_decoder_update(d, &err), 0);
            int32_t ids[ROWS], labels[ROWS];
            float losses[ROWS], *rows = malloc(ROWS * r.d * sizeof *rows);
            rot_context *c;
            for (int i = 0; i < ROWS; i++) {
                ids[i] = i * 37 % rot_decoder_get_info(d)->vocab;
                labels[i] = i * 53 % rot_decoder_get_info(d)->vocab;
            }
            rot_decoder_embed(d, ids, ROWS, rows, &err);
            assert_int_equal(rot_context_open(d, SEQUENCES, room, false, &c, &err), 0);
            assert_int_equal(rot_context_forward(c, counts, rows, false, rows, &err), 0);
            assert_int_equal(
                rot_decoder_cross_entropy(d, rows, labels, NULL, ROWS, losses, NULL, &err), 0);
            sides[side] = 0;
            for (int i = 0; i < ROWS; i++) sides[side] += i % 5 ? 0.25 * losses[i] : 0;
            free(rows);
            rot_context_close(&c);
            rot_decoder_close(&d);
        }
        double slope = (sides[0] - sides[1]) / (2 * step);
        if (!(fabs(slope / square - 1) < 0.01)) fail_msg("%s: %g, %g", archs[arch], slope, square);
        forget(&r);
    }
}

static void what_does_not_fit_is_an_error(void **state)
{
    (void)state;
    rot_decoder_options o = options_of(0, 1);
    rot_err err;
    rot_context *c;
    rot_decoder *d = open_decoder(&o);
    float *rows = calloc(64, (size_t)rot_decoder_get_info(d)->d * sizeof *rows);
    int32_t one[SEQUENCES] = {1, 0, 0}, many[SEQUENCES] = {0, 17, 0}, none[SEQUENCES] = {0};
    assert_int_equal(rot_context_open(d, SEQUENCES, room, true, &c, &err), 0);
    assert_int_equal(rot_context_backward(c, NULL, NULL, &err), ROT_ERR_USAGE);
    assert_int_equal(rot_context_forward(c, many, rows, true, NULL, &err), ROT_ERR_TOO_LARGE);
    assert_int_equal(rot_context_length(c, 1), 0);
    assert_int_equal(rot_context_forward(c, one, rows, true, NULL, &err), 0);
    assert_int_equal(rot_context_forward(c, none, rows, true, NULL, &err), 0);
    assert_int_equal(rot_context_length(c, 0), 1);
    assert_int_equal(rot_context_backward(c, NULL, rows, &err), 0);
    rot_context_truncate(c, none); // forgets the pass that is still saved
    assert_int_equal(rot_context_length(c, 0), 0);
    assert_int_equal(rot_context_backward(c, NULL, NULL, &err), ROT_ERR_USAGE);
    rot_context_close(&c);
    rot_decoder_close(&d);
    o.checkpoint = "/nowhere";
    assert_int_equal(rot_decoder_open(&o, &d, &err), ROT_ERR_MISSING);
    free(rows);
}

// Everything once; the n-th allocation fails.
static int everything(const rot_decoder_options *o, const char *out, rot_err *err)
{
    rot_decoder *d = NULL;
    rot_context *c = NULL;
    const int32_t n[] = {3, 0, 2}, ids[] = {1, 2, 3, 4, 5};
    float losses[5], ones[5] = {1, 1, 1, 1, 1}, rows[5 * 64] = {0}, grads[5 * 64];
    char path[256];
    int rc = rot_decoder_open(o, &d, err);
    if (rc == 0) rc = rot_decoder_set_row(d, 7, rows, err);
    if (rc == 0) rc = rot_decoder_embed(d, ids, 5, rows, err);
    if (rc == 0) rc = rot_context_open(d, SEQUENCES, room, true, &c, err);
    if (rc == 0) rc = rot_context_forward(c, n, rows, true, rows, err);
    if (rc == 0) rc = rot_decoder_cross_entropy(d, rows, ids, ones, 5, losses, grads, err);
    if (rc == 0) rc = rot_context_backward(c, grads, grads, err);
    if (rc == 0) rc = rot_context_reset(c, SEQUENCES + 1, (int32_t[]){16, 16, 16, 16}, err);
    if (rc == 0) rc = rot_decoder_update(d, err);
    snprintf(path, sizeof path, "%s/model", out);
    if (rc == 0) rc = rot_decoder_save(d, path, true, err);
    snprintf(path, sizeof path, "%s/adapter", out);
    if (rc == 0) rc = rot_decoder_save_adapter(d, path, err);
    rot_context_close(&c);
    rot_decoder_close(&d);
    return rc;
}

static void no_memory_is_an_error(void **state)
{
    (void)state;
    rot_decoder_options o = options_of(0, 1);
    o.train_embedding = true, o.extra_rows = 2;
    o.lora = (rot_lora_options){4, 8, 0.1, "q_proj,down_proj", 5};
    char out[128];
    int rc = -1;
    long at = 0, step = 1;
    while (rc < 0) { // each of the first, then some of the thousand names and weights
        rot_err err = {0};
        snprintf(out, sizeof out, "%s/out", dir);
        rot_mem_fail_at(at += step);
        rc = everything(&o, out, &err);
        rot_mem_fail_at(0);
        if (rc < 0 && rc != ROT_ERR_NO_MEMORY) fail_msg("allocation %ld: %s", at, err.message);
        if (at > 60) step = 7;
    }
    assert_true(at > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_in_pieces_equal_one),
        cmocka_unit_test(threads_checkpointing_and_earlier_use_change_no_bit),
        cmocka_unit_test(gradients_follow_the_loss),
        cmocka_unit_test(what_does_not_fit_is_an_error),
        cmocka_unit_test(no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_checkpoints, remove_checkpoints);
}
