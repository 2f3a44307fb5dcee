// The table of config keys: one row per key, from which the config is read, written, documented and
// checked. Offsets are into rot_config, for split keys into rot_split_config.
#ifndef ROT_SCHEMAS_KEYS_H
#define ROT_SCHEMAS_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

typedef enum rot_key_type {
    ROT_KEY_STRING,
    ROT_KEY_NAME,    // a string of letters, digits, dot, dash and underscore
    ROT_KEY_ROOT,    // a folder that is made, relative to the file that says it
    ROT_KEY_PLACE,   // one that is made; "" is none
    ROT_KEY_FOLDER,  // one that must be there
    ROT_KEY_FILE,    // a file that must be there
    ROT_KEY_FILES,   // a list of paths or globs
    ROT_KEY_FONTS,   // a list of font files or family names
    ROT_KEY_INTEGER, // int
    ROT_KEY_COUNT,   // uint32_t
    ROT_KEY_NUMBER,  // double
    ROT_KEY_BOOL,
    ROT_KEY_COLOR,   // "#rrggbb"
    ROT_KEY_ENUM,    // words[i] stands for the enum's value i; an empty word is none
    ROT_KEY_WORD,    // one of `words`, kept as a string
    ROT_KEY_PRESET   // render.preset: no field, sets the section's defaults
} rot_key_type;

// Where a key has an effect. Elsewhere it is an error to give it.
typedef enum rot_key_when {
    ROT_WHEN_ALWAYS,
    ROT_WHEN_LINE_MODE,
    ROT_WHEN_PAGE_MODE,
    ROT_WHEN_RENDER, // the config has a render section
    ROT_WHEN_ENCODE  // the config has an encode section
} rot_key_when;

enum { ROT_KEY_MAX_WORDS = 12 };

typedef struct rot_key {
    const char *name; // with dots; split keys without "splits.NAME."
    rot_key_type type;
    size_t offset, size; // of the field
    double min, max;     // integers, counts and numbers
    const char *words[ROT_KEY_MAX_WORDS]; // enums
    const char *by_default; // as YAML; NULL: required
    rot_key_when when;
    const char *doc;
} rot_key;

extern const rot_key rot_config_keys[];
extern const size_t rot_n_config_keys;
extern const rot_key rot_split_keys[];
extern const size_t rot_n_split_keys;

// The key of that name, or NULL.
const rot_key *rot_key_find(const rot_key *keys, size_t n, const char *name);
// The valid key nearest in spelling to `word` as a child of `section` ("" for the top): one of that
// section, or one of another that ends in just that word. A full name in `out`.
void rot_key_nearest(const char *section, const char *word, char out[96]);
// The same in a table without splits; `extends` stands beside its keys.
void rot_key_nearest_of(const rot_key *keys, size_t n, const char *section, const char *word,
                        char out[96]);
// Edit distance of two words (insert, delete, replace, swap of neighbours: 1 each).
size_t rot_edit_distance(const char *a, const char *b);

// Keys of a split that have an effect with its format (a rot_input_format).
bool rot_split_key_applies(const rot_key *key, int format);
// The field that `key` ("keys.cot") names unless told otherwise; NULL: none.
const char *rot_split_key_default(const rot_key *key, int format);

// A table of keys as docs have it: name (after `prefix`), values, default, what.
void rot_key_put_table(const rot_key *keys, size_t n, const char *prefix, rot_str *out);

#endif
