// A config from its tree: every key looked up in the table, read into its field, then checked
// against the others.
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "pipeline/config_load.h"
#include "pipeline/config_preset.h"
#include "pipeline/config_section.h"
#include "rotoscope/config.h"

// What rot_config_load hands out: its strings and lists live behind it.
typedef struct loaded {
    rot_config config; // first: a rot_config * is a loaded *
    rot_arena arena;
} loaded;

static void set_defaults(rot_config *config)
{
    config->render = rot_render_options_default();
    config->encode = rot_encoder_options_default();
    config->layout = ROT_LAYOUT_ROT;
    config->embeds_codec = ROT_CODEC_NONE;
    config->shard_samples = 4096;
    config->commit_samples = 64;
    config->on_bad_row = ROT_POLICY_FAIL;
    config->on_too_large = ROT_POLICY_FAIL;
    config->on_missing_glyph = ROT_GLYPH_FAIL;
}

/* ---- reading ------------------------------------------------------------------------------- */

static int check_required(const rot_key_target *t, const rot_node *root, const rot_config *config,
                          rot_err *err)
{
    for (size_t i = 0; i < t->n_keys; i++) {
        const rot_key *key = &t->keys[i];
        if (key->by_default || rot_section_find(root, key->name)) continue;
        if (key->when == ROT_WHEN_ENCODE && !config->has_encode) continue;
        const rot_node *map = root;
        char section[64];
        snprintf(section, sizeof section, "%.*s", (int)strcspn(key->name, "."), key->name);
        if (strchr(key->name, '.') && rot_section_find(root, section))
            map = rot_section_find(root, section);
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s%s is missing (%s)", map->where, t->prefix, key->name,
                 key->doc);
    }
    return 0;
}

static const char *format_name(rot_input_format format)
{
    return rot_key_find(rot_split_keys, rot_n_split_keys, "format")->words[format];
}

static int read_split(const rot_node *node, rot_split_config *split, const rot_config *config,
                      rot_arena *arena, rot_err *err)
{
    char prefix[160];
    if (!rot_value_is_name(node->key))
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: the split's name '%.100s' takes letters, digits, dot, dash and underscore "
                 "alone, no dot in front",
                 node->key_where, node->key);
    snprintf(prefix, sizeof prefix, "splits.%s.", node->key);
    if (node->kind != ROT_NODE_MAP) return rot_section_not_a_map(node, prefix, err);
    rot_key_target t = {rot_split_keys, rot_n_split_keys, split, prefix, NULL, arena};
    split->name = node->key;
    ROT_TRY(rot_section_read(&t, node, "", err));
    ROT_TRY(check_required(&t, node, config, err));
    for (size_t i = 0; i < rot_n_split_keys; i++) {
        const rot_key *key = &rot_split_keys[i];
        const rot_node *given = rot_section_find(node, key->name);
        bool is_false =
            key->type == ROT_KEY_BOOL && !*(const bool *)((const char *)split + key->offset);
        if (given && !is_false && !rot_split_key_applies(key, (int)split->format))
            ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s%s has no effect with format: %s",
                     given->key_where, prefix, key->name, format_name(split->format));
        const char *by_default = rot_split_key_default(key, (int)split->format);
        if (!given && by_default) *(const char **)((char *)split + key->offset) = by_default;
    }
    return 0;
}

static int read_splits(const rot_node *root, rot_config *config, rot_arena *arena, rot_err *err)
{
    const rot_node *splits = rot_node_child(root, "splits");
    if (!splits)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: splits is missing (a map of names to files and format)",
                 root->where);
    if (splits->kind != ROT_NODE_MAP) return rot_section_not_a_map(splits, "splits", err);
    size_t n = 0;
    for (const rot_node *node = splits->first; node; node = node->next) n++;
    if (!n) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: splits is empty", splits->where);
    config->splits = rot_arena_alloc(arena, n * sizeof *config->splits);
    if (!config->splits) return rot_no_memory(err, n * sizeof *config->splits, "config");
    memset(config->splits, 0, n * sizeof *config->splits);
    for (const rot_node *node = splits->first; node; node = node->next)
        ROT_TRY(read_split(node, &config->splits[config->n_splits++], config, arena, err));
    return 0;
}

