// Rows of a split's files, one after another, in the formats of docs/input.md.
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"
#include "pipeline/input_array.h"
#include "pipeline/input_ids.h"
#include "pipeline/input_stream.h"
#include "pipeline/input_text.h"
#include "rotoscope/config.h"
#include "schemas/keys.h"

struct rot_input {
    const rot_split_config *split;
    int file; // that is read next
    rot_stream *stream;
    rot_array_state array; // where a file is a JSON array
    uint64_t next_index;
    rot_ids ids;
    bool has_ids; // a row brought an id of its own: from then on all are compared
    json_t *json; // of the current row: its strings live in it
    rot_arena arena;
    char ordinal[24];
    char bad[1100];
    rot_str element; // of the array
};

// Where the current row's text lies.
typedef struct place {
    const char *text;
    size_t n_bytes;
    uint64_t line, offset;
} place;

int rot_input_format_of(const char *name, rot_input_format *out, rot_err *err)
{
    const rot_key *key = rot_key_find(rot_split_keys, rot_n_split_keys, "format");
    char known[256] = "";
    for (int i = 0; i < ROT_KEY_MAX_WORDS && key->words[i]; i++) {
        if (!strcmp(key->words[i], name)) {
            *out = (rot_input_format)i;
            return 0;
        }
        snprintf(known + strlen(known), sizeof known - strlen(known), " %s", key->words[i]);
    }
    ROT_FAIL(err, ROT_ERR_USAGE, "there is no format '%s'; there are%s", name, known);
}

int rot_input_open(const rot_split_config *split, rot_input **out, rot_err *err)
{
    rot_input *input = rot_calloc(1, sizeof *input);
    if (!input) return rot_no_memory(err, sizeof *input, "input");
    input->split = split;
    for (int i = 0; i < split->n_files; i++) { // a missing file is said before the first row
        rot_stream *probe = NULL;
        int rc = rot_stream_open(split->files[i], &probe, err);
        rot_stream_close(&probe);
        if (rc < 0) {
            rot_input_close(&input);
            return rc;
        }
    }
    *out = input;
    return 0;
}

void rot_input_close(rot_input **input)
{
    rot_input *in = *input;
    if (!in) return;
    rot_stream_close(&in->stream);
    rot_ids_free(&in->ids);
    json_decref(in->json);
    rot_arena_free(&in->arena);
    rot_str_free(&in->element);
    rot_free(in);
    *input = NULL;
}

// Marks the row bad; `at` is the byte within the row's text that the cause is seen at.
__attribute__((format(printf, 6, 7))) static int bad(rot_input *in, rot_row *row,
                                                     const place *where, const char *cause,
                                                     uint64_t at, const char *format, ...)
{
    va_list args;
    int n = snprintf(in->bad, sizeof in->bad, "%s:%llu: byte %llu: ", row->file,
                     (unsigned long long)where->line, (unsigned long long)(where->offset + at));
    va_start(args, format);
    if (n > 0 && (size_t)n < sizeof in->bad)
        vsnprintf(in->bad + n, sizeof in->bad - (size_t)n, format, args);
    va_end(args);
    row->bad = in->bad;
    row->bad_cause = cause;
    return 0;
}

