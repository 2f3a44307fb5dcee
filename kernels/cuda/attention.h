// Attention without padding: a block takes 64 queries of one segment and head, a warp 16 of them,
// and walks over the keys 64 at a time (Dao, FlashAttention-2, arXiv 2307.08691), everything but
// the keys and values in registers. Values are copied while the scores are computed, the next keys
// while the values are added up.
//
// The running maximum is that of scores in powers of two, rounded up to a whole number. So moving
// to another maximum multiplies by a power of two and rounds nothing: a row's bits are those of a
// walk that knew the last maximum from the start.
#ifndef ROT_KERNELS_CUDA_ATTENTION_H
#define ROT_KERNELS_CUDA_ATTENTION_H

#ifndef __CUDACC__
#include <math.h>
#endif

#include "kernels/cuda/math.h"
#include "kernels/cuda/mma.h"

enum {
    ROT_ATTENTION_WARPS = ROT_CUDA_QUERIES / 16,
    ROT_ATTENTION_STEPS = 8, // of 16 in the widest head
    ROT_ATTENTION_TILES = ROT_CUDA_KEYS / 8
};

// Elements of a row of keys in shared memory: 16 bytes more than it has, so that eight rows lie in
// different banks.
#define ROT_ATTENTION_STRIDE(padded) ((padded) + 8)
#define ROT_ATTENTION_SHARED(padded) (2 * ROT_CUDA_KEYS * ROT_ATTENTION_STRIDE(padded))

// What a warp keeps while it walks. Per lane: rows g and g + 8 of its queries.
typedef struct rot_attention_warp {
    rot_frag_a q[ROT_ATTENTION_STEPS];
    rot_frag_c out[2 * ROT_ATTENTION_STEPS];
    rot_lanes most[2], sum[2];
} rot_attention_warp;

// One segment and head.
typedef struct rot_attention_head {
    const uint16_t *q, *k, *v; // (n, dim)
    int32_t n, dim, first;     // first: of the block's queries
    float scale;               // of scores in powers of two
} rot_attention_head;

// Elements (row, column) and the next one, zeros outside of the head.
ROT_KERNEL uint32_t rot_attention_pair(const uint16_t *x, int32_t n, int32_t dim, int32_t row,
                                       int32_t column)
{
    if (row >= n || column >= dim) return 0;
    const uint16_t *at = x + (size_t)row * (size_t)dim + column;
    return (uint32_t)at[0] | (uint32_t)at[1] << 16;
}

ROT_KERNEL void rot_attention_start(const rot_attention_head *h, int w, int padded,
                                    rot_attention_warp *s)
{
    ROT_EACH_LANE(l)
    {
        const int32_t row = h->first + 16 * w + l / 4;
        ROT_UNROLL
        for (int k = 0; k < padded / 16; k++) {
            const int32_t column = 16 * k + 2 * (l % 4);
            ROT_UNROLL
            for (int r = 0; r < 4; r++)
                s->q[k].r[ROT_AT(l)][r] =
                    rot_attention_pair(h->q, h->n, h->dim, row + 8 * (r % 2), column + 8 * (r / 2));
        }
        ROT_UNROLL
        for (int i = 0; i < padded / 8; i++) ROT_UNROLL
        for (int r = 0; r < 4; r++) s->out[i].r[ROT_AT(l)][r] = 0.0f;
        ROT_UNROLL
        for (int i = 0; i < 2; i++) s->most[i].v[ROT_AT(l)] = -INFINITY, s->sum[i].v[ROT_AT(l)] = 0;
    }
}

// Starts to copy rows [first, first + 64) of x to `at`, zeros outside of the head.
ROT_KERNEL void rot_attention_copy(const rot_attention_head *h, rot_block b, const uint16_t *x,
                                   int32_t first, int padded, rot_shared *shared, int at)
{
    const int n = h->dim % 8 == 0 ? 8 : 2, across = padded / n; // rows are whole vectors
    ROT_EACH_WARP(b, w)
    {
        ROT_EACH_LANE(l)
        {
            const int thread = w * ROT_WARP + l;
            for (int i = thread; i < ROT_CUDA_KEYS * across; i += b.warps * ROT_WARP) {
                const int row = i / across, column = i % across * n;
                const int inside = first + row < h->n && column < h->dim;
                const size_t from = (size_t)(first + row) * (size_t)h->dim + (size_t)column;
                rot_shared_copy(shared, at + row * ROT_ATTENTION_STRIDE(padded) + column,
                                inside ? x + from : x, n, inside, thread);
            }
        }
    }
}

