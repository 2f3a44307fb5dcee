// Coconut's latent thoughts as a search: which node of the graph the model would name next if it
// went on in words after 0, 1, ... thoughts (Hao et al. 2024, section 5: the probability of a name
// is the product of its tokens'). After k >= 1 thoughts the sentence begins with "Every", before
// the first one with "ROOT is a".
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "trainer/generate.h"

typedef struct tree {
    rot_generator *g;
    const rot_generated *q;
    const rot_question_graph *graph;
    rot_context *context;
    int32_t *depth, *height; // edges from the root, to the target; -1: no way
    double *probability;     // (n_nodes)
    rot_str text;
} tree;

// Edges on the shortest way from `start` along the edges, or against them.
static void distances(const rot_question_graph *graph, int32_t start, bool against, int32_t *out)
{
    for (int32_t i = 0; i < graph->n_nodes; i++) out[i] = -1;
    out[start] = 0;
    for (int32_t d = 0, any = 1; any; d++) {
        any = 0;
        for (int32_t e = 0; e < graph->n_edges; e++) {
            int32_t from = graph->edges[e][against], to = graph->edges[e][!against];
            if (out[from] != d || out[to] >= 0) continue;
            out[to] = d + 1;
            any = 1;
        }
    }
}

static int ids_of(tree *t, const char *prefix, const char *name, int32_t **out, size_t *n,
                  rot_err *err)
{
    const int32_t *ids;
    t->text.n_bytes = 0;
    rot_str_puts(&t->text, prefix);
    if (name) rot_str_puts(&t->text, " ");
    if (name) rot_str_puts(&t->text, name);
    if (t->text.failed) return rot_no_memory(err, t->text.n_bytes, "a name");
    ROT_TRY(rot_tokenizer_encode(t->g->worker, t->text.text, t->text.n_bytes, &ids, n, err));
    *out = rot_malloc((*n + 1) * sizeof **out);
    if (!*out) return rot_no_memory(err, *n * sizeof **out, "a name");
    (*out)[0] = t->g->end;
    memcpy(*out + 1, ids, *n * sizeof *ids);
    return 0;
}

// exp of minus the sum of the losses of ids[from ..] after the end mark and what stands before.
static int score_ids(tree *t, const int32_t *ids, size_t n, size_t from, double *probability,
                     rot_err *err)
{
    const size_t d = (size_t)t->g->d;
    const int32_t length = rot_context_length(t->context, 0), rows = (int32_t)n + 1;
    float *in = rot_malloc((n + 1) * d * sizeof *in), *out = rot_malloc((n + 1) * d * sizeof *out),
          *losses = rot_malloc((n + 1) * sizeof *losses);
    int rc = 0;
    double sum = 0;
    if (!in || !out || !losses) ROT_GO(rot_no_memory(err, n * d * sizeof *in, "a name"));
    ROT_GO(rot_decoder_embed(t->g->decoder, ids, n + 1, in, err));
    ROT_GO(rot_context_forward(t->context, &rows, in, false, out, err));
    if (n > from)
        ROT_GO(rot_decoder_cross_entropy(t->g->decoder, out + from * d, ids + 1 + from, NULL,
                                         n - from, losses, NULL, err));
    for (size_t i = 0; i < n - from; i++) sum += losses[i];
    *probability = exp(-sum);
    rot_context_truncate(t->context, &length);
done:
    rot_free(in);
    rot_free(out);
    rot_free(losses);
    return rc;
}

static int score_nodes(tree *t, int32_t thoughts, rot_err *err)
{
    rot_str prefix = {0};
    int32_t *before = NULL, *ids = NULL;
    size_t n_before, n = 0;
    int rc = 0;
    if (thoughts)
        rot_str_puts(&prefix, "Every");
    else
        rot_str_printf(&prefix, "%s is a", t->graph->symbols[t->graph->root]);
    if (prefix.failed) ROT_GO(rot_no_memory(err, 0, "a name"));
    ROT_GO(ids_of(t, prefix.text, NULL, &before, &n_before, err));
    for (int32_t i = 0; i < t->graph->n_nodes; i++) {
        size_t same = 0;
        ROT_GO(ids_of(t, prefix.text, t->graph->symbols[i], &ids, &n, err));
        while (same < n && same < n_before && ids[1 + same] == before[1 + same]) same++;
        ROT_GO(score_ids(t, ids, n, same, &t->probability[i], err));
        rot_free(ids);
        ids = NULL;
    }
done:
    rot_free(ids);
    rot_free(before);
    rot_str_free(&prefix);
    return rc;
}

