// A growing string. An append that finds no memory marks it failed; check once at the end.
#ifndef ROT_BASE_STR_H
#define ROT_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>

#include "rotoscope/error.h"

typedef struct rot_str {
    char *text; // NUL-terminated once anything was appended
    size_t n_bytes, capacity;
    bool failed;
} rot_str;

void rot_str_add(rot_str *str, const char *bytes, size_t n_bytes);
void rot_str_puts(rot_str *str, const char *text);
__attribute__((format(printf, 2, 3))) void rot_str_printf(rot_str *str, const char *format, ...);
// Appends `text` as a quoted JSON string (valid UTF-8 stays, control characters are escaped).
void rot_str_json(rot_str *str, const char *text, size_t n_bytes);
void rot_str_free(rot_str *str);
// Hands the text over (never NULL on success; the caller frees it) and empties the string.
int rot_str_take(rot_str *str, char **text, rot_err *err);

#endif
