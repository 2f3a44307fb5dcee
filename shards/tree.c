#include "shards/tree.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "shards/format.h"

// Names and numbers of LMDB 0.9 (mdb.c): P_* flags of a page, F_BIGDATA of a node.
enum {
    P_BRANCH = 1,
    P_LEAF = 2,
    P_OVERFLOW = 4,
    P_META = 8,
    F_BIGDATA = 1,
    NODE_HEAD = 8,                 // lo, hi, flags, ksize: 2 bytes each
    LEAF_NODE = NODE_HEAD + 8 + 8, // key, page number of the value
    BRANCH_NODE = NODE_HEAD + 8,   // key
    LEAF_FANOUT = (ROT_PAGE - ROT_PAGE_HEAD) / (LEAF_NODE + 2),
    BRANCH_FANOUT = (ROT_PAGE - ROT_PAGE_HEAD) / (BRANCH_NODE + 2),
    MAX_DEPTH = 8,
    META_FLAGS = 0x4008, // MDB_NOSUBDIR | MDB_INTEGERKEY, as LMDB writes them
    INTEGER_KEY = 0x0008
};
#define META_MAGIC UINT32_C(0xBEEFC0DE)
#define NO_PAGE UINT64_MAX

static void page_head(uint64_t page, uint16_t flags, uint8_t *out)
{
    rot_put64(out, page);
    rot_put16(out + 8, 0);
    rot_put16(out + 10, flags);
    rot_put32(out + 12, 0);
}

void rot_tree_overflow_head(uint64_t page, uint32_t n_pages, uint8_t out[16])
{
    page_head(page, P_OVERFLOW, out);
    rot_put32(out + 12, n_pages);
}

/* ---- building ----------------------------------------------------------------------------------
 */

typedef struct child {
    uint64_t key, page;
} child;

// A page grows from both ends: pointers upwards, nodes downwards, as LMDB fills it.
static uint8_t *add_node(uint8_t *page, size_t *n, uint16_t *upper, size_t size)
{
    *upper = (uint16_t)(*upper - size);
    rot_put16(page + ROT_PAGE_HEAD + 2 * *n, *upper);
    *n += 1;
    rot_put16(page + 12, (uint16_t)(ROT_PAGE_HEAD + 2 * *n));
    rot_put16(page + 14, *upper);
    return page + *upper;
}

static void fill_leaf(uint8_t *page, uint64_t number, const rot_entry *entries, size_t n)
{
    uint16_t upper = ROT_PAGE;
    page_head(number, P_LEAF, page);
    for (size_t i = 0, at = 0; i < n; i++) {
        uint8_t *node = add_node(page, &at, &upper, LEAF_NODE);
        rot_put32(node, entries[i].n_bytes);
        rot_put16(node + 4, F_BIGDATA);
        rot_put16(node + 6, 8);
        rot_put64(node + 8, entries[i].key);
        rot_put64(node + 16, entries[i].page);
    }
}

static void fill_branch(uint8_t *page, uint64_t number, const child *children, size_t n)
{
    uint16_t upper = ROT_PAGE;
    page_head(number, P_BRANCH, page);
    for (size_t i = 0, at = 0; i < n; i++) {
        // The first key of a branch page is never compared, and LMDB leaves it out.
        uint8_t *node = add_node(page, &at, &upper, i ? BRANCH_NODE : NODE_HEAD);
        rot_put32(node, (uint32_t)children[i].page);
        rot_put16(node + 4, (uint16_t)(children[i].page >> 32));
        rot_put16(node + 6, i ? 8 : 0);
        if (i) rot_put64(node + 8, children[i].key);
    }
}

// Full pages from the left; LMDB wants two children in every branch page, so the last but one
// gives.
static size_t take(size_t left, size_t fanout)
{
    if (left <= fanout) return left;
    return left == fanout + 1 ? fanout - 1 : fanout;
}

static size_t pages_of_all_levels(size_t n)
{
    size_t level = (n + LEAF_FANOUT - 1) / LEAF_FANOUT, all = level;
    while (level > 1) {
        level = (level + BRANCH_FANOUT - 1) / BRANCH_FANOUT;
        all += level;
    }
    return all;
}

