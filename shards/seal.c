#include "shards/seal.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "rotoscope/store.h"

// The last member of the object, or of the "provenance" that ends it (a dataset's top level has no
// place for it): `"sha256": "` 64 hex digits, and the closing that belongs to it.
static const char seal_start[] = "\"sha256\": \"";
static const char *const seal_ends[] = {"\"\n}\n", "\"\n  }\n}\n"}; // one, two objects to close
enum { N_START = sizeof seal_start - 1, N_HEX = 64 };

static size_t without_space(const char *text, size_t n)
{
    while (n > 0 && strchr(" \t\r\n", text[n - 1])) n--;
    return n;
}

int rot_dataset_seal(const char *json, char **sealed, rot_err *err)
{
    size_t n = without_space(json, strlen(json));
    if (n < 2 || json[n - 1] != '}')
        ROT_FAIL(err, ROT_ERR_USAGE, "only a JSON object can be sealed");
    n = without_space(json, n - 1);
    bool inner = json[n - 1] == '}' && strstr(json, "\"provenance\": {") != NULL;
    if (inner) n = without_space(json, n - 1);
    rot_str text = {0};
    uint8_t digest[32];
    char hex[N_HEX + 1];
    rot_str_add(&text, json, n);
    rot_str_printf(&text, "%s\n%s", json[n - 1] == '{' ? "" : ",", inner ? "    " : "");
    if (text.failed) {
        rot_str_free(&text);
        return rot_no_memory(err, n, "JSON");
    }
    rot_sha256_bytes(text.text, text.n_bytes, digest);
    rot_hex(digest, 32, hex);
    rot_str_printf(&text, "%s%s%s", seal_start, hex, seal_ends[inner]);
    return rot_str_take(&text, sealed, err);
}

// True if the text ends with `end` before which the seal of all before it stands.
static bool fits(const char *text, size_t n, const char *end)
{
    char hex[N_HEX + 1];
    uint8_t digest[32];
    size_t n_end = strlen(end), n_seal = N_START + N_HEX + n_end;
    if (n < n_seal || memcmp(text + n - n_end, end, n_end)) return false;
    const char *seal = text + n - n_seal;
    rot_sha256_bytes(text, n - n_seal, digest);
    rot_hex(digest, 32, hex);
    return !memcmp(seal, seal_start, N_START) && !memcmp(seal + N_START, hex, N_HEX);
}

static int check_seal(const char *path, const char *text, size_t n, rot_err *err)
{
    if (!fits(text, n, seal_ends[0]) && !fits(text, n, seal_ends[1]))
        ROT_FAIL(err, ROT_ERR_CORRUPT, "%s: its bytes do not fit the SHA-256 at its end", path);
    return 0;
}

// A seal whose name a flipped byte has spoiled is still one: 64 hex digits before the closing.
static bool looks_sealed(const char *text, size_t n)
{
    size_t n_end = strlen(seal_ends[1]);
    if (n < n_end + N_HEX || memcmp(text + n - n_end, seal_ends[1], n_end)) return false;
    return strspn(text + n - n_end - N_HEX, "0123456789abcdef") == N_HEX;
}

int rot_seal_read(const char *path, json_t **out, bool *sealed, rot_err *err)
{
    char *text = NULL;
    size_t n;
    json_error_t error;
    int rc = 0;
    *out = NULL;
    ROT_TRY(rot_fs_read(path, &text, &n, err));
    json_t *json = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (!json || !json_is_object(json))
        ROT_FAIL_GO(err,
                    json_error_code(&error) == json_error_out_of_memory && !json ? ROT_ERR_NO_MEMORY
                                                                                 : ROT_ERR_FORMAT,
                    "%s: line %d, column %d: %s", path, json ? 1 : error.line,
                    json ? 1 : error.column, json ? "not a JSON object" : error.text);
    *sealed = json_object_get(json, "sha256") != NULL || looks_sealed(text, n) ||
              json_object_get(json_object_get(json, "provenance"), "sha256") != NULL;
    if (*sealed) ROT_GO(check_seal(path, text, n, err));
    *out = json;
    json = NULL;
done:
    json_decref(json);
    rot_free(text);
    return rc;
}

/* ---- YAML --------------------------------------------------------------------------------------
 */

static const char yaml_start[] = "# sha256: ";
enum { N_YAML_SEAL = sizeof yaml_start - 1 + 64 + 1 };

static void yaml_seal(const char *text, size_t n, char out[N_YAML_SEAL + 1])
{
    uint8_t digest[32];
    char hex[65];
    rot_sha256_bytes(text, n, digest);
    rot_hex(digest, 32, hex);
    snprintf(out, N_YAML_SEAL + 1, "%s%s\n", yaml_start, hex);
}

int rot_config_seal(const char *yaml, char **sealed, rot_err *err)
{
    rot_str text = {0};
    char seal[N_YAML_SEAL + 1];
    size_t n = strlen(yaml);
    rot_str_add(&text, yaml, n);
    if (n && yaml[n - 1] != '\n') rot_str_puts(&text, "\n");
    yaml_seal(text.text ? text.text : "", text.n_bytes, seal);
    rot_str_puts(&text, seal);
    return rot_str_take(&text, sealed, err);
}

int rot_config_check_seal(const char *path, rot_err *err)
{
    char *text = NULL, seal[N_YAML_SEAL + 1];
    size_t n;
    ROT_TRY(rot_fs_read(path, &text, &n, err));
    bool good = n > N_YAML_SEAL;
    if (good) {
        yaml_seal(text, n - N_YAML_SEAL, seal);
        good = memcmp(text + n - N_YAML_SEAL, seal, N_YAML_SEAL) == 0;
    }
    rot_free(text);
    if (!good)
        ROT_FAIL(err, ROT_ERR_CORRUPT, "%s: its bytes do not fit the SHA-256 in its last line",
                 path);
    return 0;
}
