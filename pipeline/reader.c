// Opening a split, and lending handles of its stages to the threads that read it.
#include "pipeline/reader.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

static const char *const stage_names[] = {"tokens", "images", "embeds"};

rot_reader_options rot_reader_options_default(void)
{
    return (rot_reader_options){
        .size = sizeof(rot_reader_options), .verify = true, .keep_index = true};
}

int rot_reader_stage(const rot_reader *reader, const char *stage, int *out, rot_err *err)
{
    for (int i = 0; i < ROT_READER_STAGES; i++)
        if (stage && strcmp(stage, stage_names[i]) == 0 && reader->open[i]) {
            *out = i;
            return 0;
        }
    ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s, split %s: no stage '%s' is open", reader->name,
             reader->split, stage ? stage : "");
}

/* ---- slots -------------------------------------------------------------------------------------
 */

rot_reader_slot *rot_reader_borrow(rot_reader *reader)
{
    // A thread comes back to the slot that it had, with the block that it read last still decoded.
    size_t first = (size_t)((uint64_t)pthread_self() * UINT64_C(0x9e3779b97f4a7c15) >> 58);
    for (;;) {
        for (size_t i = 0; i < ROT_READER_SLOTS; i++) {
            rot_reader_slot *slot = &reader->slots[(first + i) % ROT_READER_SLOTS];
            bool free = false;
            if (atomic_compare_exchange_strong_explicit(&slot->busy, &free, true,
                                                        memory_order_acquire, memory_order_relaxed))
                return slot;
        }
        sched_yield();
    }
}

void rot_reader_return(rot_reader_slot *slot)
{
    atomic_store_explicit(&slot->busy, false, memory_order_release);
}

int rot_reader_handle(const rot_reader *reader, rot_reader_slot *slot, int stage, rot_stage **out,
                      rot_err *err)
{
    if (!slot->stages[stage]) {
        rot_stage *opened = NULL;
        ROT_TRY(rot_stage_open_named(reader->dirs[stage], &opened, err));
        const rot_stage_info *info = rot_stage_get_info(opened);
        bool same = info->rows == reader->info.rows && !strcmp(info->stage, stage_names[stage]) &&
                    !strcmp(info->root, reader->roots[stage]);
        if (!same) {
            rot_stage_close(&opened);
            ROT_FAIL(err, ROT_ERR_CORRUPT, "%s is not the stage that the dataset %s names",
                     reader->dirs[stage], reader->name);
        }
        slot->stages[stage] = opened;
    }
    *out = slot->stages[stage];
    return 0;
}

/* ---- opening -----------------------------------------------------------------------------------
 */

static int choose_split(rot_reader *r, const rot_dataset *dataset, const char *path,
                        const char *name, rot_err *err)
{
    int n = rot_dataset_splits(dataset);
    if (!name && n != 1) ROT_FAIL(err, ROT_ERR_USAGE, "%s has %d splits: name one", path, n);
    for (int i = 0; i < n; i++) {
        rot_split_info info;
        ROT_TRY(rot_dataset_split(dataset, i, &info));
        if (name && strcmp(name, info.name)) continue;
        r->info.rows = info.rows;
        r->info.samples = info.samples;
        r->info.skipped = info.skipped;
        r->split = rot_strdup(info.name);
        return r->split ? 0 : rot_no_memory(err, strlen(info.name), "reader");
    }
    ROT_FAIL(err, ROT_ERR_NOT_FOUND, "%s: no split '%s'", path, name);
}

// Whether the comma-separated list names the stage; NULL names all.
static bool is_listed(const char *list, const char *stage)
{
    size_t n = strlen(stage);
    for (const char *at = list; at; at = strchr(at, ','), at += at != NULL)
        if (strncmp(at, stage, n) == 0 && (at[n] == ',' || at[n] == 0)) return true;
    return !list;
}

static int check_list(const char *list, rot_err *err)
{
    for (const char *at = list; at; at = strchr(at, ','), at += at != NULL) {
        bool known = false;
        size_t n = strcspn(at, ",");
        for (int i = 0; i < ROT_READER_STAGES; i++)
            known |= n == strlen(stage_names[i]) && strncmp(at, stage_names[i], n) == 0;
        if (!known)
            ROT_FAIL(err, ROT_ERR_USAGE, "'%.*s' is no stage: tokens, images, embeds",
                     n < 64 ? (int)n : 64, at);
    }
    return 0;
}

static int find_stages(rot_reader *r, const rot_dataset *dataset, const char *path,
                       const char *list, rot_err *err)
{
    ROT_TRY(check_list(list, err));
    r->last = -1;
    for (int i = 0; i < ROT_READER_STAGES; i++) {
        const char *dir = rot_dataset_stage_dir(dataset, r->split, stage_names[i]);
        if (!dir && list && is_listed(list, stage_names[i]))
            ROT_FAIL(err, ROT_ERR_MISSING, "%s, split %s: the stage %s is not built", path,
                     r->split, stage_names[i]);
        if (!dir) continue;
        r->last = i;
        r->dirs[i] = rot_strdup(dir);
        if (!r->dirs[i]) return rot_no_memory(err, strlen(dir), "reader");
        rot_hex(rot_dataset_stage_root(dataset, r->split, stage_names[i]), 32, r->roots[i]);
        r->open[i] = is_listed(list, stage_names[i]);
    }
    if (r->last < 0)
        ROT_FAIL(err, ROT_ERR_MISSING, "%s, split %s: no stage is built", path, r->split);
    r->info.has_tokens = r->open[0];
    r->info.has_images = r->open[1];
    r->info.has_embeds = r->open[2];
    return 0;
}

