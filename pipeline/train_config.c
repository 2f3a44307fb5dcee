// A training config from its tree: as config_load.c does for a build's.
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "pipeline/config_section.h"
#include "rotoscope/train.h"
#include "schemas/train_keys.h"

// What rot_train_config_load hands out: its strings live behind it.
typedef struct loaded {
    rot_train_config config; // first: a rot_train_config * is a loaded *
    rot_arena arena;
} loaded;

// A key that others' defaults hang on, read before them; `fallback` if it is not given.
static int read_first(const rot_node *root, const char *name, rot_train_config *config, void *field,
                      int fallback, rot_arena *arena, rot_err *err)
{
    const rot_key *key = rot_key_find(rot_train_keys, rot_n_train_keys, name);
    const rot_node *node = rot_section_find(root, name);
    memcpy(field, &fallback, sizeof fallback);
    if (!node) return 0;
    ROT_TRY(rot_value_read(key, "", node, config, arena, err));
    if (key->type == ROT_KEY_PRESET) {
        int word = rot_value_word(key, node);
        memcpy(field, &word, sizeof word);
    }
    return 0;
}

static int check_required(const rot_node *root, rot_err *err)
{
    for (size_t i = 0; i < rot_n_train_keys; i++) {
        const rot_key *key = &rot_train_keys[i];
        if (key->by_default || rot_section_find(root, key->name)) continue;
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s is missing (%s)", root->where, key->name, key->doc);
    }
    return 0;
}

// A key may be given its default where it has no effect.
static int check_effects(const rot_node *root, const rot_train_config *config,
                         const rot_train_config *defaults, rot_err *err)
{
    for (size_t i = 0; i < rot_n_train_keys; i++) {
        const rot_key *key = &rot_train_keys[i];
        const rot_node *given = rot_section_find(root, key->name);
        const char *why = given ? rot_train_key_without_effect(key, config) : NULL;
        if (why && memcmp((const char *)config + key->offset, (const char *)defaults + key->offset,
                          key->size))
            ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s has no effect %s", given->key_where, key->name,
                     why);
    }
    return 0;
}

static const char *where_of(const rot_node *root, const char *name)
{
    const rot_node *node = rot_section_find(root, name);
    return (node ? node : root)->where;
}

static int check_pairs(const rot_node *root, const rot_train_config *c, rot_err *err)
{
    if (c->method == ROT_METHOD_ROT && c->stage == 2 && !c->head && !c->train_head)
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: rot.head is missing: stage 2 takes the head of a stage 1 checkpoint "
                 "(rot.train_head: true trains a new one)",
                 where_of(root, "rot"));
    if (c->method != ROT_METHOD_ROT && c->tuning == ROT_TUNE_NONE)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: nothing trains: model.tuning: none",
                 where_of(root, "model.tuning"));
    if ((c->method == ROT_METHOD_COCONUT || c->method == ROT_METHOD_PAUSE) &&
        c->tuning == ROT_TUNE_LORA)
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: this method adds tokens, which an adapter does not train: model.tuning: full",
                 where_of(root, "model.tuning"));
    if (c->method == ROT_METHOD_ROT && !c->train_head && !c->train_rows &&
        c->tuning == ROT_TUNE_NONE)
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: nothing trains: model.tuning: none, rot.train_head: false, rot.train_rows: "
                 "false",
                 where_of(root, "model.tuning"));
    if (c->method == ROT_METHOD_ROT && !c->uncertainty && c->vision_weight == 0 &&
        c->lm_weight == 0)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: loss.vision and loss.lm are both 0",
                 where_of(root, "loss.vision"));
    if (c->adapter && c->tuning == ROT_TUNE_FULL)
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: model.tuning: full takes no model.adapter: merge it into the model first",
                 where_of(root, "model.adapter"));
    if (c->warmup == ROT_WARMUP_LOG && c->warmup_steps == 1)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: schedule.warmup: log takes two steps or more",
                 where_of(root, "schedule.warmup_steps"));
    return 0;
}

