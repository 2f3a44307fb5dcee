// Compiled by rows_c.c and rows_avx512.c, which define FN (how a function is declared) and ROWS
// (the name of the table).
#include <math.h>

#include "base/random.h"
#include "kernels/ref/math.h"
#include "kernels/train/rows.h"

// Walks n floats in steps of sixteen; m of them are there in a step.
#define EACH(n) for (size_t i = 0, m; i < (n) && (m = (n)-i < 16 ? (n)-i : 16); i += 16)

ROT_INLINE rot_v16f load(const float *p, size_t m)
{
    return m == 16 ? rot_vload(p) : rot_vload_n(p, m, 0);
}

ROT_INLINE void store(float *p, rot_v16f v, size_t m)
{
    if (m == 16)
        rot_vstore(p, v);
    else
        rot_vstore_n(p, v, m);
}

FN void add(size_t n, const float *x, float *y)
{
    EACH(n) store(y + i, load(y + i, m) + load(x + i, m), m);
}

FN void axpy(size_t n, float a, const float *x, float *y)
{
    EACH(n) store(y + i, load(y + i, m) + a * load(x + i, m), m);
}

FN void scale(size_t n, float a, float *x)
{
    EACH(n) store(x + i, a * load(x + i, m), m);
}

FN void round_bf16(size_t n, const float *x, float *y)
{
    EACH(n) store(y + i, rot_vround_bf16(load(x + i, m)), m);
}

typedef uint16_t half16 __attribute__((vector_size(32)));

FN void narrow(size_t n, const float *x, uint16_t *y)
{
    EACH(n)
    {
        rot_v16u bits = (rot_v16u)rot_vround_bf16(load(x + i, m)) >> 16;
        half16 h = __builtin_convertvector(bits, half16);
        memcpy(y + i, &h, m * sizeof *y);
    }
}

ROT_INLINE rot_v16f load_narrow(const uint16_t *p, size_t m)
{
    half16 h = {0};
    if (m == 16)
        memcpy(&h, p, sizeof h);
    else
        memcpy(&h, p, m * sizeof *p);
    return (rot_v16f)(__builtin_convertvector(h, rot_v16u) << 16);
}

FN void widen(size_t n, const uint16_t *x, float *y)
{
    EACH(n) store(y + i, load_narrow(x + i, m), m);
}

// Elements of the cache of keys and values from `at` on. `is_narrow` is a literal.
ROT_INLINE rot_v16f load_cache(bool is_narrow, const void *rows, size_t at, size_t m)
{
    return is_narrow ? load_narrow((const uint16_t *)rows + at, m)
                     : load((const float *)rows + at, m);
}

// The bits of rot_vsum, without going through memory.
ROT_INLINE float sum_lanes(rot_v16f v)
{
    v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7);
    v += __builtin_shufflevector(v, v, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3);
    v += __builtin_shufflevector(v, v, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);
    return v[0];
}

ROT_INLINE float dot_cache(bool is_narrow, size_t n, const float *x, const void *rows, size_t at)
{
    rot_v16f sum = {0};
    EACH(n) sum += load(x + i, m) * load_cache(is_narrow, rows, at + i, m);
    return sum_lanes(sum);
}

ROT_INLINE float dot(size_t n, const float *x, const float *y)
{
    return dot_cache(false, n, x, y, 0);
}

ROT_INLINE float sum_of(size_t n, const float *x)
{
    rot_v16f sum = {0};
    EACH(n) sum += load(x + i, m);
    return sum_lanes(sum);
}

// Zhang and Sennrich 2019; where transformers multiplies by gamma, behind the rounding, no rounding
// is here.
FN void rms_norm(size_t n, float eps, const float *x, const float *gamma, float *y)
{
    float inv = 1.0f / sqrtf(dot(n, x, x) / (float)n + eps);
    EACH(n) store(y + i, load(x + i, m) * inv * load(gamma + i, m), m);
}

// h = dy gamma: dx = inv (h - x inv^2 mean(h x)), dgamma = dy x inv
FN void rms_norm_back(size_t n, float eps, const float *x, const float *gamma, const float *dy,
                      bool add_to, float *dx, float *dgamma)
{
    float inv = 1.0f / sqrtf(dot(n, x, x) / (float)n + eps);
    rot_v16f sum = {0};
    EACH(n) sum += load(dy + i, m) * load(gamma + i, m) * load(x + i, m);
    float c = sum_lanes(sum) / (float)n * inv * inv;
    EACH(n)
    {
        rot_v16f d = load(dy + i, m), v = load(x + i, m);
        rot_v16f g = inv * (d * load(gamma + i, m) - v * c);
        if (dgamma) store(dgamma + i, load(dgamma + i, m) + d * (v * inv), m);
        store(dx + i, add_to ? load(dx + i, m) + g : g, m);
    }
}

