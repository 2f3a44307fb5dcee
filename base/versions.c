#include "base/versions.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <xxhash.h>

int rot_version_add(rot_version *out, int capacity, int n, const char *library, const char *version)
{
    if (n >= capacity) return n;
    out[n].library = library;
    snprintf(out[n].version, sizeof out[n].version, "%s", version);
    return n + 1;
}

int rot_base_versions(rot_version *out, int capacity)
{
    char text[48];
    unsigned v = XXH_versionNumber();
    int n = rot_version_add(out, capacity, 0, "OpenSSL", OpenSSL_version(OPENSSL_VERSION_STRING));
    snprintf(text, sizeof text, "%u.%u.%u", v / 10000, v / 100 % 100, v % 100);
    return rot_version_add(out, capacity, n, "xxHash", text);
}
