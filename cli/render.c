// rotoscope render: one text to an image file, or a file of jobs to a folder of images.
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

enum { BATCH = 256, MAX_KNOWN = 64, MAX_SETS = 128 };

typedef struct arguments {
    cli_common common;
    const char *text, *out, *jobs, *preset;
    const char *sets[MAX_SETS];
    int n_sets;
} arguments;

/* ---- options ---- */

static int no_memory(rot_err *err)
{
    err->code = ROT_ERR_NO_MEMORY;
    snprintf(err->message, sizeof err->message, "out of memory");
    return err->code;
}

static int apply(rot_render_options *options, const char *key, const json_t *value,
                 rot_strings **strings, rot_err *err)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!text) return no_memory(err);
    int rc = rot_config_set_render(options, key, text, strings, err);
    free(text);
    return rc;
}

// The keys of one JSON object onto `options`: the preset first, wherever it stands; `text` is no
// option.
static int apply_object(rot_render_options *options, const json_t *object, rot_strings **strings,
                        rot_err *err)
{
    const char *key;
    json_t *value, *preset = json_object_get(object, "preset");
    int rc = preset ? apply(options, "preset", preset, strings, err) : 0;
    json_object_foreach((json_t *)object, key, value)
    {
        if (rc < 0) return rc;
        if (strcmp(key, "text") && strcmp(key, "preset"))
            rc = apply(options, key, value, strings, err);
    }
    return rc;
}

// "[a, b]" without quotes, as YAML writes a list of strings.
static json_t *plain_list(const char *text)
{
    json_t *list = json_array();
    const char *at = text + 1, *end = text + strlen(text) - 1;
    while (list && at < end) {
        size_t n = strcspn(at, ",]");
        const char *first = at, *last = at + n;
        while (first < last && *first == ' ') first++;
        while (last > first && last[-1] == ' ') last--;
        if (last > first) json_array_append_new(list, json_stringn(first, (size_t)(last - first)));
        at += n + 1;
    }
    return list;
}

// A value of the command line: JSON, or else a string as it stands.
static json_t *parse_value(const char *key, const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    size_t n = strlen(text);
    if (!value && n >= 2 && text[0] == '[' && text[n - 1] == ']') value = plain_list(text);
    if (!value) value = json_string(text);
    if (value && !strcmp(key, "fonts") && json_is_string(value)) {
        json_t *list = json_array();
        if (!list || json_array_append_new(list, value) != 0) return NULL;
        return list;
    }
    return value;
}

// --preset and --set as one object, like a line of a jobs file. NULL: err is set.
static json_t *settings_of(const arguments *a, rot_err *err)
{
    json_t *object = json_object();
    if (object && a->preset) json_object_set_new(object, "preset", json_string(a->preset));
    for (int i = 0; object && i < a->n_sets; i++) {
        const char *set = a->sets[i], *equals = strchr(set, '=');
        char key[64];
        if (!strncmp(set, "render.", 7))
            set += 7;
        else if (!strncmp(set, "on.missing_glyph=", 17))
            set += 3;
        if (!equals || equals == set || equals - set >= (ptrdiff_t)sizeof key) {
            err->code = ROT_ERR_USAGE;
            snprintf(err->message, sizeof err->message, "--set takes render.KEY=VALUE, not '%s'",
                     a->sets[i]);
            json_decref(object);
            return NULL;
        }
        snprintf(key, sizeof key, "%.*s", (int)(equals - set), set);
        json_t *value = parse_value(key, equals + 1);
        if (!value || !strcmp(key, "text")) {
            err->code = ROT_ERR_USAGE;
            snprintf(err->message, sizeof err->message, "--set %s: no such key or no such value",
                     a->sets[i]);
            json_decref(value);
            json_decref(object);
            return NULL;
        }
        json_object_set_new(object, key, value);
    }
    if (!object) no_memory(err);
    return object;
}

/* ---- one text ---- */

// PNG on stdout, or a file in the format of its ending.
static int write_single(const rot_image *image, const char *out, rot_err *err)
{
    if (strcmp(out, "-")) return rot_image_write(image, out, err);
    uint8_t *bytes;
    size_t n_bytes;
    int rc = rot_image_encode(image, ROT_IMAGE_PNG, &bytes, &n_bytes, err);
    if (rc < 0) return rc;
    if (fwrite(bytes, 1, n_bytes, stdout) != n_bytes) {
        err->code = rc = errno == ENOSPC ? ROT_ERR_NO_SPACE : ROT_ERR_IO;
        snprintf(err->message, sizeof err->message, "cannot write to stdout: %s", strerror(errno));
    }
    free(bytes);
    return rc;
}

