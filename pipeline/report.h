// The parts of the HTML report: what is gathered (report_scan.c), how pieces of it are drawn
// (report_html.c), and the page (report.c). The viewer's pages (view.c) are made of them too.
#ifndef ROT_PIPELINE_REPORT_H
#define ROT_PIPELINE_REPORT_H

#include <jansson.h>

#include "base/str.h"
#include "rotoscope/rotoscope.h"

enum { REPORT_SKIPPED_SHOWN = 40, REPORT_SAMPLES = 24 };

typedef struct report_values {
    uint32_t *values;
    size_t n, capacity;
} report_values;

typedef struct report_row {
    uint64_t row;
    uint32_t width_px;
} report_row;

// A split's stages, and what one pass over its tokens and images says. Embeddings are never read: K
// follows from the width, and they may be terabytes.
typedef struct report_split {
    rot_split_info info;
    rot_stage *tokens, *images, *embeds; // NULL: not built
    bool has_geometry;
    rot_geometry geometry;
    rot_preprocessor preprocessor;
    report_values trace_tokens, widths, ks; // sorted
    report_row *by_width;                   // rows with an image, narrowest first
    size_t n_by_width, capacity_by_width;
    json_t *causes;  // {cause: count}
    json_t *skipped; // [{"row", "cause"}], the first REPORT_SKIPPED_SHOWN
    json_t *stages;  // [{"stage", "codec", "file_bytes", ... , "content"}]
} report_split;

// Opens the stages of split i and describes them; the pass over them is the other call.
int report_split_open(const rot_dataset *dataset, int i, report_split *out, rot_err *err);
int report_split_scan(report_split *split, rot_err *err);
void report_split_close(report_split *split);

// Pieces of HTML. Text is escaped; bytes that are no UTF-8 become U+FFFD.
void report_text(rot_str *html, const char *text, size_t n_bytes);
void report_bytes(rot_str *html, uint64_t n_bytes); // "3.4 MB"
void report_base64(rot_str *html, const uint8_t *bytes, size_t n_bytes);
// Bars over the range of `values` (sorted), as inline SVG.
void report_histogram(rot_str *html, const report_values *values, const char *title);
// The table cells min, median, 95%, max, mean of `values` (sorted).
void report_quantiles(rot_str *html, const report_values *values, const char *name);
// One rendered image as the tower sees it, patches and merged tokens drawn over it; `grid` NULL: as
// it is.
int report_picture(rot_str *html, const rot_image *image, rot_geometry geometry,
                   const rot_grid *grid, rot_err *err);

// What a page begins with, up to the body; the sizes of patches are the split's (may be NULL).
void report_begin(rot_str *html, const char *title, const report_split *first);
// Name, root and counts of the splits.
void report_overview(rot_str *html, const rot_dataset *dataset, const report_split *splits, int n);
// The box that shows and hides patches in what follows it.
void report_grid_switch(rot_str *html);
void report_field(rot_str *html, const char *tag, const char *name, const char *text,
                  size_t n_bytes);
// An image record: ends an open div with its sizes, then draws it.
int report_drawn(rot_str *html, const report_split *split, const rot_record *record, rot_err *err);

#endif
