#include "pipeline/config_value.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/utf8.h"
#include "rotoscope/config.h"

enum { MAX_NAME = 100, MAX_FILES = 1 << 20 };

/* ---- what a plain scalar is ---------------------------------------------------------------- */

static size_t digits(const char *text)
{
    return strspn(text, "0123456789");
}

// JSON's numbers: no plus sign, no leading zeros, no hexadecimal.
static bool is_number(const rot_node *node, bool *whole)
{
    if (node->kind != ROT_NODE_SCALAR || node->quoted) return false;
    const char *at = node->text + (node->text[0] == '-');
    size_t n = digits(at);
    if (!n || (n > 1 && *at == '0')) return false;
    at += n;
    *whole = !*at;
    if (*at == '.') {
        if (!(n = digits(++at))) return false;
        at += n;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '+' || *at == '-') at++;
        if (!(n = digits(at))) return false;
        at += n;
    }
    return !*at;
}

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (!strcmp(text, *words)) return true;
    return false;
}

static const char *describe(const rot_node *node)
{
    static const char *const nothing[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const booleans[] = {"true", "True", "TRUE", "false", "False", "FALSE", NULL};
    bool whole;
    if (node->kind == ROT_NODE_MAP) return "a map";
    if (node->kind == ROT_NODE_LIST) return "a list";
    if (node->quoted) return "a string";
    if (is_one_of(node->text, nothing)) return "nothing";
    if (is_one_of(node->text, booleans)) return "a boolean";
    if (is_number(node, &whole)) return "a number";
    if (digits(node->text) &&
        (node->text[1] == 'x' || node->text[1] == 'o' || digits(node->text) == strlen(node->text)))
        return "a number in another notation"; // 0x1f, 020
    return "a string";
}

static bool is_string(const rot_node *node)
{
    return !strcmp(describe(node), "a string");
}

static int wrong_type(const rot_key *key, const char *prefix, const rot_node *node,
                      const char *wanted, rot_err *err)
{
    bool shown = node->kind == ROT_NODE_SCALAR && *node->text;
    ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s%s takes %s, not %s%s%.100s%s%s", node->where, prefix,
             key->name, wanted, describe(node), shown ? " (" : "", shown ? node->text : "",
             shown ? ")" : "", !strcmp(wanted, "a string") && shown ? "; put it in quotes" : "");
}

/* ---- scalars ------------------------------------------------------------------------------- */

static int no_memory(rot_err *err)
{
    return rot_no_memory(err, 0, "config");
}

static int read_number(const rot_key *key, const char *prefix, const rot_node *node, void *field,
                       rot_err *err)
{
    bool whole, wants_whole = key->type != ROT_KEY_NUMBER;
    if (!is_number(node, &whole) || (wants_whole && !whole))
        return wrong_type(key, prefix, node, wants_whole ? "an integer" : "a number", err);
    double value = strtod(node->text, NULL);
    if (!isfinite(value) || value < key->min || value > key->max)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s%s: %.100s is out of range (%.10g to %.10g)",
                 node->where, prefix, key->name, node->text, key->min, key->max);
    if (key->type == ROT_KEY_INTEGER)
        *(int *)field = (int)value;
    else if (key->type == ROT_KEY_COUNT)
        *(uint32_t *)field = (uint32_t)value;
    else
        *(double *)field = value;
    return 0;
}

static int read_bool(const rot_key *key, const char *prefix, const rot_node *node, bool *field,
                     rot_err *err)
{
    bool plain = node->kind == ROT_NODE_SCALAR && !node->quoted;
    bool is_true = plain && !strcmp(node->text, "true");
    if (!is_true && !(plain && !strcmp(node->text, "false")))
        return wrong_type(key, prefix, node, "true or false", err);
    *field = is_true;
    return 0;
}

static int read_color(const rot_key *key, const char *prefix, const rot_node *node,
                      uint8_t field[3], rot_err *err)
{
    unsigned rgb;
    if (!is_string(node)) return wrong_type(key, prefix, node, "a string \"#rrggbb\"", err);
    if (node->text[0] != '#' || strlen(node->text) != 7 ||
        strspn(node->text + 1, "0123456789abcdefABCDEF") != 6 ||
        sscanf(node->text + 1, "%6x", &rgb) != 1)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s%s: \"%.100s\" is no colour \"#rrggbb\"", node->where,
                 prefix, key->name, node->text);
    for (int i = 0; i < 3; i++) field[i] = (uint8_t)(rgb >> (16 - 8 * i));
    return 0;
}

int rot_value_word(const rot_key *key, const rot_node *node)
{
    for (int i = 0; i < ROT_KEY_MAX_WORDS && key->words[i]; i++)
        if (*key->words[i] && !strcmp(key->words[i], node->text)) return i;
    return -1;
}

