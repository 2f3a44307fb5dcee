// npy, safetensors, png and jsonl.
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/str.h"
#include "pipeline/export.h"

/* ---- files that appear when they are whole -----------------------------------------------------
 */

typedef struct sink {
    FILE *file;
    const char *path;
    char tmp[PATH_MAX]; // empty: `path` is written to as it is, being no regular file
} sink;

// Standard output through its own descriptor: opening it anew would begin at another place of a
// file.
static int open_stdout(sink *s, rot_err *err)
{
    int fd = dup(STDOUT_FILENO);
    s->file = fd < 0 ? NULL : fdopen(fd, "w");
    if (s->file) return 0;
    int error = errno;
    if (fd >= 0) close(fd);
    return rot_err_errno(err, error, "open", s->path);
}

static int sink_open(sink *s, const char *path, rot_err *err)
{
    struct stat st;
    *s = (sink){.path = path};
    if (strcmp(path, "/dev/stdout") == 0) return open_stdout(s, err);
    bool there = stat(path, &st) == 0;
    if (there && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        ROT_FAIL(err, ROT_ERR_USAGE, "%s is there already", path);
    if (!there && snprintf(s->tmp, sizeof s->tmp, "%s.tmp", path) >= (int)sizeof s->tmp)
        ROT_FAIL(err, ROT_ERR_USAGE, "%.200s...: the path is too long", path);
    s->file = fopen(there ? path : s->tmp, "w");
    return s->file ? 0 : rot_err_errno(err, errno, "create", there ? path : s->tmp);
}

static int sink_write(sink *s, const void *bytes, size_t n, rot_err *err)
{
    if (n && fwrite(bytes, 1, n, s->file) != n) return rot_err_errno(err, errno, "write", s->path);
    return 0;
}

// Publishes the file if rc is 0, else removes it.
static int sink_end(sink *s, int rc, rot_err *err)
{
    if (!s->file) return rc;
    if (rc == 0 && (fflush(s->file) || (*s->tmp && fsync(fileno(s->file)))))
        rc = rot_err_errno(err, errno, "write", s->path);
    if (fclose(s->file) && rc == 0) rc = rot_err_errno(err, errno, "close", s->path);
    s->file = NULL;
    if (rc == 0 && *s->tmp && rename(s->tmp, s->path))
        rc = rot_err_errno(err, errno, "rename to", s->path);
    if (rc < 0 && *s->tmp) unlink(s->tmp);
    return rc;
}

static int new_folder(const char *path, rot_err *err)
{
    ROT_TRY(rot_fs_mkdirs(path, err));
    DIR *dir = opendir(path);
    if (!dir) return rot_err_errno(err, errno, "open folder", path);
    bool empty = true;
    for (struct dirent *e; (e = readdir(dir));) empty &= e->d_name[0] == '.';
    closedir(dir);
    if (!empty) ROT_FAIL(err, ROT_ERR_USAGE, "%s is there already, and is not empty", path);
    return 0;
}

/* ---- embeddings --------------------------------------------------------------------------------
 */

// What the array formats hold of a selection.
typedef struct arrays {
    int64_t *cu_seqlens, *index, *grid; // (n + 1), (n), (n, 2)
    size_t n;
    uint64_t rows; // sum of K
    uint32_t width;
    rot_dtype dtype;
} arrays;

static void arrays_free(arrays *a)
{
    rot_free(a->cu_seqlens);
    rot_free(a->index);
    rot_free(a->grid);
}

static int arrays_of(rot_reader *reader, const rot_selection *selection, arrays *a, rot_err *err)
{
    size_t n = selection->n;
    const rot_reader_info *info = rot_reader_get_info(reader);
    if (!info->has_embeds)
        ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s, split %s: no embeds are built", info->name,
                 info->split);
    a->n = n;
    a->width = info->embeds_width;
    a->dtype = info->embeds_dtype;
    a->cu_seqlens = rot_calloc(n + 1, 8);
    a->index = rot_calloc(n + 1, 8);
    a->grid = rot_calloc(n + 1, 16);
    if (!a->cu_seqlens || !a->index || !a->grid) return rot_no_memory(err, 32 * n, "export");
    for (size_t i = 0; i < n; i++) {
        rot_record record;
        ROT_TRY(rot_reader_peek(reader, "embeds", selection->samples[i], &record, err));
        a->index[i] = (int64_t)selection->samples[i];
        a->grid[2 * i] = record.shape[2];
        a->grid[2 * i + 1] = record.shape[3];
        a->cu_seqlens[i + 1] = a->cu_seqlens[i] + record.shape[0];
    }
    a->rows = (uint64_t)a->cu_seqlens[n];
    return 0;
}

