// Attention of one head of one segment on tiles, 32 queries at a time. Included by real.c and
// emulated.c behind tiles.h and rows.h. Scores of a block of queries stay in the second-level cache
// whole (up to some thousand keys), so that the softmax has the one maximum that the contract names
// instead of a running one. While the tiles multiply the scores of one block, rows of the block
// before it go through their softmax, and the next head is fetched.

typedef struct head_space {
    uint16_t *keys, *values; // packed weights: (n, dim) as rows, as columns
    uint16_t *queries;       // packed (32, dim), where plain rows are not whole tiles
    float *scores[2];        // of two blocks (32, n_padded), rows ld apart
    uint16_t *chances;       // packed (32, n)
    float *most;             // (32, 16): maxima of each row's scores
    float *mixed;            // (32, dim_padded)
    uint16_t *row;           // (dim_padded)
    size_t n_blocks, dim_blocks, ld;
} head_space;

static void *take_space(unsigned char *space, size_t *at, size_t n_bytes)
{
    void *here = space ? space + *at : NULL;
    *at += (n_bytes + 63) / 64 * 64;
    return here;
}

// Bytes used; `space` NULL: these alone.
static size_t lay_out(unsigned char *space, size_t n, size_t dim, head_space *s)
{
    size_t at = 0;
    s->n_blocks = rot_amx_blocks(n), s->dim_blocks = rot_amx_blocks(dim);
    s->ld = s->n_blocks * 32 + 32; // no power of two: rows would share a set of the cache
    size_t packed = s->n_blocks * s->dim_blocks * ROT_AMX_ELEMS * sizeof(uint16_t);
    s->keys = take_space(space, &at, packed);
    s->values = take_space(space, &at, packed);
    s->queries = take_space(space, &at, s->dim_blocks * ROT_AMX_ELEMS * sizeof(uint16_t));
    for (int i = 0; i < 2; i++) s->scores[i] = take_space(space, &at, 32 * s->ld * sizeof(float));
    s->chances = take_space(space, &at, s->n_blocks * ROT_AMX_ELEMS * sizeof(uint16_t));
    s->most = take_space(space, &at, 32 * 16 * sizeof(float));
    s->mixed = take_space(space, &at, 32 * s->dim_blocks * 32 * sizeof(float));
    s->row = take_space(space, &at, s->dim_blocks * 32 * sizeof(uint16_t));
    return at;
}

ROT_AVX512_INLINE __m512 chance(const float *scores, __m512 factor, __m512 most)
{
    return exp2_of(_mm512_fmsub_ps(_mm512_loadu_ps(scores), factor, most));
}

// exp(scale (score - maximum)) into a row of the packed chances, zeros behind the last; returns
// their sum before they are rounded.
ROT_AVX512_INLINE float take_row(const float *scores, size_t n, __m512 factor, float maximum,
                                 uint16_t *to)
{
    __m512 most = _mm512_mul_ps(factor, _mm512_set1_ps(maximum));
    __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    size_t i = 0;
    for (; i + 32 <= n; i += 32, to += ROT_AMX_ELEMS) {
        __m512 x = chance(scores + i, factor, most), y = chance(scores + i + 16, factor, most);
        sum[0] = _mm512_add_ps(sum[0], x), sum[1] = _mm512_add_ps(sum[1], y);
        _mm512_store_si512(to, rot_tile_round(x, y));
    }
    if (i < n) {
        __mmask16 upper = i + 16 < n ? rot_avx512_lanes(i + 16, n) : 0;
        __m512 x = _mm512_maskz_mov_ps(rot_avx512_lanes(i, n), chance(scores + i, factor, most));
        __m512 y = _mm512_maskz_mov_ps(upper, chance(scores + i + 16, factor, most));
        sum[0] = _mm512_add_ps(sum[0], x), sum[1] = _mm512_add_ps(sum[1], y);
        _mm512_store_si512(to, rot_tile_round(x, y));
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(sum[0], sum[1]));
}

typedef struct softmax { // of one block of queries
    const float *scores;
    size_t ld, rows, n, done;
    __m512 factor;
    uint16_t *chances;
    float sums[32]; // maxima, of rows that are not done
} softmax;

ROT_AVX512_INLINE void begin_softmax(softmax *x, const head_space *s, const float *scores,
                                     size_t rows, size_t n, float scale)
{
    *x = (softmax){scores,     s->ld, rows, n, 0, _mm512_set1_ps(scale * 0x1.715476p+0f),
                   s->chances, {0}}; // the factor is positive; 2^x instead of exp
    for (size_t i = 0; i < rows; i++)
        x->sums[i] = _mm512_reduce_max_ps(_mm512_load_ps(s->most + 16 * i));
}

