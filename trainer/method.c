#include "trainer/method.h"

#include "base/err.h"
#include "base/random.h"
#include "trainer/rot.h"
#include "trainer/thoughts_method.h"

enum { DRAW_LORA = 102 }; // a sequence of random numbers beneath config->seed

// By rot_train_method.
static const rot_method_ops *const rot_methods[] = {
    [ROT_METHOD_ROT] = &rot_method_rot_ops,          [ROT_METHOD_COCONUT] = &rot_thoughts_ops[0],
    [ROT_METHOD_COT] = &rot_thoughts_ops[1],         [ROT_METHOD_NO_COT] = &rot_thoughts_ops[2],
    [ROT_METHOD_NO_THOUGHTS] = &rot_thoughts_ops[3], [ROT_METHOD_PAUSE] = &rot_thoughts_ops[4],
    [ROT_METHOD_ICOT] = &rot_thoughts_ops[5],
};

rot_decoder_options rot_method_decoder_options(const rot_train_config *c, int threads)
{
    rot_decoder_options o = rot_decoder_options_default();
    o.checkpoint = c->checkpoint;
    o.adapter = c->adapter;
    o.backend = c->backend;
    o.precision = c->precision ? ROT_PRECISION_BF16 : ROT_PRECISION_F32;
    o.threads = threads;
    o.train_all = c->tuning == ROT_TUNE_FULL;
    o.checkpointing = c->checkpointing;
    o.dropout = c->dropout;
    o.lora = (rot_lora_options){0};
    if (c->tuning == ROT_TUNE_LORA)
        o.lora = (rot_lora_options){c->adapter ? 0 : c->lora_r, c->lora_alpha, c->lora_dropout,
                                    c->lora_targets, rot_random_key(c->seed, DRAW_LORA)};
    return o;
}

int rot_method_open(const rot_train_config *config, int threads, rot_method **out, rot_err *err)
{
    *out = NULL;
    if ((size_t)config->method >= sizeof rot_methods / sizeof *rot_methods)
        ROT_FAIL(err, ROT_ERR_USAGE, "no training method %d", (int)config->method);
    return rot_methods[config->method]->open(config, threads, out, err);
}

void rot_method_close(rot_method **method)
{
    if (*method) (*method)->ops->close(*method);
    *method = NULL;
}
