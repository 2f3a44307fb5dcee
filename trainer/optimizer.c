#include "trainer/optimizer.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum { CHUNK = 1 << 14 };

struct rot_optimizer {
    rot_train *train;
    const rot_train_config *config;
    const rot_method_param *params;
    size_t n, n_floats, n_chunks;
    float *moments[2]; // (n_floats) each, parameter after parameter
    size_t *starts;    // (n) of each parameter in them
    double *sums;      // (n_chunks) work space of the norm
    int64_t steps;
};

int rot_optimizer_open(rot_train *train, const rot_train_config *config,
                       const rot_method_param *params, size_t n, rot_optimizer **out, rot_err *err)
{
    *out = NULL;
    rot_optimizer *o = rot_calloc(1, sizeof *o);
    if (!o) return rot_no_memory(err, sizeof *o, "an optimizer");
    *o = (rot_optimizer){.train = train, .config = config, .params = params, .n = n};
    o->starts = rot_calloc(n + 1, sizeof *o->starts);
    for (size_t i = 0; o->starts && i < n; i++) {
        o->starts[i] = o->n_floats;
        o->n_floats += params[i].n;
        o->n_chunks += (params[i].n + CHUNK - 1) / CHUNK;
    }
    o->sums = rot_calloc(o->n_chunks + 1, sizeof *o->sums);
    for (int k = 0; k < 2; k++)
        if (!(o->moments[k] = train->ops->alloc(train, o->n_floats, "moments", err))) break;
    *out = o;
    if (o->starts && o->sums && o->moments[0] && o->moments[1]) return 0;
    rot_optimizer_close(out);
    return rot_no_memory(err, 0, "an optimizer");
}

void rot_optimizer_close(rot_optimizer **optimizer)
{
    rot_optimizer *o = *optimizer;
    if (!o) return;
    for (int k = 0; k < 2; k++) o->train->ops->release(o->train, o->moments[k]);
    rot_free(o->starts);
    rot_free(o->sums);
    rot_free(o);
    *optimizer = NULL;
}

double rot_optimizer_norm(const rot_optimizer *o)
{
    size_t chunk = 0;
    for (size_t i = 0; i < o->n; i++) {
        size_t n_chunks = (o->params[i].n + CHUNK - 1) / CHUNK;
        const float *grad = o->params[i].grad;
#pragma omp parallel for schedule(static) num_threads(o->train->threads)
        for (size_t c = 0; c < n_chunks; c++) {
            size_t end = (c + 1) * CHUNK < o->params[i].n ? (c + 1) * CHUNK : o->params[i].n;
            double sum = 0;
            for (size_t k = c * CHUNK; k < end; k++) sum += (double)grad[k] * (double)grad[k];
            o->sums[chunk + c] = sum;
        }
        chunk += n_chunks;
    }
    double total = 0;
    for (size_t c = 0; c < chunk; c++) total += o->sums[c];
    return sqrt(total);
}

void rot_optimizer_step(rot_optimizer *o, double rate, double rescale, double norm)
{
    const rot_train_config *c = o->config;
    double scale = c->clip > 0 ? c->clip / (norm + 1e-6) : 1;
    rot_train_adamw adamw = {.lr = rate,
                             .beta1 = c->beta1,
                             .beta2 = c->beta2,
                             .eps = c->eps,
                             .step = ++o->steps,
                             .scale = rescale * (scale < 1 ? scale : 1)};
    for (size_t i = 0; i < o->n; i++) {
        const rot_method_param *p = &o->params[i];
        adamw.decay = p->decay ? c->weight_decay : 0;
        o->train->ops->adamw(o->train, &adamw, p->n, p->value, p->grad,
                             o->moments[0] + o->starts[i], o->moments[1] + o->starts[i]);
    }
}

void rot_optimizer_reset(rot_optimizer *o)
{
    for (int k = 0; k < 2; k++) memset(o->moments[k], 0, o->n_floats * sizeof *o->moments[k]);
    o->steps = 0;
}

float *rot_optimizer_moment(rot_optimizer *o, size_t i, int which)
{
    return o->moments[which] + o->starts[i];
}

int64_t rot_optimizer_get_steps(const rot_optimizer *o)
{
    return o->steps;
}

void rot_optimizer_set_steps(rot_optimizer *o, int64_t steps)
{
    o->steps = steps;
}
