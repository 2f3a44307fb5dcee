// rotoscope encode: image files in, one tensor per file out.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { KEY_GEOMETRY = 1, KEY_DTYPE, KEY_BACKEND, KEY_PIXELS, KEY_DEEPSTACK, KEY_PACK_CACHE };
enum { BATCH_IMAGES = 64, BATCH_PATCHES = 16384 }; // what is in memory at once

static const struct argp_option options[] = {
    {"model", 'm', "DIR", 0, "the checkpoint", 0},
    {"output", 'o', "OUT.safetensors", 0, "the file to write", 0},
    {"geometry", KEY_GEOMETRY, "NAME", 0, "released (default), patch16 or native", 0},
    {"dtype", KEY_DTYPE, "TYPE", 0, "bf16 (default) or f32: arithmetic and output", 0},
    {"backend", KEY_BACKEND, "NAME", 0, "auto (default), ref, onednn, amx or cuda", 0},
    {"deepstack", KEY_DEEPSTACK, 0, 0, "the deepstack taps too: STEM.deepstack.0, .1, ...", 0},
    {"pack-cache", KEY_PACK_CACHE, "DIR", 0, "keep packed weights there for later starts", 0},
    {"pixels", KEY_PIXELS, 0, 0, "write the tower's input instead: STEM.pixels and STEM.grid", 0},
    {0}};

typedef struct input {
    const char *path;
    char *stem;
    int32_t width_px, height_px;
    rot_grid grid;
} input;

typedef struct encode_args {
    rot_encoder_options encoder;
    const char *output;
    bool pixels;
    cli_common common;
    input *inputs;
    size_t n_inputs, capacity;
} encode_args;

// The file's name without its folder and its last ending, as Python's pathlib has it.
static char *stem_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    size_t n = dot && dot != name && dot[1] ? (size_t)(dot - name) : strlen(name);
    return strndup(name, n);
}

