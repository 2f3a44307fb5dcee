// What the tower tells the device is kept until something else than a kernel or a product is asked
// for: a program. One that was told before, to the last argument, is replayed as a graph, which
// costs the processor one call. So that batches are alike, rows are counted in whole units and how
// many segments there are lies on the device.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/cuda/cuda.h"

enum { SHORTEST = 32 }; // a program of less is not worth a graph

size_t rot_cuda_whole_rows(const rot_cuda *cuda, size_t rows)
{
    const size_t smallest = cuda->info.chunk_rows >> 2 * (ROT_CUDA_SIZES - 1),
                 half = cuda->info.chunk_rows / 2, unit = rows > half ? half : smallest;
    return (rows + unit - 1) / unit * unit;
}

// Programs are compared by their bytes: of a launch, those that its kernel has.
static size_t args_bytes(rot_cuda_kernel kernel)
{
    switch (kernel) {
    case ROT_CUDA_NORM: return sizeof(rot_cuda_norm_args);
    case ROT_CUDA_EPILOGUE: return sizeof(rot_cuda_epilogue_args);
    case ROT_CUDA_SWIGLU: return sizeof(rot_cuda_swiglu_args);
    case ROT_CUDA_ROPE: return sizeof(rot_cuda_rope_args);
    default: return sizeof(rot_cuda_attention_args);
    }
}

static int add(rot_cuda *cuda, rot_cuda_work **work, rot_err *err)
{
    rot_cuda_program *p = &cuda->program;
    ROT_TRY(rot_grow(&p->works, &p->capacity, p->n + 1, sizeof *p->works, err));
    *work = &p->works[p->n++];
    memset(*work, 0, sizeof **work);
    return 0;
}

int rot_cuda_launch_later(rot_cuda *cuda, const rot_cuda_launch *launch, rot_err *err)
{
    rot_cuda_work *w;
    if (launch->grid_x == 0) return 0;
    ROT_TRY(add(cuda, &w, err));
    w->launch.kernel = launch->kernel;
    w->launch.grid_x = launch->grid_x;
    w->launch.grid_y = launch->grid_y;
    w->launch.warps = launch->warps;
    memcpy(&w->launch.args, &launch->args, args_bytes(launch->kernel));
    return 0;
}

int rot_cuda_multiply_later(rot_cuda *cuda, const rot_cuda_multiply *multiply, rot_err *err)
{
    rot_cuda_work *w;
    ROT_TRY(add(cuda, &w, err));
    w->multiply = *multiply;
    return 0;
}

static int issue(rot_cuda *cuda, const rot_cuda_program *p, rot_err *err)
{
    const rot_cuda_driver *d = cuda->driver;
    for (size_t i = 0; i < p->n; i++) {
        const rot_cuda_multiply *m = &p->works[i].multiply;
        ROT_TRY(m->product.rows ? d->multiply(cuda->device, &m->product, &cuda->ways[m->way].choice,
                                              m->in, m->weight, m->bias, m->out, err)
                                : d->launch(cuda->device, &p->works[i].launch, err));
    }
    return 0;
}

static bool same_program(const rot_cuda_program *a, const rot_cuda_program *b)
{
    return a->n == b->n && !memcmp(a->works, b->works, a->n * sizeof *a->works);
}

static void forget(rot_cuda *cuda, rot_cuda_program *p)
{
    if (p->graph) cuda->driver->forget(cuda->device, p->graph);
    rot_free(p->works);
    *p = (rot_cuda_program){0};
}

// The program that was told before, or in place of the one that was used longest ago.
static rot_cuda_program *remember(rot_cuda *cuda, bool *known)
{
    rot_cuda_program *oldest = &cuda->programs[0];
    for (int i = 0; i < ROT_CUDA_PROGRAMS; i++) {
        rot_cuda_program *p = &cuda->programs[i];
        *known = same_program(p, &cuda->program);
        if (*known) return p;
        if (p->used < oldest->used) oldest = p;
    }
    forget(cuda, oldest);
    *oldest = cuda->program;
    cuda->program = (rot_cuda_program){0};
    return oldest;
}

// A device that records nothing gets programs as they come; why stays in unrecorded.
static void record(rot_cuda *cuda, rot_cuda_program *p)
{
    rot_err *why = &cuda->unrecorded, ignored;
    cuda->records = cuda->driver->record(cuda->device, why) == 0;
    if (!cuda->records) return;
    const bool whole = issue(cuda, p, why) == 0;
    const bool ended = cuda->driver->recorded(cuda->device, &p->graph, whole ? why : &ignored) == 0;
    cuda->records = whole && ended;
    if (cuda->records || !p->graph) return;
    cuda->driver->forget(cuda->device, p->graph);
    p->graph = NULL;
}

int rot_cuda_flush(rot_cuda *cuda, rot_err *err)
{
    rot_cuda_program *p = &cuda->program;
    bool known = false;
    for (int i = 0; i < 2; i++) cuda->segments[i].in_program = false;
    if (p->n >= SHORTEST && cuda->records) {
        p = remember(cuda, &known);
        p->used = ++cuda->clock;
        cuda->program.n = 0;
        if (known && !p->graph) record(cuda, p);
        if (p->graph) {
            cuda->replays++;
            return cuda->driver->replay(cuda->device, p->graph, err);
        }
    }
    const int rc = issue(cuda, p, err);
    cuda->program.n = 0;
    return rc;
}

void rot_cuda_note(const rot_backend *backend, char *out, size_t capacity)
{
    const rot_cuda *cuda = (const rot_cuda *)backend;
    if (cuda->records)
        snprintf(out, capacity, "%" PRIu64 " replays of graphs", cuda->replays);
    else
        snprintf(out, capacity, "no graph can be made: %s", cuda->unrecorded.message);
}

void rot_cuda_programs_close(rot_cuda *cuda)
{
    for (int i = 0; i < ROT_CUDA_PROGRAMS; i++) forget(cuda, &cuda->programs[i]);
    forget(cuda, &cuda->program);
}
