#include "trainer/thought_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "encoder/json.h"

enum { PATH_BYTES = 4096 };

static const char start_name[] = "<|start-latent|>", end_name[] = "<|end-latent|>",
                  thought_name[] = "<|latent|>";

bool rot_thought_tokens_known(const rot_tokenizer *tokenizer)
{
    return rot_tokenizer_find(tokenizer, thought_name) >= 0;
}

int rot_thought_tokens_find(const rot_tokenizer *tokenizer, const char *checkpoint, int32_t rows,
                            rot_thought_tokens *out, uint32_t *extra, rot_err *err)
{
    out->start = rot_tokenizer_find(tokenizer, start_name);
    out->end = rot_tokenizer_find(tokenizer, end_name);
    out->thought = rot_tokenizer_find(tokenizer, thought_name);
    int found = (out->start >= 0) + (out->end >= 0) + (out->thought >= 0);
    if (found != 0 && found != 3)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s/tokenizer.json has some of %s, %s, %s, not all",
                 checkpoint, start_name, end_name, thought_name);
    *extra = 0;
    if (found == 3) return 0;
    // A model often has more rows than its tokenizer has tokens.
    int32_t size = rot_tokenizer_size(tokenizer);
    *out = (rot_thought_tokens){.start = size, .end = size + 1, .thought = size + 2};
    if (size + 3 > rows) *extra = (uint32_t)(size + 3 - rows);
    return 0;
}

int rot_thought_tokens_set_rows(const rot_tokenizer *tokenizer, const rot_thought_tokens *tokens,
                                rot_decoder *decoder, rot_err *err)
{
    rot_tokenizer_worker *worker = NULL;
    const int32_t *ids;
    size_t n_ids, d = (size_t)rot_decoder_get_info(decoder)->d;
    float *row = rot_malloc(d * sizeof *row);
    if (!row) return rot_no_memory(err, d * sizeof *row, "a row of the embedding");
    int code = rot_tokenizer_worker_open(tokenizer, &worker, err);
    if (code == 0) code = rot_tokenizer_encode(worker, "<<", 2, &ids, &n_ids, err);
    if (code == 0) code = rot_decoder_embed(decoder, ids, 1, row, err);
    const int32_t rows[] = {tokens->start, tokens->end, tokens->thought};
    for (int i = 0; i < 3 && code == 0; i++) code = rot_decoder_set_row(decoder, rows[i], row, err);
    rot_tokenizer_worker_close(&worker);
    rot_free(row);
    return code;
}

static int append(json_t *list, int32_t id, const char *name)
{
    json_t *token =
        json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", name, "single_word",
                  0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
    return token ? json_array_append_new(list, token) : -1;
}

int rot_thought_tokens_save(const char *dir, const rot_thought_tokens *tokens, rot_err *err)
{
    char path[PATH_BYTES];
    json_t *root = NULL;
    ROT_TRY(rot_fs_join(path, sizeof path, dir, "tokenizer.json", err));
    ROT_TRY(rot_json_read(path, false, &root, err));
    json_t *list = json_object_get(root, "added_tokens"), *token;
    size_t i;
    bool there = false;
    json_array_foreach(list, i, token)
    {
        const char *name = json_string_value(json_object_get(token, "content"));
        if (name && !strcmp(name, thought_name)) there = true;
    }
    char *text = NULL;
    int code = 0;
    if (!there) {
        if (!list && json_object_set_new(root, "added_tokens", list = json_array()) < 0)
            list = NULL;
        if (list && append(list, tokens->start, start_name) == 0 &&
            append(list, tokens->end, end_name) == 0 &&
            append(list, tokens->thought, thought_name) == 0)
            text = json_dumps(root, JSON_INDENT(1));
        code = text ? rot_fs_write_atomic(path, text, strlen(text), err)
                    : rot_no_memory(err, 0, "tokenizer.json");
    }
    free(text);
    json_decref(root);
    return code;
}