static int write_embeddings(rot_reader *reader, const rot_selection *selection, const arrays *a,
                            sink *s, rot_err *err)
{
    rot_growing buffer = {0};
    int rc = 0;
    for (size_t i = 0; i < a->n; i++) {
        rot_record record;
        ROT_GO(rot_export_read(reader, "embeds", selection->samples[i], &buffer, &record, err));
        if (record.shape[0] != a->cu_seqlens[i + 1] - a->cu_seqlens[i] ||
            record.shape[1] != a->width || record.dtype != a->dtype)
            ROT_FAIL_GO(err, ROT_ERR_CORRUPT, "sample %lld: its shape or dtype is another",
                        (long long)a->index[i]);
        ROT_GO(sink_write(s, record.payload, record.n_bytes, err));
    }
done:
    rot_free(buffer.bytes);
    return rc;
}

static int write_npy_header(sink *s, const char *descr, uint64_t rows, uint64_t columns,
                            rot_err *err)
{
    char shape[64], dict[160], header[256];
    if (columns)
        snprintf(shape, sizeof shape, "(%llu, %llu)", (unsigned long long)rows,
                 (unsigned long long)columns);
    else
        snprintf(shape, sizeof shape, "(%llu,)", (unsigned long long)rows);
    snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr,
             shape);
    // Magic, version 1.0, length as u16, the dict padded so that data begin at a multiple of 64.
    int total = (int)((10 + strlen(dict) + 1 + 63) / 64 * 64);
    snprintf(header, sizeof header, "xNUMPYvvll%-*s\n", total - 11, dict);
    const unsigned char front[10] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)(total - 10), 0};
    memcpy(header, front, sizeof front);
    return sink_write(s, header, (size_t)total, err);
}

static int write_array(const char *dir, const char *name, const int64_t *values, uint64_t rows,
                       uint64_t columns, rot_err *err)
{
    char path[PATH_MAX];
    sink s = {0};
    ROT_TRY(rot_fs_join(path, sizeof path, dir, name, err));
    int rc = sink_open(&s, path, err);
    if (rc == 0) rc = write_npy_header(&s, "<i8", rows, columns, err);
    if (rc == 0) rc = sink_write(&s, values, 8 * rows * (columns ? columns : 1), err);
    return sink_end(&s, rc, err);
}

static int write_npy(rot_reader *reader, const rot_selection *selection, const char *output,
                     rot_err *err)
{
    int rc = 0;
    arrays a = {0};
    char path[PATH_MAX];
    sink s = {0};
    ROT_GO(arrays_of(reader, selection, &a, err));
    ROT_GO(new_folder(output, err));
    ROT_GO(write_array(output, "cu_seqlens.npy", a.cu_seqlens, a.n + 1, 0, err));
    ROT_GO(write_array(output, "index.npy", a.index, a.n, 0, err));
    ROT_GO(write_array(output, "grid.npy", a.grid, a.n, 2, err));
    ROT_GO(rot_fs_join(path, sizeof path, output, "embeddings.npy", err));
    rc = sink_open(&s, path, err);
    // The width of no samples at all is unknown, and (0, 0) is fine.
    if (rc == 0)
        rc = write_npy_header(&s, a.dtype == ROT_DTYPE_F32 ? "<f4" : "<u2", a.rows, a.width, err);
    if (rc == 0) rc = write_embeddings(reader, selection, &a, &s, err);
    rc = sink_end(&s, rc, err);
done:
    arrays_free(&a);
    return rc;
}

