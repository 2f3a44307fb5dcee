// Where a patch lies in its image: the interpolated position table and the angles of the rotation.
// Plain double arithmetic instead of the C library's functions: the same bits on every machine.
#include "encoder/tower.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

// torch.linspace(0, last, n)[i] in float32: from both ends, so that it is symmetric.
static float spaced(int i, int n, int last)
{
    if (n == 1) return 0.0f;
    float step = (float)last / (float)(n - 1);
    return i < n / 2 ? step * (float)i : (float)last - step * (float)(n - 1 - i);
}

typedef struct tap {
    int low, high;
    float part; // of `high`
} tap;

static tap tap_at(int i, int n, int side)
{
    float at = spaced(i, n, side - 1);
    int low = (int)at;
    low = low > side - 1 ? side - 1 : low;
    return (tap){low, low + 1 < side ? low + 1 : side - 1, at - (float)low};
}

// Calls of the row functions go by patch; this is the patch's place.
static void place(int patch, int merge, int grid_w, int *row, int *column)
{
    int cell = merge * merge, block = patch / cell, inner = patch % cell, blocks_w = grid_w / merge;
    *row = block / blocks_w * merge + inner / merge;
    *column = block % blocks_w * merge + inner % merge;
}

// transformers 4.57.6, Qwen3VLVisionModel.fast_pos_embed_interpolate
void rot_tower_position_taps(int side, int merge, int grid_h, int grid_w, rot_taps *out)
{
    for (int patch = 0; patch < grid_h * grid_w; patch++) {
        int row, column;
        place(patch, merge, grid_w, &row, &column);
        tap y = tap_at(row, grid_h, side), x = tap_at(column, grid_w, side);
        out[patch] = (rot_taps){{y.low * side + x.low, y.low * side + x.high, y.high * side + x.low,
                                 y.high * side + x.high},
                                {(1 - y.part) * (1 - x.part), (1 - y.part) * x.part,
                                 y.part * (1 - x.part), y.part * x.part}};
    }
}

void rot_tower_interpolate(const float *table, size_t width, const rot_taps *taps, size_t rows,
                           float *out)
{
    for (; rows > 0; rows--, taps++, out += width) {
        const float *a = table + (size_t)taps->at[0] * width;
        const float *b = table + (size_t)taps->at[1] * width;
        const float *c = table + (size_t)taps->at[2] * width;
        const float *d = table + (size_t)taps->at[3] * width;
        const float wa = taps->part[0], wb = taps->part[1], wc = taps->part[2], wd = taps->part[3];
        for (size_t i = 0; i < width; i++) out[i] = a[i] * wa + b[i] * wb + c[i] * wc + d[i] * wd;
    }
}

// exp(x) for 0 <= x < 40, by exp(x / 64)^64 and Taylor's series.
static double exp_of(double x)
{
    double r = x / 64, term = 1, sum = 1;
    for (int i = 1; i < 20; i++) {
        term *= r / i;
        sum += term;
    }
    for (int i = 0; i < 6; i++) sum *= sum;
    return sum;
}

// log(x) for x >= 1: halved down to [1, 2), then the series of artanh.
static double log_of(double x)
{
    double halvings = 0;
    for (; x >= 2; x /= 2) halvings++;
    double t = (x - 1) / (x + 1), power = t, sum = 0;
    for (int i = 1; i < 60; i += 2, power *= t * t) sum += power / i;
    return 2 * sum + halvings * 0x1.62e42fefa39efp-1;
}

// Sine and cosine of 0 <= x < 2^31, to about 1e-15: quarter turns off in three pieces of pi / 2
// (each but the last with so few bits that its product is exact), then Taylor's series.
static void sine_cosine(double x, double *sine, double *cosine)
{
    double n = floor(x * 0x1.45f306dc9c883p-1 + 0.5);
    double r = ((x - n * 0x1.921fbp+0) - n * 0x1.5110bp-22) - n * 0x1.18469898cc517p-44;
    double z = r * r, s = 0, c = 0;
    for (int i = 21; i > 1; i -= 2) {
        s = (s + 1) * -z / (double)(i * (i - 1));
        c = (c + 1) * -z / (double)((i - 1) * (i - 2));
    }
    s = r + r * s;
    c = 1 + c;
    switch ((int)((long long)n & 3)) {
    case 0: *sine = s, *cosine = c; break;
    case 1: *sine = c, *cosine = -s; break;
    case 2: *sine = -s, *cosine = -c; break;
    default: *sine = -c, *cosine = s; break;
    }
}

// transformers 4.57.6, Qwen3VLVisionRotaryEmbedding and rot_pos_emb: inv_i = 1 / theta^(2 i / half)
// and angle = position * inv_i, each step rounded to float32.
int rot_tower_rotations(double theta, int head_dim, int merge, int grid_h, int grid_w,
                        float *cosines, float *sines, rot_err *err)
{
    int half = head_dim / 2, quarter = half / 2, most = grid_h > grid_w ? grid_h : grid_w;
    size_t n = (size_t)most * (size_t)quarter;
    float *table = rot_malloc(2 * n * sizeof *table); // cosines, sines (most, quarter) by position
    if (!table) return rot_no_memory(err, 2 * n * sizeof *table, "rotations");
    double log_theta = log_of(theta);
    for (int i = 0; i < quarter; i++) {
        float exponent = (float)(2 * i) / (float)half;
        float inverse = 1.0f / (float)exp_of(log_theta * exponent);
        for (int at = 0; at < most; at++) {
            double s, c;
            float angle = (float)at * inverse;
            sine_cosine(angle, &s, &c);
            table[(size_t)at * (size_t)quarter + (size_t)i] = (float)c;
            table[n + (size_t)at * (size_t)quarter + (size_t)i] = (float)s;
        }
    }
    size_t bytes = (size_t)quarter * sizeof *table;
    for (int patch = 0; patch < grid_h * grid_w; patch++) {
        int at[2];
        place(patch, merge, grid_w, &at[0], &at[1]);
        for (int axis = 0; axis < 2; axis++) {
            size_t from = (size_t)at[axis] * (size_t)quarter,
                   to = (size_t)patch * (size_t)half + (size_t)(axis * quarter);
            memcpy(cosines + to, table + from, bytes);
            memcpy(sines + to, table + n + from, bytes);
        }
    }
    rot_free(table);
    return 0;
}
