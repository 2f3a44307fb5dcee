// The product of one task, 32 x 32 sums at a time in four tiles. Included by real.c and emulated.c
// behind tiles.h; the order of accumulation over k does not depend on the task, because partial
// sums are stored and loaded as they are.
//
// Loops from outside: passes over k, whose part of the task's rows (512 KB) stays in the second-
// level cache; block columns; chunks of k, whose weights stay in the first-level cache; blocks of
// rows, streamed past them. The epilogue of a finished block runs between the tile operations of
// the next one.
#include "kernels/amx/amx.h"
#include "kernels/ref/math.h"

typedef struct epilogue {
    const rot_amx_task *task;
    const float *sums; // (32, 32) of a finished block; NULL: nothing pending
    size_t row, column;
    size_t done, rows; // of its rows
} epilogue;

// x / (1 + exp(-2 inner)), the tanh GELU of kernels/ref/math.h with one exponential and no
// cancellation.
ROT_AVX512_INLINE __m512 gelu_tanh(__m512 x)
{
    const float log2e = 0x1.715476p+0f;
    __m512 cubic = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
    __m512 inner = _mm512_fmadd_ps(cubic, _mm512_set1_ps(0x1.6e4e26p-5f), x);
    // exp2 takes 0 and less: the sign is put back by reflection
    __m512 u = _mm512_mul_ps(inner, _mm512_set1_ps(2.0f * 0x1.988454p-1f * log2e));
    __m512 e = rot_avx512_exp2(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_abs_ps(u)));
    __mmask16 negative = _mm512_cmp_ps_mask(u, _mm512_setzero_ps(), _CMP_LT_OQ);
    __m512 top = _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), negative, e);
    return _mm512_div_ps(_mm512_mul_ps(x, top), _mm512_add_ps(_mm512_set1_ps(1.0f), e));
}

// clang refuses vector arguments between functions of different targets, inlined ones too: there
// the values go by memory.
#ifdef __clang__
static void activate_in_memory(rot_epilogue kind, float y[16])
{
    rot_v16f v;
    memcpy(&v, y, sizeof v);
    v = kind == ROT_EPILOGUE_GELU_ERF ? rot_vgelu_erf(v) : rot_vswish(v, 1.702f);
    memcpy(y, &v, sizeof v);
}
#endif

ROT_AVX512_INLINE __m512 activate(rot_epilogue kind, __m512 y)
{
    if (kind == ROT_EPILOGUE_GELU_TANH) return gelu_tanh(y);
    if (kind != ROT_EPILOGUE_GELU_ERF && kind != ROT_EPILOGUE_GELU_QUICK) return y;
#ifdef __clang__
    float values[16];
    _mm512_storeu_ps(values, y);
    activate_in_memory(kind, values);
    return _mm512_loadu_ps(values);
#else
    if (kind == ROT_EPILOGUE_GELU_ERF) return (__m512)rot_vgelu_erf((rot_v16f)y);
    return (__m512)rot_vswish((rot_v16f)y, 1.702f);
#endif
}

// The next `n` rows of what is pending. `kind` is a literal.
ROT_AVX512_INLINE void finish_rows(rot_epilogue kind, epilogue *e, size_t n)
{
    const rot_amx_task *t = e->task;
    if (!e->sums) return;
    size_t end = e->done + n < e->rows ? e->done + n : e->rows;
    const float *bias = t->bias + e->column;
    __m512 b0 = _mm512_loadu_ps(bias), b1 = _mm512_loadu_ps(bias + 16);
    for (size_t i = e->done; i < end; i++) {
        __m512 y0 = _mm512_add_ps(_mm512_load_ps(e->sums + i * 32), b0);
        __m512 y1 = _mm512_add_ps(_mm512_load_ps(e->sums + i * 32 + 16), b1);
        if (kind == ROT_EPILOGUE_ADD) {
            size_t left = t->n_columns - e->column;
            float *to = t->out_f32 + (e->row + i) * t->out_width + e->column;
            __mmask16 m0 = rot_avx512_lanes(0, left), m1 = 0;
            if (left > 16) m1 = rot_avx512_lanes(16, left);
            _mm512_mask_storeu_ps(to, m0, _mm512_add_ps(_mm512_maskz_loadu_ps(m0, to), y0));
            _mm512_mask_storeu_ps(to + 16, m1,
                                  _mm512_add_ps(_mm512_maskz_loadu_ps(m1, to + 16), y1));
            continue;
        }
        __m256i lower = rot_avx512_to_bf16(activate(kind, y0));
        __m256i upper = rot_avx512_to_bf16(activate(kind, y1));
        uint16_t *to = t->out_act + (e->row / 32 * t->out_blocks + e->column / 32) * ROT_AMX_ELEMS +
                       (e->row % 32 + i) * 32;
        _mm512_store_si512(to, _mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1));
    }
    e->done = end;
    if (e->done == e->rows) e->sums = NULL;
}

// Lines of a block that the epilogue will add to, 2 rows a time.
ROT_AVX512_INLINE void fetch_residual(const rot_amx_task *t, size_t row, size_t column, size_t i)
{
    for (size_t r = row + i; r < row + i + 2 && r < t->rows; r++) {
        const float *at = t->out_f32 + r * t->out_width + column;
        _mm_prefetch((const char *)at, _MM_HINT_T0);
        _mm_prefetch((const char *)(at + 16), _MM_HINT_T0);
    }
}

