#include "trainer/loss.h"

#include <math.h>

typedef struct rows {
    size_t d;
    const float *p, *t;
    double per; // of each element's loss: 1, or 1 / d
    float *grad;
} rows;

static double mse(const rows *r, double weight)
{
    double sum = 0;
    for (size_t i = 0; i < r->d; i++) {
        double e = (double)r->p[i] - (double)r->t[i];
        sum += e * e;
        if (r->grad) r->grad[i] += (float)(weight * r->per * 2 * e);
    }
    return sum * r->per;
}

static double huber(const rows *r, double weight)
{
    double sum = 0;
    for (size_t i = 0; i < r->d; i++) {
        double e = (double)r->p[i] - (double)r->t[i], a = fabs(e);
        sum += a < 1 ? e * e / 2 : a - 0.5;
        if (r->grad) r->grad[i] += (float)(weight * r->per * (a < 1 ? e : e < 0 ? -1 : 1));
    }
    return sum * r->per;
}

static double cosine(const rows *r, double weight)
{
    double pp = 0, tt = 0, pt = 0;
    for (size_t i = 0; i < r->d; i++) {
        double p = r->p[i], t = r->t[i];
        pp += p * p;
        tt += t * t;
        pt += p * t;
    }
    double np = sqrt(pp), nt = sqrt(tt), limit = 1 - 1e-6;
    if (np < 1e-6 || nt < 1e-6) return mse(r, weight);
    double c = pt / (np * nt);
    if (isnan(c) || isinf(c)) return mse(r, weight);
    if (c > limit || c < -limit) return 1 - (c > 0 ? limit : -limit); // no gradient beyond
    for (size_t i = 0; r->grad && i < r->d; i++)
        r->grad[i] -= (float)(weight * ((double)r->t[i] / nt - c * (double)r->p[i] / np) / np);
    return 1 - c;
}

// log of the sum of exponentials
static double log_sum(size_t d, const float *x)
{
    double most = x[0], sum = 0;
    for (size_t i = 1; i < d; i++)
        if (x[i] > most) most = x[i];
    for (size_t i = 0; i < d; i++) sum += exp((double)x[i] - most);
    return most + log(sum);
}

static double kl(const rows *r, double weight)
{
    double zp = log_sum(r->d, r->p), zt = log_sum(r->d, r->t), sum = 0;
    for (size_t i = 0; i < r->d; i++) {
        double lp = (double)r->p[i] - zp, lt = (double)r->t[i] - zt;
        sum += exp(lt) * (lt - lp);
    }
    if (!isfinite(sum)) return mse(r, weight);
    for (size_t i = 0; r->grad && i < r->d; i++)
        r->grad[i] += (float)(weight * (exp((double)r->p[i] - zp) - exp((double)r->t[i] - zt)));
    return sum;
}

double rot_latent_loss(rot_train_loss kind, rot_train_reduction reduction, size_t d, const float *p,
                       const float *t, double weight, float *grad)
{
    rows r = {d, p, t, reduction == ROT_REDUCE_PAPER ? 1 : 1 / (double)d, grad};
    switch (kind) {
    case ROT_LOSS_MSE: return mse(&r, weight);
    case ROT_LOSS_COSINE: return cosine(&r, weight);
    case ROT_LOSS_KL: return kl(&r, weight);
    case ROT_LOSS_HUBER: return huber(&r, weight);
    case ROT_LOSS_STABLE:
        return 0.5 * mse(&r, 0.5 * weight) + 0.3 * cosine(&r, 0.3 * weight) +
               0.2 * kl(&r, 0.2 * weight);
    }
    return NAN;
}
