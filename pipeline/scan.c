// One pass over a split's files before anything is built: the hash of its parsed rows, by which
// stages are known, and what is wrong with it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "pipeline/job.h"

static int scan_key(const rot_split_config *split, char **key, rot_err *err)
{
    rot_str s = {0};
    rot_str_printf(
        &s, "rows 1 %d %s,%s,%s,%s %d ", (int)split->format, split->key_id ? split->key_id : "",
        split->key_question ? split->key_question : "", split->key_cot ? split->key_cot : "",
        split->key_answer ? split->key_answer : "", split->strip_calculator);
    for (int i = 0; i < split->n_files; i++) {
        int rc = rot_memo_add_file(&s, split->files[i], err);
        if (rc < 0) {
            rot_str_free(&s);
            return rc;
        }
    }
    return rot_str_take(&s, key, err);
}

static bool remembered(const rot_memo *memo, const char *key, rot_scan *out)
{
    json_t *entry = rot_memo_get(memo, key);
    const char *hash, *first_bad;
    json_int_t rows, bad, trace_bytes;
    if (!entry ||
        json_unpack(entry, "{s:s, s:I, s:I, s:I, s:s}", "sha256", &hash, "rows", &rows, "bad", &bad,
                    "trace_bytes", &trace_bytes, "first_bad", &first_bad) < 0)
        return false;
    *out = (rot_scan){
        .rows = (uint64_t)rows, .bad = (uint64_t)bad, .trace_bytes = (uint64_t)trace_bytes};
    snprintf(out->rows_sha256, sizeof out->rows_sha256, "%s", hash);
    snprintf(out->first_bad, sizeof out->first_bad, "%s", first_bad);
    return true;
}

static void hash_row(rot_sha256 *hash, const rot_row *row)
{
    if (row->bad) {
        rot_sha256_add(hash, "\0", 1);
        rot_sha256_field(hash, row->bad_cause, strlen(row->bad_cause));
        return;
    }
    rot_sha256_add(hash, "\1", 1);
    rot_sha256_field(hash, row->id, row->n_id);
    rot_sha256_field(hash, row->question, row->n_question);
    rot_sha256_field(hash, row->trace, row->n_trace);
    rot_sha256_field(hash, row->answer, row->n_answer);
}

static int read_rows(rot_job *job, const rot_split_config *split, rot_scan *out, rot_err *err)
{
    rot_input *input = NULL;
    rot_row row;
    uint8_t digest[32];
    int rc = 0;
    rot_sha256 *hash = rot_sha256_new();
    if (!hash) return rot_no_memory(err, 0, "hash");
    *out = (rot_scan){0};
    ROT_GO(rot_input_open(split, &input, err));
    while ((rc = rot_input_next(input, &row, err)) > 0) {
        hash_row(hash, &row);
        out->rows++;
        if (out->rows % 4096 == 0 && job->options.stop && *job->options.stop)
            ROT_FAIL_GO(err, ROT_ERR_STOPPED, "stopped while reading the input");
        if (!row.bad) {
            out->trace_bytes += row.n_trace;
            continue;
        }
        if (!out->bad++) snprintf(out->first_bad, sizeof out->first_bad, "%s", row.bad);
        if (job->config->on_bad_row == ROT_POLICY_FAIL)
            ROT_FAIL_GO(err, ROT_ERR_INPUT, "%s", row.bad);
        rot_job_note(job, "skipped: %s", row.bad);
    }
done:
    rot_sha256_end(hash, digest);
    rot_hex(digest, 32, out->rows_sha256);
    rot_input_close(&input);
    return rc;
}

int rot_scan_split(rot_job *job, const rot_split_config *split, rot_scan *out, rot_err *err)
{
    char *key = NULL;
    ROT_TRY(scan_key(split, &key, err));
    int rc = 0;
    if (!remembered(&job->memo, key, out)) {
        ROT_GO(read_rows(job, split, out, err));
        json_t *entry = json_pack("{s:s, s:I, s:I, s:I, s:s}", "sha256", out->rows_sha256, "rows",
                                  (json_int_t)out->rows, "bad", (json_int_t)out->bad, "trace_bytes",
                                  (json_int_t)out->trace_bytes, "first_bad", out->first_bad);
        if (entry)
            ROT_GO(rot_memo_set(&job->memo, key, entry, err)); // NULL: a message that is no UTF-8
    }
    if (out->bad && job->config->on_bad_row == ROT_POLICY_FAIL)
        ROT_FAIL_GO(err, ROT_ERR_INPUT, "%s", out->first_bad);
    if (!out->rows)
        ROT_FAIL_GO(err, ROT_ERR_INPUT, "split %s: its files hold no rows", split->name);
done:
    free(key);
    return rc;
}
