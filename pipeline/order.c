// A keyed permutation of 0 .. n-1 without a table: a Feistel network over the next power of two,
// walked until it lands inside ("cycle walking", Black and Rogaway, Ciphers with Arbitrary Finite
// Domains, 2002).
#include "rotoscope/order.h"

#include <assert.h>

enum { ROUNDS = 8 };

// The finaliser of SplitMix64.
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t mask_of(unsigned bits)
{
    return bits ? UINT64_MAX >> (64 - bits) : 0;
}

// The two halves swap roles every round; they differ by a bit where the width is odd.
typedef struct halves {
    unsigned low, high; // bits
} halves;

static halves halves_of(uint64_t n)
{
    unsigned bits = 0;
    while (bits < 64 && mask_of(bits) < n - 1) bits++;
    return (halves){bits / 2, bits - bits / 2};
}

static uint64_t round_value(uint64_t half, uint64_t key, unsigned round)
{
    return mix(half ^ mix(key + round));
}

static uint64_t forward(halves h, uint64_t key, uint64_t x)
{
    uint64_t low = x & mask_of(h.low), high = x >> h.low;
    for (unsigned i = 0; i < ROUNDS; i += 2) {
        high ^= round_value(low, key, i) & mask_of(h.high);
        low ^= round_value(high, key, i + 1) & mask_of(h.low);
    }
    return high << h.low | low;
}

static uint64_t backward(halves h, uint64_t key, uint64_t x)
{
    uint64_t low = x & mask_of(h.low), high = x >> h.low;
    for (unsigned i = ROUNDS; i > 0; i -= 2) {
        low ^= round_value(high, key, i - 1) & mask_of(h.low);
        high ^= round_value(low, key, i - 2) & mask_of(h.high);
    }
    return high << h.low | low;
}

// Three numbers or fewer differ in one bit or none per half, where xor alone gives too few
// permutations; a rotation by the key gives every first element its turn.
static uint64_t permute(uint64_t n, uint64_t key, uint64_t x)
{
    if (n < 2) return x;
    halves h = halves_of(n);
    x = (x + mix(key ^ n) % n) % n;
    do x = forward(h, key, x);
    while (x >= n);
    return x;
}

static uint64_t unpermute(uint64_t n, uint64_t key, uint64_t x)
{
    if (n < 2) return x;
    halves h = halves_of(n);
    do x = backward(h, key, x);
    while (x >= n);
    return (x + n - mix(key ^ n) % n) % n;
}

static uint64_t epoch_key(const rot_order *order, uint64_t epoch)
{
    return mix(order->seed ^ mix(epoch));
}

// Blocks in permuted order. The last block may be shorter; where it lands is found by the inverse,
// so that positions behind it can be told without adding up.
typedef struct blocks {
    uint64_t n, size, last_size, last_slot, key;
} blocks;

static blocks blocks_of(const rot_order *order, uint64_t key)
{
    blocks b = {.n = (order->n - 1) / order->block + 1, .size = order->block, .key = key};
    b.last_size = order->n - (b.n - 1) * b.size;
    b.last_slot = unpermute(b.n, key, b.n - 1);
    return b;
}

static uint64_t block_size(const blocks *b, uint64_t block)
{
    return block == b->n - 1 ? b->last_size : b->size;
}

static uint64_t slot_begin(const blocks *b, uint64_t slot)
{
    return slot * b->size - (slot > b->last_slot ? b->size - b->last_size : 0);
}

static uint64_t slot_of(const blocks *b, uint64_t position)
{
    uint64_t last = b->last_slot * b->size;
    if (position < last) return position / b->size;
    if (position < last + b->last_size) return b->last_slot;
    return (position + b->size - b->last_size) / b->size;
}

uint64_t rot_order_at(const rot_order *order, uint64_t epoch, uint64_t position)
{
    assert(position < order->n);
    if (!order->shuffle) return position;
    uint64_t key = epoch_key(order, epoch);
    if (order->block == 0) return permute(order->n, key, position);
    blocks b = blocks_of(order, key);
    uint64_t slot = slot_of(&b, position), block = permute(b.n, key, slot);
    uint64_t at = position - slot_begin(&b, slot);
    return block * b.size + permute(block_size(&b, block), mix(key + block + 1), at);
}

uint64_t rot_order_position(const rot_order *order, uint64_t epoch, uint64_t sample)
{
    assert(sample < order->n);
    if (!order->shuffle) return sample;
    uint64_t key = epoch_key(order, epoch);
    if (order->block == 0) return unpermute(order->n, key, sample);
    blocks b = blocks_of(order, key);
    uint64_t block = sample / b.size, slot = unpermute(b.n, key, block);
    uint64_t at = unpermute(block_size(&b, block), mix(key + block + 1), sample % b.size);
    return slot_begin(&b, slot) + at;
}
