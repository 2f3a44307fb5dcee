// Which samples of a split are exported.
#include "pipeline/export.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

rot_export_options rot_export_options_default(void)
{
    return (rot_export_options){.size = sizeof(rot_export_options), .limit = UINT64_MAX};
}

/* ---- conditions --------------------------------------------------------------------------------
 */

typedef enum condition_key {
    KEY_INDEX,
    KEY_ROW,
    KEY_K,
    KEY_WIDTH,
    KEY_HEIGHT,
    KEY_QUESTION_IDS,
    KEY_TRACE_IDS,
    KEY_ANSWER_IDS,
    KEY_ID,
    KEY_QUESTION,
    KEY_TRACE,
    KEY_ANSWER
} condition_key;

static const char *const key_names[] = {"index",  "row",          "K",         "width",
                                        "height", "question_ids", "trace_ids", "answer_ids",
                                        "id",     "question",     "trace",     "answer"};
static const char *const key_stages[] = {NULL,     NULL,     "embeds", "images",
                                         "images", "tokens", "tokens", "tokens",
                                         "tokens", "tokens", "tokens", "tokens"};
enum { N_KEYS = sizeof key_names / sizeof *key_names };

typedef struct condition {
    condition_key key;
    char op[3];
    double number;
    const char *text; // the value, as it stands in the condition
} condition;

static int read_condition(const char *text, condition *out, rot_err *err)
{
    size_t n_key, n_op;
    const char *at = text + strspn(text, " ");
    n_key = strcspn(at, " =!<>");
    for (int i = 0; i <= N_KEYS; i++) {
        if (i == N_KEYS)
            ROT_FAIL(err, ROT_ERR_USAGE,
                     "'%s': conditions are KEY OP VALUE, with a KEY of index, row, K, width, "
                     "height, question_ids, trace_ids, answer_ids, id, question, trace, answer",
                     text);
        if (strlen(key_names[i]) != n_key || strncmp(key_names[i], at, n_key)) continue;
        out->key = (condition_key)i;
        break;
    }
    at += n_key;
    at += strspn(at, " ");
    n_op = strspn(at, "=!<>");
    if (n_op < 1 || n_op > 2 || (n_op == 2 && at[1] != '=') || (n_op == 1 && *at == '!'))
        ROT_FAIL(err, ROT_ERR_USAGE, "'%s': operators are = == != < <= > >=", text);
    memset(out->op, 0, sizeof out->op);
    memcpy(out->op, at, n_op);
    at += n_op;
    out->text = at + strspn(at, " ");
    if (out->key >= KEY_ID) {
        if (*out->op != '=' && *out->op != '!')
            ROT_FAIL(err, ROT_ERR_USAGE, "'%s': texts are compared with = and != alone", text);
        return 0;
    }
    char *end;
    out->number = strtod(out->text, &end);
    if (end == out->text || end[strspn(end, " ")])
        ROT_FAIL(err, ROT_ERR_USAGE, "'%s': '%s' is no number", text, out->text);
    return 0;
}

int rot_export_check_condition(const char *text, rot_err *err)
{
    condition c;
    return read_condition(text, &c, err);
}

static bool compare(const condition *c, double x)
{
    bool equal = c->op[1] == '=';
    switch (*c->op) {
    case '=': return x == c->number;
    case '!': return x != c->number;
    case '<': return equal ? x <= c->number : x < c->number;
    default: return equal ? x >= c->number : x > c->number;
    }
}

static int read_number(rot_reader *r, condition_key key, uint64_t sample, double *out, rot_err *err)
{
    rot_record record;
    uint64_t row;
    if (key == KEY_INDEX) *out = (double)sample;
    if (key == KEY_ROW) {
        ROT_TRY(rot_reader_row(r, sample, &row, err));
        *out = (double)row;
    }
    if (key <= KEY_ROW) return 0;
    ROT_TRY(rot_reader_peek(r, key_stages[key], sample, &record, err));
    int place = key == KEY_HEIGHT || key == KEY_TRACE_IDS ? 1 : key == KEY_ANSWER_IDS ? 2 : 0;
    *out = record.shape[place];
    return 0;
}

