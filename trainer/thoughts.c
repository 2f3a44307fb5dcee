#include "trainer/thoughts.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/random.h"

enum { DRAW_MIX, DRAW_STAGE, DRAW_SMOOTHING };

static int32_t least(int64_t a, int64_t b)
{
    return (int32_t)(a < b ? a : b);
}

int64_t rot_thoughts_stage(const rot_thoughts_options *options, int64_t epoch, double fraction)
{
    switch (options->removal) {
    case ROT_REMOVE_STAGES: return epoch / options->epochs_per_stage;
    case ROT_REMOVE_TOKENS: return (int64_t)floor(options->per_epoch * ((double)epoch + fraction));
    case ROT_REMOVE_ALWAYS: return (int64_t)options->max_stage + 1;
    default: return 0;
    }
}

void rot_sequence_free(rot_sequence *sequence)
{
    rot_free(sequence->ids);
    rot_free(sequence->labels);
    memset(sequence, 0, sizeof *sequence);
}

static int reserve(rot_sequence *out, size_t n, rot_err *err)
{
    size_t labels = out->capacity;
    ROT_TRY(rot_grow(&out->labels, &labels, n, sizeof *out->labels, err));
    return rot_grow(&out->ids, &out->capacity, n, sizeof *out->ids, err);
}

// Room for it is there.
static void append(rot_sequence *out, const int32_t *ids, int32_t n, bool supervised)
{
    for (int32_t i = 0; i < n; i++) {
        out->ids[out->n] = ids[i];
        out->labels[out->n++] = supervised ? ids[i] : -1;
    }
}

// Question, then the thoughts between their marks, none of it supervised.
static int begin(const rot_thought_tokens *tokens, const rot_chain *chain, bool marks,
                 int32_t thoughts, rot_sequence *out, rot_err *err)
{
    out->n = 0;
    ROT_TRY(reserve(out, (size_t)chain->n + (size_t)thoughts + 2, err));
    append(out, chain->ids, chain->steps[0], false);
    if (marks && tokens->start >= 0) append(out, &tokens->start, 1, false);
    out->first = (int32_t)out->n;
    out->n_thoughts = thoughts;
    for (int32_t i = 0; i < thoughts; i++) append(out, &tokens->thought, 1, false);
    if (marks && tokens->end >= 0) append(out, &tokens->end, 1, false);
    return 0;
}

// Groups of thoughts in the place of the steps removed at `stage`.
static int64_t groups_at(const rot_thoughts_options *options, int64_t stage, int32_t n_steps,
                         bool training)
{
    if (options->kind == ROT_THOUGHTS_NONE) return 0;
    if (options->removal != ROT_REMOVE_STAGES && options->removal != ROT_REMOVE_ALWAYS) return 0;
    if (training && stage <= options->max_stage && !options->group_per_step) return stage;
    int64_t most = options->pad_to_max ? options->max_stage : least(n_steps, options->max_stage);
    return least(stage, most);
}

// Tokens of the chain that iCoT takes out: `scheduled` and a random number more.
static int64_t tokens_removed(const rot_thoughts_options *options, int64_t scheduled,
                              uint64_t draws)
{
    int64_t n = scheduled;
    if (options->smoothing > 0.0) // P(o >= j) = e^(-lambda j)
        n += (int64_t)floor(-log1p(-rot_random_unit(draws, DRAW_SMOOTHING)) / options->smoothing);
    return options->all_beyond >= 0 && n > options->all_beyond ? INT32_MAX : n;
}

int rot_thoughts_train(const rot_thoughts_options *options, const rot_thought_tokens *tokens,
                       const rot_chain *chain, uint64_t sample, int64_t epoch, int64_t stage,
                       rot_sequence *out, rot_err *err)
{
    uint64_t draws = rot_random_key(rot_random_key(options->seed, (uint64_t)epoch), sample);
    if (options->removal == ROT_REMOVE_STAGES &&
        rot_random_unit(draws, DRAW_MIX) < options->uniform)
        stage = rot_random_below(draws, DRAW_STAGE, (uint32_t)chain->n_steps + 1);
    int32_t from = chain->steps[0], answer = chain->steps[chain->n_steps];
    if (options->removal == ROT_REMOVE_TOKENS)
        from = least(from + tokens_removed(options, stage, draws), answer);
    else if (stage > options->max_stage)
        from = answer;
    else
        from = chain->steps[least(stage, chain->n_steps)];
    int64_t groups = groups_at(options, stage, chain->n_steps, true);
    ROT_TRY(begin(tokens, chain, options->kind != ROT_THOUGHTS_NONE,
                  (int32_t)(groups * options->per_step), out, err));
    append(out, chain->ids + from, chain->n - from, true);
    return 0;
}

int rot_thoughts_prompt(const rot_thoughts_options *options, const rot_thought_tokens *tokens,
                        const rot_chain *chain, int64_t stage, rot_sequence *out, rot_err *err)
{
    int64_t groups = groups_at(options, stage, chain->n_steps, false);
    return begin(tokens, chain, options->kind != ROT_THOUGHTS_NONE,
                 (int32_t)(groups * options->per_step), out, err);
}
