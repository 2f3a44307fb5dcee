// From the tree to the config: every key is known, of its type, in its range and of an effect.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "pipeline/config_values.h"

// The config and the memory that its strings lie in.
typedef struct boxed {
    rot_config config; // first: what is handed out points here
    rot_arena arena;
} boxed;

typedef struct loader {
    boxed *box;
    rot_config defaults;     // after the preset
    const rot_node **given;  // (n keys): where a key was given, or NULL
} loader;

static void set_defaults(rot_config *config)
{
    config->layout = ROT_LAYOUT_ROT;
    config->render = rot_render_options_default();
    config->encode = rot_encoder_options_default();
    config->embeds_codec = ROT_CODEC_NONE;
    config->shard_samples = 4096;
    config->commit_samples = 64;
}

// Sections are the words before the first dot of the table, and "splits".
static bool is_section(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < rot_n_config_keys; i++)
        if (!strncmp(rot_config_keys[i].name, name, n) && rot_config_keys[i].name[n] == '.') return true;
    return false;
}

static int unknown_key(const rot_node *node, const char *name, const char *nearest, rot_err *err)
{
    ROT_FAIL(err, ROT_ERR_CONFIG, "%s: unknown key '%s'; did you mean '%s'?", node->where, name, nearest);
}

// The nearest of the keys, the sections, "splits" and "extends".
static const char *nearest_top(const char *name)
{
    static const char *const more[] = {"splits", "extends", "tokenizer", "render", "encode", "store", "on"};
    const char *nearest = rot_key_nearest(rot_config_keys, rot_n_config_keys, name);
    size_t best = rot_edit_distance(name, nearest);
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (rot_edit_distance(name, more[i]) < best) {
            best = rot_edit_distance(name, more[i]);
            nearest = more[i];
        }
    return nearest;
}

static int read_keys(loader *l, const char *section, const rot_node *map, rot_err *err)
{
    for (const rot_node *child = map->first; child; child = child->next) {
        char name[256];
        snprintf(name, sizeof name, "%s%s%s", section, *section ? "." : "", child->key);
        if (!*section && (!strcmp(name, "splits") || is_section(name))) continue;
        const rot_key *key = rot_key_find(rot_config_keys, rot_n_config_keys, name);
        if (!key)
            return unknown_key(child, name, *section ? rot_key_nearest(rot_config_keys, rot_n_config_keys, name)
                                                     : nearest_top(name), err);
        l->given[key - rot_config_keys] = child;
        if (key->type == ROT_KEY_PRESET) continue; // read before the section
        ROT_TRY(rot_value_set(&l->box->arena, &l->box->config, key, name, child, err));
    }
    return 0;
}

static int read_preset(loader *l, const rot_node *render, rot_err *err)
{
    const rot_node *preset = rot_node_child(render, "preset");
    const rot_key *key = rot_key_find(rot_config_keys, rot_n_config_keys, "render.preset");
    int index = 0;
    if (preset) {
        rot_key word = *key;
        word.type = ROT_KEY_ENUM;
        word.offset = 0;
        ROT_TRY(rot_value_set(&l->box->arena, &index, &word, "render.preset", preset, err));
    }
    rot_preset(key->words[index], &l->box->config.render);
    return 0;
}

static int read_sections(loader *l, const rot_node *root, rot_err *err)
{
    static const char *const sections[] = {"tokenizer", "render", "encode", "store", "on"};
    rot_config *config = &l->box->config;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        const rot_node *map = rot_node_child(root, sections[i]);
        if (!map) continue;
        if (map->kind != ROT_NODE_MAP)
            ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s takes a map of keys", map->where, sections[i]);
        if (!strcmp(sections[i], "render")) {
            config->has_render = true;
            ROT_TRY(read_preset(l, map, err));
            l->defaults.render = config->render;
        }
        if (!strcmp(sections[i], "encode")) config->has_encode = true;
        ROT_TRY(read_keys(l, sections[i], map, err));
    }
    return read_keys(l, "", root, err);
}

static int read_split_key(loader *l, rot_split_config *split, const char *prefix, const rot_node *child,
                          rot_err *err)
{
    char name[600], own[256];
    snprintf(own, sizeof own, "%s%s", prefix, child->key);
    snprintf(name, sizeof name, "splits.%s.%s", split->name, own);
    const rot_key *key = rot_key_find(rot_split_keys, rot_n_split_keys, own);
    if (!key) {
        char nearest[600];
        snprintf(nearest, sizeof nearest, "splits.%s.%s", split->name,
                 rot_key_nearest(rot_split_keys, rot_n_split_keys, own));
        return unknown_key(child, name, nearest, err);
    }
    return rot_value_set(&l->box->arena, split, key, name, child, err);
}

