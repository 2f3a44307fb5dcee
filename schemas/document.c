// docs/config.md and config.schema.json, made from the key table.
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "rotoscope/config.h"
#include "schemas/keys.h"

/* ---- docs/config.md ------------------------------------------------------------------------ */

static void put_values(const rot_key *key, rot_str *out)
{
    const char *between = "";
    switch (key->type) {
    case ROT_KEY_STRING: rot_str_puts(out, "a string"); break;
    case ROT_KEY_NAME: rot_str_puts(out, "letters, digits, `.`, `-`, `_`"); break;
    case ROT_KEY_ROOT:
    case ROT_KEY_PLACE:
    case ROT_KEY_FOLDER: rot_str_puts(out, "a folder"); break;
    case ROT_KEY_FILE: rot_str_puts(out, "a file"); break;
    case ROT_KEY_FILES: rot_str_puts(out, "list of paths or globs"); break;
    case ROT_KEY_FONTS: rot_str_puts(out, "list of files or family names"); break;
    case ROT_KEY_INTEGER:
    case ROT_KEY_COUNT: rot_str_printf(out, "integer, %.0f to %.0f", key->min, key->max); break;
    case ROT_KEY_NUMBER: rot_str_printf(out, "number, %.10g to %.10g", key->min, key->max); break;
    case ROT_KEY_BOOL: rot_str_puts(out, "`true`, `false`"); break;
    case ROT_KEY_COLOR: rot_str_puts(out, "`\"#rrggbb\"`"); break;
    case ROT_KEY_ENUM:
    case ROT_KEY_WORD:
    case ROT_KEY_PRESET:
        for (int i = 0; i < ROT_KEY_MAX_WORDS && key->words[i]; i++) {
            if (!*key->words[i]) continue;
            rot_str_printf(out, "%s`%s`", between, key->words[i]);
            between = ", ";
        }
        break;
    }
}

// `<` would open a tag and `|` a cell.
static void put_cell(const char *text, rot_str *out)
{
    bool code = false;
    for (; *text; text++) {
        if (*text == '`') code = !code;
        if (*text == '|' || (*text == '<' && !code)) rot_str_puts(out, "\\");
        rot_str_add(out, text, 1);
    }
}

static const char *when_words(rot_key_when when)
{
    switch (when) {
    case ROT_WHEN_LINE_MODE: return " (line mode only)";
    case ROT_WHEN_PAGE_MODE: return " (page mode only)";
    case ROT_WHEN_RENDER:
    case ROT_WHEN_ENCODE:
    case ROT_WHEN_ALWAYS: return "";
    }
    return "";
}

void rot_key_put_table(const rot_key *keys, size_t n, const char *prefix, rot_str *out)
{
    rot_str_puts(out, "\n| key | values | default | what |\n|---|---|---|---|\n");
    for (size_t i = 0; i < n; i++) {
        const rot_key *key = &keys[i];
        rot_str_printf(out, "| `%s%s` | ", prefix, key->name);
        put_values(key, out);
        if (!key->by_default)
            rot_str_puts(out, " | required | ");
        else if (*key->by_default)
            rot_str_printf(out, " | `%s` | ", key->by_default);
        else
            rot_str_puts(out, " | by format | ");
        put_cell(key->doc, out);
        rot_str_printf(out, "%s |\n", when_words(key->when));
    }
}

static const char head[] =
    "# The config\n"
    "\n"
    "Made by `make docs` from the key table (`schemas/keys.c`); edit that, not this file.\n"
    "\n"
    "A config is YAML, read strictly: an unknown key, a wrong type, a value out of range, a key "
    "given\n"
    "twice or a key that has no effect with the others (unless it has its default value) is an "
    "error with file, line, column and the\n"
    "nearest valid key. A string that looks like a number or a boolean is put in quotes; booleans "
    "are\n"
    "`true` and `false` alone. Anchors, aliases, tags and several documents are not used.\n"
    "\n"
    "- **Sections.** A key `render.size_px` is `render: {size_px: 24}` in a file. Without `encode` "
    "a\n"
    "  build stops at images, without `render` at tokens; `render: {}` is `rot-paper`.\n"
    "- **`--set render.size_px=24`** on the command line overrides the file; the value is YAML. "
    "Split\n"
    "  keys are `splits.NAME.files` and so on.\n"
    "- **`extends: FILE`** takes another config as base. Maps are merged key by key and the nearer "
    "file\n"
    "  wins; lists are replaced whole.\n"
    "- **Paths** are relative to the file that says them, in `--set` to the working folder. A font "
    "that\n"
    "  is a word without a slash is a file beside the config, else a file name or family known to\n"
    "  fontconfig.\n"
    "- **Globs** in `files` (`*`, `?`, `[ab]`, `{00..03}` is written `{00,01,02,03}`) are sorted; "
    "one\n"
    "  that matches nothing is an error.\n"
    "- **Presets** set the defaults of `render:`; keys beside a preset override it in whatever "
    "order.\n"
    "- The effective config, every default written out, lies beside the dataset as NAME.yaml. Its "
    "root is\n"
    "  `.`, so that it goes on where the root is moved to.\n"
    "- Many variants of a config are a sweep ([sweep.md](sweep.md)).\n";

