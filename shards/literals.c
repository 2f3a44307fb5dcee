#include "shards/literals.h"

#include <string.h>

// Section numbers are those of RFC 8878. Numbers are little-endian there and on our machines.
enum { BITS = ROT_LITERALS_BITS, BLOCK_MAX = 128 << 10, WEIGHT_BITS_MAX = 6, WEIGHT_MAX = BITS };

static uint64_t load64(const uint8_t *at)
{
    uint64_t x;
    memcpy(&x, at, 8);
    return x;
}

static uint64_t load(const uint8_t *at, size_t n_bytes)
{
    uint64_t x = 0;
    memcpy(&x, at, n_bytes);
    return x;
}

static int log2_floor(uint32_t x)
{
    return 31 - __builtin_clz(x);
}

// A stream that is read from its end (4.1): `left` bits are unread, fewer than none once reading
// has gone past the beginning, where zeros come.
typedef struct bits {
    const uint8_t *start;
    int64_t left;
} bits;

static bool bits_open(bits *b, const uint8_t *start, size_t n_bytes)
{
    if (n_bytes == 0 || start[n_bytes - 1] == 0) return false;
    *b = (bits){start, (int64_t)n_bytes * 8 - 8 + log2_floor(start[n_bytes - 1])};
    return true;
}

// The next n <= 11 bits, first bit highest: they lie in the last three bytes that have unread bits.
static inline uint32_t bits_peek(const bits *b, int n)
{
    int64_t first = ((b->left + 7) >> 3) - 3; // shifts round down below zero too
    uint32_t x = 0;
    if (first >= 0)
        x = b->start[first] | (uint32_t)b->start[first + 1] << 8 |
            (uint32_t)b->start[first + 2] << 16;
    for (int64_t i = first < 0 ? -first : 3; i < 3; i++)
        x |= (uint32_t)b->start[first + i] << 8 * i;
    return x >> (b->left - first * 8 - n) & ((1u << n) - 1);
}

static uint32_t bits_take(bits *b, int n)
{
    uint32_t x = bits_peek(b, n);
    b->left -= n;
    return x;
}

typedef struct fse_state {
    uint8_t symbol, n_bits, base;
} fse_state;

// Probabilities of the weights (4.1.1), -1 for "less than one". Gives the bytes read, 0: damaged.
static size_t read_probabilities(const uint8_t *in, size_t n_in, int8_t counts[WEIGHT_MAX + 1],
                                 int *table_bits)
{
    uint8_t padded[32] = {0}; // 12 weights of at most 7 bits each fit with room
    memcpy(padded, in, n_in < 24 ? n_in : 24);
    size_t at = 4;
    int log = (padded[0] & 15) + 5, remaining = 1 << log, symbol = 0;
    if (log > WEIGHT_BITS_MAX) return 0;
    memset(counts, 0, WEIGHT_MAX + 1);
    while (remaining > 0) {
        if (symbol > WEIGHT_MAX || at > 8 * 23) return 0;
        int n_bits = log2_floor((uint32_t)remaining + 1) + 1, low = (1 << (n_bits - 1)) - 1;
        int few = (1 << n_bits) - 2 - remaining; // so many values take one bit less
        int value = (int)(load64(padded + at / 8) >> at % 8) & ((1 << n_bits) - 1);
        at += (size_t)n_bits;
        if ((value & low) < few) {
            value &= low;
            at--;
        } else if (value > low) {
            value -= few;
        }
        counts[symbol++] = (int8_t)(value - 1);
        remaining -= value > 0 ? value - 1 : 1;
        for (int zeros = value == 1 ? 3 : 0; zeros == 3; symbol += zeros) {
            zeros = (int)(padded[at / 8] | padded[at / 8 + 1] << 8) >> at % 8 & 3;
            at += 2;
            if (symbol + zeros > WEIGHT_MAX || at > 8 * 23) return 0;
        }
    }
    size_t n_bytes = (at + 7) / 8;
    *table_bits = log;
    return remaining == 0 && n_bytes <= n_in ? n_bytes : 0;
}