static int parse_json(rot_input *in, const place *where, rot_row *row, rot_err *err)
{
    json_error_t e;
    json_decref(in->json);
    in->json = NULL;
    size_t valid = rot_utf8_valid(where->text, where->n_bytes);
    if (valid < where->n_bytes) return bad(in, row, where, "utf8", valid, "invalid UTF-8");
    if (!rot_span_trim((rot_span){where->text, where->n_bytes}).n_bytes)
        return bad(in, row, where, "json", 0, "an empty line");
    in->json = json_loadb(where->text, where->n_bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (json_is_object(in->json)) return 0;
    if (in->json) return bad(in, row, where, "json", 0, "not a JSON object");
    if (json_error_code(&e) == json_error_out_of_memory)
        return rot_no_memory(err, where->n_bytes, "row");
    uint64_t at = e.position > 0 ? (uint64_t)e.position : 0;
    if (!strncmp(e.text, "invalid Unicode", 15)) // a lone surrogate
        return bad(in, row, where, "utf8", at, "%s", e.text);
    if (json_error_code(&e) == json_error_null_character ||
        json_error_code(&e) == json_error_null_byte_in_key)
        return bad(in, row, where, "nul", at, "U+0000 in a key");
    return bad(in, row, where, "json", at, "%s", e.text);
}

// A string field. False: the row is bad now.
static bool field(rot_input *in, const place *where, rot_row *row, const char *key, rot_span *out)
{
    json_t *value = json_object_get(in->json, key);
    if (!json_is_string(value)) {
        bad(in, row, where, "key", 0, value ? "'%s' is no string" : "there is no '%s'", key);
        return false;
    }
    *out = (rot_span){json_string_value(value), json_string_length(value)};
    if (!memchr(out->text, 0, out->n_bytes)) return true;
    bad(in, row, where, "nul", 0, "U+0000 in '%s'", key);
    return false;
}

// The span as a NUL-terminated string of the arena.
static int keep(rot_input *in, rot_span span, const char **text, size_t *n_bytes, rot_err *err)
{
    *text = rot_arena_strndup(&in->arena, span.text, span.n_bytes);
    *n_bytes = span.n_bytes;
    return *text ? 0 : rot_no_memory(err, span.n_bytes, "row");
}

static int keep_parts(rot_input *in, rot_row *row, rot_span question, rot_span trace,
                      rot_span answer, rot_err *err)
{
    if (in->split->strip_calculator) {
        char *stripped = rot_arena_alloc(&in->arena, trace.n_bytes);
        if (!stripped) return rot_no_memory(err, trace.n_bytes, "row");
        trace.n_bytes = rot_strip_calculator(trace, stripped);
        trace.text = stripped;
    }
    ROT_TRY(keep(in, question, &row->question, &row->n_question, err));
    ROT_TRY(keep(in, trace, &row->trace, &row->n_trace, err));
    return keep(in, answer, &row->answer, &row->n_answer, err);
}

static const char *or_default(const char *key, const char *by_default)
{
    return key ? key : by_default;
}

static int parse_jsonl(rot_input *in, const place *where, rot_row *row, rot_err *err)
{
    rot_span question, trace, answer;
    ROT_TRY(parse_json(in, where, row, err));
    if (row->bad ||
        !field(in, where, row, or_default(in->split->key_question, "question"), &question) ||
        !field(in, where, row, or_default(in->split->key_cot, "cot"), &trace) ||
        !field(in, where, row, or_default(in->split->key_answer, "answer"), &answer))
        return 0;
    return keep_parts(in, row, question, trace, answer, err);
}

static int parse_gsm8k(rot_input *in, const place *where, rot_row *row, rot_err *err)
{
    rot_span question, both, trace, answer;
    const char *key = or_default(in->split->key_answer, "answer");
    ROT_TRY(parse_json(in, where, row, err));
    if (row->bad ||
        !field(in, where, row, or_default(in->split->key_question, "question"), &question) ||
        !field(in, where, row, key, &both))
        return 0;
    if (!rot_split_hashes(both, &trace, &answer))
        return bad(in, row, where, "format", 0, "there is no #### in '%s'", key);
    return keep_parts(in, row, question, trace, answer, err);
}

static int parse_math(rot_input *in, const place *where, rot_row *row, rot_err *err)
{
    rot_span question, trace, answer;
    const char *key = or_default(in->split->key_cot, "solution");
    ROT_TRY(parse_json(in, where, row, err));
    if (row->bad ||
        !field(in, where, row, or_default(in->split->key_question, "problem"), &question) ||
        !field(in, where, row, key, &trace))
        return 0;
    const char *own = in->split->format == ROT_INPUT_MATH_500 ? "answer" : NULL;
    own = or_default(in->split->key_answer, own);
    if (own) {
        if (!field(in, where, row, own, &answer)) return 0;
    } else if (!rot_find_boxed(trace, &answer)) {
        return bad(in, row, where, "format", 0, "there is no \\boxed{...} in '%s'", key);
    }
    return keep_parts(in, row, question, trace, answer, err);
}

// Steps are joined by one space, as GSM8k-Aug's text has them.
static int parse_coconut(rot_input *in, const place *where, rot_row *row, rot_err *err)
{
    rot_span question, answer;
    rot_str trace = {0};
    const char *key = or_default(in->split->key_cot, "steps");
    size_t i;
    json_t *step;
    ROT_TRY(parse_json(in, where, row, err));
    if (row->bad ||
        !field(in, where, row, or_default(in->split->key_question, "question"), &question) ||
        !field(in, where, row, or_default(in->split->key_answer, "answer"), &answer))
        return 0;
    json_t *steps = json_object_get(in->json, key);
    if (!json_is_array(steps)) return bad(in, row, where, "key", 0, "'%s' is no list", key);
    json_array_foreach(steps, i, step)
    {
        const char *text = json_string_value(step);
        if (!text) {
            rot_str_free(&trace);
            return bad(in, row, where, "key", 0, "'%s' holds what is no string", key);
        }
        if (strlen(text) != json_string_length(step)) {
            rot_str_free(&trace);
            return bad(in, row, where, "nul", 0, "U+0000 in '%s'", key);
        }
        if (i) rot_str_puts(&trace, " ");
        rot_str_puts(&trace, text);
    }
    int rc = trace.failed
                 ? rot_no_memory(err, 0, "steps")
                 : keep_parts(in, row, question,
                              (rot_span){trace.text ? trace.text : "", trace.n_bytes}, answer, err);
    rot_str_free(&trace);
    return rc;
}

// The text of a number or string; row->bad says whether there was one.
static int number(rot_input *in, const place *where, rot_row *row, const char *key,
                  const json_t *value, rot_span *out, rot_err *err)
{
    char text[40];
    if (json_is_string(value)) {
        *out = (rot_span){json_string_value(value), json_string_length(value)};
        if (memchr(out->text, 0, out->n_bytes))
            return bad(in, row, where, "nul", 0, "U+0000 in '%s'", key);
        return 0;
    }
    if (!json_is_number(value))
        return bad(in, row, where, "key", 0,
                   value ? "'%s' is neither a number nor a string" : "there is no '%s'", key);
    if (json_is_integer(value))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    else
        rot_number_text(json_real_value(value), text);
    return keep(in, (rot_span){text, strlen(text)}, &out->text, &out->n_bytes, err);
}

// SVAMP's question stands in two fields; the first is given the full stop that most lack.
static int parse_svamp(rot_input *in, const place *where, rot_row *row, rot_err *err)
{
    const char *key = or_default(in->split->key_answer, "Answer");
    rot_span body, question, trace, answer = {0};
    ROT_TRY(parse_json(in, where, row, err));
    if (row->bad || !field(in, where, row, "Body", &body) ||
        !field(in, where, row, or_default(in->split->key_question, "Question"), &question) ||
        !field(in, where, row, or_default(in->split->key_cot, "Equation"), &trace))
        return 0;
    ROT_TRY(number(in, where, row, key, json_object_get(in->json, key), &answer, err));
    if (row->bad) return 0;
    body = rot_span_trim(body);
    question = rot_span_trim(question);
    bool ends = body.n_bytes && strchr(".?!", body.text[body.n_bytes - 1]);
    rot_str both = {0};
    rot_str_add(&both, body.text, body.n_bytes);
    rot_str_puts(&both, ends ? " " : ". ");
    rot_str_add(&both, question.text, question.n_bytes);
    int rc = both.failed ? rot_no_memory(err, body.n_bytes, "row")
                         : keep_parts(in, row, (rot_span){both.text, both.n_bytes},
                                      rot_span_trim(trace), answer, err);
    rot_str_free(&both);
    return rc;
}

static int parse_gsm_hard(rot_input *in, const place *where, rot_row *row, rot_err *err)
{
    const char *key = or_default(in->split->key_answer, "target");
    rot_span question, trace, answer = {0};
    ROT_TRY(parse_json(in, where, row, err));
    if (row->bad ||
        !field(in, where, row, or_default(in->split->key_question, "input"), &question) ||
        !field(in, where, row, or_default(in->split->key_cot, "code"), &trace))
        return 0;
    ROT_TRY(number(in, where, row, key, json_object_get(in->json, key), &answer, err));
    return row->bad ? 0 : keep_parts(in, row, question, rot_span_trim(trace), answer, err);
}

// One equation and one solution, in lists.
static int parse_multiarith(rot_input *in, const place *where, rot_row *row, rot_err *err)
{
    const char *keys[] = {or_default(in->split->key_cot, "lEquations"),
                          or_default(in->split->key_answer, "lSolutions")};
    rot_span question, parts[2] = {0};
    ROT_TRY(parse_json(in, where, row, err));
    if (row->bad ||
        !field(in, where, row, or_default(in->split->key_question, "sQuestion"), &question))
        return 0;
    for (int i = 0; i < 2; i++) {
        const json_t *list = json_object_get(in->json, keys[i]);
        if (json_array_size(list) != 1)
            return bad(in, row, where, "key", 0, "'%s' is no list of one", keys[i]);
        ROT_TRY(number(in, where, row, keys[i], json_array_get(list, 0), &parts[i], err));
        if (row->bad) return 0;
    }
    return keep_parts(in, row, rot_span_trim(question), parts[0], parts[1], err);
}

static int parse_gsm8k_aug(rot_input *in, const place *where, rot_row *row, rot_err *err)
{
    rot_span line = {where->text, where->n_bytes}, question, trace, answer;
    size_t valid = rot_utf8_valid(line.text, line.n_bytes);
    if (valid < line.n_bytes) return bad(in, row, where, "utf8", valid, "invalid UTF-8");
    const char *nul = memchr(line.text, 0, line.n_bytes);
    if (nul) return bad(in, row, where, "nul", (uint64_t)(nul - line.text), "U+0000");
    if (line.n_bytes && line.text[line.n_bytes - 1] == '\r') line.n_bytes--;
    if (!rot_split_gsm8k_aug(line, &question, &trace, &answer))
        return bad(in, row, where, "format", 0, "not question||trace #### answer");
    return keep_parts(in, row, question, trace, answer, err);
}

static int add_id(rot_input *in, const char *id, size_t n, bool *added, rot_err *err)
{
    return rot_ids_add(&in->ids, id, n, added, err);
}

// The first id of its own makes the ordinals before it ids to compare with.
static int begin_ids(rot_input *in, uint64_t index, rot_err *err)
{
    in->has_ids = true;
    for (uint64_t i = 0; i < index; i++) {
        char text[24];
        bool added;
        int n = snprintf(text, sizeof text, "%llu", (unsigned long long)i);
        ROT_TRY(add_id(in, text, (size_t)n, &added, err));
    }
    return 0;
}

static int set_id(rot_input *in, const place *where, rot_row *row, rot_err *err)
{
    rot_span id;
    bool added = true;
    const char *const by_default = in->split->format == ROT_INPUT_JSONL      ? "id"
                                   : in->split->format == ROT_INPUT_MATH_500 ? "unique_id"
                                   : in->split->format == ROT_INPUT_SVAMP    ? "ID"
                                                                             : NULL;
    const char *key = or_default(in->split->key_id, by_default);
    json_t *own =
        key && in->split->format != ROT_INPUT_GSM8K_AUG ? json_object_get(in->json, key) : NULL;
    if (own && !field(in, where, row, key, &id)) return 0;
    if (!own) {
        int n = snprintf(in->ordinal, sizeof in->ordinal, "%llu", (unsigned long long)row->index);
        id = (rot_span){in->ordinal, (size_t)n};
    } else if (!in->has_ids) {
        ROT_TRY(begin_ids(in, row->index, err));
    }
    if (in->has_ids) ROT_TRY(add_id(in, id.text, id.n_bytes, &added, err));
    if (!added)
        return bad(in, row, where, "duplicate-id", 0, "the id '%.*s' is there already",
                   id.n_bytes < 200 ? (int)id.n_bytes : 200, id.text);
    return keep(in, id, &row->id, &row->n_id, err);
}

static int parse_row(rot_input *in, const place *where, bool too_long, rot_row *row, rot_err *err)
{
    rot_arena_reset(&in->arena);
    if (too_long)
        return bad(in, row, where, "format", 0, "longer than %d bytes", ROT_LINE_MAX_BYTES);
    switch (in->split->format) {
    case ROT_INPUT_JSONL:
    case ROT_INPUT_GSM8K_AUG_NL: ROT_TRY(parse_jsonl(in, where, row, err)); break;
    case ROT_INPUT_GSM8K: ROT_TRY(parse_gsm8k(in, where, row, err)); break;
    case ROT_INPUT_GSM8K_AUG: ROT_TRY(parse_gsm8k_aug(in, where, row, err)); break;
    case ROT_INPUT_MATH:
    case ROT_INPUT_MATH_500: ROT_TRY(parse_math(in, where, row, err)); break;
    case ROT_INPUT_COCONUT:
    case ROT_INPUT_PRONTOQA:
    case ROT_INPUT_PROSQA: ROT_TRY(parse_coconut(in, where, row, err)); break;
    case ROT_INPUT_SVAMP: ROT_TRY(parse_svamp(in, where, row, err)); break;
    case ROT_INPUT_GSM_HARD: ROT_TRY(parse_gsm_hard(in, where, row, err)); break;
    case ROT_INPUT_MULTIARITH: ROT_TRY(parse_multiarith(in, where, row, err)); break;
    }
    return row->bad ? 0 : set_id(in, where, row, err);
}

// Whether a file is one JSON array, not lines.
static bool is_array(rot_input_format format)
{
    return format == ROT_INPUT_COCONUT || format == ROT_INPUT_PRONTOQA ||
           format == ROT_INPUT_PROSQA || format == ROT_INPUT_SVAMP ||
           format == ROT_INPUT_MULTIARITH;
}

// 1: the place of the next row of the open file; 0: the file has no more.
static int next_place(rot_input *in, place *where, bool *too_long, rot_err *err)
{
    if (is_array(in->split->format)) {
        rot_element element;
        int rc = rot_array_next(in->stream, &in->array, &in->element, &element, err);
        if (rc <= 0) return rc;
        *where = (place){in->element.text, in->element.n_bytes, element.line, element.offset};
        *too_long = element.too_long;
        return 1;
    }
    rot_line line;
    int rc = rot_stream_line(in->stream, &line, err);
    if (rc <= 0) return rc;
    if (!line.n_bytes) { // one empty line at the end of a file is no row
        bool at_end;
        ROT_TRY(rot_stream_at_end(in->stream, &at_end, err));
        if (at_end) return 0;
    }
    *where = (place){line.text, line.n_bytes, line.number, line.offset};
    *too_long = line.too_long;
    return 1;
}

int rot_input_next(rot_input *in, rot_row *row, rot_err *err)
{
    for (;;) {
        place where;
        bool too_long = false;
        if (!in->stream) {
            if (in->file == in->split->n_files) return 0;
            ROT_TRY(rot_stream_open(in->split->files[in->file++], &in->stream, err));
            in->array = ROT_ARRAY_BEFORE;
        }
        int rc = next_place(in, &where, &too_long, err);
        if (rc < 0) return rc;
        if (rc == 0) {
            rot_stream_close(&in->stream);
            continue;
        }
        *row = (rot_row){.index = in->next_index++,
                         .file = in->split->files[in->file - 1],
                         .line = where.line,
                         .offset = where.offset,
                         .source = where.text,
                         .n_source = where.n_bytes};
        rc = parse_row(in, &where, too_long, row, err);
        return rc < 0 ? rc : 1;
    }
}
