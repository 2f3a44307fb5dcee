// The payload of a tokens record (schemas/FORMAT.md): i32 ids of question, trace and answer, u32
// lengths of the four texts, the texts.
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "pipeline/job.h"

rot_record rot_tombstone(const char *cause)
{
    uint32_t n = (uint32_t)strlen(cause);
    return (rot_record){.kind = ROT_KIND_TOMBSTONE,
                        .dtype = ROT_DTYPE_U8,
                        .shape = {n},
                        .payload = cause,
                        .n_bytes = n};
}

int rot_tokens_pack(rot_arena *arena, const rot_sample_ids *ids, const rot_row *row,
                    rot_record *out, rot_err *err)
{
    const char *texts[4] = {row->id, row->question, row->trace, row->answer};
    const size_t n_texts[4] = {row->n_id, row->n_question, row->n_trace, row->n_answer};
    size_t n_ids = ids->n_question + ids->n_trace + ids->n_answer, n_text = 0;
    for (int i = 0; i < 4; i++) n_text += n_texts[i];
    size_t n_bytes = 4 * n_ids + 16 + n_text;
    unsigned char *payload = rot_arena_alloc(arena, n_bytes);
    if (!payload) return rot_no_memory(err, n_bytes, "tokens record");
    *out = (rot_record){
        .kind = ROT_KIND_TOKENS,
        .dtype = ROT_DTYPE_I32,
        .shape = {(uint32_t)ids->n_question, (uint32_t)ids->n_trace, (uint32_t)ids->n_answer,
                  (uint32_t)n_text},
        .payload = payload,
        .n_bytes = n_bytes,
    };
    const int32_t *parts[3] = {ids->question, ids->trace, ids->answer};
    const size_t n_parts[3] = {ids->n_question, ids->n_trace, ids->n_answer};
    for (int i = 0; i < 3; i++) {
        if (n_parts[i]) memcpy(payload, parts[i], 4 * n_parts[i]);
        payload += 4 * n_parts[i];
    }
    for (int i = 0; i < 4; i++, payload += 4) memcpy(payload, &(uint32_t){(uint32_t)n_texts[i]}, 4);
    for (int i = 0; i < 4; i++) {
        memcpy(payload, texts[i], n_texts[i]);
        payload += n_texts[i];
    }
    return 0;
}

int rot_tokens_unpack(const rot_record *record, rot_tokens_view *out, rot_err *err)
{
    const uint32_t *shape = record->shape;
    uint64_t n_ids = (uint64_t)shape[0] + shape[1] + shape[2];
    if (record->kind != ROT_KIND_TOKENS || record->n_bytes != 4 * n_ids + 16 + shape[3])
        ROT_FAIL(err, ROT_ERR_CORRUPT, "a tokens record whose lengths do not add up");
    const char *at = record->payload;
    out->question_ids = (const int32_t *)(const void *)at;
    out->trace_ids = out->question_ids + shape[0];
    out->answer_ids = out->trace_ids + shape[1];
    out->n_question_ids = shape[0];
    out->n_trace_ids = shape[1];
    out->n_answer_ids = shape[2];
    at += 4 * n_ids;
    memcpy(out->n_text, at, 16);
    at += 16;
    uint64_t n_text = 0;
    for (int i = 0; i < 4; i++) n_text += out->n_text[i];
    if (n_text != shape[3])
        ROT_FAIL(err, ROT_ERR_CORRUPT, "a tokens record whose text lengths do not add up");
    for (int i = 0; i < 4; i++) {
        out->text[i] = at;
        at += out->n_text[i];
    }
    return 0;
}