int rot_config_document(char **text, rot_err *err)
{
    rot_str out = {0};
    rot_str_puts(&out, head);
    rot_str_puts(&out, "\n## Keys\n");
    rot_key_put_table(rot_config_keys, rot_n_config_keys, "", &out);
    rot_str_puts(
        &out,
        "\n## Keys of a split\n\nThe name of a split is the key above them, such as `train`.\n"
        "`keys` renames fields; which a format has stands in docs/input.md, and one that\n"
        "it does not have is an error.\n");
    rot_key_put_table(rot_split_keys, rot_n_split_keys, "splits.NAME.", &out);
    return rot_str_take(&out, text, err);
}

/* ---- JSON Schema --------------------------------------------------------------------------- */

static void put_words(const rot_key *key, rot_str *out)
{
    const char *between = "";
    rot_str_puts(out, "\"enum\": [");
    for (int i = 0; i < ROT_KEY_MAX_WORDS && key->words[i]; i++) {
        if (!*key->words[i]) continue;
        rot_str_printf(out, "%s\"%s\"", between, key->words[i]);
        between = ", ";
    }
    rot_str_puts(out, "]");
}

static void put_type(const rot_key *key, rot_str *out)
{
    switch (key->type) {
    case ROT_KEY_STRING:
    case ROT_KEY_ROOT:
    case ROT_KEY_FILE:
    case ROT_KEY_FOLDER: rot_str_puts(out, "\"type\": \"string\", \"minLength\": 1"); break;
    case ROT_KEY_PLACE: rot_str_puts(out, "\"type\": \"string\""); break;
    case ROT_KEY_NAME:
        rot_str_puts(out, "\"type\": \"string\", \"maxLength\": 100, "
                          "\"pattern\": \"^[A-Za-z0-9_-][A-Za-z0-9._-]*$\"");
        break;
    case ROT_KEY_FILES:
    case ROT_KEY_FONTS:
        rot_str_puts(out,
                     "\"type\": \"array\", \"minItems\": 1, \"items\": {\"type\": \"string\"}");
        if (key->type == ROT_KEY_FONTS) rot_str_printf(out, ", \"maxItems\": %d", ROT_MAX_FONTS);
        break;
    case ROT_KEY_INTEGER:
    case ROT_KEY_COUNT: rot_str_puts(out, "\"type\": \"integer\""); break;
    case ROT_KEY_NUMBER: rot_str_puts(out, "\"type\": \"number\""); break;
    case ROT_KEY_BOOL: rot_str_puts(out, "\"type\": \"boolean\""); break;
    case ROT_KEY_COLOR:
        rot_str_puts(out, "\"type\": \"string\", \"pattern\": \"^#[0-9A-Fa-f]{6}$\"");
        break;
    case ROT_KEY_ENUM:
    case ROT_KEY_WORD:
    case ROT_KEY_PRESET: put_words(key, out); break;
    }
    if (key->min < key->max)
        rot_str_printf(out, ", \"minimum\": %.10g, \"maximum\": %.10g", key->min, key->max);
}

static void put_default(const rot_key *key, rot_str *out)
{
    const char *value = key->by_default;
    bool words =
        key->type == ROT_KEY_ENUM || key->type == ROT_KEY_WORD || key->type == ROT_KEY_PRESET;
    if (!value || !*value) return;
    if (key->type == ROT_KEY_FONTS) // [DejaVuSans.ttf]
        rot_str_printf(out, ", \"default\": [\"%.*s\"]", (int)strlen(value) - 2, value + 1);
    else
        rot_str_printf(out, words ? ", \"default\": \"%s\"" : ", \"default\": %s", value);
}

