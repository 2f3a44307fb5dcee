#include "schemas/keys.h"

#include <stdio.h>
#include <string.h>

#include "rotoscope/config.h"

#define FIELD(f) offsetof(rot_config, f), sizeof(((rot_config *)0)->f)
#define SPLIT(f) offsetof(rot_split_config, f), sizeof(((rot_split_config *)0)->f)

const rot_key rot_config_keys[] = {
    {"name",
     ROT_KEY_NAME,
     FIELD(name),
     0,
     0,
     {0},
     NULL,
     ROT_WHEN_ALWAYS,
     "name of the dataset: ROOT/NAME.json is what users open"},
    {"root",
     ROT_KEY_ROOT,
     FIELD(root),
     0,
     0,
     {0},
     NULL,
     ROT_WHEN_ALWAYS,
     "store root, made if it is not there"},
    {"tokenizer.path",
     ROT_KEY_FOLDER,
     FIELD(tokenizer_path),
     0,
     0,
     {0},
     NULL,
     ROT_WHEN_ALWAYS,
     "folder with a Hugging Face tokenizer.json"},
    {"tokenizer.layout",
     ROT_KEY_ENUM,
     FIELD(layout),
     0,
     0,
     {"rot", "plain"},
     "rot",
     ROT_WHEN_ALWAYS,
     "sequence of ids: `rot` as Render-of-Thought trains (chat template, <img_begin>, <img_end>); "
     "`plain`: question, trace and answer as they are"},
    {"render.preset",
     ROT_KEY_PRESET,
     0,
     0,
     0,
     0,
     {"rot-paper", "rot-released"},
     "rot-paper",
     ROT_WHEN_RENDER,
     "defaults of this section: `rot-paper` as published; `rot-released` as the released code (16 "
     "px, "
     "`newline: keep`); keys beside it override it"},
    {"render.fonts",
     ROT_KEY_FONTS,
     FIELD(render.fonts),
     0,
     0,
     {0},
     "[DejaVuSans.ttf]",
     ROT_WHEN_RENDER,
     "font files or family names, in fallback order"},
    {"render.size_px",
     ROT_KEY_NUMBER,
     FIELD(render.size_px),
     4,
     256,
     {0},
     "20",
     ROT_WHEN_RENDER,
     "font size, pixels per em"},
    {"render.height_px",
     ROT_KEY_INTEGER,
     FIELD(render.height_px),
     1,
     4096,
     {0},
     "32",
     ROT_WHEN_LINE_MODE,
     "height of a line's image"},
    {"render.padding_px",
     ROT_KEY_INTEGER,
     FIELD(render.padding_px),
     0,
     1024,
     {0},
     "4",
     ROT_WHEN_RENDER,
     "left and right of a line; on all sides of a page"},
    {"render.mode",
     ROT_KEY_ENUM,
     FIELD(render.mode),
     0,
     0,
     {"line", "page"},
     "line",
     ROT_WHEN_RENDER,
     "`line`: one line, as wide as its text; `page`: wrapped, several lines"},
    {"render.newline",
     ROT_KEY_ENUM,
     FIELD(render.newline),
     0,
     0,
     {"space", "keep", "marker"},
     "space",
     ROT_WHEN_RENDER,
     "a line feed in the text: `space`: one space; `keep`: what Pillow does with it (a page breaks "
     "there); `marker`: a visible mark"},
    {"render.thought_markers",
     ROT_KEY_BOOL,
     FIELD(render.thought_markers),
     0,
     0,
     {0},
     "true",
     ROT_WHEN_RENDER,
     "draw <|begin_of_thought|> before and <|end_of_thought|> after the text"},
    {"render.text_color",
     ROT_KEY_COLOR,
     FIELD(render.text_color),
     0,
     0,
     {0},
     "\"#000000\"",
     ROT_WHEN_RENDER,
     "colour of the text; images are grey if both colours are"},
    {"render.background_color",
     ROT_KEY_COLOR,
     FIELD(render.background_color),
     0,
     0,
     {0},
     "\"#ffffff\"",
     ROT_WHEN_RENDER,
     "colour of the background"},
    {"render.layout",
     ROT_KEY_ENUM,
     FIELD(render.layout),
     0,
     0,
     {"raqm", "basic"},
     "raqm",
     ROT_WHEN_RENDER,
     "Pillow's layout engine: `raqm` (shaped, bidirectional) or `basic`"},
    {"render.blend",
     ROT_KEY_ENUM,
     FIELD(render.blend),
     0,
     0,
     {"over", "max"},
     "over",
     ROT_WHEN_RENDER,
     "how glyphs that touch are blended: `over`, or `max` as Pillow before 10.2"},
    {"render.letter_spacing_px",
     ROT_KEY_NUMBER,
     FIELD(render.letter_spacing_px),
     -64,
     64,
     {0},
     "0",
     ROT_WHEN_RENDER,
     "added after every glyph cluster, rounded to 1/64 px"},
    {"render.width_px",
     ROT_KEY_INTEGER,
     FIELD(render.width_px),
     16,
     16384,
     {0},
     "1024",
     ROT_WHEN_PAGE_MODE,
     "width of a page"},
    {"render.page_height_px",
     ROT_KEY_INTEGER,
     FIELD(render.page_height_px),
     0,
     16384,
     {0},
     "0",
     ROT_WHEN_PAGE_MODE,
     "height of a page; 0: as tall as its text; else text that does not fit follows on.too_large"},
    {"render.line_spacing_px",
     ROT_KEY_INTEGER,
     FIELD(render.line_spacing_px),
     -64,
     1024,
     {0},
     "4",
     ROT_WHEN_PAGE_MODE,
     "extra space between the lines of a page"},
    {"encode.checkpoint",
     ROT_KEY_FOLDER,
     FIELD(encode.checkpoint),
     0,
     0,
     {0},
     NULL,
     ROT_WHEN_ENCODE,
     "folder of a Hugging Face checkpoint: config.json, preprocessor_config.json, *.safetensors"},
    {"encode.geometry",
     ROT_KEY_ENUM,
     FIELD(encode.geometry),
     0,
     0,
     {"released", "patch16", "native"},
     "released",
     ROT_WHEN_ENCODE,
     "from picture to encoder input: `released` as the published code (two resizes), `patch16` as "
     "Qwen "
     "documents, `native` without resampling"},
    {"encode.backend",
     ROT_KEY_WORD,
     FIELD(encode.backend),
     0,
     0,
     {"auto", "ref", "onednn", "amx", "cuda"},
     "auto",
     ROT_WHEN_ENCODE,
     "what computes; resolved once and written into the stage"},
    {"encode.dtype",
     ROT_KEY_ENUM,
     FIELD(encode.dtype),
     0,
     0,
     {"", "bf16", "f32"},
     "bf16",
     ROT_WHEN_ENCODE,
     "arithmetic and output"},
    {"encode.deepstack",
     ROT_KEY_BOOL,
     FIELD(encode.deepstack),
     0,
     0,
     {0},
     "false",
     ROT_WHEN_ENCODE,
     "store the deepstack taps too, behind the embedding of each merged token (Qwen3-VL)"},
    {"encode.device_memory",
     ROT_KEY_COUNT,
     FIELD(encode.device_memory_mb),
     0,
     4000000,
     {0},
     "0",
     ROT_WHEN_ENCODE,
     "megabytes of a GPU that weights and activations may take; 0: nine tenths of what is free"},
    {"encode.pack_cache",
     ROT_KEY_PLACE,
     FIELD(encode.pack_cache),
     0,
     0,
     {0},
     "\"\"",
     ROT_WHEN_ENCODE,
     "folder, made if it is not there, where packed weights are kept, so that a later start maps "
     "them; empty: nowhere"},
    {"store.embeds_codec",
     ROT_KEY_ENUM,
     FIELD(embeds_codec),
     0,
     0,
     {"none", "", "zstd-bf16"},
     "none",
     ROT_WHEN_ENCODE,
     "how embeddings lie on disk: as they are, or exponents entropy-coded"},
    {"store.shard_samples",
     ROT_KEY_COUNT,
     FIELD(shard_samples),
     1,
     1 << 24,
     {0},
     "4096",
     ROT_WHEN_ALWAYS,
     "rows of a shard; a multiple of commit_samples"},
    {"store.commit_samples",
     ROT_KEY_COUNT,
     FIELD(commit_samples),
     1,
     65536,
     {0},
     "64",
     ROT_WHEN_ALWAYS,
     "rows of a transaction: what a kill can cost"},
    {"on.bad_row",
     ROT_KEY_ENUM,
     FIELD(on_bad_row),
     0,
     0,
     {"fail", "skip"},
     "fail",
     ROT_WHEN_ALWAYS,
     "broken JSON, invalid UTF-8, U+0000, a missing key, a doubled id"},
    {"on.too_large",
     ROT_KEY_ENUM,
     FIELD(on_too_large),
     0,
     0,
     {"fail", "skip"},
     "fail",
     ROT_WHEN_RENDER,
     "an image larger than the geometry or the page takes"},
    {"on.missing_glyph",
     ROT_KEY_ENUM,
     FIELD(on_missing_glyph),
     0,
     0,
     {"fail", "skip", "draw"},
     "fail",
     ROT_WHEN_RENDER,
     "a code point that no font has; `draw`: the font's box, as Pillow"},
};
const size_t rot_n_config_keys = sizeof rot_config_keys / sizeof *rot_config_keys;

