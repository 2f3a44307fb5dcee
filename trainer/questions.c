// Questions, from the files of evaluation sets and from stores.
#include "rotoscope/questions.h"

#include <jansson.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "encoder/json.h"
#include "rotoscope/config.h"
#include "rotoscope/reader.h"
#include "trainer/chain.h"

struct rot_questions {
    rot_arena arena; // every text, list and graph
    rot_question *list;
    size_t n, capacity;
};

static void *take(rot_questions *q, size_t n, size_t size, rot_err *err)
{
    void *block = rot_arena_alloc(&q->arena, n * size + !n);
    if (!block) rot_no_memory(err, n * size, "questions");
    return block;
}

static int copy(rot_questions *q, const char *text, size_t n_bytes, const char **out, rot_err *err)
{
    *out = rot_arena_strndup(&q->arena, text, n_bytes);
    return *out ? 0 : rot_no_memory(err, n_bytes, "questions");
}

/* ---- steps -------------------------------------------------------------------------------------
 */

static int steps_of_json(rot_questions *q, const json_t *row, rot_question *out, rot_err *err)
{
    const json_t *list = json_object_get(row, "steps");
    out->n_steps = json_array_size(list);
    const char **steps = take(q, out->n_steps, sizeof *steps, err);
    if (!steps) return ROT_ERR_NO_MEMORY;
    for (size_t i = 0; i < out->n_steps; i++) {
        const json_t *step = json_array_get(list, i);
        ROT_TRY(copy(q, json_string_value(step), json_string_length(step), &steps[i], err));
    }
    out->steps = steps;
    return 0;
}

static int steps_of_trace(rot_questions *q, rot_step_rule rule, rot_question *out, rot_err *err)
{
    rot_step_spans spans = {0};
    int rc = 0;
    ROT_GO(rot_steps_split(rule, out->trace, strlen(out->trace), &spans, err));
    const char **steps = take(q, spans.n, sizeof *steps, err);
    if (!steps) ROT_GO(ROT_ERR_NO_MEMORY);
    for (size_t i = 0; i < spans.n; i++)
        ROT_GO(copy(q, out->trace + spans.begin[i], spans.end[i] - spans.begin[i], &steps[i], err));
    out->steps = steps;
    out->n_steps = spans.n;
done:
    rot_step_spans_free(&spans);
    return rc;
}

/* ---- graphs ------------------------------------------------------------------------------------
 */

static int symbols_of(rot_questions *q, const json_t *row, rot_question_graph *graph,
                      const char *where, rot_err *err)
{
    const json_t *list = json_object_get(row, "idx_to_symbol");
    const size_t n = json_array_size(list);
    if (!n || n > 1 << 16)
        ROT_FAIL(err, ROT_ERR_INPUT, "%s: 'idx_to_symbol' is no list of names", where);
    const char **symbols = take(q, n, sizeof *symbols, err);
    if (!symbols) return ROT_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const json_t *symbol = json_array_get(list, i);
        if (!json_is_string(symbol))
            ROT_FAIL(err, ROT_ERR_INPUT, "%s: 'idx_to_symbol' holds what is no string", where);
        ROT_TRY(copy(q, json_string_value(symbol), json_string_length(symbol), &symbols[i], err));
    }
    graph->symbols = symbols;
    graph->n_nodes = (int32_t)n;
    return 0;
}

static bool node_of(const json_t *value, int32_t n_nodes, int32_t *out)
{
    int64_t n = json_is_integer(value) ? json_integer_value(value) : -1;
    *out = n >= 0 && n < n_nodes ? (int32_t)n : -1;
    return *out >= 0;
}

static int graph_of(rot_questions *q, const json_t *row, rot_question *out, const char *where,
                    rot_err *err)
{
    rot_question_graph *graph = take(q, 1, sizeof *graph, err);
    if (!graph) return ROT_ERR_NO_MEMORY;
    ROT_TRY(symbols_of(q, row, graph, where, err));
    const json_t *list = json_object_get(row, "edges");
    const size_t n = json_array_size(list);
    if (!json_is_array(list) || n > 1 << 20)
        ROT_FAIL(err, ROT_ERR_INPUT, "%s: 'edges' is no list", where);
    int32_t(*edges)[2] = take(q, n, sizeof *edges, err);
    if (!edges) return ROT_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const json_t *edge = json_array_get(list, i);
        if (json_array_size(edge) != 2 ||
            !node_of(json_array_get(edge, 0), graph->n_nodes, &edges[i][0]) ||
            !node_of(json_array_get(edge, 1), graph->n_nodes, &edges[i][1]))
            ROT_FAIL(err, ROT_ERR_INPUT, "%s: edge %zu is no pair of nodes", where, i);
    }
    graph->edges = (const int32_t(*)[2])edges;
    graph->n_edges = (int32_t)n;
    const char *const keys[] = {"root", "target", "neg_target"};
    int32_t *const nodes[] = {&graph->root, &graph->target, &graph->neg_target};
    for (int i = 0; i < 3; i++)
        if (!node_of(json_object_get(row, keys[i]), graph->n_nodes, nodes[i]))
            ROT_FAIL(err, ROT_ERR_INPUT, "%s: '%s' is no node", where, keys[i]);
    out->graph = graph;
    return 0;
}

/* ---- files -------------------------------------------------------------------------------------
 */

