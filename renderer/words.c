#include "renderer/words.h"

#include <fribidi.h>
#include <hb-ot.h>
#include <string.h>

#include "base/utf8.h"
#include "renderer/renderer.h"

enum { FIRST_SLOTS = 1024, MAX_WORDS = 1 << 15, MAX_BYTES = 8 << 20, LONGEST_WORD = 256 };

/* ---- which texts ---- */

// Lookups of the features that scripts apply always, which no list of feature names reaches.
static void add_required(hb_face_t *face, hb_tag_t table, const hb_tag_t *scripts,
                         hb_set_t *lookups)
{
    for (; *scripts; scripts++) {
        unsigned script, feature, n = 64, found[64];
        if (!hb_ot_layout_table_find_script(face, table, *scripts, &script) ||
            !hb_ot_layout_language_get_required_feature_index(
                face, table, script, HB_OT_LAYOUT_DEFAULT_LANGUAGE_INDEX, &feature))
            continue;
        for (unsigned start = 0; n == 64; start += n) {
            hb_ot_layout_feature_get_lookups(face, table, feature, start, &n, found);
            for (unsigned i = 0; i < n; i++) hb_set_add(lookups, found[i]);
        }
    }
}

// Whether a lookup that HarfBuzz may apply to Latin or Common text without being asked has the
// space anywhere in what it matches or makes.
static bool lookups_know_space(hb_face_t *face, hb_tag_t table, uint32_t space_id)
{
    static const hb_tag_t scripts[] = {HB_TAG('l', 'a', 't', 'n'), HB_OT_TAG_DEFAULT_SCRIPT,
                                       HB_TAG('d', 'f', 'l', 't'), HB_TAG_NONE};
    static const hb_tag_t features[] = {HB_TAG('r', 'v', 'r', 'n'),
                                        HB_TAG('l', 't', 'r', 'a'),
                                        HB_TAG('l', 't', 'r', 'm'),
                                        HB_TAG('r', 'a', 'n', 'd'),
                                        HB_TAG('a', 'b', 'v', 'm'),
                                        HB_TAG('b', 'l', 'w', 'm'),
                                        HB_TAG('c', 'c', 'm', 'p'),
                                        HB_TAG('l', 'o', 'c', 'l'),
                                        HB_TAG('m', 'a', 'r', 'k'),
                                        HB_TAG('m', 'k', 'm', 'k'),
                                        HB_TAG('r', 'l', 'i', 'g'),
                                        HB_TAG('c', 'a', 'l', 't'),
                                        HB_TAG('c', 'l', 'i', 'g'),
                                        HB_TAG('c', 'u', 'r', 's'),
                                        HB_TAG('d', 'i', 's', 't'),
                                        HB_TAG('k', 'e', 'r', 'n'),
                                        HB_TAG('l', 'i', 'g', 'a'),
                                        HB_TAG('r', 'c', 'l', 't'),
                                        HB_TAG_NONE};
    hb_set_t *lookups = hb_set_create(), *glyphs = hb_set_create();
    hb_ot_layout_collect_lookups(face, table, scripts, NULL, features, lookups);
    add_required(face, table, scripts, lookups);
    bool known = !hb_set_allocation_successful(lookups);
    for (hb_codepoint_t i = HB_SET_VALUE_INVALID; !known && hb_set_next(lookups, &i);) {
        hb_ot_layout_lookup_collect_glyphs(face, table, i, glyphs, glyphs, glyphs, glyphs);
        known = hb_set_has(glyphs, space_id) || !hb_set_allocation_successful(glyphs);
    }
    hb_set_destroy(lookups);
    hb_set_destroy(glyphs);
    return known;
}

