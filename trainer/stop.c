#include "trainer/stop.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "encoder/safetensors.h"

enum { MOST_STEPS = 50, MOST_HALVINGS = 30 };

typedef struct fit {
    const float *thoughts; // (n, d)
    const bool *last;      // (n)
    size_t n, d, m;        // m: weights and the bias, d + 1
    double *mean, *scale;  // (d) x = (thought - mean) * scale
    double *w, *tried;     // (m) the bias is the last
    double *gradient;      // (m)
    double *hessian;       // (m, m) lower triangle
    double *x;             // (m) features of a thought, the last 1
} fit;

static void features(const fit *f, size_t i)
{
    for (size_t j = 0; j < f->d; j++)
        f->x[j] = (f->thoughts[i * f->d + j] - f->mean[j]) * f->scale[j];
    f->x[f->d] = 1;
}

static void standardize(fit *f)
{
    for (size_t i = 0; i < f->n; i++)
        for (size_t j = 0; j < f->d; j++) f->mean[j] += f->thoughts[i * f->d + j] / (double)f->n;
    for (size_t i = 0; i < f->n; i++)
        for (size_t j = 0; j < f->d; j++) {
            double gap = f->thoughts[i * f->d + j] - f->mean[j];
            f->scale[j] += gap * gap / (double)f->n;
        }
    // What varies less than floats round is no feature.
    for (size_t j = 0; j < f->d; j++)
        f->scale[j] = f->scale[j] > 1e-12 * f->mean[j] * f->mean[j] ? 1 / sqrt(f->scale[j]) : 0;
}

static double score(const fit *f, const double *w)
{
    double s = 0;
    for (size_t j = 0; j < f->m; j++) s += w[j] * f->x[j];
    return s;
}

// sum log(1 + e^(-y s)) + |w|^2 / 2, y = 1 or -1; the bias is not held small.
static double loss_of(fit *f, const double *w)
{
    double sum = 0;
    for (size_t j = 0; j < f->d; j++) sum += w[j] * w[j] / 2;
    for (size_t i = 0; i < f->n; i++) {
        features(f, i);
        double s = f->last[i] ? score(f, w) : -score(f, w);
        sum += s > 0 ? log1p(exp(-s)) : log1p(exp(s)) - s;
    }
    return sum;
}

static void derive(fit *f)
{
    memset(f->gradient, 0, f->m * sizeof *f->gradient);
    memset(f->hessian, 0, f->m * f->m * sizeof *f->hessian);
    for (size_t j = 0; j < f->d; j++) {
        f->gradient[j] = f->w[j];
        f->hessian[j * f->m + j] = 1;
    }
    for (size_t i = 0; i < f->n; i++) {
        features(f, i);
        double p = 1 / (1 + exp(-score(f, f->w))), wrong = p - f->last[i], curve = p * (1 - p);
        for (size_t j = 0; j < f->m; j++) {
            f->gradient[j] += wrong * f->x[j];
            for (size_t k = 0; k <= j; k++) f->hessian[j * f->m + k] += curve * f->x[j] * f->x[k];
        }
    }
    f->hessian[f->m * f->m - 1] += 1e-9; // of the bias, where every p is 0 or 1
}

// gradient becomes hessian^-1 gradient, by Cholesky's factors in place.
static void solve(fit *f)
{
    size_t m = f->m;
    double *a = f->hessian, *b = f->gradient;
    for (size_t j = 0; j < m; j++)
        for (size_t i = j; i < m; i++) {
            double sum = a[i * m + j];
            for (size_t k = 0; k < j; k++) sum -= a[i * m + k] * a[j * m + k];
            a[i * m + j] = i == j ? sqrt(sum > 1e-12 ? sum : 1e-12) : sum / a[j * m + j];
        }
    for (size_t i = 0; i < m; i++) {
        for (size_t k = 0; k < i; k++) b[i] -= a[i * m + k] * b[k];
        b[i] /= a[i * m + i];
    }
    for (size_t i = m; i-- > 0;) {
        for (size_t k = i + 1; k < m; k++) b[i] -= a[k * m + i] * b[k];
        b[i] /= a[i * m + i];
    }
}

static void newton(fit *f)
{
    double loss = loss_of(f, f->w);
    for (int step = 0; step < MOST_STEPS; step++) {
        derive(f);
        solve(f);
        double length = 1, next = loss;
        for (int half = 0; half < MOST_HALVINGS; half++, length /= 2) {
            for (size_t j = 0; j < f->m; j++) f->tried[j] = f->w[j] - length * f->gradient[j];
            if ((next = loss_of(f, f->tried)) < loss) break;
        }
        if (!(next < loss)) return;
        memcpy(f->w, f->tried, f->m * sizeof *f->w);
        if (loss - next < 1e-10 * loss) return;
        loss = next;
    }
}

