// Coconut and what it is compared with: CoT, no CoT, no thoughts, pauses, iCoT. One method with
// other thoughts and another way of taking steps out.
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"
#include "trainer/chain.h"
#include "trainer/decoder_family.h"
#include "trainer/thoughts_method.h"
#include "trainer/passes.h"
#include "trainer/thought_tokens.h"

enum { DRAW_DROPOUT = 100 }; // a sequence of random numbers beneath config->seed

typedef struct thoughts {
    rot_method base;
    const rot_train_config *config;
    rot_thoughts_options options;
    rot_thought_tokens tokens;
    rot_reader *readers[2];
    rot_chains *chains[2];
    rot_method_param *params;
    uint32_t *lengths;
    rot_sequence *sequences; // of the micro-batch
    uint64_t *keys;          // of dropout
    rot_context *context;    // of the micro-batch
    size_t n_sequences;
    uint64_t batches_per_epoch; // for iCoT's place within an epoch
} thoughts;

static thoughts *of(rot_method *method)
{
    return (thoughts *)method;
}

static void options_of(const rot_train_config *c, rot_thoughts_options *out)
{
    static const struct {
        rot_thought_kind kind;
        rot_removal removal;
    } kinds[] = {
        [ROT_METHOD_COCONUT] = {ROT_THOUGHTS_LATENT, ROT_REMOVE_STAGES},
        [ROT_METHOD_COT] = {ROT_THOUGHTS_NONE, ROT_REMOVE_NEVER},
        [ROT_METHOD_NO_COT] = {ROT_THOUGHTS_NONE, ROT_REMOVE_ALWAYS},
        [ROT_METHOD_NO_THOUGHTS] = {ROT_THOUGHTS_NONE, ROT_REMOVE_STAGES},
        [ROT_METHOD_PAUSE] = {ROT_THOUGHTS_PAUSE, ROT_REMOVE_STAGES},
        [ROT_METHOD_ICOT] = {ROT_THOUGHTS_NONE, ROT_REMOVE_TOKENS},
    };
    *out = (rot_thoughts_options){
        .kind = kinds[c->method].kind,
        .removal = kinds[c->method].removal,
        .per_step = (int32_t)c->thoughts_per_step,
        .epochs_per_stage = (int32_t)c->epochs_per_stage,
        .max_stage = (int32_t)c->max_stage,
        .pad_to_max = c->pad_to_max,
        .group_per_step = c->group_per_step,
        .uniform = c->uniform,
        .per_epoch = c->icot_per_epoch,
        .smoothing = c->icot_smoothing,
        .all_beyond = c->icot_all_beyond,
        .seed = c->seed,
    };
    if (out->removal == ROT_REMOVE_STAGES && !c->curriculum) out->removal = ROT_REMOVE_ALWAYS;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int open_decoder(thoughts *t, const rot_tokenizer *tokenizer, int threads, rot_err *err)
{
    const rot_train_config *c = t->config;
    rot_decoder_options o = rot_method_decoder_options(c, threads);
    bool marked = t->options.kind != ROT_THOUGHTS_NONE;
    int32_t rows;
    ROT_TRY(rot_decoder_read_vocab(c->checkpoint, &rows, err));
    if (rot_tokenizer_size(tokenizer) > rows)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: the tokenizer has %d tokens, the model %d rows",
                 c->checkpoint, rot_tokenizer_size(tokenizer), rows);
    if (!marked) return rot_decoder_open(&o, &t->base.decoder, err);
    ROT_TRY(
        rot_thought_tokens_find(tokenizer, c->checkpoint, rows, &t->tokens, &o.extra_rows, err));
    ROT_TRY(rot_decoder_open(&o, &t->base.decoder, err));
    if (rot_thought_tokens_known(tokenizer)) return 0;
    return rot_thought_tokens_set_rows(tokenizer, &t->tokens, t->base.decoder, err);
}

