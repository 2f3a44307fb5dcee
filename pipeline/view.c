// A dataset to browse: pages of the same pieces as the report, made when they are asked for.
#include "rotoscope/view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "pipeline/job.h"
#include "pipeline/report.h"

enum { ROWS = 24 }; // of a list

struct rot_view {
    char *path; // of the dataset's file
    rot_dataset *dataset;
    report_split *splits;
    int n_splits; // open
};

int rot_view_open(const char *dataset, rot_view **out, rot_err *err)
{
    int rc = 0;
    *out = NULL;
    rot_view *view = rot_calloc(1, sizeof *view);
    if (!view) return rot_no_memory(err, sizeof *view, "the viewer");
    view->path = rot_strdup(dataset);
    if (!view->path) ROT_GO(rot_no_memory(err, strlen(dataset), "the viewer"));
    ROT_GO(rot_dataset_open(dataset, &view->dataset, err));
    int n = rot_dataset_splits(view->dataset);
    view->splits = rot_calloc((size_t)n + 1, sizeof *view->splits);
    if (!view->splits) ROT_GO(rot_no_memory(err, (size_t)n * sizeof *view->splits, "the viewer"));
    for (; view->n_splits < n; view->n_splits++)
        ROT_GO(
            report_split_open(view->dataset, view->n_splits, &view->splits[view->n_splits], err));
done:
    if (rc < 0)
        rot_view_close(&view);
    else
        *out = view;
    return rc;
}

void rot_view_close(rot_view **view)
{
    if (!*view) return;
    for (int i = 0; i < (*view)->n_splits; i++) report_split_close(&(*view)->splits[i]);
    rot_free((*view)->splits);
    rot_dataset_close(&(*view)->dataset);
    rot_free((*view)->path);
    rot_free(*view);
    *view = NULL;
}

// <a> to a page of a split: `rest` is what stands behind its name in the path.
static void add_link(rot_str *html, const report_split *split, const char *rest, const char *words)
{
    rot_str_puts(html, "<a href=\"/split/");
    report_text(html, split->info.name, strlen(split->info.name));
    rot_str_printf(html, "%s\">", rest);
    report_text(html, words, strlen(words));
    rot_str_puts(html, "</a>");
}

static void add_row_link(rot_str *html, const report_split *split, const char *format, uint64_t row,
                         const char *words)
{
    char rest[64];
    snprintf(rest, sizeof rest, format, row);
    add_link(html, split, rest, words);
}

static void begin(rot_str *html, const rot_view *view, const report_split *split)
{
    const char *name = rot_dataset_name(view->dataset);
    if (!split && view->n_splits) split = &view->splits[0];
    report_begin(html, name, split);
    rot_str_puts(html, "<nav><a href=\"/\">");
    report_text(html, name, strlen(name));
    rot_str_puts(html, "</a>");
    for (int i = 0; i < view->n_splits; i++) {
        rot_str_puts(html, " · ");
        add_link(html, &view->splits[i], "", view->splits[i].info.name);
    }
    rot_str_puts(html, " · <a href=\"/report\">report</a></nav>\n");
}

static int take(rot_str *html, int status, rot_view_answer *out, rot_err *err)
{
    rot_str_puts(html, "</body></html>\n");
    *out = (rot_view_answer){status, "text/html; charset=utf-8", NULL, html->n_bytes};
    return rot_str_take(html, &out->body, err);
}

static int refuse(const rot_view *view, int status, const char *cause, rot_view_answer *out,
                  rot_err *err)
{
    rot_str html = {0};
    begin(&html, view, NULL);
    report_field(&html, "p", "error", cause, strlen(cause));
    int rc = take(&html, status, out, err);
    rot_str_free(&html);
    return rc;
}

// What a call of the library said, as a page.
static int refuse_for(const rot_view *view, int code, const rot_err *why, rot_view_answer *out,
                      rot_err *err)
{
    return refuse(view, code == ROT_ERR_NOT_FOUND ? 404 : 500, why->message, out, err);
}

static int overview(const rot_view *view, rot_view_answer *out, rot_err *err)
{
    rot_str html = {0};
    begin(&html, view, NULL);
    report_overview(&html, view->dataset, view->splits, view->n_splits);
    int rc = take(&html, 200, out, err);
    rot_str_free(&html);
    return rc;
}

// The ways through a split: `from` is a row of the list that is shown, or the row itself.
static void add_ways(rot_str *html, const report_split *split, uint64_t from, bool list)
{
    const uint64_t rows = split->info.rows, step = list ? ROWS : 1;
    const char *format = list ? "?from=%" PRIu64 : "/%" PRIu64;
    rot_str_puts(html, "<form action=\"/split/");
    report_text(html, split->info.name, strlen(split->info.name));
    rot_str_puts(html, "\">");
    if (from > 0) add_row_link(html, split, format, from > step ? from - step : 0, "previous");
    rot_str_puts(html, " ");
    if (from + step < rows) add_row_link(html, split, format, from + step, "next");
    rot_str_printf(html,
                   " <label>row <input name=\"from\" size=\"9\" inputmode=\"numeric\"></label> of "
                   "%" PRIu64 " <label>id <input name=\"id\" size=\"24\"></label> "
                   "<button>go</button></form>\n",
                   rows);
}

