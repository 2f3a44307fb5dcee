#include "pipeline/preflight.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"

// The rows that are looked at: 256, which take some milliseconds.
enum { SAMPLE = 256 };

bool rot_free_bytes(const char *path, uint64_t *out)
{
    char dir[4096], parent[4096];
    snprintf(dir, sizeof dir, "%s", path);
    while (!rot_fs_is_dir(dir) && strcmp(dir, ".") && strcmp(dir, "/")) {
        rot_fs_dirname(dir, parent, sizeof parent);
        memcpy(dir, parent, sizeof dir);
    }
    struct statvfs fs;
    if (statvfs(dir, &fs) < 0) return false;
    *out = (uint64_t)fs.f_bavail * fs.f_frsize;
    return true;
}

// What lies in a stage's folder already, published or not.
static uint64_t bytes_there(const rot_stage_plan *plan)
{
    uint64_t bytes = 0;
    DIR *folder = opendir(plan->dir);
    if (!folder) return 0;
    struct stat st;
    for (struct dirent *e; (e = readdir(folder));)
        if (fstatat(dirfd(folder), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_size;
    closedir(folder);
    return bytes;
}

// Of a tower's output zstd-bf16 leaves 0.68 to 0.72 (docs/store.md).
static double codec_ratio(rot_codec codec)
{
    return codec == ROT_CODEC_ZSTD_BF16 ? 0.70 : 1;
}

static int compare(const rot_job *job, const char *what, const char *split, double bytes,
                   const char *about, rot_err *err)
{
    uint64_t free = 0; // no figure, no verdict
    if (job->options.no_preflight || !rot_free_bytes(job->config->root, &free)) return 0;
    if (bytes > (double)free)
        ROT_FAIL(err, ROT_ERR_NO_SPACE,
                 "%s: the %s of split %s%s need %.0f bytes, %llu are free (--no-preflight begins "
                 "all the same)",
                 job->config->root, what, split, about, bytes, (unsigned long long)free);
    return 0;
}

int rot_preflight_stage(const rot_job *job, const rot_stage_plan *plan, uint64_t logical_bytes,
                        rot_err *err)
{
    double bytes = (double)logical_bytes * codec_ratio(plan->spec.layout.codec);
    return compare(job, plan->stage, plan->split, bytes, "", err);
}

typedef struct sample {
    rot_render_worker *worker;
    rot_unit *unit;
    rot_encoder_info encoder;
    uint64_t trace_bytes;
    double tokens, images, embeds; // bytes
} sample;

static int add_image(const rot_job *job, sample *s, const rot_image *image, rot_err *err)
{
    size_t n = (size_t)image->width_px * (size_t)image->height_px * (size_t)image->channels;
    rot_record record = {
        .kind = ROT_KIND_IMAGE,
        .dtype = ROT_DTYPE_U8,
        .shape = {(uint32_t)image->width_px, (uint32_t)image->height_px, (uint32_t)image->channels},
        .payload = image->pixels,
        .n_bytes = n};
    ROT_TRY(rot_unit_add(s->unit, &record, err));
    rot_grid grid;
    if (!job->config->has_encode ||
        rot_geometry_grid(job->config->encode.geometry, &s->encoder.preprocessor, image->width_px,
                          image->height_px, &grid, NULL) < 0)
        return 0;
    double element = job->config->encode.dtype == ROT_DTYPE_F32 ? 4 : 2;
    s->embeds += grid.k * (double)s->encoder.out_width * (1 + s->encoder.n_taps) * element;
    return 0;
}

// One row, as far as it can be made; what cannot is the stages' business.
static int add_row(const rot_job *job, sample *s, const rot_row *row, rot_err *err)
{
    rot_image image;
    rot_record none = rot_tombstone("bad");
    if (!row->bad) {
        // A byte of text is about a byte of tokens on disk, ids and all: 0.95 with Qwen3's
        // tokenizer, 1.15 with the small one (docs/benchmarks.md, "At scale").
        s->tokens += (double)(row->n_id + row->n_question + row->n_trace + row->n_answer);
        s->trace_bytes += row->n_trace;
    }
    if (!s->unit) return 0;
    if (row->bad || rot_render(s->worker, row->trace, row->n_trace, &image, NULL, NULL) < 0)
        return rot_unit_add(s->unit, &none, err);
    return add_image(job, s, &image, err);
}

static int look(const rot_job *job, const rot_split_config *split, rot_stage_spec spec, sample *s,
                rot_err *err)
{
    rot_input *input = NULL;
    rot_row row;
    int rc = 0;
    uint32_t unit_rows = spec.layout.commit_samples;
    ROT_GO(rot_input_open(split, &input, err));
    if (s->worker) ROT_GO(rot_unit_open(&spec, &s->unit, err));
    for (uint64_t i = 0; i < spec.rows; i++) {
        rc = rot_input_next(input, &row, err);
        if (rc <= 0) break;
        if (s->unit && i % spec.layout.shard_samples % unit_rows == 0) {
            s->images += (double)rot_unit_file_bytes(s->unit);
            ROT_GO(rot_unit_begin(s->unit, i, err));
        }
        ROT_GO(add_row(job, s, &row, err));
    }
    if (rc > 0) rc = 0;
    if (s->unit) s->images += (double)rot_unit_file_bytes(s->unit);
done:
    rot_input_close(&input);
    return rc;
}

// Another setting may have drawn the same pictures; then the embeddings are there, which is known
// once the images have their root.
static bool has_embeds(const rot_job *job)
{
    char path[4200];
    snprintf(path, sizeof path, "%.4096s/stages", job->config->root);
    DIR *folder = opendir(path);
    bool found = false;
    for (struct dirent *e; folder && !found && (e = readdir(folder));)
        found = !strncmp(e->d_name, "embeds-", 7);
    if (folder) closedir(folder);
    return found;
}

static double rest(double bytes, const rot_stage_plan *plan)
{
    double there = (double)bytes_there(plan);
    return plan->done || there > bytes ? 0 : bytes - there;
}

int rot_preflight(rot_job *job, const rot_split_config *split, const rot_split_plan *plan,
                  rot_err *err)
{
    const rot_config *config = job->config;
    const rot_stage_plan *tokens = &plan->stages[0], *images = &plan->stages[1];
    bool draw = config->has_render && !images->done;
    if ((tokens->done && !draw) || job->options.no_preflight || plan->scan.rows == 0) return 0;
    rot_renderer *renderer = NULL;
    sample s = {0};
    int rc = 0;
    rot_stage_spec spec = draw ? images->spec : tokens->spec;
    uint64_t n = plan->scan.rows < SAMPLE ? plan->scan.rows : SAMPLE;
    spec.rows = n;
    if (draw) ROT_GO(rot_renderer_open(&config->render, &renderer, err));
    if (draw) ROT_GO(rot_render_worker_open(renderer, &s.worker, err));
    if (draw && config->has_encode) ROT_GO(rot_job_encoder_info(job, &s.encoder, err));
    ROT_GO(look(job, split, spec, &s, err));
    // Bytes follow the traces' lengths, which are known, rather than the number of rows.
    double scale = s.trace_bytes ? (double)plan->scan.trace_bytes / (double)s.trace_bytes
                                 : (double)plan->scan.rows / (double)n;
    if (plan->scan.rows == n) scale = 1;
    double bytes = rest(s.tokens * scale, tokens);
    if (draw) bytes += rest(s.images * scale, images);
    if (draw && config->has_encode && !has_embeds(job))
        bytes += s.embeds * scale * codec_ratio(config->embeds_codec);
    ROT_GO(compare(job, "stages", split->name, bytes, " seem to", err));
done:
    rot_unit_close(&s.unit);
    rot_render_worker_close(&s.worker);
    rot_renderer_close(&renderer);
    return rc;
}