static uint32_t taps_of(const char *content)
{
    json_t *all = json_loads(content, 0, NULL);
    json_int_t n = json_integer_value(json_object_get(all, "deepstack"));
    json_decref(all);
    return n > 0 && n < 1000 ? (uint32_t)n : 0;
}

// The dtype and width of embeddings, which are the same for all samples: from the first.
static int look_at_embeds(rot_reader *r, rot_stage *stage, rot_err *err)
{
    r->info.embeds_dtype = ROT_DTYPE_BF16;
    r->info.embeds_codec = rot_stage_get_info(stage)->layout.codec;
    r->info.embeds_taps = taps_of(rot_stage_get_info(stage)->content);
    for (uint64_t row = 0; row < r->info.rows && r->info.samples; row++) {
        rot_record record;
        ROT_TRY(rot_stage_peek(stage, row, &record, err));
        if (record.kind != ROT_KIND_EMBEDS) continue;
        r->info.embeds_dtype = record.dtype;
        r->info.embeds_width = record.shape[1];
        if (record.shape[1] % (1 + r->info.embeds_taps))
            ROT_FAIL(err, ROT_ERR_CORRUPT, "%s: rows of %u are no embedding and %u taps",
                     r->dirs[2], record.shape[1], r->info.embeds_taps);
        break;
    }
    return 0;
}

static int open_stages(rot_reader *r, rot_err *err)
{
    int rc = 0;
    size_t n_bits = (size_t)(r->info.rows / 8 + 1);
    rot_reader_slot *slot = rot_reader_borrow(r);
    for (int i = 0; i < ROT_READER_STAGES; i++) {
        rot_stage *stage;
        if (!r->open[i] && i != r->last) continue;
        ROT_GO(rot_reader_handle(r, slot, i, &stage, err));
        if (i == r->last && rot_stage_get_info(stage)->samples != r->info.samples)
            ROT_FAIL_GO(err, ROT_ERR_CORRUPT, "%s is not the stage that the dataset %s names",
                        r->dirs[i], r->name);
        if (i == 2) ROT_GO(look_at_embeds(r, stage, err));
        if (i == 2 && r->info.embeds_codec == ROT_CODEC_NONE) {
            size_t n = (size_t)r->info.rows + 1;
            r->places = rot_calloc(n, sizeof *r->places); // pages of it come when they are used
            if (!r->places) ROT_GO(rot_no_memory(err, n * sizeof *r->places, "reader"));
        }
        if (!r->verify) continue;
        r->checked[i] = rot_calloc(n_bits, 1);
        if (!r->checked[i]) ROT_GO(rot_no_memory(err, n_bits, "reader"));
    }
done:
    rot_reader_return(slot);
    return rc;
}

int rot_reader_open(const char *path, const char *split, const rot_reader_options *options,
                    rot_reader **out, rot_err *err)
{
    int rc = 0;
    rot_dataset *dataset = NULL;
    rot_reader_options o = options ? *options : rot_reader_options_default();
    *out = NULL;
    if (o.size != sizeof o)
        ROT_FAIL(err, ROT_ERR_USAGE, "reader: options of %zu bytes, not %zu", o.size, sizeof o);
    rot_reader *r = rot_calloc(1, sizeof *r);
    if (!r) return rot_no_memory(err, sizeof *r, "reader");
    r->verify = o.verify;
    r->keep_index = o.keep_index;
    size_t n_slots = ROT_READER_SLOTS * sizeof *r->slots;
    r->slots = rot_aligned_malloc(n_slots);
    if (!r->slots) ROT_GO(rot_no_memory(err, n_slots, "reader"));
    memset(r->slots, 0, n_slots);
    ROT_GO(rot_dataset_open(path, &dataset, err));
    r->name = rot_strdup(rot_dataset_name(dataset));
    if (!r->name) ROT_GO(rot_no_memory(err, 0, "reader"));
    snprintf(r->root, sizeof r->root, "%s", rot_dataset_root(dataset));
    ROT_GO(choose_split(r, dataset, path, split, err));
    ROT_GO(find_stages(r, dataset, path, o.stages, err));
    ROT_GO(open_stages(r, err));
    r->info.name = r->name;
    r->info.split = r->split;
    r->info.root = r->root;
    *out = r;
    r = NULL;
done:
    rot_dataset_close(&dataset);
    rot_reader_close(&r);
    return rc;
}

void rot_reader_close(rot_reader **reader)
{
    rot_reader *r = *reader;
    if (!r) return;
    for (int i = 0; r->slots && i < ROT_READER_SLOTS; i++)
        for (int j = 0; j < ROT_READER_STAGES; j++) rot_stage_close(&r->slots[i].stages[j]);
    rot_free(r->slots);
    for (int i = 0; i < ROT_READER_STAGES; i++) {
        rot_free(r->dirs[i]);
        rot_free(r->checked[i]);
    }
    rot_free(r->places);
    rot_index_free(atomic_load(&r->rows));
    rot_index_free(atomic_load(&r->ids));
    rot_free(r->name);
    rot_free(r->split);
    rot_free(r);
    *reader = NULL;
}

const rot_reader_info *rot_reader_get_info(const rot_reader *reader)
{
    return &reader->info;
}
