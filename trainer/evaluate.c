// Predictions read from lines of JSON, judged against gold answers, written out one by one.
#include "rotoscope/evaluate.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "rotoscope/questions.h"
#include "rotoscope/tokenizer.h"
#include "trainer/answer.h"
#include "trainer/score.h"

// A question as far as it is judged. With a list of questions its texts lie there, else in the
// arena.
typedef struct gold {
    const char *id, *answer, *trace;
    const char *const *steps;
    size_t n_steps;
    uint32_t teacher_latents;
    double text_tokens; // NAN: not known
} gold;

typedef struct evaluation {
    rot_questions *questions; // NULL: gold comes with the predictions
    gold *gold;               // in the order of questions, or of first appearance
    size_t n_gold, gold_capacity;
    size_t *slots; // by the hash of an id: its index in gold + 1; 0: free
    size_t n_slots;
    rot_score_row *rows;
    size_t *row_gold; // which question row i is of
    size_t n, rows_capacity, row_gold_capacity;
    int64_t *seeds;
    size_t n_seeds, seeds_capacity;
    rot_tokenizer *tokenizer;
    rot_tokenizer_worker *worker;
    rot_arena arena;
    rot_str samples; // lines of judged samples
    bool keep_samples;
} evaluation;

rot_evaluate_options rot_evaluate_options_default(void)
{
    return (rot_evaluate_options){.size = sizeof(rot_evaluate_options)};
}

/* ---- questions ---------------------------------------------------------------------------------
 */