static int open_data(thoughts *t, const rot_tokenizer *tokenizer, rot_err *err)
{
    const rot_train_config *c = t->config;
    const rot_decoder_info *info = rot_decoder_get_info(t->base.decoder);
    if (info->eos[0] < 0 || info->n_eos == 0)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s/config.json names no eos_token_id", c->checkpoint);
    int32_t begin;
    ROT_TRY(rot_chain_begin(c->checkpoint, &begin, err));
    const char *splits[2] = {c->split, c->valid};
    for (int i = 0; i < 2; i++) {
        if (!splits[i]) continue;
        rot_reader_options o = rot_reader_options_default();
        o.stages = "tokens";
        ROT_TRY(rot_reader_open(c->dataset, splits[i], &o, &t->readers[i], err));
        ROT_TRY(rot_chains_read(t->readers[i], tokenizer, (rot_step_rule)c->step_rule, begin,
                                info->eos[0], &t->chains[i], err));
        size_t n = rot_chains_count(t->chains[i]);
        if (n == 0)
            ROT_FAIL(err, ROT_ERR_USAGE, "%s: split %s has no sample", c->dataset, splits[i]);
        if (i == ROT_TRAIN_SPLIT && c->max_samples && n > c->max_samples) n = c->max_samples;
        t->base.n_samples[i] = n;
    }
    return 0;
}

static int list_params(thoughts *t, rot_err *err)
{
    size_t n;
    const rot_param *params = rot_decoder_params(t->base.decoder, &n);
    t->params = rot_calloc(n ? n : 1, sizeof *t->params);
    if (!t->params) return rot_no_memory(err, n * sizeof *t->params, "parameters");
    for (size_t i = 0; i < n; i++) {
        rot_method_param *p = &t->params[i];
        *p = (rot_method_param){.name = params[i].name,
                                .n_dims = params[i].n_dims,
                                .n = params[i].n,
                                .value = params[i].value,
                                .grad = params[i].grad,
                                .decay = true};
        memcpy(p->shape, params[i].shape, sizeof p->shape);
    }
    t->base.params = t->params;
    t->base.n_params = n;
    return 0;
}

static void close_thoughts(rot_method *method)
{
    thoughts *t = of(method);
    for (size_t i = 0; i < t->n_sequences; i++) rot_sequence_free(&t->sequences[i]);
    rot_free(t->sequences);
    rot_free(t->keys);
    rot_free(t->lengths);
    rot_free(t->params);
    for (int i = 0; i < 2; i++) {
        rot_chains_free(&t->chains[i]);
        rot_reader_close(&t->readers[i]);
    }
    rot_context_close(&t->context);
    rot_decoder_close(&t->base.decoder);
    rot_free(t);
}

static int open_thoughts(const rot_train_config *config, int threads, rot_method **out,
                         rot_err *err)
{
    thoughts *t = rot_calloc(1, sizeof *t);
    if (!t) return rot_no_memory(err, sizeof *t, "a method");
    t->base.ops = &rot_thoughts_ops[config->method - ROT_METHOD_COCONUT];
    t->config = config;
    options_of(config, &t->options);
    rot_tokenizer *tokenizer = NULL;
    int code = rot_tokenizer_open(config->checkpoint, &tokenizer, err);
    if (code == 0) code = open_decoder(t, tokenizer, threads, err);
    if (code == 0) code = open_data(t, tokenizer, err);
    if (code == 0) code = list_params(t, err);
    rot_tokenizer_close(&tokenizer);
    uint64_t batch = config->batch;
    t->batches_per_epoch = (t->base.n_samples[ROT_TRAIN_SPLIT] + batch - 1) / batch;
    if (code == 0)
        *out = &t->base;
    else
        close_thoughts(&t->base);
    return code;
}

/* ---- running --------------------------------------------------------------------------------- */

static int64_t epoch_of(const thoughts *t, uint64_t epoch)
{
    return (int64_t)epoch + t->config->first_epoch;
}