int rot_tree_build(const rot_entry *entries, size_t n, uint64_t first_page, uint8_t **pages,
                   size_t *n_pages, rot_tree *out, rot_err *err)
{
    int rc = 0;
    size_t all = pages_of_all_levels(n), made = 0, n_children = 0;
    uint8_t *bytes = rot_calloc(all, ROT_PAGE);
    child *children = rot_calloc(all, sizeof *children);
    if (!bytes || !children) {
        rc = rot_no_memory(err, all * ROT_PAGE, "tree of a shard");
        goto done;
    }
    *out = (rot_tree){.n_entries = n, .depth = 1};
    for (size_t i = 0, m; i < n; i += m, made++) {
        m = take(n - i, LEAF_FANOUT);
        fill_leaf(bytes + made * ROT_PAGE, first_page + made, entries + i, m);
        children[n_children++] = (child){entries[i].key, first_page + made};
    }
    out->n_leaf = made;
    while (n_children > 1) {
        size_t n_above = 0;
        for (size_t i = 0, m; i < n_children; i += m, made++) {
            m = take(n_children - i, BRANCH_FANOUT);
            uint64_t key = children[i].key;
            fill_branch(bytes + made * ROT_PAGE, first_page + made, children + i, m);
            children[n_above++] = (child){key, first_page + made};
        }
        n_children = n_above;
        out->depth++;
    }
    out->n_branch = made - out->n_leaf;
    out->last_page = first_page + made - 1;
    out->root = out->last_page;
    out->n_overflow = first_page - ROT_FIRST_PAGE;
    *pages = bytes;
    *n_pages = made;
    bytes = NULL;
done:
    rot_free(bytes);
    rot_free(children);
    return rc;
}

// Offsets in a meta page: magic 16, version 20, address 24, map size 32, free database 40, main
// database 88, last page 136, transaction 144. A database: pad 0, flags 4, depth 6, branch, leaf
// and overflow pages 8, 16, 24, entries 32, root 40. The free database's pad is the page size.
void rot_tree_meta(const rot_tree *tree, int which, uint8_t out[4096])
{
    memset(out, 0, ROT_PAGE);
    page_head((uint64_t)which, P_META, out);
    rot_put32(out + 16, META_MAGIC);
    rot_put32(out + 20, 1);
    rot_put64(out + 32, (tree->last_page + 1) * ROT_PAGE);
    rot_put32(out + 40, ROT_PAGE);
    rot_put16(out + 44, META_FLAGS);
    rot_put64(out + 80, NO_PAGE);
    rot_put16(out + 92, INTEGER_KEY);
    rot_put16(out + 94, tree->depth);
    rot_put64(out + 96, tree->n_branch);
    rot_put64(out + 104, tree->n_leaf);
    rot_put64(out + 112, tree->n_overflow);
    rot_put64(out + 120, tree->n_entries);
    rot_put64(out + 128, tree->root);
    rot_put64(out + 136, tree->last_page);
    rot_put64(out + 144, (uint64_t)which);
}

/* ---- reading -----------------------------------------------------------------------------------
 */

int rot_tree_open(const rot_map *map, rot_tree *out, rot_err *err)
{
    if (map->n_bytes < 3 * ROT_PAGE)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "the file is truncated (%zu bytes)", map->n_bytes);
    const uint8_t *m = map->bytes + ROT_PAGE; // page 1 has the later transaction
    if (rot_get32(m + 16) != META_MAGIC || rot_get32(m + 20) != 1 || rot_get16(m + 10) != P_META)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "no LMDB meta page");
    *out = (rot_tree){.root = rot_get64(m + 128),
                      .last_page = rot_get64(m + 136),
                      .n_branch = rot_get64(m + 96),
                      .n_leaf = rot_get64(m + 104),
                      .n_overflow = rot_get64(m + 112),
                      .n_entries = rot_get64(m + 120),
                      .depth = rot_get16(m + 94)};
    uint8_t expected[ROT_PAGE];
    rot_tree_meta(out, 1, expected);
    if (memcmp(expected, m, ROT_PAGE) != 0) ROT_FAIL(err, ROT_ERR_CORRUPT, "damaged meta page");
    uint64_t pages = map->n_bytes / ROT_PAGE;
    if (map->n_bytes % ROT_PAGE || out->last_page + 1 != pages || out->last_page == NO_PAGE)
        ROT_FAIL(err, ROT_ERR_CORRUPT,
                 "the file has %zu bytes, its meta page says %llu pages of %d", map->n_bytes,
                 (unsigned long long)out->last_page + 1, ROT_PAGE);
    if (out->root < ROT_FIRST_PAGE || out->root >= pages || out->depth < 1 ||
        out->depth > MAX_DEPTH)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "damaged meta page (root, depth)");
    return 0;
}

