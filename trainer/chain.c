#include "trainer/chain.h"

#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "encoder/json.h"

struct rot_chains {
    int32_t *ids;
    size_t n_ids, ids_capacity;
    // Of sample s: steps[first_step[s] .. first_step[s + 1]), relative to ids + first_id[s].
    int32_t *steps;
    size_t n_steps, steps_capacity;
    size_t *first_id, *first_step; // (n + 1)
    size_t n;
    int32_t longest;
};

void rot_step_spans_free(rot_step_spans *spans)
{
    rot_free(spans->begin);
    rot_free(spans->end);
    memset(spans, 0, sizeof *spans);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// Whether a step ends in front of text[i].
static bool ends_at(rot_step_rule rule, const char *text, size_t i)
{
    switch (rule) {
    case ROT_STEPS_SPACE: return is_blank(text[i]);
    case ROT_STEPS_LINE: return text[i] == '\n';
    default: return is_blank(text[i]) && i && text[i - 1] == '.';
    }
}

static int add_span(rot_step_spans *out, const char *text, size_t begin, size_t end, rot_err *err)
{
    while (begin < end && is_blank(text[begin])) begin++;
    while (end > begin && is_blank(text[end - 1])) end--;
    if (begin == end) return 0;
    size_t capacity = out->capacity;
    ROT_TRY(rot_grow(&out->begin, &capacity, out->n + 1, sizeof *out->begin, err));
    ROT_TRY(rot_grow(&out->end, &out->capacity, out->n + 1, sizeof *out->end, err));
    out->begin[out->n] = begin;
    out->end[out->n++] = end;
    return 0;
}

int rot_steps_split(rot_step_rule rule, const char *trace, size_t n_bytes, rot_step_spans *out,
                    rot_err *err)
{
    out->n = 0;
    size_t begin = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        if (!ends_at(rule, trace, i)) continue;
        ROT_TRY(add_span(out, trace, begin, i, err));
        begin = i;
    }
    ROT_TRY(add_span(out, trace, begin, n_bytes, err));
    if (rule != ROT_STEPS_PAIR) return 0;
    for (size_t i = 0; i < out->n; i += 2) {
        out->begin[i / 2] = out->begin[i];
        out->end[i / 2] = out->end[i + 1 < out->n ? i + 1 : i];
    }
    out->n = (out->n + 1) / 2;
    return 0;
}

// The first piece of a template for one text, if it is a token.
static void begin_of(const json_t *processor, int32_t *begin)
{
    const char *type = json_string_value(json_object_get(processor, "type"));
    const json_t *all = json_object_get(processor, "processors");
    for (size_t i = 0; type && !strcmp(type, "Sequence") && i < json_array_size(all); i++)
        begin_of(json_array_get(all, i), begin);
    if (!type || strcmp(type, "TemplateProcessing")) return;
    const json_t *first = json_array_get(json_object_get(processor, "single"), 0);
    const char *name =
        json_string_value(json_object_get(json_object_get(first, "SpecialToken"), "id"));
    const json_t *token =
        name ? json_object_get(json_object_get(processor, "special_tokens"), name) : NULL;
    const json_t *id = json_array_get(json_object_get(token, "ids"), 0);
    if (json_is_integer(id)) *begin = (int32_t)json_integer_value(id);
}

int rot_chain_begin(const char *folder, int32_t *begin, rot_err *err)
{
    char path[4096];
    json_t *root = NULL;
    *begin = -1;
    ROT_TRY(rot_fs_join(path, sizeof path, folder, "tokenizer.json", err));
    ROT_TRY(rot_json_read(path, false, &root, err));
    begin_of(json_object_get(root, "post_processor"), begin);
    json_decref(root);
    return 0;
}

typedef struct filling {
    rot_chains *chains;
    rot_tokenizer_worker *worker;
    rot_step_rule rule;
    int32_t begin, end;
    rot_step_spans spans;
    rot_str text;
    uint8_t *payload;
    size_t capacity;
} filling;

static int add_id(rot_chains *c, int32_t id, rot_err *err)
{
    ROT_TRY(rot_grow(&c->ids, &c->ids_capacity, c->n_ids + 1, sizeof *c->ids, err));
    c->ids[c->n_ids++] = id;
    return 0;
}

// The ids of `before`, text, `after`, encoded as one piece.
static int add_text(filling *f, const char *before, const char *text, size_t n, const char *after,
                    rot_err *err)
{
    f->text.n_bytes = 0;
    rot_str_puts(&f->text, before);
    rot_str_add(&f->text, text, n);
    rot_str_puts(&f->text, after);
    if (f->text.failed) return rot_no_memory(err, n, "text of a sample");
    const int32_t *ids;
    size_t n_ids;
    ROT_TRY(rot_tokenizer_encode(f->worker, f->text.text, f->text.n_bytes, &ids, &n_ids, err));
    rot_chains *c = f->chains;
    ROT_TRY(rot_grow(&c->ids, &c->ids_capacity, c->n_ids + n_ids, sizeof *c->ids, err));
    if (n_ids) memcpy(c->ids + c->n_ids, ids, n_ids * sizeof *ids);
    c->n_ids += n_ids;
    return 0;
}

