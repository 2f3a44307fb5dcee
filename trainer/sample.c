#include "trainer/sample.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/random.h"

int rot_sampler_open(double temperature, double top_p, int32_t vocab, rot_sampler *out,
                     rot_err *err)
{
    *out = (rot_sampler){.temperature = temperature, .top_p = top_p, .vocab = vocab};
    if (!(temperature >= 0) || !isfinite(temperature))
        ROT_FAIL(err, ROT_ERR_USAGE, "temperature of %g: not from 0 on", temperature);
    if (!(top_p > 0 && top_p <= 1))
        ROT_FAIL(err, ROT_ERR_USAGE, "top_p of %g: not above 0 and up to 1", top_p);
    out->probabilities = rot_malloc((size_t)vocab * sizeof *out->probabilities);
    out->order = rot_malloc((size_t)vocab * sizeof *out->order);
    if (out->probabilities && out->order) return 0;
    rot_sampler_close(out);
    return rot_no_memory(err, (size_t)vocab * sizeof *out->probabilities, "probabilities");
}

void rot_sampler_close(rot_sampler *sampler)
{
    rot_free(sampler->probabilities);
    rot_free(sampler->order);
    *sampler = (rot_sampler){0};
}

int32_t rot_argmax(const float *values, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (values[i] > values[best]) best = i;
    return best;
}

void rot_top_k(const float *values, int32_t n, int32_t k, int32_t *best)
{
    int32_t have = 0;
    for (int32_t i = 0; i < n; i++) {
        if (have == k && !(values[i] > values[best[k - 1]])) continue;
        int32_t at = have < k ? have++ : k - 1;
        for (; at > 0 && values[i] > values[best[at - 1]]; at--) best[at] = best[at - 1];
        best[at] = i;
    }
}

static int by_probability(const void *a, const void *b, void *user)
{
    const double *p = user;
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (p[i] != p[j]) return p[i] > p[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

// What is not needed to reach top_p becomes 0; returns the sum of the rest.
static double cut(rot_sampler *s)
{
    double *p = s->probabilities, sum = 0;
    for (int32_t i = 0; i < s->vocab; i++) s->order[i] = i;
    qsort_r(s->order, (size_t)s->vocab, sizeof *s->order, by_probability, p);
    for (int32_t i = 0; i < s->vocab; i++) {
        if (sum >= s->top_p)
            p[s->order[i]] = 0;
        else
            sum += p[s->order[i]];
    }
    return sum;
}

void rot_sampler_distribution(rot_sampler *s, const float *logits)
{
    double sum = 0, most = logits[rot_argmax(logits, s->vocab)];
    for (int32_t i = 0; i < s->vocab; i++)
        sum += s->probabilities[i] = exp((logits[i] - most) / s->temperature);
    for (int32_t i = 0; i < s->vocab; i++) s->probabilities[i] /= sum;
    if (s->top_p >= 1) return;
    sum = cut(s);
    for (int32_t i = 0; i < s->vocab; i++) s->probabilities[i] /= sum;
}

int32_t rot_sample(rot_sampler *s, const float *logits, uint64_t key, uint64_t n)
{
    if (s->temperature == 0) return rot_argmax(logits, s->vocab);
    rot_sampler_distribution(s, logits);
    double left = rot_random_unit(key, n);
    int32_t last = 0; // rounding may leave a little at the end
    for (int32_t i = 0; i < s->vocab; i++) {
        if (s->probabilities[i] == 0) continue;
        last = i;
        left -= s->probabilities[i];
        if (left < 0) break;
    }
    return last;
}
