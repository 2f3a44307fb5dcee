#include "pipeline/config_tree.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "base/err.h"
#include "base/fs.h"

enum { MAX_DEPTH = 16, MAX_EXTENDS = 16 };

typedef struct parse {
    yaml_parser_t parser;
    rot_arena *arena;
    const char *name; // file, or "--set ..."
    const char *folder;
    bool is_set; // errors and nodes say the name alone
} parse;

static int no_memory(rot_err *err)
{
    return rot_no_memory(err, sizeof(rot_node), "config");
}

static const char *place(const parse *p, yaml_mark_t mark)
{
    char text[4200];
    if (p->is_set) return p->name;
    snprintf(text, sizeof text, "%s:%zu:%zu", p->name, mark.line + 1, mark.column + 1);
    return rot_arena_strdup(p->arena, text);
}

static rot_node *new_node(const parse *p, rot_node_kind kind, yaml_mark_t mark)
{
    rot_node *node = rot_arena_alloc(p->arena, sizeof *node);
    if (!node) return NULL;
    *node = (rot_node){.kind = kind, .where = place(p, mark), .folder = p->folder};
    return node->where ? node : NULL;
}

static int next_event(parse *p, yaml_event_t *event, rot_err *err)
{
    if (yaml_parser_parse(&p->parser, event)) return 0;
    const yaml_parser_t *y = &p->parser;
    const char *cause = y->problem ? y->problem : "cannot be read as YAML";
    if (p->is_set) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s", p->name, cause);
    ROT_FAIL(err, ROT_ERR_CONFIG, "%s:%zu:%zu: %s", p->name, y->problem_mark.line + 1,
             y->problem_mark.column + 1, cause);
}

static int refuse(const parse *p, yaml_mark_t mark, const char *what, rot_err *err)
{
    ROT_FAIL(err, ROT_ERR_CONFIG, "%s: %s are not used in a config", place(p, mark), what);
}

static int read_node(parse *p, const yaml_event_t *event, int depth, rot_node **out, rot_err *err);

static void append(rot_node *parent, rot_node **last, rot_node *child)
{
    if (*last)
        (*last)->next = child;
    else
        parent->first = child;
    *last = child;
}

static int read_list(parse *p, rot_node *list, int depth, rot_err *err)
{
    rot_node *last = NULL, *child;
    for (;;) {
        yaml_event_t event;
        ROT_TRY(next_event(p, &event, err));
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        int rc = end ? 0 : read_node(p, &event, depth + 1, &child, err);
        yaml_event_delete(&event);
        if (rc < 0 || end) return rc;
        append(list, &last, child);
    }
}

static int read_key(parse *p, const yaml_event_t *event, const rot_node *map, const char **key,
                    const char **where, rot_err *err)
{
    if (event->type != YAML_SCALAR_EVENT)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: a key is a word", place(p, event->start_mark));
    *key = rot_arena_strdup(p->arena, (const char *)event->data.scalar.value);
    *where = place(p, event->start_mark);
    if (!*key || !*where) return no_memory(err);
    if (strlen(*key) != event->data.scalar.length)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: U+0000 in a key", *where);
    if (rot_node_child(map, *key))
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: the key '%s' is given twice", *where, *key);
    return 0;
}

static int read_map(parse *p, rot_node *map, int depth, rot_err *err)
{
    rot_node *last = NULL, *child;
    for (;;) {
        yaml_event_t event;
        const char *key = NULL, *where = NULL;
        ROT_TRY(next_event(p, &event, err));
        bool end = event.type == YAML_MAPPING_END_EVENT;
        int rc = end ? 0 : read_key(p, &event, map, &key, &where, err);
        yaml_event_delete(&event);
        if (rc < 0 || end) return rc;
        ROT_TRY(next_event(p, &event, err));
        rc = read_node(p, &event, depth + 1, &child, err);
        yaml_event_delete(&event);
        ROT_TRY(rc);
        child->key = key;
        child->key_where = where;
        append(map, &last, child);
    }
}

