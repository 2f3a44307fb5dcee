// docs/config.md and the JSON Schema, from the key table.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "base/mem.h"
#include "rotoscope/config.h"
#include "schemas/keys.h"

static void add_type(rot_str *out, const rot_key *key)
{
    switch (key->type) {
    case ROT_KEY_STRING: rot_str_puts(out, "string"); break;
    case ROT_KEY_NAME: rot_str_puts(out, "letters, digits, `.`, `-`, `_`"); break;
    case ROT_KEY_FOLDER: rot_str_puts(out, "path"); break;
    case ROT_KEY_FILES: rot_str_puts(out, "list of paths or globs"); break;
    case ROT_KEY_FONTS: rot_str_puts(out, "list of files or family names"); break;
    case ROT_KEY_INTEGER:
    case ROT_KEY_COUNT: rot_str_printf(out, "integer, %.0f to %.0f", key->min, key->max); break;
    case ROT_KEY_NUMBER: rot_str_printf(out, "number, %g to %g", key->min, key->max); break;
    case ROT_KEY_BOOL: rot_str_puts(out, "`true`, `false`"); break;
    case ROT_KEY_COLOR: rot_str_puts(out, "`\"#rrggbb\"`"); break;
    case ROT_KEY_ENUM:
    case ROT_KEY_WORD:
    case ROT_KEY_PRESET:
        for (int i = 0, n = 0; i < 8 && key->words[i]; i++)
            if (*key->words[i]) rot_str_printf(out, "%s`%s`", n++ ? ", " : "", key->words[i]);
    }
}

static const char *when_text(rot_key_when when)
{
    switch (when) {
    case ROT_WHEN_LINE_MODE: return " (`mode: line` alone)";
    case ROT_WHEN_PAGE_MODE: return " (`mode: page` alone)";
    default: return "";
    }
}

// A table cell: | would end it, and < would be read as HTML.
static void add_cell(rot_str *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') rot_str_puts(out, "\\|");
        else if (*text == '<') rot_str_puts(out, "&lt;");
        else rot_str_add(out, text, 1);
    }
}

static void add_rows(rot_str *out, const rot_key *keys, size_t n, const char *prefix)
{
    rot_str_puts(out, "| key | value | default | what it does |\n|---|---|---|---|\n");
    for (size_t i = 0; i < n; i++) {
        rot_str_printf(out, "| `%s%s` | ", prefix, keys[i].name);
        add_type(out, &keys[i]);
        if (!keys[i].by_default) rot_str_puts(out, " | required | ");
        else if (!*keys[i].by_default) rot_str_puts(out, " | as the format says | ");
        else rot_str_printf(out, " | `%s` | ", keys[i].by_default);
        add_cell(out, keys[i].doc);
        rot_str_printf(out, "%s |\n", when_text(keys[i].when));
    }
}

int rot_config_document(char **text, rot_err *err)
{
    rot_str out = {0};
    rot_str_puts(
        &out,
        "# The config\n\n"
        "Made by `make docs` from the key table (schemas/keys.c); do not edit.\n\n"
        "YAML, read strictly: an unknown key, a wrong type, a value out of range, a key given twice or one "
        "that has no effect with the others is an error with file, line, column and the nearest valid key. "
        "Anchors, aliases, tags and several documents are not used. Strings that look like numbers are "
        "quoted. Paths are relative to the file that says them. `--set key=value` overrides a key; paths "
        "in it are relative to the working folder.\n\n"
        "Without `encode` a build stops at images, without `render` at tokens. A key of a part that is not "
        "used may be given its default alone.\n\n"
        "`extends: FILE` takes another config as base: maps merge key by key, lists and values of the "
        "nearer file replace.\n\n");
    add_rows(&out, rot_config_keys, rot_n_config_keys, "");
    rot_str_puts(&out, "\n## Splits\n\n`splits` maps the name of every split to its files. Formats and bad "
                       "rows: [input.md](input.md).\n\n");
    add_rows(&out, rot_split_keys, rot_n_split_keys, "splits.NAME.");
    return rot_str_take(&out, text, err);
}

