// The effective config: every key with its value, paths absolute, in the order of the table.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/str.h"
#include "pipeline/config_values.h"

// Absolute, without "." and ".." parts (by the text alone: links stay).
static void add_path(rot_str *out, const char *path)
{
    char whole[8400], cwd[4096];
    size_t n = 0;
    if (path[0] == '/' || !getcwd(cwd, sizeof cwd)) cwd[0] = 0;
    char joined[8400];
    snprintf(joined, sizeof joined, "%s/%s", cwd, path);
    for (char *save = NULL, *part = strtok_r(joined, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
        if (!strcmp(part, ".")) continue;
        if (!strcmp(part, "..")) {
            while (n && whole[--n] != '/') {}
            continue;
        }
        n += (size_t)snprintf(whole + n, sizeof whole - n, "/%s", part);
    }
    if (!n) whole[n++] = '/';
    rot_str_json(out, whole, n);
}

static void add_word(rot_str *out, const rot_key *key, const void *field)
{
    int value;
    memcpy(&value, field, sizeof value);
    rot_str_puts(out, key->words[value]);
}

static void add_value(rot_str *out, const rot_key *key, const void *base)
{
    const void *field = (const char *)base + key->offset;
    const char *text = NULL;
    double number;
    int integer;
    const uint8_t *rgb = field;
    switch (key->type) {
    case ROT_KEY_STRING:
    case ROT_KEY_NAME:
    case ROT_KEY_WORD:
        memcpy(&text, field, sizeof text);
        rot_str_json(out, text, strlen(text));
        break;
    case ROT_KEY_FOLDER:
        memcpy(&text, field, sizeof text);
        add_path(out, text);
        break;
    case ROT_KEY_FILES:
    case ROT_KEY_FONTS: break; // lists: see below
    case ROT_KEY_INTEGER:
    case ROT_KEY_COUNT:
        memcpy(&integer, field, sizeof integer);
        rot_str_printf(out, "%d", integer);
        break;
    case ROT_KEY_NUMBER:
        memcpy(&number, field, sizeof number);
        rot_str_printf(out, "%.17g", number);
        break;
    case ROT_KEY_BOOL: rot_str_puts(out, *(const bool *)field ? "true" : "false"); break;
    case ROT_KEY_COLOR: rot_str_printf(out, "\"#%02x%02x%02x\"", rgb[0], rgb[1], rgb[2]); break;
    case ROT_KEY_ENUM: add_word(out, key, field); break;
    case ROT_KEY_PRESET: rot_str_puts(out, "rot-paper"); break; // every key is written beside it
    }
}

static void add_list(rot_str *out, const char *const *items, int n, bool words_stay)
{
    rot_str_puts(out, "[");
    for (int i = 0; i < n; i++) {
        rot_str_puts(out, i ? ", " : "");
        if (words_stay && !strchr(items[i], '/')) rot_str_json(out, items[i], strlen(items[i]));
        else add_path(out, items[i]);
    }
    rot_str_puts(out, "]");
}

static void add_split(rot_str *out, const rot_split_config *split)
{
    const char *const renames[] = {split->key_id, split->key_question, split->key_cot, split->key_answer};
    static const char *const names[] = {"id", "question", "cot", "answer"};
    rot_str_printf(out, "  %s:\n    files: ", split->name);
    add_list(out, split->files, split->n_files, false);
    rot_str_puts(out, "\n    format: ");
    add_word(out, rot_key_find(rot_split_keys, rot_n_split_keys, "format"), &split->format);
    rot_str_puts(out, "\n");
    for (int i = 0, first = 1; i < 4; i++) {
        if (!renames[i]) continue;
        rot_str_printf(out, "%s      %s: ", first ? "    keys:\n" : "", names[i]);
        rot_str_json(out, renames[i], strlen(renames[i]));
        rot_str_puts(out, "\n");
        first = 0;
    }
    rot_str_printf(out, "    strip_calculator: %s\n", split->strip_calculator ? "true" : "false");
}

static bool is_written(const rot_config *config, const rot_key *key)
{
    if (!strncmp(key->name, "render.", 7)) return config->has_render;
    if (!strncmp(key->name, "encode.", 7)) return config->has_encode;
    return true;
}

int rot_config_write(const rot_config *config, char **text, rot_err *err)
{
    rot_str out = {0};
    char section[64] = "";
    for (size_t i = 0; i < rot_n_config_keys; i++) {
        const rot_key *key = &rot_config_keys[i];
        if (!is_written(config, key)) continue;
        const char *dot = strchr(key->name, '.'), *name = dot ? dot + 1 : key->name;
        size_t n = dot ? (size_t)(dot - key->name) : 0;
        if (strlen(section) != n || strncmp(section, key->name, n)) {
            if (!*section) { // after name and root
                rot_str_puts(&out, "splits:\n");
                for (int j = 0; j < config->n_splits; j++) add_split(&out, &config->splits[j]);
            }
            snprintf(section, sizeof section, "%.*s", (int)n, key->name);
            rot_str_printf(&out, "%s:\n", section);
        }
        rot_str_printf(&out, "%s%s: ", n ? "  " : "", name);
        if (key->type == ROT_KEY_FONTS) add_list(&out, config->render.fonts, config->render.n_fonts, true);
        else add_value(&out, key, config);
        rot_str_puts(&out, "\n");
    }
    return rot_str_take(&out, text, err);
}
