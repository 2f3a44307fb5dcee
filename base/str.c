#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

static bool reserve(rot_str *str, size_t n_more)
{
    if (!str->failed &&
        rot_grow(&str->text, &str->capacity, str->n_bytes + n_more + 1, 1, NULL) < 0)
        str->failed = true;
    return !str->failed;
}

void rot_str_add(rot_str *str, const char *bytes, size_t n_bytes)
{
    if (!reserve(str, n_bytes)) return;
    if (n_bytes) memcpy(str->text + str->n_bytes, bytes, n_bytes);
    str->n_bytes += n_bytes;
    str->text[str->n_bytes] = 0;
}

void rot_str_puts(rot_str *str, const char *text)
{
    rot_str_add(str, text, strlen(text));
}

void rot_str_printf(rot_str *str, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0 && reserve(str, (size_t)n)) {
        vsnprintf(str->text + str->n_bytes, (size_t)n + 1, format, again);
        str->n_bytes += (size_t)n;
    }
    va_end(again);
}

void rot_str_json(rot_str *str, const char *text, size_t n_bytes)
{
    rot_str_add(str, "\"", 1);
    for (size_t i = 0, from = 0; i <= n_bytes; i++) {
        unsigned char c = i < n_bytes ? (unsigned char)text[i] : 0;
        bool plain = i < n_bytes && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f;
        if (plain) continue;
        rot_str_add(str, text + from, i - from);
        from = i + 1;
        if (i == n_bytes) break;
        if (c == '"' || c == '\\')
            rot_str_printf(str, "\\%c", c);
        else if (c == '\n')
            rot_str_puts(str, "\\n");
        else if (c == '\t')
            rot_str_puts(str, "\\t");
        else if (c == '\r')
            rot_str_puts(str, "\\r");
        else
            rot_str_printf(str, "\\u%04x", c);
    }
    rot_str_add(str, "\"", 1);
}

void rot_str_free(rot_str *str)
{
    rot_free(str->text);
    *str = (rot_str){0};
}

int rot_str_take(rot_str *str, char **text, rot_err *err)
{
    rot_str_add(str, "", 0);
    if (str->failed) {
        rot_str_free(str);
        return rot_no_memory(err, 0, "text");
    }
    *text = str->text;
    *str = (rot_str){0};
    return 0;
}