static void report_single(const arguments *a, const rot_image *image, const rot_render_info *info,
                          const rot_render_line *lines, int n_lines)
{
    if (!a->common.json || !strcmp(a->out, "-")) return;
    json_t *list = json_array();
    for (int i = 0; i < n_lines; i++)
        json_array_append_new(list, json_stringn(lines[i].text, lines[i].n_bytes));
    json_t *report =
        json_pack("{s:s, s:i, s:i, s:i, s:o}", "file", a->out, "width", image->width_px, "height",
                  image->height_px, "missing", info->missing, "lines", list);
    if (report) json_dumpf(report, stdout, JSON_COMPACT);
    if (report) putchar('\n');
    json_decref(report);
}

static int render_single(const arguments *a, const json_t *settings)
{
    rot_err err = {0};
    rot_strings *strings = NULL;
    rot_renderer *renderer = NULL;
    rot_render_worker *worker = NULL;
    rot_render_options options = rot_render_options_default();
    rot_image image;
    rot_render_info info;
    const rot_render_line *lines;
    int n_lines;
    int rc = apply_object(&options, settings, &strings, &err);
    if (rc == 0) rc = rot_renderer_open(&options, &renderer, &err);
    if (rc == 0) rc = rot_render_worker_open(renderer, &worker, &err);
    if (rc == 0) rc = rot_render(worker, a->text, strlen(a->text), &image, &info, &err);
    if (rc == 0) rc = write_single(&image, a->out, &err);
    if (rc == 0 && rot_render_lines(worker, &lines, &n_lines) == 0)
        report_single(a, &image, &info, lines, n_lines);
    int code = rc < 0 ? cli_fail(&err) : 0;
    rot_render_worker_close(&worker);
    rot_renderer_close(&renderer);
    rot_config_free_strings(&strings);
    return cli_done(code);
}

/* ---- jobs ---- */

// A renderer for one set of settings, with a worker per thread. Settings that cannot be opened stay
// known with their error.
typedef struct known {
    char *settings; // canonical JSON
    rot_renderer *renderer;
    rot_render_worker **workers;
    rot_err err;
} known;

typedef struct jobs {
    const arguments *arguments;
    const json_t *base; // of the command line
    int n_threads;
    known *known[MAX_KNOWN + BATCH];
    int n_known;
    char *lines[BATCH];
    size_t lengths[BATCH];
    char *reports[BATCH]; // JSON, one per job
    bool failed[BATCH];
} jobs;

static void forget_known(jobs *j)
{
    for (int i = 0; i < j->n_known; i++) {
        known *k = j->known[i];
        for (int t = 0; k->workers && t < j->n_threads; t++)
            rot_render_worker_close(&k->workers[t]);
        rot_renderer_close(&k->renderer);
        free(k->workers);
        free(k->settings);
        free(k);
    }
    j->n_known = 0;
}

static void open_known(jobs *j, known *k, const json_t *job)
{
    rot_strings *strings = NULL;
    rot_render_options options = rot_render_options_default();
    int rc = apply_object(&options, j->base, &strings, &k->err);
    if (rc == 0) rc = apply_object(&options, job, &strings, &k->err);
    if (rc == 0) rot_renderer_open(&options, &k->renderer, &k->err);
    rot_config_free_strings(&strings);
}

// The renderer of a job's settings. NULL: no memory.
static known *find_known(jobs *j, const json_t *job)
{
    char *settings = NULL;
    known *found = NULL;
    json_t *copy = json_copy((json_t *)job);
    if (copy && json_object_del(copy, "text") == 0)
        settings = json_dumps(copy, JSON_SORT_KEYS | JSON_COMPACT);
    json_decref(copy);
    if (!settings) return NULL;
#pragma omp critical(rot_cli_known)
    {
        for (int i = 0; i < j->n_known && !found; i++)
            if (!strcmp(j->known[i]->settings, settings)) found = j->known[i];
        if (!found && (found = calloc(1, sizeof *found))) {
            found->settings = strdup(settings);
            found->workers = calloc((size_t)j->n_threads, sizeof *found->workers);
            if (found->settings && found->workers) {
                open_known(j, found, job);
                j->known[j->n_known++] = found;
            } else {
                free(found->settings);
                free(found->workers);
                free(found);
                found = NULL;
            }
        }
    }
    free(settings);
    return found;
}

