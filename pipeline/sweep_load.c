// The file of a sweep, read as strictly as a config.
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "pipeline/config_value.h"
#include "pipeline/sweep.h"

static const char *const keys[] = {"base", "name", "set", "grid", "variants", "k"};
enum { N_KEYS = sizeof keys / sizeof *keys };

static int no_memory(rot_err *err)
{
    return rot_no_memory(err, 0, "sweep");
}

static int check_keys(const rot_node *root, rot_err *err)
{
    for (const rot_node *node = root->first; node; node = node->next) {
        int nearest = 0;
        size_t best = SIZE_MAX;
        for (int i = 0; i < N_KEYS; i++) {
            size_t distance = rot_edit_distance(node->key, keys[i]);
            if (distance >= best) continue;
            best = distance;
            nearest = i;
        }
        if (best)
            ROT_FAIL(err, ROT_ERR_CONFIG,
                     "%s: a sweep has no key '%.100s'; the nearest is '%s' (keys of the config "
                     "stand in set, grid or variants)",
                     node->key_where, node->key, keys[nearest]);
    }
    return 0;
}

// A word that is given, or NULL.
static int read_text(const rot_node *root, const char *key, const char **out, const rot_node **at,
                     rot_err *err)
{
    const rot_node *node = *at = rot_node_child(root, key);
    *out = NULL;
    if (!node) return 0;
    if (node->kind != ROT_NODE_SCALAR || !*node->text)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s takes a string", node->where, key);
    *out = node->text;
    return 0;
}

/* ---- overrides ------------------------------------------------------------------------------- */

static const char *not_here(const char *key, bool common)
{
    size_t n = strcspn(key, ".");
    if (!strcmp(key, "name"))
        return common ? "the sweep's own `name` stands beside `base`"
                      : "a variant's name is made from what it overrides; in `variants` it is a "
                        "key of the entry";
    if (!common && !strcmp(key, "root"))
        return "the variants share one root: it belongs into `set`";
    if (n == 7 && !strncmp(key, "extends", n)) return "it stands in a file alone: use `base`";
    return NULL;
}

static int add_override(rot_overrides *list, const char *key, const rot_node *value,
                        const char *where, bool common, rot_err *err)
{
    const char *why = not_here(key, common);
    if (why) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: '%s' cannot stand here: %s", where, key, why);
    for (size_t i = 0; i < list->n; i++)
        if (!strcmp(list->list[i].key, key))
            ROT_FAIL(err, ROT_ERR_CONFIG, "%s: the key '%s' is given twice (also at %s)", where,
                     key, list->list[i].where);
    ROT_TRY(rot_grow(&list->list, &list->capacity, list->n + 1, sizeof *list->list, err));
    list->list[list->n++] = (rot_override){key, value, where};
    return 0;
}

// The leaves of a map as "a.b.c"; keys in it may have dots themselves.
static int flatten(rot_sweep *sweep, const rot_node *map, const char *prefix, bool common,
                   rot_overrides *out, rot_err *err)
{
    for (const rot_node *node = map->first; node; node = node->next) {
        char name[512];
        if (snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", node->key) >=
            (int)sizeof name)
            ROT_FAIL(err, ROT_ERR_CONFIG, "%s: the key is too long", node->key_where);
        const char *key = rot_arena_strdup(&sweep->arena, name);
        if (!key) return no_memory(err);
        if (node->kind == ROT_NODE_MAP && node->first)
            ROT_TRY(flatten(sweep, node, key, common, out, err));
        else
            ROT_TRY(add_override(out, key, node, node->key_where, common, err));
    }
    return 0;
}

static int flatten_at(rot_sweep *sweep, const rot_node *node, bool common, rot_overrides *out,
                      rot_err *err)
{
    if (node->kind != ROT_NODE_MAP)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: a map of config keys stands here", node->where);
    return flatten(sweep, node, "", common, out, err);
}

/* ---- variants -------------------------------------------------------------------------------- */

