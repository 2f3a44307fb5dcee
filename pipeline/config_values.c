#include "pipeline/config_values.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/str.h"

bool rot_preset(const char *name, rot_render_options *out)
{
    *out = rot_render_options_default();
    if (!strcmp(name, "rot-paper")) return true;
    out->size_px = 16;
    out->newline = ROT_NEWLINE_KEEP;
    return !strcmp(name, "rot-released");
}

const char *rot_path_from(rot_arena *arena, const char *folder, const char *path)
{
    char joined[8200];
    if (path[0] == '/' || !*folder) return rot_arena_strdup(arena, path);
    snprintf(joined, sizeof joined, "%s/%s", folder, path);
    return rot_arena_strdup(arena, joined);
}

// What YAML's core schema takes a plain word for.
typedef enum plain { PLAIN_STRING, PLAIN_INTEGER, PLAIN_FLOAT, PLAIN_BOOL, PLAIN_NULL } plain;

static plain kind_of(const rot_node *node)
{
    const char *t = node->text, *s = t;
    if (node->quoted) return PLAIN_STRING;
    if (!*t || !strcmp(t, "~") || !strcmp(t, "null")) return PLAIN_NULL;
    if (!strcmp(t, "true") || !strcmp(t, "false")) return PLAIN_BOOL;
    if (*s == '+' || *s == '-') s++;
    size_t whole = strspn(s, "0123456789");
    s += whole;
    if (whole && !*s) return PLAIN_INTEGER;
    size_t part = 0;
    if (*s == '.') {
        s++;
        part = strspn(s, "0123456789");
        s += part;
    }
    if (!whole && !part) return PLAIN_STRING;
    if (*s == 'e' || *s == 'E') {
        s++;
        if (*s == '+' || *s == '-') s++;
        size_t exponent = strspn(s, "0123456789");
        if (!exponent) return PLAIN_STRING;
        s += exponent;
    }
    return *s ? PLAIN_STRING : PLAIN_FLOAT;
}

static int wrong(const rot_node *v, const char *name, const char *wanted, rot_err *err)
{
    static const char *const kinds[] = {"a string", "an integer", "a number", "a boolean", "nothing"};
    const char *is = v->kind == ROT_NODE_MAP    ? "a map"
                     : v->kind == ROT_NODE_LIST ? "a list"
                                                : kinds[kind_of(v)];
    ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s takes %s, not %s", v->where, name, wanted, is);
}

static int out_of_range(const rot_node *v, const char *name, const rot_key *key, rot_err *err)
{
    ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s: %s is not from %.15g to %.15g", v->where, name, v->text,
             key->min, key->max);
}

static int set_number(void *field, const rot_key *key, const char *name, const rot_node *v, rot_err *err)
{
    bool whole = key->type != ROT_KEY_NUMBER;
    if (v->kind != ROT_NODE_SCALAR || (kind_of(v) != PLAIN_INTEGER && (whole || kind_of(v) != PLAIN_FLOAT)))
        return wrong(v, name, whole ? "an integer" : "a number", err);
    double number = strtod(v->text, NULL);
    if (!(number >= key->min && number <= key->max)) return out_of_range(v, name, key, err);
    if (key->type == ROT_KEY_NUMBER) memcpy(field, &number, sizeof number);
    else if (key->type == ROT_KEY_INTEGER) memcpy(field, &(int){(int)number}, sizeof(int));
    else memcpy(field, &(uint32_t){(uint32_t)number}, sizeof(uint32_t));
    return 0;
}

static int set_word(void *field, const rot_key *key, const char *name, const rot_node *v, rot_err *err)
{
    rot_str words = {0};
    if (v->kind != ROT_NODE_SCALAR || kind_of(v) != PLAIN_STRING) return wrong(v, name, "a word", err);
    for (int i = 0; i < 8 && key->words[i]; i++) {
        if (!*key->words[i]) continue;
        if (!strcmp(v->text, key->words[i])) {
            if (key->type == ROT_KEY_WORD) memcpy(field, &key->words[i], sizeof(char *));
            else memcpy(field, &i, sizeof i);
            rot_str_free(&words);
            return 0;
        }
        rot_str_printf(&words, "%s%s", words.n_bytes ? ", " : "", key->words[i]);
    }
    int rc = rot_err_set(err, ROT_ERR_CONFIG, "%s: %s: '%s' is not one of %s", v->where, name, v->text,
                         words.text ? words.text : "");
    rot_str_free(&words);
    return rc;
}

static int set_color(void *field, const char *name, const rot_node *v, rot_err *err)
{
    if (v->kind != ROT_NODE_SCALAR || kind_of(v) != PLAIN_STRING)
        return wrong(v, name, "a colour such as \"#000000\"", err);
    if (v->text[0] != '#' || strlen(v->text) != 7 || strspn(v->text + 1, "0123456789abcdefABCDEF") != 6)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s: '%s' is no colour such as \"#000000\"", v->where, name,
                 v->text);
    unsigned long rgb = strtoul(v->text + 1, NULL, 16);
    uint8_t bytes[3] = {(uint8_t)(rgb >> 16), (uint8_t)(rgb >> 8), (uint8_t)rgb};
    memcpy(field, bytes, 3);
    return 0;
}

