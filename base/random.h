// Random numbers as a pure function of what they are for: a key names a sequence, a counter its
// element. Nothing is stored, so a run that was stopped draws what it would have drawn.
#ifndef ROT_BASE_RANDOM_H
#define ROT_BASE_RANDOM_H

#include <stdint.h>

// splitmix64's finaliser (Steele, Lea, Flood 2014).
static inline uint64_t rot_mix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

// The key of a sequence within another one's: rot_random_key(rot_random_key(seed, epoch), row).
static inline uint64_t rot_random_key(uint64_t key, uint64_t name)
{
    return rot_mix64(rot_mix64(key + UINT64_C(0x9e3779b97f4a7c15)) ^
                     (name + 1) * UINT64_C(0xd1342543de82ef95));
}

// Element n of a key's sequence: 64 bits.
static inline uint64_t rot_random_at(uint64_t key, uint64_t n)
{
    return rot_mix64(key + n * UINT64_C(0x9e3779b97f4a7c15));
}

// The same in [0, 1), a multiple of 2^-53.
static inline double rot_random_unit(uint64_t key, uint64_t n)
{
    return (double)(rot_random_at(key, n) >> 11) * 0x1p-53;
}

// The same below `limit` > 0; the bias is at most limit / 2^32.
static inline uint32_t rot_random_below(uint64_t key, uint64_t n, uint32_t limit)
{
    return (uint32_t)((rot_random_at(key, n) >> 32) * limit >> 32);
}

// The same from the normal distribution of mean 0 and variance 1; the bits depend on the arguments
// alone.
double rot_random_normal(uint64_t key, uint64_t n);

#endif