// mean and 1 / sqrt(variance + eps), the variance by a second pass
ROT_INLINE float moments(size_t n, float eps, const float *x, float *mean)
{
    float mu = sum_of(n, x) / (float)n;
    rot_v16f sum = {0};
    EACH(n)
    {
        rot_v16f d = (m == 16 ? rot_vload(x + i) : rot_vload_n(x + i, m, mu)) - mu;
        sum += d * d;
    }
    *mean = mu;
    return 1.0f / sqrtf(sum_lanes(sum) / (float)n + eps);
}

FN void layer_norm(size_t n, float eps, const float *x, const float *gamma, const float *beta,
                   float *y)
{
    float mean, inv = moments(n, eps, x, &mean);
    EACH(n)
    store(y + i, (load(x + i, m) - mean) * inv * load(gamma + i, m) + load(beta + i, m), m);
}

// h = dy gamma, z = (x - mean) inv: dx = inv (h - mean(h) - z mean(h z)), dgamma = dy z, dbeta = dy
FN void layer_norm_back(size_t n, float eps, const float *x, const float *gamma, const float *dy,
                        bool add_to, float *dx, float *dgamma, float *dbeta)
{
    float mean, inv = moments(n, eps, x, &mean);
    rot_v16f sum = {0}, sum_z = {0};
    EACH(n)
    {
        rot_v16f h = load(dy + i, m) * load(gamma + i, m);
        sum += h;
        sum_z += h * ((load(x + i, m) - mean) * inv);
    }
    float h_mean = sum_lanes(sum) / (float)n, z_mean = sum_lanes(sum_z) / (float)n;
    EACH(n)
    {
        rot_v16f d = load(dy + i, m), z = (load(x + i, m) - mean) * inv;
        rot_v16f g = inv * (d * load(gamma + i, m) - h_mean - z * z_mean);
        if (dgamma) store(dgamma + i, load(dgamma + i, m) + d * z, m);
        if (dbeta) store(dbeta + i, load(dbeta + i, m) + d, m);
        store(dx + i, add_to ? load(dx + i, m) + g : g, m);
    }
}

FN void rope(size_t half, const float *cosines, const float *sines, bool inverse, float *x)
{
    EACH(half)
    {
        rot_v16f c = load(cosines + i, m), s = load(sines + i, m);
        rot_v16f a = load(x + i, m), b = load(x + half + i, m);
        if (inverse) s = -s;
        store(x + i, a * c - b * s, m);
        store(x + half + i, b * c + a * s, m);
    }
}

FN void swiglu(size_t n, const float *in, float *out)
{
    EACH(n) store(out + i, rot_vswish(load(in + i, m), 1.0f) * load(in + n + i, m), m);
}

// silu'(g) = s (1 + g (1 - s)), s = 1 / (1 + exp(-g))
FN void swiglu_back(size_t n, const float *in, const float *dout, float *din)
{
    EACH(n)
    {
        rot_v16f g = load(in + i, m), u = load(in + n + i, m), d = load(dout + i, m);
        rot_v16f s = 1.0f / (1.0f + rot_vexp(-g));
        store(din + i, d * u * (s * (1.0f + g * (1.0f - s))), m);
        store(din + n + i, d * (g * s), m);
    }
}

FN void gelu(size_t n, const float *in, float *out)
{
    EACH(n) store(out + i, rot_vgelu_tanh(load(in + i, m)), m);
}

// t = tanh(a (x + b x^3)): (1 + t) / 2 + x (1 - t^2) a (1 + 3 b x^2) / 2
FN void gelu_back(size_t n, const float *in, const float *dout, float *din)
{
    EACH(n)
    {
        rot_v16f x = load(in + i, m), a = rot_vset(0x1.988454p-1f), b = rot_vset(0x1.6e4e26p-5f);
        rot_v16f t = rot_vtanh(a * (x + b * (x * x * x)));
        rot_v16f slope =
            0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * (a * (1.0f + 3.0f * b * (x * x)));
        store(din + i, load(dout + i, m) * slope, m);
    }
}

