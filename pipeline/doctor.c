#include "pipeline/doctor.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <yaml.h>
#include <zlib.h>

#include "base/cpu.h"
#include "base/err.h"
#include "base/gpus.h"
#include "base/mem.h"
#include "base/threads.h"
#include "base/utf8.h"
#include "base/versions.h"
#include "rotoscope/rotoscope.h"

void rot_doctor_say(json_t *verdicts, const char *about, int ok, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_array_append_new(verdicts, json_pack("{s:s, s:b, s:o}", "about", about, "ok", ok, "text",
                                              rot_doctor_text(text)));
}

json_t *rot_doctor_text(const char *text)
{
    char clean[2048];
    size_t at = 0, n = 0, n_bytes = strlen(text);
    if (rot_utf8_valid(text, n_bytes) == n_bytes) return json_string(text);
    while (at < n_bytes && n + 4 < sizeof clean) {
        size_t start = at;
        if (rot_utf8_next(text, n_bytes, &at) < 0) {
            clean[n++] = '?';
            at = start + 1;
        } else {
            memcpy(clean + n, text + start, at - start);
            n += at - start;
        }
    }
    return json_stringn(clean, n);
}

static json_t *look_at_cpu(json_t *verdicts)
{
    rot_cpu cpu;
    rot_err err = {0};
    const char *forced = getenv("ROT_CPU");
    if (rot_cpu_detect(&cpu, &err) < 0) {
        rot_doctor_say(verdicts, "cpu", 0, "%s", err.message);
        return json_pack("{s:o}", "ROT_CPU", rot_doctor_text(forced ? forced : ""));
    }
    const char *best = cpu.amx           ? "amx"
                       : cpu.avx512_bf16 ? "avx512 with bf16"
                       : cpu.avx512      ? "avx512"
                       : cpu.avx2        ? "avx2"
                                         : "plain C";
    rot_doctor_say(verdicts, "cpu", 1, "%s: up to %s%s%s", cpu.name, best,
                   forced && *forced ? ", as ROT_CPU asks: " : "", forced ? forced : "");
    return json_pack("{s:s, s:b, s:b, s:b, s:b, s:s?}", "name", cpu.name, "avx2", (int)cpu.avx2,
                     "avx512", (int)cpu.avx512, "avx512_bf16", (int)cpu.avx512_bf16, "amx",
                     (int)cpu.amx, "ROT_CPU", forced);
}

static json_t *look_at_threads(json_t *verdicts)
{
    cpu_set_t set;
    int affinity = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    long machine = sysconf(_SC_NPROCESSORS_ONLN);
    const char *slurm = getenv("SLURM_CPUS_PER_TASK");
    int available = rot_threads_available();
    const char *why = available == affinity ? "the affinity mask" : "SLURM_CPUS_PER_TASK";
    rot_doctor_say(verdicts, "threads", 1, "%d, from %s (the machine has %ld processors)",
                   available, why, machine);
    return json_pack("{s:i, s:s, s:i, s:I, s:s?}", "available", available, "why", why, "affinity",
                     affinity, "machine", (json_int_t)machine, "SLURM_CPUS_PER_TASK", slurm);
}

static json_t *collect_libraries(void)
{
    rot_version v[24];
    int n = 0, room = (int)(sizeof v / sizeof *v);
    n += rot_renderer_versions(v + n, room - n);
    n += rot_tokenizer_versions(v + n, room - n);
    n += rot_kernels_versions(v + n, room - n);
    n += rot_shards_versions(v + n, room - n);
    n += rot_base_versions(v + n, room - n);
    n = rot_version_add(v, room, n, "Jansson", jansson_version_str());
    n = rot_version_add(v, room, n, "libyaml", yaml_get_version_string());
    n = rot_version_add(v, room, n, "zlib", zlibVersion());
    json_t *out = json_object();
    for (int i = 0; i < n; i++) json_object_set_new(out, v[i].library, json_string(v[i].version));
    return out;
}

static json_t *limit(int resource)
{
    struct rlimit l;
    if (getrlimit(resource, &l) != 0 || l.rlim_cur == RLIM_INFINITY) return json_null();
    return json_integer((json_int_t)l.rlim_cur);
}

// The beginning of a file of /proc or /sys (whose sizes say nothing); false if there is none.
static bool read_start(const char *path, char *out, size_t capacity)
{
    FILE *f = fopen(path, "re");
    if (!f) return false;
    out[fread(out, 1, capacity - 1, f)] = 0;
    fclose(f);
    return true;
}

// A number in the file, or -1 if there is no such file or it says "max".
static long long number_in(const char *path)
{
    char text[64], *end;
    if (!read_start(path, text, sizeof text)) return -1;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    return end != text && !errno && value > 0 ? value : -1;
}

// The smallest memory limit of this process's control groups (version 2: of every group above it
// too).
static long long cgroup_memory(void)
{
    char text[4096], path[4096] = "/", file[4200];
    long long least = number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    if (read_start("/proc/self/cgroup", text, sizeof text)) {
        const char *unified = strstr(text, "0::/");
        if (unified) snprintf(path, sizeof path, "%s", unified + 3);
        path[strcspn(path, "\n")] = 0;
    }
    for (;;) {
        snprintf(file, sizeof file, "/sys/fs/cgroup%s/memory.max", strcmp(path, "/") ? path : "");
        long long value = number_in(file);
        if (value > 0 && (least < 0 || value < least)) least = value;
        if (!strcmp(path, "/")) break;
        char *slash = strrchr(path, '/');
        slash[slash == path] = 0;
    }
    return least >= 1LL << 60 ? -1 : least; // version 1 says "no limit" with a huge number
}

