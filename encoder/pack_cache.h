// Packed weights kept in a file: written once, mapped by every later start. Nothing here fails an
// opening: what cannot be read or written is said in a note, and the weights are packed.
//
// A file is FOLDER/KEY.packed; its numbers are in the byte order of the machine that KEY names:
//   128 bytes: magic "ROTPACK" and a NUL; XXH3-128 of all that follows up to the end of the table;
//              KEY (32); u64 number of weights; u64 bytes of the file; zeros
//   64 each:   u64 n_in, n_out, epilogue, n_bytes; layout (16); XXH3-128 of the weight's bytes with
//              the zeros behind them
//   weights:   each followed by zeros up to a multiple of 64
#ifndef ROT_ENCODER_PACK_CACHE_H
#define ROT_ENCODER_PACK_CACHE_H

#include "base/fs.h"
#include "kernels/backend.h"

typedef struct rot_pack_notes {
    void (*note)(void *user, const char *message); // may be NULL
    void *user;
} rot_pack_notes;

typedef struct rot_pack_entry {
    uint64_t n_in, n_out, epilogue, n_bytes;
    uint8_t layout[16], hash[16];
} rot_pack_entry;

typedef struct rot_pack_cache {
    const rot_backend *backend;
    rot_pack_notes notes;
    char dir[4096], path[4096]; // path: "" without a cache
    uint8_t key[32];
    rot_map map; // sound, or none; whoever takes weights takes it over
    const rot_pack_entry *entries;
    uint64_t n, next;     // entries; the next to be taken
    const uint8_t *bytes; // of that one
    // what the tower has made, in order
    struct rot_pack_made {
        const rot_linear *linear;
        rot_pack_entry entry;
    } * made;
    size_t n_made, made_capacity;
} rot_pack_cache;

// The key is the SHA-256 of the weights' hash, the backend's identity and precision, the processor,
// and ROT_PACKED_VERSION (the hash says whether there are taps). Maps a file that is there and
// checks every byte of it. dir NULL: no cache. The cache must not outlive `backend`.
void rot_pack_cache_open(rot_pack_cache *cache, const char *dir, const char *weights_sha256,
                         const rot_backend *backend, rot_pack_notes notes);
// Whether the next weight is there; its bytes are valid as long as the map.
bool rot_pack_cache_take(rot_pack_cache *cache, size_t n_in, size_t n_out, rot_epilogue epilogue,
                         rot_packed *out);
// The file is not what the tower needs, although sound: no weight is taken any more, and
// rot_pack_cache_write replaces it. What was taken stays valid.
void rot_pack_cache_distrust(rot_pack_cache *cache, const char *why);
// Tells which linear came next, whichever way; it lives until rot_pack_cache_write.
int rot_pack_cache_made(rot_pack_cache *cache, const rot_linear *linear, size_t n_in, size_t n_out,
                        rot_epilogue epilogue, rot_err *err);
// All linears are made: writes the file unless every one of them was taken from it.
void rot_pack_cache_write(rot_pack_cache *cache);
// The map too, unless it was taken over.
void rot_pack_cache_close(rot_pack_cache *cache);

#endif
