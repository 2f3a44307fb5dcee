// A task of a product, 32 x 32 sums at a time in four tiles. Included by amx_real.c and
// amx_emulated.c behind kernels/amx/tiles.h.
//
// Sums begin as what is in c, or the bias, or zero, and blocks of k are added in ascending order;
// between two chunks of k the sums lie in c as they are. So an element depends on its row, its
// column and k alone.
//
// Loops from outside: chunks of k, whose part of the task's rows stays in the second-level cache;
// panels; blocks of rows. While a chunk of a panel is multiplied the next one is fetched. Where
// blocks of rows are few, k is one chunk.
#include "kernels/train/amx.h"

enum {
    BLOCK = 32,
    HALF = 16,
    PART = ROT_PART_WORDS,
    TILE = 256,      // words
    B_STEP = 32 * 4, // bytes from pair to pair of a panel
    FEW = 2,         // blocks whose parts stay in the first-level cache
    LINES = 32,      // of a block
    NEAR = 4096      // words that are fetched ahead where one block of rows is all
};

// One block of rows, one chunk of a panel.
typedef struct step {
    const uint32_t *a, *b;
    const float *floats; // of the panel, whose parts are made on the way, instead of b; or NULL
    uint32_t *made;      // space for FEW blocks of them
    size_t m, n, k_blocks;
    float *c;
    size_t ldc;
    const float *bias;
    bool add;
    float *edge;       // (32, 32)
    const float *next; // rows of c that the next loads or stores of sums go to, next_rows of them
    size_t next_rows;
    const uint32_t *ahead; // the next chunk of a panel: from `line` on `lines` lines per block of k
    size_t line, lines;    // are fetched
} step;

// The parts of both factors that a dot multiplies: every pair but the least three, and the largest
// last. `two`: of 16 rows each.
#define LOAD_A(i)                                                                                  \
    rot_tile_stream(tiles, 4, a + (i)*PART, ROT_TILE_BYTES);                                       \
    if (two) rot_tile_stream(tiles, 5, a + (i)*PART + TILE, ROT_TILE_BYTES)
#define LOAD_B(i)                                                                                  \
    rot_tile_load(tiles, 6, b + (i)*PART, B_STEP);                                                 \
    rot_tile_load(tiles, 7, b + (i)*PART + HALF, B_STEP)
#define DOTS                                                                                       \
    rot_tile_dot(tiles, 0, 4, 6);                                                                  \
    rot_tile_dot(tiles, 1, 4, 7);                                                                  \
    if (two) {                                                                                     \
        rot_tile_dot(tiles, 2, 5, 6);                                                              \
        rot_tile_dot(tiles, 3, 5, 7);                                                              \
    }

// `n` rows of what is next.
ROT_AVX512_INLINE void fetch_rows(const step *s, size_t row, size_t n)
{
    for (size_t i = row; i < row + n && i < s->next_rows; i++) {
        _mm_prefetch((const char *)(s->next + i * s->ldc), _MM_HINT_T0);
        _mm_prefetch((const char *)(s->next + i * s->ldc + HALF), _MM_HINT_T0);
    }
}

// Beside block k, lines of the chunk that is next.
ROT_AVX512_INLINE void fetch_ahead(const step *s, size_t k)
{
    const char *at = (const char *)s->ahead;
    size_t line = s->line + k * s->lines;
    for (size_t i = line; i < line + s->lines; i++)
        _mm_prefetch(at + rot_avx512_line(i) * 64, _MM_HINT_T1);
}

// `parts` and `two` are literals.
ROT_AVX512_INLINE void multiply(int parts, bool two, rot_tiles *tiles, const step *s)
{
    (void)tiles;
    const uint32_t *a = s->a, *b = s->b;
    for (size_t k = 0; k < s->k_blocks; k++, a += parts * PART, b += parts * PART) {
        fetch_rows(s, k * (parts == 1 ? 2 : 8), parts == 1 ? 2 : 8);
        if (parts == 1) {
            fetch_ahead(s, k);
            LOAD_A(0);
            LOAD_B(0);
            DOTS continue;
        }
        if (s->floats && k % FEW == 0) {
            size_t n = s->k_blocks - k < FEW ? s->k_blocks - k : FEW;
            rot_parts_panel(s->floats + k * BLOCK * BLOCK, n, s->made);
            b = s->made;
        }
        LOAD_A(2);
        LOAD_B(0);
        DOTS;
        LOAD_A(1);
        DOTS;
        LOAD_B(1);
        DOTS;
        LOAD_A(0);
        DOTS;
        LOAD_B(2);
        DOTS;
        LOAD_B(0);
        DOTS;
    }
}

// The sums that a step begins with, in s->edge.
ROT_AVX512_INLINE void begin_edge(const step *s)
{
    for (size_t i = 0; i < s->m; i++)
        for (size_t j = 0; j < s->n; j += HALF) {
            __mmask16 m = rot_avx512_lanes(j, s->n);
            __m512 y = _mm512_setzero_ps();
            if (s->add) y = _mm512_maskz_loadu_ps(m, s->c + i * s->ldc + j);
            if (s->bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(m, s->bias + j));
            _mm512_storeu_ps(s->edge + i * BLOCK + j, y);
        }
}