static json_t *look_at_limits(json_t *verdicts)
{
    struct rlimit files;
    long long memory = (long long)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE),
              group = cgroup_memory();
    long long usable = group > 0 && group < memory ? group : memory;
    rot_doctor_say(verdicts, "memory", usable >= 1LL << 30, "%.1f GB usable%s",
                   (double)usable / 1e9, usable == group ? " (limit of the control group)" : "");
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        rot_doctor_say(verdicts, "open files", files.rlim_cur >= 256, "%llu allowed%s",
                       (unsigned long long)files.rlim_cur,
                       files.rlim_cur >= 256 ? ""
                                             : ": a store of many shards needs more (ulimit -n)");
    struct rlimit space;
    bool whole = getrlimit(RLIMIT_AS, &space) != 0 || space.rlim_cur == RLIM_INFINITY;
    if (!whole)
        rot_doctor_say(verdicts, "address space", 0,
                       "limited to %.1f GB (ulimit -v): LMDB maps whole shards and may not fit",
                       (double)space.rlim_cur / 1e9);
    return json_pack("{s:o, s:o, s:o, s:I, s:o}", "open_files", limit(RLIMIT_NOFILE),
                     "locked_memory_bytes", limit(RLIMIT_MEMLOCK), "address_space_bytes",
                     limit(RLIMIT_AS), "memory_bytes", (json_int_t)memory,
                     "control_group_memory_bytes", group > 0 ? json_integer(group) : json_null());
}

static json_t *look_at_gpus(json_t *verdicts)
{
    rot_gpu gpus[16];
    rot_err err = {0};
    const int n = rot_kernels_gpus(gpus, 16, &err);
    json_t *out = json_array();
    if (n == 0) rot_doctor_say(verdicts, "gpu", 1, "none: %s", err.message);
    for (int i = 0; i < n; i++) {
        const rot_gpu *g = &gpus[i];
        rot_doctor_say(
            verdicts, "gpu", 1,
            "%d is %s (sm_%d%d), %.1f of %.1f GB free, driver CUDA %d.%d, needed %d.%d%s%s", i,
            g->name, g->major, g->minor, (double)g->free_bytes / 1e9, (double)g->total_bytes / 1e9,
            g->driver_cuda / 1000, g->driver_cuda % 1000 / 10, g->runtime_cuda / 1000,
            g->runtime_cuda % 1000 / 10, g->ours ? "; a build would be by " : "",
            g->ours ? g->identity : "");
        json_array_append_new(out,
                              json_pack("{s:o, s:i, s:i, s:I, s:I, s:i, s:i, s:o, s:b}", "name",
                                        rot_doctor_text(g->name), "major", g->major, "minor",
                                        g->minor, "total_bytes", (json_int_t)g->total_bytes,
                                        "free_bytes", (json_int_t)g->free_bytes, "driver_cuda",
                                        g->driver_cuda, "runtime_cuda", g->runtime_cuda, "backend",
                                        rot_doctor_text(g->identity), "ours", (int)g->ours));
    }
    return out;
}

static json_t *look_at_fonts(json_t *verdicts)
{
    rot_render_options options = rot_render_options_default();
    rot_renderer *renderer = NULL;
    rot_err err = {0};
    json_t *out = json_object();
    if (rot_renderer_open(&options, &renderer, &err) < 0) {
        rot_doctor_say(verdicts, "fonts", 0, "%s (Debian: fonts-dejavu-core)", err.message);
        return out;
    }
    const char *path = rot_renderer_font_path(renderer, 0);
    json_object_set_new(out, options.fonts[0], rot_doctor_text(path));
    rot_doctor_say(verdicts, "fonts", 1, "%s is %s", options.fonts[0], path);
    rot_renderer_close(&renderer);
    return out;
}

int rot_doctor(const char *root, char **json, rot_err *err)
{
    json_t *verdicts = json_array();
    if (!verdicts) return rot_no_memory(err, 0, "doctor");
    json_t *out = json_pack("{s:s}", "version", ROT_VERSION);
    if (out) { // one after another: the verdicts keep this order
        json_object_set_new(out, "cpu", look_at_cpu(verdicts));
        json_object_set_new(out, "gpus", look_at_gpus(verdicts));
        json_object_set_new(out, "threads", look_at_threads(verdicts));
        json_object_set_new(out, "libraries", collect_libraries());
        json_object_set_new(out, "limits", look_at_limits(verdicts));
        json_object_set_new(out, "fonts", look_at_fonts(verdicts));
        if (root) json_object_set_new(out, "file_system", rot_doctor_root(root, verdicts));
        json_object_set(out, "verdicts", verdicts);
    }
    json_decref(verdicts);
    *json = out ? json_dumps(out, JSON_INDENT(2)) : NULL;
    json_decref(out);
    return *json ? 0 : rot_no_memory(err, 0, "doctor");
}
