// Writing. The header is known before the first byte of data, so everything streams.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"
#include "encoder/safetensors.h"

enum { BUFFER_BYTES = 1 << 20, PATH_BYTES = 4096 };

struct rot_safetensors_writer {
    int fd;
    size_t n_data, n_written; // bytes of all tensors; of those given so far
    size_t n_buffered;
    char path[PATH_BYTES], tmp[PATH_BYTES];
    unsigned char buffer[BUFFER_BYTES];
};

static int flush(rot_safetensors_writer *writer, const unsigned char *bytes, size_t n_bytes,
                 rot_err *err)
{
    for (size_t at = 0; at < n_bytes;) {
        ssize_t n = write(writer->fd, bytes + at, n_bytes - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return rot_err_errno(err, n < 0 ? errno : ENOSPC, "write", writer->tmp);
        at += (size_t)n;
    }
    return 0;
}

static int put(rot_safetensors_writer *writer, const void *bytes, size_t n_bytes, rot_err *err)
{
    if (n_bytes > BUFFER_BYTES - writer->n_buffered) {
        ROT_TRY(flush(writer, writer->buffer, writer->n_buffered, err));
        writer->n_buffered = 0;
        if (n_bytes >= BUFFER_BYTES) return flush(writer, bytes, n_bytes, err);
    }
    if (n_bytes) memcpy(writer->buffer + writer->n_buffered, bytes, n_bytes);
    writer->n_buffered += n_bytes;
    return 0;
}

static int tensor_bytes(const rot_tensor_decl *tensor, size_t *out, rot_err *err)
{
    size_t n = rot_tensor_type_bytes(tensor->type);
    if (!n || tensor->n_dims < 0 || tensor->n_dims > ROT_TENSOR_DIMS)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: a type or a shape that cannot be written", tensor->name);
    for (int i = 0; i < tensor->n_dims; i++)
        if (tensor->shape[i] < 0 || __builtin_mul_overflow(n, (size_t)tensor->shape[i], &n))
            ROT_FAIL(err, ROT_ERR_USAGE, "%s: its shape has no size", tensor->name);
    *out = n;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_names(const rot_tensor_decl *tensors, size_t n, rot_err *err)
{
    const char **names = rot_malloc(n * sizeof *names);
    if (!names) return rot_no_memory(err, n * sizeof *names, "names");
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        names[i] = tensors[i].name;
        size_t length = strlen(names[i]);
        if (rot_utf8_valid(names[i], length) != length || !strcmp(names[i], "__metadata__"))
            rc = rot_err_set(err, ROT_ERR_USAGE, "'%.200s' cannot be the name of a tensor",
                             names[i]);
    }
    if (n) qsort(names, n, sizeof *names, by_name);
    for (size_t i = 1; i < n && rc == 0; i++)
        if (!strcmp(names[i - 1], names[i]))
            rc = rot_err_set(err, ROT_ERR_USAGE, "two tensors are named %s", names[i]);
    rot_free(names);
    return rc;
}

static int make_header(const rot_tensor_decl *tensors, size_t n, rot_str *header, size_t *n_data,
                       rot_err *err)
{
    rot_str_puts(header, "{\"__metadata__\":{\"format\":\"pt\"}");
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t n_bytes = 0;
        ROT_TRY(tensor_bytes(&tensors[i], &n_bytes, err));
        rot_str_puts(header, ",");
        rot_str_json(header, tensors[i].name, strlen(tensors[i].name));
        rot_str_printf(header, ":{\"dtype\":\"%s\",\"shape\":[",
                       rot_tensor_type_name(tensors[i].type));
        for (int d = 0; d < tensors[i].n_dims; d++)
            rot_str_printf(header, "%s%lld", d ? "," : "", (long long)tensors[i].shape[d]);
        if (__builtin_add_overflow(at, n_bytes, &n_bytes))
            ROT_FAIL(err, ROT_ERR_USAGE, "%s: too large", tensors[i].name);
        rot_str_printf(header, "],\"data_offsets\":[%zu,%zu]}", at, n_bytes);
        at = n_bytes;
    }
    rot_str_puts(header, "}");
    while (header->n_bytes % 8 && !header->failed)
        rot_str_puts(header, " "); // the data start aligned
    if (header->failed) return rot_no_memory(err, header->n_bytes, "a safetensors header");
    *n_data = at;
    return 0;
}