ROT_AVX512_INLINE void take_rows(softmax *x, size_t n)
{
    for (size_t end = x->done + n; x->done < x->rows && x->done < end; x->done++)
        x->sums[x->done] = take_row(x->scores + x->done * x->ld, x->n, x->factor, x->sums[x->done],
                                    x->chances + x->done * 32);
}

// The maxima of rows of scores and of 32 columns more, of which `left` count.
ROT_AVX512_INLINE void raise(float *most, const float *scores, size_t ld, size_t left, bool first)
{
    const __m512 least = _mm512_set1_ps(-__builtin_inff());
    __mmask16 lower = left < 16 ? rot_avx512_lanes(0, left) : 0xffff;
    __mmask16 upper = left < 32 ? left > 16 ? rot_avx512_lanes(16, left) : 0 : 0xffff;
    for (size_t i = 0; i < 32; i++, scores += ld, most += 16) {
        __m512 m = first ? least : _mm512_load_ps(most);
        m = _mm512_mask_max_ps(m, lower, m, _mm512_load_ps(scores));
        _mm512_store_ps(most, _mm512_mask_max_ps(m, upper, m, _mm512_load_ps(scores + 16)));
    }
}

typedef struct beside { // what is done while the tiles multiply the scores of one block
    softmax *before;    // rows of the block before go through their softmax
    float *most;        // maxima of this block's rows, over n columns, grow
    size_t n;
    const uint16_t *const *next; // lines of the next head's q, k and v are fetched
    size_t line, lines, at_once;
} beside;

// Beside the products of block column `block`; `stored` are the scores of the one before it.
ROT_AVX512_INLINE void go_beside(beside *x, size_t block, size_t n_blocks, const float *stored,
                                 size_t ld)
{
    enum { LINE = 64 / sizeof(uint16_t) };
    take_rows(x->before, (31 + n_blocks) / n_blocks);
    for (size_t i = 0; i < x->at_once && x->line < x->lines; i++, x->line++)
        for (int part = 0; part < 3; part++)
            _mm_prefetch((const char *)(x->next[part] + x->line * LINE), _MM_HINT_T1);
    if (block) raise(x->most, stored, ld, x->n - (block - 1) * 32, block == 1);
}

typedef struct tile_rows { // 32 rows of A: two tiles
    const unsigned char *at;
    size_t row, lower, block; // bytes from row to row, to the lower tile, to the next 32 columns
} tile_rows;

// to (32, 32 n_blocks) = a (32, 32 k_blocks) b, rows of `to` step bytes apart. The sums of a block
// are stored between the first products of the next one. `x` NULL: nothing beside it.
ROT_AVX512_INLINE void multiply(rot_tiles *tiles, tile_rows a, const uint16_t *b, size_t k_blocks,
                                size_t n_blocks, float *to, size_t step, beside *x)
{
    unsigned char *at = (unsigned char *)to, *before = NULL;
    size_t lower = 16 * step;
    (void)tiles;
#define ROT_ENTER(t, offset)                                                                       \
    do {                                                                                           \
        if (before) rot_tile_store(tiles, t, before + (offset), step);                             \
        rot_tile_zero(tiles, t);                                                                   \
    } while (0)
    for (size_t n = 0; n < n_blocks; n++, before = at, at += 128) {
        for (size_t k = 0; k < k_blocks; k++, b += ROT_AMX_ELEMS) {
            const unsigned char *rows = a.at + k * a.block;
            if (!k) ROT_ENTER(0, 0);
            rot_tile_stream(tiles, 6, b, ROT_TILE_BYTES);
            rot_tile_load(tiles, 4, rows, a.row);
            rot_tile_dot(tiles, 0, 4, 6);
            if (!k) ROT_ENTER(1, 64);
            rot_tile_stream(tiles, 7, b + ROT_AMX_TILE, ROT_TILE_BYTES);
            rot_tile_dot(tiles, 1, 4, 7);
            if (!k) ROT_ENTER(2, lower);
            rot_tile_load(tiles, 5, rows + a.lower, a.row);
            rot_tile_dot(tiles, 2, 5, 6);
            if (!k) ROT_ENTER(3, lower + 64);
            rot_tile_dot(tiles, 3, 5, 7);
        }
        if (x) go_beside(x, n, n_blocks, (const float *)before, step / sizeof(float));
    }
#undef ROT_ENTER
    rot_tile_store(tiles, 0, before, step);
    rot_tile_store(tiles, 1, before + 64, step);
    rot_tile_store(tiles, 2, before + lower, step);
    rot_tile_store(tiles, 3, before + lower + 64, step);
    if (x) go_beside(x, n_blocks, n_blocks, (const float *)before, step / sizeof(float));
}

