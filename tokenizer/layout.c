// Sequences of ids as training reads them. ROT_LAYOUT_ROT follows Render-of-Thought's code on the
// chat template of Qwen3-VL (docs/tokenizer.md).
#include "base/utf8.h"
#include "tokenizer/internal.h"

static const char question_head[] =
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n";
static const char question_tail[] = "<|im_end|>\n<|im_start|>assistant\n";
static const char answer_head[] = "<|im_start|>assistant\n### ";
static const char answer_tail[] = " <|im_end|>\n";

int rot_tokenizer_layout_tokens(const rot_tokenizer *tokenizer, rot_layout layout,
                                rot_layout_tokens *out, rot_err *err)
{
    static const char *const needed[] = {"<|im_start|>", "<|im_end|>"};
    if (layout == ROT_LAYOUT_PLAIN) {
        *out = (rot_layout_tokens){-1, -1, -1};
        return 0;
    }
    if (layout != ROT_LAYOUT_ROT) ROT_FAIL(err, ROT_ERR_USAGE, "no layout %d", (int)layout);
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!tok_added_find(&tokenizer->added, (tok_span){needed[i], strlen(needed[i])}))
            ROT_FAIL(err, ROT_ERR_UNSUPPORTED,
                     "the layout rot needs the added token %s, which the tokenizer lacks",
                     needed[i]);
    *out = tokenizer->layout_tokens;
    return 0;
}

static int encode_templated(rot_tokenizer_worker *w, const char *head, tok_span text,
                            const char *tail, const char *what, rot_err *err)
{
    size_t n_head = strlen(head), n_tail = strlen(tail),
           valid = rot_utf8_valid(text.text, text.n_bytes);
    if (valid < text.n_bytes)
        ROT_FAIL(err, ROT_ERR_INPUT, "%s: invalid UTF-8 at byte %zu", what, valid);
    ROT_TRY(rot_grow(&w->template, &w->template_capacity, n_head + text.n_bytes + n_tail, 1, err));
    memcpy(w->template, head, n_head);
    if (text.n_bytes) memcpy(w->template + n_head, text.text, text.n_bytes);
    memcpy(w->template + n_head + text.n_bytes, tail, n_tail);
    tok_span whole = {w->template, n_head + text.n_bytes + n_tail};
    return tok_encode(w, &w->tokenizer->layout_added, whole, what, err);
}

int rot_tokenizer_encode_sample(rot_tokenizer_worker *worker, rot_layout layout,
                                const char *question, size_t n_question_bytes, const char *trace,
                                size_t n_trace_bytes, const char *answer, size_t n_answer_bytes,
                                rot_sample_ids *out, rot_err *err)
{
    rot_layout_tokens tokens;
    tok_span q = {question, n_question_bytes}, t = {trace, n_trace_bytes},
             a = {answer, n_answer_bytes};
    size_t question_end, trace_end;
    bool rot = layout == ROT_LAYOUT_ROT;
    const tok_added_set *added = rot ? &worker->tokenizer->layout_added : &worker->tokenizer->added;
    ROT_TRY(rot_tokenizer_layout_tokens(worker->tokenizer, layout, &tokens, err));
    worker->n_ids = 0;
    if (rot) {
        ROT_TRY(encode_templated(worker, question_head, q, question_tail, "question", err));
        ROT_TRY(tok_push_id(worker, tokens.img_begin, err));
    } else {
        ROT_TRY(tok_encode(worker, added, q, "question", err));
    }
    question_end = worker->n_ids;
    ROT_TRY(tok_encode(worker, added, t, "trace", err));
    trace_end = worker->n_ids;
    if (rot) {
        ROT_TRY(tok_push_id(worker, tokens.img_end, err));
        ROT_TRY(encode_templated(worker, answer_head, a, answer_tail, "answer", err));
    } else {
        ROT_TRY(tok_encode(worker, added, a, "answer", err));
    }
    *out = (rot_sample_ids){.question = worker->ids,
                            .trace = worker->ids + question_end,
                            .answer = worker->ids + trace_end,
                            .n_question = question_end,
                            .n_trace = trace_end - question_end,
                            .n_answer = worker->n_ids - trace_end};
    return 0;
}