static void fse_table(const int8_t *counts, int log, fse_state *table)
{
    int size = 1 << log, high = size, next[WEIGHT_MAX + 1];
    for (int s = 0; s <= WEIGHT_MAX; s++) {
        next[s] = counts[s] < 0 ? 1 : counts[s];
        if (counts[s] < 0) table[--high].symbol = (uint8_t)s;
    }
    for (int s = 0, at = 0; s <= WEIGHT_MAX; s++)
        for (int i = 0; i < counts[s]; i++) {
            table[at].symbol = (uint8_t)s;
            do at = (at + (size >> 1) + (size >> 3) + 3) & (size - 1);
            while (at >= high);
        }
    for (int i = 0; i < size; i++) {
        int x = next[table[i].symbol]++, n_bits = log - log2_floor((uint32_t)x);
        table[i].n_bits = (uint8_t)n_bits;
        table[i].base = (uint8_t)((x << n_bits) - size);
    }
}

// Weights as an FSE stream with two states in turn (4.2.1.2). Gives their number, 0: damaged.
static int read_weights(const uint8_t *in, size_t n_in, uint8_t weights[256])
{
    int8_t counts[WEIGHT_MAX + 1];
    fse_state table[1 << WEIGHT_BITS_MAX];
    bits b;
    int log, n = 0;
    size_t head = read_probabilities(in, n_in, counts, &log);
    if (head == 0 || !bits_open(&b, in + head, n_in - head)) return 0;
    fse_table(counts, log, table);
    uint32_t state = bits_take(&b, log), other = bits_take(&b, log);
    if (b.left < 0) return 0;
    for (; n < 254; n++) {
        fse_state at = table[state];
        weights[n] = at.symbol;
        uint32_t moved = at.base + bits_take(&b, at.n_bits);
        state = other;
        other = moved;
        if (b.left < 0) {
            weights[n + 1] = table[state].symbol;
            return n + 2;
        }
    }
    return 0;
}

// The tables. An entry holds what a window of w bits begins with, as many whole codes as fit: their
// bits in byte 0 (where a shift takes its count), up to 5 symbols in bytes 1 to 5, their number in
// byte 7. A table of width w is made of narrower ones: behind a code of l bits comes a window of w
// - l.
static inline __attribute__((always_inline)) void
fill_tables(rot_literals *t, const uint8_t *symbols, const uint32_t *codes, int n)
{
    memset(t->windows, 0, sizeof t->windows / 2); // the widest is filled altogether
    for (int w = 2; w <= BITS; w++)
        for (int i = 0; i < n; i++) {
            int l = t->lengths[symbols[i]];
            if (l > w) continue;
            uint64_t *restrict to = t->windows + (1u << w) + ((size_t)codes[i] << (w - l));
            const uint64_t *restrict from = t->windows + (1u << (w - l));
            uint64_t four = UINT64_C(0xffffffff) << 8, ends = UINT64_C(0xff000000000000ff);
            uint64_t more = UINT64_C(1) << 56 | (uint64_t)symbols[i] << 8 | (uint64_t)l;
            size_t n_windows = (size_t)1 << (w - l);
            if (n_windows < 4) {
                for (size_t j = 0; j < n_windows; j++)
                    to[j] = ((from[j] & four) << 8 | (from[j] & ends)) + more;
                continue;
            }
#pragma omp simd
            for (size_t j = 0; j < n_windows; j++)
                to[j] = ((from[j] & four) << 8 | (from[j] & ends)) + more;
        }
}

__attribute__((target("avx2"))) static void
fill_tables_avx2(rot_literals *t, const uint8_t *symbols, const uint32_t *codes, int n)
{
    fill_tables(t, symbols, codes, n);
}

// Codes by rising weight, then rising symbol (4.2.1.3). False: damaged, or a code of one bit.
static bool make_windows(rot_literals *t, const uint8_t *weights, int n_weights)
{
    uint32_t sum = 0, start[WEIGHT_MAX + 2] = {0}, code[256];
    uint8_t used[256];
    int n_used = 0;
    for (int s = 0; s < n_weights; s++) sum += 1u << weights[s] >> 1;
    int depth = sum ? log2_floor(sum) + 1 : 0;
    uint32_t last = sum ? (1u << depth) - sum : 0; // the last symbol's share is what is missing
    if (depth < 2 || depth > BITS || (last & (last - 1))) return false;
    memset(t->lengths, 0, sizeof t->lengths);
    for (int s = 0; s <= n_weights; s++) {
        int weight = s < n_weights ? weights[s] : log2_floor(last) + 1;
        if (weight >= depth) return false; // a code of one bit: more than 5 would fit
        if (weight == 0) continue;
        t->lengths[s] = (uint8_t)(depth + 1 - weight);
        used[n_used++] = (uint8_t)s;
        start[weight + 1] += 1u << weight >> 1;
    }
    for (int w = 1; w <= WEIGHT_MAX; w++) start[w + 1] += start[w];
    for (int i = 0; i < n_used; i++) { // rising weight, then rising symbol
        int l = t->lengths[used[i]], weight = depth + 1 - l;
        code[i] = start[weight] >> (weight - 1);
        start[weight] += 1u << weight >> 1;
    }
    if (__builtin_cpu_supports("avx2"))
        fill_tables_avx2(t, used, code, n_used);
    else
        fill_tables(t, used, code, n_used);
    return true;
}

