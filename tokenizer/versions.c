#include "base/versions.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>
#include <utf8proc.h>

int rot_tokenizer_versions(rot_version *out, int capacity)
{
    char pcre2[64] = "?";
    pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    pcre2[strcspn(pcre2, " ")] = 0; // a date follows
    int n = rot_version_add(out, capacity, 0, "PCRE2", pcre2);
    return rot_version_add(out, capacity, n, "utf8proc", utf8proc_version());
}