// Renames and marks that the format has no use for.
static int check_split(const rot_split_config *split, const rot_node *map, rot_err *err)
{
    const rot_node *keys = rot_node_child(map, "keys"), *strip = rot_node_child(map, "strip_calculator");
    const char *format = rot_key_find(rot_split_keys, rot_n_split_keys, "format")->words[split->format];
    if (!rot_node_child(map, "files") || !rot_node_child(map, "format"))
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: splits.%s.%s is missing", map->where, split->name,
                 rot_node_child(map, "files") ? "format" : "files");
    if (keys && keys->first && split->format == ROT_INPUT_GSM8K_AUG)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: splits.%s.keys has no effect with format %s", keys->where,
                 split->name, format);
    if (keys && rot_node_child(keys, "cot") && split->format == ROT_INPUT_GSM8K)
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: splits.%s.keys.cot has no effect with format gsm8k: the trace is part of the answer",
                 rot_node_child(keys, "cot")->where, split->name);
    if (strip && split->strip_calculator && split->format == ROT_INPUT_MATH)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: splits.%s.strip_calculator has no effect with format math",
                 strip->where, split->name);
    return 0;
}

static int read_split(loader *l, rot_split_config *split, const rot_node *map, rot_err *err)
{
    split->name = map->key;
    if (map->kind != ROT_NODE_MAP)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: splits.%s takes a map of keys", map->where, map->key);
    if (!*map->key || strspn(map->key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") !=
                          strlen(map->key) || strlen(map->key) > 100)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: '%s': a split's name has letters, digits, dash and underscore",
                 map->where, map->key);
    for (const rot_node *child = map->first; child; child = child->next) {
        if (strcmp(child->key, "keys")) {
            ROT_TRY(read_split_key(l, split, "", child, err));
            continue;
        }
        if (child->kind != ROT_NODE_MAP)
            ROT_FAIL(err, ROT_ERR_CONFIG, "%s: splits.%s.keys takes a map of names", child->where, map->key);
        for (const rot_node *rename = child->first; rename; rename = rename->next)
            ROT_TRY(read_split_key(l, split, "keys.", rename, err));
    }
    return check_split(split, map, err);
}

static int read_splits(loader *l, const rot_node *root, rot_err *err)
{
    rot_config *config = &l->box->config;
    const rot_node *splits = rot_node_child(root, "splits");
    int n = 0;
    if (!splits) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: splits is missing", root->where);
    if (splits->kind != ROT_NODE_MAP || !splits->first)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: splits takes a map of splits, one at least", splits->where);
    for (const rot_node *child = splits->first; child; child = child->next) n++;
    config->splits = rot_arena_alloc(&l->box->arena, (size_t)n * sizeof *config->splits);
    if (!config->splits) return rot_no_memory(err, 0, "config");
    memset(config->splits, 0, (size_t)n * sizeof *config->splits);
    for (const rot_node *child = splits->first; child; child = child->next)
        ROT_TRY(read_split(l, &config->splits[config->n_splits++], child, err));
    return 0;
}

static bool has_effect(const rot_config *config, rot_key_when when)
{
    switch (when) {
    case ROT_WHEN_ALWAYS: return true;
    case ROT_WHEN_RENDER: return config->has_render;
    case ROT_WHEN_ENCODE: return config->has_encode;
    case ROT_WHEN_LINE_MODE: return config->has_render && config->render.mode == ROT_MODE_LINE;
    case ROT_WHEN_PAGE_MODE: return config->has_render && config->render.mode == ROT_MODE_PAGE;
    }
    return true;
}

static const char *without(rot_key_when when)
{
    switch (when) {
    case ROT_WHEN_RENDER: return "without a render section";
    case ROT_WHEN_ENCODE: return "without an encode section";
    case ROT_WHEN_LINE_MODE: return "with render.mode: page";
    default: return "with render.mode: line";
    }
}

// A key given with another value than its default where it does nothing.
static int check_effects(const loader *l, rot_err *err)
{
    const char *config = (const char *)&l->box->config, *defaults = (const char *)&l->defaults;
    for (size_t i = 0; i < rot_n_config_keys; i++) {
        const rot_key *key = &rot_config_keys[i];
        if (!l->given[i] || has_effect(&l->box->config, key->when)) continue;
        if (!memcmp(config + key->offset, defaults + key->offset, key->size)) continue;
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s has no effect %s", l->given[i]->where, key->name,
                 without(key->when));
    }
    return 0;
}

