// Names of variants: NAME-KEY-VALUE, so that a folder of datasets reads as the sweep does.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/str.h"
#include "pipeline/config_value.h"
#include "pipeline/sweep.h"

enum { MAX_NAME = 100, HASH_DIGITS = 8 };

json_t *rot_node_json(const rot_node *node)
{
    json_t *out = NULL;
    if (node->kind == ROT_NODE_MAP) return json_object(); // an override's map is an empty one
    if (node->kind == ROT_NODE_LIST) {
        out = json_array();
        for (const rot_node *child = node->first; child; child = child->next)
            if (json_array_append_new(out, rot_node_json(child)) < 0) {
                json_decref(out);
                return NULL;
            }
        return out;
    }
    if (!node->quoted) out = json_loads(node->text, JSON_DECODE_ANY, NULL);
    return json_is_number(out) || json_is_boolean(out) ? out : json_string_nocheck(node->text);
}

static const char *leaf(const char *key)
{
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

// Whether another key of the sweep ends in the same word.
static bool is_ambiguous(const rot_sweep *sweep, const char *key)
{
    for (int i = 0; i < sweep->n; i++)
        for (size_t k = 0; k < sweep->variants[i].own.n; k++) {
            const char *other = sweep->variants[i].own.list[k].key;
            if (strcmp(other, key) && !strcmp(leaf(other), leaf(key))) return true;
        }
    return false;
}

// What a name may hold; of a path its last part.
static void add_value(rot_str *name, const rot_node *node)
{
    if (node->kind == ROT_NODE_MAP) rot_str_puts(name, "on");
    for (const rot_node *child = node->kind == ROT_NODE_LIST ? node->first : NULL; child;
         child = child->next) {
        add_value(name, child);
        if (child->next) rot_str_puts(name, "_");
    }
    if (node->kind != ROT_NODE_SCALAR) return;
    const char *slash = strrchr(node->text, '/'), *text = slash ? slash + 1 : node->text;
    if (!*text) rot_str_puts(name, "_");
    for (; *text; text++) {
        char c[2] = {*text, 0};
        bool legal = (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'z') ||
                     (*text >= 'A' && *text <= 'Z') || strchr("._-", *text);
        rot_str_puts(name, legal ? c : "_");
    }
}

// All that a variant says, to tell variants apart and for the hash of a long name.
static int describe(const rot_variant *variant, char **text, rot_err *err)
{
    json_t *all = json_object();
    int bad = 0;
    for (size_t i = 0; i < variant->own.n; i++)
        bad |= json_object_set_new_nocheck(all, variant->own.list[i].key,
                                           rot_node_json(variant->own.list[i].value));
    *text = bad ? NULL : json_dumps(all, JSON_SORT_KEYS | JSON_ENCODE_ANY);
    json_decref(all);
    return *text ? 0 : rot_no_memory(err, 0, "sweep");
}

static int find(const rot_sweep *sweep, int end, const char *name)
{
    for (int i = 0; i < end; i++)
        if (!strcmp(sweep->variants[i].name, name)) return i;
    return -1;
}

static int name_one(rot_sweep *sweep, int index, const char *what, rot_err *err)
{
    rot_variant *variant = &sweep->variants[index];
    rot_str name = {0};
    char *text = NULL, hex[65];
    uint8_t digest[32];
    rot_str_puts(&name, sweep->name);
    if (variant->label || !variant->own.n)
        rot_str_printf(&name, "-%s", variant->label ? variant->label : "base");
    for (size_t i = 0; !variant->label && i < variant->own.n; i++) {
        const rot_override *o = &variant->own.list[i];
        rot_str_printf(&name, "-%s-", is_ambiguous(sweep, o->key) ? o->key : leaf(o->key));
        add_value(&name, o->value);
    }
    ROT_TRY(rot_str_take(&name, &text, err));
    int same = find(sweep, index, text);
    char short_name[MAX_NAME + 1];
    snprintf(short_name, sizeof short_name, "%s", text);
    bool cut = strlen(text) > MAX_NAME;
    free(text);
    if (variant->label && (cut || same >= 0))
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: the name '%s' %s", variant->where, short_name,
                 cut ? "is too long" : "is taken by another variant");
    if (cut || same >= 0) {
        rot_sha256_bytes(what, strlen(what), digest);
        rot_hex(digest, 32, hex);
        short_name[MAX_NAME - HASH_DIGITS - 1] = 0;
        snprintf(short_name + strlen(short_name), HASH_DIGITS + 2, "-%.*s", HASH_DIGITS, hex);
    }
    variant->name = rot_arena_strdup(&sweep->arena, short_name);
    if (!variant->name) return rot_no_memory(err, 0, "sweep");
    if (!rot_value_is_name(variant->name) || find(sweep, index, variant->name) >= 0)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: no name can be made for a variant ('%s'); give it one",
                 variant->where, variant->name);
    return 0;
}

int rot_sweep_name_variants(rot_sweep *sweep, rot_err *err)
{
    char **all = rot_calloc((size_t)sweep->n, sizeof *all);
    int rc = 0;
    if (!all) return rot_no_memory(err, 0, "sweep");
    for (int i = 0; i < sweep->n; i++) {
        ROT_GO(describe(&sweep->variants[i], &all[i], err));
        for (int k = 0; k < i; k++)
            if (!strcmp(all[i], all[k]))
                ROT_FAIL_GO(err, ROT_ERR_CONFIG, "%s: variants %d and %d are the same: %s",
                            sweep->variants[i].where, k + 1, i + 1, all[i]);
        ROT_GO(name_one(sweep, i, all[i], err));
    }
done:
    for (int i = 0; i < sweep->n; i++) free(all[i]);
    rot_free(all);
    return rc;
}