// scores (16, 64) of a warp's queries and the keys in shared memory, of which there are `n`
ROT_KERNEL void rot_attention_scores(const rot_attention_warp *s, rot_shared *shared, int n,
                                     int padded, rot_frag_c scores[ROT_ATTENTION_TILES])
{
    ROT_UNROLL
    for (int i = 0; i < ROT_ATTENTION_TILES; i += 2) {
        ROT_EACH_LANE(l)
        {
            ROT_UNROLL
            for (int r = 0; r < 4; r++)
                scores[i].r[ROT_AT(l)][r] = scores[i + 1].r[ROT_AT(l)][r] = 0.0f;
        }
        if (8 * i >= n) continue;
        ROT_UNROLL
        for (int k = 0; k < padded / 16; k++) {
            int row[ROT_HELD];
            uint32_t r[ROT_HELD][4], left[ROT_HELD][2], right[ROT_HELD][2];
            ROT_EACH_LANE(l)
            row[ROT_AT(l)] = (8 * i + l % 8 + 8 * (l / 16)) * ROT_ATTENTION_STRIDE(padded) +
                             16 * k + 8 * (l / 8 % 2);
            rot_ldmatrix(shared, row, 0, r);
            ROT_EACH_LANE(l)
            {
                left[ROT_AT(l)][0] = r[ROT_AT(l)][0], left[ROT_AT(l)][1] = r[ROT_AT(l)][1];
                right[ROT_AT(l)][0] = r[ROT_AT(l)][2], right[ROT_AT(l)][1] = r[ROT_AT(l)][3];
            }
            rot_mma(&scores[i], &s->q[k], left);
            rot_mma(&scores[i + 1], &s->q[k], right);
        }
    }
}

// scores become exp(score - maximum), which is added to the sums; what was accumulated under
// another maximum is brought to this one.
ROT_KERNEL void rot_attention_softmax(const rot_attention_head *h, int32_t first, int padded,
                                      rot_attention_warp *s, rot_frag_c scores[ROT_ATTENTION_TILES])
{
    rot_lanes most[2];
    ROT_EACH_LANE(l)
    {
        const int a = ROT_AT(l);
        most[0].v[a] = s->most[0].v[a], most[1].v[a] = s->most[1].v[a];
        ROT_UNROLL
        for (int i = 0; i < ROT_ATTENTION_TILES; i++) ROT_UNROLL
        for (int r = 0; r < 4; r++) {
            float *score = &scores[i].r[a][r], *m = &most[r / 2].v[a];
            *score = first + 8 * i + 2 * (l % 4) + r % 2 < h->n ? *score * h->scale : -INFINITY;
            *m = *score > *m ? *score : *m;
        }
    }
    rot_lanes_max(&most[0], 2);
    rot_lanes_max(&most[1], 2);
    ROT_EACH_LANE(l)
    {
        const int a = ROT_AT(l);
        ROT_UNROLL
        for (int j = 0; j < 2; j++) {
            const float m = ceilf(most[j].v[a]), factor = rot_cuda_exp2(s->most[j].v[a] - m);
            s->most[j].v[a] = m;
            s->sum[j].v[a] *= factor;
            ROT_UNROLL
            for (int i = 0; i < padded / 8; i++)
                s->out[i].r[a][2 * j] *= factor, s->out[i].r[a][2 * j + 1] *= factor;
        }
        ROT_UNROLL
        for (int i = 0; i < ROT_ATTENTION_TILES; i++) ROT_UNROLL
        for (int r = 0; r < 4; r++) {
            scores[i].r[a][r] = rot_cuda_exp2(scores[i].r[a][r] - s->most[r / 2].v[a]);
            s->sum[r / 2].v[a] += scores[i].r[a][r];
        }
    }
}

// out += p v. A c fragment of two tiles of keys is an a fragment of 16 keys. The values lie behind
// the keys.
ROT_KERNEL void rot_attention_add(rot_attention_warp *s, rot_shared *shared, int n, int padded,
                                  const rot_frag_c p[ROT_ATTENTION_TILES])
{
    ROT_UNROLL
    for (int k = 0; k < ROT_CUDA_KEYS / 16; k++) {
        rot_frag_a a;
        if (16 * k >= n) continue;
        ROT_EACH_LANE(l)
        {
            ROT_UNROLL
            for (int r = 0; r < 4; r++) {
                const float *pair = &p[2 * k + r / 2].r[ROT_AT(l)][2 * (r % 2)];
                a.r[ROT_AT(l)][r] = rot_pack_bf16(pair[0], pair[1]);
            }
        }
        ROT_UNROLL
        for (int i = 0; i < padded / 8; i += 2) {
            int row[ROT_HELD];
            uint32_t r[ROT_HELD][4], left[ROT_HELD][2], right[ROT_HELD][2];
            ROT_EACH_LANE(l)
            row[ROT_AT(l)] = (ROT_CUDA_KEYS + 16 * k + l % 16) * ROT_ATTENTION_STRIDE(padded) +
                             8 * i + 8 * (l / 16);
            rot_ldmatrix(shared, row, 1, r);
            ROT_EACH_LANE(l)
            {
                left[ROT_AT(l)][0] = r[ROT_AT(l)][0], left[ROT_AT(l)][1] = r[ROT_AT(l)][1];
                right[ROT_AT(l)][0] = r[ROT_AT(l)][2], right[ROT_AT(l)][1] = r[ROT_AT(l)][3];
            }
            rot_mma(&s->out[i], &a, left);
            rot_mma(&s->out[i + 1], &a, right);
        }
    }
}