static void put_indent(int depth, rot_str *out)
{
    rot_str_printf(out, "\n%*s", 2 * depth, "");
}

// The keys below `section`, of those keys[0..n).
static void put_object(const rot_key *keys, size_t n, const char *section, int depth, rot_str *out);

static void put_key(const rot_key *key, rot_str *out)
{
    rot_str_puts(out, "{");
    put_type(key, out);
    put_default(key, out);
    rot_str_puts(out, ", \"description\": ");
    rot_str_json(out, key->doc, strlen(key->doc));
    rot_str_puts(out, "}");
}

static bool is_within(const rot_key *key, const char *section, size_t n)
{
    return !n || (!strncmp(key->name, section, n) && key->name[n] == '.');
}

static void put_required(const rot_key *keys, size_t n, const char *section, rot_str *out)
{
    size_t n_section = strlen(section), skip = n_section ? n_section + 1 : 0;
    const char *between = "";
    rot_str_puts(out, "\"required\": [");
    for (size_t i = 0; i < n; i++) {
        const char *name = keys[i].name + skip;
        if (!is_within(&keys[i], section, n_section) || keys[i].by_default) continue;
        if (keys[i].when == ROT_WHEN_ENCODE && !n_section) continue;
        rot_str_printf(out, "%s\"%.*s\"", between, (int)strcspn(name, "."), name);
        between = ", ";
    }
    if (keys == rot_config_keys && !n_section) rot_str_printf(out, "%s\"splits\"", between);
    rot_str_puts(out, "]");
}

static void put_splits(int depth, rot_str *out)
{
    put_indent(depth, out);
    rot_str_puts(out, "\"splits\": {\"type\": \"object\", \"minProperties\": 1, "
                      "\"propertyNames\": {\"pattern\": \"^[A-Za-z0-9_-][A-Za-z0-9._-]*$\"}, "
                      "\"additionalProperties\": ");
    put_object(rot_split_keys, rot_n_split_keys, "", depth, out);
    rot_str_puts(out, "},");
    put_indent(depth, out);
    rot_str_puts(out, "\"extends\": {\"type\": \"string\", \"description\": "
                      "\"another config, taken as base\"},");
}

static void put_object(const rot_key *keys, size_t n, const char *section, int depth, rot_str *out)
{
    char done[64] = "";
    size_t n_section = strlen(section), skip = n_section ? n_section + 1 : 0;
    bool first = true;
    rot_str_puts(out, "{\"type\": \"object\", \"additionalProperties\": false, ");
    // An object that extends another need not hold all that is required.
    if (keys != rot_config_keys || n_section) {
        put_required(keys, n, section, out);
        rot_str_puts(out, ", ");
    }
    rot_str_puts(out, "\"properties\": {");
    if (keys == rot_config_keys && !n_section) put_splits(depth + 1, out);
    for (size_t i = 0; i < n; i++) {
        if (!is_within(&keys[i], section, n_section)) continue;
        const char *name = keys[i].name + skip, *dot = strchr(name, '.');
        size_t n_part = strcspn(name, ".");
        if (dot && strlen(done) == n_part && !strncmp(done, name, n_part)) continue;
        if (!first) rot_str_puts(out, ",");
        first = false;
        put_indent(depth + 1, out);
        rot_str_printf(out, "\"%.*s\": ", (int)n_part, name);
        if (dot) {
            char inner[64] = "";
            strncat(done + (done[0] = 0), name, n_part);
            strncat(inner, keys[i].name, (size_t)(dot - keys[i].name));
            put_object(keys, n, inner, depth + 1, out);
        } else {
            put_key(&keys[i], out);
        }
    }
    put_indent(depth, out);
    rot_str_puts(out, "}}");
}

int rot_config_json_schema(char **text, rot_err *err)
{
    rot_str out = {0};
    rot_str_puts(&out, "{\"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
                       "\"title\": \"Config of a Rotoscope build\",\n\"allOf\": [");
    put_object(rot_config_keys, rot_n_config_keys, "", 0, &out);
    rot_str_puts(&out, "],\n\"if\": {\"not\": {\"required\": [\"extends\"]}},\n\"then\": {");
    put_required(rot_config_keys, rot_n_config_keys, "", &out);
    rot_str_puts(&out, "}}\n");
    return rot_str_take(&out, text, err);
}