static json_t *value_schema(const rot_key *key)
{
    json_t *words = NULL;
    switch (key->type) {
    case ROT_KEY_STRING:
    case ROT_KEY_FOLDER: return json_pack("{s:s, s:i}", "type", "string", "minLength", 1);
    case ROT_KEY_NAME:
        return json_pack("{s:s, s:s}", "type", "string", "pattern", "^[A-Za-z0-9_-][A-Za-z0-9._-]*$");
    case ROT_KEY_FILES:
    case ROT_KEY_FONTS:
        return json_pack("{s:s, s:{s:s}, s:i}", "type", "array", "items", "type", "string", "minItems", 1);
    case ROT_KEY_INTEGER:
    case ROT_KEY_COUNT:
        return json_pack("{s:s, s:I, s:I}", "type", "integer", "minimum", (json_int_t)key->min, "maximum",
                         (json_int_t)key->max);
    case ROT_KEY_NUMBER:
        return json_pack("{s:s, s:f, s:f}", "type", "number", "minimum", key->min, "maximum", key->max);
    case ROT_KEY_BOOL: return json_pack("{s:s}", "type", "boolean");
    case ROT_KEY_COLOR: return json_pack("{s:s, s:s}", "type", "string", "pattern", "^#[0-9A-Fa-f]{6}$");
    case ROT_KEY_ENUM:
    case ROT_KEY_WORD:
    case ROT_KEY_PRESET:
        words = json_array();
        for (int i = 0; i < 8 && key->words[i]; i++)
            if (*key->words[i]) json_array_append_new(words, json_string(key->words[i]));
        return json_pack("{s:o}", "enum", words);
    }
    return NULL;
}

static json_t *new_object(void)
{
    return json_pack("{s:s, s:b, s:{}}", "type", "object", "additionalProperties", 0, "properties");
}

static void add_required(json_t *object, const char *name)
{
    json_t *required = json_object_get(object, "required");
    if (!required) json_object_set_new(object, "required", required = json_array());
    json_array_append_new(required, json_string(name));
}

// Puts "a.b" into the object of a, made if it is not there.
static void add_keys(json_t *object, const rot_key *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char section[64] = "";
        const char *dot = strchr(keys[i].name, '.'), *name = dot ? dot + 1 : keys[i].name;
        json_t *into = object, *properties = json_object_get(object, "properties");
        if (dot) {
            snprintf(section, sizeof section, "%.*s", (int)(dot - keys[i].name), keys[i].name);
            into = json_object_get(properties, section);
            if (!into) json_object_set_new(properties, section, into = new_object());
        }
        json_t *value = value_schema(&keys[i]);
        json_object_set_new(value, "description", json_string(keys[i].doc));
        json_object_set_new(json_object_get(into, "properties"), name, value);
        if (!keys[i].by_default) add_required(into, name);
    }
}

int rot_config_json_schema(char **text, rot_err *err)
{
    json_t *root = new_object(), *split = new_object();
    json_object_set_new(root, "$schema", json_string("https://json-schema.org/draft/2020-12/schema"));
    json_object_set_new(root, "title", json_string("Rotoscope's config"));
    add_keys(root, rot_config_keys, rot_n_config_keys);
    add_keys(split, rot_split_keys, rot_n_split_keys);
    json_t *properties = json_object_get(root, "properties");
    json_object_set_new(properties, "extends", json_pack("{s:s}", "type", "string"));
    json_object_set_new(properties, "splits", json_pack("{s:s, s:i, s:o}", "type", "object", "minProperties", 1,
                                                        "additionalProperties", split));
    *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(root);
    return *text ? 0 : rot_no_memory(err, 0, "schema");
}