static int begin_epoch(rot_method *method, uint64_t epoch, rot_epoch_plan *out, rot_err *err)
{
    thoughts *t = of(method);
    size_t n = t->base.n_samples[ROT_TRAIN_SPLIT];
    int64_t e = epoch_of(t, epoch), stage = rot_thoughts_stage(&t->options, e, 0.0);
    out->stage = (int)(stage < INT32_MAX ? stage : INT32_MAX);
    if (!t->lengths && !(t->lengths = rot_malloc(n * sizeof *t->lengths)))
        return rot_no_memory(err, n * sizeof *t->lengths, "lengths of samples");
    rot_sequence s = {0};
    int code = 0;
    for (size_t i = 0; i < n && code == 0; i++) {
        rot_chain chain = rot_chains_get(t->chains[ROT_TRAIN_SPLIT], i);
        code = rot_thoughts_train(&t->options, &t->tokens, &chain, i, e, stage, &s, err);
        t->lengths[i] = (uint32_t)s.n;
    }
    rot_sequence_free(&s);
    out->lengths = t->lengths;
    return code;
}

static int sample_error(thoughts *t, const rot_micro_batch *b, size_t i, const char *what,
                        rot_err *err)
{
    rot_record record;
    uint64_t row = b->samples[i];
    uint8_t *payload = NULL;
    rot_err ignored;
    rot_sample_texts texts;
    rot_reader *reader = t->readers[b->which];
    int code = rot_reader_read(reader, "tokens", row, NULL, 0, &record, &ignored);
    if (code == ROT_ERR_TOO_LARGE && (payload = rot_aligned_malloc(record.n_bytes)) &&
        rot_reader_read(reader, "tokens", row, payload, record.n_bytes, &record, &ignored) == 0 &&
        rot_reader_texts(&record, &texts, &ignored) == 0)
        code = rot_err_set(err, ROT_ERR_INPUT, "sample %llu, id '%.*s': %s",
                           (unsigned long long)row, (int)texts.n_id, texts.id, what);
    else
        code = rot_err_set(err, ROT_ERR_INPUT, "sample %llu: %s", (unsigned long long)row, what);
    rot_free(payload);
    return code;
}

static int build_sequences(thoughts *t, const rot_micro_batch *b, rot_err *err)
{
    if (b->n > t->n_sequences) {
        rot_sequence *more = rot_realloc(t->sequences, b->n * sizeof *more);
        if (!more) return rot_no_memory(err, b->n * sizeof *more, "a batch");
        memset(more + t->n_sequences, 0, (b->n - t->n_sequences) * sizeof *more);
        t->sequences = more;
        t->n_sequences = b->n;
        rot_free(t->keys);
        t->keys = rot_malloc(b->n * sizeof *t->keys);
        if (!t->keys) return rot_no_memory(err, b->n * sizeof *t->keys, "a batch");
    }
    int32_t positions = rot_decoder_get_info(t->base.decoder)->positions;
    int64_t epoch = epoch_of(t, b->epoch);
    uint64_t draws = rot_random_key(rot_random_key(t->config->seed, DRAW_DROPOUT), (uint64_t)epoch);
    // Validation reads what training reads at the beginning of the epoch, nothing at random.
    bool training = b->which == ROT_TRAIN_SPLIT;
    double at = training ? (double)b->index / (double)t->batches_per_epoch : 0.0;
    rot_thoughts_options options = t->options;
    if (!training) options.uniform = options.smoothing = 0.0;
    for (size_t i = 0; i < b->n; i++) {
        rot_chain chain = rot_chains_get(t->chains[b->which], b->samples[i]);
        t->keys[i] = rot_random_key(draws, b->samples[i]);
        ROT_TRY(rot_thoughts_train(&options, &t->tokens, &chain, b->samples[i], epoch,
                                   rot_thoughts_stage(&options, epoch, at), &t->sequences[i], err));
        if (t->sequences[i].n <= (size_t)positions) continue;
        char what[96];
        snprintf(what, sizeof what, "%zu tokens, the model takes %d", t->sequences[i].n, positions);
        return sample_error(t, b, i, what, err);
    }
    return 0;
}

