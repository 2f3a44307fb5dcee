#include "trainer/decoder.h"

#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "trainer/decoder_parts.h"

rot_decoder_options rot_decoder_options_default(void)
{
    return (rot_decoder_options){.size = sizeof(rot_decoder_options),
                                 .backend = "auto",
                                 .precision = ROT_PRECISION_BF16,
                                 .lora = {.alpha = 32, .targets = "q_proj,k_proj,v_proj,o_proj"}};
}

static int check_options(const rot_decoder_options *o, rot_err *err)
{
    if (!o->checkpoint || o->size != sizeof *o)
        ROT_FAIL(err, ROT_ERR_USAGE, "a decoder's options: no checkpoint, or another size");
    if (o->lora.r < 0 || o->lora.r > 1 << 16 || !(o->lora.dropout >= 0 && o->lora.dropout < 1))
        ROT_FAIL(err, ROT_ERR_USAGE, "LoRA: r = %d, dropout = %g", o->lora.r, o->lora.dropout);
    if (o->lora.r && (!o->lora.targets || !*o->lora.targets))
        ROT_FAIL(err, ROT_ERR_USAGE, "LoRA: no targets");
    return 0;
}

static int open_all(rot_decoder *d, const rot_decoder_options *o, rot_err *err)
{
    d->train_all = o->train_all;
    d->train_embedding = o->train_embedding || o->train_all;
    d->checkpointing = o->checkpointing;
    d->dropout = o->dropout;
    d->lora = o->lora;
    d->dir = rot_strdup(o->checkpoint);
    d->lora.targets = o->lora.targets ? rot_arena_strdup(&d->names, o->lora.targets) : "";
    if (!d->dir || !d->lora.targets) return rot_no_memory(err, 4096, "a name");
    if (!rot_fs_is_dir(o->checkpoint))
        ROT_FAIL(err, ROT_ERR_MISSING, "%s: no such folder", o->checkpoint);
    ROT_TRY(rot_decoder_read_config(d->dir, &d->config, &d->family, &d->shape, err));
    const rot_decoder_info *s = &d->shape.info;
    if (o->extra_rows > (uint32_t)(INT32_MAX - s->vocab))
        ROT_FAIL(err, ROT_ERR_USAGE, "%u extra rows are too many", o->extra_rows);
    d->extra_rows = o->extra_rows;
    if (o->adapter) ROT_TRY(rot_lora_read_config(d, o->adapter, err));
    ROT_TRY(rot_safetensors_open(d->dir, &d->file, err));
    ROT_TRY(rot_train_open(o->backend, o->precision, o->threads, &d->train, err));
    d->blocks = rot_calloc((size_t)s->layers, sizeof *d->blocks);
    d->frequencies = rot_calloc((size_t)s->head_dim, sizeof *d->frequencies);
    if (!d->blocks || !d->frequencies)
        return rot_no_memory(err, (size_t)s->layers * sizeof *d->blocks, "blocks");
    if (!d->family->learned_positions) rot_decoder_frequencies(&d->shape, d->frequencies);
    ROT_TRY(rot_decoder_load(d, err));
    if (d->lora.r && !d->n_lora)
        ROT_FAIL(err, ROT_ERR_USAGE, "LoRA: no linear of %s is called one of %s",
                 d->shape.info.model_type, d->lora.targets);
    if (!o->adapter) ROT_TRY(rot_lora_check_targets(d, err)); // peft lets adapters have others
    ROT_TRY(rot_lora_start(d, o->adapter, err));
    return rot_decoder_update(d, err);
}

int rot_decoder_open(const rot_decoder_options *options, rot_decoder **out, rot_err *err)
{
    *out = NULL;
    ROT_TRY(check_options(options, err));
    rot_decoder *decoder = rot_calloc(1, sizeof *decoder);
    if (!decoder) return rot_no_memory(err, sizeof *decoder, "a decoder");
    int rc = open_all(decoder, options, err);
    if (rc < 0) rot_decoder_close(&decoder);
    *out = decoder;
    return rc;
}

static void free_linear(rot_train *t, rot_decoder_linear *l)
{
    t->ops->weight_free(t, l->weight);
    for (int i = 0; i < 3; i++) {
        t->ops->weight_free(t, l->lora[i].wa);
        t->ops->weight_free(t, l->lora[i].wb);
    }
}

void rot_decoder_close(rot_decoder **handle)
{
    rot_decoder *d = *handle;
    if (!d) return;
    rot_train *t = d->train;
    for (int i = 0; t && d->blocks && i < d->shape.info.layers; i++) {
        free_linear(t, &d->blocks[i].qkv);
        free_linear(t, &d->blocks[i].o);
        free_linear(t, &d->blocks[i].up);
        free_linear(t, &d->blocks[i].down);
    }
    if (t) {
        t->ops->weight_free(t, d->head);
        t->ops->release(t, d->values);
        t->ops->release(t, d->grads);
        t->ops->release(t, d->frozen);
    }
    for (size_t i = 0; i < d->n_rows; i++) rot_free(d->rows[i].values);
    rot_train_close(&d->train);
    rot_safetensors_close(&d->file);
    json_decref(d->config);
    rot_arena_free(&d->names);
    rot_free(d->rows);
    rot_free(d->blocks);
    rot_free(d->frequencies);
    rot_free(d->declared);
    rot_free(d->params);
    rot_free(d->dir);
    rot_free(d);
    *handle = NULL;
}

const rot_decoder_info *rot_decoder_get_info(const rot_decoder *decoder)
{
    return &decoder->shape.info;
}

const rot_param *rot_decoder_params(rot_decoder *decoder, size_t *n)
{
    *n = decoder->n_params;
    return decoder->params;
}

void rot_decoder_zero_grad(rot_decoder *decoder)
{
    memset(decoder->grads, 0, decoder->n_trained_floats * sizeof *decoder->grads);
}

static int update_linear(rot_decoder *decoder, rot_decoder_linear *l, rot_err *err)
{
    rot_train *t = decoder->train;
    if (l->value)
        ROT_TRY(t->ops->weight_set(t, l->weight, 0, l->n_out, l->value,
                                   l->conv1d ? l->n_out : l->n_in, l->conv1d, err));
    for (int i = 0; i < l->n_parts; i++)
        if (l->lora[i].a) ROT_TRY(rot_lora_update(decoder, &l->lora[i], err));
    return 0;
}

int rot_decoder_update(rot_decoder *decoder, rot_err *err)
{
    for (int i = 0; i < decoder->shape.info.layers; i++) {
        rot_decoder_block *b = &decoder->blocks[i];
        ROT_TRY(update_linear(decoder, &b->qkv, err));
        ROT_TRY(update_linear(decoder, &b->o, err));
        ROT_TRY(update_linear(decoder, &b->up, err));
        ROT_TRY(update_linear(decoder, &b->down, err));
    }
    const float *head = decoder->shape.info.tied ? decoder->embedding_value : decoder->head_value;
    if (!head) return 0;
    size_t vocab = (size_t)decoder->shape.info.vocab, d = (size_t)decoder->shape.info.d;
    return decoder->train->ops->weight_set(decoder->train, decoder->head, 0, vocab, head, d, false,
                                           err);
}