// The slot of the question with this id, or the free one where it would be.
static size_t slot_of(const evaluation *e, const char *id)
{
    uint64_t key = UINT64_C(0xcbf29ce484222325); // FNV-1a
    for (const char *c = id; *c; c++) key = (key ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    size_t slot = key & (e->n_slots - 1);
    while (e->slots[slot] && strcmp(e->gold[e->slots[slot] - 1].id, id))
        slot = (slot + 1) & (e->n_slots - 1);
    return slot;
}

// The question with this id, or n_gold.
static size_t find_id(const evaluation *e, const char *id)
{
    size_t found = e->n_slots ? e->slots[slot_of(e, id)] : 0;
    return found ? found - 1 : e->n_gold;
}

// Room for one more id; at most half of the slots are taken.
static int grow_slots(evaluation *e, rot_err *err)
{
    if (2 * (e->n_gold + 1) <= e->n_slots) return 0;
    size_t n = e->n_slots ? 2 * e->n_slots : 1024;
    size_t *slots = rot_calloc(n, sizeof *slots);
    if (!slots) return rot_no_memory(err, n * sizeof *slots, "ids");
    rot_free(e->slots);
    e->slots = slots;
    e->n_slots = n;
    for (size_t i = 0; i < e->n_gold; i++) slots[slot_of(e, e->gold[i].id)] = i + 1;
    return 0;
}

static int add_gold(evaluation *e, const gold *one, rot_err *err)
{
    ROT_TRY(rot_grow(&e->gold, &e->gold_capacity, e->n_gold + 1, sizeof *e->gold, err));
    ROT_TRY(grow_slots(e, err));
    e->slots[slot_of(e, one->id)] = e->n_gold + 1;
    e->gold[e->n_gold] = *one;
    gold *kept = &e->gold[e->n_gold++];
    kept->text_tokens = NAN;
    if (!e->worker || !*kept->trace) return 0;
    const int32_t *ids;
    size_t n_ids;
    ROT_TRY(rot_tokenizer_encode(e->worker, kept->trace, strlen(kept->trace), &ids, &n_ids, err));
    kept->text_tokens = (double)n_ids;
    return 0;
}

static int read_questions(evaluation *e, const rot_evaluate_options *options, rot_err *err)
{
    if (!options->format) ROT_FAIL(err, ROT_ERR_USAGE, "%s: of which format?", options->questions);
    ROT_TRY(rot_questions_read(options->questions, options->format, options->split, &e->questions,
                               err));
    for (size_t i = 0; i < rot_questions_count(e->questions); i++) {
        const rot_question *q = rot_questions_get(e->questions, i);
        gold one = {q->id, q->answer, q->trace, q->steps, q->n_steps, q->teacher_latents, NAN};
        ROT_TRY(add_gold(e, &one, err));
    }
    return 0;
}

/* ---- lines of predictions ----------------------------------------------------------------------
 */

typedef struct line {
    const char *path;
    size_t number;
    json_t *json;
} line;

static int wrong(const line *l, rot_err *err, const char *what, const char *key)
{
    ROT_FAIL(err, ROT_ERR_INPUT, "%s:%zu: '%.60s' %s", l->path, l->number, key, what);
}

// A string of the arena; *out stays NULL where the key is absent or null.
static int text_of(evaluation *e, const line *l, const char *key, const char **out, rot_err *err)
{
    const json_t *value = json_object_get(l->json, key);
    if (!value || json_is_null(value)) return 0;
    if (!json_is_string(value)) return wrong(l, err, "is no string", key);
    *out = rot_arena_strndup(&e->arena, json_string_value(value), json_string_length(value));
    return *out ? 0 : rot_no_memory(err, json_string_length(value), "a prediction");
}

// A finite number that is not negative; NAN where the key is absent or null.
static int number_of(const line *l, const char *key, double *out, rot_err *err)
{
    const json_t *value = json_object_get(l->json, key);
    *out = NAN;
    if (!value || json_is_null(value)) return 0;
    if (!json_is_number(value) || json_number_value(value) < 0)
        return wrong(l, err, "is no number from 0 on", key);
    *out = json_number_value(value);
    return 0;
}

// An id is a string or a whole number; a row without one takes its line's ordinal, as questions do.
static int id_of(evaluation *e, const line *l, const char **out, rot_err *err)
{
    const json_t *value = json_object_get(l->json, "id");
    char digits[32];
    if (json_is_string(value)) return text_of(e, l, "id", out, err);
    if (value && !json_is_integer(value))
        return wrong(l, err, "is no string or whole number", "id");
    snprintf(digits, sizeof digits, "%lld",
             value ? (long long)json_integer_value(value) : (long long)l->number - 1);
    *out = rot_arena_strdup(&e->arena, digits);
    return *out ? 0 : rot_no_memory(err, sizeof digits, "a prediction");
}

static int steps_of(evaluation *e, const line *l, gold *out, rot_err *err)
{
    const json_t *list = json_object_get(l->json, "steps");
    const size_t n = json_array_size(list);
    const char **steps = rot_arena_alloc(&e->arena, (n + 1) * sizeof *steps);
    if (!steps) return rot_no_memory(err, n * sizeof *steps, "a prediction");
    for (size_t i = 0; i < n; i++) {
        const json_t *step = json_array_get(list, i);
        if (!json_is_string(step)) return wrong(l, err, "holds what is no string", "steps");
        steps[i] = rot_arena_strdup(&e->arena, json_string_value(step));
        if (!steps[i]) return rot_no_memory(err, 0, "a prediction");
    }
    out->steps = steps;
    out->n_steps = n;
    return 0;
}

// The gold answer that a line brings with it: the same for all predictions of an id.
static int gold_of_line(evaluation *e, const line *l, const char *id, size_t *index, rot_err *err)
{
    gold one = {.id = id, .trace = ""};
    ROT_TRY(text_of(e, l, "answer", &one.answer, err));
    if (!one.answer) ROT_TRY(text_of(e, l, "ground_truth", &one.answer, err));
    if (!one.answer)
        return wrong(l, err, "is missing, and no file of questions is given", "answer");
    ROT_TRY(text_of(e, l, "cot", &one.trace, err));
    ROT_TRY(steps_of(e, l, &one, err));
    *index = find_id(e, id);
    if (*index == e->n_gold) return add_gold(e, &one, err);
    if (strcmp(e->gold[*index].answer, one.answer))
        return wrong(l, err, "is another than before for the same id", "answer");
    return 0;
}

static int seed_of(evaluation *e, const line *l, int64_t by_default, uint32_t *out, rot_err *err)
{
    const json_t *value = json_object_get(l->json, "seed");
    if (value && !json_is_integer(value)) return wrong(l, err, "is no whole number", "seed");
    int64_t seed = value ? json_integer_value(value) : by_default;
    for (*out = 0; *out < e->n_seeds; ++*out)
        if (e->seeds[*out] == seed) return 0;
    if (e->n_seeds == 10000) return wrong(l, err, "is the 10,001st different one", "seed");
    ROT_TRY(rot_grow(&e->seeds, &e->seeds_capacity, e->n_seeds + 1, sizeof *e->seeds, err));
    e->seeds[e->n_seeds++] = seed;
    return 0;
}

/* ---- judging -----------------------------------------------------------------------------------
 */

// What the rules found, for the line of the sample.
typedef struct judged {
    rot_str released, released_gold, corrected, coconut;
} judged;

static void judged_free(judged *j)
{
    rot_str_free(&j->released);
    rot_str_free(&j->released_gold);
    rot_str_free(&j->corrected);
    rot_str_free(&j->coconut);
}

static const char *text_in(const rot_str *s)
{
    return s->text ? s->text : "";
}

static int judge(const gold *g, const char *text, size_t n, rot_score_row *row, judged *j,
                 rot_err *err)
{
    const size_t n_gold = strlen(g->answer);
    rot_str plain = {0}; // the gold answer as Coconut compares it
    rot_answer_released(text, n, &j->released);
    rot_answer_released(g->answer, n_gold, &j->released_gold);
    row->released = rot_answer_released_equal(text_in(&j->released), j->released.n_bytes,
                                              text_in(&j->released_gold), j->released_gold.n_bytes);
    int rc = rot_answer_corrected(text, n, g->answer, n_gold, &j->corrected, &row->corrected, err);
    rot_answer_coconut(text, n, &j->coconut);
    for (const char *c = g->answer; *c; c++)
        if (*c != ',') rot_str_add(&plain, c, 1);
    const char *gold_text = text_in(&plain);
    size_t n_plain = plain.n_bytes;
    rot_answer_trim(&gold_text, &n_plain);
    row->coconut =
        n_plain == j->coconut.n_bytes && !memcmp(gold_text, text_in(&j->coconut), n_plain);
    row->chain = g->n_steps && rot_answer_coconut_chain(text, n, g->steps, g->n_steps);
    bool failed =
        plain.failed || j->released.failed || j->released_gold.failed || j->coconut.failed;
    rot_str_free(&plain);
    return rc == 0 && failed ? rot_no_memory(err, n, "a prediction") : rc;
}

static void put_number(rot_str *out, const char *key, double value)
{
    if (!isnan(value)) rot_str_printf(out, ", \"%s\": %.12g", key, value);
}

static void put_rule(rot_str *out, const char *rule, const rot_str *found, bool right)
{
    rot_str_printf(out, ", \"%s\": {\"answer\": ", rule);
    rot_str_json(out, text_in(found), found->n_bytes);
    rot_str_printf(out, ", \"right\": %s}", right ? "true" : "false");
}

static void put_sample(evaluation *e, const gold *g, const rot_score_row *row, const char *failure,
                       const char *text, size_t n, const judged *j)
{
    rot_str *out = &e->samples;
    if (!e->keep_samples) return;
    rot_str_puts(out, "{\"id\": ");
    rot_str_json(out, g->id, strlen(g->id));
    rot_str_printf(out, ", \"seed\": %lld, \"gold\": ", (long long)e->seeds[row->seed]);
    rot_str_json(out, g->answer, strlen(g->answer));
    if (failure) {
        rot_str_puts(out, ", \"failure\": ");
        rot_str_json(out, failure, strlen(failure));
    } else {
        rot_str_puts(out, ", \"prediction\": ");
        rot_str_json(out, text, n);
        put_rule(out, "corrected", &j->corrected, row->corrected);
        put_rule(out, "released", &j->released, row->released);
        put_rule(out, "coconut", &j->coconut, row->coconut);
        rot_str_printf(out, ", \"chain_exact\": %s", row->chain ? "true" : "false");
    }
    put_number(out, "latents", row->latents);
    put_number(out, "chain_tokens", row->chain_tokens);
    put_number(out, "seconds", row->seconds);
    put_number(out, "text_tokens", row->text_tokens);
    put_number(out, "teacher_latents", row->teacher_latents);
    rot_str_puts(out, "}\n");
}

static int add_row(evaluation *e, const rot_score_row *row, size_t index, rot_err *err)
{
    ROT_TRY(rot_grow(&e->rows, &e->rows_capacity, e->n + 1, sizeof *e->rows, err));
    ROT_TRY(rot_grow(&e->row_gold, &e->row_gold_capacity, e->n + 1, sizeof *e->row_gold, err));
    e->rows[e->n] = *row;
    e->row_gold[e->n++] = index;
    return 0;
}

static int numbers_of(const line *l, const gold *g, rot_score_row *row, rot_err *err)
{
    ROT_TRY(number_of(l, "latents", &row->latents, err));
    ROT_TRY(number_of(l, "chain_tokens", &row->chain_tokens, err));
    ROT_TRY(number_of(l, "seconds", &row->seconds, err));
    ROT_TRY(number_of(l, "text_tokens", &row->text_tokens, err));
    ROT_TRY(number_of(l, "teacher_latents", &row->teacher_latents, err));
    if (isnan(row->text_tokens)) row->text_tokens = g->text_tokens;
    if (isnan(row->teacher_latents) && g->teacher_latents)
        row->teacher_latents = g->teacher_latents;
    return 0;
}

static int take_line(evaluation *e, const line *l, int64_t file_seed, rot_err *err)
{
    const char *id = NULL, *failure = NULL;
    size_t index = 0;
    rot_score_row row = {0};
    ROT_TRY(id_of(e, l, &id, err));
    if (e->questions) {
        index = find_id(e, id);
        if (index == e->n_gold)
            ROT_FAIL(err, ROT_ERR_INPUT, "%s:%zu: no question has the id '%.100s'", l->path,
                     l->number, id);
    } else {
        ROT_TRY(gold_of_line(e, l, id, &index, err));
    }
    const gold *g = &e->gold[index];
    ROT_TRY(seed_of(e, l, file_seed, &row.seed, err));
    ROT_TRY(numbers_of(l, g, &row, err));
    ROT_TRY(text_of(e, l, "error", &failure, err));
    const json_t *prediction = json_object_get(l->json, "prediction");
    const char *text = json_string_value(prediction);
    size_t n = json_string_length(prediction);
    if (!failure && prediction && !json_is_null(prediction) && !text)
        return wrong(l, err, "is no string", "prediction");
    if (!failure && !text) failure = "no prediction";
    if (!failure && !strncmp(text, "ERROR: ", 7)) failure = text; // the published code's mark
    row.failed = failure != NULL;
    judged j = {0};
    int rc = failure ? 0 : judge(g, text, n, &row, &j, err);
    if (rc == 0) put_sample(e, g, &row, failure, text, n, &j);
    judged_free(&j);
    return rc < 0 ? rc : add_row(e, &row, index, err);
}

static int read_line(evaluation *e, const char *path, size_t number, const char *text, size_t n,
                     int64_t file_seed, rot_err *err)
{
    json_error_t at;
    line l = {path, number, json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &at)};
    if (!l.json && json_error_code(&at) == json_error_out_of_memory)
        return rot_no_memory(err, n, path);
    if (!l.json)
        ROT_FAIL(err, ROT_ERR_INPUT, "%s:%zu: byte %d: %s", path, number, at.position, at.text);
    int rc = json_is_object(l.json)
                 ? take_line(e, &l, file_seed, err)
                 : rot_err_set(err, ROT_ERR_INPUT, "%s:%zu: not a JSON object", path, number);
    json_decref(l.json);
    return rc;
}