// The same of a whole font; tables whose rules we do not look into count as knowing.
static bool font_knows_space(const rot_font *font, uint32_t space_id)
{
    hb_face_t *face = hb_font_get_face(font->hb);
    static const hb_tag_t other_tables[] = {HB_TAG('m', 'o', 'r', 'x'), HB_TAG('m', 'o', 'r', 't'),
                                            HB_TAG('k', 'e', 'r', 'x'), HB_TAG('t', 'r', 'a', 'k'),
                                            HB_TAG('S', 'i', 'l', 'f')};
    for (size_t i = 0; i < sizeof other_tables / sizeof *other_tables; i++) {
        hb_blob_t *blob = hb_face_reference_table(face, other_tables[i]);
        unsigned n = hb_blob_get_length(blob);
        hb_blob_destroy(blob);
        if (n) return true;
    }
    return lookups_know_space(face, HB_OT_TAG_GSUB, space_id) ||
           lookups_know_space(face, HB_OT_TAG_GPOS, space_id);
}

static rot_class classify(const rot_font *font, uint32_t c)
{
    hb_unicode_funcs_t *unicode = hb_unicode_funcs_get_default();
    hb_codepoint_t glyph;
    if (!hb_font_get_nominal_glyph(font->hb, c, &glyph) || !glyph) return ROT_CLASS_NONE;
    if (c == ' ') return ROT_CLASS_SPACE;
    switch (hb_unicode_general_category(unicode, c)) {
    case HB_UNICODE_GENERAL_CATEGORY_CONTROL:
    case HB_UNICODE_GENERAL_CATEGORY_FORMAT:
    case HB_UNICODE_GENERAL_CATEGORY_NON_SPACING_MARK:
    case HB_UNICODE_GENERAL_CATEGORY_SPACING_MARK:
    case HB_UNICODE_GENERAL_CATEGORY_ENCLOSING_MARK:
    case HB_UNICODE_GENERAL_CATEGORY_SPACE_SEPARATOR:
    case HB_UNICODE_GENERAL_CATEGORY_LINE_SEPARATOR:
    case HB_UNICODE_GENERAL_CATEGORY_PARAGRAPH_SEPARATOR:
    case HB_UNICODE_GENERAL_CATEGORY_UNASSIGNED: return ROT_CLASS_NONE;
    default: break;
    }
    if (c == 0x2044) return ROT_CLASS_NONE; // the fraction slash reaches to the digits around it
    FriBidiCharType type = fribidi_get_bidi_type(c);
    if (type != FRIBIDI_TYPE_LTR && type != FRIBIDI_TYPE_EN && type != FRIBIDI_TYPE_ES &&
        type != FRIBIDI_TYPE_ET && type != FRIBIDI_TYPE_CS && type != FRIBIDI_TYPE_ON)
        return ROT_CLASS_NONE;
    hb_script_t script = rot_script_of(c);
    if (script == HB_SCRIPT_LATIN) return ROT_CLASS_LATIN;
    if (script != HB_SCRIPT_COMMON) return ROT_CLASS_NONE;
    int pair = rot_bracket_pair(c);
    return pair >= 0 && pair % 2 == 0 ? ROT_CLASS_OPEN : ROT_CLASS_COMMON;
}

void rot_word_classes_make(rot_renderer *renderer)
{
    rot_word_classes *classes = &renderer->words;
    const rot_font *font = &renderer->fonts[0];
    memset(classes, 0, sizeof *classes);
    hb_codepoint_t space_id;
    if (renderer->options.layout != ROT_LAYOUT_RAQM ||
        !hb_font_get_nominal_glyph(font->hb, ' ', &space_id) || !space_id ||
        font_knows_space(font, space_id))
        return;
    classes->usable = true;
    classes->space_id = space_id;
    classes->space_advance =
        hb_font_get_glyph_h_advance(font->hb, space_id) + renderer->letter_spacing_26_6;
    for (uint32_t c = 1; c < ROT_CLASSED; c++) classes->of[c] = (uint8_t)classify(font, c);
}

