// One dataset as one HTML page that needs nothing else: no script, no network.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "pipeline/job.h"
#include "pipeline/report.h"

static const char style[] =
    ":root{color-scheme:light "
    "dark;--ink:#1c1f24;--soft:#667;--paper:#fbfbfa;--line:#d8d8d4;--accent:#2f6f9f}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e4e0;--soft:#99a;--paper:#17191c;--line:#"
    "3a3d42;--accent:#7ab5de}}\n"
    "body{font:16px/1.5 "
    "system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:70rem;margin:2rem "
    "auto;"
    "padding:0 1rem}\n"
    "h1,h2,h3{line-height:1.2}table{border-collapse:collapse;margin:.5rem 0}"
    "th,td{padding:.2rem .8rem .2rem 0;text-align:right;border-bottom:1px solid "
    "var(--line);font-variant-numeric:tabular-nums}"
    "th:first-child,td.word{text-align:left}thead th{color:var(--soft);font-weight:500}\n"
    "pre,.trace{white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.45 "
    "ui-monospace,monospace}\n"
    "figure{margin:1rem 2rem 1rem "
    "0;display:inline-block;width:min(32rem,100%)}figcaption{font-weight:600}\n"
    ".plot{width:100%;height:auto}.plot text{font:11px "
    "system-ui,sans-serif;fill:var(--soft)}.bar{fill:var(--accent)}\n"
    ".picture{overflow-x:auto;margin:.3rem 0}.picture svg{background:#fff;display:block}\n"
    ".sample{border-top:1px solid var(--line);padding:.8rem 0}.about{color:var(--soft)}\n"
    "code{font-size:.85em;overflow-wrap:anywhere}#grid:not(:checked)~* .grid{display:none}\n"
    ".question::before{content:\"question \";color:var(--soft)}"
    ".answer::before{content:\"answer \";color:var(--soft)}\n"
    ".error{color:#c2452d}form{margin:.8rem "
    "0}input:not([type]){font:inherit}a{color:var(--accent)}\n";

void report_begin(rot_str *html, const char *name, const report_split *first)
{
    int patch = first && first->has_geometry ? first->preprocessor.patch_px : 16;
    int merged = first && first->has_geometry ? patch * first->preprocessor.merge : 32;
    rot_str_puts(html, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                       "<meta name=\"viewport\" content=\"width=device-width\">\n<title>");
    report_text(html, name, strlen(name));
    rot_str_printf(html, "</title>\n<style>%s</style></head><body>\n", style);
    rot_str_printf(
        html,
        "<svg width=\"0\" height=\"0\" style=\"position:absolute\"><defs>"
        "<pattern id=\"patches\" width=\"%d\" height=\"%d\" patternUnits=\"userSpaceOnUse\">"
        "<path d=\"M%d 0V%dM0 %dH%d\" stroke=\"#2f6f9f\" stroke-opacity=\".35\" "
        "stroke-width=\"1\"/></pattern>"
        "<pattern id=\"merged\" width=\"%d\" height=\"%d\" patternUnits=\"userSpaceOnUse\">"
        "<path d=\"M0 0V%dM0 0H%d\" stroke=\"#c2452d\" stroke-opacity=\".8\" "
        "stroke-width=\"2\"/></pattern>"
        "</defs></svg>\n",
        patch, patch, patch, patch, patch, patch, merged, merged, merged, merged);
}

void report_grid_switch(rot_str *html)
{
    rot_str_puts(html, "<input type=\"checkbox\" id=\"grid\" checked> <label for=\"grid\">patches "
                       "and merged tokens</label>\n");
}

void report_overview(rot_str *html, const rot_dataset *dataset, const report_split *splits, int n)
{
    rot_str_puts(html, "<h1>");
    report_text(html, rot_dataset_name(dataset), strlen(rot_dataset_name(dataset)));
    rot_str_printf(html, "</h1>\n<p>Root <code>%s</code>, made by rotoscope " ROT_VERSION ".</p>\n",
                   rot_dataset_root(dataset));
    rot_str_puts(html, "<h2>Counts</h2>\n<table><thead><tr><th>split</th><th>rows</th><th>samples</"
                       "th><th>skipped</th>"
                       "</tr></thead><tbody>\n");
    for (int i = 0; i < n; i++) {
        rot_str_puts(html, "<tr><th>");
        report_text(html, splits[i].info.name, strlen(splits[i].info.name));
        rot_str_printf(html, "</th><td>%llu</td><td>%llu</td><td>%llu</td></tr>\n",
                       (unsigned long long)splits[i].info.rows,
                       (unsigned long long)splits[i].info.samples,
                       (unsigned long long)splits[i].info.skipped);
    }
    rot_str_puts(html, "</tbody></table>\n");
}