static int run(rot_method *method, const rot_micro_batch *b, rot_method_losses *out, rot_err *err)
{
    thoughts *t = of(method);
    memset(out, 0, sizeof *out);
    ROT_TRY(build_sequences(t, b, err));
    bool latent = t->options.kind == ROT_THOUGHTS_LATENT;
    rot_passes_loss loss;
    ROT_TRY(rot_passes_run(t->base.decoder, t->sequences, b->n, latent, b->backward,
                           (float)b->weight, t->config->seed, b->backward ? t->keys : NULL,
                           &t->context, &loss, err));
    if (loss.not_finite >= 0)
        return sample_error(t, b, (size_t)loss.not_finite, "its loss or gradient is no number",
                            err);
    out->tokens = (uint64_t)loss.n_tokens;
    for (size_t i = 0; i < b->n; i++) out->latents += (uint64_t)t->sequences[i].n_thoughts;
    out->loss = loss.n_tokens ? loss.sum / (double)loss.n_tokens : 0.0;
    out->parts[0] = out->loss;
    return 0;
}

static void zero_grad(rot_method *method)
{
    rot_decoder_zero_grad(method->decoder);
}

static int updated(rot_method *method, rot_err *err)
{
    return rot_decoder_update(method->decoder, err);
}

/* ---- what it leaves -------------------------------------------------------------------------- */

static int save(rot_method *method, const char *dir, rot_err *err)
{
    thoughts *t = of(method);
    bool adapter = t->config->tuning == ROT_TUNE_LORA;
    char path[4096];
    // Beside state.safetensors, not in its folder: a model is every tensor file of a folder.
    ROT_TRY(rot_fs_join(path, sizeof path, dir, adapter ? "adapter" : "model", err));
    if (adapter) return rot_decoder_save_adapter(method->decoder, path, err);
    ROT_TRY(rot_decoder_save(method->decoder, path, false, err));
    if (t->options.kind == ROT_THOUGHTS_NONE) return 0;
    return rot_thought_tokens_save(path, &t->tokens, err);
}

static int describe(rot_method *method, char **json, rot_err *err)
{
    const thoughts *t = of(method);
    rot_str out = {0};
    const rot_decoder_info *info = rot_decoder_get_info(method->decoder);
    rot_str_printf(&out, "{\"model_type\": \"%s\", \"parameters\": %lld, \"trained\": %lld",
                   info->model_type, (long long)info->n_parameters, (long long)info->n_trained);
    rot_str_printf(&out, ", \"longest_chain\": %d", rot_chains_longest(t->chains[ROT_TRAIN_SPLIT]));
    if (t->options.kind != ROT_THOUGHTS_NONE)
        rot_str_printf(&out, ", \"start\": %d, \"end\": %d, \"thought\": %d", t->tokens.start,
                       t->tokens.end, t->tokens.thought);
    rot_str_puts(&out, "}");
    return rot_str_take(&out, json, err);
}

static const char *const losses[] = {"lm_loss", NULL};

#define THOUGHTS_OPS(NAME)                                                                         \
    {                                                                                              \
        NAME, losses, open_thoughts, close_thoughts, begin_epoch, run, zero_grad, updated, save,   \
            describe                                                                               \
    }
const rot_method_ops rot_thoughts_ops[ROT_THOUGHTS_METHODS] = {
    THOUGHTS_OPS("coconut"),     THOUGHTS_OPS("cot"),   THOUGHTS_OPS("no-cot"),
    THOUGHTS_OPS("no-thoughts"), THOUGHTS_OPS("pause"), THOUGHTS_OPS("icot"),
};
