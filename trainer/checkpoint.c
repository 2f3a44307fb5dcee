#include "trainer/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "encoder/json.h"
#include "encoder/safetensors.h"
#include "trainer/checkpoint_config.h"

enum { PATH_BYTES = 4096, N_PARTS = 3 };

static const char *const part_names[N_PARTS] = {"value", "first_moment", "second_moment"};
static const char unfinished[] = ".tmp-"; // begins the names of folders that are not whole

/* ---- folders --------------------------------------------------------------------------------- */

static int join(char path[PATH_BYTES], const char *dir, const char *name, rot_err *err)
{
    return rot_fs_join(path, PATH_BYTES, dir, name, err);
}

static int64_t step_of(const char *name)
{
    char *end;
    if (strncmp(name, "step-", 5) || !name[5]) return -1;
    long long step = strtoll(name + 5, &end, 10);
    return *end || step < 0 ? -1 : step;
}

static int by_step(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

// Steps of the checkpoints of `out`, the newest first; at most `capacity` of them.
static size_t list_steps(const char *out, int64_t *steps, size_t capacity)
{
    size_t n = 0;
    DIR *folder = opendir(out);
    if (!folder) return 0;
    for (struct dirent *e; n < capacity && (e = readdir(folder));)
        if (step_of(e->d_name) >= 0) steps[n++] = step_of(e->d_name);
    closedir(folder);
    qsort(steps, n, sizeof *steps, by_step);
    return n;
}

static int64_t newest(const char *out)
{
    int64_t best = -1;
    DIR *folder = opendir(out);
    if (!folder) return -1;
    for (struct dirent *e; (e = readdir(folder));)
        if (step_of(e->d_name) > best) best = step_of(e->d_name);
    closedir(folder);
    return best;
}

static void step_name(uint64_t step, char name[64])
{
    snprintf(name, 64, "step-%08llu", (unsigned long long)step);
}

static void sweep(const char *out)
{
    DIR *folder = opendir(out);
    if (!folder) return;
    for (struct dirent *e; (e = readdir(folder));)
        if (!strncmp(e->d_name, unfinished, sizeof unfinished - 1))
            rot_fs_remove_tree(dirfd(folder), e->d_name);
    closedir(folder);
}

static int point(const char *out, const char *link, const char *name, rot_err *err)
{
    char path[PATH_BYTES], tmp[PATH_BYTES], tmp_name[128];
    snprintf(tmp_name, sizeof tmp_name, "%slink-%s", unfinished, link);
    ROT_TRY(join(path, out, link, err));
    ROT_TRY(join(tmp, out, tmp_name, err));
    unlink(tmp);
    if (symlink(name, tmp) < 0) return rot_err_errno(err, errno, "link", tmp);
    if (rename(tmp, path) < 0) return rot_err_errno(err, errno, "rename to", path);
    return 0;
}

// A folder that goes is first no checkpoint any more, then empty.
static void drop(const char *out, int64_t step)
{
    char from[PATH_BYTES], to[PATH_BYTES], name[64], gone[96];
    step_name((uint64_t)step, name);
    snprintf(gone, sizeof gone, "%s%s", unfinished, name);
    if (join(from, out, name, NULL) < 0 || join(to, out, gone, NULL) < 0) return;
    if (rename(from, to) == 0) rot_fs_remove_tree(AT_FDCWD, to);
}

static void prune(const char *out, uint32_t keep, int64_t best)
{
    enum { MOST = 4096 };
    int64_t steps[MOST];
    size_t n = keep ? list_steps(out, steps, MOST) : 0;
    for (size_t i = keep; i < n; i++)
        if (steps[i] != best) drop(out, steps[i]);
}

/* ---- writing --------------------------------------------------------------------------------- */

static float *part_of(const rot_method *method, rot_optimizer *optimizer, size_t i, int part)
{
    return part ? rot_optimizer_moment(optimizer, i, part - 1) : method->params[i].value;
}

static char *part_name(rot_arena *arena, const char *name, int part)
{
    size_t n = strlen(name) + 32;
    char *out = rot_arena_alloc(arena, n);
    if (out) snprintf(out, n, "%s.%s", part_names[part], name);
    return out;
}

static int write_tensors(const char *dir, const rot_method *method, rot_optimizer *optimizer,
                         rot_err *err)
{
    char path[PATH_BYTES];
    size_t n = method->n_params;
    rot_arena arena = {0};
    rot_safetensors_writer *writer = NULL;
    rot_tensor_decl *decls = rot_calloc(N_PARTS * n, sizeof *decls);
    int rc = 0;
    if (!decls) return rot_no_memory(err, N_PARTS * n * sizeof *decls, "tensors");
    for (size_t i = 0; i < N_PARTS * n; i++) {
        const rot_method_param *p = &method->params[i / N_PARTS];
        decls[i] = (rot_tensor_decl){.name = part_name(&arena, p->name, (int)(i % N_PARTS)),
                                     .type = ROT_T_F32,
                                     .n_dims = p->n_dims};
        if (!decls[i].name) ROT_GO(rot_no_memory(err, 0, "names"));
        memcpy(decls[i].shape, p->shape, sizeof p->shape);
    }
    ROT_GO(join(path, dir, "state.safetensors", err));
    ROT_GO(rot_safetensors_create(path, decls, N_PARTS * n, &writer, err));
    for (size_t i = 0; i < N_PARTS * n; i++)
        ROT_GO(rot_safetensors_write(writer, part_of(method, optimizer, i / N_PARTS, i % N_PARTS),
                                     method->params[i / N_PARTS].n * sizeof(float), err));
    ROT_GO(rot_safetensors_finish(&writer, err));
done:
    rot_safetensors_abort(&writer);
    rot_arena_free(&arena);
    rot_free(decls);
    return rc;
}

static int write_state(const char *dir, const rot_train_state *s, int64_t optimizer_steps,
                       const char *config_text, rot_err *err)
{
    char path[PATH_BYTES], best[40];
    snprintf(best, sizeof best, "%.17g", s->best_loss); // text: every bit comes back
    json_t *json = json_pack(
        "{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:i, s:b}", "format", 1,
        "step", (json_int_t)s->step, "optimizer_steps", (json_int_t)optimizer_steps, "epoch",
        (json_int_t)s->epoch, "micro_batch", (json_int_t)s->micro, "epochs_closed",
        (json_int_t)s->epochs_closed, "samples", (json_int_t)s->samples, "validated_step",
        (json_int_t)s->validated_step, "best_step", (json_int_t)s->best_step, "best_loss", best,
        "without_better", (json_int_t)s->without_better, "log_bytes", (json_int_t)s->log_bytes,
        "stage", s->stage, "finished", s->finished);
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    json_decref(json);
    if (!text) return rot_no_memory(err, 0, "training_state.json");
    int rc = join(path, dir, "training_state.json", err);
    if (rc == 0) rc = rot_fs_write_atomic(path, text, strlen(text), err);
    free(text);
    ROT_TRY(rc);
    ROT_TRY(join(path, dir, "train.yaml", err));
    return rot_fs_write_atomic(path, config_text, strlen(config_text), err);
}

// Puts the finished folder under its name; one of the same step that is there goes.
static int publish(const char *out, const char *tmp, const char *name, rot_err *err)
{
    char path[PATH_BYTES];
    ROT_TRY(join(path, out, name, err));
    ROT_TRY(rot_fs_sync_dir(tmp, err));
    if (rot_fs_is_dir(path)) {
        if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_EXCHANGE) < 0)
            return rot_err_errno(err, errno, "exchange", path);
        rot_fs_remove_tree(AT_FDCWD, tmp);
    } else if (rename(tmp, path) < 0) {
        return rot_err_errno(err, errno, "rename to", path);
    }
    return rot_fs_sync_dir(out, err);
}

