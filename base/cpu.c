#include "base/cpu.h"

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static void brand(char name[64])
{
    unsigned r[12] = {0};
    for (unsigned i = 0; i < 3; i++)
        __get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
    memcpy(name, r, 48);
    name[48] = 0;
    size_t n = strlen(name);
    while (n && name[n - 1] == ' ') name[--n] = 0;
}

static bool has_amx_bf16(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1);
}

static bool has_avx512_bf16(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}

int rot_cpu_detect(rot_cpu *out, rot_err *err)
{
    __builtin_cpu_init();
    *out = (rot_cpu){0};
    brand(out->name);
    out->avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    out->avx512 = out->avx2 && __builtin_cpu_supports("avx512f") &&
                  __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
    out->avx512_bf16 = out->avx512 && has_avx512_bf16();
    out->amx = out->avx512 && has_amx_bf16();
    const char *force = getenv("ROT_CPU");
    if (!force || !*force) return 0;
    static const char *const levels[] = {"ref", "avx2", "avx512", "amx"};
    const bool have[] = {true, out->avx2, out->avx512, out->amx};
    for (int level = 0; level < 4; level++) {
        if (strcmp(force, levels[level])) continue;
        if (!have[level])
            ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "ROT_CPU=%s: this processor (%s) lacks it", force,
                     out->name);
        out->ref_only = level == 0;
        out->avx2 = level >= 1 && out->avx2;
        out->avx512 = level >= 2 && out->avx512;
        out->avx512_bf16 = level >= 2 && out->avx512_bf16;
        out->amx = level >= 3 && out->amx;
        return 0;
    }
    ROT_FAIL(err, ROT_ERR_USAGE, "ROT_CPU=%s: not one of ref, avx2, avx512, amx", force);
}