static int read_node(parse *p, const yaml_event_t *event, int depth, rot_node **out, rot_err *err)
{
    yaml_mark_t mark = event->start_mark;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    rot_node_kind kind = ROT_NODE_SCALAR;
    if (depth > MAX_DEPTH) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: nested too deeply", place(p, mark));
    switch (event->type) {
    case YAML_ALIAS_EVENT: return refuse(p, mark, "aliases", err);
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        kind = ROT_NODE_MAP;
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        kind = ROT_NODE_LIST;
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    default: ROT_FAIL(err, ROT_ERR_CONFIG, "%s: unexpected YAML", place(p, mark));
    }
    if (anchor) return refuse(p, mark, "anchors", err);
    if (tag) return refuse(p, mark, "tags", err);
    rot_node *node = new_node(p, kind, mark);
    if (!node) return no_memory(err);
    *out = node;
    if (kind == ROT_NODE_MAP) return read_map(p, node, depth, err);
    if (kind == ROT_NODE_LIST) return read_list(p, node, depth, err);
    if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: U+0000 in a value", node->where);
    node->text = rot_arena_strdup(p->arena, (const char *)event->data.scalar.value);
    node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return node->text ? 0 : no_memory(err);
}

// The one document of a text; *out is NULL if it is empty.
static int read_document(parse *p, const char *text, size_t n_bytes, rot_node **out, rot_err *err)
{
    yaml_event_t event;
    int rc = 0, documents = 0;
    bool end = false;
    *out = NULL;
    if (!yaml_parser_initialize(&p->parser)) return no_memory(err);
    yaml_parser_set_input_string(&p->parser, (const unsigned char *)text, n_bytes);
    while (rc == 0 && !end) {
        rc = next_event(p, &event, err);
        if (rc < 0) break;
        switch (event.type) {
        case YAML_STREAM_END_EVENT: end = true; break;
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT: break;
        case YAML_DOCUMENT_START_EVENT:
            if (documents++) rc = refuse(p, event.start_mark, "several documents", err);
            break;
        default: rc = read_node(p, &event, 0, out, err);
        }
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&p->parser);
    return rc;
}

rot_node *rot_tree_new(rot_arena *arena)
{
    rot_node *node = rot_arena_alloc(arena, sizeof *node);
    if (node) *node = (rot_node){.kind = ROT_NODE_MAP, .where = "--set", .folder = ""};
    return node;
}

rot_node *rot_node_child(const rot_node *map, const char *key)
{
    for (rot_node *child = map->first; child; child = child->next)
        if (child->key && !strcmp(child->key, key)) return child;
    return NULL;
}

static void replace(rot_node *old, const rot_node *new)
{
    rot_node *next = old->next;
    *old = *new;
    old->next = next;
}

// What `over` says goes into `base`.
static void merge(rot_node *base, rot_node *over)
{
    if (base->kind != ROT_NODE_MAP || over->kind != ROT_NODE_MAP) {
        replace(base, over);
        return;
    }
    for (rot_node *child = over->first, *next; child; child = next) {
        next = child->next;
        rot_node *old = rot_node_child(base, child->key);
        if (old) {
            merge(old, child);
            continue;
        }
        rot_node **end = &base->first;
        while (*end) end = &(*end)->next;
        child->next = NULL;
        *end = child;
    }
}

static void unlink_child(rot_node *map, const rot_node *child)
{
    rot_node **at = &map->first;
    while (*at != child) at = &(*at)->next;
    *at = child->next;
}

static int load(rot_arena *arena, const char *path, const char *const *chain, int depth,
                rot_node **out, rot_err *err);

// Replaces `extends: FILE` by the file.
static int extend(rot_arena *arena, rot_node **root, const char *const *chain, int depth,
                  rot_err *err)
{
    char path[4096];
    rot_node *extends = rot_node_child(*root, "extends"), *base;
    if (!extends) return 0;
    if (extends->kind != ROT_NODE_SCALAR || !*extends->text)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s: extends takes the name of a file", extends->where);
    if (extends->text[0] == '/' || !*extends->folder)
        snprintf(path, sizeof path, "%s", extends->text);
    else
        ROT_TRY(rot_fs_join(path, sizeof path, extends->folder, extends->text, err));
    int rc = load(arena, path, chain, depth + 1, &base, err);
    if (rc < 0)
        return rc == ROT_ERR_MISSING ? rot_err_prefix(err, "%s: extends: ", extends->where) : rc;
    unlink_child(*root, extends);
    merge(base, *root);
    *root = base;
    return 0;
}