const rot_key rot_split_keys[] = {
    {"files",
     ROT_KEY_FILES,
     SPLIT(files),
     0,
     0,
     {0},
     NULL,
     ROT_WHEN_ALWAYS,
     "files of the split, in order; globs are sorted; plain, gzip or zstd"},
    {"format",
     ROT_KEY_ENUM,
     SPLIT(format),
     0,
     0,
     {"jsonl", "gsm8k", "gsm8k-aug", "math", "coconut", "gsm8k-aug-nl", "math-500", "svamp",
      "gsm-hard", "multiarith", "prontoqa", "prosqa"},
     NULL,
     ROT_WHEN_ALWAYS,
     "format of the files (docs/input.md)"},
    {"keys.id",
     ROT_KEY_STRING,
     SPLIT(key_id),
     0,
     0,
     {0},
     "",
     ROT_WHEN_ALWAYS,
     "name of the field with the id (jsonl: `id`, may be absent; math-500: `unique_id`; svamp: "
     "`ID`; "
     "others: none, the ordinal is the id)"},
    {"keys.question",
     ROT_KEY_STRING,
     SPLIT(key_question),
     0,
     0,
     {0},
     "",
     ROT_WHEN_ALWAYS,
     "name of the field with the question (`question`; math: `problem`)"},
    {"keys.cot",
     ROT_KEY_STRING,
     SPLIT(key_cot),
     0,
     0,
     {0},
     "",
     ROT_WHEN_ALWAYS,
     "name of the field with the trace (jsonl: `cot`; math: `solution`; coconut: `steps`)"},
    {"keys.answer",
     ROT_KEY_STRING,
     SPLIT(key_answer),
     0,
     0,
     {0},
     "",
     ROT_WHEN_ALWAYS,
     "name of the field with the answer (`answer`; math: none, the last \\boxed{} is the answer)"},
    {"strip_calculator",
     ROT_KEY_BOOL,
     SPLIT(strip_calculator),
     0,
     0,
     {0},
     "false",
     ROT_WHEN_ALWAYS,
     "remove <<...>> from the trace (jsonl, gsm8k, gsm8k-aug-nl and coconut)"},
};
const size_t rot_n_split_keys = sizeof rot_split_keys / sizeof *rot_split_keys;