static int check(const float *thoughts, const bool *last, size_t n, size_t d, rot_err *err)
{
    size_t ends = 0;
    for (size_t i = 0; i < n; i++) ends += last[i];
    if (ends == 0 || ends == n)
        ROT_FAIL(err, ROT_ERR_INPUT,
                 "%zu of %zu thoughts are the last of their question: nothing to tell apart", ends,
                 n);
    for (size_t i = 0; i < n * d; i++)
        if (!isfinite(thoughts[i]))
            ROT_FAIL(err, ROT_ERR_INPUT, "thought %zu is not finite", i / d);
    return 0;
}

int rot_stop_fit(const float *thoughts, const bool *last, size_t n, size_t d, rot_stop *out,
                 rot_err *err)
{
    ROT_TRY(check(thoughts, last, n, d, err));
    size_t m = d + 1, doubles = 2 * d + 4 * m + m * m;
    double *block = rot_calloc(doubles, sizeof *block);
    *out = (rot_stop){.d = d, .weight = rot_calloc(d, sizeof *out->weight)};
    if (!block || !out->weight) {
        rot_free(block);
        rot_stop_free(out);
        return rot_no_memory(err, doubles * sizeof *block, "a classifier");
    }
    fit f = {.thoughts = thoughts, .last = last, .n = n, .d = d, .m = m};
    f.mean = block;
    f.scale = f.mean + d;
    f.w = f.scale + d;
    f.tried = f.w + m;
    f.gradient = f.tried + m;
    f.x = f.gradient + m;
    f.hessian = f.x + m;
    standardize(&f);
    newton(&f);
    double bias = f.w[d];
    for (size_t j = 0; j < d; j++) {
        out->weight[j] = (float)(f.w[j] * f.scale[j]);
        bias -= f.w[j] * f.scale[j] * f.mean[j];
    }
    out->bias = (float)bias;
    rot_free(block);
    return 0;
}

bool rot_stop_ends(const rot_stop *stop, const float *thought)
{
    double s = stop->bias;
    for (size_t j = 0; j < stop->d; j++) s += (double)stop->weight[j] * thought[j];
    return s > 0;
}

int rot_stop_save(const rot_stop *stop, const char *path, rot_err *err)
{
    const rot_tensor_decl declared[] = {{"weight", ROT_T_F32, 1, {(int64_t)stop->d}},
                                        {"bias", ROT_T_F32, 1, {1}}};
    rot_safetensors_writer *writer = NULL;
    int rc = rot_safetensors_create(path, declared, 2, &writer, err);
    if (rc == 0)
        rc = rot_safetensors_write(writer, stop->weight, stop->d * sizeof *stop->weight, err);
    if (rc == 0) rc = rot_safetensors_write(writer, &stop->bias, sizeof stop->bias, err);
    if (rc == 0) rc = rot_safetensors_finish(&writer, err);
    rot_safetensors_abort(&writer);
    return rc;
}

int rot_stop_load(const char *path, size_t d, rot_stop *out, rot_err *err)
{
    rot_safetensors *file = NULL;
    int rc = 0;
    *out = (rot_stop){.d = d};
    ROT_TRY(rot_safetensors_open(path, &file, err));
    const rot_tensor *weight = rot_safetensors_find(file, "weight");
    const rot_tensor *bias = rot_safetensors_find(file, "bias");
    if (!weight || !bias || weight->type != ROT_T_F32 || bias->type != ROT_T_F32 ||
        bias->n_elements != 1)
        ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: no weight and bias of a classifier in F32", path);
    if (weight->n_elements != d)
        ROT_FAIL_GO(err, ROT_ERR_USAGE, "%s is for hidden states of %zu numbers, the model has %zu",
                    path, weight->n_elements, d);
    out->weight = rot_malloc((d ? d : 1) * sizeof *out->weight);
    if (!out->weight) ROT_GO(rot_no_memory(err, d * sizeof *out->weight, "a classifier"));
    rot_tensor_to_f32(weight, 0, d, out->weight);
    rot_tensor_to_f32(bias, 0, 1, &out->bias);
    bool finite = isfinite(out->bias);
    for (size_t j = 0; j < d; j++) finite = finite && isfinite(out->weight[j]);
    if (!finite) ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: a number is not finite", path);
done:
    rot_safetensors_close(&file);
    if (rc < 0) rot_stop_free(out);
    return rc;
}

void rot_stop_free(rot_stop *stop)
{
    rot_free(stop->weight);
    *stop = (rot_stop){0};
}