// 4.2.1. Gives the bytes of the tree, 0: damaged or with codes of one bit.
static size_t read_tree(rot_literals *t, const uint8_t *in, size_t n_in)
{
    uint8_t weights[256];
    int n;
    size_t size;
    if (n_in < 1) return 0;
    if (in[0] < 128) {
        size = 1 + (size_t)in[0];
        n = size <= n_in ? read_weights(in + 1, in[0], weights) : 0;
    } else {
        n = in[0] - 127;
        size = 1 + ((size_t)n + 1) / 2;
        for (int i = 0; size <= n_in && i < n; i++) {
            weights[i] = i % 2 ? in[1 + i / 2] & 15 : in[1 + i / 2] >> 4;
            if (weights[i] > WEIGHT_MAX) return 0;
        }
    }
    t->ready = n > 0 && size <= n_in && make_windows(t, weights, n);
    return t->ready ? size : 0;
}

// One of a block's streams. `word` holds the unread bits of the 8 bytes at `in`, highest first, and
// behind them a one in the place of the lowest: its place tells how many were read.
typedef struct stream {
    const uint8_t *start, *in;
    uint64_t word;
    uint8_t *out, *end;
} stream;

enum { LOOKUPS = 5, OUT_ROOM = 32 }; // 5 windows are 55 bits and at most 25 symbols

static inline __attribute__((always_inline)) void stream_load(stream *s, int n_read)
{
    s->in -= n_read >> 3;
    s->word = (load64(s->in) | 1) << (n_read & 7);
}

static inline __attribute__((always_inline)) bool stream_fast(const stream *s)
{
    return s->end - s->out >= OUT_ROOM && s->in - s->start >= 8;
}

static inline __attribute__((always_inline)) void stream_step(const uint64_t *table, stream *s)
{
    uint64_t entry = table[s->word >> (64 - BITS)], symbols = entry >> 8;
    s->word <<= entry & 63;
    memcpy(s->out, &symbols, 8); // symbols and what the next step writes over
    s->out += entry >> 56;
}

// Four streams side by side, because each waits on its own last shift.
static inline __attribute__((always_inline)) void four_fast(const uint64_t *table, stream *all)
{
    stream a = all[0], b = all[1], c = all[2], d = all[3];
    while (stream_fast(&a) && stream_fast(&b) && stream_fast(&c) && stream_fast(&d)) {
        for (int i = 0; i < LOOKUPS; i++) {
            stream_step(table, &a);
            stream_step(table, &b);
            stream_step(table, &c);
            stream_step(table, &d);
        }
        stream_load(&a, __builtin_ctzll(a.word));
        stream_load(&b, __builtin_ctzll(b.word));
        stream_load(&c, __builtin_ctzll(c.word));
        stream_load(&d, __builtin_ctzll(d.word));
    }
    all[0] = a, all[1] = b, all[2] = c, all[3] = d;
}

__attribute__((target("bmi,bmi2"))) static void four_bmi2(const uint64_t *table, stream *all)
{
    four_fast(table, all);
}

// What is left of a stream: fast as long as there is room, then symbol after symbol. True if the
// stream ends where its symbols do.
static bool stream_drain(const rot_literals *t, stream *s, bits b)
{
    const uint64_t *table = t->windows + (1u << BITS);
    if (s->in) {
        while (stream_fast(s)) {
            for (int i = 0; i < LOOKUPS; i++) stream_step(table, s);
            stream_load(s, __builtin_ctzll(s->word));
        }
        b.left = (s->in - s->start) * 8 + 64 - __builtin_ctzll(s->word);
    }
    while (s->out < s->end && b.left > 0) {
        uint8_t symbol = (uint8_t)(table[bits_peek(&b, BITS)] >> 8);
        *s->out++ = symbol;
        b.left -= t->lengths[symbol];
    }
    return s->out == s->end && b.left == 0;
}

