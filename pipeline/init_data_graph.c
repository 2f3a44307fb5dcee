// Questions on random graphs, of ProsQA's form: who is what, which of two kinds can be reached from
// one name, and the shortest way there. Edges lead from lower to higher nodes.
#include <string.h>

#include "pipeline/init_data.h"

enum { MAX_NODES = 28, MAX_NAMES = 4, MAX_EDGES = 3 * MAX_NODES, FAR = 99 };

typedef struct graph {
    int n_nodes, n_names, root, target, other; // nodes below n_names are persons
    int n_edges;
    int from[MAX_EDGES], to[MAX_EDGES];
    bool near[MAX_NODES]; // reachable from the root
    int depth[MAX_NODES], parent[MAX_NODES];
    char symbol[MAX_NODES][16];
} graph;

static const char *const names[] = {"Ada",  "Ben",   "Cleo", "Dora",  "Emil", "Fritz",
                                    "Gina", "Henry", "Ines", "Jonas", "Kira", "Leo",
                                    "Mona", "Nils",  "Olga", "Paul"};
static const char *const onsets[] = {"b", "br", "d",  "dr", "f", "fl", "g", "gr",
                                     "h", "j",  "k",  "l",  "m", "n",  "p", "pl",
                                     "r", "s",  "st", "t",  "v", "w",  "y", "z"};
static const char *const endings[] = {"umpus", "impus", "orpus", "empus"};

// Weights out of 800, counted in ProsQA's validation and test sets: steps of the answer from 3 to
// 6; persons from 2 to 4.
static const uint16_t step_weights[] = {326, 350, 105, 19}, name_weights[] = {461, 253, 86};
// Parents of a kind, 1 to 3; some are drawn twice.
static const uint16_t parent_weights[] = {30, 46, 24};

static void shuffle(rot_draws *draws, int *values, int n)
{
    for (int i = n - 1; i > 0; i--) {
        int j = (int)rot_draw(draws, (uint32_t)i + 1), kept = values[i];
        values[i] = values[j];
        values[j] = kept;
    }
}

static void name_nodes(rot_draws *draws, graph *g)
{
    enum { N_NAMES = sizeof names / sizeof *names, N_ONSETS = sizeof onsets / sizeof *onsets };
    int people[N_NAMES], kinds[N_ONSETS * 4];
    for (int i = 0; i < N_NAMES; i++) people[i] = i;
    for (int i = 0; i < N_ONSETS * 4; i++) kinds[i] = i;
    shuffle(draws, people, N_NAMES);
    shuffle(draws, kinds, N_ONSETS * 4);
    for (int i = 0; i < g->n_nodes; i++) {
        char *at = g->symbol[i];
        if (i < g->n_names) {
            strcpy(at, names[people[i]]);
        } else {
            strcpy(at, onsets[kinds[i] / 4]);
            strcat(at, endings[kinds[i] % 4]);
        }
    }
}

static void add_edge(graph *g, int from, int to)
{
    for (int i = 0; i < g->n_edges; i++)
        if (g->from[i] == from && g->to[i] == to) return;
    g->from[g->n_edges] = from;
    g->to[g->n_edges++] = to;
    if (g->depth[from] + 1 >= g->depth[to]) return;
    g->depth[to] = g->depth[from] + 1;
    g->parent[to] = from;
}

// One of the last few nodes before `node` on the same side: recent ones, so that ways become long.
static int draw_parent(rot_draws *draws, const graph *g, int node)
{
    int candidates[MAX_NODES], n = 0;
    for (int i = node - 1; i >= 0 && n < 5; i--)
        if (g->near[i] == g->near[node]) candidates[n++] = i;
    return candidates[rot_draw(draws, (uint32_t)n)];
}