// Plain writes without a sync: thousands of small files, which a next run makes again in the same
// order.
static int write_file(const char *path, const uint8_t *bytes, size_t n_bytes, rot_err *err)
{
    FILE *file = fopen(path, "wb");
    bool ok = file && fwrite(bytes, 1, n_bytes, file) == n_bytes;
    int number = errno;
    if (file && fclose(file) != 0) {
        if (ok) number = errno;
        ok = false;
    }
    if (ok) return 0;
    if (file) remove(path);
    err->code = number == ENOSPC || number == EDQUOT ? ROT_ERR_NO_SPACE : ROT_ERR_IO;
    snprintf(err->message, sizeof err->message, "cannot write %.900s: %s", path, strerror(number));
    return err->code;
}

static int draw_job(jobs *j, const json_t *job, size_t ordinal, json_t **report, rot_err *err)
{
    const json_t *text = json_object_get(job, "text");
    if (!json_is_object(job) || !json_is_string(text)) {
        err->code = ROT_ERR_INPUT;
        snprintf(err->message, sizeof err->message, "a job is an object with a string \"text\"");
        return err->code;
    }
    known *k = find_known(j, job);
    if (!k) return no_memory(err);
    if (!k->renderer) {
        *err = k->err;
        return err->code;
    }
    rot_render_worker **worker = &k->workers[omp_get_thread_num()];
    rot_image image;
    rot_render_info info;
    int rc = *worker ? 0 : rot_render_worker_open(k->renderer, worker, err);
    if (rc == 0)
        rc = rot_render(*worker, json_string_value(text), json_string_length(text), &image, &info,
                        err);
    if (rc < 0) return rc;
    char name[40], path[4096];
    snprintf(name, sizeof name, "%06zu.%s", ordinal, image.channels == 1 ? "pgm" : "ppm");
    if (snprintf(path, sizeof path, "%s/%s", j->arguments->out, name) >= (int)sizeof path) {
        err->code = ROT_ERR_USAGE;
        snprintf(err->message, sizeof err->message, "the path of the folder is too long");
        return err->code;
    }
    uint8_t *bytes;
    size_t n_bytes;
    rc = rot_image_encode(&image, ROT_IMAGE_PNM, &bytes, &n_bytes, err);
    if (rc == 0) rc = write_file(path, bytes, n_bytes, err);
    free(bytes);
    if (rc < 0) return rc;
    *report = json_pack("{s:s, s:i, s:i, s:i}", "file", name, "width", image.width_px, "height",
                        image.height_px, "missing", info.missing);
    if (!*report || !j->arguments->common.json) return *report ? 0 : no_memory(err);
    const rot_render_line *lines;
    int n_lines;
    json_t *list = json_array();
    rot_render_lines(*worker, &lines, &n_lines);
    for (int i = 0; i < n_lines; i++)
        json_array_append_new(list, json_stringn(lines[i].text, lines[i].n_bytes));
    json_object_set_new(*report, "lines", list);
    return 0;
}

static void run_job(jobs *j, int i, size_t ordinal)
{
    rot_err err = {0};
    json_error_t where;
    json_t *report = NULL;
    json_t *job =
        json_loadb(j->lines[i], j->lengths[i], JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!job) {
        err.code = ROT_ERR_INPUT;
        snprintf(err.message, sizeof err.message, "%s (byte %d)", where.text, where.position);
    } else
        draw_job(j, job, ordinal, &report, &err);
    j->failed[i] = err.code != 0;
    if (err.code) {
        char full[1200];
        snprintf(full, sizeof full, "%s: line %zu: %s", j->arguments->jobs, ordinal + 1,
                 err.message);
        report = json_pack("{s:s%}", "error", full, strlen(full));
        if (!report)
            report =
                json_pack("{s:s}", "error", rot_error_name(err.code)); // a path that is no UTF-8
    }
    j->reports[i] = report ? json_dumps(report, JSON_COMPACT) : NULL;
    json_decref(report);
    json_decref(job);
}

static bool is_ours(const char *name)
{
    size_t digits = strspn(name, "0123456789");
    return digits >= 6 && (!strcmp(name + digits, ".pgm") || !strcmp(name + digits, ".ppm"));
}

// The folder, made if absent; images of an earlier run are removed, anything else in it is an
// error.
static int prepare_folder(const char *path)
{
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return cli_usage("cannot make %s: %s", path, strerror(errno));
    DIR *dir = opendir(path);
    if (!dir) return cli_usage("cannot open %s: %s", path, strerror(errno));
    int code = 0;
    for (int remove_them = 0; remove_them < 2 && !code; remove_them++) {
        rewinddir(dir);
        for (struct dirent *entry; !code && (entry = readdir(dir));) {
            if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
            if (!is_ours(entry->d_name))
                code = cli_usage(
                    "%s holds '%s', which is no image of render --jobs: name a folder of its own",
                    path, entry->d_name);
            else if (remove_them && unlinkat(dirfd(dir), entry->d_name, 0) != 0)
                code = cli_usage("cannot remove %s/%s: %s", path, entry->d_name, strerror(errno));
        }
    }
    closedir(dir);
    return code;
}