// Columns [column, column + dim) of a row of `out`, and the zeros behind the tensor's last one.
static void put_head_row(const rot_amx_head *h, size_t row, const uint16_t *from)
{
    for (size_t c = 0; c < h->dim;) {
        size_t at = h->column + c, n = 32 - at % 32;
        if (n > h->dim - c) n = h->dim - c;
        uint16_t *to = h->out + rot_amx_at(h->width, row, at);
        memcpy(to, from + c, n * sizeof *to);
        c += n;
        if (at + n == h->width && (at + n) % 32) memset(to + n, 0, (32 - (at + n) % 32) * 2);
    }
}

// Rows of the mixed values, divided, into the output from row `first` on.
ROT_AVX512_INLINE void put_mixed(const rot_amx_head *h, const head_space *s, size_t first,
                                 size_t rows, const float *sums)
{
    bool aligned = h->dim % 32 == 0 && h->column % 32 == 0; // whole lines
    size_t width = s->dim_blocks * 32;
    for (size_t i = 0; i < rows; i++) {
        uint16_t *to = aligned ? h->out + rot_amx_at(h->width, first + i, h->column) : s->row;
        const float *from = s->mixed + i * width;
        __m512 f = _mm512_set1_ps(1.0f / sums[i]);
        for (size_t c = 0; c < width; c += 32, to += aligned ? ROT_AMX_ELEMS : 32)
            _mm512_store_si512(to, rot_tile_round(_mm512_mul_ps(_mm512_load_ps(from + c), f),
                                                  _mm512_mul_ps(_mm512_load_ps(from + c + 16), f)));
        if (!aligned) put_head_row(h, first + i, s->row);
    }
}

// The block of queries from `first` on: plain rows where they are whole tiles, else packed ones.
static tile_rows queries_of(const rot_amx_head *h, const head_space *s, size_t first)
{
    size_t rows = h->n - first < 32 ? h->n - first : 32, row_bytes = h->dim * sizeof(uint16_t);
    if (rows == 32 && h->dim % 32 == 0)
        return (tile_rows){(const unsigned char *)(h->q + first * h->dim), row_bytes,
                           16 * row_bytes, ROT_TILE_BYTES};
    for (size_t i = 0; i < rows; i++)
        rot_amx_put_row(s->queries, h->dim, i, h->q + (first + i) * h->dim);
    return (tile_rows){(const unsigned char *)s->queries, ROT_TILE_BYTES,
                       ROT_AMX_TILE * sizeof(uint16_t), ROT_AMX_ELEMS * sizeof(uint16_t)};
}

ROT_AVX512_TARGET static void attention_head(const rot_amx_head *h)
{
    rot_tiles tiles;
    head_space s;
    lay_out(h->space, h->n, h->dim, &s);
    rot_amx_pack_rows(h->k, h->n, h->dim, s.keys);
    rot_amx_pack_columns(h->v, h->n, h->dim, s.values);
    const tile_rows chances = {(const unsigned char *)s.chances, ROT_TILE_BYTES,
                               ROT_AMX_TILE * sizeof(uint16_t), ROT_AMX_ELEMS * sizeof(uint16_t)};
    softmax before = {0}; // of the block before
    const size_t lines = (h->next_elems + 31) / 32, steps = s.n_blocks * (s.n_blocks + 1);
    beside x = {&before, s.most, h->n, h->next, 0, lines, (lines + steps - 1) / steps};
    rot_tiles_begin(&tiles);
    for (size_t block = 0; block <= s.n_blocks; block++) {
        float *scores = s.scores[block % 2];
        size_t first = block * 32, mixed = s.dim_blocks * 32;
        if (block < s.n_blocks)
            multiply(&tiles, queries_of(h, &s, first), s.keys, s.dim_blocks, s.n_blocks, scores,
                     s.ld * sizeof(float), &x);
        take_rows(&before, 32);
        if (block) {
            multiply(&tiles, chances, s.values, s.n_blocks, s.dim_blocks, s.mixed,
                     mixed * sizeof(float), NULL);
            put_mixed(h, &s, h->row + first - 32, before.rows, before.sums);
        }
        if (block < s.n_blocks)
            begin_softmax(&before, &s, scores, h->n - first < 32 ? h->n - first : 32, h->n,
                          h->scale);
    }
    rot_tiles_end(&tiles);
}