ROT_KERNEL void rot_attention_finish(const rot_attention_head *h, int w, int padded, size_t width,
                                     rot_attention_warp *s, uint16_t *out)
{
    rot_lanes_sum(&s->sum[0], 2);
    rot_lanes_sum(&s->sum[1], 2);
    ROT_EACH_LANE(l)
    {
        ROT_UNROLL
        for (int i = 0; i < padded / 8; i++) ROT_UNROLL
        for (int r = 0; r < 4; r += 2) {
            const int32_t row = h->first + 16 * w + l / 4 + 4 * r, column = 8 * i + 2 * (l % 4);
            const float sum = s->sum[r / 2].v[ROT_AT(l)], *y = &s->out[i].r[ROT_AT(l)][r];
            if (row >= h->n || column >= h->dim) continue;
            uint16_t *to = out + (size_t)row * width + column;
            to[0] = rot_cuda_to_bf16(y[0] / sum);
            to[1] = rot_cuda_to_bf16(y[1] / sum);
        }
    }
}

// padded: 64, 80 or 128, at least dim. shared: ROT_ATTENTION_SHARED(padded) elements at 16 bytes.
// A warp without a query and keys past the last one cost nothing but their places.
ROT_KERNEL void rot_cuda_attention(rot_block b, const rot_cuda_attention_args *a, int padded,
                                   rot_shared *shared)
{
    const int32_t n_tasks = a->list[1], *starts = a->list + 2;
    if (b.x >= n_tasks) return;
    const rot_cuda_task task = a->tasks[b.x];
    const int32_t start = starts[task.segment], n = starts[task.segment + 1] - start;
    const size_t dim = (size_t)a->dim,
                 at = ((size_t)start * (size_t)a->heads + (size_t)b.y * (size_t)n) * dim,
                 width = (size_t)a->heads * dim;
    const rot_attention_head head = {
        a->q + at, a->k + at, a->v + at, n, a->dim, task.first, a->scale * 0x1.715476p+0f};
    const int values = ROT_CUDA_KEYS * ROT_ATTENTION_STRIDE(padded);
    rot_attention_warp state[ROT_HELD_WARPS];
    rot_frag_c scores[ROT_HELD_WARPS][ROT_ATTENTION_TILES];
    rot_attention_copy(&head, b, head.k, 0, padded, shared, 0);
    ROT_EACH_WARP(b, w) rot_attention_start(&head, w, padded, &state[ROT_AT_WARP(w)]);
    for (int32_t first = 0; first < n; first += ROT_CUDA_KEYS) {
        const int32_t left = n - first;
        ROT_BARRIER(shared); // the keys are there, the last values have been read
        rot_attention_copy(&head, b, head.v, first, padded, shared, values);
        ROT_EACH_WARP(b, w)
        {
            if (head.first + 16 * w >= n) continue;
            rot_attention_scores(&state[ROT_AT_WARP(w)], shared, left, padded,
                                 scores[ROT_AT_WARP(w)]);
            rot_attention_softmax(&head, first, padded, &state[ROT_AT_WARP(w)],
                                  scores[ROT_AT_WARP(w)]);
        }
        ROT_BARRIER(shared); // the values are there, the keys have been read
        if (left > ROT_CUDA_KEYS)
            rot_attention_copy(&head, b, head.k, first + ROT_CUDA_KEYS, padded, shared, 0);
        ROT_EACH_WARP(b, w)
        {
            if (head.first + 16 * w < n)
                rot_attention_add(&state[ROT_AT_WARP(w)], shared, left, padded,
                                  scores[ROT_AT_WARP(w)]);
        }
    }
    ROT_EACH_WARP(b, w)
    rot_attention_finish(&head, w, padded, width, &state[ROT_AT_WARP(w)],
                         a->out + (size_t)start * width + (size_t)b.y * dim);
}

#endif
