// One build: its config, what was found out about its inputs, and the stages it plans.
#ifndef ROT_PIPELINE_JOB_H
#define ROT_PIPELINE_JOB_H

#include <jansson.h>

#include "base/mem.h"
#include "pipeline/memo.h"
#include "rotoscope/build.h"

typedef struct rot_job {
    const rot_config *config;
    rot_build_options options;
    int threads;
    rot_memo memo;
    struct rot_team *team;         // one of many ranks; NULL: alone
    struct rot_shard_queue *queue; // of a stage that ranks share; NULL: all of it is ours
    struct rot_mend *mend; // NULL but in a repair (mend.h)
    struct rot_places *places; // NULL until a row is refused after it was read
    json_t *profile;           // array of what each stage took; NULL: nobody asked
} rot_job;

void rot_job_note(const rot_job *job, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Puts file, line and byte offset of a row before the message, whatever stage refused it. Threads
// of one stage may call at once. Reads the split's files again when it is first called.
void rot_job_locate(rot_job *job, const char *split, uint64_t row, rot_err *err);
void rot_places_free(struct rot_places **places);

// What one pass over a split's files says.
typedef struct rot_scan {
    char rows_sha256[65]; // over the parsed rows, bad ones by their cause
    uint64_t rows, bad, trace_bytes;
    char first_bad[512];
} rot_scan;

// Reads the split once, or remembers. Under on.bad_row: fail a bad row is ROT_ERR_INPUT.
int rot_scan_split(rot_job *job, const rot_split_config *split, rot_scan *out, rot_err *err);

// A stage as planned: where it lives and whether it is there.
typedef struct rot_stage_plan {
    const char *stage, *split;
    rot_stage_spec spec; // spec.content is owned by the plan
    char *content;
    char dir[4096], folder[64];
    bool done;
    char root[65]; // hex, once done
} rot_stage_plan;

void rot_stage_plan_free(rot_stage_plan *plan);
int rot_plan_tokens(rot_job *job, const rot_split_config *split, const rot_scan *scan,
                    rot_stage_plan *out, rot_err *err);
int rot_plan_images(rot_job *job, const rot_split_config *split, const rot_scan *scan,
                    rot_stage_plan *out, rot_err *err);
int rot_plan_embeds(rot_job *job, const rot_split_config *split, const rot_scan *scan,
                    const char *images_root, rot_stage_plan *out, rot_err *err);
// Looks again whether the stage is there (and its root).
int rot_stage_plan_refresh(rot_stage_plan *plan, rot_err *err);

// What determines the tokens besides the rows (remembered by its file).
int rot_job_tokenizer_hash(rot_job *job, char hex[65], rot_err *err);
// What determines the encoder's output (weights hash remembered).
int rot_job_encoder_info(rot_job *job, rot_encoder_info *out, rot_err *err);

// Making a stage: every row of it, from where it stands. `from` is the stage it reads.
int rot_make_tokens(rot_job *job, const rot_split_config *split, const rot_stage_plan *plan,
                    rot_err *err);
int rot_make_images(rot_job *job, const rot_stage_plan *from, const rot_stage_plan *plan,
                    rot_err *err);
// Under job->queue: those shards that it gives.
int rot_make_embeds(rot_job *job, const rot_stage_plan *from, const rot_stage_plan *plan,
                    rot_err *err);
// What rot_make_embeds looks at first when it has no queue: images that the geometry does not take,
// free space. `costs` (may be NULL): patches per shard that is not there yet.
int rot_check_embeds(rot_job *job, const rot_stage_plan *from, const rot_stage_plan *plan,
                     uint64_t *costs, rot_err *err);

// The record of a row without a sample; `cause` must live as long.
rot_record rot_tombstone(const char *cause);

// The record of one sample's ids and texts, as schemas/FORMAT.md has it, in a block of `arena`.

int rot_tokens_pack(rot_arena *arena, const rot_sample_ids *ids, const rot_row *row,
                    rot_record *out, rot_err *err);
typedef struct rot_tokens_view {
    const int32_t *question_ids, *trace_ids, *answer_ids; // may be unaligned: little-endian i32
    uint32_t n_question_ids, n_trace_ids, n_answer_ids;
    const char *text[4]; // id, question, trace, answer; not NUL-terminated
    uint32_t n_text[4];
} rot_tokens_view;
// ROT_ERR_CORRUPT if the lengths do not add up.
int rot_tokens_unpack(const rot_record *record, rot_tokens_view *out, rot_err *err);

#endif