static void add_skipped(rot_str *html, const report_split *split)
{
    const char *cause;
    json_t *count, *row;
    size_t i;
    if (!json_object_size(split->causes)) return;
    rot_str_puts(html,
                 "<h3>Skipped "
                 "rows</h3>\n<table><thead><tr><th>cause</th><th>rows</th></tr></thead><tbody>\n");
    json_object_foreach(split->causes, cause, count)
    {
        rot_str_puts(html, "<tr><th>");
        report_text(html, cause, strlen(cause));
        rot_str_printf(html, "</th><td>%lld</td></tr>\n", (long long)json_integer_value(count));
    }
    rot_str_puts(html, "</tbody></table>\n<p class=\"about\">The first of them, by index:");
    json_array_foreach(split->skipped, i, row)
    {
        rot_str_printf(html, "%s %lld (", i ? "," : "",
                       (long long)json_integer_value(json_object_get(row, "row")));
        cause = json_string_value(json_object_get(row, "cause"));
        report_text(html, cause, strlen(cause));
        rot_str_puts(html, ")");
    }
    rot_str_puts(html, ".</p>\n");
}

static void add_figures(rot_str *html, const report_split *split)
{
    rot_str_puts(html, "<table><thead><tr><th></th><th>least</th><th>median</th><th>95%</"
                       "th><th>most</th><th>mean</th>"
                       "</tr></thead><tbody>\n");
    report_quantiles(html, &split->trace_tokens, "text tokens of the trace");
    report_quantiles(html, &split->widths, "width in pixels");
    report_quantiles(html, &split->ks, "K, merged vision tokens");
    rot_str_puts(html, "</tbody></table>\n");
    report_histogram(html, &split->widths, "Width of the rendered trace, in pixels");
    report_histogram(html, &split->ks, "K, merged vision tokens");
}

static int add_stages(rot_str *html, const report_split *split, rot_err *err)
{
    size_t i;
    json_t *stage;
    rot_str_puts(html,
                 "<h3>Bytes</h3>\n<table><thead><tr><th>stage</th><th>samples</th><th>skipped</"
                 "th><th>content</th>"
                 "<th>on disk</th><th>disk / content</th><th>codec</th></tr></thead><tbody>\n");
    json_array_foreach(split->stages, i, stage)
    {
        uint64_t payload = (uint64_t)json_integer_value(json_object_get(stage, "payload_bytes"));
        uint64_t file = (uint64_t)json_integer_value(json_object_get(stage, "file_bytes"));
        rot_str_printf(html, "<tr><th>%s</th><td>%lld</td><td>%lld</td><td>",
                       json_string_value(json_object_get(stage, "stage")),
                       (long long)json_integer_value(json_object_get(stage, "samples")),
                       (long long)json_integer_value(json_object_get(stage, "skipped")));
        report_bytes(html, payload);
        rot_str_puts(html, "</td><td>");
        report_bytes(html, file);
        rot_str_printf(html, "</td><td>%.3f</td><td>%s</td></tr>\n",
                       payload ? (double)file / (double)payload : 0.0,
                       json_string_value(json_object_get(stage, "codec")));
    }
    rot_str_puts(html, "</tbody></table>\n");
    json_array_foreach(split->stages, i, stage)
    {
        char *text = json_dumps(json_object_get(stage, "content"), JSON_INDENT(2) | JSON_SORT_KEYS);
        if (!text) return rot_no_memory(err, 0, "report");
        rot_str_printf(html,
                       "<details><summary>What determines the %s <code>%.16s</code></summary><pre>",
                       json_string_value(json_object_get(stage, "stage")),
                       json_string_value(json_object_get(stage, "fingerprint")));
        report_text(html, text, strlen(text));
        rot_str_puts(html, "</pre></details>\n");
        free(text);
    }
    return 0;
}

void report_field(rot_str *html, const char *tag, const char *name, const char *text,
                  size_t n_bytes)
{
    rot_str_printf(html, "<%s class=\"%s\" dir=\"auto\">", tag, name);
    report_text(html, text, n_bytes);
    rot_str_printf(html, "</%s>\n", tag);
}

static int add_texts(rot_str *html, const report_split *split, uint64_t row, rot_err *err)
{
    rot_record record;
    rot_tokens_view view;
    if (!split->tokens) return 0;
    ROT_TRY(rot_stage_get(split->tokens, row, &record, err));
    if (record.kind != ROT_KIND_TOKENS) return 0;
    ROT_TRY(rot_tokens_unpack(&record, &view, err));
    rot_str_puts(html, "<details><summary>");
    report_text(html, view.text[0], view.n_text[0]);
    rot_str_printf(html, ": %u text tokens of trace</summary>\n", view.n_trace_ids);
    report_field(html, "p", "question", view.text[1], view.n_text[1]);
    report_field(html, "div", "trace", view.text[2], view.n_text[2]);
    report_field(html, "p", "answer", view.text[3], view.n_text[3]);
    rot_str_puts(html, "</details>\n");
    return 0;
}

