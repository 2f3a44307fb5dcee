// The product of one task, 32 x 32 sums at a time in four tiles. Included by real.c and emulated.c
// behind tiles.h and rows.h; the order of accumulation over k does not depend on the task, because
// partial sums are stored and loaded as they are.
//
// Loops from outside: passes over k, whose part of the task's rows (up to 512 KB) stays in the
// second-level cache; block columns; chunks of k, whose weights stay in the first-level cache;
// blocks of rows, streamed past them. Two kinds of work fill the time in which the tiles multiply:
// a block's sums are stored between the first products of the next block, and rows of finished
// blocks go through their epilogue one by one, spread evenly over all products.

// y / (1 + 2^t), by an estimate of 14 bits: the result is rounded to 8.
ROT_AVX512_INLINE __m512 gated(__m512 y, __m512 t)
{
    return _mm512_mul_ps(y, _mm512_rcp14_ps(_mm512_add_ps(_mm512_set1_ps(1.0f), exp2_of(t))));
}

// t = -2 log2(e) sqrt(2/pi) (y + 0.044715 y^3)
ROT_AVX512_INLINE __m512 gelu_tanh(__m512 y)
{
    const float c = -2.0f * 0x1.988454p-1f * 0x1.715476p+0f;
    __m512 cubic = _mm512_set1_ps(c * 0x1.6e4e26p-5f), linear = _mm512_set1_ps(c);
    return gated(y, _mm512_mul_ps(y, _mm512_fmadd_ps(_mm512_mul_ps(y, y), cubic, linear)));
}

// max(y, 0) - |y| h, h = erfc(|y| / sqrt(2)) / 2. The polynomial is a minimax fit to -log2(h) on
// [0, 7], error 2e-5; h(7) is 1e-12. A NaN stays: it is the second operand.
ROT_AVX512_INLINE __m512 gelu_erf(__m512 y)
{
    __m512 a = _mm512_abs_ps(y), x = _mm512_min_ps(_mm512_set1_ps(7.0f), a);
    __m512 p = _mm512_set1_ps(-0x1.aa5584p-20f); // of log2(h)
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(0x1.d70c82p-15f));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(-0x1.cf0f36p-11f));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(0x1.101476p-7f));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(-0x1.b64868p-5f));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(-0x1.d5fabep-2f));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(-0x1.26aa46p+0f));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(-0x1.0000eap+0f));
    return _mm512_fnmadd_ps(a, exp2_of(p), _mm512_max_ps(_mm512_setzero_ps(), y));
}

ROT_AVX512_INLINE __m512 activate(rot_epilogue kind, __m512 y)
{
    switch (kind) { // a literal
    case ROT_EPILOGUE_GELU_TANH: return gelu_tanh(y);
    case ROT_EPILOGUE_GELU_ERF: return gelu_erf(y);
    case ROT_EPILOGUE_GELU_QUICK: // y / (1 + exp(-1.702 y))
        return gated(y, _mm512_mul_ps(y, _mm512_set1_ps(-1.702f * 0x1.715476p+0f)));
    default: return y;
    }
}

enum { SPLIT = ROT_EPILOGUE_ADD + 1 }; // a kind of epilogue more: the heads' rotation

// Block columns that go through the epilogue together.
ROT_AVX512_INLINE size_t together(rot_epilogue kind)
{
    return kind == (rot_epilogue)SPLIT ? 2 : 1;
}

typedef struct progress {
    const rot_amx_task *task;
    size_t row_blocks;
    size_t slots; // block columns that have sums of their own: all, or those of two epilogues
    float *held;  // where the sums in the tiles belong; NULL: nowhere
    bool last;    // those are a finished block's
    size_t whole; // finished blocks that are stored, in the order of columns
    size_t column, block, row; // the next row to go through the epilogue
    const float *sums;         // of its block; a second column's lie row_blocks behind
} progress;

ROT_AVX512_INLINE float *sums_of(const progress *p, size_t column, size_t block)
{
    return p->task->sums + (column % p->slots * p->row_blocks + block) * ROT_AMX_ELEMS;
}

