#include "base/versions.h"

#include <lmdb.h>
#include <stdio.h>
#include <zstd.h>

int rot_shards_versions(rot_version *out, int capacity)
{
    char text[48];
    int major, minor, patch;
    mdb_version(&major, &minor, &patch);
    snprintf(text, sizeof text, "%d.%d.%d", major, minor, patch);
    int n = rot_version_add(out, capacity, 0, "LMDB", text);
    return rot_version_add(out, capacity, n, "zstd", ZSTD_versionString());
}
