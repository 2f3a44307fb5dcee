// Setting and passing on errors. See include/rotoscope/error.h for the codes.
#ifndef ROT_BASE_ERR_H
#define ROT_BASE_ERR_H

#include "rotoscope/error.h"

// Writes the message (cut at its capacity) and returns `code`. `err` may be NULL.
__attribute__((format(printf, 3, 4))) int rot_err_set(rot_err *err, int code, const char *format,
                                                      ...);
// Puts words before the message that is there: "shards/x.c: " + message. Returns err->code.
__attribute__((format(printf, 2, 3))) int rot_err_prefix(rot_err *err, const char *format, ...);
// From errno: ENOSPC and EDQUOT give ROT_ERR_NO_SPACE, ENOMEM ROT_ERR_NO_MEMORY, others ROT_ERR_IO;
// the message is `what`, `path` and strerror.
int rot_err_errno(rot_err *err, int error_number, const char *what, const char *path);

#define ROT_FAIL(err, code, ...) return rot_err_set(err, code, __VA_ARGS__)
#define ROT_TRY(expr)                                                                              \
    do {                                                                                           \
        int rc_ = (expr);                                                                          \
        if (rc_ < 0) return rc_;                                                                   \
    } while (0)
// The same in a function that owns something: `int rc` and a label `done` are in scope.
#define ROT_GO(expr)                                                                               \
    do {                                                                                           \
        rc = (expr);                                                                               \
        if (rc < 0) goto done;                                                                     \
    } while (0)
#define ROT_FAIL_GO(err, code, ...)                                                                \
    do {                                                                                           \
        rc = rot_err_set(err, code, __VA_ARGS__);                                                  \
        goto done;                                                                                 \
    } while (0)

#endif