static int add_variants(rot_sweep *sweep, size_t n, const char *where, rot_err *err)
{
    if (n > ROT_SWEEP_MAX_VARIANTS)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: over %d variants", where, ROT_SWEEP_MAX_VARIANTS);
    sweep->variants = rot_calloc(n, sizeof *sweep->variants);
    if (!sweep->variants) return no_memory(err);
    sweep->n = (int)n;
    for (size_t i = 0; i < n; i++) sweep->variants[i].where = where;
    return 0;
}

static size_t length(const rot_node *list)
{
    size_t n = 0;
    for (const rot_node *node = list->first; node; node = node->next) n++;
    return n;
}

// Every combination; the first key varies slowest.
static int read_grid(rot_sweep *sweep, const rot_node *grid, rot_err *err)
{
    rot_overrides axes = {0};
    size_t n = 1;
    int rc = 0;
    ROT_GO(flatten_at(sweep, grid, false, &axes, err));
    if (!axes.n) ROT_FAIL_GO(err, ROT_ERR_CONFIG, "%s: the grid is empty", grid->where);
    for (size_t i = 0; i < axes.n && n <= ROT_SWEEP_MAX_VARIANTS; i++) {
        const rot_node *values = axes.list[i].value;
        if (values->kind != ROT_NODE_LIST || !values->first)
            ROT_FAIL_GO(err, ROT_ERR_CONFIG, "%s: in a grid '%s' takes a list of values",
                        values->where, axes.list[i].key);
        n *= length(values);
    }
    ROT_GO(add_variants(sweep, n, grid->where, err));
    size_t below = n; // variants per value of the axis
    for (size_t a = 0; a < axes.n; a++) {
        size_t values = length(axes.list[a].value);
        below /= values;
        for (size_t v = 0; v < n; v++) {
            const rot_node *value = axes.list[a].value->first;
            for (size_t skip = v / below % values; skip; skip--) value = value->next;
            ROT_GO(add_override(&sweep->variants[v].own, axes.list[a].key, value,
                                axes.list[a].where, false, err));
        }
    }
done:
    rot_free(axes.list);
    return rc;
}

// One entry: config keys, and `name`.
static int read_entry(rot_sweep *sweep, rot_node *entry, rot_variant *variant, rot_err *err)
{
    variant->where = entry->where;
    if (entry->kind != ROT_NODE_MAP)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: a variant is a map of config keys", entry->where);
    for (rot_node **at = &entry->first; *at; at = &(*at)->next) {
        const rot_node *name = *at;
        if (strcmp(name->key, "name")) continue;
        if (name->kind != ROT_NODE_SCALAR || !rot_value_is_name(name->text))
            ROT_FAIL(err, ROT_ERR_CONFIG,
                     "%s: a variant's name takes letters, digits, dot, dash and underscore alone, "
                     "no dot in front",
                     name->where);
        variant->label = name->text;
        *at = name->next; // the rest are overrides
        break;
    }
    return flatten(sweep, entry, "", false, &variant->own, err);
}

static int read_list(rot_sweep *sweep, const rot_node *list, rot_err *err)
{
    if (list->kind != ROT_NODE_LIST || !list->first)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: variants takes a list of maps of config keys",
                 list->where);
    ROT_TRY(add_variants(sweep, length(list), list->where, err));
    int i = 0;
    for (rot_node *entry = list->first; entry; entry = entry->next)
        ROT_TRY(read_entry(sweep, entry, &sweep->variants[i++], err));
    return 0;
}

// What is set for all and then overridden by all does nothing.
static int check_common(const rot_sweep *sweep, rot_err *err)
{
    for (size_t c = 0; c < sweep->common.n; c++) {
        const rot_override *set = &sweep->common.list[c];
        int over = 0;
        for (int i = 0; i < sweep->n; i++)
            for (size_t k = 0; k < sweep->variants[i].own.n; k++)
                over += !strcmp(sweep->variants[i].own.list[k].key, set->key);
        if (over == sweep->n)
            ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s has no effect: every variant overrides it",
                     set->where, set->key);
    }
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------- */