/* ---- one key against the others ------------------------------------------------------------ */

static const char *why_without_effect(const rot_key *key, const rot_config *config)
{
    bool page = config->render.mode == ROT_MODE_PAGE;
    switch (key->when) {
    case ROT_WHEN_ALWAYS: return NULL;
    case ROT_WHEN_LINE_MODE: return page ? "with render.mode: page" : NULL;
    case ROT_WHEN_PAGE_MODE: return page ? NULL : "with render.mode: line";
    case ROT_WHEN_RENDER: return config->has_render ? NULL : "without render";
    case ROT_WHEN_ENCODE: return config->has_encode ? NULL : "without encode";
    }
    return NULL;
}

// A key may be given its default where it has no effect: a config that writes every default out
// loses its encode section and still reads.
static bool is_default(const rot_key *key, const rot_config *config, const rot_config *defaults)
{
    return !memcmp((const char *)config + key->offset, (const char *)defaults + key->offset,
                   key->size);
}

static int check_effects(const rot_node *root, const rot_config *config, const rot_config *defaults,
                         rot_err *err)
{
    const rot_node *encode = rot_node_child(root, "encode");
    if (encode && !config->has_render)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: encode has no effect without render", encode->key_where);
    for (size_t i = 0; i < rot_n_config_keys; i++) {
        const rot_node *given = rot_section_find(root, rot_config_keys[i].name);
        const char *why = given ? why_without_effect(&rot_config_keys[i], config) : NULL;
        if (why && !is_default(&rot_config_keys[i], config, defaults))
            ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s has no effect %s", given->key_where,
                     rot_config_keys[i].name, why);
    }
    return 0;
}

static const char *where_of(const rot_node *root, const char *a, const char *b)
{
    const rot_node *node = rot_section_find(root, a);
    if (!node) node = rot_section_find(root, b);
    return (node ? node : root)->where;
}

static int check_pairs(const rot_node *root, const rot_config *config, rot_err *err)
{
    if (config->shard_samples % config->commit_samples)
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: store.shard_samples: %u is no multiple of store.commit_samples: %u",
                 where_of(root, "store.shard_samples", "store.commit_samples"),
                 config->shard_samples, config->commit_samples);
    if (config->embeds_codec == ROT_CODEC_ZSTD_BF16 && config->encode.dtype != ROT_DTYPE_BF16)
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: store.embeds_codec: zstd-bf16 takes encode.dtype: bf16, not f32",
                 where_of(root, "store.embeds_codec", "encode.dtype"));
    if (config->encode.device_memory_mb && strcmp(config->encode.backend, "auto") &&
        strcmp(config->encode.backend, "cuda"))
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: encode.device_memory has no effect with encode.backend: %s",
                 where_of(root, "encode.device_memory", "encode.backend"), config->encode.backend);
    if (*config->encode.pack_cache && !strcmp(config->encode.backend, "cuda"))
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: encode.pack_cache has no effect with encode.backend: cuda",
                 where_of(root, "encode.pack_cache", "encode.backend"));
    if (config->render.mode == ROT_MODE_PAGE &&
        config->render.width_px <= 2 * config->render.padding_px)
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: render.width_px: %d leaves no room within render.padding_px: %d",
                 where_of(root, "render.width_px", "render.padding_px"), config->render.width_px,
                 config->render.padding_px);
    rot_err why = {0};
    int32_t n_taps; // a checkpoint that cannot be read is said when it is opened
    if (config->encode.deepstack &&
        rot_encoder_taps(config->encode.checkpoint, &n_taps, &why) == ROT_ERR_USAGE)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: encode.deepstack: %s",
                 where_of(root, "encode.deepstack", "encode"), why.message);
    return 0;
}

