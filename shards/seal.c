#include "shards/seal.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "rotoscope/store.h"

// The last member: `"sha256": "` 64 hex digits `"` LF `}` LF.
static const char seal_start[] = "\"sha256\": \"", seal_end[] = "\"\n}\n";
enum {
    N_START = sizeof seal_start - 1,
    N_END = sizeof seal_end - 1,
    N_SEAL = N_START + 64 + N_END
};

int rot_dataset_seal(const char *json, char **sealed, rot_err *err)
{
    size_t n = strlen(json);
    while (n > 0 && strchr(" \t\r\n", json[n - 1])) n--;
    if (n < 2 || json[n - 1] != '}')
        ROT_FAIL(err, ROT_ERR_USAGE, "only a JSON object can be sealed");
    n--;
    while (n > 0 && strchr(" \t\r\n", json[n - 1])) n--;
    rot_str text = {0};
    uint8_t digest[32];
    char hex[65];
    rot_str_add(&text, json, n);
    rot_str_puts(&text, json[n - 1] == '{' ? "\n" : ",\n");
    if (text.failed) {
        rot_str_free(&text);
        return rot_no_memory(err, n, "JSON");
    }
    rot_sha256_bytes(text.text, text.n_bytes, digest);
    rot_hex(digest, 32, hex);
    rot_str_printf(&text, "%s%s%s", seal_start, hex, seal_end);
    return rot_str_take(&text, sealed, err);
}

static int check_seal(const char *path, const char *text, size_t n, rot_err *err)
{
    char hex[65];
    uint8_t digest[32];
    if (n < N_SEAL) ROT_FAIL(err, ROT_ERR_CORRUPT, "%s: no seal at its end", path);
    const char *seal = text + n - N_SEAL;
    rot_sha256_bytes(text, n - N_SEAL, digest);
    rot_hex(digest, 32, hex);
    if (memcmp(seal, seal_start, N_START) || memcmp(seal + N_START, hex, 64) ||
        memcmp(seal + N_START + 64, seal_end, N_END))
        ROT_FAIL(err, ROT_ERR_CORRUPT, "%s: its bytes do not fit the SHA-256 at its end", path);
    return 0;
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
    *sealed = json_object_get(json, "sha256") != NULL;
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