static void add_input(encode_args *args, const char *path)
{
    if (args->n_inputs == args->capacity) {
        args->capacity = args->capacity ? 2 * args->capacity : 64;
        args->inputs = realloc(args->inputs, args->capacity * sizeof *args->inputs);
    }
    char *stem = stem_of(path);
    if (!args->inputs || !stem) {
        fputs("rotoscope: out of memory\n", stderr);
        exit(1);
    }
    args->inputs[args->n_inputs++] = (input){.path = path, .stem = stem};
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    encode_args *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &args->common; return 0;
    case 'm': args->encoder.checkpoint = arg; return 0;
    case 'o': args->output = arg; return 0;
    case KEY_GEOMETRY:
        if (rot_geometry_parse(arg, &args->encoder.geometry) < 0)
            argp_error(state, "--geometry is released, patch16 or native, not '%s'", arg);
        return 0;
    case KEY_DTYPE:
        if (strcmp(arg, "bf16") && strcmp(arg, "f32"))
            argp_error(state, "--dtype is bf16 or f32, not '%s'", arg);
        args->encoder.dtype = !strcmp(arg, "f32") ? ROT_DTYPE_F32 : ROT_DTYPE_BF16;
        return 0;
    case KEY_BACKEND: args->encoder.backend = arg; return 0;
    case KEY_PIXELS: args->pixels = true; return 0;
    case KEY_PACK_CACHE: args->encoder.pack_cache = arg; return 0;
    case KEY_DEEPSTACK: args->encoder.deepstack = true; return 0;
    case ARGP_KEY_ARG: add_input(args, arg); return 0;
    case ARGP_KEY_END:
        if (!args->encoder.checkpoint) argp_error(state, "-m DIR is missing");
        if (!args->output) argp_error(state, "-o OUT.safetensors is missing");
        if (!args->n_inputs) argp_error(state, "which images?");
        if (args->pixels && args->encoder.deepstack)
            argp_error(state, "--pixels runs no tower: --deepstack has no effect");
        if (args->pixels && *args->encoder.pack_cache)
            argp_error(state, "--pixels runs no tower: --pack-cache has no effect");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int by_stem(const void *a, const void *b)
{
    return strcmp((*(const input *const *)a)->stem, (*(const input *const *)b)->stem);
}

// 0, or the exit code for two files whose tensors would have one name.
static int check_stems(const encode_args *args)
{
    const input **order = malloc(args->n_inputs * sizeof *order);
    if (!order) return 1;
    for (size_t i = 0; i < args->n_inputs; i++) order[i] = &args->inputs[i];
    qsort(order, args->n_inputs, sizeof *order, by_stem);
    int code = 0;
    for (size_t i = 1; i < args->n_inputs && !code; i++)
        if (!strcmp(order[i - 1]->stem, order[i]->stem))
            code = cli_usage("%s and %s: both would be the tensor '%s'", order[i - 1]->path,
                             order[i]->path, order[i]->stem);
    free(order);
    return code;
}

// Says what went wrong with a file; names it where the message does not.
static int fail_at(const input *at, const rot_err *err)
{
    if (strstr(err->message, at->path)) return cli_fail(err);
    fprintf(stderr, "rotoscope: %s: %s\n", at->path, err->message);
    return rot_exit_code(err->code);
}

// Sizes of all images, before anything is written.
static int measure(encode_args *args, const rot_preprocessor *preprocessor)
{
    for (size_t i = 0; i < args->n_inputs; i++) {
        input *at = &args->inputs[i];
        rot_image image = {0};
        rot_err err = {0};
        if (rot_image_read(at->path, &image, &err) < 0) return fail_at(at, &err);
        at->width_px = image.width_px;
        at->height_px = image.height_px;
        rot_image_release(&image);
        if (rot_geometry_grid(args->encoder.geometry, preprocessor, at->width_px, at->height_px,
                              &at->grid, &err) < 0)
            return fail_at(at, &err);
    }
    return 0;
}

static int read_again(const input *at, rot_image *out)
{
    rot_err err = {0};
    if (rot_image_read(at->path, out, &err) < 0) return fail_at(at, &err);
    if (out->width_px == at->width_px && out->height_px == at->height_px) return 0;
    fprintf(stderr, "rotoscope: %s: it changed while it was read\n", at->path);
    rot_image_release(out);
    return 1;
}

static size_t features(const rot_preprocessor *p)
{
    return (size_t)(3 * p->temporal * p->patch_px * p->patch_px);
}

// The embeddings of one image, then each tap.
static int declare_embeddings(const encode_args *args, const rot_encoder_info *info,
                              const input *at, rot_tensor_file *file, rot_err *err)
{
    const char *dtype = args->encoder.dtype == ROT_DTYPE_F32 ? "F32" : "BF16";
    const int64_t shape[] = {at->grid.k, info->out_width};
    for (int i = 0; i <= info->n_taps; i++) {
        char name[4096 + 32];
        if (i)
            snprintf(name, sizeof name, "%.4000s.deepstack.%d", at->stem, i - 1);
        else
            snprintf(name, sizeof name, "%.4000s", at->stem);
        if (rot_tensor_file_declare(file, name, dtype, shape, 2, err) < 0) return err->code;
    }
    return 0;
}

static int declare(const encode_args *args, const rot_encoder_info *info, rot_tensor_file *file,
                   rot_err *err)
{
    for (size_t i = 0; i < args->n_inputs; i++) {
        const input *at = &args->inputs[i];
        if (!args->pixels) {
            if (declare_embeddings(args, info, at, file, err) < 0) return err->code;
            continue;
        }
        char name[4096 + 16];
        const int64_t shape[] = {at->grid.n_patches, (int64_t)features(&info->preprocessor)},
                      three[] = {3};
        snprintf(name, sizeof name, "%.4000s.pixels", at->stem);
        if (rot_tensor_file_declare(file, name, "F32", shape, 2, err) < 0) return err->code;
        snprintf(name, sizeof name, "%.4000s.grid", at->stem);
        if (rot_tensor_file_declare(file, name, "I64", three, 1, err) < 0) return err->code;
    }
    return 0;
}

static int write_pixels(const encode_args *args, const rot_encoder_info *info,
                        rot_tensor_file *file, const volatile sig_atomic_t *stop)
{
    float *pixels = NULL;
    size_t capacity = 0;
    int code = 0;
    for (size_t i = 0; i < args->n_inputs && !code && !*stop; i++) {
        const input *at = &args->inputs[i];
        const size_t n_bytes =
            (size_t)at->grid.n_patches * features(&info->preprocessor) * sizeof *pixels;
        const int64_t grid[] = {1, at->grid.grid_h, at->grid.grid_w};
        rot_image image = {0};
        rot_err err = {0};
        if (n_bytes > capacity) {
            free(pixels);
            pixels = malloc(capacity = n_bytes);
        }
        if (!pixels) {
            code = cli_fail(&(rot_err){.code = ROT_ERR_NO_MEMORY, .message = "out of memory"});
            break;
        }
        if ((code = read_again(at, &image))) break;
        if (rot_geometry_pixels(args->encoder.geometry, &info->preprocessor, &image,
                                args->encoder.background, &at->grid, pixels, &err) < 0)
            code = fail_at(at, &err);
        else if (rot_tensor_file_write(file, pixels, n_bytes, &err) < 0 ||
                 rot_tensor_file_write(file, grid, sizeof grid, &err) < 0)
            code = cli_fail(&err);
        rot_image_release(&image);
    }
    free(pixels);
    return code;
}

// Images from `first` on that go into one call: fewer when they are large.
static size_t batch_size(const encode_args *args, size_t first)
{
    size_t n = 0;
    int64_t n_patches = 0;
    while (first + n < args->n_inputs && n < BATCH_IMAGES) {
        n_patches += args->inputs[first + n].grid.n_patches;
        if (n && n_patches > BATCH_PATCHES) break;
        n++;
    }
    return n;
}

// Rows (k, (1 + taps) d) of one image as 1 + taps tensors (k, d).
static int write_planes(const rot_encoder_info *info, size_t k, size_t plane_bytes,
                        const unsigned char *rows, rot_tensor_file *file, rot_err *err)
{
    size_t n_planes = (size_t)(1 + info->n_taps);
    if (n_planes == 1) return rot_tensor_file_write(file, rows, k * plane_bytes, err);
    for (size_t p = 0; p < n_planes; p++)
        for (size_t i = 0; i < k; i++)
            if (rot_tensor_file_write(file, rows + (i * n_planes + p) * plane_bytes, plane_bytes,
                                      err) < 0)
                return err->code;
    return 0;
}

static int write_batch(const encode_args *args, size_t first, size_t n,
                       const rot_encoder_info *info, rot_encoder *encoder, rot_tensor_file *file)
{
    rot_image images[BATCH_IMAGES] = {0};
    rot_grid grids[BATCH_IMAGES];
    rot_err err = {0};
    size_t n_bytes = 0,
           plane = (size_t)info->out_width * (args->encoder.dtype == ROT_DTYPE_F32 ? 4 : 2),
           row = plane * (size_t)(1 + info->n_taps);
    int code = 0;
    for (size_t i = 0; i < n && !code; i++) {
        grids[i] = args->inputs[first + i].grid;
        n_bytes += (size_t)grids[i].k * row;
        code = read_again(&args->inputs[first + i], &images[i]);
    }
    unsigned char *out = code ? NULL : malloc(n_bytes), *at = out;
    if (!code && !out)
        code = cli_fail(&(rot_err){.code = ROT_ERR_NO_MEMORY, .message = "out of memory"});
    if (!code && rot_encoder_encode(encoder, images, grids, n, out, &err) < 0)
        code = cli_fail(&err);
    for (size_t i = 0; i < n && !code; at += (size_t)grids[i++].k * row)
        if (write_planes(info, (size_t)grids[i].k, plane, at, file, &err) < 0)
            code = cli_fail(&err);
    free(out);
    for (size_t i = 0; i < n; i++)
        if (images[i].pixels) rot_image_release(&images[i]);
    return code;
}

static void print_note(void *user, const char *message)
{
    if (!((const encode_args *)user)->common.quiet) fprintf(stderr, "rotoscope: %s\n", message);
}

static int write_embeddings(const encode_args *args, const rot_encoder_info *info,
                            rot_tensor_file *file, const volatile sig_atomic_t *stop)
{
    rot_encoder *encoder = NULL;
    rot_err err = {0};
    rot_encoder_options opening = args->encoder;
    opening.note = print_note;
    opening.note_user = (void *)(uintptr_t)args;
    if (rot_encoder_open(&opening, &encoder, &err) < 0) return cli_fail(&err);
    int code = 0;
    for (size_t at = 0; at < args->n_inputs && !code && !*stop;) {
        size_t n = batch_size(args, at);
        code = write_batch(args, at, n, info, encoder, file);
        at += n;
        if (args->common.verbose && !code)
            fprintf(stderr, "%zu of %zu images\n", at, args->n_inputs);
    }
    rot_encoder_close(&encoder);
    return code;
}

static void print_json(const encode_args *args)
{
    for (size_t i = 0; i < args->n_inputs; i++) {
        const input *at = &args->inputs[i];
        json_t *line =
            json_pack("{s:s%, s:s%, s:i, s:i, s:i, s:[iii]}", "file", at->path, strlen(at->path),
                      "name", at->stem, strlen(at->stem), "width", at->width_px, "height",
                      at->height_px, "k", at->grid.k, "grid", 1, at->grid.grid_h, at->grid.grid_w);
        if (line && json_dumpf(line, stdout, JSON_COMPACT) == 0) putchar('\n');
        json_decref(line);
    }
}

static int encode(encode_args *args)
{
    const volatile sig_atomic_t *stop = cli_catch_signals();
    rot_encoder_info info;
    rot_tensor_file *file = NULL;
    rot_err err = {0};
    int code = check_stems(args);
    if (code) return code;
    if (rot_encoder_inspect(&args->encoder, false, &info, &err) < 0) return cli_fail(&err);
    if ((code = measure(args, &info.preprocessor))) return code;
    if (rot_tensor_file_new(args->output, &file, &err) < 0 || declare(args, &info, file, &err) < 0)
        code = cli_fail(&err);
    else
        code = args->pixels ? write_pixels(args, &info, file, stop)
                            : write_embeddings(args, &info, file, stop);
    if (!code && *stop) {
        fputs("rotoscope: stopped; nothing is written\n", stderr);
        code = rot_exit_code(ROT_ERR_STOPPED);
    }
    if (!code && rot_tensor_file_finish(&file, &err) < 0) code = cli_fail(&err);
    rot_tensor_file_abort(&file);
    if (!code && args->common.json) print_json(args);
    return code;
}

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "IMAGE...",
    .doc = "Encodes PNG, PGM or PPM images: one tensor [K, d] per file, named by the file's stem.",
    .children = cli_children};

int cli_encode(int argc, char **argv)
{
    encode_args args = {.encoder = rot_encoder_options_default()};
    argp_parse(&argp, argc, argv, 0, 0, &args);
    args.encoder.threads = args.common.threads;
    int code = encode(&args);
    for (size_t i = 0; i < args.n_inputs; i++) free(args.inputs[i].stem);
    free(args.inputs);
    return cli_done(code);
}
