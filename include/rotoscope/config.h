// A build's config: YAML, read strictly against one table of keys (schemas/keys.c).
#ifndef ROTOSCOPE_CONFIG_H
#define ROTOSCOPE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "encoder.h"
#include "error.h"
#include "render.h"
#include "store.h"
#include "tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rot_input_format {
    ROT_INPUT_JSONL,
    ROT_INPUT_GSM8K,
    ROT_INPUT_GSM8K_AUG,
    ROT_INPUT_MATH,
    ROT_INPUT_COCONUT,
    ROT_INPUT_GSM8K_AUG_NL,
    ROT_INPUT_MATH_500,
    ROT_INPUT_SVAMP,
    ROT_INPUT_GSM_HARD,
    ROT_INPUT_MULTIARITH,
    ROT_INPUT_PRONTOQA,
    ROT_INPUT_PROSQA
} rot_input_format;

typedef enum rot_policy { ROT_POLICY_FAIL, ROT_POLICY_SKIP } rot_policy;

typedef struct rot_split_config {
    const char *name;
    const char **files; // absolute, or relative to the working folder (resolved from the config's)
    int n_files;
    rot_input_format format;
    // Names of the fields that hold id, question, cot, answer (keys: {cot: solution} renames), as
    // far as the format has them (docs/input.md). NULL: the format's default.
    const char *key_id, *key_question, *key_cot, *key_answer;
    bool strip_calculator; // jsonl, gsm8k, gsm8k-aug-nl, coconut: remove <<...>> from the trace
} rot_split_config;

typedef struct rot_config {
    const char *name; // names the dataset's file
    const char *root; // store root
    const char *path; // the config file, or "--set" alone
    rot_split_config *splits;
    int n_splits;
    const char *tokenizer_path; // folder
    rot_layout layout;
    bool has_render, has_encode;
    // Fonts: files with a slash or an ending are resolved from the config's folder.
    rot_render_options render;
    rot_encoder_options encode;
    rot_codec embeds_codec;
    uint32_t shard_samples, commit_samples;
    rot_policy on_bad_row, on_too_large;
    rot_missing_glyph on_missing_glyph;
    // Where the config names what is opened later, "FILE:LINE:COLUMN" for messages; NULL: unknown.
    struct {
        const char *fonts[ROT_MAX_FONTS], *tokenizer, *checkpoint, *geometry;
    } where;
} rot_config;

// Reads `path` (and what it extends), applies `sets` ("render.size_px=24", n_sets of them; paths in
// them are relative to the working folder) and checks everything. `path` may be NULL: sets alone.
// ROT_ERR_CONFIG with file, line, column and the nearest valid key; ROT_ERR_MISSING: no such file.
// Files that the config names are checked too (ROT_ERR_MISSING).
int rot_config_load(const char *path, const char *const *sets, int n_sets, rot_config **out,
                    rot_err *err);
void rot_config_free(rot_config **config);

// The effective config as YAML, every default written out; reading it back gives the same config.
// The caller frees *text.
int rot_config_write(const rot_config *config, char **text, rot_err *err);

// Applies one key of `render:` or `missing_glyph` given as JSON text (`"size_px"`, `24`), as a line
// of `render --jobs` does. Strings set in `options` live in `*strings`, a list that the caller
// starts as NULL and frees with rot_config_free_strings. ROT_ERR_CONFIG names the key.
typedef struct rot_strings rot_strings;
int rot_config_set_render(rot_render_options *options, const char *key, const char *json_value,
                          rot_strings **strings, rot_err *err);
void rot_config_free_strings(rot_strings **strings);

// docs/config.md and the JSON Schema, made from the key table; the caller frees *text.
int rot_config_document(char **text, rot_err *err);
int rot_config_json_schema(char **text, rot_err *err);

/* ---- input rows ------------------------------------------------------------------------------ */

typedef struct rot_input rot_input; // streams the files of one split

typedef struct rot_row {
    uint64_t index;                             // ordinal over the split's files, bad rows included
    const char *id, *question, *trace, *answer; // UTF-8, NUL-terminated, never NULL in a good row
    size_t n_id, n_question, n_trace, n_answer;
    const char *bad;       // NULL, or why the row is bad (file, line, byte offset, cause)
    const char *bad_cause; // a fixed word for the tombstone: "json", "utf8", "nul", "key",
                           // "duplicate-id", "format"
    const char *file;      // where it came from
    uint64_t line, offset; // of its first byte, in the decompressed file
    const char *source;    // the row's n_source bytes as they lie there: a line, an element
    size_t n_source;
} rot_row;

// The format that `format:` calls so. ROT_ERR_USAGE: there is none; the message lists them.
int rot_input_format_of(const char *name, rot_input_format *out, rot_err *err);
// ROT_ERR_MISSING: a file that is not there.
int rot_input_open(const rot_split_config *split, rot_input **out, rot_err *err);
void rot_input_close(rot_input **input);
// 1: a row (good or bad), owned by the input until the next call; 0: the end; negative: the file
// itself is broken (truncated gzip: ROT_ERR_INPUT with file and offset; ROT_ERR_IO).
int rot_input_next(rot_input *input, rot_row *row, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
