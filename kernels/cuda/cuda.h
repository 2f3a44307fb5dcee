// Inside the CUDA backend: the host's part, which decides what a device does and in which order.
#ifndef ROT_KERNELS_CUDA_CUDA_H
#define ROT_KERNELS_CUDA_CUDA_H

#include "kernels/backends.h"
#include "kernels/cuda/driver.h"

// ---- load.c

// The table of librotoscope_cuda.so: ROT_CUDA_LIB if it is set, else beside the program or the
// library; not without an NVIDIA driver. It stays loaded. ROT_ERR_UNSUPPORTED and why.
int rot_cuda_load(const rot_cuda_driver **out, rot_err *err);
// The device of this process: that of its rank on this node (LOCAL_RANK, OMPI_COMM_WORLD_LOCAL_RANK
// or SLURM_LOCALID of a step), or the only one. ROT_ERR_UNSUPPORTED: this rank has none.
int rot_cuda_device_of_rank(const rot_cuda_driver *driver, int *device, rot_err *err);
void rot_cuda_identity(const rot_cuda_info *info, char identity[128]);

// ---- chunks.c

// A product is cut into chunks of fixed numbers of rows, all computed the same way, so that a row's
// bits do not depend on the batch: a quarter of the rows from each size to the next.
enum { ROT_CUDA_SIZES = 4 };
typedef struct rot_cuda_sizes {
    uint32_t largest;
    bool has[ROT_CUDA_SIZES]; // size i is largest >> 2 i; the first is always there
} rot_cuda_sizes;

// Rows of the next chunk where `left` are to do and the buffers have `room` for: the largest that
// is at least half full, else the smallest there is. 0: none has room.
uint32_t rot_cuda_next_chunk(const rot_cuda_sizes *sizes, size_t left, size_t room);
// Rows to allocate so that chunks of any size fit, at four times the width too (a merge). A vector,
// of one row, gets the smallest chunk.
size_t rot_cuda_padded(uint32_t largest, size_t rows);

// ---- cuda.c

enum { ROT_CUDA_PLACES = 16 };
enum {                   // events
    ROT_CUDA_LANDED = 0, // PLACES: the copy to the device has ended
    ROT_CUDA_LEFT = ROT_CUDA_LANDED + ROT_CUDA_PLACES, // PLACES: that from the landing place
    ROT_CUDA_READY = ROT_CUDA_LEFT + ROT_CUDA_PLACES,  // 2: what a slot sends is computed
    ROT_CUDA_SENT = ROT_CUDA_READY + 2                 // 2: and copied
};

// Segments and the tasks of attention over them: n, n_tasks and starts (n + 1), and from the middle
// on tasks (n_tasks, 2).
typedef struct rot_cuda_segments {
    int32_t *host, *device;
    size_t n_bytes;  // allocated
    int32_t n;       // < 0: nothing is there
    bool in_program; // the one that is told now has it
} rot_cuda_segments;

// A product to be done, by a way of rot_cuda.ways.
typedef struct rot_cuda_multiply {
    rot_cuda_product product; // rows 0: none
    size_t way;
    const uint16_t *in, *weight;
    const void *bias;
    void *out;
} rot_cuda_multiply;

// One of the two; every other byte is 0.
typedef struct rot_cuda_work {
    rot_cuda_launch launch;
    rot_cuda_multiply multiply;
} rot_cuda_work;

typedef struct rot_cuda_program {
    rot_cuda_work *works;
    size_t n, capacity;
    void *graph;   // of the device; NULL: told once, or not at all
    uint64_t used; // when
} rot_cuda_program;
enum { ROT_CUDA_PROGRAMS = 8 };

// Pinned memory for results on their way.
typedef struct rot_cuda_slot {
    void *host;
    size_t n_bytes;
} rot_cuda_slot;

// How products of one shape are computed; decided once.
typedef struct rot_cuda_way_of {
    rot_cuda_product product; // rows: of the largest chunk
    rot_cuda_choice choice;
    rot_cuda_sizes sizes;
} rot_cuda_way_of;

