// zstd frames that hold literals alone, as zstd-bf16 writes them: the Huffman codes of RFC 8878,
// decoded several symbols at a time.
#ifndef ROT_SHARDS_LITERALS_H
#define ROT_SHARDS_LITERALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ROT_LITERALS_BITS = 11 }; // the longest code that zstd gives to literals

// Scratch of one thread, 33 KB. Nothing in it outlives a call.
typedef struct rot_literals {
    uint64_t windows[2 << ROT_LITERALS_BITS]; // table of width w at [1 << w, 2 << w)
    uint8_t lengths[256];                     // bits of each symbol's code, 0: it has none
    bool ready;                               // a block may reuse the table of the one before
} rot_literals;

// Decodes a frame into out[n]. False: the frame has something else in it (matches, a checksum,
// codes of one bit), or is damaged, and then out holds anything; libzstd reads the former and says
// what is wrong with the latter. Reads and writes nothing outside of frame[n_frame] and out[n].
bool rot_literals_decode(rot_literals *literals, const uint8_t *frame, size_t n_frame, uint8_t *out,
                         size_t n);

#endif
