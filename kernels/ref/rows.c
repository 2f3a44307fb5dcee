// The row-wise operations of the reference: norm, epilogues, rotation, softmax. Compiled three
// times, for wider registers; the bits are those of the plain one.
#include <math.h>

#include "kernels/ref/math.h"
#include "kernels/ref/ref.h"

#if defined(__clang__) || defined(__SANITIZE_ADDRESS__)
#define WIDE // the sanitizers' runtimes are not up yet when the loader would choose a clone
#else
#define WIDE __attribute__((target_clones("default", "avx2", "avx512f")))
#endif

ROT_INLINE rot_v16f load(const float *p, size_t i, size_t n)
{
    return n - i >= ROT_LANES ? rot_vload(p + i) : rot_vload_n(p + i, n - i, 0.0f);
}

ROT_INLINE void store(float *p, size_t i, size_t n, rot_v16f v, bool round)
{
    if (round) v = rot_vround_bf16(v);
    if (n - i >= ROT_LANES)
        rot_vstore(p + i, v);
    else
        rot_vstore_n(p + i, v, n - i);
}

WIDE void rot_ref_layer_norm_row(const float *x, size_t width, float eps, const float *gamma,
                                 const float *beta, bool round, float *out)
{
    rot_v16f sum = rot_vset(0.0f);
    for (size_t i = 0; i < width; i += ROT_LANES) sum += load(x, i, width);
    float mean = rot_vsum(sum) / (float)width;
    sum = rot_vset(0.0f);
    for (size_t i = 0; i < width; i += ROT_LANES) {
        size_t left = width - i;
        rot_v16f d = left >= ROT_LANES ? rot_vload(x + i) : rot_vload_n(x + i, left, mean);
        d -= mean;
        sum += d * d;
    }
    float scale = 1.0f / sqrtf(rot_vsum(sum) / (float)width + eps);
    for (size_t i = 0; i < width; i += ROT_LANES) {
        rot_v16f y =
            (load(x, i, width) - mean) * scale * load(gamma, i, width) + load(beta, i, width);
        store(out, i, width, y, round);
    }
}

WIDE void rot_ref_rms_norm_row(const float *x, size_t width, float eps, const float *gamma,
                               bool round, float *out)
{
    rot_v16f sum = rot_vset(0.0f);
    for (size_t i = 0; i < width; i += ROT_LANES) {
        rot_v16f v = load(x, i, width);
        sum += v * v;
    }
    float scale = 1.0f / sqrtf(rot_vsum(sum) / (float)width + eps);
    for (size_t i = 0; i < width; i += ROT_LANES)
        store(out, i, width, load(x, i, width) * scale * load(gamma, i, width), round);
}

WIDE void rot_ref_swiglu_row(const float *in, size_t width, bool round, float *out)
{
    for (size_t i = 0; i < width; i += ROT_LANES)
        store(out, i, width, rot_vswish(load(in, i, width), 1.0f) * load(in + width, i, width),
              round);
}

WIDE void rot_ref_epilogue_row(rot_epilogue epilogue, bool round, const float *sum,
                               const float *bias, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += ROT_LANES) {
        rot_v16f y = load(sum, i, n) + load(bias, i, n);
        if (epilogue == ROT_EPILOGUE_GELU_TANH)
            y = rot_vgelu_tanh(y);
        else if (epilogue == ROT_EPILOGUE_GELU_ERF)
            y = rot_vgelu_erf(y);
        else if (epilogue == ROT_EPILOGUE_GELU_QUICK)
            y = rot_vswish(y, 1.702f);
        else if (epilogue == ROT_EPILOGUE_ADD)
            y = load(out, i, n) + y;
        store(out, i, n, y, round && epilogue != ROT_EPILOGUE_ADD);
    }
}

WIDE void rot_ref_rope_row(const float *x, const float *cosines, const float *sines, size_t half,
                           bool round, float *out)
{
    for (size_t i = 0; i < half; i += ROT_LANES) {
        rot_v16f a = load(x, i, half), b = load(x + half, i, half);
        rot_v16f c = load(cosines, i, half), s = load(sines, i, half);
        store(out, i, half, a * c - b * s, round);
        store(out + half, i, half, b * c + a * s, round);
    }
}

WIDE float rot_ref_softmax_row(float *scores, size_t n, float scale, bool round)
{
    rot_v16f most = rot_vset(-INFINITY), sum = rot_vset(0.0f);
    for (size_t i = 0; i < n; i += ROT_LANES) {
        size_t left = n - i;
        rot_v16f s =
            left >= ROT_LANES ? rot_vload(scores + i) : rot_vload_n(scores + i, left, -INFINITY);
        most = rot_vmax(most, s * scale);
    }
    float maximum = rot_vmax_all(most);
    for (size_t i = 0; i < n; i += ROT_LANES) {
        size_t left = n - i;
        rot_v16f s =
            left >= ROT_LANES ? rot_vload(scores + i) : rot_vload_n(scores + i, left, -INFINITY);
        rot_v16f p = rot_vexp(s * scale - maximum);
        sum += p; // lanes past the end are exp(-infinity) = 0
        store(scores, i, n, p, round);
    }
    return rot_vsum(sum);
}