ROT_AVX512_INLINE void end_edge(const step *s)
{
    for (size_t i = 0; i < s->m; i++)
        for (size_t j = 0; j < s->n; j += HALF)
            _mm512_mask_storeu_ps(s->c + i * s->ldc + j, rot_avx512_lanes(j, s->n),
                                  _mm512_loadu_ps(s->edge + i * BLOCK + j));
}

ROT_AVX512_INLINE void run_step(int parts, bool two, rot_tiles *tiles, const step *s)
{
    bool inside = s->m == BLOCK && s->n == BLOCK && !s->bias;
    float *c = inside ? s->c : s->edge;
    size_t stride = inside ? s->ldc : BLOCK, bytes = stride * sizeof *c;
    if (!inside) begin_edge(s);
    if (inside && !s->add) {
        rot_tile_zero(tiles, 0);
        rot_tile_zero(tiles, 1);
        rot_tile_zero(tiles, 2);
        rot_tile_zero(tiles, 3);
    } else {
        rot_tile_load(tiles, 0, c, bytes);
        rot_tile_load(tiles, 1, c + HALF, bytes);
        if (two) {
            rot_tile_load(tiles, 2, c + HALF * stride, bytes);
            rot_tile_load(tiles, 3, c + HALF * stride + HALF, bytes);
        }
    }
    multiply(parts, two, tiles, s);
    rot_tile_store(tiles, 0, c, bytes);
    rot_tile_store(tiles, 1, c + HALF, bytes);
    if (two) {
        rot_tile_store(tiles, 2, c + HALF * stride, bytes);
        rot_tile_store(tiles, 3, c + HALF * stride + HALF, bytes);
    }
    if (!inside) end_edge(s);
}

// All blocks of rows against k blocks [from, to) of a panel. `ahead`: the chunk behind this one.
ROT_AVX512_INLINE void run_chunk(int parts, rot_tiles *tiles, const rot_train_amx_product *p,
                                 size_t row, size_t last, size_t panel, size_t from, size_t to,
                                 const uint32_t *ahead, uint32_t *space)
{
    size_t column = panel * BLOCK, left = p->n - column,
           row_blocks = (last - row + BLOCK - 1) / BLOCK;
    const uint32_t *b = p->b + panel * p->b_panel + from * (parts == 1 ? PART : 2 * PART);
    step s = {.b = b,
              .made = space + BLOCK * BLOCK,
              .n = left < BLOCK ? left : BLOCK,
              .k_blocks = to - from,
              .ldc = p->ldc,
              .bias = p->bias && !from ? p->bias + column : NULL,
              .add = p->add || from,
              .ahead = row_blocks == 1 ? b + NEAR : ahead,
              .lines = (LINES + row_blocks - 1) / row_blocks,
              .edge = (float *)space};
    if (parts > 1 && last - row <= BLOCK)
        s.floats = (const float *)b;
    else if (parts > 1) {
        rot_parts_panel((const float *)b, to - from, s.made);
        s.b = s.made;
    }
    for (; row < last; row += BLOCK, s.line += s.lines * s.k_blocks) {
        s.a = p->a + (row / BLOCK * p->k_blocks + from) * (size_t)parts * PART;
        s.c = p->c + row * p->ldc + column;
        s.m = last - row < BLOCK ? last - row : BLOCK;
        s.next = s.add ? s.c + BLOCK * p->ldc : s.c;
        s.next_rows = !s.add ? s.m : last - row - s.m < BLOCK ? last - row - s.m : BLOCK;
        if (s.m > HALF)
            run_step(parts, true, tiles, &s);
        else
            run_step(parts, false, tiles, &s);
    }
}

// Blocks of k in a chunk.
static size_t chunk_of(int parts, size_t rows, size_t k_blocks)
{
    if (rows <= (parts == 1 ? 4 * BLOCK : BLOCK)) return k_blocks; // sums would cost more
    if (parts == 1 && k_blocks > ROT_TRAIN_AMX_CHUNK) return ROT_TRAIN_AMX_CHUNK / 2;
    return ROT_TRAIN_AMX_CHUNK / (size_t)parts;
}

ROT_AVX512_INLINE void run_parts(int parts, const rot_train_amx_product *p, size_t row, size_t last,
                                 size_t panel, size_t last_panel, uint32_t *space)
{
    size_t chunk = chunk_of(parts, last - row, p->k_blocks);
    rot_tiles tiles;
    rot_tiles_begin(&tiles);
    for (size_t from = 0; from < p->k_blocks; from += chunk)
        for (size_t j = panel; j < last_panel; j++) {
            size_t to = from + chunk < p->k_blocks ? from + chunk : p->k_blocks;
            bool turn = j + 1 == last_panel && to < p->k_blocks;
            const uint32_t *ahead = turn ? p->b + panel * p->b_panel + to * PART
                                         : p->b + (j + 1) * p->b_panel + from * PART;
            run_chunk(parts, &tiles, p, row, last, j, from, to, ahead, space);
        }
    rot_tiles_end(&tiles);
}

ROT_AVX512_TARGET void NAME(const rot_train_amx_product *product, size_t row, size_t last,
                            size_t panel, size_t last_panel, uint32_t *space)
{
    if (product->parts == 1)
        run_parts(1, product, row, last, panel, last_panel, space);
    else
        run_parts(ROT_PARTS_F32, product, row, last, panel, last_panel, space);
}