typedef struct step {
    const uint16_t *a, *b;
    size_t blocks; // of k
    float *sums;   // (32, 32), in and out
    bool first, last;
    size_t row, column;
    const char *next; // weights of the next chunk, `lines` lines of them per block of k
    size_t lines;
} step;

ROT_AVX512_INLINE void run_step(rot_epilogue kind, rot_tiles *tiles, const step *s, epilogue *e)
{
    enum { ROW = 32 * sizeof(float) };
    (void)tiles;
    if (s->first) {
        rot_tile_zero(tiles, 0);
        rot_tile_zero(tiles, 1);
        rot_tile_zero(tiles, 2);
        rot_tile_zero(tiles, 3);
    } else {
        rot_tile_load(tiles, 0, s->sums, ROW);
        rot_tile_load(tiles, 1, s->sums + 16, ROW);
        rot_tile_load(tiles, 2, s->sums + 16 * 32, ROW);
        rot_tile_load(tiles, 3, s->sums + 16 * 32 + 16, ROW);
    }
    const char *next = s->next;
    for (size_t k = 0; k < s->blocks; k++) {
        const uint16_t *a = s->a + k * ROT_AMX_ELEMS, *b = s->b + k * ROT_AMX_ELEMS;
        rot_tile_stream(tiles, 4, a, ROT_TILE_BYTES);
        rot_tile_load(tiles, 6, b, ROT_TILE_BYTES);
        rot_tile_load(tiles, 7, b + ROT_AMX_TILE, ROT_TILE_BYTES);
        rot_tile_dot(tiles, 0, 4, 6);
        rot_tile_stream(tiles, 5, a + ROT_AMX_TILE, ROT_TILE_BYTES);
        rot_tile_dot(tiles, 1, 4, 7);
        for (size_t i = 0; i < s->lines; i++, next += 64) _mm_prefetch(next, _MM_HINT_T1);
        if (kind == ROT_EPILOGUE_ADD && s->last) fetch_residual(e->task, s->row, s->column, 2 * k);
        finish_rows(kind, e, 2);
        rot_tile_dot(tiles, 2, 5, 6);
        rot_tile_dot(tiles, 3, 5, 7);
    }
    finish_rows(kind, e, 32); // what a short chunk left
    rot_tile_store(tiles, 0, s->sums, ROW);
    rot_tile_store(tiles, 1, s->sums + 16, ROW);
    rot_tile_store(tiles, 2, s->sums + 16 * 32, ROW);
    rot_tile_store(tiles, 3, s->sums + 16 * 32 + 16, ROW);
    if (s->last)
        *e = (epilogue){e->task, s->sums,
                        s->row,  s->column,
                        0,       e->task->rows - s->row < 32 ? e->task->rows - s->row : 32};
}

// All blocks of rows against one chunk of k of one block column.
ROT_AVX512_INLINE void run_chunk(rot_epilogue kind, rot_tiles *tiles, const rot_amx_task *t,
                                 size_t column, size_t from, size_t to, epilogue *e)
{
    size_t row_blocks = rot_amx_blocks(t->rows);
    bool passes = t->k_blocks > ROT_AMX_K_PASS; // each block then keeps sums of its own
    const uint16_t *b = t->b + (column * t->k_blocks + from) * ROT_AMX_ELEMS;
    step s = {.b = b,
              .blocks = to - from,
              .first = from == 0,
              .last = to == t->k_blocks,
              .column = column * 32};
    s.lines = (32 + row_blocks - 1) / row_blocks; // a chunk of 2 KB blocks over all these steps
    for (size_t m = 0; m < row_blocks; m++) {
        s.a = t->a + (m * t->k_blocks + from) * ROT_AMX_ELEMS;
        s.sums = t->sums + ((passes ? column * row_blocks : 0) + m) * ROT_AMX_ELEMS;
        s.row = m * 32;
        s.next = (const char *)(b + s.blocks * ROT_AMX_ELEMS) + m * s.blocks * s.lines * 64;
        run_step(kind, tiles, &s, e);
    }
}

ROT_AVX512_INLINE void run_task(rot_epilogue kind, const rot_amx_task *t)
{
    rot_tiles tiles;
    epilogue e = {.task = t};
    rot_tiles_begin(&tiles);
    for (size_t pass = 0; pass < t->k_blocks; pass += ROT_AMX_K_PASS) {
        size_t end = pass + ROT_AMX_K_PASS < t->k_blocks ? pass + ROT_AMX_K_PASS : t->k_blocks;
        for (size_t column = 0; column < t->n_blocks; column++)
            for (size_t from = pass; from < end; from += ROT_AMX_K_CHUNK)
                run_chunk(kind, &tiles, t, column, from,
                          from + ROT_AMX_K_CHUNK < end ? from + ROT_AMX_K_CHUNK : end, &e);
    }
    rot_tiles_end(&tiles);
    finish_rows(kind, &e, 32);
}

ROT_AVX512_TARGET static void linear_task(const rot_amx_task *task)
{
    switch (task->epilogue) {
    case ROT_EPILOGUE_GELU_TANH: run_task(ROT_EPILOGUE_GELU_TANH, task); break;
    case ROT_EPILOGUE_GELU_ERF: run_task(ROT_EPILOGUE_GELU_ERF, task); break;
    case ROT_EPILOGUE_GELU_QUICK: run_task(ROT_EPILOGUE_GELU_QUICK, task); break;
    case ROT_EPILOGUE_ADD: run_task(ROT_EPILOGUE_ADD, task); break;
    default: run_task(ROT_EPILOGUE_NONE, task);
    }
}