// "skipped: " and the cause, where the record says so.
static bool add_cause(rot_str *html, const rot_record *record)
{
    if (record->kind != ROT_KIND_TOMBSTONE) return false;
    rot_str_puts(html, "skipped: ");
    report_text(html, record->payload, record->n_bytes);
    rot_str_puts(html, "; ");
    return true;
}

// Texts and picture of a row, behind the open div that names it, which is closed; a damaged record
// is an error before anything is added.
static int add_row(rot_str *html, const report_split *split, uint64_t row, bool all, rot_err *err)
{
    rot_record tokens = {0}, image = {0}, embeds = {0};
    rot_tokens_view view = {0};
    if (split->tokens) ROT_TRY(rot_stage_get(split->tokens, row, &tokens, err));
    if (split->images) ROT_TRY(rot_stage_get(split->images, row, &image, err));
    if (split->embeds) ROT_TRY(rot_stage_get(split->embeds, row, &embeds, err));
    if (tokens.kind == ROT_KIND_TOKENS) ROT_TRY(rot_tokens_unpack(&tokens, &view, err));
    (void)(add_cause(html, &tokens) || add_cause(html, &image) || add_cause(html, &embeds));
    if (view.text[0]) {
        rot_str_puts(html, "id ");
        report_text(html, view.text[0], view.n_text[0]);
        rot_str_printf(html, ": %u, %u and %u text tokens of question, trace and answer; ",
                       view.n_question_ids, view.n_trace_ids, view.n_answer_ids);
    }
    if (image.kind == ROT_KIND_IMAGE)
        ROT_TRY(report_drawn(html, split, &image, err));
    else
        rot_str_puts(html, "no picture</div>\n");
    if (!view.text[0]) return 0;
    report_field(html, "p", "question", view.text[1], view.n_text[1]);
    if (all || image.kind != ROT_KIND_IMAGE)
        report_field(html, "div", "trace", view.text[2], view.n_text[2]);
    report_field(html, "p", "answer", view.text[3], view.n_text[3]);
    return 0;
}

// The rows from `from` on. A damaged one says so in its place, and the others stand.
static int list(const rot_view *view, const report_split *split, uint64_t from,
                rot_view_answer *out, rot_err *err)
{
    rot_str html = {0};
    uint64_t end = split->info.rows - from < ROWS ? split->info.rows : from + ROWS;
    begin(&html, view, split);
    rot_str_puts(&html, "<h1>");
    report_text(&html, split->info.name, strlen(split->info.name));
    rot_str_puts(&html, "</h1>\n");
    add_ways(&html, split, from, true);
    if (split->has_geometry) report_grid_switch(&html);
    for (uint64_t row = from; row < end; row++) {
        rot_err why;
        char words[32];
        snprintf(words, sizeof words, "row %" PRIu64, row);
        rot_str_puts(&html, "<div class=\"sample\"><div class=\"about\">");
        add_row_link(&html, split, "/%" PRIu64, row, words);
        rot_str_puts(&html, ": ");
        if (add_row(&html, split, row, false, &why) < 0) {
            rot_str_puts(&html, "</div>\n");
            report_field(&html, "p", "error", why.message, strlen(why.message));
        }
        rot_str_puts(&html, "</div>\n");
    }
    add_ways(&html, split, from, true);
    int rc = take(&html, 200, out, err);
    rot_str_free(&html);
    return rc;
}

// A table of an object's values.
static int add_table(rot_str *html, json_t *object, rot_err *err)
{
    const char *key;
    json_t *value;
    rot_str_puts(html, "<table>");
    json_object_foreach(object, key, value)
    {
        const char *plain = json_string_value(value);
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        if (!text) return rot_no_memory(err, 0, "a page");
        rot_str_printf(html, "<tr><th>%s</th><td class=\"word\"><code>", key);
        report_text(html, plain ? plain : text, strlen(plain ? plain : text));
        rot_str_puts(html, "</code></td></tr>");
        free(text);
    }
    rot_str_puts(html, "</table>\n");
    return 0;
}

// What `inspect` says beyond texts and picture.
static int add_figures(rot_str *html, const char *json, rot_err *err)
{
    static const char *const parts[] = {"skipped", "image", "embeds", "ids"};
    json_t *sample = json_loads(json, 0, NULL);
    int rc = 0;
    for (int i = 0; i < 4; i++) {
        json_t *part = json_object_get(sample, parts[i]);
        if (!part) continue;
        rot_str_printf(html, "<h3>%s</h3>", parts[i]);
        ROT_GO(add_table(html, part, err));
    }
done:
    json_decref(sample);
    return rc;
}