static int read_preset(const rot_node *root, rot_config *config, rot_arena *arena, rot_err *err)
{
    const rot_key *key = rot_key_find(rot_config_keys, rot_n_config_keys, "render.preset");
    const rot_node *node = rot_section_find(root, key->name);
    if (!node) return 0;
    ROT_TRY(rot_value_read(key, "", node, config, arena, err));
    rot_config_preset(&config->render, rot_value_word(key, node));
    return 0;
}

// Fonts, tokenizer and checkpoint are opened later, and errors about them should say what line
// names them.
static void note_places(const rot_node *root, rot_config *config)
{
    const rot_node *fonts = rot_section_find(root, "render.fonts");
    const rot_node *font = fonts ? fonts->first : NULL;
    for (int i = 0; i < config->render.n_fonts; i++, font = font ? font->next : NULL)
        config->where.fonts[i] = font ? font->where : where_of(root, "render", "name");
    config->where.tokenizer = where_of(root, "tokenizer.path", "tokenizer");
    config->where.checkpoint = where_of(root, "encode.checkpoint", "encode");
    config->where.geometry = where_of(root, "encode.geometry", "encode.checkpoint");
}

static int from_tree(const rot_node *root, rot_config *config, rot_arena *arena, rot_err *err)
{
    rot_key_target t = {rot_config_keys, rot_n_config_keys, config, "", "splits", arena};
    const rot_node *extends = rot_node_child(root, "extends");
    if (extends)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: extends stands in a file alone", extends->where);
    set_defaults(config);
    config->has_render = rot_node_child(root, "render") != NULL;
    config->has_encode = rot_node_child(root, "encode") != NULL;
    ROT_TRY(read_preset(root, config, arena, err));
    rot_config defaults = *config; // after the preset
    ROT_TRY(rot_section_read(&t, root, "", err));
    ROT_TRY(check_effects(root, config, &defaults, err));
    ROT_TRY(check_required(&t, root, config, err));
    ROT_TRY(read_splits(root, config, arena, err));
    ROT_TRY(check_pairs(root, config, err));
    config->render.missing_glyph = config->on_missing_glyph;
    note_places(root, config);
    memcpy(config->encode.background, config->render.background_color, 3);
    return 0;
}

int rot_config_load(const char *path, const char *const *sets, int n_sets, rot_config **out,
                    rot_err *err)
{
    return rot_config_load_with(path, sets, n_sets, NULL, 0, out, err);
}

int rot_config_load_with(const char *path, const char *const *sets, int n_sets,
                         const rot_override *overrides, size_t n_overrides, rot_config **out,
                         rot_err *err)
{
    rot_node *root = NULL;
    int rc = 0;
    loaded *l = rot_calloc(1, sizeof *l);
    if (!l) return rot_no_memory(err, sizeof *l, "config");
    l->config.path = rot_arena_strdup(&l->arena, path ? path : "--set");
    if (!l->config.path) ROT_GO(rot_no_memory(err, 0, "config"));
    if (path)
        ROT_GO(rot_tree_load(&l->arena, path, &root, err));
    else if (!(root = rot_tree_new(&l->arena)))
        ROT_GO(rot_no_memory(err, sizeof *root, "config"));
    for (int i = 0; i < n_sets; i++) ROT_GO(rot_tree_set(&l->arena, root, sets[i], err));
    for (size_t i = 0; i < n_overrides; i++)
        ROT_GO(rot_tree_put(&l->arena, root, overrides[i].key, overrides[i].value,
                            overrides[i].where, err));
    ROT_GO(from_tree(root, &l->config, &l->arena, err));
    *out = &l->config;
    return 0;
done:
    rot_arena_free(&l->arena);
    rot_free(l);
    return rc;
}

void rot_config_free(rot_config **config)
{
    loaded *l = (loaded *)*config;
    if (!l) return;
    *config = NULL;
    rot_arena_free(&l->arena);
    rot_free(l);
}