// out += y, and what will be added to is fetched: rows are far apart.
ROT_AVX512_INLINE void add_row(float *out, size_t width, size_t left, __m512 y0, __m512 y1)
{
    enum { AHEAD = 8 };
    _mm_prefetch((const char *)(out + AHEAD * width), _MM_HINT_T0);
    _mm_prefetch((const char *)(out + AHEAD * width + 16), _MM_HINT_T0);
    if (left >= 32) { // a masked store costs several whole ones
        _mm512_storeu_ps(out, _mm512_add_ps(_mm512_loadu_ps(out), y0));
        _mm512_storeu_ps(out + 16, _mm512_add_ps(_mm512_loadu_ps(out + 16), y1));
        return;
    }
    __mmask16 m0 = rot_avx512_lanes(0, left), m1 = left > 16 ? rot_avx512_lanes(16, left) : 0;
    _mm512_mask_storeu_ps(out, m0, _mm512_add_ps(_mm512_maskz_loadu_ps(m0, out), y0));
    _mm512_mask_storeu_ps(out + 16, m1, _mm512_add_ps(_mm512_maskz_loadu_ps(m1, out + 16), y1));
}

// A row of two block columns, one head of 64: rounded, q and k rotated.
ROT_AVX512_INLINE void split_row(const rot_amx_task *t, size_t row, size_t column, const __m512 *y)
{
    const rot_amx_split *s = t->split;
    size_t head = (t->column + column) / 2, heads = s->heads;
    uint16_t *part = s->q;
    if (head >= heads) head -= heads, part = s->k;
    if (head >= heads) head -= heads, part = s->v;
    row += t->row;
    uint16_t *to = part + s->to[row] + head * s->step[row];
    __m512i first = rot_tile_round(y[0], y[1]), second = rot_tile_round(y[2], y[3]);
    if (part != s->v) {
        rotate(first, second, s->cosines + row * 32, s->sines + row * 32, to, to + 32);
        return;
    }
    _mm512_storeu_si512(to, first);
    _mm512_storeu_si512(to + 32, second);
}

// The next row. `kind` is a literal.
ROT_AVX512_INLINE void finish_row(rot_epilogue kind, progress *p)
{
    const rot_amx_task *t = p->task;
    size_t row = p->block * 32 + p->row;
    if (row < t->rows) {
        __m512 y[4];
        for (size_t c = 0; c < together(kind); c++) {
            const float *sums = p->sums + c * p->row_blocks * ROT_AMX_ELEMS + p->row * 32;
            const float *bias = t->bias + (p->column + c) * 32;
            y[2 * c] = _mm512_add_ps(_mm512_load_ps(sums), _mm512_loadu_ps(bias));
            y[2 * c + 1] = _mm512_add_ps(_mm512_load_ps(sums + 16), _mm512_loadu_ps(bias + 16));
        }
        if (kind == (rot_epilogue)SPLIT)
            split_row(t, row, p->column, y);
        else if (kind == ROT_EPILOGUE_ADD)
            add_row(t->out_f32 + row * t->out_width + p->column * 32, t->out_width,
                    t->n_columns - p->column * 32, y[0], y[1]);
        else
            _mm512_store_si512(t->out_act + (p->block * t->out_blocks + p->column) * ROT_AMX_ELEMS +
                                   p->row * 32,
                               rot_tile_round(activate(kind, y[0]), activate(kind, y[1])));
    }
    if (++p->row < 32) return;
    p->row = 0;
    if (++p->block == p->row_blocks) p->block = 0, p->column += together(kind);
    p->sums = sums_of(p, p->column, p->block);
}

ROT_AVX512_INLINE bool can_finish(rot_epilogue kind, const progress *p)
{
    return (p->column + together(kind) - 1) * p->row_blocks + p->block < p->whole;
}

typedef struct step {
    const uint16_t *a, *b;
    size_t blocks; // of k
    float *sums;   // (32, 32), in and out
    bool first, last;
    const char *next; // weights of the next chunk: from `line` on `lines` lines per block of k
    size_t line, lines;
    const char *ahead; // rows of the next pass, as many lines a block of k; NULL: not now
    size_t ahead_lines;
    size_t rows; // to be finished per block of k
} step;