// x = exp(x - top) in place; returns the sum.
ROT_INLINE float exponentials(size_t n, float top, float *x)
{
    rot_v16f sum = {0};
    EACH(n)
    {
        rot_v16f v = m == 16 ? rot_vload(x + i) : rot_vload_n(x + i, m, -INFINITY);
        v = rot_vexp(v - top);
        sum += v;
        store(x + i, v, m);
    }
    return sum_lanes(sum);
}

ROT_INLINE float largest(size_t n, const float *x)
{
    rot_v16f top = rot_vset(-INFINITY);
    EACH(n) top = rot_vmax(top, m == 16 ? rot_vload(x + i) : rot_vload_n(x + i, m, -INFINITY));
    return rot_vmax_all(top);
}

// Element i is kept if bits 32 (i mod 2) .. of draw i / 2 of the key are not below `limit`.
ROT_INLINE bool is_kept(uint64_t key, size_t i, uint32_t limit)
{
    return (uint32_t)(rot_random_at(key, i / 2) >> (i % 2 * 32)) >= limit;
}

FN void dropout(size_t n, uint64_t key, uint32_t limit, float factor, const float *x, bool add_to,
                float *y)
{
    for (size_t i = 0; i < n; i++) {
        float kept = is_kept(key, i, limit) ? x[i] * factor : 0.0f;
        y[i] = add_to ? y[i] + kept : kept;
    }
}

// The row at element `at` into the second-level cache: what is strided comes too late by itself.
ROT_INLINE void fetch_cache(bool is_narrow, const rot_train_keys *keys, const void *rows, size_t at)
{
    size_t bytes = is_narrow ? sizeof(uint16_t) : sizeof(float);
    for (size_t i = 0; i < keys->head_dim; i += 64 / bytes)
        __builtin_prefetch((const unsigned char *)rows + (at + i) * bytes, 0, 2);
}

// Values by chance, 64 columns in one walk over the keys, whose rows are far apart; returns how
// many columns that are.
ROT_INLINE size_t mix_wide(bool is_narrow, const rot_train_keys *keys, const float *scores,
                           float inv, float *out)
{
    size_t i = 0;
    for (; i + 64 <= keys->head_dim; i += 64) {
        rot_v16f o[4] = {{0}};
        for (size_t j = 0; j < keys->n; j++) {
            size_t at = j * keys->stride;
            if (keys->next && !i) fetch_cache(is_narrow, keys, keys->next, at);
            for (size_t c = 0; c < 4; c++)
                o[c] += scores[j] * load_cache(is_narrow, keys->v, at + i + 16 * c, 16);
        }
        for (size_t c = 0; c < 4; c++) rot_vstore(out + i + 16 * c, o[c] * inv);
    }
    return i;
}

ROT_INLINE float attend_to(bool is_narrow, const rot_train_keys *keys, const float *q,
                           float *scores, float *out)
{
    size_t d = keys->head_dim;
    for (size_t j = 0; j < keys->n; j++) {
        size_t at = j * keys->stride;
        fetch_cache(is_narrow, keys, keys->v, at);
        scores[j] = dot_cache(is_narrow, d, q, keys->k, at) * keys->scale;
    }
    float top = largest(keys->n, scores), sum = exponentials(keys->n, top, scores);
    float inv = 1.0f / sum;
    const rot_train_mask *w = &keys->mask;
    if (w->limit) dropout(keys->n, w->key, w->limit, w->factor, scores, false, scores);
    size_t done = mix_wide(is_narrow, keys, scores, inv, out);
    for (size_t i = done; i < d; i += 16) {
        size_t m = d - i < 16 ? d - i : 16;
        rot_v16f o = {0};
        for (size_t j = 0; j < keys->n; j++)
            o += scores[j] * load_cache(is_narrow, keys->v, j * keys->stride + i, m);
        store(out + i, o * inv, m);
    }
    return top + logf(sum);
}

FN float attend(const rot_train_keys *keys, const float *q, float *scores, float *out)
{
    return keys->narrow ? attend_to(true, keys, q, scores, out)
                        : attend_to(false, keys, q, scores, out);
}