static int load(rot_arena *arena, const char *path, const char *const *chain, int depth,
                rot_node **out, rot_err *err)
{
    const char *files[MAX_EXTENDS + 1];
    char *text = NULL, folder[4096] = "";
    size_t n_bytes = 0;
    if (depth >= MAX_EXTENDS) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: extends too many files", path);
    for (int i = 0; i < depth; i++) {
        if (!strcmp(chain[i], path)) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: extends itself", path);
        files[i] = chain[i];
    }
    ROT_TRY(rot_fs_read(path, &text, &n_bytes, err));
    if (strchr(path, '/')) rot_fs_dirname(path, folder, sizeof folder);
    parse p = {.arena = arena,
               .name = rot_arena_strdup(arena, path),
               .folder = rot_arena_strdup(arena, folder)};
    int rc = p.name && p.folder ? read_document(&p, text, n_bytes, out, err) : no_memory(err);
    rot_free(text);
    ROT_TRY(rc);
    if (!*out || (*out)->kind != ROT_NODE_MAP)
        ROT_FAIL(err, ROT_ERR_CONFIG, "%s:1:1: a config is a map of keys", path);
    files[depth] = p.name;
    return extend(arena, out, files, depth, err);
}

int rot_tree_load(rot_arena *arena, const char *path, rot_node **out, rot_err *err)
{
    return load(arena, path, NULL, 0, out, err);
}

// a.b.c=VALUE is {a: {b: {c: VALUE}}}, put over the tree. Cuts `path` up.
static int put(rot_arena *arena, rot_node *root, char *path, rot_node *over, const char *where,
               rot_err *err)
{
    for (char *dot; (dot = strrchr(path, '.')) || *path;) {
        const char *key = dot ? dot + 1 : path;
        if (!*key) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: an empty part in the key", where);
        rot_node *map = rot_arena_alloc(arena, sizeof *map);
        if (!map) return no_memory(err);
        over->key = key;
        over->key_where = where;
        *map = (rot_node){.kind = ROT_NODE_MAP, .first = over, .where = where, .folder = ""};
        over = map;
        if (!dot) break;
        *dot = 0;
    }
    merge(root, over);
    return 0;
}

int rot_tree_set(rot_arena *arena, rot_node *root, const char *set, rot_err *err)
{
    char name[4096];
    const char *equals = strchr(set, '=');
    if (!equals || equals == set || *set == '.')
        ROT_FAIL(err, ROT_ERR_CONFIG, "--set %s: not KEY=VALUE", set);
    snprintf(name, sizeof name, "--set %s", set);
    parse p = {.arena = arena, .name = rot_arena_strdup(arena, name), .folder = "", .is_set = true};
    char *path = rot_arena_strndup(arena, set, (size_t)(equals - set));
    rot_node *value = NULL;
    if (!p.name || !path) return no_memory(err);
    if (equals[1] == '#') { // a colour, where YAML would see a comment
        value = new_node(&p, ROT_NODE_SCALAR, (yaml_mark_t){0});
        if (!value || !(value->text = rot_arena_strdup(arena, equals + 1))) return no_memory(err);
        value->quoted = true;
    } else {
        ROT_TRY(read_document(&p, equals + 1, strlen(equals + 1), &value, err));
    }
    if (!value) ROT_FAIL(err, ROT_ERR_CONFIG, "%s: the value is empty", p.name);
    return put(arena, root, path, value, p.name, err);
}

static rot_node *copy(rot_arena *arena, const rot_node *node)
{
    rot_node *out = rot_arena_alloc(arena, sizeof *out), **end;
    if (!out) return NULL;
    *out = *node;
    out->next = out->first = NULL;
    end = &out->first;
    for (const rot_node *child = node->first; child; child = child->next, end = &(*end)->next)
        if (!(*end = copy(arena, child))) return NULL;
    return out;
}

int rot_tree_put(rot_arena *arena, rot_node *root, const char *key, const rot_node *value,
                 const char *where, rot_err *err)
{
    char *path = rot_arena_strdup(arena, key);
    rot_node *own = copy(arena, value);
    if (!path || !own) return no_memory(err);
    return put(arena, root, path, own, where, err);
}