static int string_of(const rot_node *v, const char *name, rot_err *err)
{
    if (v->kind != ROT_NODE_SCALAR || kind_of(v) != PLAIN_STRING)
        return wrong(v, name, "a string (quote it if it looks like a number)", err);
    if (!*v->text) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s is empty", v->where, name);
    return 0;
}

static int set_string(rot_arena *arena, void *field, const rot_key *key, const char *name,
                      const rot_node *v, rot_err *err)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    ROT_TRY(string_of(v, name, err));
    if (key->type == ROT_KEY_NAME && (strspn(v->text, letters) != strlen(v->text) || v->text[0] == '.' ||
                                      strlen(v->text) > 200))
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s: '%s' is used as a file name: letters, digits, dash, underscore and dot",
                 v->where, name, v->text);
    const char *text = key->type == ROT_KEY_FOLDER ? rot_path_from(arena, v->folder, v->text)
                                                   : rot_arena_strdup(arena, v->text);
    if (!text) return rot_no_memory(err, 0, "config");
    memcpy(field, &text, sizeof text);
    return 0;
}

static int set_fonts(rot_arena *arena, rot_render_options *render, const char *name, const rot_node *v,
                     rot_err *err)
{
    if (v->kind != ROT_NODE_LIST) return wrong(v, name, "a list of fonts", err);
    int n = 0;
    for (const rot_node *item = v->first; item; item = item->next) {
        ROT_TRY(string_of(item, name, err));
        if (n == ROT_MAX_FONTS)
            ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s: more than %d fonts", item->where, name, ROT_MAX_FONTS);
        // A word is a file beside the config, else a file name or a family that the renderer looks up.
        const char *path = rot_path_from(arena, item->folder, item->text);
        const char *word = rot_arena_strdup(arena, item->text);
        if (!path || !word) return rot_no_memory(err, 0, "config");
        render->fonts[n++] = strchr(item->text, '/') || rot_fs_is_file(path) ? path : word;
    }
    if (!n) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s is empty", v->where, name);
    render->n_fonts = n;
    return 0;
}

static int add_file(rot_arena *arena, const char ***files, int *n, const char *path, rot_err *err)
{
    // The list grows by copying: splits have few files.
    const char **longer = rot_arena_alloc(arena, ((size_t)*n + 1) * sizeof *longer);
    const char *copy = rot_arena_strdup(arena, path);
    if (!longer || !copy) return rot_no_memory(err, 0, "config");
    if (*n) memcpy(longer, *files, (size_t)*n * sizeof *longer);
    longer[(*n)++] = copy;
    *files = longer;
    return 0;
}

static int set_files(rot_arena *arena, rot_split_config *split, const char *name, const rot_node *v,
                     rot_err *err)
{
    if (v->kind != ROT_NODE_LIST) return wrong(v, name, "a list of files", err);
    split->files = NULL;
    split->n_files = 0;
    for (const rot_node *item = v->first; item; item = item->next) {
        ROT_TRY(string_of(item, name, err));
        const char *path = rot_path_from(arena, item->folder, item->text);
        if (!path) return rot_no_memory(err, 0, "config");
        glob_t matches = {0};
        bool is_glob = !rot_fs_is_file(path) && strpbrk(item->text, "*?[{");
        if (is_glob && glob(path, GLOB_BRACE, NULL, &matches) == 0) {
            int rc = 0;
            for (size_t i = 0; rc == 0 && i < matches.gl_pathc; i++)
                rc = add_file(arena, &split->files, &split->n_files, matches.gl_pathv[i], err);
            globfree(&matches);
            ROT_TRY(rc);
            continue;
        }
        if (!rot_fs_is_file(path))
            ROT_FAIL(err, ROT_ERR_MISSING, "%s: %s: %s: %s", item->where, name, path,
                     is_glob ? "matches no file" : "no such file");
        ROT_TRY(add_file(arena, &split->files, &split->n_files, path, err));
    }
    if (!split->n_files) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s is empty", v->where, name);
    return 0;
}

int rot_value_set(rot_arena *arena, void *base, const rot_key *key, const char *name, const rot_node *v,
                  rot_err *err)
{
    void *field = (char *)base + key->offset;
    switch (key->type) {
    case ROT_KEY_STRING:
    case ROT_KEY_NAME:
    case ROT_KEY_FOLDER: return set_string(arena, field, key, name, v, err);
    case ROT_KEY_FILES: return set_files(arena, base, name, v, err);
    case ROT_KEY_FONTS: return set_fonts(arena, &((rot_config *)base)->render, name, v, err);
    case ROT_KEY_INTEGER:
    case ROT_KEY_COUNT:
    case ROT_KEY_NUMBER: return set_number(field, key, name, v, err);
    case ROT_KEY_BOOL:
        if (v->kind != ROT_NODE_SCALAR || kind_of(v) != PLAIN_BOOL) return wrong(v, name, "true or false", err);
        *(bool *)field = !strcmp(v->text, "true");
        return 0;
    case ROT_KEY_COLOR: return set_color(field, name, v, err);
    case ROT_KEY_ENUM:
    case ROT_KEY_WORD:
    case ROT_KEY_PRESET: return set_word(field, key, name, v, err);
    }
    return 0;
}