// All Common, or Latin and Common: then every character resolves to one script, unless a bracket
// opened before the first letter, which would keep script Common for its partner (itemize.c).
int rot_words_script(const rot_word_classes *classes, const char *text, size_t n_bytes)
{
    bool latin = false, open = false;
    for (size_t at = 0; at < n_bytes;) {
        bool first = at == 0;
        uint32_t c = (uint8_t)text[at];
        if (c < 0x80)
            at++;
        else
            c = (uint32_t)rot_utf8_next(text, n_bytes, &at);
        if (c >= ROT_CLASSED) return -1;
        switch (classes->of[c]) {
        case ROT_CLASS_NONE: return -1;
        case ROT_CLASS_OPEN: open = open || (!latin && !first); break; // the first opens nothing
        case ROT_CLASS_LATIN: latin = true; break;
        default: break;
        }
    }
    return latin && open ? -1 : latin;
}

/* ---- the cache ---- */

void rot_words_forget(rot_words *words)
{
    if (words->slots) memset(words->slots, 0, words->n_slots * sizeof *words->slots);
    rot_arena_reset(&words->arena);
    words->n_words = words->n_bytes = 0;
    words->space = NULL;
}

void rot_words_close(rot_words *words)
{
    rot_free(words->slots);
    rot_arena_free(&words->arena);
    memset(words, 0, sizeof *words);
}

static uint64_t hash_word(const char *text, size_t n_bytes, bool latin)
{
    uint64_t h = 0x9e3779b97f4a7c15u * (n_bytes * 2 + latin + 1), piece;
    for (; n_bytes >= 8; n_bytes -= 8, text += 8) {
        memcpy(&piece, text, 8);
        h = (h ^ piece) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    piece = 0;
    for (size_t i = 0; i < n_bytes; i++) piece |= (uint64_t)(uint8_t)text[i] << (8 * i);
    h = (h ^ piece) * 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 29;
}

static int grow_slots(rot_words *words, rot_err *err)
{
    size_t n = words->n_slots ? words->n_slots * 2 : FIRST_SLOTS;
    const rot_word **slots = rot_calloc(n, sizeof *slots);
    if (!slots) return rot_no_memory(err, n * sizeof *slots, "the word cache");
    for (size_t i = 0; i < words->n_slots; i++) {
        if (!words->slots[i]) continue;
        size_t at = words->slots[i]->hash & (n - 1);
        while (slots[at]) at = (at + 1) & (n - 1);
        slots[at] = words->slots[i];
    }
    rot_free(words->slots);
    words->slots = slots;
    words->n_slots = n;
    return 0;
}

static bool same_glyphs(const rot_shaped *a, const rot_shaped *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i].glyph_id != b[i].glyph_id || a[i].x_advance != b[i].x_advance ||
            a[i].x_offset != b[i].x_offset || a[i].y_offset != b[i].y_offset)
            return false;
    return true;
}

// Shapes the word alone and between spaces; *separable if that is the same, and no glyph is
// missing. Leaves the glyphs of the word alone at the front of shaper->glyphs.
static int shape_word(rot_render_worker *worker, const char *text, size_t n_bytes, bool latin,
                      size_t *n_glyphs, bool *separable, rot_err *err)
{
    rot_shaper *shaper = &worker->shaper;
    const rot_word_classes *classes = &worker->renderer->words;
    uint32_t spaced[LONGEST_WORD + 2];
    size_t n = 0;
    spaced[n++] = ' ';
    for (size_t at = 0; at < n_bytes;) spaced[n++] = (uint32_t)rot_utf8_next(text, n_bytes, &at);
    spaced[n++] = ' ';
    rot_text_run run = {
        .start = 0, .n = (uint32_t)n - 2, .script = latin ? HB_SCRIPT_LATIN : HB_SCRIPT_COMMON};
    shaper->n_glyphs = 0;
    ROT_TRY(rot_shape_run(worker->renderer, shaper, spaced + 1, n - 2, &run, err));
    size_t alone = shaper->n_glyphs;
    run.n = (uint32_t)n;
    ROT_TRY(rot_shape_run(worker->renderer, shaper, spaced, n, &run, err));
    const rot_shaped *glyphs = shaper->glyphs, *first = glyphs + alone,
                     *last = glyphs + shaper->n_glyphs - 1;
    rot_shaped space = {.glyph_id = classes->space_id, .x_advance = classes->space_advance};
    *separable = shaper->n_glyphs == 2 * alone + 2 && same_glyphs(first, &space, 1) &&
                 same_glyphs(first + 1, glyphs, alone) && same_glyphs(last, &space, 1);
    for (size_t i = 0; i < alone; i++) *separable = *separable && glyphs[i].glyph_id;
    *n_glyphs = alone;
    return 0;
}