static int read_word(const rot_key *key, const char *prefix, const rot_node *node, int *index,
                     rot_err *err)
{
    if (!is_string(node)) return wrong_type(key, prefix, node, "a word", err);
    *index = rot_value_word(key, node);
    if (*index >= 0) return 0;
    char list[256] = "";
    const char *nearest = "";
    size_t best = SIZE_MAX;
    for (int i = 0; i < ROT_KEY_MAX_WORDS && key->words[i]; i++) {
        size_t distance = rot_edit_distance(node->text, key->words[i]), n = strlen(list);
        if (!*key->words[i]) continue;
        snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", key->words[i]);
        if (distance >= best) continue;
        best = distance;
        nearest = key->words[i];
    }
    ROT_FAIL(err, ROT_ERR_CONFIG,
             "%s: %s%s: there is no '%.100s'; the nearest is '%s' (it takes one of %s)",
             node->where, prefix, key->name, node->text, nearest, list);
}

bool rot_value_is_name(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
    return n && n <= MAX_NAME && !text[n] && text[0] != '.';
}

static int read_string(const rot_key *key, const char *prefix, const rot_node *node,
                       const char **field, rot_err *err)
{
    if (!is_string(node)) return wrong_type(key, prefix, node, "a string", err);
    if (!*node->text && key->type != ROT_KEY_PLACE)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s%s is empty", node->where, prefix, key->name);
    if (key->type == ROT_KEY_NAME && !rot_value_is_name(node->text))
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: %s%s: '%.100s' names files: letters, digits, dot, dash and underscore alone, "
                 "no dot in front, at most %d",
                 node->where, prefix, key->name, node->text, MAX_NAME);
    *field = node->text; // in the same arena
    return 0;
}

/* ---- paths --------------------------------------------------------------------------------- */

static int resolve(const rot_node *node, rot_arena *arena, const char **out, rot_err *err)
{
    char path[PATH_MAX];
    if (node->text[0] == '/' || !*node->folder)
        snprintf(path, sizeof path, "%s", node->text);
    else if (!strcmp(node->text, ".")) // the root in the config of a dataset
        snprintf(path, sizeof path, "%s", node->folder);
    else
        ROT_TRY(rot_fs_join(path, sizeof path, node->folder, node->text, err));
    if (strlen(node->text) >= sizeof path)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: a path of over %d bytes", node->where, PATH_MAX);
    *out = rot_arena_strdup(arena, path);
    return *out ? 0 : no_memory(err);
}

static int read_folder(const rot_key *key, const char *prefix, const rot_node *node,
                       const char **field, rot_arena *arena, rot_err *err)
{
    ROT_TRY(read_string(key, prefix, node, field, err));
    if (key->type == ROT_KEY_PLACE && !**field) return 0;
    ROT_TRY(resolve(node, arena, field, err));
    bool is_file = key->type == ROT_KEY_FILE;
    if (key->type == ROT_KEY_ROOT || key->type == ROT_KEY_PLACE) return 0;
    if (is_file ? rot_fs_is_file(*field) : rot_fs_is_dir(*field)) return 0;
    ROT_FAIL(err, ROT_ERR_MISSING, "%s: %s%s: %s: no such %s", node->where, prefix, key->name,
             *field, is_file ? "file" : "folder");
}

// A list of paths while its length is not known.
typedef struct path_list {
    const char **paths;
    size_t n, capacity;
} path_list;

static int add_path(path_list *list, const char *path, rot_err *err)
{
    ROT_TRY(rot_grow(&list->paths, &list->capacity, list->n + 1, sizeof *list->paths, err));
    list->paths[list->n++] = path;
    return 0;
}

// The pattern with its folder, of which no character means anything to glob.
static int pattern_of(const rot_node *node, char *out, size_t capacity, rot_err *err)
{
    size_t n = 0;
    bool relative = node->text[0] != '/' && *node->folder;
    for (const char *at = relative ? node->folder : ""; *at && n + 3 < capacity; at++) {
        if (strchr("*?[]{}\\,", *at)) out[n++] = '\\';
        out[n++] = *at;
    }
    if (snprintf(out + n, capacity - n, "%s%s", relative ? "/" : "", node->text) <
        (int)(capacity - n))
        return 0;
    ROT_FAIL(err, ROT_ERR_CONFIG, "%s: a path of over %d bytes", node->where, PATH_MAX);
}