const rot_key *rot_key_find(const rot_key *keys, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(keys[i].name, name)) return &keys[i];
    return NULL;
}

size_t rot_edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 64 };
    size_t n = strlen(a), m = strlen(b), rows[3][LONGEST + 1];
    if (n > LONGEST || m > LONGEST) return LONGEST;
    for (size_t j = 0; j <= m; j++) rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = rows[i % 3], *above = rows[(i + 2) % 3], *two = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best) best = above[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                two[j - 2] + 1 < best)
                best = two[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[n % 3][m];
}

// Names that stand beside the table's keys.
static const char *const other_names[] = {"extends", "splits"};

static const char *last_part(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

// Offers `name`, of which the part after the section's `skip` bytes is compared, up to its next
// dot.
static void offer(const char *name, size_t skip, const char *word, size_t *best, char out[96])
{
    char part[64];
    snprintf(part, sizeof part, "%.*s", (int)strcspn(name + skip, "."), name + skip);
    size_t distance = rot_edit_distance(word, part);
    if (distance >= *best) return;
    *best = distance;
    snprintf(out, 96, "%.*s%s", (int)skip, name, part);
}

static void offer_split(const char *split, const char *section, const char *word, size_t *best,
                        char out[96])
{
    size_t n = strlen(section), skip = n ? n + 1 : 0;
    for (size_t i = 0; i < rot_n_split_keys; i++) {
        char within[96];
        const char *name = rot_split_keys[i].name;
        size_t before = *best;
        if (n && (strncmp(name, section, n) || name[n] != '.')) continue;
        offer(name, skip, word, best, within);
        if (*best < before) snprintf(out, 96, "splits.%.40s.%.40s", split, within);
    }
}

void rot_key_nearest_of(const rot_key *keys, size_t n_keys, const char *section, const char *word,
                        char out[96])
{
    size_t best = (size_t)-1, n = strlen(section), skip = n ? n + 1 : 0;
    out[0] = 0;
    for (size_t i = 0; !n && i < sizeof other_names / sizeof *other_names; i++)
        if (keys == rot_config_keys || strcmp(other_names[i], "splits"))
            offer(other_names[i], 0, word, &best, out);
    for (size_t i = 0; i < n_keys; i++) {
        const char *name = keys[i].name;
        if (!n || (!strncmp(name, section, n) && name[n] == '.'))
            offer(name, skip, word, &best, out);
    }
    if (best <= 2) return;
    for (size_t i = 0; i < n_keys; i++)
        if (!strcmp(last_part(keys[i].name), word)) snprintf(out, 96, "%s", keys[i].name);
}

void rot_key_nearest(const char *section, const char *word, char out[96])
{
    size_t best = (size_t)-1;
    if (strncmp(section, "splits.", 7)) {
        rot_key_nearest_of(rot_config_keys, rot_n_config_keys, section, word, out);
        return;
    }
    char split[64];
    size_t n_split = strcspn(section + 7, ".");
    const char *rest = section + 7 + n_split;
    out[0] = 0;
    snprintf(split, sizeof split, "%.*s", (int)n_split, section + 7);
    offer_split(split, *rest ? rest + 1 : rest, word, &best, out);
}

// What each format reads: fields by default; "" for one that is read only if its key says from
// where; NULL for one that the key has no say in. Order: id, question, cot, answer.
static const char *const format_fields[][4] = {
    [ROT_INPUT_JSONL] = {"id", "question", "cot", "answer"},
    [ROT_INPUT_GSM8K] = {"", "question", NULL, "answer"},
    [ROT_INPUT_GSM8K_AUG] = {NULL, NULL, NULL, NULL},
    [ROT_INPUT_MATH] = {"", "problem", "solution", ""},
    [ROT_INPUT_COCONUT] = {"", "question", "steps", "answer"},
    [ROT_INPUT_GSM8K_AUG_NL] = {"", "question", "cot", "answer"},
    [ROT_INPUT_MATH_500] = {"unique_id", "problem", "solution", "answer"},
    [ROT_INPUT_SVAMP] = {"ID", "Question", "Equation", "Answer"},
    [ROT_INPUT_GSM_HARD] = {"", "input", "code", "target"},
    [ROT_INPUT_MULTIARITH] = {"", "sQuestion", "lEquations", "lSolutions"},
    [ROT_INPUT_PRONTOQA] = {"", "question", "steps", "answer"},
    [ROT_INPUT_PROSQA] = {"", "question", "steps", "answer"},
};

static int field_index(const rot_key *key)
{
    static const char *const names[] = {"keys.id", "keys.question", "keys.cot", "keys.answer"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(key->name, names[i])) return i;
    return -1;
}

bool rot_split_key_applies(const rot_key *key, int format)
{
    int field = field_index(key);
    if (field >= 0) return format_fields[format][field] != NULL;
    if (strcmp(key->name, "strip_calculator")) return true;
    return format == ROT_INPUT_JSONL || format == ROT_INPUT_GSM8K || format == ROT_INPUT_COCONUT ||
           format == ROT_INPUT_GSM8K_AUG_NL;
}

const char *rot_split_key_default(const rot_key *key, int format)
{
    int field = field_index(key);
    const char *name = field >= 0 ? format_fields[format][field] : NULL;
    return name && *name ? name : NULL;
}
