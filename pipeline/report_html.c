// Pieces of HTML and SVG, with no script and nothing fetched.
#include <stdlib.h>

#include "base/err.h"
#include "base/utf8.h"
#include "pipeline/report.h"

void report_text(rot_str *html, const char *text, size_t n_bytes)
{
    for (size_t at = 0; at < n_bytes;) {
        size_t start = at;
        int32_t c = rot_utf8_next(text, n_bytes, &at);
        if (c < 0) at = start + 1;
        if (c < 0 || (c < 0x20 && c != '\n' && c != '\t'))
            rot_str_puts(html, "\xef\xbf\xbd");
        else if (c == '&')
            rot_str_puts(html, "&amp;");
        else if (c == '<')
            rot_str_puts(html, "&lt;");
        else if (c == '>')
            rot_str_puts(html, "&gt;");
        else if (c == '"')
            rot_str_puts(html, "&quot;");
        else
            rot_str_add(html, text + start, at - start);
    }
}

void report_bytes(rot_str *html, uint64_t n_bytes)
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB", "PB"};
    double value = (double)n_bytes;
    int unit = 0;
    while (value >= 1000 && unit < 5) {
        value /= 1000;
        unit++;
    }
    rot_str_printf(html, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

void report_base64(rot_str *html, const uint8_t *bytes, size_t n_bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char out[4];
    for (size_t i = 0; i < n_bytes; i += 3) {
        size_t left = n_bytes - i;
        unsigned v = (unsigned)bytes[i] << 16;
        if (left > 1) v |= (unsigned)bytes[i + 1] << 8;
        if (left > 2) v |= bytes[i + 2];
        out[0] = digits[v >> 18];
        out[1] = digits[v >> 12 & 63];
        out[2] = left > 1 ? digits[v >> 6 & 63] : '=';
        out[3] = left > 2 ? digits[v & 63] : '=';
        rot_str_add(html, out, 4);
    }
}

enum { BINS = 40, PLOT_W = 560, PLOT_H = 120 };

void report_histogram(rot_str *html, const report_values *v, const char *title)
{
    size_t counts[BINS] = {0}, most = 0;
    if (!v->n) return;
    uint32_t low = v->values[0], high = v->values[v->n - 1];
    uint64_t step = ((uint64_t)high - low) / BINS + 1; // whole numbers, so that no bin is favoured
    int bins = (int)(((uint64_t)high - low) / step) + 1;
    for (size_t i = 0; i < v->n; i++) {
        size_t *count = &counts[(v->values[i] - low) / step];
        if (++*count > most) most = *count;
    }
    rot_str_printf(html,
                   "<figure><figcaption>%s</figcaption><svg class=\"plot\" viewBox=\"0 0 %d %d\" "
                   "role=\"img\">",
                   title, PLOT_W, PLOT_H + 34);
    double bar = (double)PLOT_W / bins;
    for (int b = 0; b < bins; b++) {
        double height = (double)PLOT_H * (double)counts[b] / (double)most;
        unsigned long long from = low + (uint64_t)b * step;
        rot_str_printf(html,
                       "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                       "height=\"%.1f\"><title>%llu to %llu: "
                       "%zu</title></rect>",
                       b * bar + 0.5, 14 + PLOT_H - height, bar - 1, height, from, from + step - 1,
                       counts[b]);
    }
    rot_str_printf(html,
                   "<text x=\"0\" y=\"10\">tallest bar: %zu; a bar is %llu wide</text>"
                   "<text x=\"0\" y=\"%d\">%u</text><text x=\"%d\" y=\"%d\" "
                   "text-anchor=\"end\">%u</text></svg></figure>\n",
                   most, (unsigned long long)step, PLOT_H + 30, low, PLOT_W, PLOT_H + 30, high);
}

void report_quantiles(rot_str *html, const report_values *v, const char *name)
{
    if (!v->n) return;
    double sum = 0;
    size_t last = v->n - 1;
    for (size_t i = 0; i < v->n; i++) sum += v->values[i];
    rot_str_printf(
        html, "<tr><th>%s</th><td>%u</td><td>%u</td><td>%u</td><td>%u</td><td>%.1f</td></tr>\n",
        name, v->values[0], v->values[last / 2], v->values[last * 95 / 100], v->values[last],
        sum / (double)v->n);
}

// The tower's input is what `grid` says. `native` adds background at the right and bottom, the
// other geometries stretch the image over the whole of it.
int report_picture(rot_str *html, const rot_image *image, rot_geometry geometry,
                   const rot_grid *grid, rot_err *err)
{
    uint8_t *png = NULL;
    size_t n_png;
    bool padded = !grid || geometry == ROT_GEOMETRY_NATIVE;
    int width = grid ? grid->width : image->width_px,
        height = grid ? grid->height : image->height_px;
    ROT_TRY(rot_image_encode(image, ROT_IMAGE_PNG, &png, &n_png, err));
    rot_str_printf(html,
                   "<div class=\"picture\"><svg width=\"%d\" height=\"%d\"><image "
                   "preserveAspectRatio=\"none\" width=\"%d\" "
                   "height=\"%d\" href=\"data:image/png;base64,",
                   width, height, padded ? image->width_px : width,
                   padded ? image->height_px : height);
    report_base64(html, png, n_png);
    free(png);
    rot_str_puts(html, "\"/>");
    if (grid)
        rot_str_printf(html,
                       "<g class=\"grid\"><rect width=\"%d\" height=\"%d\" fill=\"url(#patches)\"/>"
                       "<rect width=\"%d\" height=\"%d\" fill=\"url(#merged)\"/></g>",
                       width, height, width, height);
    rot_str_puts(html, "</svg></div>\n");
    return 0;
}
