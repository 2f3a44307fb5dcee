// The backend with tiles of AMX: bfloat16 products, and float32 ones as six products of bfloat16
// parts (parts.h). A left factor is cut into tiles for each product, weights lie in panels.
#include "base/err.h"
#include "kernels/train/panels.h"

#ifdef __x86_64__
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/train/amx.h"

typedef struct amx {
    rot_train_host host;
    rot_train_amx_run *run;
} amx;

enum { BLOCK = 32, GROUP = 8 };

static int parts_of(const rot_train *train)
{
    return train->precision == ROT_PRECISION_BF16 ? 1 : ROT_PARTS_F32;
}

static size_t blocks(size_t n)
{
    return (n + BLOCK - 1) / BLOCK;
}

static size_t left_words(const rot_train *train, size_t rows, size_t k)
{
    return blocks(rows) * blocks(k) * (size_t)parts_of(train) * ROT_PART_WORDS;
}

static void multiply(const amx *t, const rot_train_amx_product *p, uint32_t *space)
{
    int threads = t->host.base.threads;
    size_t n_panels = rot_panels(p->n);
    size_t chunks = (p->m + ROT_TRAIN_AMX_ROWS - 1) / ROT_TRAIN_AMX_ROWS;
    size_t rows = (blocks(p->m) + chunks - 1) / chunks * BLOCK;  // chunks alike
    size_t pieces = (4 * (size_t)threads + chunks - 1) / chunks; // about four tasks a thread
    size_t group = (n_panels + pieces - 1) / pieces;
    if (group > GROUP) group = GROUP;
    size_t groups = (n_panels + group - 1) / group;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (size_t i = 0; i < groups * chunks; i++) {
        size_t row = i / groups * rows, panel = i % groups * group;
        t->run(p, row, row + rows < p->m ? row + rows : p->m, panel,
               panel + group < n_panels ? panel + group : n_panels,
               space + (size_t)omp_get_thread_num() * ROT_TRAIN_AMX_SPACE);
    }
}

// x (rows, k) as a left factor.
static void left(const rot_train *train, size_t rows, size_t k, const float *x, size_t stride,
                 uint32_t *out)
{
    int parts = parts_of(train);
    size_t block_words = blocks(k) * (size_t)parts * ROT_PART_WORDS;
#pragma omp parallel for schedule(static) num_threads(train->threads) if (rows * k > 32768)
    for (size_t r = 0; r < rows; r++)
        rot_parts_row(parts, x + r * stride, k, out + r / BLOCK * block_words + r % BLOCK * 16);
}

// y = x b, b of n columns.
static int product(rot_train *train, size_t rows, size_t k, size_t n, const float *x,
                   size_t x_stride, const uint32_t *b, const float *bias, bool add, float *y,
                   size_t y_stride, rot_err *err)
{
    if (!rows) return 0;
    size_t words = left_words(train, rows, k);
    uint32_t *space = rot_train_space(
        (rot_train_host *)train, (words + (size_t)train->threads * ROT_TRAIN_AMX_SPACE) * 4, err);
    if (!space) return ROT_ERR_NO_MEMORY;
    left(train, rows, k, x, x_stride, space);
    multiply((const amx *)train,
             &(rot_train_amx_product){parts_of(train), rows, n, blocks(k), space, b,
                                      rot_panel_stride(train, k), bias, y, y_stride, add},
             space + words);
    return 0;
}

static int linear(rot_train *train, const rot_train_weight *w, size_t rows, const float *x,
                  size_t x_stride, const float *bias, bool add, float *y, size_t y_stride,
                  rot_err *err)
{
    return product(train, rows, w->n_in, w->n_out, x, x_stride, w->forward, bias, add, y, y_stride,
                   err);
}

static int linear_back(rot_train *train, rot_train_weight *w, size_t rows, const float *dy,
                       size_t dy_stride, bool add, float *dx, size_t dx_stride, rot_err *err)
{
    ROT_TRY(rot_panels_backward(train, w, err));
    return product(train, rows, w->n_out, w->n_in, dy, dy_stride, w->backward, NULL, add, dx,
                   dx_stride, err);
}

