// Text to pixels, equal to Pillow's on the same FreeType and font file.
#ifndef ROTOSCOPE_RENDER_H
#define ROTOSCOPE_RENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "image.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ROT_MAX_FONTS = 16 };

typedef enum rot_render_mode { ROT_MODE_LINE, ROT_MODE_PAGE } rot_render_mode;
typedef enum rot_newline { ROT_NEWLINE_SPACE, ROT_NEWLINE_KEEP, ROT_NEWLINE_MARKER } rot_newline;
typedef enum rot_text_layout { ROT_LAYOUT_RAQM, ROT_LAYOUT_BASIC } rot_text_layout;
typedef enum rot_blend { ROT_BLEND_OVER, ROT_BLEND_MAX } rot_blend;
typedef enum rot_missing_glyph { ROT_GLYPH_FAIL, ROT_GLYPH_SKIP, ROT_GLYPH_DRAW } rot_missing_glyph;

// The keys of `render:`, in the words of docs/config.md. Strings are borrowed for the call.
typedef struct rot_render_options {
    size_t size;                      // sizeof(rot_render_options)
    const char *fonts[ROT_MAX_FONTS]; // fallback order: files (absolute or relative to the working
                                      // folder; without a slash also by name in the system's font
                                      // folders) or family names
    int n_fonts;
    double size_px;            // font size, pixels per em, 4 to 256
    int height_px, padding_px; // 1 to 4096; 0 to 1024
    rot_render_mode mode;
    rot_newline newline;
    bool thought_markers;
    uint8_t text_color[3], background_color[3]; // RGB
    rot_text_layout layout;
    rot_blend blend;
    double letter_spacing_px; // added after every glyph cluster, rounded to 1/64 px; -256 to
                              // 256; other than 0, optional ligatures are off
    int width_px, page_height_px, line_spacing_px; // page mode: 1 to 65536; 0 to 65536;
                                                   // -64 to 1024
    rot_missing_glyph missing_glyph; // FAIL and SKIP: ROT_ERR_MISSING_GLYPH; DRAW: the font's box
} rot_render_options;

// Preset rot-paper: DejaVuSans.ttf, 20 px, height 32, padding 4, line, newline space, markers,
// black on white, raqm, over; width 1024, page height 0, line spacing 4; missing_glyph FAIL.
rot_render_options rot_render_options_default(void);

typedef struct rot_renderer rot_renderer;           // font bytes and tables, immutable, shared
typedef struct rot_render_worker rot_render_worker; // glyph and word caches, canvas: one per thread

// Loads the fonts. ROT_ERR_MISSING: a font file or family that is not there, or is no font (never a
// fallback to another); ROT_ERR_CONFIG: an option out of range, or one that has no effect in
// its mode and is not at its default.
int rot_renderer_open(const rot_render_options *options, rot_renderer **out, rot_err *err);
void rot_renderer_close(rot_renderer **renderer);

// What determines the pixels, as one line of JSON (font SHA-256s, FreeType, HarfBuzz and FriBidi
// versions, every key that has an effect). Owned by the renderer. Equal strings, equal pixels.
const char *rot_renderer_identity(const rot_renderer *renderer);
// Path of font i of the list as resolved, for reports; NULL past the end.
const char *rot_renderer_font_path(const rot_renderer *renderer, int i);

// A worker borrows the renderer, which must outlive it. ROT_ERR_NO_MEMORY.
int rot_render_worker_open(const rot_renderer *renderer, rot_render_worker **out, rot_err *err);
void rot_render_worker_close(rot_render_worker **worker);

typedef struct rot_render_info {
    int missing;            // boxes drawn: glyphs of code points that no font has
    uint32_t first_missing; // the code point of the first, or 0
    int lines;              // lines of the text (in line mode 1, unless `newline: keep` kept some)
} rot_render_info;

// Draws `text` (UTF-8, n_bytes, no U+0000). *image is a column-major view owned by the worker until
// its next call; one channel if both colours are grey, else three. `info` may be NULL.
// ROT_ERR_INPUT: invalid UTF-8 (byte offset), U+0000; ROT_ERR_MISSING_GLYPH: names the code point;
// ROT_ERR_TOO_LARGE: text does not fit a page of fixed height, or the image is over 2^26 pixels.
int rot_render(rot_render_worker *worker, const char *text, size_t n_bytes, rot_image *image,
               rot_render_info *info, rot_err *err);

// The lines of the last rot_render of this worker, as views of the string that was drawn (with
// markers and newlines as the options say); for tests and overlays. Owned by the worker until its
// next call.
typedef struct rot_render_line {
    const char *text; // not NUL-terminated
    size_t n_bytes;
} rot_render_line;
int rot_render_lines(const rot_render_worker *worker, const rot_render_line **lines, int *n_lines);

// Pillow's textlength of `text` (no LF in it: ROT_ERR_USAGE), in pixels (multiples of 1/64).
int rot_render_text_length(rot_render_worker *worker, const char *text, size_t n_bytes,
                           double *length_px, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