// p = exp(score - lse), D = dout . out: dv += m p dout, ds = p (m dout . v - D) scale, dq += ds k,
// dk += ds q, m the mask (Dao et al. 2022, appendix B.4)
ROT_INLINE void attend_to_back(bool is_narrow, const rot_train_keys *keys, size_t first,
                               const float *q, const float *out, float lse, const float *dout,
                               float *dq, float *dk, float *dv)
{
    size_t d = keys->head_dim;
    float delta = dot(d, dout, out);
    const rot_train_mask *w = &keys->mask;
    EACH(d) store(dq + i, (rot_v16f){0}, m);
    for (size_t j = 0; j < keys->n; j++) {
        size_t at = j * keys->stride;
        float score = dot_cache(is_narrow, d, q, keys->k, at) * keys->scale;
        rot_v16f e = rot_vexp(rot_vset(score - lse));
        float p = e[0], kept = 1.0f;
        if (w->limit) kept = is_kept(w->key, j, w->limit) ? w->factor : 0.0f;
        float ds = p * (kept * dot_cache(is_narrow, d, dout, keys->v, at) - delta) * keys->scale;
        EACH(d) store(dq + i, load(dq + i, m) + ds * load_cache(is_narrow, keys->k, at + i, m), m);
        if (j < first) continue;
        axpy(d, ds, q, dk + at);
        axpy(d, kept * p, dout, dv + at);
    }
}

FN void attend_back(const rot_train_keys *keys, size_t first, const float *q, const float *out,
                    float lse, const float *dout, float *dq, float *dk, float *dv)
{
    if (keys->narrow)
        attend_to_back(true, keys, first, q, out, lse, dout, dq, dk, dv);
    else
        attend_to_back(false, keys, first, q, out, lse, dout, dq, dk, dv);
}

FN float soften(size_t n, float by, float *x, float *lse)
{
    scale(n, by, x);
    float top = largest(n, x), sum = exponentials(n, top, x);
    *lse = top + logf(sum);
    return sum;
}

FN void resoften(size_t n, float by, float lse, float *x)
{
    EACH(n) store(x + i, rot_vexp(load(x + i, m) * by - lse), m);
}

FN void soften_back(size_t n, float by, float delta, const float *p, float *ds)
{
    EACH(n) store(ds + i, load(p + i, m) * (load(ds + i, m) - delta) * by, m);
}

FN float dot_row(size_t n, const float *x, const float *y)
{
    return dot(n, x, y);
}

FN float cross_entropy(size_t n, size_t label, bool gradient, float weight, float *logits)
{
    float top = largest(n, logits), at_label = logits[label];
    if (!gradient) {
        rot_v16f sum = {0};
        EACH(n)
        sum += rot_vexp((m == 16 ? rot_vload(logits + i) : rot_vload_n(logits + i, m, -INFINITY)) -
                        top);
        return top + logf(sum_lanes(sum)) - at_label;
    }
    float sum = exponentials(n, top, logits), factor = weight / sum;
    EACH(n) store(logits + i, load(logits + i, m) * factor, m);
    logits[label] -= weight;
    return top + logf(sum) - at_label;
}

FN void adamw(const rot_train_adamw *o, size_t n, float *value, const float *grad, float *mean,
              float *square)
{
    float b1 = (float)o->beta1, b2 = (float)o->beta2, c1 = (float)(1 - o->beta1);
    float c2 = (float)(1 - o->beta2), keep = (float)(1 - o->lr * o->decay), eps = (float)o->eps;
    float rate = (float)(o->lr / (1 - pow(o->beta1, (double)o->step)));
    float root = (float)(1 / sqrt(1 - pow(o->beta2, (double)o->step))), by = (float)o->scale;
    EACH(n)
    {
        rot_v16f g = load(grad + i, m) * by;
        rot_v16f a = load(mean + i, m) * b1 + g * c1;
        rot_v16f s = load(square + i, m) * b2 + g * g * c2, r;
        for (int l = 0; l < 16; l++) r[l] = sqrtf(s[l]);
        store(mean + i, a, m);
        store(square + i, s, m);
        store(value + i, load(value + i, m) * keep - rate * (a / (r * root + eps)), m);
    }
}

const rot_train_rows ROWS = {
    .add = add,
    .axpy = axpy,
    .scale = scale,
    .round_bf16 = round_bf16,
    .narrow = narrow,
    .widen = widen,
    .rms_norm = rms_norm,
    .rms_norm_back = rms_norm_back,
    .layer_norm = layer_norm,
    .layer_norm_back = layer_norm_back,
    .rope = rope,
    .swiglu = swiglu,
    .swiglu_back = swiglu_back,
    .gelu = gelu,
    .gelu_back = gelu_back,
    .attend = attend,
    .attend_back = attend_back,
    .soften = soften,
    .resoften = resoften,
    .soften_back = soften_back,
    .dot = dot_row,
    .cross_entropy = cross_entropy,
    .dropout = dropout,
    .adamw = adamw,
};