static const rot_node *given(const loader *l, const char *name)
{
    return l->given[rot_key_find(rot_config_keys, rot_n_config_keys, name) - rot_config_keys];
}

static int check_required(const loader *l, const rot_node *root, rot_err *err)
{
    for (size_t i = 0; i < rot_n_config_keys; i++) {
        const rot_key *key = &rot_config_keys[i];
        if (key->by_default || l->given[i] || !has_effect(&l->box->config, key->when)) continue;
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s is missing", root->where, key->name);
    }
    return 0;
}

static int check_together(const loader *l, const rot_node *root, rot_err *err)
{
    const rot_config *c = &l->box->config;
    const rot_node *shard = given(l, "store.shard_samples"), *commit = given(l, "store.commit_samples");
    if (c->has_encode && !c->has_render)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: encode needs a render section",
                 rot_node_child(root, "encode")->where);
    if (c->shard_samples % c->commit_samples)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: store.shard_samples (%u) is no multiple of commit_samples (%u)",
                 shard ? shard->where : commit->where, c->shard_samples, c->commit_samples);
    if (c->embeds_codec == ROT_CODEC_ZSTD_BF16 && c->encode.dtype == ROT_DTYPE_F32)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: store.embeds_codec: zstd-bf16 is for encode.dtype: bf16",
                 given(l, "store.embeds_codec")->where);
    if (c->has_render && c->render.mode == ROT_MODE_PAGE && c->render.width_px <= 2 * c->render.padding_px)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: render.width_px (%d) leaves no room between 2 padding_px of %d",
                 given(l, "render.mode")->where, c->render.width_px, c->render.padding_px);
    return 0;
}

static int check_folders(const loader *l, rot_err *err)
{
    const rot_config *c = &l->box->config;
    char path[4200];
    snprintf(path, sizeof path, "%s/tokenizer.json", c->tokenizer_path);
    if (!rot_fs_is_file(path))
        ROT_FAIL(err, ROT_ERR_MISSING, "%s: tokenizer.path: %s: no such file", given(l, "tokenizer.path")->where, path);
    if (c->has_encode && !rot_fs_is_dir(c->encode.checkpoint))
        ROT_FAIL(err, ROT_ERR_MISSING, "%s: encode.checkpoint: %s: no such folder",
                 given(l, "encode.checkpoint")->where, c->encode.checkpoint);
    return 0;
}

static int load_tree(loader *l, const char *path, const char *const *sets, int n_sets, rot_node **root,
                     rot_err *err)
{
    rot_arena *arena = &l->box->arena;
    if (path) ROT_TRY(rot_tree_load(arena, path, root, err));
    else if (!(*root = rot_tree_new(arena))) return rot_no_memory(err, 0, "config");
    for (int i = 0; i < n_sets; i++) ROT_TRY(rot_tree_set(arena, *root, sets[i], err));
    return 0;
}

static int load(loader *l, const char *path, const char *const *sets, int n_sets, rot_err *err)
{
    rot_config *config = &l->box->config;
    rot_node *root = NULL;
    set_defaults(config);
    set_defaults(&l->defaults);
    ROT_TRY(load_tree(l, path, sets, n_sets, &root, err));
    config->path = rot_arena_strdup(&l->box->arena, path ? path : "--set");
    if (!config->path) return rot_no_memory(err, 0, "config");
    ROT_TRY(read_sections(l, root, err));
    ROT_TRY(check_required(l, root, err));
    ROT_TRY(read_splits(l, root, err));
    ROT_TRY(check_effects(l, err));
    ROT_TRY(check_together(l, root, err));
    config->render.missing_glyph = config->on_missing_glyph;
    memcpy(config->encode.background, config->render.background_color, 3);
    return check_folders(l, err);
}

int rot_config_load(const char *path, const char *const *sets, int n_sets, rot_config **out, rot_err *err)
{
    loader l = {.box = rot_calloc(1, sizeof *l.box), .given = rot_calloc(rot_n_config_keys, sizeof *l.given)};
    int rc = l.box && l.given ? load(&l, path, sets, n_sets, err) : rot_no_memory(err, 0, "config");
    rot_free(l.given);
    rot_config *config = l.box ? &l.box->config : NULL;
    if (rc < 0) rot_config_free(&config);
    else *out = config;
    return rc;
}

void rot_config_free(rot_config **config)
{
    boxed *box = (boxed *)*config;
    if (!box) return;
    rot_arena_free(&box->arena);
    rot_free(box);
    *config = NULL;
}