static int read_predictions(evaluation *e, const char *path, int64_t file_seed, rot_err *err)
{
    char *bytes = NULL;
    size_t n = 0, number = 0;
    int rc = 0;
    ROT_TRY(rot_fs_read(path, &bytes, &n, err));
    for (size_t at = 0; at < n && rc == 0;) {
        const char *end = memchr(bytes + at, '\n', n - at);
        size_t length = end ? (size_t)(end - bytes) - at : n - at;
        rc = read_line(e, path, ++number, bytes + at, length, file_seed, err);
        at += length + 1;
    }
    rot_free(bytes);
    return rc;
}

// Every question under every seed once: a pair that is there twice is an error, one that is missing
// a failure.
static int fill_up(evaluation *e, rot_err *err)
{
    const size_t n_pairs = e->n_gold * e->n_seeds, n = e->n;
    uint8_t *seen = rot_calloc(n_pairs + 1, 1);
    if (!seen) return rot_no_memory(err, n_pairs, "scores");
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        size_t pair = e->row_gold[i] * e->n_seeds + e->rows[i].seed;
        if (seen[pair]++)
            ROT_FAIL_GO(err, ROT_ERR_INPUT,
                        "the id '%.100s' has two predictions under the seed %lld",
                        e->gold[e->row_gold[i]].id, (long long)e->seeds[e->rows[i].seed]);
    }
    for (size_t pair = 0; pair < n_pairs; pair++) {
        if (seen[pair]) continue;
        const gold *g = &e->gold[pair / e->n_seeds];
        rot_score_row row = {.seed = (uint32_t)(pair % e->n_seeds),
                             .failed = true,
                             .latents = NAN,
                             .chain_tokens = NAN,
                             .seconds = NAN,
                             .text_tokens = g->text_tokens,
                             .teacher_latents = NAN};
        put_sample(e, g, &row, "missing", NULL, 0, NULL);
        ROT_GO(add_row(e, &row, pair / e->n_seeds, err));
    }