// `set` of the file, then --set; a key in both is the command line's.
static int read_common(rot_sweep *sweep, const rot_node *set, const char *const *sets, int n_sets,
                       rot_err *err)
{
    rot_overrides more = {0};
    int rc = 0;
    rot_node *tree = rot_tree_new(&sweep->arena);
    if (!tree) return no_memory(err);
    if (set) ROT_GO(flatten_at(sweep, set, true, &sweep->common, err));
    for (int i = 0; i < n_sets; i++) ROT_GO(rot_tree_set(&sweep->arena, tree, sets[i], err));
    ROT_GO(flatten(sweep, tree, "", true, &more, err));
    for (size_t i = 0; i < more.n; i++) {
        rot_overrides *to = &sweep->common;
        size_t k = 0;
        while (k < to->n && strcmp(to->list[k].key, more.list[i].key)) k++;
        if (k < to->n)
            to->list[k] = more.list[i];
        else
            ROT_GO(add_override(to, more.list[i].key, more.list[i].value, more.list[i].where, true,
                                err));
    }
done:
    rot_free(more.list);
    return rc;
}

static int read_base(rot_sweep *sweep, const rot_node *root, rot_err *err)
{
    const rot_node *at;
    char path[4096];
    ROT_TRY(read_text(root, "base", &sweep->base, &at, err));
    if (!at) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: base is missing (a config)", root->where);
    if (sweep->base[0] != '/' && *at->folder) {
        ROT_TRY(rot_fs_join(path, sizeof path, at->folder, sweep->base, err));
        sweep->base = rot_arena_strdup(&sweep->arena, path);
        if (!sweep->base) return no_memory(err);
    }
    if (!rot_fs_is_file(sweep->base))
        ROT_FAIL(err, ROT_ERR_MISSING, "%s: base: %s: no such file", at->where, sweep->base);
    ROT_TRY(read_text(root, "name", &sweep->name, &at, err));
    if (at && !rot_value_is_name(at->text))
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: name: '%.100s' names files: letters, digits, dot, dash and underscore alone",
                 at->where, at->text);
    return 0;
}

static int read_k(rot_sweep *sweep, const rot_node *root, rot_err *err)
{
    const char *word;
    const rot_node *at;
    ROT_TRY(read_text(root, "k", &word, &at, err));
    if (!at) return 0;
    sweep->where_k = at->key_where;
    if (rot_geometry_parse(word, &sweep->k) == 0) return 0;
    ROT_FAIL(err, ROT_ERR_CONFIG,
             "%s: k: there is no '%.100s' (it takes one of released, patch16, "
             "native)",
             at->where, word);
}

static int read_tree(rot_sweep *sweep, const rot_node *root, const char *const *sets, int n_sets,
                     rot_err *err)
{
    const rot_node *grid = rot_node_child(root, "grid"), *list = rot_node_child(root, "variants");
    ROT_TRY(check_keys(root, err));
    ROT_TRY(read_base(sweep, root, err));
    ROT_TRY(read_k(sweep, root, err));
    ROT_TRY(read_common(sweep, rot_node_child(root, "set"), sets, n_sets, err));
    if (grid && list)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: a sweep has a grid or variants, not both (grid: %s)",
                 list->key_where, grid->key_where);
    if (!grid && !list)
        ROT_FAIL(err, ROT_ERR_CONFIG,
                 "%s: grid or variants is missing (lists of values by config key; or a list of "
                 "maps)",
                 root->where);
    ROT_TRY(grid ? read_grid(sweep, grid, err) : read_list(sweep, list, err));
    return check_common(sweep, err);
}

// Whose words an error is about, behind them: file and line come first.
static int say_variant(rot_err *err, int rc, const char *name)
{
    size_t n = err ? strlen(err->message) : 0;
    if (err) snprintf(err->message + n, sizeof err->message - n, " (variant %s)", name);
    return rc;
}