// preset and method, each of which may follow from the other.
static int read_kind(const rot_node *root, rot_train_config *config, rot_train_preset *preset,
                     rot_arena *arena, rot_err *err)
{
    int word;
    ROT_TRY(read_first(root, "preset", config, &word, -1, arena, err));
    bool coconut = word >= ROT_TRAIN_COCONUT_GSM;
    ROT_TRY(read_first(root, "method", config, &config->method,
                       coconut ? ROT_METHOD_COCONUT : ROT_METHOD_ROT, arena, err));
    bool rot = config->method == ROT_METHOD_ROT;
    if (word >= 0 && coconut == rot)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: this preset is not for this method",
                 where_of(root, "preset"));
    if (word < 0) word = rot ? ROT_TRAIN_ROT_PAPER : ROT_TRAIN_COCONUT_GSM;
    *preset = (rot_train_preset)word;
    return 0;
}

static int from_tree(const rot_node *root, rot_train_config *config, rot_arena *arena, rot_err *err)
{
    rot_key_target t = {rot_train_keys, rot_n_train_keys, config, "", NULL, arena};
    rot_train_preset preset = ROT_TRAIN_ROT_PAPER;
    const rot_node *extends = rot_node_child(root, "extends");
    if (extends)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: extends stands in a file alone", extends->where);
    ROT_TRY(read_kind(root, config, &preset, arena, err));
    ROT_TRY(read_first(root, "rot.stage", config, &config->stage, 1, arena, err));
    rot_train_defaults(config, preset, config->method, config->stage);
    rot_train_config defaults = *config;
    if (config->method != ROT_METHOD_ROT) defaults.stage = 1; // a stage given has no effect there
    ROT_TRY(rot_section_read(&t, root, "", err));
    ROT_TRY(check_required(root, err));
    ROT_TRY(check_effects(root, config, &defaults, err));
    return check_pairs(root, config, err);
}

int rot_train_config_load(const char *path, const char *const *sets, int n_sets,
                          rot_train_config **out, rot_err *err)
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
    ROT_GO(from_tree(root, &l->config, &l->arena, err));
    *out = &l->config;
    return 0;
done:
    rot_arena_free(&l->arena);
    rot_free(l);
    return rc;
}

void rot_train_config_free(rot_train_config **config)
{
    loaded *l = (loaded *)*config;
    if (!l) return;
    *config = NULL;
    rot_arena_free(&l->arena);
    rot_free(l);
}

static bool is_unset(const rot_key *key, const rot_train_config *config)
{
    const void *field = (const char *)config + key->offset;
    switch (key->type) {
    case ROT_KEY_NAME:
    case ROT_KEY_STRING:
    case ROT_KEY_WORD:
    case ROT_KEY_FILE:
    case ROT_KEY_FOLDER: return !*(const char *const *)field;
    case ROT_KEY_PRESET: return true; // its values are written out
    default: return false;
    }
}

int rot_train_config_write(const rot_train_config *config, char **text, rot_err *err)
{
    rot_str out = {0};
    char section[64] = "";
    for (size_t i = 0; i < rot_n_train_keys; i++) {
        const rot_key *key = &rot_train_keys[i];
        const char *dot = strchr(key->name, '.');
        size_t n = dot ? (size_t)(dot - key->name) : 0;
        if (is_unset(key, config) || rot_train_key_without_effect(key, config)) continue;
        if (dot && (strlen(section) != n || strncmp(section, key->name, n))) {
            snprintf(section, sizeof section, "%.*s", (int)n, key->name);
            rot_str_printf(&out, "%s:\n", section);
        }
        rot_str_printf(&out, dot ? "  %s: " : "%s: ", dot ? dot + 1 : key->name);
        rot_value_write(key, config, &out);
        rot_str_puts(&out, "\n");
    }
    return rot_str_take(&out, text, err);
}

int rot_train_config_document(char **text, rot_err *err)
{
    rot_str out = {0};
    rot_str_puts(&out, "# Keys of a training config\n"
                       "\n"
                       "Made by `make docs` from the key table (`schemas/train_keys.c`); edit "
                       "that, not this file.\n"
                       "How a config is read stands in [config.md](config.md), what training does "
                       "in [train.md](train.md).\n");
    rot_key_put_table(rot_train_keys, rot_n_train_keys, "", &out);
    return rot_str_take(&out, text, err);
}