static void put_nodes(const tree *t, int32_t thoughts, rot_str *out)
{
    double sum = 0;
    for (int32_t i = 0; i < t->graph->n_nodes; i++) sum += t->probability[i];
    for (int32_t i = 0; i < t->graph->n_nodes; i++) {
        rot_str_printf(out, "%llu\t", (unsigned long long)t->q->ordinal);
        rot_str_json(out, t->q->question->id, strlen(t->q->question->id));
        rot_str_printf(out, "\t%d\t%d\t", thoughts, i);
        rot_str_json(out, t->graph->symbols[i], strlen(t->graph->symbols[i]));
        rot_str_printf(out, "\t%d\t%d\t%.9g\t%.9g\n", t->depth[i], t->height[i], t->probability[i],
                       sum > 0 ? t->probability[i] / sum : 0);
    }
}

void rot_tree_header(rot_str *out)
{
    rot_str_puts(out, "question\tid\tlatents\tnode\tname\tdepth\theight\tprobability\tshare\n");
}

static int walk(tree *t, rot_str *out, rot_err *err)
{
    const size_t d = (size_t)t->g->d;
    const int32_t one = 1, rows = t->q->n_prompt;
    float *in = rot_malloc((size_t)rows * d * sizeof *in);
    if (!in) return rot_no_memory(err, (size_t)rows * d * sizeof *in, "a question");
    int rc = rot_decoder_embed(t->g->decoder, t->q->prompt, (size_t)rows, in, err);
    if (rc == 0) rc = rot_context_forward(t->context, &rows, in, false, NULL, err);
    rot_free(in);
    for (int32_t k = 0; k <= t->q->n_latents && rc == 0; k++) {
        rc = score_nodes(t, k, err);
        if (rc == 0) put_nodes(t, k, out);
        if (rc == 0 && k < t->q->n_latents)
            rc = rot_context_forward(t->context, &one, t->q->latents + (size_t)k * d, false, NULL,
                                     err);
    }
    return rc;
}

int rot_tree_write(rot_generator *g, const rot_generated *q, rot_str *out, rot_err *err)
{
    const rot_question_graph *graph = q->question->graph;
    tree t = {.g = g, .q = q, .graph = graph};
    int rc = 0;
    if (!graph || q->failure[0]) return 0;
    const int32_t positions = rot_decoder_get_info(g->decoder)->positions;
    const int32_t asked = q->n_prompt + q->n_latents + 256, // a name and what leads to it
        capacity = asked < positions ? asked : positions;
    t.depth = rot_malloc((size_t)graph->n_nodes * sizeof *t.depth);
    t.height = rot_malloc((size_t)graph->n_nodes * sizeof *t.height);
    t.probability = rot_malloc((size_t)graph->n_nodes * sizeof *t.probability);
    if (!t.depth || !t.height || !t.probability)
        ROT_GO(rot_no_memory(err, (size_t)graph->n_nodes * sizeof *t.probability, "a graph"));
    distances(graph, graph->root, false, t.depth);
    distances(graph, graph->target, true, t.height);
    ROT_GO(rot_context_open(g->decoder, 1, &capacity, false, &t.context, err));
    rc = walk(&t, out, err);
    if (rc == 0 && out->failed) rc = rot_no_memory(err, out->n_bytes, "the search tree");
done:
    rot_context_close(&t.context);
    rot_free(t.depth);
    rot_free(t.height);
    rot_free(t.probability);
    rot_str_free(&t.text);
    return rc;
}
