#include "trainer/checkpoint_config.h"

#include <stdio.h>
#include <string.h>

// A line of a config's text: its full key and its value.
typedef struct line {
    char key[128];
    const char *value;
    size_t n_value;
} line;

// Takes the next line that has a value; `section` is that of the lines behind it.
static bool next_line(const char **at, char section[64], line *out)
{
    while (**at) {
        const char *begin = *at, *end = strchrnul(begin, '\n'), *colon = strchr(begin, ':');
        *at = *end ? end + 1 : end;
        if (!colon || colon > end) continue;
        bool inner = *begin == ' ';
        begin += strspn(begin, " ");
        if (!inner) section[0] = 0;
        if (colon + 1 == end) {
            snprintf(section, 64, "%.*s.", (int)(colon - begin), begin);
            continue;
        }
        snprintf(out->key, sizeof out->key, "%s%.*s", section, (int)(colon - begin), begin);
        out->value = colon + 2 <= end ? colon + 2 : end;
        out->n_value = (size_t)(end - out->value);
        return true;
    }
    return false;
}

static bool may_change(const char *key)
{
    static const char *const keys[] = {
        "out",          "model.checkpoint", "model.adapter", "data.dataset", "rot.head",
        "train.epochs", "train.max_steps",  "checkpoint.",   "valid.",       "data.valid",
        "log."};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t n = strlen(keys[i]);
        if (keys[i][n - 1] == '.' ? !strncmp(key, keys[i], n) : !strcmp(key, keys[i])) return true;
    }
    return false;
}

static bool find(const char *text, const char *key, line *out)
{
    char section[64] = "";
    while (next_line(&text, section, out))
        if (!strcmp(out->key, key)) return true;
    return false;
}

// A key of `a` that `b` lacks or has otherwise.
static bool one_way(const char *a, const char *b, bool swapped, char *out, size_t capacity)
{
    char section[64] = "";
    for (line x, y; next_line(&a, section, &x);) {
        if (may_change(x.key)) continue;
        bool there = find(b, x.key, &y);
        if (there && x.n_value == y.n_value && !memcmp(x.value, y.value, x.n_value)) continue;
        if (!there) y = (line){.value = "not set", .n_value = 7};
        line before = swapped ? y : x, now = swapped ? x : y;
        snprintf(out, capacity, "%s was %.*s, now it is %.*s", x.key, (int)before.n_value,
                 before.value, (int)now.n_value, now.value);
        return true;
    }
    return false;
}

bool rot_config_difference(const char *before, const char *now, char *out, size_t capacity)
{
    return one_way(before, now, false, out, capacity) || one_way(now, before, true, out, capacity);
}
