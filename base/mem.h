// All memory of the library comes from here, so that a test can fail the n-th allocation, and an
// arena for what lives as long as one batch.
#ifndef ROT_BASE_MEM_H
#define ROT_BASE_MEM_H

#include <stddef.h>

#include "rotoscope/error.h"

// Like malloc and friends; NULL when there is none. Blocks are released with rot_free or free().
void *rot_malloc(size_t n_bytes);
void *rot_calloc(size_t n, size_t n_bytes); // checks the product
void *rot_realloc(void *block, size_t n_bytes);
char *rot_strdup(const char *text);
char *rot_strndup(const char *text, size_t n_bytes);
void *rot_aligned_malloc(size_t n_bytes); // at 64 bytes; the size is rounded up to a multiple of 64
void *rot_paged_malloc(size_t page, size_t n_bytes); // at `page`, a power of two; whole pages
void rot_free(void *block);
// "out of memory (N bytes for WHAT)".
int rot_no_memory(rot_err *err, size_t n_bytes, const char *what);

// Makes *array hold at least `n` elements of `size` bytes, growing *capacity by doubling.
int rot_grow(void *array, size_t *capacity, size_t n, size_t size, rot_err *err);

// Tests: the n-th allocation from now on fails (1: the next one); 0: none. Process-wide.
void rot_mem_fail_at(long n);

// A chain of blocks, released or reset at once. One owner, no locking.
typedef struct rot_arena {
    struct rot_arena_block *block;
    size_t block_bytes; // size of new blocks; 0: 64 KiB
} rot_arena;

void *rot_arena_alloc(rot_arena *arena,
                      size_t n_bytes); // at 64 bytes, not cleared; NULL: no memory
char *rot_arena_strdup(rot_arena *arena, const char *text);
char *rot_arena_strndup(rot_arena *arena, const char *text, size_t n_bytes);
void rot_arena_reset(rot_arena *arena); // keeps the largest block for reuse
void rot_arena_free(rot_arena *arena);

#endif
