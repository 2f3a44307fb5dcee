#include "kernels/host.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/mem.h"

void *rot_host_alloc(size_t n_bytes, const char *what, rot_err *err)
{
    enum { HUGE_PAGE = 2 << 20 };
    bool huge = n_bytes >= HUGE_PAGE;
    void *data =
        huge ? rot_paged_malloc(HUGE_PAGE, n_bytes) : rot_aligned_malloc(n_bytes ? n_bytes : 64);
    if (!data) {
        rot_no_memory(err, n_bytes, what);
        return NULL;
    }
    if (huge) // advice: where it is refused, small pages do
        (void)madvise(data, (n_bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    memset(data, 0, n_bytes);
    return data;
}

int rot_host_check_packed(const rot_packed *packed, size_t n_bytes, rot_err *err)
{
    static const uint8_t only[sizeof packed->layout];
    if (packed->n_bytes == n_bytes && !memcmp(packed->layout, only, sizeof only)) return 0;
    ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "a packed weight of %zu bytes instead of %zu",
             packed->n_bytes, n_bytes);
}

int rot_host_buffer_new(rot_elem elem, size_t elem_bytes, size_t rows, size_t width,
                        rot_buffer **out, rot_err *err)
{
    size_t n_bytes;
    *out = NULL;
    if (__builtin_mul_overflow(rows, width, &n_bytes) ||
        __builtin_mul_overflow(n_bytes, elem_bytes, &n_bytes))
        return rot_no_memory(err, SIZE_MAX, "a buffer");
    rot_buffer *buffer = rot_calloc(1, sizeof *buffer);
    if (!buffer) return rot_no_memory(err, sizeof *buffer, "a buffer");
    *buffer = (rot_buffer){rot_host_alloc(n_bytes, "a buffer", err), elem, elem_bytes, rows, width};
    if (!buffer->data) {
        rot_free(buffer);
        return ROT_ERR_NO_MEMORY;
    }
    *out = buffer;
    return 0;
}

void rot_host_buffer_free(rot_buffer *buffer)
{
    if (!buffer) return;
    rot_free(buffer->data);
    rot_free(buffer);
}