static int load_config(rot_sweep *sweep, rot_overrides *all, rot_variant *variant, rot_err *err)
{
    rot_node *node = rot_arena_alloc(&sweep->arena, sizeof *node);
    if (!node) return no_memory(err);
    *node = (rot_node){.kind = ROT_NODE_SCALAR,
                       .text = variant->name,
                       .quoted = true,
                       .where = variant->where,
                       .folder = ""};
    ROT_TRY(rot_grow(&all->list, &all->capacity, all->n + 1, sizeof *all->list, err));
    all->list[all->n++] = (rot_override){"name", node, variant->where};
    int rc = rot_config_load_with(sweep->base, NULL, 0, all->list, all->n, &variant->config, err);
    return rc < 0 ? say_variant(err, rc, variant->name) : 0;
}

static int load_variant(rot_sweep *sweep, rot_variant *variant, rot_err *err)
{
    rot_overrides all = {0};
    int rc = 0;
    size_t n = sweep->common.n + variant->own.n;
    ROT_GO(rot_grow(&all.list, &all.capacity, n + 1, sizeof *all.list, err));
    for (size_t i = 0; i < n; i++)
        all.list[all.n++] =
            i < sweep->common.n ? sweep->common.list[i] : variant->own.list[i - sweep->common.n];
    ROT_GO(load_config(sweep, &all, variant, err));
done:
    rot_free(all.list);
    return rc;
}

// The sweep is called as its base unless it says otherwise.
static int take_name(rot_sweep *sweep, rot_err *err)
{
    rot_node *root;
    if (sweep->name) return 0;
    ROT_TRY(rot_tree_load(&sweep->arena, sweep->base, &root, err));
    const rot_node *at;
    ROT_TRY(read_text(root, "name", &sweep->name, &at, err));
    if (!at || !rot_value_is_name(at->text))
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: name is missing here and in %s (it names the variants)",
                 sweep->path, sweep->base);
    return 0;
}

static int check_k(const rot_sweep *sweep, rot_err *err)
{
    bool used = !sweep->where_k;
    for (int i = 0; i < sweep->n; i++)
        used |= sweep->variants[i].config->has_render && !sweep->variants[i].config->has_encode;
    if (used) return 0;
    ROT_FAIL(err, ROT_ERR_CONFIG,
             "%s: k has no effect: every variant encodes or draws nothing, and K follows from its "
             "own geometry",
             sweep->where_k);
}

int rot_sweep_load(const char *path, const char *const *sets, int n_sets, rot_sweep **out,
                   rot_err *err)
{
    rot_node *root = NULL;
    int rc = 0;
    rot_sweep *sweep = rot_calloc(1, sizeof *sweep);
    if (!sweep) return no_memory(err);
    sweep->path = rot_arena_strdup(&sweep->arena, path);
    if (!sweep->path) ROT_GO(no_memory(err));
    ROT_GO(rot_tree_load(&sweep->arena, path, &root, err));
    ROT_GO(read_tree(sweep, root, sets, n_sets, err));
    ROT_GO(take_name(sweep, err));
    ROT_GO(rot_sweep_name_variants(sweep, err));
    for (int i = 0; i < sweep->n; i++) ROT_GO(load_variant(sweep, &sweep->variants[i], err));
    ROT_GO(check_k(sweep, err));
    *out = sweep;
    return 0;
done:
    rot_sweep_free(&sweep);
    return rc;
}

void rot_sweep_free(rot_sweep **sweep)
{
    rot_sweep *s = *sweep;
    if (!s) return;
    *sweep = NULL;
    for (int i = 0; i < s->n; i++) {
        rot_config_free(&s->variants[i].config);
        rot_free(s->variants[i].own.list);
    }
    rot_free(s->variants);
    rot_free(s->common.list);
    rot_arena_free(&s->arena);
    rot_free(s);
}

const char *rot_sweep_name(const rot_sweep *sweep)
{
    return sweep->name;
}

const char *rot_sweep_root(const rot_sweep *sweep)
{
    return sweep->variants[0].config->root;
}

int rot_sweep_count(const rot_sweep *sweep)
{
    return sweep->n;
}

const rot_config *rot_sweep_config(const rot_sweep *sweep, int i)
{
    return sweep->variants[i].config;
}