int report_drawn(rot_str *html, const report_split *split, const rot_record *record, rot_err *err)
{
    rot_grid grid;
    bool has_grid = false;
    rot_image image = {record->payload, (int32_t)record->shape[0], (int32_t)record->shape[1],
                       (int32_t)record->shape[2]};
    if (split->has_geometry)
        has_grid = rot_geometry_grid(split->geometry, &split->preprocessor, image.width_px,
                                     image.height_px, &grid, NULL) == 0;
    rot_str_printf(html, "drawn %d × %d px", image.width_px, image.height_px);
    if (has_grid)
        rot_str_printf(html, ", seen as %d × %d px, %d row%s of merged tokens, K = %d", grid.width,
                       grid.height, grid.rows, grid.rows == 1 ? "" : "s", grid.k);
    rot_str_puts(html, "</div>\n");
    return report_picture(html, &image, split->geometry, has_grid ? &grid : NULL, err);
}

static int add_sample(rot_str *html, const report_split *split, uint64_t row, rot_err *err)
{
    rot_record record;
    ROT_TRY(rot_stage_get(split->images, row, &record, err));
    rot_str_printf(
        html, "<div class=\"sample\"><div class=\"about\">row %llu: ", (unsigned long long)row);
    ROT_TRY(report_drawn(html, split, &record, err));
    ROT_TRY(add_texts(html, split, row, err));
    rot_str_puts(html, "</div>\n");
    return 0;
}

// Evenly spaced by width, the narrowest and the widest among them.
static int add_samples(rot_str *html, const report_split *split, int wanted, rot_err *err)
{
    size_t n = split->n_by_width, shown = (size_t)wanted < n ? (size_t)wanted : n;
    if (!shown) return 0;
    rot_str_printf(
        html,
        "<h3>Rendered traces</h3>\n<p class=\"about\">%zu of %zu, from the narrowest to the "
        "widest%s</p>\n",
        shown, n,
        split->has_geometry
            ? ", as the vision tower sees them. Thin lines are patches, thick ones merged tokens."
            : ".");
    for (size_t i = 0; i < shown; i++)
        ROT_TRY(add_sample(html, split,
                           split->by_width[shown > 1 ? i * (n - 1) / (shown - 1) : 0].row, err));
    return 0;
}

// The effective config lies beside the dataset file: NAME.json, NAME.yaml.
static void add_config(rot_str *html, const char *path)
{
    char yaml[4096], *text = NULL;
    size_t n = strlen(path), n_text;
    if (n < 5 || n >= sizeof yaml || strcmp(path + n - 5, ".json")) return;
    snprintf(yaml, sizeof yaml, "%.*s.yaml", (int)(n - 5), path);
    if (rot_fs_read(yaml, &text, &n_text, NULL) < 0) return;
    rot_str_puts(html, "<h2>Settings</h2>\n<pre>");
    report_text(html, text, n_text);
    rot_str_puts(html, "</pre>\n");
    rot_free(text);
}

static int add_split(rot_str *html, const report_split *split, int samples, rot_err *err)
{
    rot_str_puts(html, "<section><h2>");
    report_text(html, split->info.name, strlen(split->info.name));
    rot_str_puts(html, "</h2>\n");
    add_figures(html, split);
    add_skipped(html, split);
    ROT_TRY(add_stages(html, split, err));
    ROT_TRY(add_samples(html, split, samples, err));
    rot_str_puts(html, "</section>\n");
    return 0;
}

int rot_report(const char *dataset_path, char **html, rot_err *err)
{
    rot_dataset *dataset = NULL;
    report_split *splits = NULL;
    rot_str page = {0};
    int rc = 0, n = 0, opened = 0;
    ROT_GO(rot_dataset_open(dataset_path, &dataset, err));
    n = rot_dataset_splits(dataset);
    splits = rot_calloc((size_t)n + 1, sizeof *splits);
    if (!splits) ROT_GO(rot_no_memory(err, (size_t)n * sizeof *splits, "report"));
    for (; opened < n; opened++) ROT_GO(report_split_open(dataset, opened, &splits[opened], err));
    for (int i = 0; i < n; i++) ROT_GO(report_split_scan(&splits[i], err));
    report_begin(&page, rot_dataset_name(dataset), n ? &splits[0] : NULL);
    report_overview(&page, dataset, splits, n);
    report_grid_switch(&page);
    for (int i = 0; i < n; i++)
        ROT_GO(add_split(&page, &splits[i], REPORT_SAMPLES / n > 6 ? REPORT_SAMPLES / n : 6, err));
    add_config(&page, dataset_path);
    rot_str_puts(&page, "</body></html>\n");
    rc = rot_str_take(&page, html, err);
done:
    for (int i = 0; i < opened; i++) report_split_close(&splits[i]);
    rot_free(splits);
    rot_str_free(&page);
    rot_dataset_close(&dataset);
    return rc;
}
