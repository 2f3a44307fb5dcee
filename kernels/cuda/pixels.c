// Grey images to patch rows on the device: one upload of all bytes and weights, four passes over
// all images at once, then the patches.
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/cuda/buffer.h"
#include "kernels/cuda/cuda.h"

static size_t align(size_t n)
{
    return (n + 15) / 16 * 16;
}

// Where everything lies: pictures, table, then of each image bytes and tables of passes.
typedef struct layout {
    rot_cuda_picture *pictures; // (n), in the blob
    unsigned char *blob;
    size_t blob_bytes, scratch_bytes;
    uint32_t largest[ROT_PIXEL_PASSES]; // bytes that a pass makes of one image
} layout;

static size_t tables_bytes(const rot_pixel_pass *pass)
{
    return align((size_t)pass->n_out * (2 + (size_t)pass->stride) * sizeof(int32_t));
}

// Fills in one picture; with a blob also what it points at.
static void place(layout *l, const rot_pixel_image *image, rot_cuda_picture *p)
{
    int32_t width = image->width, height = image->height;
    const size_t n_bytes = (size_t)width * (size_t)height;
    size_t most[2] = {0, 0};
    p->bytes = l->blob_bytes;
    if (l->blob) memcpy(l->blob + p->bytes, image->bytes, n_bytes);
    l->blob_bytes += align(n_bytes);
    p->n_passes = image->n_passes;
    p->grid_w = image->grid_w;
    for (int i = 0; i < image->n_passes; i++) {
        const rot_pixel_pass *s = &image->passes[i];
        const size_t n_out = (size_t)s->n_out;
        p->passes[i] =
            (rot_cuda_pass){l->blob_bytes, s->n_in,      s->n_out,  s->columns ? height : width,
                            s->stride,     s->precision, s->columns};
        if (l->blob) {
            int32_t *to = (int32_t *)(void *)(l->blob + l->blob_bytes);
            memcpy(to, s->first, n_out * sizeof *to);
            memcpy(to + n_out, s->taps, n_out * sizeof *to);
            memcpy(to + 2 * n_out, s->weights, n_out * (size_t)s->stride * sizeof *to);
        }
        l->blob_bytes += tables_bytes(s);
        *(s->columns ? &width : &height) = s->n_out;
        const size_t made = (size_t)width * (size_t)height;
        if (made > most[i % 2]) most[i % 2] = made;
        if (made > l->largest[i]) l->largest[i] = (uint32_t)made;
    }
    for (int i = 0; i < 2; i++) {
        p->scratch[i] = l->scratch_bytes;
        l->scratch_bytes += align(most[i]);
    }
    p->width = width;
    p->height = height;
}

static void place_all(layout *l, const rot_pixel_image *images, size_t n, const rot_pixel_cut *cut)
{
    const size_t table = align(n * sizeof *l->pictures);
    int32_t row = 0;
    l->scratch_bytes = 0;
    l->blob_bytes = table + align(sizeof cut->table);
    if (l->blob) memcpy(l->blob + table, cut->table, sizeof cut->table);
    for (size_t i = 0; i < n; i++) {
        rot_cuda_picture ignored, *p = l->blob ? &l->pictures[i] : &ignored;
        place(l, &images[i], p);
        p->row = row;
        row += images[i].grid_h * images[i].grid_w;
    }
}

static int launch_all(rot_cuda *cuda, const layout *l, rot_cuda_pixels_args *args, size_t n,
                      uint32_t rows, rot_err *err)
{
    rot_cuda_launch launch = {.kernel = ROT_CUDA_RESAMPLE, .warps = 8, .grid_y = (uint32_t)n};
    for (args->pass = 0; args->pass < ROT_PIXEL_PASSES; args->pass++) {
        const uint32_t made = l->largest[args->pass];
        if (made == 0) continue;
        launch.args.pixels = *args;
        launch.grid_x = (made + 8 * ROT_WARP - 1) / (8 * ROT_WARP);
        ROT_TRY(cuda->driver->launch(cuda->device, &launch, err));
    }
    launch = (rot_cuda_launch){.kernel = ROT_CUDA_PATCHES, .warps = 4, .grid_x = rows, .grid_y = 1};
    launch.args.pixels = *args;
    return cuda->driver->launch(cuda->device, &launch, err);
}

int rot_cuda_cut(rot_backend *backend, const rot_pixel_image *images, size_t n,
                 const rot_pixel_cut *cut, rot_buffer *out, rot_err *err)
{
    rot_cuda *cuda = (rot_cuda *)backend;
    layout l = {0};
    int rc = 0;
    uint32_t rows = 0;
    ROT_TRY(rot_cuda_failed(cuda, err));
    ROT_TRY(rot_cuda_flush(cuda, err));
    if (n > 65535) ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "backend cuda: %zu images at once", n);
    place_all(&l, images, n, cut); // sizes alone
    const size_t blob_bytes = l.blob_bytes;
    l.blob = rot_aligned_malloc(blob_bytes);
    if (!l.blob) return rot_no_memory(err, blob_bytes, "images");
    l.pictures = (rot_cuda_picture *)(void *)l.blob;
    place_all(&l, images, n, cut);
    for (size_t i = 0; i < n; i++) rows += (uint32_t)(images[i].grid_h * images[i].grid_w);
    ROT_GO(rot_cuda_grow(cuda, (void **)&cuda->blob, &cuda->blob_bytes, blob_bytes, "images", err));
    ROT_GO(rot_cuda_grow(cuda, (void **)&cuda->scratch, &cuda->scratch_bytes, l.scratch_bytes,
                         "images", err));
    ROT_GO(rot_cuda_put_bytes(cuda, cuda->blob, l.blob, blob_bytes, err));
    const size_t table = align(n * sizeof *l.pictures);
    rot_cuda_pixels_args args = {.blob = cuda->blob,
                                 .scratch = cuda->scratch,
                                 .pictures = (const rot_cuda_picture *)(const void *)cuda->blob,
                                 .table = (const float *)(const void *)(cuda->blob + table),
                                 .out = out->data,
                                 .n = (int32_t)n,
                                 .patch_px = cut->patch_px,
                                 .temporal = cut->temporal,
                                 .merge = cut->merge,
                                 .background = cut->background};
    rc = launch_all(cuda, &l, &args, n, rows, err);
done:
    rot_free(l.blob);
    return rc;
}
