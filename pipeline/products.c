#include "pipeline/products.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"

enum { CAPACITY = 16384 };

// The first line in which they differ.
static void first_difference(const char *a, const char *b, char *was, char *is, size_t capacity)
{
    while (*a && *b) {
        const size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");
        if (n != m || memcmp(a, b, n)) break;
        a += n + (a[n] == '\n');
        b += m + (b[m] == '\n');
    }
    snprintf(was, capacity, "%.*s", (int)strcspn(a, "\n"), a);
    snprintf(is, capacity, "%.*s", (int)strcspn(b, "\n"), b);
}

int rot_products_check(const char *stage_dir, const rot_encoder *encoder, rot_err *err)
{
    char path[4200], now[CAPACITY], before[CAPACITY], was[256], is[256];
    rot_encoder_choices(encoder, now, sizeof now);
    if (!*now) return 0;
    snprintf(path, sizeof path, "%s/products.txt", stage_dir);
    FILE *f = fopen(path, "re");
    if (!f) return rot_fs_write_atomic(path, now, strlen(now), err);
    before[fread(before, 1, sizeof before - 1, f)] = 0;
    fclose(f);
    if (!strcmp(before, now)) return 0;
    first_difference(before, now, was, is, sizeof was);
    ROT_FAIL(
        err, ROT_ERR_NOT_FOUND,
        "%s: products of this stage are computed as '%s', and this machine chooses '%s', which "
        "may give other bits",
        path, was, is);
}