static int show(const rot_view *view, const report_split *split, uint64_t row, rot_view_answer *out,
                rot_err *err)
{
    rot_str html = {0};
    char *json = NULL;
    rot_err why;
    int rc = rot_inspect(view->path, split->info.name, row, NULL, NULL, &json, &why);
    if (rc < 0) return refuse_for(view, rc, &why, out, err);
    begin(&html, view, split);
    rot_str_puts(&html, "<h1>");
    report_text(&html, split->info.name, strlen(split->info.name));
    rot_str_printf(&html, ", row %" PRIu64 "</h1>\n", row);
    add_ways(&html, split, row, false);
    if (split->has_geometry) report_grid_switch(&html);
    rot_str_puts(&html, "<div class=\"sample\"><div class=\"about\">");
    rc = add_row(&html, split, row, true, &why);
    if (rc < 0) {
        rc = refuse_for(view, rc, &why, out, err);
        goto done;
    }
    if (split->images) add_row_link(&html, split, "/%" PRIu64 ".png", row, "the picture alone");
    rot_str_puts(&html, "</div>\n");
    ROT_GO(add_figures(&html, json, err));
    rc = take(&html, 200, out, err);
done:
    rot_str_free(&html);
    free(json);
    return rc;
}

static int picture(const rot_view *view, const report_split *split, uint64_t row,
                   rot_view_answer *out, rot_err *err)
{
    rot_record record = {0};
    rot_err why;
    uint8_t *png = NULL;
    int rc = split->images ? rot_stage_get(split->images, row, &record, &why) : 0;
    if (rc < 0) return refuse_for(view, rc, &why, out, err);
    if (record.kind != ROT_KIND_IMAGE)
        return refuse(view, 404, "This row has no picture.", out, err);
    rot_image image = {record.payload, (int32_t)record.shape[0], (int32_t)record.shape[1],
                       (int32_t)record.shape[2]};
    out->status = 200, out->type = "image/png";
    ROT_TRY(rot_image_encode(&image, ROT_IMAGE_PNG, &png, &out->n_bytes, err));
    out->body = (char *)png;
    return 0;
}

static int find(const rot_view *view, const report_split *split, const char *id,
                rot_view_answer *out, rot_err *err)
{
    rot_str to = {0};
    char *json = NULL;
    rot_err why;
    int rc = rot_inspect(view->path, split->info.name, 0, id, NULL, &json, &why);
    if (rc < 0) return refuse_for(view, rc, &why, out, err);
    json_t *sample = json_loads(json, 0, NULL);
    rot_str_printf(&to, "/split/%s/%lld", split->info.name,
                   (long long)json_integer_value(json_object_get(sample, "index")));
    *out = (rot_view_answer){303, "text/plain", NULL, to.n_bytes};
    json_decref(sample);
    free(json);
    return rot_str_take(&to, &out->body, err);
}

// A row number and nothing else up to `end`.
static bool parse_row(const char *text, const char *end, uint64_t *row)
{
    char *stop;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    *row = strtoull(text, &stop, 10);
    return stop == end && !errno;
}

static int of_split(const rot_view *view, const report_split *split, const char *rest,
                    const rot_view_request *request, rot_view_answer *out, rot_err *err)
{
    uint64_t row = 0;
    const char *end = rest + strlen(rest);
    bool png = end - rest > 4 && !strcmp(end - 4, ".png");
    const char *from = !*rest && request->from ? request->from : "";
    if (!*rest && request->id && *request->id) return find(view, split, request->id, out, err);
    if (*from && !parse_row(from, from + strlen(from), &row))
        return refuse(view, 400, "A row is a number from 0.", out, err);
    if (*rest && (*rest != '/' || !parse_row(rest + 1, png ? end - 4 : end, &row)))
        return refuse(view, 404, "There is no such page.", out, err);
    if (row >= split->info.rows && (*rest || row)) {
        char words[96];
        snprintf(words, sizeof words, "There is no row %" PRIu64 ": the split has %" PRIu64 ".",
                 row, split->info.rows);
        return refuse(view, 404, words, out, err);
    }
    if (!*rest) return list(view, split, row, out, err);
    return png ? picture(view, split, row, out, err) : show(view, split, row, out, err);
}

int rot_view_get(rot_view *view, const rot_view_request *request, rot_view_answer *out,
                 rot_err *err)
{
    static const char folder[] = "/split/";
    const char *path = request->path;
    rot_err why;
    *out = (rot_view_answer){0};
    if (!strcmp(path, "/")) return overview(view, out, err);
    if (!strcmp(path, "/report")) {
        *out = (rot_view_answer){200, "text/html; charset=utf-8", NULL, 0};
        int rc = rot_report(view->path, &out->body, &why);
        if (rc < 0) return refuse_for(view, rc, &why, out, err);
        out->n_bytes = strlen(out->body);
        return 0;
    }
    if (!strncmp(path, folder, sizeof folder - 1))
        for (int i = 0; i < view->n_splits; i++) {
            const char *name = view->splits[i].info.name, *rest = path + sizeof folder - 1;
            size_t n = strlen(name);
            if (!strncmp(rest, name, n) && (!rest[n] || rest[n] == '/'))
                return of_split(view, &view->splits[i], rest + n, request, out, err);
        }
    return refuse(view, 404, "There is no such page.", out, err);
}