static int add_row(rot_questions *q, const rot_row *row, rot_input_format format, rot_err *err)
{
    if (row->bad) ROT_FAIL(err, ROT_ERR_INPUT, "%s", row->bad);
    ROT_TRY(rot_grow(&q->list, &q->capacity, q->n + 1, sizeof *q->list, err));
    rot_question *out = &q->list[q->n];
    *out = (rot_question){0};
    ROT_TRY(copy(q, row->id, row->n_id, &out->id, err));
    ROT_TRY(copy(q, row->question, row->n_question, &out->question, err));
    ROT_TRY(copy(q, row->trace, row->n_trace, &out->trace, err));
    ROT_TRY(copy(q, row->answer, row->n_answer, &out->answer, err));
    q->n++;
    if (format != ROT_INPUT_COCONUT && format != ROT_INPUT_PRONTOQA && format != ROT_INPUT_PROSQA)
        return steps_of_trace(q, format == ROT_INPUT_GSM8K_AUG ? ROT_STEPS_SPACE : ROT_STEPS_LINE,
                              out, err);
    rot_str where = {0};
    json_t *json = NULL;
    rot_str_printf(&where, "%s:%llu", row->file, (unsigned long long)row->line);
    int rc = where.failed
                 ? rot_no_memory(err, 0, "questions")
                 : rot_json_parse(row->source, row->n_source, true, where.text, &json, err);
    if (rc == 0) rc = steps_of_json(q, json, out, err);
    if (rc == 0 && format == ROT_INPUT_PROSQA) rc = graph_of(q, json, out, where.text, err);
    json_decref(json);
    rot_str_free(&where);
    return rc;
}

static int read_file(rot_questions *q, const char *path, rot_input_format format, rot_err *err)
{
    rot_split_config split = {.files = &path, .n_files = 1, .format = format};
    rot_input *input = NULL;
    rot_row row;
    ROT_TRY(rot_input_open(&split, &input, err));
    int rc;
    while ((rc = rot_input_next(input, &row, err)) > 0) {
        rc = add_row(q, &row, format, err);
        if (rc < 0) break;
    }
    rot_input_close(&input);
    return rc;
}

/* ---- stores ------------------------------------------------------------------------------------
 */

static int read_texts(rot_reader *reader, uint64_t sample, void **buffer, size_t *capacity,
                      rot_sample_texts *out, rot_err *err)
{
    rot_record record;
    ROT_TRY(rot_reader_peek(reader, "tokens", sample, &record, err));
    if (record.n_bytes > *capacity) {
        rot_free(*buffer);
        *capacity = 2 * record.n_bytes;
        *buffer = rot_aligned_malloc(*capacity);
        if (!*buffer) return rot_no_memory(err, *capacity, "a record");
    }
    ROT_TRY(rot_reader_read(reader, "tokens", sample, *buffer, *capacity, &record, err));
    return rot_reader_texts(&record, out, err);
}

static int read_samples(rot_questions *q, rot_reader *reader, rot_err *err)
{
    const rot_reader_info *info = rot_reader_get_info(reader);
    const uint32_t *k = NULL;
    void *buffer = NULL;
    size_t capacity = 0;
    int rc = 0;
    if (info->has_embeds) ROT_TRY(rot_reader_k(reader, &k, err));
    ROT_TRY(rot_grow(&q->list, &q->capacity, info->samples + 1, sizeof *q->list, err));
    for (uint64_t i = 0; i < info->samples; i++) {
        rot_sample_texts t;
        rot_question *out = &q->list[q->n];
        ROT_GO(read_texts(reader, i, &buffer, &capacity, &t, err));
        *out = (rot_question){.teacher_latents = k ? k[i] : 0};
        ROT_GO(copy(q, t.id, t.n_id, &out->id, err));
        ROT_GO(copy(q, t.question, t.n_question, &out->question, err));
        ROT_GO(copy(q, t.trace, t.n_trace, &out->trace, err));
        ROT_GO(copy(q, t.answer, t.n_answer, &out->answer, err));
        q->n++;
        bool lines = memchr(t.trace, '\n', t.n_trace) || !memmem(t.trace, t.n_trace, ">> <<", 5);
        ROT_GO(steps_of_trace(q, lines ? ROT_STEPS_LINE : ROT_STEPS_SPACE, out, err));
    }
done:
    rot_free(buffer);
    return rc;
}

static int read_store(rot_questions *q, const char *path, const char *split, rot_err *err)
{
    rot_reader_options options = rot_reader_options_default();
    rot_reader *reader = NULL;
    ROT_TRY(rot_reader_open(path, split, &options, &reader, err));
    int rc = read_samples(q, reader, err);
    rot_reader_close(&reader);
    return rc;
}

int rot_questions_read(const char *path, const char *format, const char *split, rot_questions **out,
                       rot_err *err)
{
    const bool store = !strcmp(format, "store");
    rot_input_format file_format = ROT_INPUT_JSONL;
    if (!store) ROT_TRY(rot_input_format_of(format, &file_format, err));
    if (!store && split)
        ROT_FAIL(err, ROT_ERR_USAGE, "a split '%s' of a file: only a store has splits", split);
    rot_questions *q = rot_calloc(1, sizeof *q);
    if (!q) return rot_no_memory(err, sizeof *q, "questions");
    int rc = store ? read_store(q, path, split, err) : read_file(q, path, file_format, err);
    if (rc < 0)
        rot_questions_free(&q);
    else
        *out = q;
    return rc < 0 ? rc : 0;
}

void rot_questions_free(rot_questions **questions)
{
    if (!*questions) return;
    rot_arena_free(&(*questions)->arena);
    rot_free((*questions)->list);
    rot_free(*questions);
    *questions = NULL;
}

size_t rot_questions_count(const rot_questions *questions)
{
    return questions->n;
}

const rot_question *rot_questions_get(const rot_questions *questions, size_t i)
{
    return &questions->list[i];
}