ROT_AVX512_INLINE void run_step(rot_epilogue kind, rot_tiles *tiles, const step *s, progress *p)
{
    enum { ROW = 32 * sizeof(float), LOWER = 16 * 32 };
    const char *ahead = s->ahead;
    size_t line = s->line;
    float *before = p->held;
    (void)tiles;
#define ROT_ENTER(t, offset)                                                                       \
    do {                                                                                           \
        if (before) rot_tile_store(tiles, t, before + (offset), ROW);                              \
        if (s->first)                                                                              \
            rot_tile_zero(tiles, t);                                                               \
        else                                                                                       \
            rot_tile_load(tiles, t, s->sums + (offset), ROW);                                      \
    } while (0)
    for (size_t k = 0; k < s->blocks; k++) {
        const uint16_t *a = s->a + k * ROT_AMX_ELEMS, *b = s->b + k * ROT_AMX_ELEMS;
        if (!k) ROT_ENTER(0, 0);
        rot_tile_load(tiles, 6, b, ROT_TILE_BYTES);
        rot_tile_stream(tiles, 4, a, ROT_TILE_BYTES);
        rot_tile_dot(tiles, 0, 4, 6);
        if (!k) ROT_ENTER(1, 16);
        rot_tile_load(tiles, 7, b + ROT_AMX_TILE, ROT_TILE_BYTES);
        rot_tile_dot(tiles, 1, 4, 7);
        if (!k) ROT_ENTER(2, LOWER);
        rot_tile_stream(tiles, 5, a + ROT_AMX_TILE, ROT_TILE_BYTES);
        rot_tile_dot(tiles, 2, 5, 6);
        if (!k) ROT_ENTER(3, LOWER + 16);
        if (!k) p->whole += p->last;
        for (size_t i = 0; i < s->lines; i++)
            _mm_prefetch(s->next + rot_avx512_line(line++) * 64, _MM_HINT_T1);
        for (size_t i = 0; i < s->ahead_lines; i++, ahead += 64) _mm_prefetch(ahead, _MM_HINT_T1);
        if (k % together(kind) == 0)
            for (size_t i = 0; i < s->rows && can_finish(kind, p); i++) finish_row(kind, p);
        rot_tile_dot(tiles, 3, 5, 7);
    }
#undef ROT_ENTER
    p->held = s->sums, p->last = s->last;
}

// The rows that the next pass reads, the next task's first pass after the last one: they are
// fetched in the last steps of this pass, block row after block row.
typedef struct fetch {
    const uint16_t *a;
    size_t k_blocks, from, blocks; // of a row of blocks; of the pass
    size_t start, lines;           // the first step, and lines a step
} fetch;

static fetch plan_fetch(const rot_amx_task *t, size_t pass, size_t end, size_t row_blocks)
{
    size_t left = t->k_blocks - end, chunks = (end - pass + ROT_AMX_K_CHUNK - 1) / ROT_AMX_K_CHUNK,
           steps = t->n_blocks * chunks * row_blocks;
    fetch f = {left ? t->a : t->next, t->k_blocks, left ? end : 0, 0, SIZE_MAX, 0};
    if (!f.a) return f;
    size_t most = rot_amx_pass(t->k_blocks), rest = t->k_blocks - f.from;
    f.blocks = rest < most ? rest : most;
    size_t lines = row_blocks * f.blocks * 32;
    f.lines = ROT_AMX_K_CHUNK * ((lines + steps * ROT_AMX_K_CHUNK - 1) / (steps * ROT_AMX_K_CHUNK));
    size_t need = (lines + f.lines - 1) / f.lines;
    f.start = steps > need ? steps - need : 0;
    return f;
}

// Where step i fetches; NULL: nowhere.
static const char *fetch_at(const fetch *f, size_t i)
{
    if (i < f->start || !f->a) return NULL;
    size_t line = (i - f->start) * f->lines, row = line / (f->blocks * 32);
    return (const char *)(f->a + (row * f->k_blocks + f->from) * ROT_AMX_ELEMS) +
           line % (f->blocks * 32) * 64;
}

