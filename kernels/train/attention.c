// Causal attention over a cache of keys and values, forward and backward. A forward task is a few
// queries of one key head; a backward task is one key head of one sequence, whose keys' gradients
// are then added to by one thread, in the order of heads and queries.
#include <omp.h>

#include "base/err.h"
#include "base/random.h"
#include "kernels/train/host.h"

enum { TASK_ROWS = 16 };

typedef struct task {
    size_t sequence, kv_head, from, to; // queries [from, to) of the sequence
} task;

// What the scores of a pass take.
static size_t products(const rot_train_attention *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += (size_t)s->counts[i] * (size_t)(s->past[i] + s->counts[i]);
    return n * s->heads * s->head_dim;
}

static size_t longest(const rot_train_attention *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->counts[i] && (size_t)(s->past[i] + s->counts[i]) > n)
            n = (size_t)(s->past[i] + s->counts[i]);
    return n;
}

rot_train_mask rot_train_mask_of(const rot_train_attention *s, size_t row, size_t head)
{
    if (!s->keys) return (rot_train_mask){0};
    return (rot_train_mask){rot_random_key(s->keys[row], head), (uint32_t)(s->dropout * 0x1p32),
                            (float)(1 / (1 - s->dropout))};
}

static size_t element_of(const rot_train_attention *s, size_t sequence, size_t kv_head)
{
    return (s->base[sequence] * s->kv_heads + kv_head) * s->head_dim;
}

static rot_train_keys keys_of(const rot_train *train, const rot_train_attention *s, size_t sequence,
                              size_t kv_head, const void *k, const void *v)
{
    size_t at = element_of(s, sequence, kv_head) * rot_train_cache_bytes(train);
    return (rot_train_keys){.k = (const unsigned char *)k + at,
                            .v = (const unsigned char *)v + at,
                            .narrow = train->precision == ROT_PRECISION_BF16,
                            .stride = s->kv_heads * s->head_dim,
                            .head_dim = s->head_dim,
                            .scale = s->scale};
}

int rot_train_attention_forward(rot_train *train, const rot_train_attention *s, const float *q,
                                const void *k, const void *v, float *out, float *lse, rot_err *err)
{
    const rot_train_rows *rows = ((rot_train_host *)train)->rows;
    size_t n_tasks = 0, per_thread = (longest(s) + 15) / 16 * 16;
    for (size_t i = 0; i < s->n; i++)
        n_tasks += ((size_t)s->counts[i] + TASK_ROWS - 1) / TASK_ROWS * s->kv_heads;
    size_t scores_bytes = (size_t)train->threads * per_thread * sizeof(float);
    float *scores = rot_train_space((rot_train_host *)train,
                                    scores_bytes + n_tasks * (sizeof(task) + sizeof(size_t)), err);
    if (!scores) return ROT_ERR_NO_MEMORY;
    task *tasks = (task *)((unsigned char *)scores + scores_bytes);
    size_t *starts = (size_t *)(tasks + n_tasks), t = 0, start = 0;
    for (size_t i = 0; i < s->n; start += (size_t)s->counts[i++])
        for (size_t from = 0; from < (size_t)s->counts[i]; from += TASK_ROWS)
            for (size_t h = 0; h < s->kv_heads; h++, t++) {
                size_t to = from + TASK_ROWS;
                if (to > (size_t)s->counts[i]) to = (size_t)s->counts[i];
                tasks[t] = (task){i, h, from, to};
                starts[t] = start;
            }
    size_t group = s->heads / s->kv_heads;
    int threads = rot_train_threads_for(train, products(s));
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (size_t i = 0; i < n_tasks; i++) {
        const task *w = &tasks[i];
        size_t after = i + (size_t)threads; // this thread's next task, likely
        rot_train_keys keys = keys_of(train, s, w->sequence, w->kv_head, k, v);
        const void *next = NULL;
        if (after < n_tasks)
            next = keys_of(train, s, tasks[after].sequence, tasks[after].kv_head, k, v).k;
        float *mine = scores + (size_t)omp_get_thread_num() * per_thread;
        for (size_t j = w->from; j < w->to; j++)
            for (size_t h = w->kv_head * group; h < (w->kv_head + 1) * group; h++) {
                size_t row = starts[i] + j, at = (row * s->heads + h) * s->head_dim;
                bool last = j + 1 == w->to && h + 1 == (w->kv_head + 1) * group;
                keys.n = (size_t)s->past[w->sequence] + j + 1;
                keys.mask = rot_train_mask_of(s, row, h);
                keys.next = last ? next : NULL;
                lse[row * s->heads + h] = rows->attend(&keys, q + at, mine, out + at);
            }
    }
    return 0;
}

int rot_train_attention_backward(rot_train *train, const rot_train_attention *s,
                                 const int32_t *first, const float *q, const void *k, const void *v,
                                 const float *out, const float *lse, const float *dout, float *dq,
                                 float *dk, float *dv, rot_err *err)
{
    const rot_train_rows *rows = ((rot_train_host *)train)->rows;
    size_t *starts = rot_train_space((rot_train_host *)train, s->n * sizeof *starts, err);
    if (!starts) return ROT_ERR_NO_MEMORY;
    for (size_t i = 0, start = 0; i < s->n; start += (size_t)s->counts[i++]) starts[i] = start;
    size_t group = s->heads / s->kv_heads;
    int threads = rot_train_threads_for(train, products(s));
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads)
    for (size_t i = 0; i < s->n; i++)
        for (size_t kv = 0; kv < s->kv_heads; kv++) {
            size_t at = element_of(s, i, kv);
            rot_train_keys keys = keys_of(train, s, i, kv, k, v);
            for (size_t h = kv * group; h < (kv + 1) * group; h++)
                for (size_t j = 0; j < (size_t)s->counts[i]; j++) {
                    size_t row = starts[i] + j, q_at = (row * s->heads + h) * s->head_dim;
                    keys.n = (size_t)s->past[i] + j + 1;
                    keys.mask = rot_train_mask_of(s, row, h);
                    rows->attend_back(&keys, (size_t)first[i], q + q_at, out + q_at,
                                      lse[row * s->heads + h], dout + q_at, dq + q_at, dk + at,
                                      dv + at);
                }
        }
    return 0;
}