// Here the next step, or after the last one the answer, begins.
static int mark(rot_chains *c, size_t first_id, rot_err *err)
{
    ROT_TRY(rot_grow(&c->steps, &c->steps_capacity, c->n_steps + 1, sizeof *c->steps, err));
    c->steps[c->n_steps++] = (int32_t)(c->n_ids - first_id);
    return 0;
}

static int add_sample(filling *f, const rot_sample_texts *t, rot_err *err)
{
    rot_chains *c = f->chains;
    size_t first = c->n_ids;
    if (f->begin >= 0) ROT_TRY(add_id(c, f->begin, err));
    ROT_TRY(add_text(f, "", t->question, t->n_question, "\n", err));
    ROT_TRY(mark(c, first, err));
    ROT_TRY(rot_steps_split(f->rule, t->trace, t->n_trace, &f->spans, err));
    for (size_t i = 0; i < f->spans.n; i++) {
        ROT_TRY(add_text(f, "", t->trace + f->spans.begin[i], f->spans.end[i] - f->spans.begin[i],
                         "\n", err));
        ROT_TRY(mark(c, first, err));
    }
    ROT_TRY(add_text(f, "### ", t->answer, t->n_answer, "", err));
    ROT_TRY(add_id(c, f->end, err));
    if (c->n_ids - first > INT32_MAX) ROT_FAIL(err, ROT_ERR_TOO_LARGE, "a sample of 2^31 tokens");
    if ((int32_t)(c->n_ids - first) > c->longest) c->longest = (int32_t)(c->n_ids - first);
    return 0;
}

static int read_sample(filling *f, rot_reader *reader, uint64_t sample, rot_sample_texts *out,
                       rot_err *err)
{
    rot_record record;
    int code = rot_reader_read(reader, "tokens", sample, f->payload, f->capacity, &record, err);
    if (code == ROT_ERR_TOO_LARGE) {
        rot_free(f->payload);
        f->capacity = 2 * record.n_bytes;
        f->payload = rot_aligned_malloc(f->capacity);
        if (!f->payload) return rot_no_memory(err, f->capacity, "a record");
        code = rot_reader_read(reader, "tokens", sample, f->payload, f->capacity, &record, err);
    }
    ROT_TRY(code);
    return rot_reader_texts(&record, out, err);
}

static int fill(filling *f, rot_reader *reader, rot_err *err)
{
    rot_chains *c = f->chains;
    for (size_t i = 0; i < c->n; i++) {
        c->first_id[i] = c->n_ids;
        c->first_step[i] = c->n_steps;
        rot_sample_texts texts;
        ROT_TRY(read_sample(f, reader, i, &texts, err));
        ROT_TRY(add_sample(f, &texts, err));
    }
    c->first_id[c->n] = c->n_ids;
    c->first_step[c->n] = c->n_steps;
    return 0;
}

int rot_chains_read(rot_reader *reader, const rot_tokenizer *tokenizer, rot_step_rule rule,
                    int32_t begin, int32_t end, rot_chains **out, rot_err *err)
{
    *out = NULL;
    size_t n = rot_reader_get_info(reader)->samples;
    rot_chains *c = rot_calloc(1, sizeof *c);
    if (!c) return rot_no_memory(err, sizeof *c, "samples");
    c->n = n;
    c->first_id = rot_calloc(n + 1, sizeof *c->first_id);
    c->first_step = rot_calloc(n + 1, sizeof *c->first_step);
    filling f = {.chains = c, .rule = rule, .begin = begin, .end = end};
    int code = c->first_id && c->first_step
                   ? rot_tokenizer_worker_open(tokenizer, &f.worker, err)
                   : rot_no_memory(err, 2 * (n + 1) * sizeof *c->first_id, "samples");
    if (code == 0) code = fill(&f, reader, err);
    rot_tokenizer_worker_close(&f.worker);
    rot_step_spans_free(&f.spans);
    rot_str_free(&f.text);
    rot_free(f.payload);
    if (code == 0)
        *out = c;
    else
        rot_chains_free(&c);
    return code;
}

void rot_chains_free(rot_chains **chains)
{
    rot_chains *c = *chains;
    if (!c) return;
    rot_free(c->ids);
    rot_free(c->steps);
    rot_free(c->first_id);
    rot_free(c->first_step);
    rot_free(c);
    *chains = NULL;
}

size_t rot_chains_count(const rot_chains *chains)
{
    return chains->n;
}

int32_t rot_chains_longest(const rot_chains *chains)
{
    return chains->longest;
}

rot_chain rot_chains_get(const rot_chains *chains, size_t i)
{
    const int32_t *steps = chains->steps + chains->first_step[i];
    return (rot_chain){.ids = chains->ids + chains->first_id[i],
                       .steps = steps,
                       .n_steps = (int32_t)(chains->first_step[i + 1] - chains->first_step[i]) - 1,
                       .n = (int32_t)(chains->first_id[i + 1] - chains->first_id[i])};
}