// Weights behind those of `column` up to block `to` of k, in the order of run_task; after the last
// ones whatever lies behind them, which may be the next task's.
static const uint16_t *next_chunk(const rot_amx_task *t, size_t pass, size_t end, size_t column,
                                  size_t to)
{
    if (to == end) {
        to = pass, column++;
        if (column == t->n_blocks && end < t->k_blocks) to = end, column = 0;
    }
    return t->b + (column * t->k_blocks + to) * ROT_AMX_ELEMS;
}

ROT_AVX512_INLINE void run_task(rot_epilogue kind, const rot_amx_task *t)
{
    enum { ROW = 32 * sizeof(float) };
    rot_tiles tiles;
    progress p = {.task = t,
                  .row_blocks = rot_amx_blocks(t->rows),
                  .slots = t->k_blocks > ROT_AMX_K_WHOLE ? t->n_blocks : 2 * together(kind)};
    p.sums = sums_of(&p, 0, 0);
    step s = {.lines = (32 + p.row_blocks - 1) / p.row_blocks}; // 2 KB blocks over a chunk's steps
    rot_tiles_begin(&tiles);
    const size_t most = rot_amx_pass(t->k_blocks);
    for (size_t pass = 0; pass < t->k_blocks; pass += most) {
        size_t end = pass + most < t->k_blocks ? pass + most : t->k_blocks;
        s.rows = (32 + end - pass - 1) / (end - pass); // a block is finished while one is made
        const fetch f = plan_fetch(t, pass, end, p.row_blocks);
        size_t i = 0;
        for (size_t column = 0; column < t->n_blocks; column++) {
            for (size_t from = pass; from < end; from += ROT_AMX_K_CHUNK) {
                size_t to = from + ROT_AMX_K_CHUNK < end ? from + ROT_AMX_K_CHUNK : end;
                s.b = t->b + (column * t->k_blocks + from) * ROT_AMX_ELEMS;
                s.blocks = to - from, s.first = from == 0, s.last = to == t->k_blocks;
                s.next = (const char *)next_chunk(t, pass, end, column, to);
                for (size_t m = 0; m < p.row_blocks; m++) {
                    s.a = t->a + (m * t->k_blocks + from) * ROT_AMX_ELEMS;
                    s.sums = sums_of(&p, column, m);
                    s.line = m * s.blocks * s.lines;
                    s.ahead = fetch_at(&f, i++);
                    s.ahead_lines = s.ahead ? f.lines / ROT_AMX_K_CHUNK : 0;
                    run_step(kind, &tiles, &s, &p);
                }
            }
            // the sums of the columns before these make room for the ones after them
            while (p.column + together(kind) <= column && can_finish(kind, &p))
                finish_row(kind, &p);
        }
    }
    rot_tile_store(&tiles, 0, p.held, ROW);
    rot_tile_store(&tiles, 1, p.held + 16, ROW);
    rot_tile_store(&tiles, 2, p.held + 16 * 32, ROW);
    rot_tile_store(&tiles, 3, p.held + 16 * 32 + 16, ROW);
    rot_tiles_end(&tiles);
    p.whole += p.last;
    while (can_finish(kind, &p)) finish_row(kind, &p);
}

ROT_AVX512_TARGET static void linear_task(const rot_amx_task *task)
{
    if (task->split) {
        run_task((rot_epilogue)SPLIT, task);
        return;
    }
    switch (task->epilogue) {
    case ROT_EPILOGUE_GELU_TANH: run_task(ROT_EPILOGUE_GELU_TANH, task); break;
    case ROT_EPILOGUE_GELU_ERF: run_task(ROT_EPILOGUE_GELU_ERF, task); break;
    case ROT_EPILOGUE_GELU_QUICK: run_task(ROT_EPILOGUE_GELU_QUICK, task); break;
    case ROT_EPILOGUE_ADD: run_task(ROT_EPILOGUE_ADD, task); break;
    default: run_task(ROT_EPILOGUE_NONE, task);
    }
}