int rot_safetensors_create(const char *path, const rot_tensor_decl *tensors, size_t n,
                           rot_safetensors_writer **out, rot_err *err)
{
    *out = NULL;
    rot_str header = {0};
    rot_safetensors_writer *writer = NULL;
    size_t n_data = 0;
    int rc = check_names(tensors, n, err);
    if (rc < 0) goto done;
    ROT_GO(make_header(tensors, n, &header, &n_data, err));
    writer = rot_malloc(sizeof *writer);
    if (!writer) {
        rc = rot_no_memory(err, sizeof *writer, path);
        goto done;
    }
    writer->fd = -1;
    writer->n_data = n_data;
    writer->n_written = writer->n_buffered = 0;
    ROT_GO(rot_fs_tmp_name(path, writer->tmp, PATH_BYTES, err));
    if (snprintf(writer->path, PATH_BYTES, "%s", path) >= PATH_BYTES)
        ROT_FAIL_GO(err, ROT_ERR_USAGE, "%.200s...: the path is too long", path);
    struct stat st; // a device or a folder must not be replaced
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        ROT_FAIL_GO(err, ROT_ERR_USAGE, "%s: not a regular file", path);
    writer->fd = open(writer->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (writer->fd < 0) {
        rc = rot_err_errno(err, errno, "create", writer->tmp);
        goto done;
    }
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header.n_bytes >> (8 * i));
    ROT_GO(put(writer, length, 8, err));
    ROT_GO(put(writer, header.text, header.n_bytes, err));
    *out = writer;
    writer = NULL;
done:
    rot_safetensors_abort(&writer);
    rot_str_free(&header);
    return rc;
}

int rot_safetensors_write(rot_safetensors_writer *writer, const void *bytes, size_t n_bytes,
                          rot_err *err)
{
    if (n_bytes > writer->n_data - writer->n_written)
        ROT_FAIL(err, ROT_ERR_INTERNAL, "%s: more data than were declared", writer->path);
    writer->n_written += n_bytes;
    return put(writer, bytes, n_bytes, err);
}

int rot_safetensors_finish(rot_safetensors_writer **handle, rot_err *err)
{
    rot_safetensors_writer *writer = *handle;
    char dir[PATH_BYTES];
    int rc = 0;
    if (writer->n_written != writer->n_data)
        ROT_FAIL_GO(err, ROT_ERR_INTERNAL, "%s: %zu bytes of data, %zu were declared", writer->path,
                    writer->n_written, writer->n_data);
    ROT_GO(flush(writer, writer->buffer, writer->n_buffered, err));
    if (fsync(writer->fd) < 0) {
        rc = rot_err_errno(err, errno, "sync", writer->tmp);
        goto done;
    }
    int fd = writer->fd;
    writer->fd = -1;
    if (close(fd) < 0)
        rc = rot_err_errno(err, errno, "close", writer->tmp);
    else if (rename(writer->tmp, writer->path) < 0)
        rc = rot_err_errno(err, errno, "rename to", writer->path);
    if (rc < 0) {
        unlink(writer->tmp);
        goto done;
    }
    rot_fs_dirname(writer->path, dir, sizeof dir);
    rc = rot_fs_sync_dir(dir, err);
done:
    rot_safetensors_abort(handle);
    return rc;
}

void rot_safetensors_abort(rot_safetensors_writer **handle)
{
    if (*handle && (*handle)->fd >= 0) {
        close((*handle)->fd);
        unlink((*handle)->tmp);
    }
    rot_free(*handle);
    *handle = NULL;
}
