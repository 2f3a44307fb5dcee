// The JSON of a sweep as rows of cells, tab-separated or as a Markdown table.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"
#include "pipeline/sweep.h"

typedef struct column {
    const char *title;
    const char *path; // members, with dots
    double scale;     // 0: a word or an integer, as it is
} column;

static const column of_table[] = {{"variant", "variant", 0},
                                  {"state", "state", 0},
                                  {"samples", "samples", 0},
                                  {"width_mean", "width_px.mean", 1},
                                  {"width_p5", "width_px.p5", 0},
                                  {"width_p95", "width_px.p95", 0},
                                  {"k_mean", "k.mean", 1},
                                  {"k_p5", "k.p5", 0},
                                  {"k_p95", "k.p95", 0},
                                  {"text_per_vision", "text_tokens_per_vision_token", 1},
                                  {"too_large", "too_large_share", 1},
                                  {"missing_glyphs", "missing_glyphs", 0},
                                  {"bytes", "bytes", 0},
                                  {"seconds", "seconds", 1},
                                  {"error", "error", 0}};
static const column of_plan[] = {{"variant", "variant", 0},
                                 {"tokens", "stages.tokens", 0},
                                 {"images", "stages.images", 0},
                                 {"embeds", "stages.embeds", 0},
                                 {"k_mean", "k_mean", 1},
                                 {"new_pixel_MB", "new.pixel_bytes", 1e-6},
                                 {"new_embeds_MB", "new.embeds_bytes", 1e-6},
                                 {"new_TFLOP", "new.tflop", 1},
                                 {"encode_s", "new.encode_seconds", 1},
                                 {"error", "error", 0}};
enum { MAX_COLUMNS = 15 };

static const json_t *member(const json_t *object, const char *path)
{
    char name[64];
    while (object && *path) {
        size_t n = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)n, path);
        object = json_object_get(object, name);
        path += n + (path[n] == '.');
    }
    return object;
}

// A cell holds neither tabs, line feeds nor bars.
static void add_word(rot_str *out, const char *word)
{
    for (; *word; word++) {
        bool bad = (unsigned char)*word < 0x20 || *word == 0x7f || *word == '|';
        rot_str_add(out, bad ? " " : word, 1);
    }
}

static int cell(const json_t *row, const column *of, char **out, rot_err *err)
{
    const json_t *value = member(row, of->path);
    rot_str text = {0};
    rot_str_puts(&text, "");
    if (json_is_string(value))
        add_word(&text, json_string_value(value));
    else if (json_is_integer(value) && of->scale == 0)
        rot_str_printf(&text, "%lld", (long long)json_integer_value(value));
    else if (json_is_number(value))
        rot_str_printf(&text, "%.4g", json_number_value(value) * of->scale);
    return rot_str_take(&text, out, err);
}

// A column of which no row has a value is left out of the Markdown; TSV has them all.
typedef struct grid {
    const column *columns;
    size_t n_columns, n_rows;
    char **cells; // [n_rows][n_columns]
    size_t width[MAX_COLUMNS];
} grid;