// n_streams (1 or 4) at in[n_in], the four behind a table of jumps (4.2.2), into out[n].
static bool read_streams(const rot_literals *t, const uint8_t *in, size_t n_in, int n_streams,
                         uint8_t *out, size_t n)
{
    stream s[4];
    bits b[4];
    size_t each = n_streams == 4 ? (n + 3) / 4 : n, at = n_streams == 4 ? 6 : 0;
    if (n_in < at || (n_streams == 4 && 3 * each > n)) return false;
    for (int i = 0; i < n_streams; i++) {
        size_t size = i + 1 < n_streams ? load(in + 2 * i, 2) : n_in - at;
        if (size > n_in - at || !bits_open(&b[i], in + at, size)) return false;
        uint8_t *end = i + 1 < n_streams ? out + each : out + n;
        s[i] = (stream){.start = in + at, .out = out, .end = end};
        if (size > 8) {
            s[i].in = in + at + size - 8;
            stream_load(&s[i], (int)(size * 8 - (size_t)b[i].left));
        }
        at += size;
        out += each;
        n -= i + 1 < n_streams ? each : 0;
    }
    bool all_long = n_streams == 4 && s[0].in && s[1].in && s[2].in && s[3].in;
    if (all_long && __builtin_cpu_supports("bmi2"))
        four_bmi2(t->windows + (1u << BITS), s);
    else if (all_long)
        four_fast(t->windows + (1u << BITS), s);
    for (int i = 0; i < n_streams; i++)
        if (!stream_drain(t, &s[i], b[i])) return false;
    return true;
}

// A compressed block (3.1.1.3) with no sequences. Gives its bytes when decompressed, 0: not ours.
static size_t read_block(rot_literals *t, const uint8_t *in, size_t n_in, uint8_t *out, size_t room)
{
    if (n_in < 6 || in[n_in - 1] != 0) return 0; // ends with the number of sequences
    int type = in[0] & 3, format = in[0] >> 2 & 3;
    if (type < 2) return 0;
    size_t head = format < 2 ? 3 : (size_t)format + 2;
    int width = format < 2 ? 10 : 4 * format + 6;
    uint64_t sizes = load(in, head) >> 4;
    size_t n = sizes & ((1u << width) - 1), packed = sizes >> width & ((1u << width) - 1), tree = 0;
    if (n == 0 || n > room || n > BLOCK_MAX || head + packed + 1 != n_in) return 0;
    if (type == 2) tree = read_tree(t, in + head, packed);
    if (!t->ready || (type == 2 && tree == 0)) return 0;
    bool done = read_streams(t, in + head + tree, packed - tree, format == 0 ? 1 : 4, out, n);
    return done ? n : 0;
}

// The frame's header (3.1.1.1): gives its bytes, 0: not ours.
static size_t read_header(const uint8_t *in, size_t n_in, size_t n)
{
    static const uint8_t content_bytes[] = {0, 2, 4, 8};
    if (n_in < 18 || load(in, 4) != 0xFD2FB528) return 0;
    int flags = in[4], single = flags >> 5 & 1;
    if (flags & 0x0f) return 0; // a checksum, a dictionary, a reserved bit
    size_t at = single ? 5 : 6, width = content_bytes[flags >> 6];
    if (width == 0 && single) width = 1;
    size_t content = load(in + at, width) + (width == 2 ? 256 : 0);
    return width && content == n ? at + width : 0;
}

bool rot_literals_decode(rot_literals *t, const uint8_t *frame, size_t n_frame, uint8_t *out,
                         size_t n)
{
    size_t at = read_header(frame, n_frame, n), done = 0;
    t->ready = false;
    for (bool last = at == 0; !last;) {
        if (n_frame - at < 3) return false;
        uint32_t header = (uint32_t)load(frame + at, 3);
        size_t size = header >> 3, n_in = (header >> 1 & 3) == 1 ? 1 : size, n_out = size;
        last = header & 1;
        at += 3;
        if (size > BLOCK_MAX || n_in > n_frame - at) return false;
        if ((header >> 1 & 3) < 2 && n_out > n - done) return false;
        switch (header >> 1 & 3) {
        case 0: memcpy(out + done, frame + at, size); break;
        case 1: memset(out + done, frame[at], size); break;
        case 2: n_out = read_block(t, frame + at, size, out + done, n - done); break;
        default: n_out = 0;
        }
        if (n_out == 0) return false;
        at += n_in;
        done += n_out;
    }
    return at == n_frame && at > 0 && done == n;
}
