#include "renderer/itemize.h"

#include <string.h>

#include "base/mem.h"

// Opening marks; the closing mark is the second of each row. The same set as raqm's, so that runs
// split at the same places.
static const uint32_t pairs[][2] = {
    {'(', ')'},       {'<', '>'},       {'[', ']'},       {'{', '}'},       {0x00ab, 0x00bb},
    {0x2018, 0x2019}, {0x201c, 0x201d}, {0x2039, 0x203a}, {0x3008, 0x3009}, {0x300a, 0x300b},
    {0x300c, 0x300d}, {0x300e, 0x300f}, {0x3010, 0x3011}, {0x3014, 0x3015}, {0x3016, 0x3017},
    {0x3018, 0x3019}, {0x301a, 0x301b}};

int rot_bracket_pair(uint32_t code_point)
{
    for (int i = 0; i < (int)(sizeof pairs / sizeof *pairs); i++)
        for (int side = 0; side < 2; side++)
            if (pairs[i][side] == code_point) return 2 * i + side;
    return -1;
}

hb_script_t rot_script_of(uint32_t code_point)
{
    hb_unicode_funcs_t *unicode = hb_unicode_funcs_get_default();
    if (hb_unicode_general_category(unicode, code_point) ==
        HB_UNICODE_GENERAL_CATEGORY_NON_SPACING_MARK)
        return HB_SCRIPT_INHERITED;
    return hb_unicode_script(unicode, code_point);
}

static bool is_open_ended(hb_script_t script)
{
    return script == HB_SCRIPT_COMMON || script == HB_SCRIPT_INHERITED;
}

// A closing mark takes the script of its opening mark, which stays on the stack; marks opened
// within are dropped. Without an opening mark: `current`.
static hb_script_t close_pair(const struct rot_open_pair *stack, size_t *depth, int pair,
                              hb_script_t current)
{
    while (*depth && stack[*depth - 1].pair != pair - 1) --*depth;
    return *depth ? stack[*depth - 1].script : current;
}

// What has no script of its own takes that of the text before it, brackets that of their partner;
// then, from the end, whatever is still without one takes that of the text after it.
static void resolve_scripts(hb_script_t *scripts, const uint32_t *text, size_t n,
                            struct rot_open_pair *stack)
{
    hb_script_t current = HB_SCRIPT_INVALID;
    size_t depth = 0;
    for (size_t i = 0; i < n; i++) {
        hb_script_t own = rot_script_of(text[i]);
        if (i == 0 ||
            !is_open_ended(own)) { // the first one counts as a script even if it is Common
            scripts[i] = current = own;
            continue;
        }
        int pair = own == HB_SCRIPT_COMMON ? rot_bracket_pair(text[i]) : -1;
        if (pair >= 0 && pair % 2 == 0) stack[depth++] = (struct rot_open_pair){current, pair};
        if (pair >= 0 && pair % 2 == 1) current = close_pair(stack, &depth, pair, current);
        scripts[i] = current;
    }
    for (size_t i = n - 1; i-- > 0;)
        if (is_open_ended(scripts[i])) scripts[i] = scripts[i + 1];
}

static void reverse(rot_text_run *runs, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        rot_text_run other = runs[i];
        runs[i] = runs[n - 1 - i];
        runs[n - 1 - i] = other;
    }
}

// Runs of equal level, in visual order: UAX #9, L1 (white space at the end) and L2.
static size_t order_levels(rot_text_run *runs, FriBidiLevel *levels, const FriBidiCharType *types,
                           size_t n, FriBidiParType paragraph)
{
    size_t n_runs = 0;
    FriBidiLevel highest = 0;
    for (size_t i = n; i-- > 0 && FRIBIDI_IS_EXPLICIT_OR_BN_OR_WS(types[i]);)
        levels[i] = FRIBIDI_DIR_TO_LEVEL(paragraph);
    for (size_t i = 0; i < n; i++) {
        if (levels[i] > highest) highest = levels[i];
        if (i && levels[i] == levels[i - 1])
            runs[n_runs - 1].n++;
        else
            runs[n_runs++] = (rot_text_run){.start = (uint32_t)i, .n = 1};
    }
    for (FriBidiLevel level = highest; level > 0; level--)
        for (size_t end = n_runs; end > 0; end--) {
            size_t start = end;
            while (start > 0 && levels[runs[start - 1].start] >= level) start--;
            if (start == end) continue;
            reverse(runs + start, end - start);
            end = start + 1;
        }
    return n_runs;
}

// One bidi run into runs of one script and font. A backward run is read from its end, so that the
// pieces come in visual order too.
static size_t split(const rot_text_run *run, bool backward, const hb_script_t *scripts,
                    const uint8_t *fonts, rot_text_run *out)
{
    size_t n = 0;
    for (uint32_t k = 0; k < run->n; k++) {
        uint32_t at = backward ? run->start + run->n - 1 - k : run->start + k;
        uint8_t font = fonts ? fonts[at] : 0;
        if (n && out[n - 1].script == scripts[at] && out[n - 1].font == font) {
            out[n - 1].n++;
            if (backward) out[n - 1].start = at;
        } else
            out[n++] = (rot_text_run){at, 1, scripts[at], backward, font};
    }
    return n;
}

int rot_itemize(rot_itemizer *it, const uint32_t *text, size_t n, const uint8_t *fonts,
                const rot_text_run **runs, size_t *n_runs, rot_err *err)
{
    ROT_TRY(rot_grow(&it->types, &it->types_capacity, n, sizeof *it->types, err));
    ROT_TRY(rot_grow(&it->brackets, &it->brackets_capacity, n, sizeof *it->brackets, err));
    ROT_TRY(rot_grow(&it->levels, &it->levels_capacity, n, sizeof *it->levels, err));
    ROT_TRY(rot_grow(&it->scripts, &it->scripts_capacity, n, sizeof *it->scripts, err));
    ROT_TRY(rot_grow(&it->stack, &it->stack_capacity, n, sizeof *it->stack, err));
    ROT_TRY(rot_grow(&it->bidi, &it->bidi_capacity, n, sizeof *it->bidi, err));
    ROT_TRY(rot_grow(&it->runs, &it->runs_capacity, n, sizeof *it->runs, err));
    resolve_scripts(it->scripts, text, n, it->stack);
    fribidi_get_bidi_types(text, (FriBidiStrIndex)n, it->types);
    fribidi_get_bracket_types(text, (FriBidiStrIndex)n, it->types, it->brackets);
    FriBidiParType paragraph =
        FRIBIDI_PAR_ON; // the first strong character decides; none: left to right
    if (!fribidi_get_par_embedding_levels_ex(it->types, it->brackets, (FriBidiStrIndex)n,
                                             &paragraph, it->levels))
        return rot_no_memory(err, n, "the directions of a line");
    size_t n_bidi = order_levels(it->bidi, it->levels, it->types, n, paragraph);
    *n_runs = 0;
    for (size_t i = 0; i < n_bidi; i++) {
        bool backward = it->levels[it->bidi[i].start] & 1;
        *n_runs += split(&it->bidi[i], backward, it->scripts, fonts, it->runs + *n_runs);
    }
    *runs = it->runs;
    return 0;
}

void rot_itemizer_free(rot_itemizer *it)
{
    rot_free(it->types);
    rot_free(it->brackets);
    rot_free(it->levels);
    rot_free(it->scripts);
    rot_free(it->stack);
    rot_free(it->bidi);
    rot_free(it->runs);
    memset(it, 0, sizeof *it);
}
