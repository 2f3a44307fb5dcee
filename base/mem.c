#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static _Atomic long fail_at;

static int fails_now(void)
{
    return atomic_load_explicit(&fail_at, memory_order_relaxed) > 0 &&
           atomic_fetch_sub(&fail_at, 1) == 1;
}

void rot_mem_fail_at(long n)
{
    atomic_store(&fail_at, n);
}

void *rot_malloc(size_t n_bytes)
{
    return fails_now() ? NULL : malloc(n_bytes ? n_bytes : 1);
}

void *rot_calloc(size_t n, size_t n_bytes)
{
    return fails_now() ? NULL : calloc(n ? n : 1, n_bytes ? n_bytes : 1);
}

void *rot_realloc(void *block, size_t n_bytes)
{
    return fails_now() ? NULL : realloc(block, n_bytes ? n_bytes : 1);
}

char *rot_strndup(const char *text, size_t n_bytes)
{
    char *copy = rot_malloc(n_bytes + 1);
    if (!copy) return NULL;
    memcpy(copy, text, n_bytes);
    copy[n_bytes] = 0;
    return copy;
}

char *rot_strdup(const char *text)
{
    return rot_strndup(text, strlen(text));
}

void *rot_aligned_malloc(size_t n_bytes)
{
    if (fails_now() || n_bytes > SIZE_MAX - 64) return NULL;
    return aligned_alloc(64, (n_bytes + 64) / 64 * 64);
}

void *rot_paged_malloc(size_t page, size_t n_bytes)
{
    if (fails_now() || n_bytes > SIZE_MAX - page) return NULL;
    return aligned_alloc(page, (n_bytes + page - 1) / page * page);
}

void rot_free(void *block)
{
    free(block);
}

int rot_no_memory(rot_err *err, size_t n_bytes, const char *what)
{
    ROT_FAIL(err, ROT_ERR_NO_MEMORY, "out of memory (%zu bytes for %s)", n_bytes, what);
}

int rot_grow(void *array, size_t *capacity, size_t n, size_t size, rot_err *err)
{
    if (n <= *capacity) return 0;
    size_t wanted = *capacity ? *capacity : 16;
    while (wanted < n) {
        if (wanted > SIZE_MAX / 2 / size) return rot_no_memory(err, SIZE_MAX, "array");
        wanted *= 2;
    }
    void *block;
    memcpy(&block, array, sizeof block);
    block = rot_realloc(block, wanted * size);
    if (!block) return rot_no_memory(err, wanted * size, "array");
    memcpy(array, &block, sizeof block);
    *capacity = wanted;
    return 0;
}

typedef struct rot_arena_block {
    struct rot_arena_block *next;
    size_t used, size; // of bytes
    _Alignas(64) unsigned char bytes[];
} rot_arena_block;

void *rot_arena_alloc(rot_arena *arena, size_t n_bytes)
{
    if (n_bytes > SIZE_MAX / 2) return NULL;
    n_bytes = (n_bytes + 63) / 64 * 64;
    rot_arena_block *block = arena->block;
    if (!block || block->size - block->used < n_bytes) {
        size_t size = arena->block_bytes ? arena->block_bytes : 65536;
        if (size < n_bytes) size = n_bytes;
        block = rot_aligned_malloc(sizeof *block + size);
        if (!block) return NULL;
        block->next = arena->block;
        block->used = 0;
        block->size = size;
        arena->block = block;
    }
    void *out = block->bytes + block->used;
    block->used += n_bytes;
    return out;
}

char *rot_arena_strndup(rot_arena *arena, const char *text, size_t n_bytes)
{
    char *copy = rot_arena_alloc(arena, n_bytes + 1);
    if (!copy) return NULL;
    memcpy(copy, text, n_bytes);
    copy[n_bytes] = 0;
    return copy;
}

char *rot_arena_strdup(rot_arena *arena, const char *text)
{
    return rot_arena_strndup(arena, text, strlen(text));
}

void rot_arena_reset(rot_arena *arena)
{
    rot_arena_block *largest = arena->block;
    for (rot_arena_block *b = arena->block; b; b = b->next)
        if (b->size > largest->size) largest = b;
    for (rot_arena_block *b = arena->block, *next; b; b = next) {
        next = b->next;
        if (b != largest) rot_free(b);
    }
    if (largest) {
        largest->next = NULL;
        largest->used = 0;
    }
    arena->block = largest;
}

void rot_arena_free(rot_arena *arena)
{
    for (rot_arena_block *b = arena->block, *next; b; b = next) {
        next = b->next;
        rot_free(b);
    }
    arena->block = NULL;
}