static int read_batch(jobs *j, FILE *file)
{
    int n = 0;
    for (; n < BATCH; n++) {
        size_t capacity = 0;
        j->lines[n] = NULL;
        ssize_t length = getline(&j->lines[n], &capacity, file);
        if (length < 0) {
            free(j->lines[n]);
            break;
        }
        if (length && j->lines[n][length - 1] == '\n') length--;
        j->lengths[n] = (size_t)length;
    }
    return n;
}

static int run_jobs(jobs *j, FILE *file)
{
    const volatile sig_atomic_t *stop = cli_catch_signals();
    size_t done = 0;
    int code = 0;
    for (int n; !*stop && (n = read_batch(j, file)) > 0; done += (size_t)n) {
#pragma omp parallel for num_threads(j->n_threads) schedule(dynamic)
        for (int i = 0; i < n; i++) run_job(j, i, done + (size_t)i);
        for (int i = 0; i < n; i++) {
            if (j->failed[i] || !j->reports[i]) code = 1;
            puts(j->reports[i] ? j->reports[i] : "{\"error\":\"out of memory\"}");
            free(j->reports[i]);
            free(j->lines[i]);
        }
        if (j->n_known > MAX_KNOWN) forget_known(j);
    }
    if (ferror(file)) {
        fprintf(stderr, "rotoscope: cannot read %s: %s\n", j->arguments->jobs, strerror(errno));
        code = 1;
    }
    return *stop ? 75 : code;
}

// Settings of the command line that no job could use end the run before it begins.
static int check_settings(const json_t *settings)
{
    rot_err err = {0};
    rot_strings *strings = NULL;
    rot_render_options options = rot_render_options_default();
    int rc = apply_object(&options, settings, &strings, &err);
    rot_config_free_strings(&strings);
    return rc < 0 ? cli_fail(&err) : 0;
}

static int render_jobs(const arguments *a, const json_t *settings)
{
    int bad = check_settings(settings);
    if (bad) return bad;
    bool is_stdin = !strcmp(a->jobs, "-");
    FILE *file = is_stdin ? stdin : fopen(a->jobs, "rb");
    if (!file) return cli_usage("cannot read %s: %s", a->jobs, strerror(errno));
    jobs *j = calloc(1, sizeof *j);
    int code = j ? prepare_folder(a->out) : 1;
    if (j && !code) {
        j->arguments = a;
        j->base = settings;
        j->n_threads = a->common.threads ? a->common.threads : rot_threads_available();
        code = run_jobs(j, file);
        forget_known(j);
    }
    free(j);
    if (!is_stdin) fclose(file);
    return cli_done(code);
}

/* ---- command line ---- */

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; return 0;
    case 'o': a->out = arg; return 0;
    case 'j': a->jobs = arg; return 0;
    case 'p': a->preset = arg; return 0;
    case 's':
        if (a->n_sets == MAX_SETS) argp_error(state, "too many --set");
        a->sets[a->n_sets++] = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (a->text) argp_error(state, "one TEXT, please: '%s' is another", arg);
        a->text = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->text == !a->jobs) argp_error(state, "give a TEXT or --jobs JOBS.jsonl");
        if (!a->out) argp_error(state, "give the output: -o");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int cli_render(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"output", 'o', "OUT", 0,
         "OUT.png, OUT.pgm, OUT.ppm or - (PNG on stdout); with --jobs a folder", 0},
        {"jobs", 'j', "FILE", 0,
         "lines of JSON: {\"text\": ...} with any key of render: (- for stdin)", 0},
        {"set", 's', "KEY=VALUE", 0, "a key of render:, such as render.size_px=24", 0},
        {"preset", 'p', "NAME", 0, "rot-paper or rot-released", 0},
        {0}};
    const struct argp argp = {.options = options,
                              .parser = parse,
                              .args_doc = "TEXT -o OUT\n--jobs FILE -o DIR",
                              .doc = "Draws text as an image, exactly as Pillow does.",
                              .children = cli_children};
    arguments a = {0};
    rot_err err = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (!a.jobs && !strcmp(a.out, "-") && isatty(STDOUT_FILENO))
        return cli_usage("a PNG on a terminal is of no use: redirect stdout, or name a file");
    json_t *settings = settings_of(&a, &err);
    if (!settings) return cli_fail(&err);
    int code = a.jobs ? render_jobs(&a, settings) : render_single(&a, settings);
    json_decref(settings);
    return code;
}