static void draw_edges(rot_draws *draws, graph *g)
{
    for (int i = 0; i < g->n_nodes; i++) g->depth[i] = FAR;
    memset(g->near, 0, sizeof g->near);
    g->depth[g->root] = 0;
    g->near[g->root] = true;
    g->n_edges = 0;
    for (int node = g->n_names; node < g->n_nodes; node++) {
        g->near[node] = rot_draw(draws, 2);
        int n = 1 + (int)rot_draw_weighted(draws, parent_weights, 3);
        for (int i = 0; i < n; i++) {
            // What is near may also be reached from elsewhere; what is not, only from what is not.
            bool any = i > 0 && g->near[node];
            int parent = any ? (int)rot_draw(draws, (uint32_t)node) : draw_parent(draws, g, node);
            add_edge(g, parent, node);
        }
    }
}

// A near kind that many steps away, and one out of reach. False: there is none.
static bool draw_question(rot_draws *draws, graph *g, int steps)
{
    int near[MAX_NODES], far[MAX_NODES], n_near = 0, n_far = 0;
    for (int i = g->n_names; i < g->n_nodes; i++) {
        if (g->near[i] && g->depth[i] == steps) near[n_near++] = i;
        if (!g->near[i]) far[n_far++] = i;
    }
    if (!n_near || !n_far) return false;
    g->target = near[rot_draw(draws, (uint32_t)n_near)];
    g->other = far[rot_draw(draws, (uint32_t)n_far)];
    return true;
}

static void say_edge(const graph *g, int from, int to, rot_str *out)
{
    rot_str_printf(out, from < g->n_names ? "%s is a %s." : "Every %s is a %s.", g->symbol[from],
                   g->symbol[to]);
}

static void say_steps(const graph *g, rot_str *out)
{
    int way[MAX_NODES], n = 0;
    for (int node = g->target; node != g->root; node = g->parent[node]) way[n++] = node;
    for (int i = n, from = g->root; i-- > 0; from = way[i]) {
        rot_str_puts(out, i == n - 1 ? "\"" : ", \"");
        say_edge(g, from, way[i], out);
        rot_str_puts(out, "\"");
    }
}

void rot_graph_json(rot_draws *draws, rot_str *out)
{
    graph g = {0};
    int steps = 3 + (int)rot_draw_weighted(draws, step_weights, 4);
    do { // one in a few graphs has such a way
        g.n_names = 2 + (int)rot_draw_weighted(draws, name_weights, 3);
        g.n_nodes = rot_draw_between(draws, 18, MAX_NODES);
        g.root = (int)rot_draw(draws, (uint32_t)g.n_names);
        draw_edges(draws, &g);
    } while (!draw_question(draws, &g, steps));
    name_nodes(draws, &g);
    int order[MAX_EDGES];
    for (int i = 0; i < g.n_edges; i++) order[i] = i;
    shuffle(draws, order, g.n_edges);
    rot_str_puts(out, "{\"question\": \"");
    for (int i = 0; i < g.n_edges; i++) {
        say_edge(&g, g.from[order[i]], g.to[order[i]], out);
        rot_str_puts(out, " ");
    }
    bool swapped = rot_draw(draws, 2);
    const char *root = g.symbol[g.root], *target = g.symbol[g.target], *other = g.symbol[g.other];
    rot_str_printf(out, "Is %s a %s or %s?\", \"answer\": \"%s is a %s.\", \"steps\": [", root,
                   swapped ? other : target, swapped ? target : other, root, target);
    say_steps(&g, out);
    rot_str_puts(out, "], \"idx_to_symbol\": [");
    for (int i = 0; i < g.n_nodes; i++) rot_str_printf(out, "%s\"%s\"", i ? ", " : "", g.symbol[i]);
    rot_str_puts(out, "], \"edges\": [");
    for (int i = 0; i < g.n_edges; i++)
        rot_str_printf(out, "%s[%d, %d]", i ? ", " : "", g.from[i], g.to[i]);
    rot_str_printf(out, "], \"root\": %d, \"target\": %d, \"neg_target\": %d}", g.root, g.target,
                   g.other);
}