// The columns of x (rows, m) as a left factor's rows.
static void left_turned(const rot_train *train, size_t rows, size_t m, const float *x,
                        size_t stride, uint32_t *out)
{
    int parts = parts_of(train);
    size_t k_blocks = blocks(rows), each = (size_t)parts * ROT_PART_WORDS;
#pragma omp parallel for collapse(2) schedule(static)                                              \
    num_threads(train->threads) if (rows * m > 32768)
    for (size_t k = 0; k < k_blocks; k++)
        for (size_t i = 0; i < m; i += 16)
            rot_parts_columns(parts, x + k * BLOCK * stride + i, stride,
                              rows - k * BLOCK < BLOCK ? rows - k * BLOCK : BLOCK,
                              m - i < 16 ? m - i : 16,
                              out + (i / BLOCK * k_blocks + k) * each + i % BLOCK * 16);
}

static int outer(rot_train *train, size_t rows, size_t m, size_t n, const float *a, size_t a_stride,
                 const float *b, size_t b_stride, float *dw, size_t dw_stride, rot_err *err)
{
    if (!rows) return 0;
    size_t panel = rot_panel_stride(train, rows), left_n = left_words(train, m, rows);
    size_t right_n = rot_panels(n) * panel;
    uint32_t *space =
        rot_train_space((rot_train_host *)train,
                        (left_n + right_n + (size_t)train->threads * ROT_TRAIN_AMX_SPACE) * 4, err);
    if (!space) return ROT_ERR_NO_MEMORY;
    uint32_t *right = space + left_n;
    left_turned(train, rows, m, a, a_stride, space);
    size_t used = rot_panel_units(train, rows) * ROT_PANEL_COLUMNS;
    for (size_t j = 0; used < panel && j < rot_panels(n); j++)
        memset(right + j * panel + used, 0, (panel - used) * sizeof *right);
    rot_panels_pack_blocks(train, rows, n, b, b_stride, ROT_PANEL_COLUMNS, right, panel);
    multiply((const amx *)train,
             &(rot_train_amx_product){parts_of(train), m, n, blocks(rows), space, right, panel,
                                      NULL, dw, dw_stride, true},
             right + right_n);
    return 0;
}

static int open_with(rot_train_amx_run *run, const char *identity, const rot_cpu *cpu,
                     rot_train **out, rot_err *err)
{
    rot_train_ops ops;
    rot_panels_ops(&ops);
    ops.linear = linear;
    ops.linear_back = linear_back;
    ops.outer = outer;
    ROT_TRY(rot_train_host_new(sizeof(amx), cpu, &rot_train_rows_avx512, &ops, identity, out, err));
    ((amx *)*out)->run = run;
    return 0;
}

int rot_train_amx_open(const rot_cpu *cpu, rot_precision precision, rot_train **out, rot_err *err)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    (void)precision;
    if (!cpu->amx)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "amx: this processor (%s) lacks AMX%s", cpu->name,
                 getenv("ROT_CPU") ? ", or ROT_CPU forbids it" : "");
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA)) // for the whole process
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "amx: the system does not grant the use of tiles");
    return open_with(rot_train_amx_real, "amx", cpu, out, err);
}

int rot_train_amx_emulated_open(const rot_cpu *cpu, rot_precision precision, rot_train **out,
                                rot_err *err)
{
    (void)precision;
    if (!cpu->avx512)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "amx: this processor (%s) lacks AVX-512 to emulate it",
                 cpu->name);
    return open_with(rot_train_amx_emulated, "amx emulated", cpu, out, err);
}

#else

int rot_train_amx_open(const rot_cpu *cpu, rot_precision precision, rot_train **out, rot_err *err)
{
    (void)cpu, (void)precision, (void)out;
    ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "amx: not in this build");
}

int rot_train_amx_emulated_open(const rot_cpu *cpu, rot_precision precision, rot_train **out,
                                rot_err *err)
{
    return rot_train_amx_open(cpu, precision, out, err);
}
#endif
