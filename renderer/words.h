// The word cache: shaping of words that do not feel their neighbours.
#ifndef ROT_RENDERER_WORDS_H
#define ROT_RENDERER_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "renderer/glyphs.h"

struct rot_renderer;
struct rot_render_worker;

enum { ROT_CLASSED = 0x3000 }; // code points that may be simple

typedef enum rot_class {
    ROT_CLASS_NONE,   // right to left, marks, other scripts, not in the font, ...: shape the whole
                      // line
    ROT_CLASS_SPACE,  // U+0020
    ROT_CLASS_COMMON, // script Common, no direction against us
    ROT_CLASS_OPEN,   // the same, opens a pair
    ROT_CLASS_LATIN
} rot_class;

// Of a renderer, immutable. `usable`: the first font's tables never look across a space.
typedef struct rot_word_classes {
    bool usable;
    uint32_t space_id;
    int32_t space_advance;   // 26.6, with letter spacing
    uint8_t of[ROT_CLASSED]; // a rot_class each
} rot_word_classes;

void rot_word_classes_make(struct rot_renderer *renderer);

typedef struct rot_word_glyph {
    const rot_glyph *glyph;
    int32_t x_advance, x_offset, y_offset; // 26.6
} rot_word_glyph;

typedef struct rot_word {
    uint64_t hash;
    const char *text;
    uint32_t n_bytes, n_glyphs;
    bool latin;      // shaped as Latin, else as Common
    bool separable;  // shapes the same with and without spaces around it
    int32_t advance; // 26.6
    rot_word_glyph glyphs[];
} rot_word;

typedef struct rot_words {
    const rot_word **slots; // open addressing, a power of two
    size_t n_slots, n_words, n_bytes;
    const rot_glyph *space;
    rot_arena arena;
} rot_words;

void rot_words_forget(rot_words *words); // after rot_glyphs_trim
void rot_words_close(rot_words *words);

// The script of a line that the cache may shape: 1 Latin, 0 Common; -1: it must be shaped whole.
int rot_words_script(const rot_word_classes *classes, const char *text, size_t n_bytes);

// *out: the word (no space in it), from the cache or shaped now; NULL if it is not separable.
int rot_words_get(struct rot_render_worker *worker, const char *text, size_t n_bytes, bool latin,
                  const rot_word **out, rot_err *err);

#endif
