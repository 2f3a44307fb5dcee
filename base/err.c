#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int rot_err_set(rot_err *err, int code, const char *format, ...)
{
    if (!err) return code;
    va_list args;
    va_start(args, format);
    err->code = code;
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return code;
}

int rot_err_prefix(rot_err *err, const char *format, ...)
{
    if (!err) return ROT_ERR_INTERNAL;
    char old[sizeof err->message];
    memcpy(old, err->message, sizeof old);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof err->message)
        snprintf(err->message + n, sizeof err->message - (size_t)n, "%s", old);
    return err->code;
}

int rot_err_errno(rot_err *err, int error_number, const char *what, const char *path)
{
    int code = ROT_ERR_IO;
    if (error_number == ENOSPC || error_number == EDQUOT) code = ROT_ERR_NO_SPACE;
    if (error_number == ENOMEM) code = ROT_ERR_NO_MEMORY;
    return rot_err_set(err, code, "%s %s: %s", what, path, strerror(error_number));
}

int rot_exit_code(int code)
{
    switch (code) {
    case ROT_OK: return 0;
    case ROT_ERR_USAGE:
    case ROT_ERR_CONFIG:
    case ROT_ERR_MISSING:
    case ROT_ERR_UNSUPPORTED: return 2;
    case ROT_ERR_CORRUPT: return 3;
    case ROT_ERR_STOPPED: return 75;
    default: return 1;
    }
}

const char *rot_error_name(int code)
{
    static const char *const names[] = {
        "ok",        "usage",         "config",      "missing", "input",    "format",
        "too large", "missing glyph", "unsupported", "io",      "no space", "no memory",
        "locked",    "not found",     "corrupt",     "stopped", "internal"};
    int i = -code;
    return i >= 0 && i < (int)(sizeof names / sizeof *names) ? names[i] : "unknown";
}