static int add_glob(path_list *list, const rot_key *key, const char *prefix, const rot_node *node,
                    rot_arena *arena, rot_err *err)
{
    char pattern[2 * PATH_MAX];
    glob_t found = {0};
    int rc = 0;
    ROT_TRY(pattern_of(node, pattern, sizeof pattern, err));
    int code = glob(pattern, GLOB_BRACE, NULL, &found);
    if (code == GLOB_NOSPACE) ROT_GO(no_memory(err));
    size_t before = list->n;
    for (size_t i = 0; !code && i < found.gl_pathc; i++) {
        if (!rot_fs_is_file(found.gl_pathv[i])) continue;
        const char *path = rot_arena_strdup(arena, found.gl_pathv[i]);
        if (!path) ROT_GO(no_memory(err));
        ROT_GO(add_path(list, path, err));
    }
    if (list->n == before)
        ROT_FAIL_GO(err, ROT_ERR_MISSING, "%s: %s%s: '%s' matches no file", node->where, prefix,
                    key->name, node->text);
done:
    globfree(&found);
    return rc;
}

static int add_file(path_list *list, const rot_key *key, const char *prefix, const rot_node *node,
                    rot_arena *arena, rot_err *err)
{
    const char *path;
    ROT_TRY(read_string(key, prefix, node, &path, err));
    ROT_TRY(resolve(node, arena, &path, err));
    if (rot_fs_is_file(path)) return add_path(list, path, err);
    if (strpbrk(node->text, "*?[{")) return add_glob(list, key, prefix, node, arena, err);
    ROT_FAIL(err, ROT_ERR_MISSING, "%s: %s%s: %s: no such file", node->where, prefix, key->name,
             path);
}

static int check_list(const rot_key *key, const char *prefix, const rot_node *node, rot_err *err)
{
    if (node->kind != ROT_NODE_LIST) return wrong_type(key, prefix, node, "a list of strings", err);
    if (!node->first)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s%s: the list is empty", node->where, prefix,
                 key->name);
    return 0;
}

static int read_files(const rot_key *key, const char *prefix, const rot_node *node,
                      rot_split_config *split, rot_arena *arena, rot_err *err)
{
    path_list list = {0};
    int rc = 0;
    ROT_GO(check_list(key, prefix, node, err));
    for (const rot_node *child = node->first; child; child = child->next)
        ROT_GO(add_file(&list, key, prefix, child, arena, err));
    if (list.n > MAX_FILES)
        ROT_FAIL_GO(err, ROT_ERR_CONFIG, "%s: %s%s: over %d files", node->where, prefix, key->name,
                    MAX_FILES);
    split->files = rot_arena_alloc(arena, list.n * sizeof *list.paths);
    if (!split->files) ROT_GO(no_memory(err));
    memcpy(split->files, list.paths, list.n * sizeof *list.paths);
    split->n_files = (int)list.n;
done:
    rot_free(list.paths);
    return rc;
}

// A word without a slash is a file beside the config if there is one of that name, else for the
// renderer to find.
static int read_font(const rot_key *key, const char *prefix, const rot_node *node,
                     const char **field, rot_arena *arena, rot_err *err)
{
    const char *path;
    char here[PATH_MAX];
    ROT_TRY(read_string(key, prefix, node, field, err));
    ROT_TRY(resolve(node, arena, &path, err));
    bool is_word = !strchr(node->text, '/'), is_file = rot_fs_is_file(path);
    if (is_word && !is_file) return 0;
    if (!is_file)
        ROT_FAIL(err, ROT_ERR_MISSING, "%s: %s%s: %s: no such file", node->where, prefix, key->name,
                 path);
    if (!strchr(path, '/')) { // stays a path when it is read again
        snprintf(here, sizeof here, "./%s", path);
        path = rot_arena_strdup(arena, here);
    }
    *field = path;
    return path ? 0 : no_memory(err);
}

static int read_fonts(const rot_key *key, const char *prefix, const rot_node *node,
                      rot_render_options *render, rot_arena *arena, rot_err *err)
{
    const char *fonts[ROT_MAX_FONTS];
    int n = 0;
    ROT_TRY(check_list(key, prefix, node, err));
    for (const rot_node *child = node->first; child; child = child->next) {
        if (n == ROT_MAX_FONTS)
            ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s%s: over %d fonts", node->where, prefix, key->name,
                     ROT_MAX_FONTS);
        ROT_TRY(read_font(key, prefix, child, &fonts[n++], arena, err));
    }
    memset(render->fonts, 0, sizeof render->fonts);
    memcpy(render->fonts, fonts, (size_t)n * sizeof *fonts);
    render->n_fonts = n;
    return 0;
}