int rot_checkpoint_save(const char *out, rot_method *method, rot_optimizer *optimizer,
                        const rot_train_state *state, const char *config_text, uint32_t keep,
                        rot_err *err)
{
    char tmp[PATH_BYTES], name[64], tmp_name[96];
    int rc = 0;
    step_name(state->step, name);
    snprintf(tmp_name, sizeof tmp_name, "%snew-%s", unfinished, name);
    ROT_TRY(join(tmp, out, tmp_name, err));
    rot_fs_remove_tree(AT_FDCWD, tmp);
    if (mkdir(tmp, 0777) < 0) return rot_err_errno(err, errno, "create", tmp);
    ROT_GO(method->ops->save(method, tmp, err));
    ROT_GO(write_tensors(tmp, method, optimizer, err));
    ROT_GO(write_state(tmp, state, rot_optimizer_get_steps(optimizer), config_text, err));
    ROT_GO(publish(out, tmp, name, err));
    ROT_GO(point(out, "last", name, err));
    if (state->best_step == (int64_t)state->step) ROT_GO(point(out, "best", name, err));
    prune(out, keep, state->best_step);
    return 0;
done:
    rot_fs_remove_tree(AT_FDCWD, tmp); // what is whole has its name already
    return rc;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int read_tensors(const char *dir, rot_method *method, rot_optimizer *optimizer, rot_err *err)
{
    char path[PATH_BYTES];
    rot_safetensors *file = NULL;
    rot_arena arena = {0};
    int rc = 0;
    ROT_TRY(join(path, dir, "state.safetensors", err));
    ROT_GO(rot_safetensors_open(path, &file, err));
    if (rot_safetensors_count(file) != N_PARTS * method->n_params)
        ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: %zu tensors, not %zu", path,
                    rot_safetensors_count(file), N_PARTS * method->n_params);
    for (size_t i = 0; i < N_PARTS * method->n_params; i++) {
        const rot_method_param *p = &method->params[i / N_PARTS];
        const char *name = part_name(&arena, p->name, (int)(i % N_PARTS));
        if (!name) ROT_GO(rot_no_memory(err, 0, "names"));
        const rot_tensor *t = rot_safetensors_find(file, name);
        if (!t || t->type != ROT_T_F32 || t->n_elements != p->n)
            ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: no tensor %s of %zu numbers in F32", path, name,
                        p->n);
        float *to = part_of(method, optimizer, i / N_PARTS, i % N_PARTS);
        rot_tensor_to_f32(t, 0, p->n, to);
        for (size_t k = 0; k < p->n; k++)
            if (!isfinite(to[k]))
                ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: %s: element %zu is not finite", path, name,
                            k);
    }