static int safetensors_header(const rot_reader_info *info, const arrays *a, rot_str *out,
                              rot_err *err)
{
    uint64_t at = 0, n = a->n, size = a->dtype == ROT_DTYPE_F32 ? 4 : 2;
    const struct {
        const char *name, *dtype;
        uint64_t rows, columns, bytes;
    } tensors[] = {{"cu_seqlens", "I64", n + 1, 0, 8 * (n + 1)},
                   {"index", "I64", n, 0, 8 * n},
                   {"grid", "I64", n, 2, 16 * n},
                   {"embeddings", a->dtype == ROT_DTYPE_F32 ? "F32" : "BF16", a->rows, a->width,
                    a->rows * a->width * size}};
    rot_str_puts(out, "{\"__metadata__\":{\"dataset\":");
    rot_str_json(out, info->name, strlen(info->name));
    rot_str_puts(out, ",\"split\":");
    rot_str_json(out, info->split, strlen(info->split));
    rot_str_printf(out, ",\"root\":\"%s\"}", info->root);
    for (int i = 0; i < 4; i++) {
        rot_str_printf(out, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%llu", tensors[i].name,
                       tensors[i].dtype, (unsigned long long)tensors[i].rows);
        if (i >= 2) rot_str_printf(out, ",%llu", (unsigned long long)tensors[i].columns);
        rot_str_printf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                       (unsigned long long)(at + tensors[i].bytes));
        at += tensors[i].bytes;
    }
    rot_str_puts(out, "}");
    while (!out->failed && out->n_bytes % 8) rot_str_puts(out, " ");
    return out->failed ? rot_no_memory(err, out->n_bytes, "header") : 0;
}

static int write_safetensors(rot_reader *reader, const rot_selection *selection, const char *output,
                             rot_err *err)
{
    int rc = 0;
    arrays a = {0};
    rot_str header = {0};
    sink s = {0};
    ROT_GO(arrays_of(reader, selection, &a, err));
    ROT_GO(safetensors_header(rot_reader_get_info(reader), &a, &header, err));
    ROT_GO(sink_open(&s, output, err));
    ROT_GO(sink_write(&s, &(uint64_t){header.n_bytes}, 8, err));
    ROT_GO(sink_write(&s, header.text, header.n_bytes, err));
    ROT_GO(sink_write(&s, a.cu_seqlens, 8 * (a.n + 1), err));
    ROT_GO(sink_write(&s, a.index, 8 * a.n, err));
    ROT_GO(sink_write(&s, a.grid, 16 * a.n, err));
    ROT_GO(write_embeddings(reader, selection, &a, &s, err));
done:
    rc = sink_end(&s, rc, err);
    rot_str_free(&header);
    arrays_free(&a);
    return rc;
}

/* ---- pictures, texts ---------------------------------------------------------------------------
 */

static int write_png(rot_reader *reader, const rot_selection *selection, const char *output,
                     rot_err *err)
{
    const rot_reader_info *info = rot_reader_get_info(reader);
    rot_growing buffer = {0};
    int rc = 0;
    if (!info->has_images)
        ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s, split %s: no images are built", info->name,
                 info->split);
    ROT_TRY(new_folder(output, err));
    for (size_t i = 0; i < selection->n; i++) {
        char name[32], path[PATH_MAX];
        rot_record record;
        snprintf(name, sizeof name, "%09llu.png", (unsigned long long)selection->samples[i]);
        ROT_GO(rot_fs_join(path, sizeof path, output, name, err));
        ROT_GO(rot_export_read(reader, "images", selection->samples[i], &buffer, &record, err));
        rot_image image = {record.payload, (int32_t)record.shape[0], (int32_t)record.shape[1],
                           (int32_t)record.shape[2]};
        ROT_GO(rot_image_write(&image, path, err));
    }
