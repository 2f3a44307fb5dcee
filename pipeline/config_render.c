// One key of render: given as JSON, for a line of `render --jobs`.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "pipeline/config_values.h"

struct rot_strings {
    rot_arena arena;
};

static int node_of(rot_arena *arena, const json_t *json, const char *where, rot_node **out, rot_err *err)
{
    rot_node *node = rot_arena_alloc(arena, sizeof *node), *last = NULL;
    *out = node;
    if (!node) return rot_no_memory(err, sizeof *node, "options");
    *node = (rot_node){.kind = ROT_NODE_SCALAR, .where = where, .folder = "", .quoted = json_is_string(json)};
    if (json_is_string(json)) {
        if (strlen(json_string_value(json)) != json_string_length(json))
            ROT_FAIL(err, ROT_ERR_CONFIG, "%s: U+0000 in a value", where);
        node->text = rot_arena_strdup(arena, json_string_value(json));
    } else if (json_is_array(json)) {
        node->kind = ROT_NODE_LIST;
        for (size_t i = 0; i < json_array_size(json); i++) {
            rot_node *item;
            ROT_TRY(node_of(arena, json_array_get(json, i), where, &item, err));
            if (last) last->next = item;
            else node->first = item;
            last = item;
        }
        return 0;
    } else if (json_is_object(json)) {
        node->kind = ROT_NODE_MAP;
        return 0;
    } else {
        char *text = json_dumps(json, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
        node->text = text ? rot_arena_strdup(arena, text) : NULL;
        free(text);
    }
    return node->text ? 0 : rot_no_memory(err, 0, "options");
}

static int find_key(const char *key, const rot_key **out, char name[128], rot_err *err)
{
    if (!strcmp(key, "missing_glyph") || !strcmp(key, "on.missing_glyph"))
        snprintf(name, 128, "on.missing_glyph");
    else snprintf(name, 128, "%s%s", strncmp(key, "render.", 7) ? "render." : "", key);
    *out = rot_key_find(rot_config_keys, rot_n_config_keys, name);
    if (*out && (!strncmp(name, "render.", 7) || !strcmp(name, "on.missing_glyph"))) return 0;
    const char *nearest = NULL;
    size_t best = (size_t)-1;
    for (size_t i = 0; i < rot_n_config_keys; i++) {
        if (strncmp(rot_config_keys[i].name, "render.", 7)) continue;
        size_t d = rot_edit_distance(name, rot_config_keys[i].name);
        if (d < best) nearest = rot_config_keys[i].name + 7;
        if (d < best) best = d;
    }
    ROT_FAIL(err, ROT_ERR_CONFIG, "unknown key '%s'; did you mean '%s'?", key, nearest);
}

int rot_config_set_render(rot_render_options *options, const char *key_text, const char *json_value,
                          rot_strings **strings, rot_err *err)
{
    const rot_key *key;
    char name[128];
    json_error_t e;
    rot_node *node;
    ROT_TRY(find_key(key_text, &key, name, err));
    if (!*strings && !(*strings = rot_calloc(1, sizeof **strings))) return rot_no_memory(err, 0, "options");
    json_t *json = json_loads(json_value, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!json) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s", key_text, e.text);
    int rc = node_of(&(*strings)->arena, json, key_text, &node, err);
    json_decref(json);
    ROT_TRY(rc);
    if (key->type == ROT_KEY_PRESET) {
        rot_key word = *key;
        int index = 0;
        word.type = ROT_KEY_ENUM;
        word.offset = 0;
        ROT_TRY(rot_value_set(&(*strings)->arena, &index, &word, key_text, node, err));
        rot_missing_glyph missing_glyph = options->missing_glyph;
        rot_preset(key->words[index], options);
        options->missing_glyph = missing_glyph;
        return 0;
    }
    rot_config config = {.render = *options, .on_missing_glyph = options->missing_glyph};
    ROT_TRY(rot_value_set(&(*strings)->arena, &config, key, key_text, node, err));
    *options = config.render;
    options->missing_glyph = config.on_missing_glyph;
    return 0;
}

void rot_config_free_strings(rot_strings **strings)
{
    if (!*strings) return;
    rot_arena_free(&(*strings)->arena);
    rot_free(*strings);
    *strings = NULL;
}
