// The parts of the HTML report: what is gathered (report_scan.c), how pieces of it are drawn
// (report_html.c), and the page (report.c).
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

// What one pass over a split's tokens and images says. Embeddings are never read: K follows from
// the width, and they may be terabytes.
typedef struct report_split {
    rot_split_info info;
    rot_stage *tokens, *images; // NULL: not built
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

int report_split_open(const rot_dataset *dataset, int i, report_split *out, rot_err *err);
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

#endif