typedef struct rot_cuda {
    rot_backend base;
    const rot_cuda_driver *driver;
    rot_cuda_device *device;
    int index;
    rot_cuda_info info;
    uint64_t budget, used; // bytes of the device
    rot_err failed;        // what a call without a result met; code 0: nothing
    unsigned char *pinned, *landing; // ROT_CUDA_PLACES each
    unsigned next_place;
    rot_cuda_segments segments[2];
    rot_cuda_program program, programs[ROT_CUDA_PROGRAMS]; // told now, told before
    uint64_t clock;
    bool records;       // the device makes graphs
    rot_err unrecorded; // why it does not
    uint64_t replays;
    rot_cuda_slot slots[2];
    rot_cuda_way_of *ways;
    size_t n_ways, ways_capacity;
    float *sums; // (largest / 4, widest): of products whose epilogue is ours
    size_t sums_bytes;
    unsigned char *blob, *scratch; // of images that are cut
    size_t blob_bytes, scratch_bytes;
    void *taps;
    size_t taps_bytes;
} rot_cuda;

// On the table given; for tests too.
int rot_cuda_open(const rot_cuda_driver *driver, int device, int threads, rot_backend **out,
                  rot_err *err);
// Memory of the device within the budget. ROT_ERR_NO_MEMORY with both numbers.
int rot_cuda_alloc(rot_cuda *cuda, size_t n_bytes, const char *what, void **out, rot_err *err);
void rot_cuda_free(rot_cuda *cuda, void *memory, size_t n_bytes);
// At least n_bytes at *memory, which has *have: kept, or allocated anew without its contents.
int rot_cuda_grow(rot_cuda *cuda, void **memory, size_t *have, size_t n_bytes, const char *what,
                  rot_err *err);
// The error that a call without a result met before, if any.
int rot_cuda_failed(const rot_cuda *cuda, rot_err *err);
// Lets what follows write a buffer that was sent.
int rot_cuda_may_write(rot_cuda *cuda, rot_buffer *buffer, rot_err *err);
int rot_cuda_launch_rows(rot_cuda *cuda, rot_cuda_launch *launch, size_t warps_needed,
                         rot_err *err);

// ---- program.c

// Kernels and products are told when something else is asked for; that begins with a flush.
int rot_cuda_launch_later(rot_cuda *cuda, const rot_cuda_launch *launch, rot_err *err);
int rot_cuda_multiply_later(rot_cuda *cuda, const rot_cuda_multiply *multiply, rot_err *err);
int rot_cuda_flush(rot_cuda *cuda, rot_err *err);
void rot_cuda_flush_kept(rot_cuda *cuda); // its error is one of a call without a result
void rot_cuda_note(const rot_backend *backend, char *out, size_t capacity);
void rot_cuda_programs_close(rot_cuda *cuda);
// Rows to compute with, so that batches of nearly as many are told alike.
size_t rot_cuda_whole_rows(const rot_cuda *cuda, size_t rows);

// ---- staging.c

// To the device, in the order of what else it is given; `from` may be released afterwards.
int rot_cuda_put_bytes(rot_cuda *cuda, void *to, const void *from, size_t n_bytes, rot_err *err);
// n floats, rounded to bf16.
int rot_cuda_put_rounded(rot_cuda *cuda, uint16_t *to, const float *from, size_t n, rot_err *err);
// From the device, after all it was given before; waits.
int rot_cuda_fetch(rot_cuda *cuda, const void *from, void *to, size_t n_bytes, rot_err *err);
void rot_cuda_staging_close(rot_cuda *cuda);

// ---- linear.c

int rot_cuda_linear_new_bf16(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                             const uint16_t *weight, const float *bias, rot_linear **out,
                             rot_err *err);
int rot_cuda_linear_new(rot_backend *backend, size_t n_in, size_t n_out, rot_epilogue epilogue,
                        const float *weight, const float *bias, rot_linear **out, rot_err *err);
void rot_cuda_linear_free(rot_backend *backend, rot_linear *linear);
int rot_cuda_linear(rot_backend *backend, const rot_linear *linear, size_t rows,
                    const rot_buffer *in, rot_buffer *out, rot_err *err);

// ---- pixels.c

int rot_cuda_cut(rot_backend *backend, const rot_pixel_image *images, size_t n,
                 const rot_pixel_cut *cut, rot_buffer *out, rot_err *err);

#endif
