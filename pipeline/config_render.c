// Single keys of `render:` as JSON values, for jobs and for --set of the renderer's verb.
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "pipeline/config_preset.h"
#include "pipeline/config_value.h"
#include "rotoscope/config.h"

struct rot_strings {
    rot_arena arena;
};

void rot_config_preset(rot_render_options *options, int word)
{
    rot_missing_glyph missing_glyph = options->missing_glyph;
    *options = rot_render_options_default();
    options->missing_glyph = missing_glyph;
    if (word == 1) { // rot-released
        options->size_px = 16;
        options->newline = ROT_NEWLINE_KEEP;
    }
}

static rot_node *to_node(rot_arena *arena, const json_t *json, const char *where);

static rot_node *to_list(rot_arena *arena, const json_t *json, rot_node *list)
{
    rot_node **end = &list->first;
    size_t i;
    json_t *value;
    json_array_foreach((json_t *)json, i, value)
    {
        *end = to_node(arena, value, list->where);
        if (!*end) return NULL;
        end = &(*end)->next;
    }
    return list;
}

// The value as YAML would give it. NULL: no memory.
static rot_node *to_node(rot_arena *arena, const json_t *json, const char *where)
{
    char number[40];
    rot_node *node = rot_arena_alloc(arena, sizeof *node);
    if (!node) return NULL;
    *node = (rot_node){.kind = ROT_NODE_SCALAR, .where = where, .folder = "", .key_where = where};
    switch (json_typeof(json)) {
    case JSON_ARRAY: node->kind = ROT_NODE_LIST; return to_list(arena, json, node);
    case JSON_OBJECT: node->kind = ROT_NODE_MAP; return node;
    case JSON_STRING:
        node->quoted = true;
        node->text = rot_arena_strdup(arena, json_string_value(json));
        break;
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
        node->text = rot_arena_strdup(arena, number);
        break;
    case JSON_REAL: // 24.0 is no integer, as in YAML
        snprintf(number, sizeof number, "%.17g", json_real_value(json));
        if (!strpbrk(number, ".e")) strcat(number, ".0");
        node->text = rot_arena_strdup(arena, number);
        break;
    case JSON_TRUE: node->text = "true"; break;
    case JSON_FALSE: node->text = "false"; break;
    case JSON_NULL: node->text = "null"; break;
    }
    return node->text ? node : NULL;
}

static int find_key(const char *name, const rot_key **key, rot_err *err)
{
    char full[96], nearest[96];
    const char *leaf = !strncmp(name, "render.", 7) ? name + 7 : name;
    bool is_glyph = !strcmp(leaf, "missing_glyph") || !strcmp(name, "on.missing_glyph");
    snprintf(full, sizeof full, is_glyph ? "on.missing_glyph" : "render.%.80s", leaf);
    *key = rot_key_find(rot_config_keys, rot_n_config_keys, full);
    if (*key) return 0;
    rot_key_nearest("render", leaf, nearest);
    const char *near_leaf = strncmp(nearest, "render.", 7) ? nearest : nearest + 7;
    if (rot_edit_distance(leaf, "missing_glyph") < rot_edit_distance(leaf, near_leaf))
        near_leaf = "missing_glyph";
    ROT_FAIL(err, ROT_ERR_CONFIG, "there is no key '%.100s' of render; the nearest is '%s'", name,
             near_leaf);
}

static int set_key(rot_render_options *options, const rot_key *key, const json_t *json,
                   rot_arena *arena, rot_err *err)
{
    rot_config config = {.render = *options, .on_missing_glyph = options->missing_glyph};
    const rot_node *node = to_node(arena, json, "option");
    if (!node) return rot_no_memory(err, sizeof *node, "option");
    ROT_TRY(rot_value_read(key, "", node, &config, arena, err));
    *options = config.render;
    options->missing_glyph = config.on_missing_glyph;
    if (key->type == ROT_KEY_PRESET) rot_config_preset(options, rot_value_word(key, node));
    return 0;
}

int rot_config_set_render(rot_render_options *options, const char *name, const char *json_value,
                          rot_strings **strings, rot_err *err)
{
    const rot_key *key = NULL;
    json_error_t e;
    ROT_TRY(find_key(name, &key, err));
    if (!*strings && !(*strings = rot_calloc(1, sizeof **strings)))
        return rot_no_memory(err, sizeof **strings, "options");
    (*strings)->arena.block_bytes = 1024;
    json_t *json = json_loads(json_value, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);
    if (!json)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: '%.100s' is no JSON value: %s", name, json_value,
                 e.text);
    int rc = set_key(options, key, json, &(*strings)->arena, err);
    json_decref(json);
    return rc;
}

void rot_config_free_strings(rot_strings **strings)
{
    if (!*strings) return;
    rot_arena_free(&(*strings)->arena);
    rot_free(*strings);
    *strings = NULL;
}