done:
    rot_arena_free(&arena);
    rot_safetensors_close(&file);
    return rc;
}

static int read_state(const char *dir, rot_train_state *s, int64_t *optimizer_steps, rot_err *err)
{
    char path[PATH_BYTES];
    json_t *file = NULL;
    int64_t format, step, epoch, micro, closed, samples, without, log_bytes, stage;
    const int64_t most = INT64_MAX;
    int rc = 0;
    ROT_TRY(join(path, dir, "training_state.json", err));
    ROT_TRY(rot_json_read(path, true, &file, err));
    ROT_GO(rot_json_int(file, "format", 1, 1, NULL, &format, path, err));
    ROT_GO(rot_json_int(file, "step", 0, most, NULL, &step, path, err));
    ROT_GO(rot_json_int(file, "optimizer_steps", 0, most, NULL, optimizer_steps, path, err));
    ROT_GO(rot_json_int(file, "epoch", 0, most, NULL, &epoch, path, err));
    ROT_GO(rot_json_int(file, "micro_batch", 0, most, NULL, &micro, path, err));
    ROT_GO(rot_json_int(file, "epochs_closed", 0, most, NULL, &closed, path, err));
    ROT_GO(rot_json_int(file, "samples", 0, most, NULL, &samples, path, err));
    ROT_GO(rot_json_int(file, "validated_step", -1, most, NULL, &s->validated_step, path, err));
    ROT_GO(rot_json_int(file, "best_step", -1, most, NULL, &s->best_step, path, err));
    ROT_GO(rot_json_int(file, "without_better", 0, most, NULL, &without, path, err));
    ROT_GO(rot_json_int(file, "log_bytes", 0, most, NULL, &log_bytes, path, err));
    ROT_GO(rot_json_int(file, "stage", -1, INT32_MAX, NULL, &stage, path, err));
    const char *best = json_string_value(json_object_get(file, "best_loss"));
    if (!best) ROT_FAIL_GO(err, ROT_ERR_FORMAT, "%s: no best_loss", path);
    s->step = (uint64_t)step;
    s->epoch = (uint64_t)epoch;
    s->micro = (uint64_t)micro;
    s->epochs_closed = (uint64_t)closed;
    s->samples = (uint64_t)samples;
    s->without_better = (uint64_t)without;
    s->log_bytes = (uint64_t)log_bytes;
    s->stage = (int)stage;
    s->best_loss = strtod(best, NULL);
    s->finished = json_is_true(json_object_get(file, "finished"));
done:
    json_decref(file);
    return rc;
}

static int check_config(const char *dir, const char *config_text, rot_err *err)
{
    char path[PATH_BYTES], difference[512];
    char *text = NULL;
    size_t n;
    ROT_TRY(join(path, dir, "train.yaml", err));
    ROT_TRY(rot_fs_read(path, &text, &n, err));
    bool differs = rot_config_difference(text, config_text, difference, sizeof difference);
    rot_free(text);
    if (differs)
        ROT_FAIL(err, ROT_ERR_USAGE,
                 "%s holds a run of another config: %s; take another folder as `out`", dir,
                 difference);
    return 0;
}

int rot_checkpoint_newest(const char *out, const char *config_text, int64_t *step, rot_err *err)
{
    char dir[PATH_BYTES], name[64];
    *step = newest(out);
    if (*step < 0) return 0;
    step_name((uint64_t)*step, name);
    ROT_TRY(join(dir, out, name, err));
    return check_config(dir, config_text, err);
}

int rot_checkpoint_load(const char *out, rot_method *method, rot_optimizer *optimizer,
                        rot_train_state *state, const char *config_text, rot_err *err)
{
    char dir[PATH_BYTES], name[64];
    int64_t optimizer_steps;
    sweep(out);
    int64_t step;
    ROT_TRY(rot_checkpoint_newest(out, config_text, &step, err));
    if (step < 0) return 0;
    step_name((uint64_t)step, name);
    ROT_TRY(join(dir, out, name, err));
    ROT_TRY(read_state(dir, state, &optimizer_steps, err));
    ROT_TRY(read_tensors(dir, method, optimizer, err));
    rot_optimizer_set_steps(optimizer, optimizer_steps);
    ROT_TRY(method->ops->updated(method, err));
    return 1;
}
