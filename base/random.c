#include "base/random.h"

#include <math.h>

// The natural logarithm in (0, 1] to about 1e-12, in single IEEE operations: 2 atanh((m - 1) / (m +
// 1)) as a series.
static double log_of(double x)
{
    int exponent;
    double m = frexp(x, &exponent); // in [0.5, 1)
    if (m < 0.70710678118654752) {
        m *= 2;
        exponent--;
    }
    double t = (m - 1) / (m + 1), square = t * t, sum = 0;
    for (int k = 15; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
    return 2 * t * sum + exponent * 0.69314718055994531;
}

static double horner(const double *c, int n, double x)
{
    double sum = c[0];
    for (int i = 1; i < n; i++) sum = sum * x + c[i];
    return sum;
}

// The inverse of the normal distribution function by P. J. Acklam's rational approximation: a
// relative error under 1.2e-9.
double rot_random_normal(uint64_t key, uint64_t n)
{
    static const double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,
                               -2.759285104469687e+02, 1.383577518672690e+02,
                               -3.066479806614716e+01, 2.506628277459239e+00},
                        b[] = {-5.447609879822406e+01, 1.615858368580409e+02,
                               -1.556989798598866e+02, 6.680131188771972e+01,
                               -1.328068155288572e+01, 1},
                        c[] = {-7.784894002430293e-03, -3.223964580411365e-01,
                               -2.400758277161838e+00, -2.549732539343734e+00,
                               4.374664141464968e+00,  2.938163982698783e+00},
                        d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                               3.754408661907416e+00, 1};
    double p = ((double)(rot_random_at(key, n) >> 12) + 0.5) * 0x1p-52; // never 0 or 1, symmetric
    double q = p - 0.5, tail = p < 0.5 ? p : 1 - p;
    if (tail >= 0.02425) return horner(a, 6, q * q) * q / horner(b, 6, q * q);
    double r = sqrt(-2 * log_of(tail)), x = horner(c, 6, r) / horner(d, 5, r);
    return p < 0.5 ? x : -x;
}