int rot_export_read(rot_reader *reader, const char *stage, uint64_t sample, rot_growing *buffer,
                    rot_record *out, rot_err *err)
{
    ROT_TRY(rot_reader_peek(reader, stage, sample, out, err));
    ROT_TRY(rot_grow(&buffer->bytes, &buffer->capacity, out->n_bytes + 1, 1, err));
    return rot_reader_read(reader, stage, sample, buffer->bytes, out->n_bytes, out, err);
}

static int compare_text(rot_reader *r, const condition *c, uint64_t sample, rot_growing *buffer,
                        bool *holds, rot_err *err)
{
    rot_record record;
    rot_sample_texts t;
    ROT_TRY(rot_export_read(r, "tokens", sample, buffer, &record, err));
    ROT_TRY(rot_reader_texts(&record, &t, err));
    const char *texts[] = {t.id, t.question, t.trace, t.answer};
    const uint32_t n[] = {t.n_id, t.n_question, t.n_trace, t.n_answer};
    int i = c->key - KEY_ID;
    bool same = n[i] == strlen(c->text) && memcmp(texts[i], c->text, n[i]) == 0;
    *holds = same == (*c->op == '=');
    return 0;
}

static int test(rot_reader *r, const rot_export_options *o, uint64_t sample, rot_growing *buffer,
                bool *holds, rot_err *err)
{
    *holds = true;
    for (size_t i = 0; *holds && i < o->n_where; i++) {
        condition c;
        double number;
        ROT_TRY(read_condition(o->where[i], &c, err));
        if (c.key >= KEY_ID) {
            ROT_TRY(compare_text(r, &c, sample, buffer, holds, err));
            continue;
        }
        ROT_TRY(read_number(r, c.key, sample, &number, err));
        *holds = compare(&c, number);
    }
    return 0;
}

int rot_export_select(rot_reader *reader, const rot_export_options *o, rot_selection *out,
                      rot_err *err)
{
    int rc = 0;
    rot_growing buffer = {0};
    uint64_t n = rot_reader_get_info(reader)->samples;
    *out = (rot_selection){0};
    for (uint64_t i = 0; i < n && out->n < o->limit; i++) {
        bool holds;
        ROT_GO(test(reader, o, i, &buffer, &holds, err));
        if (!holds) continue;
        ROT_GO(rot_grow(&out->samples, &out->capacity, out->n + 1, sizeof *out->samples, err));
        out->samples[out->n++] = i;
    }
done:
    rot_free(buffer.bytes);
    return rc;
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

int rot_export(const rot_export_options *o, uint64_t *n_samples, rot_err *err)
{
    int rc = 0;
    rot_reader *reader = NULL;
    rot_selection selection = {0};
    *n_samples = 0;
    if (o->size != sizeof *o)
        ROT_FAIL(err, ROT_ERR_USAGE, "export: options of %zu bytes, not %zu", o->size, sizeof *o);
    rot_export_writer *write = rot_export_writer_of(o->format);
    if (!write)
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "'%s' is no format: npy, safetensors, png, jsonl (python -m rotoscope export "
                 "has webdataset, mds and parquet)",
                 o->format);
    for (size_t i = 0; i < o->n_where; i++) ROT_TRY(rot_export_check_condition(o->where[i], err));
    rot_reader_options options = rot_reader_options_default();
    ROT_TRY(rot_reader_open(o->dataset, o->split, &options, &reader, err));
    ROT_GO(rot_export_select(reader, o, &selection, err));
    ROT_GO(write(reader, &selection, o->output, err));
    *n_samples = selection.n;
done:
    rot_free(selection.samples);
    rot_reader_close(&reader);
    return rc;
}
