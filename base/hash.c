#include "base/hash.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h> // the same hashes by AVX2 or AVX-512 where the processor has it
#endif

#include "base/err.h"
#include "base/mem.h"

struct rot_sha256 {
    EVP_MD_CTX *context;
};

rot_sha256 *rot_sha256_new(void)
{
    rot_sha256 *hash = rot_calloc(1, sizeof *hash);
    if (!hash) return NULL;
    hash->context = EVP_MD_CTX_new();
    if (!hash->context || EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(hash->context);
        rot_free(hash);
        return NULL;
    }
    return hash;
}

void rot_sha256_add(rot_sha256 *hash, const void *bytes, size_t n_bytes)
{
    EVP_DigestUpdate(hash->context, bytes, n_bytes);
}

void rot_sha256_u64(rot_sha256 *hash, uint64_t value)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(value >> 8 * i);
    rot_sha256_add(hash, bytes, 8);
}

void rot_sha256_field(rot_sha256 *hash, const void *bytes, size_t n_bytes)
{
    rot_sha256_u64(hash, n_bytes);
    rot_sha256_add(hash, bytes, n_bytes);
}

void rot_sha256_end(rot_sha256 *hash, uint8_t out[32])
{
    if (!hash) return;
    uint8_t digest[32];
    EVP_DigestFinal_ex(hash->context, out ? out : digest, NULL);
    EVP_MD_CTX_free(hash->context);
    rot_free(hash);
}

void rot_sha256_bytes(const void *bytes, size_t n_bytes, uint8_t out[32])
{
    EVP_Digest(bytes, n_bytes, out, NULL, EVP_sha256(), NULL);
}

int rot_sha256_file(const char *path, uint8_t out[32], rot_err *err)
{
    enum { CHUNK = 1 << 20 };
    int rc = 0;
    rot_sha256 *hash = rot_sha256_new();
    unsigned char *chunk = rot_malloc(CHUNK);
    FILE *file = fopen(path, "rb");
    if (!file) {
        rc = errno == ENOENT ? rot_err_set(err, ROT_ERR_MISSING, "%s: no such file", path)
                             : rot_err_errno(err, errno, "open", path);
        goto done;
    }
    if (!hash || !chunk) {
        rc = rot_no_memory(err, CHUNK, "hash");
        goto done;
    }
    for (size_t n; (n = fread(chunk, 1, CHUNK, file)) > 0;) rot_sha256_add(hash, chunk, n);
    if (ferror(file)) rc = rot_err_errno(err, errno, "read", path);
done:
    rot_sha256_end(hash, rc < 0 ? NULL : out);
    rot_free(chunk);
    if (file) fclose(file);
    return rc;
}

void rot_xxh128_bytes(const void *bytes, size_t n_bytes, uint8_t out[16])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, n_bytes));
    memcpy(out, canonical.digest, 16);
}

void rot_xxh128_two(const void *a, size_t n_a, const void *b, size_t n_b, uint8_t out[16])
{
    XXH3_state_t state; // on the stack: over-aligned by its own declaration
    XXH3_INITSTATE(&state);
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, a, n_a);
    XXH3_128bits_update(&state, b, n_b);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
    memcpy(out, canonical.digest, 16);
}

void rot_hex(const uint8_t *bytes, size_t n_bytes, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n_bytes; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n_bytes] = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

int rot_unhex(const char *hex, uint8_t *out, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        int high = hex_digit(hex[2 * i]), low = high < 0 ? -1 : hex_digit(hex[2 * i + 1]);
        if (low < 0) return -1;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return hex[2 * n_bytes] ? -1 : 0;
}