done:
    rot_free(seen);
    return rc;
}

static void evaluation_free(evaluation *e)
{
    rot_questions_free(&e->questions);
    rot_tokenizer_worker_close(&e->worker);
    rot_tokenizer_close(&e->tokenizer);
    rot_free(e->gold);
    rot_free(e->slots);
    rot_free(e->rows);
    rot_free(e->row_gold);
    rot_free(e->seeds);
    rot_str_free(&e->samples);
    rot_arena_free(&e->arena);
}

int rot_evaluate(const rot_evaluate_options *options, char **json, rot_err *err)
{
    evaluation e = {.keep_samples = options->samples != NULL};
    int rc = 0;
    if (options->n_predictions < 1) ROT_FAIL(err, ROT_ERR_USAGE, "no file of predictions");
    if (options->tokenizer) {
        ROT_GO(rot_tokenizer_open(options->tokenizer, &e.tokenizer, err));
        ROT_GO(rot_tokenizer_worker_open(e.tokenizer, &e.worker, err));
    }
    if (options->questions) ROT_GO(read_questions(&e, options, err));
    for (int i = 0; i < options->n_predictions; i++)
        ROT_GO(read_predictions(&e, options->predictions[i], i, err));
    if (!e.n) ROT_FAIL_GO(err, ROT_ERR_INPUT, "%s: no predictions", options->predictions[0]);
    ROT_GO(fill_up(&e, err));
    if (e.samples.failed) ROT_GO(rot_no_memory(err, e.samples.n_bytes, "samples"));
    if (options->samples)
        ROT_GO(rot_fs_write_atomic(options->samples, e.samples.text, e.samples.n_bytes, err));
    rc = rot_score_report(e.rows, e.n, e.seeds, (uint32_t)e.n_seeds, e.n_gold, json, err);
done:
    evaluation_free(&e);
    return rc;
}
