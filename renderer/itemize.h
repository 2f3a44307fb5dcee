// A line into runs of one direction, one script and one font, in visual order, as raqm does.
#ifndef ROT_RENDERER_ITEMIZE_H
#define ROT_RENDERER_ITEMIZE_H

#include <fribidi.h>
#include <hb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct rot_text_run {
    uint32_t start, n; // code points
    hb_script_t script;
    bool backward; // right to left
    uint8_t font;
} rot_text_run;

// Scratch of one owner, grown as needed.
typedef struct rot_itemizer {
    FriBidiCharType *types;
    FriBidiBracketType *brackets;
    FriBidiLevel *levels;
    hb_script_t *scripts;
    struct rot_open_pair {
        hb_script_t script;
        int pair;
    } * stack;
    rot_text_run *bidi, *runs;
    size_t types_capacity, brackets_capacity, levels_capacity, scripts_capacity, stack_capacity,
        bidi_capacity, runs_capacity;
} rot_itemizer;

// text (n code points, n > 0), fonts (n, index of the font of each, or NULL: all 0). *runs is the
// itemizer's, in visual order from left to right.
int rot_itemize(rot_itemizer *itemizer, const uint32_t *text, size_t n, const uint8_t *fonts,
                const rot_text_run **runs, size_t *n_runs, rot_err *err);
void rot_itemizer_free(rot_itemizer *itemizer);

// Index of a bracket or quote that opens (even) or closes (odd) a pair, or -1.
int rot_bracket_pair(uint32_t code_point);
// Its script; marks without width count as inherited, whatever script they have.
hb_script_t rot_script_of(uint32_t code_point);

#endif