done:
    rot_free(buffer.bytes);
    return rc;
}

static void add_ids(rot_str *line, const char *name, const int32_t *ids, uint32_t n)
{
    rot_str_printf(line, ",\"%s\":[", name);
    for (uint32_t i = 0; i < n; i++) rot_str_printf(line, i ? ",%d" : "%d", (int)ids[i]);
    rot_str_puts(line, "]");
}

static int add_texts(rot_reader *reader, uint64_t sample, rot_growing *buffer, rot_str *line,
                     rot_err *err)
{
    rot_record record;
    rot_sample_texts t;
    ROT_TRY(rot_export_read(reader, "tokens", sample, buffer, &record, err));
    ROT_TRY(rot_reader_texts(&record, &t, err));
    const char *names[] = {"id", "question", "cot", "answer"}; // as the input calls them
    const char *texts[] = {t.id, t.question, t.trace, t.answer};
    const uint32_t n[] = {t.n_id, t.n_question, t.n_trace, t.n_answer};
    for (int i = 0; i < 4; i++) {
        rot_str_printf(line, ",\"%s\":", names[i]);
        rot_str_json(line, texts[i], n[i]);
    }
    add_ids(line, "question_ids", t.question_ids, t.n_question_ids);
    add_ids(line, "trace_ids", t.trace_ids, t.n_trace_ids);
    add_ids(line, "answer_ids", t.answer_ids, t.n_answer_ids);
    return 0;
}

static int add_sample(rot_reader *reader, uint64_t sample, rot_growing *buffer, rot_str *line,
                      rot_err *err)
{
    const rot_reader_info *info = rot_reader_get_info(reader);
    rot_record record;
    uint64_t row;
    ROT_TRY(rot_reader_row(reader, sample, &row, err));
    rot_str_printf(line, "{\"index\":%llu,\"row\":%llu", (unsigned long long)sample,
                   (unsigned long long)row);
    if (info->has_tokens) ROT_TRY(add_texts(reader, sample, buffer, line, err));
    if (info->has_images) {
        ROT_TRY(rot_reader_peek(reader, "images", sample, &record, err));
        rot_str_printf(line, ",\"width\":%u,\"height\":%u", record.shape[0], record.shape[1]);
    }
    if (info->has_embeds) {
        ROT_TRY(rot_reader_peek(reader, "embeds", sample, &record, err));
        rot_str_printf(line, ",\"K\":%u,\"grid\":[1,%u,%u]", record.shape[0], record.shape[2],
                       record.shape[3]);
    }
    rot_str_puts(line, "}\n");
    return line->failed ? rot_no_memory(err, line->n_bytes, "line") : 0;
}

static int write_jsonl(rot_reader *reader, const rot_selection *selection, const char *output,
                       rot_err *err)
{
    int rc = 0;
    rot_growing buffer = {0};
    rot_str line = {0};
    sink s = {0};
    ROT_TRY(sink_open(&s, output, err));
    for (size_t i = 0; i < selection->n; i++) {
        line.n_bytes = 0;
        ROT_GO(add_sample(reader, selection->samples[i], &buffer, &line, err));
        ROT_GO(sink_write(&s, line.text, line.n_bytes, err));
    }
done:
    rc = sink_end(&s, rc, err);
    rot_free(buffer.bytes);
    rot_str_free(&line);
    return rc;
}

rot_export_writer *rot_export_writer_of(const char *format)
{
    static const struct {
        const char *name;
        rot_export_writer *write;
    } formats[] = {{"npy", write_npy},
                   {"safetensors", write_safetensors},
                   {"png", write_png},
                   {"jsonl", write_jsonl}};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(format, formats[i].name) == 0) return formats[i].write;
    return NULL;
}
