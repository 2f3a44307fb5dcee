// Attention of one head of one segment on tiles, 32 queries at a time. Included by real.c and
// emulated.c behind tiles.h. Scores of a block of queries stay in the second-level cache whole (up
// to some thousand keys), so that the softmax has the one maximum that the contract names instead
// of a running one.
#include "kernels/amx/amx.h"

typedef struct head_space {
    uint16_t *keys, *values; // packed weights: (n, dim) as rows, as columns
    uint16_t *queries;       // packed (32, dim)
    float *scores;           // (32, n_padded), rows ld apart
    uint16_t *chances;       // (32, n_padded), rows ld apart
    float *mixed;            // (32, dim_padded)
    uint16_t *row;           // (dim)
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
    s->scores = take_space(space, &at, 32 * s->ld * sizeof(float));
    s->chances = take_space(space, &at, 32 * s->ld * sizeof(uint16_t));
    s->mixed = take_space(space, &at, 32 * s->dim_blocks * 32 * sizeof(float));
    s->row = take_space(space, &at, s->dim_blocks * 32 * sizeof(uint16_t));
    return at;
}

// to (32, 32 n_blocks) = a (32, 32 k_blocks) b, to and a rows by bytes apart, a's blocks of 32
// columns `a_block` bytes apart and its lower tile `a_half` bytes.
ROT_AVX512_INLINE void multiply(rot_tiles *tiles, const unsigned char *a, size_t a_row,
                                size_t a_half, size_t a_block, const uint16_t *b, size_t k_blocks,
                                size_t n_blocks, float *to, size_t to_row)
{
    (void)tiles;
    for (size_t n = 0; n < n_blocks; n++, to += 32) {
        rot_tile_zero(tiles, 0);
        rot_tile_zero(tiles, 1);
        rot_tile_zero(tiles, 2);
        rot_tile_zero(tiles, 3);
        for (size_t k = 0; k < k_blocks; k++, b += ROT_AMX_ELEMS) {
            rot_tile_load(tiles, 4, a + k * a_block, a_row);
            rot_tile_stream(tiles, 6, b, ROT_TILE_BYTES);
            rot_tile_stream(tiles, 7, b + ROT_AMX_TILE, ROT_TILE_BYTES);
            rot_tile_dot(tiles, 0, 4, 6);
            rot_tile_load(tiles, 5, a + k * a_block + a_half, a_row);
            rot_tile_dot(tiles, 1, 4, 7);
            rot_tile_dot(tiles, 2, 5, 6);
            rot_tile_dot(tiles, 3, 5, 7);
        }
        unsigned char *lower = (unsigned char *)to + 16 * to_row;
        rot_tile_store(tiles, 0, to, to_row);
        rot_tile_store(tiles, 1, to + 16, to_row);
        rot_tile_store(tiles, 2, lower, to_row);
        rot_tile_store(tiles, 3, lower + 64, to_row);
    }
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

ROT_AVX512_TARGET static void attention_head(const rot_amx_head *h)
{
    enum { BLOCK_BYTES = ROT_AMX_ELEMS * sizeof(uint16_t) };
    rot_tiles tiles;
    head_space s;
    lay_out(h->space, h->n, h->dim, &s);
    rot_amx_pack_rows(h->k, h->n, h->dim, s.keys);
    rot_amx_pack_columns(h->v, h->n, h->dim, s.values);
    for (size_t i = 0; i < 32; i++) // keys past the last one have no chance
        memset(s.chances + i * s.ld + h->n, 0, (s.ld - h->n) * sizeof *s.chances);
    rot_tiles_begin(&tiles);
    for (size_t first = 0; first < h->n; first += 32) {
        size_t rows = h->n - first < 32 ? h->n - first : 32;
        float sums[32];
        for (size_t i = 0; i < rows; i++)
            rot_amx_put_row(s.queries, h->dim, i, h->q + (first + i) * h->dim);
        multiply(&tiles, (const unsigned char *)s.queries, ROT_TILE_BYTES,
                 ROT_AMX_TILE * sizeof(uint16_t), BLOCK_BYTES, s.keys, s.dim_blocks, s.n_blocks,
                 s.scores, s.ld * sizeof(float));
        for (size_t i = 0; i < rows; i++)
            sums[i] =
                rot_avx512_softmax_row(s.scores + i * s.ld, h->n, h->scale, s.chances + i * s.ld);
        multiply(&tiles, (const unsigned char *)s.chances, s.ld * sizeof(uint16_t),
                 16 * s.ld * sizeof(uint16_t), ROT_TILE_BYTES, s.values, s.n_blocks, s.dim_blocks,
                 s.mixed, s.dim_blocks * 32 * sizeof(float));
        for (size_t i = 0; i < rows; i++) {
            rot_avx512_scale_row(s.mixed + i * s.dim_blocks * 32, h->dim, 1.0f / sums[i], s.row);
            put_head_row(h, h->row + first + i, s.row);
        }
    }
    rot_tiles_end(&tiles);
}