int rot_value_read(const rot_key *key, const char *prefix, const rot_node *node, void *base,
                   rot_arena *arena, rot_err *err)
{
    void *field = (char *)base + key->offset;
    int index = 0;
    switch (key->type) {
    case ROT_KEY_STRING:
    case ROT_KEY_NAME: return read_string(key, prefix, node, field, err);
    case ROT_KEY_ROOT:
    case ROT_KEY_PLACE:
    case ROT_KEY_FILE:
    case ROT_KEY_FOLDER: return read_folder(key, prefix, node, field, arena, err);
    case ROT_KEY_FILES: return read_files(key, prefix, node, base, arena, err);
    case ROT_KEY_FONTS:
        return read_fonts(key, prefix, node, &((rot_config *)base)->render, arena, err);
    case ROT_KEY_INTEGER:
    case ROT_KEY_COUNT:
    case ROT_KEY_NUMBER: return read_number(key, prefix, node, field, err);
    case ROT_KEY_BOOL: return read_bool(key, prefix, node, field, err);
    case ROT_KEY_COLOR: return read_color(key, prefix, node, field, err);
    case ROT_KEY_PRESET: return read_word(key, prefix, node, &index, err);
    case ROT_KEY_ENUM:
        ROT_TRY(read_word(key, prefix, node, &index, err));
        memcpy(field, &index, sizeof index); // every enum is as wide as an int
        return 0;
    case ROT_KEY_WORD:
        ROT_TRY(read_word(key, prefix, node, &index, err));
        *(const char **)field = key->words[index];
        return 0;
    }
    return rot_err_set(err, ROT_ERR_INTERNAL, "%s: a key without a type", key->name);
}

/* ---- writing ------------------------------------------------------------------------------- */

void rot_value_quote(rot_str *out, const char *text)
{
    size_t n = strlen(text), at = 0;
    rot_str_add(out, "\"", 1);
    while (at < n) {
        size_t from = at;
        int32_t c = rot_utf8_next(text, n, &at);
        if (c < 0) c = (unsigned char)text[at++]; // a path of the file system that is no UTF-8
        bool breaks = c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
                      c == 0xfeff || c >= 0xfffe;
        if (c == '"' || c == '\\')
            rot_str_printf(out, "\\%c", (int)c);
        else if (breaks && c < 0x10000)
            rot_str_printf(out, "\\u%04x", (unsigned)c);
        else
            rot_str_add(out, text + from, at - from);
    }
    rot_str_add(out, "\"", 1);
}

static void write_path(rot_str *out, const char *path)
{
    char folder[PATH_MAX], absolute[2 * PATH_MAX];
    while (!strncmp(path, "./", 2) && path[2] && path[2] != '/') path += 2;
    if (!*path || path[0] == '/' || !getcwd(folder, sizeof folder)) {
        rot_value_quote(out, path);
        return;
    }
    snprintf(absolute, sizeof absolute, "%s/%s", strcmp(folder, "/") ? folder : "", path);
    rot_value_quote(out, absolute);
}

static void write_paths(rot_str *out, const char *const *paths, int n, bool words)
{
    rot_str_puts(out, "[");
    for (int i = 0; i < n; i++) {
        if (i) rot_str_puts(out, ", ");
        if (words && !strchr(paths[i], '/'))
            rot_value_quote(out, paths[i]);
        else
            write_path(out, paths[i]);
    }
    rot_str_puts(out, "]");
}

static void write_number(rot_str *out, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.15g", value);
    if (strtod(text, NULL) != value) snprintf(text, sizeof text, "%.17g", value);
    rot_str_puts(out, text);
}

void rot_value_write(const rot_key *key, const void *base, rot_str *out)
{
    const void *field = (const char *)base + key->offset;
    const rot_split_config *split = base;
    const rot_render_options *render = &((const rot_config *)base)->render;
    const uint8_t *rgb = field;
    int index;
    switch (key->type) {
    case ROT_KEY_STRING:
    case ROT_KEY_NAME: rot_value_quote(out, *(const char *const *)field); break;
    case ROT_KEY_ROOT:
    case ROT_KEY_PLACE:
    case ROT_KEY_FILE:
    case ROT_KEY_FOLDER: write_path(out, *(const char *const *)field); break;
    case ROT_KEY_FILES: write_paths(out, split->files, split->n_files, false); break;
    case ROT_KEY_FONTS: write_paths(out, render->fonts, render->n_fonts, true); break;
    case ROT_KEY_INTEGER: rot_str_printf(out, "%d", *(const int *)field); break;
    case ROT_KEY_COUNT: rot_str_printf(out, "%u", *(const uint32_t *)field); break;
    case ROT_KEY_NUMBER: write_number(out, *(const double *)field); break;
    case ROT_KEY_BOOL: rot_str_puts(out, *(const bool *)field ? "true" : "false"); break;
    case ROT_KEY_COLOR: rot_str_printf(out, "\"#%02x%02x%02x\"", rgb[0], rgb[1], rgb[2]); break;
    case ROT_KEY_ENUM:
        memcpy(&index, field, sizeof index);
        rot_str_puts(out, key->words[index]);
        break;
    case ROT_KEY_WORD: rot_str_puts(out, *(const char *const *)field); break;
    case ROT_KEY_PRESET: break;
    }
}
