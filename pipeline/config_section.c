#include "pipeline/config_section.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

const rot_node *rot_section_find(const rot_node *root, const char *name)
{
    char part[64];
    while (root && *name) {
        size_t n = strcspn(name, ".");
        snprintf(part, sizeof part, "%.*s", (int)n, name);
        root = root->kind == ROT_NODE_MAP ? rot_node_child(root, part) : NULL;
        name += n + (name[n] == '.');
    }
    return root;
}

static bool is_section(const rot_key_target *t, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < t->n_keys; i++)
        if (!strncmp(t->keys[i].name, name, n) && t->keys[i].name[n] == '.') return true;
    return false;
}

static int unknown(const rot_key_target *t, const rot_node *node, const char *section, rot_err *err)
{
    char nearest[96];
    if (*t->prefix)
        rot_key_nearest(section, node->key, nearest);
    else
        rot_key_nearest_of(t->keys, t->n_keys, section, node->key, nearest);
    ROT_FAIL(err, ROT_ERR_CONFIG, "%s: there is no key '%s%s%.100s'; the nearest is '%s'%s",
             node->key_where, section, *section ? "." : "", node->key, nearest,
             strchr(node->key, '.') ? " (dots are for --set; in a file a section is a map)" : "");
}

int rot_section_not_a_map(const rot_node *node, const char *name, rot_err *err)
{
    ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s takes a map of keys", node->where, name);
}

int rot_section_read(const rot_key_target *t, const rot_node *map, const char *section,
                     rot_err *err)
{
    char name[160], full[320];
    for (const rot_node *node = map->first; node; node = node->next) {
        snprintf(name, sizeof name, "%s%s%.100s", section, *section ? "." : "", node->key);
        snprintf(full, sizeof full, "%s%s", t->prefix, name);
        bool dotted = strchr(node->key, '.') != NULL; // would find a key of a section
        const rot_key *key = dotted ? NULL : rot_key_find(t->keys, t->n_keys, name);
        if (key) {
            ROT_TRY(rot_value_read(key, t->prefix, node, t->base, t->arena, err));
        } else if (!dotted && is_section(t, name)) {
            if (node->kind != ROT_NODE_MAP) return rot_section_not_a_map(node, full, err);
            ROT_TRY(rot_section_read(t, node, name, err));
        } else if (*section || !t->beside || strcmp(node->key, t->beside)) {
            snprintf(full, sizeof full, "%s%s", t->prefix, section);
            size_t n = strlen(full);
            if (n && full[n - 1] == '.') full[n - 1] = 0;
            return unknown(t, node, full, err);
        }
    }
    return 0;
}
