#include "trainer/score.h"

#include <jansson.h>
#include <math.h>

#include "base/err.h"
#include "base/mem.h"

/* ---- Student's t -------------------------------------------------------------------------------
 */

// The continued fraction of the incomplete beta function I_x(a, b) by Lentz's method (Abramowitz
// and Stegun 26.5.8).
static double beta_fraction(double a, double b, double x)
{
    double c = 1, d = 1 - (a + b) * x / (a + 1), f;
    if (fabs(d) < 1e-300) d = 1e-300;
    f = d = 1 / d;
    for (int m = 1; m < 500; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double step = 1;
        for (int i = 0; i < 2; i++) {
            double k = i ? odd : even;
            d = 1 + k * d;
            c = 1 + k / c;
            if (fabs(d) < 1e-300) d = 1e-300;
            if (fabs(c) < 1e-300) c = 1e-300;
            d = 1 / d;
            step = c * d;
            f *= step;
        }
        if (fabs(step - 1) < 1e-15) break;
    }
    return f;
}

static double beta_below(double a, double b, double x) // I_x(a, b)
{
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double rot_score_t(double p, double freedom)
{
    if (p < 0.5) return -rot_score_t(1 - p, freedom);
    double low = 0, high = 1;
    // P(T > t) = I_x(freedom / 2, 1 / 2) / 2 at x = freedom / (freedom + t^2).
    while (high < 1e300 &&
           beta_below(freedom / 2, 0.5, freedom / (freedom + high * high)) / 2 > 1 - p)
        high *= 2;
    for (int i = 0; i < 200 && high - low > 1e-15 * high; i++) {
        double t = (low + high) / 2;
        if (beta_below(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2 > 1 - p)
            low = t;
        else
            high = t;
    }
    return (low + high) / 2;
}

double rot_score_interval(const double *values, size_t n)
{
    double mean = 0, squares = 0;
    if (n < 2) return NAN;
    for (size_t i = 0; i < n; i++) mean += values[i] / (double)n;
    for (size_t i = 0; i < n; i++) squares += (values[i] - mean) * (values[i] - mean);
    double spread = sqrt(squares / (double)(n - 1));
    return rot_score_t(0.975, (double)(n - 1)) * spread / sqrt((double)n);
}

/* ---- figures -----------------------------------------------------------------------------------
 */

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

typedef struct figure {
    const char *name;
    double (*of)(const rot_score_row *row);
} figure;

static double percent(bool right)
{
    return right ? 100 : 0;
}
static double corrected(const rot_score_row *r)
{
    return percent(!r->failed && r->corrected);
}
static double released(const rot_score_row *r)
{
    return percent(!r->failed && r->released);
}
// The published code leaves failures out of its total.
static double released_of_answered(const rot_score_row *r)
{
    return r->failed ? NAN : percent(r->released);
}
static double coconut(const rot_score_row *r)
{
    return percent(!r->failed && r->coconut);
}
static double chain(const rot_score_row *r)
{
    return percent(!r->failed && r->chain);
}
static double length(const rot_score_row *r)
{
    if (isnan(r->latents)) return r->chain_tokens;
    return r->latents + (isnan(r->chain_tokens) ? 0 : r->chain_tokens);
}
static double latents(const rot_score_row *r)
{
    return r->latents;
}
static double seconds(const rot_score_row *r)
{
    return r->seconds;
}
static double released_ratio(const rot_score_row *r)
{
    return r->failed || !(r->text_tokens > 0) ? NAN : r->text_tokens / r->teacher_latents;
}
static double released_saved(const rot_score_row *r)
{
    if (r->failed || !(r->text_tokens > 0)) return NAN;
    return 100 * (1 - r->teacher_latents / r->text_tokens);
}
// Sums, of which the quotient is taken.
static double used_text(const rot_score_row *r)
{
    return r->latents > 0 ? r->text_tokens : NAN;
}
static double used_latents(const rot_score_row *r)
{
    return r->latents > 0 && !isnan(r->text_tokens) ? r->latents : NAN;
}

// means[s] over the rows of seed s that know the figure; NAN: none does. counts: scratch of
// n_seeds.
static void means_of(const rot_score_row *rows, size_t n, double (*of)(const rot_score_row *),
                     uint32_t n_seeds, double *means, size_t *counts)
{
    for (uint32_t s = 0; s < n_seeds; s++) means[s] = counts[s] = 0;
    for (size_t i = 0; i < n; i++) {
        double value = of(&rows[i]);
        if (isnan(value)) continue;
        means[rows[i].seed] += value;
        counts[rows[i].seed]++;
    }
    for (uint32_t s = 0; s < n_seeds; s++)
        means[s] = counts[s] ? means[s] / (double)counts[s] : NAN;
}

static json_t *over_seeds(const double *values, uint32_t n)
{
    double mean = 0;
    json_t *list = json_array();
    for (uint32_t s = 0; s < n; s++) {
        mean += values[s] / n;
        json_array_append_new(list, number(values[s]));
    }
    if (isnan(mean)) {
        json_decref(list);
        return json_null();
    }
    return json_pack("{s:o, s:o, s:o}", "mean", number(mean), "interval95",
                     number(rot_score_interval(values, n)), "per_seed", list);
}

static const figure figures[] = {{"pass_at_1", corrected},
                                 {"pass_at_1_released", released},
                                 {"pass_at_1_released_of_answered", released_of_answered},
                                 {"pass_at_1_coconut", coconut},
                                 {"chain_exact_match", chain},
                                 {"length", length},
                                 {"latents", latents},
                                 {"seconds_per_sample", seconds},
                                 {"compression_released_ratio", released_ratio},
                                 {"compression_released_saved_percent", released_saved}};

static void add_quotients(json_t *root, const rot_score_row *rows, size_t n, uint32_t n_seeds,
                          double *scratch, size_t *counts)
{
    double *above = scratch, *below = scratch + n_seeds;
    means_of(rows, n, corrected, n_seeds, above, counts);
    means_of(rows, n, length, n_seeds, below, counts);
    for (uint32_t s = 0; s < n_seeds; s++) above[s] = below[s] > 0 ? above[s] / below[s] : NAN;
    json_object_set_new(root, "pass_at_1_per_length", over_seeds(above, n_seeds));
    means_of(rows, n, used_text, n_seeds, above, counts);
    means_of(rows, n, used_latents, n_seeds, below, counts);
    for (uint32_t s = 0; s < n_seeds; s++) above[s] /= below[s];
    json_object_set_new(root, "text_tokens_per_latent", over_seeds(above, n_seeds));
}

int rot_score_report(const rot_score_row *rows, size_t n, const int64_t *seeds, uint32_t n_seeds,
                     size_t n_questions, char **json, rot_err *err)
{
    double *scratch = rot_calloc(2 * (size_t)n_seeds, sizeof *scratch);
    size_t *counts = rot_calloc(n_seeds, sizeof *counts);
    json_t *root = json_object(), *labels = json_array();
    int rc = 0;
    size_t failures = 0;
    if (!scratch || !counts) ROT_GO(rot_no_memory(err, n_seeds * sizeof *scratch, "scores"));
    for (uint32_t s = 0; s < n_seeds; s++) json_array_append_new(labels, json_integer(seeds[s]));
    for (size_t i = 0; i < n; i++) failures += rows[i].failed;
    json_object_set_new(root, "questions", json_integer((json_int_t)n_questions));
    json_object_set(root, "seeds", labels);
    json_object_set_new(root, "samples", json_integer((json_int_t)n));
    json_object_set_new(root, "failures", json_integer((json_int_t)failures));
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        means_of(rows, n, figures[i].of, n_seeds, scratch, counts);
        json_object_set_new(root, figures[i].name, over_seeds(scratch, n_seeds));
    }
    add_quotients(root, rows, n, n_seeds, scratch, counts);
    *json = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    if (!*json) rc = rot_no_memory(err, 0, "scores");
done:
    json_decref(labels);
    json_decref(root);
    rot_free(counts);
    rot_free(scratch);
    return rc;
}