static int add_word(rot_render_worker *worker, const char *text, size_t n_bytes, bool latin,
                    uint64_t hash, const rot_word **out, rot_err *err)
{
    rot_words *words = &worker->words;
    size_t n_glyphs;
    bool separable;
    ROT_TRY(shape_word(worker, text, n_bytes, latin, &n_glyphs, &separable, err));
    if (!separable) n_glyphs = 0;
    if ((words->n_words + 1) * 2 > words->n_slots) ROT_TRY(grow_slots(words, err));
    size_t size = sizeof(rot_word) + n_glyphs * sizeof(rot_word_glyph) + n_bytes;
    rot_word *word = rot_arena_alloc(&words->arena, size);
    if (!word) return rot_no_memory(err, size, "a word");
    *word = (rot_word){.hash = hash,
                       .n_bytes = (uint32_t)n_bytes,
                       .n_glyphs = (uint32_t)n_glyphs,
                       .latin = latin,
                       .separable = separable};
    for (size_t i = 0; i < n_glyphs; i++) {
        const rot_shaped *shaped = &worker->shaper.glyphs[i];
        rot_word_glyph *glyph = &word->glyphs[i];
        *glyph = (rot_word_glyph){NULL, shaped->x_advance, shaped->x_offset, shaped->y_offset};
        ROT_TRY(rot_glyphs_get(&worker->glyphs, 0, shaped->glyph_id, &glyph->glyph, err));
        word->advance += shaped->x_advance;
    }
    char *copy = (char *)&word->glyphs[n_glyphs];
    memcpy(copy, text, n_bytes);
    word->text = copy;
    size_t at = hash & (words->n_slots - 1);
    while (words->slots[at]) at = (at + 1) & (words->n_slots - 1);
    words->slots[at] = word;
    words->n_words++;
    words->n_bytes += size;
    *out = word;
    return 0;
}

int rot_words_get(rot_render_worker *worker, const char *text, size_t n_bytes, bool latin,
                  const rot_word **out, rot_err *err)
{
    rot_words *words = &worker->words;
    *out = NULL;
    if (n_bytes > LONGEST_WORD) return 0;
    uint64_t hash = hash_word(text, n_bytes, latin);
    for (size_t at = hash & (words->n_slots - 1); words->n_slots && words->slots[at];
         at = (at + 1) & (words->n_slots - 1)) {
        const rot_word *word = words->slots[at];
        if (word->hash != hash || word->n_bytes != n_bytes || word->latin != latin ||
            memcmp(word->text, text, n_bytes))
            continue;
        if (word->separable) *out = word;
        return 0;
    }
    const rot_word *word = NULL;
    if (words->n_words >= MAX_WORDS || words->n_bytes > MAX_BYTES) {
        // Not in the middle of a line: its words are in use only through spots, which hold glyphs.
        const rot_glyph *space = words->space;
        rot_words_forget(words);
        words->space = space;
    }
    ROT_TRY(add_word(worker, text, n_bytes, latin, hash, &word, err));
    if (word->separable) *out = word;
    return 0;
}