static size_t width_of(const char *text)
{
    size_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static int fill(grid *g, const json_t *variants, rot_err *err)
{
    size_t i;
    json_t *row;
    g->n_rows = json_array_size(variants);
    g->cells = rot_calloc(g->n_rows * g->n_columns + 1, sizeof *g->cells);
    if (!g->cells) return rot_no_memory(err, 0, "table");
    json_array_foreach((json_t *)variants, i, row) for (size_t c = 0; c < g->n_columns; c++)
    {
        char **text = &g->cells[i * g->n_columns + c];
        ROT_TRY(cell(row, &g->columns[c], text, err));
        size_t n = width_of(*text);
        if (n && g->width[c] < width_of(g->columns[c].title))
            g->width[c] = width_of(g->columns[c].title);
        if (g->width[c] < n) g->width[c] = n;
    }
    return 0;
}

static void write_tsv(const grid *g, rot_str *out)
{
    for (size_t r = 0; r <= g->n_rows; r++)
        for (size_t c = 0; c < g->n_columns; c++)
            rot_str_printf(out, "%s%s",
                           r ? g->cells[(r - 1) * g->n_columns + c] : g->columns[c].title,
                           c + 1 < g->n_columns ? "\t" : "\n");
}

// The first column to the left, numbers to the right.
static void write_cell(const grid *g, size_t c, const char *text, rot_str *out)
{
    int pad = (int)(g->width[c] - width_of(text));
    if (c)
        rot_str_printf(out, "| %*s%s ", pad, "", text);
    else
        rot_str_printf(out, "| %s%*s ", text, pad, "");
}

static void write_markdown(const grid *g, rot_str *out)
{
    for (size_t c = 0; c < g->n_columns; c++)
        if (g->width[c]) write_cell(g, c, g->columns[c].title, out);
    rot_str_puts(out, "|\n");
    for (size_t c = 0; c < g->n_columns; c++) {
        if (!g->width[c]) continue;
        rot_str_puts(out, "|-");
        for (size_t i = 0; i < g->width[c]; i++) rot_str_puts(out, "-");
        rot_str_puts(out, c ? ":" : "-");
    }
    rot_str_puts(out, "|\n");
    for (size_t r = 0; r < g->n_rows; r++) {
        for (size_t c = 0; c < g->n_columns; c++)
            if (g->width[c]) write_cell(g, c, g->cells[r * g->n_columns + c], out);
        rot_str_puts(out, "|\n");
    }
}

static int to_text(const json_t *json, rot_table_format format, char **text, rot_err *err)
{
    const char *what = json_string_value(json_object_get(json, "what"));
    const json_t *variants = json_object_get(json, "variants");
    bool plan = what && !strcmp(what, "plan");
    grid g = {.columns = plan ? of_plan : of_table,
              .n_columns =
                  plan ? sizeof of_plan / sizeof *of_plan : sizeof of_table / sizeof *of_table};
    rot_str out = {0};
    int rc = 0;
    if (!what || !json_is_array(variants))
        ROT_FAIL(err, ROT_ERR_FORMAT, "not the plan or table of a sweep");
    ROT_GO(fill(&g, variants, err));
    if (format == ROT_TABLE_TSV)
        write_tsv(&g, &out);
    else
        write_markdown(&g, &out);
    rc = rot_str_take(&out, text, err);
done:
    for (size_t i = 0; g.cells && i < g.n_rows * g.n_columns; i++) free(g.cells[i]);
    rot_free(g.cells);
    return rc;
}

int rot_sweep_table(const char *json, rot_table_format format, char **text, rot_err *err)
{
    json_error_t cause;
    json_t *parsed = json_loads(json, JSON_REJECT_DUPLICATES, &cause);
    if (!parsed)
        ROT_FAIL(err, ROT_ERR_FORMAT, "line %d, column %d: %s", cause.line, cause.column,
                 cause.text);
    int rc = to_text(parsed, format, text, err);
    json_decref(parsed);
    return rc;
}

/* ---- beside the datasets --------------------------------------------------------------------- */

// The same table but for the seconds.
static bool is_same(const char *path, const char *text)
{
    json_t *have = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    json_t *wanted = json_loads(text, 0, NULL), *both[] = {have, wanted}, *row;
    size_t k;
    for (int i = 0; i < 2; i++)
        json_array_foreach(json_object_get(both[i], "variants"), k, row)
            json_object_del(row, "seconds");
    bool same = have && wanted && json_equal(have, wanted);
    json_decref(have);
    json_decref(wanted);
    return same;
}

static int write_one(const rot_sweep *sweep, const char *ending, const char *text, rot_err *err)
{
    char path[4096], name[512];
    char *have = NULL;
    snprintf(name, sizeof name, "sweeps/%s.%s", sweep->name, ending);
    ROT_TRY(rot_fs_join(path, sizeof path, rot_sweep_root(sweep), name, err));
    if (rot_fs_read(path, &have, NULL, NULL) == 0 && !strcmp(have, text)) {
        rot_free(have);
        return 0; // a finished sweep answers on a read-only root
    }
    rot_free(have);
    return rot_fs_write_atomic(path, text, strlen(text), err);
}

int rot_sweep_write_tables(const rot_sweep *sweep, const json_t *table, bool only_if_other,
                           rot_err *err)
{
    char path[4096], *json = NULL, *tsv = NULL, *markdown = NULL;
    int rc = 0;
    ROT_GO(rot_fs_join(path, sizeof path, rot_sweep_root(sweep), "sweeps", err));
    if (!rot_fs_is_dir(path)) ROT_GO(rot_fs_mkdirs(path, err));
    json = json_dumps(table, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    if (!json) ROT_GO(rot_no_memory(err, 0, "table"));
    if (only_if_other) {
        char name[4700];
        snprintf(name, sizeof name, "%s/%s.json", path, sweep->name);
        if (is_same(name, json)) goto done;
    }
    ROT_GO(to_text(table, ROT_TABLE_TSV, &tsv, err));
    ROT_GO(to_text(table, ROT_TABLE_MARKDOWN, &markdown, err));
    ROT_GO(write_one(sweep, "json", json, err));
    ROT_GO(write_one(sweep, "tsv", tsv, err));
    ROT_GO(write_one(sweep, "md", markdown, err));
done:
    free(json);
    free(tsv);
    free(markdown);
    return rc;
}