typedef struct node_page {
    const uint8_t *bytes;
    size_t n; // nodes
} node_page;

static int open_page(const rot_map *map, uint64_t number, uint16_t flags, node_page *out,
                     rot_err *err)
{
    if (number < ROT_FIRST_PAGE || number >= map->n_bytes / ROT_PAGE)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "page %llu is outside of the file",
                 (unsigned long long)number);
    const uint8_t *p = map->bytes + number * ROT_PAGE;
    uint16_t lower = rot_get16(p + 12), upper = rot_get16(p + 14);
    if (rot_get64(p) != number || rot_get16(p + 10) != flags || lower < ROT_PAGE_HEAD + 2 ||
        lower % 2 || lower > upper || upper > ROT_PAGE)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "damaged tree page %llu", (unsigned long long)number);
    *out = (node_page){p, (size_t)(lower - ROT_PAGE_HEAD) / 2};
    return 0;
}

// Node i, which has `size` bytes.
static int open_node(const node_page *page, size_t i, size_t size, const uint8_t **out,
                     rot_err *err)
{
    uint16_t at = rot_get16(page->bytes + ROT_PAGE_HEAD + 2 * i);
    if (at < ROT_PAGE_HEAD || at + size > ROT_PAGE)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "damaged tree page %llu",
                 (unsigned long long)rot_get64(page->bytes));
    *out = page->bytes + at;
    return 0;
}

// The last node from `low` on whose key is at most `key`; low - 1 if there is none.
static int find_node(const node_page *page, size_t low, size_t size, uint64_t key, int64_t *found,
                     rot_err *err)
{
    size_t high = page->n; // every node before low is at most key, every one from high on is above
    while (low < high) {
        size_t middle = (low + high) / 2;
        const uint8_t *node;
        ROT_TRY(open_node(page, middle, size, &node, err));
        if (rot_get64(node + NODE_HEAD) <= key)
            low = middle + 1;
        else
            high = middle;
    }
    *found = (int64_t)low - 1;
    return 0;
}

int rot_tree_floor(const rot_map *map, const rot_tree *tree, uint64_t key, rot_entry *out,
                   rot_err *err)
{
    uint64_t number = tree->root;
    node_page page;
    const uint8_t *node;
    int64_t i;
    for (int depth = tree->depth; depth > 1; depth--) {
        ROT_TRY(open_page(map, number, P_BRANCH, &page, err));
        ROT_TRY(find_node(&page, 1, BRANCH_NODE, key, &i, err));
        ROT_TRY(open_node(&page, (size_t)i, NODE_HEAD, &node, err));
        number = rot_get32(node) | (uint64_t)rot_get16(node + 4) << 32;
    }
    ROT_TRY(open_page(map, number, P_LEAF, &page, err));
    ROT_TRY(find_node(&page, 0, LEAF_NODE, key, &i, err));
    if (i < 0) ROT_FAIL(err, ROT_ERR_NOT_FOUND, "no key up to %llu", (unsigned long long)key);
    ROT_TRY(open_node(&page, (size_t)i, LEAF_NODE, &node, err));
    if (rot_get16(node + 4) != F_BIGDATA || rot_get16(node + 6) != 8)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "damaged tree page %llu", (unsigned long long)number);
    *out = (rot_entry){rot_get64(node + 8), rot_get64(node + 16), rot_get32(node)};
    return 0;
}
