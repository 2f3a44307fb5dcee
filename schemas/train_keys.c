#include "schemas/train_keys.h"

#include <string.h>

// One row each; F is the field, the default is what docs show.
#define ROW(NAME, TYPE, F, MIN, MAX, DEFAULT, DOC, ...)                                            \
    {                                                                                              \
        NAME, TYPE, offsetof(rot_train_config, F), sizeof(((rot_train_config *)0)->F), MIN, MAX,   \
            {__VA_ARGS__}, DEFAULT, ROT_WHEN_ALWAYS, DOC                                           \
    }
#define WORDS(NAME, F, DEFAULT, DOC, ...)                                                          \
    ROW(NAME, ROT_KEY_ENUM, F, 0, 0, DEFAULT, DOC, __VA_ARGS__)
#define NUMBER(NAME, F, MIN, MAX, DEFAULT, DOC)                                                    \
    ROW(NAME, ROT_KEY_NUMBER, F, MIN, MAX, DEFAULT, DOC, 0)
#define COUNT(NAME, F, MIN, MAX, DEFAULT, DOC)                                                     \
    ROW(NAME, ROT_KEY_COUNT, F, MIN, MAX, DEFAULT, DOC, 0)
#define BOOL(NAME, F, DEFAULT, DOC) ROW(NAME, ROT_KEY_BOOL, F, 0, 0, DEFAULT, DOC, 0)
#define OF(TYPE, NAME, F, DEFAULT, DOC) ROW(NAME, ROT_KEY_##TYPE, F, 0, 0, DEFAULT, DOC, 0)

const rot_key rot_train_keys[] = {
    {"preset",
     ROT_KEY_PRESET,
     0,
     0,
     0,
     0,
     {"rot-paper", "rot-released", "coconut-gsm", "coconut-prosqa"},
     "rot-paper",
     ROT_WHEN_ALWAYS,
     "sets the defaults: `rot-paper` as published, `rot-released` as the released code does it, "
     "whatever of that was meant; `coconut-gsm`, `coconut-prosqa`: Coconut's published configs, "
     "also for what it is compared with"},
    WORDS("method", method, "by preset",
          "what is trained: `rot`: Render-of-Thought; `coconut`: latent thoughts instead of "
          "steps; `cot`, `no-cot`: all steps, none; `no-thoughts`: Coconut's curriculum with "
          "nothing in the steps' place; `pause`: with a learned token in it; `icot`: tokens of the "
          "chain go one by one",
          "rot", "coconut", "cot", "no-cot", "no-thoughts", "pause", "icot"),
    OF(ROOT, "out", out, NULL,
       "logs and checkpoints; made if it is not there; a run goes on there"),
    COUNT("seed", seed, 0, 4294967295.0, "0",
          "of everything that is drawn: order, new weights, dropout (released: 42)"),

    OF(FOLDER, "model.checkpoint", checkpoint, NULL,
       "Hugging Face folder of the language model, with its tokenizer.json"),
    OF(FOLDER, "model.adapter", adapter, "none", "PEFT adapter folder to begin with"),
    WORDS(
        "model.precision", precision, "f32",
        "of matrix products and cached keys and values; masters, sums and everything else are f32",
        "f32", "bf16"),
    ROW("model.backend", ROT_KEY_WORD, backend, 0, 0, "auto", "what computes", "auto", "ref",
        "avx512", "amx"),
    BOOL("model.checkpointing", checkpointing, "false",
         "keep the inputs of blocks alone and compute the rest again in the backward pass"),
    BOOL("model.dropout", dropout, "true",
         "what config.json says is dropped, in training (GPT-2: embd_pdrop, attn_pdrop and "
         "resid_pdrop, 0.1 where it does not say; the others: attention_dropout, 0); false: "
         "nothing"),
    WORDS("model.tuning", tuning, "by stage",
          "what of the language model trains (stage 1: none; stage 2: lora)", "none", "lora",
          "full"),
    ROW("lora.r", ROT_KEY_INTEGER, lora_r, 1, 4096, "16", "rank of the adapter", 0),
    NUMBER("lora.alpha", lora_alpha, 0, 65536, "32", "its scale is alpha / r"),
    NUMBER("lora.dropout", lora_dropout, 0, 0.95, "0.05", "of the adapter's input"),
    OF(STRING, "lora.targets", lora_targets, "q_proj,k_proj,v_proj,o_proj",
       "linears that get an adapter, as the checkpoint names them"),

    OF(FILE, "data.dataset", dataset, NULL, "a dataset of a store: ROOT/NAME.json"),
    OF(NAME, "data.split", split, "train", "what is trained on"),
    OF(NAME, "data.valid", valid, "none", "split that validation reads"),
    WORDS("data.shuffle", shuffle, "epoch",
          "`epoch`: another order in every epoch; `once`: the same again and again, as the "
          "released code does by mistake; `none`: as stored",
          "epoch", "once", "none"),
    BOOL("data.bucket", bucket, "true",
         "samples of similar length in a micro-batch (released: false)"),
    ROW("data.geometry", ROT_KEY_WORD, geometry, 0, 0, "the store's",
        "geometry that the store is to have, else it is refused; of a store without embeddings, "
        "which serves where loss.vision is 0, what K is counted by",
        "released", "patch16", "native"),
    COUNT("data.max_samples", max_samples, 0, 4294967295.0, "0",
          "train on the first so many samples; 0: all"),

    COUNT("train.epochs", epochs, 1, 1000000, "by stage",
          "passes over the data (stage 1: 1, stage 2: 2; released: 2; coconut-prosqa: 50; "
          "coconut-gsm: 25, or 22 where thoughts.first_epoch is 3)"),
    COUNT("train.max_steps", max_steps, 0, 4294967295.0, "0",
          "end after so many optimizer steps; 0: with the epochs"),
    COUNT("train.batch", batch, 1, 65536, "16", "samples of a micro-batch"),
    COUNT("train.accumulate", accumulate, 1, 65536, "1",
          "micro-batches of an optimizer step (released: 4)"),
    WORDS("train.rest", rest, "step",
          "micro-batches left at the end of an epoch: `step`: make a step; `carry`: are added to "
          "the next epoch's first step, as the released code does",
          "step", "carry"),
    WORDS("train.average", average, "samples",
          "a step follows the mean over its `samples`, or over train.accumulate `micro-batches`, "
          "however many samples those have (released)",
          "samples", "micro-batches"),

    NUMBER("optimizer.lr", lr, 0, 10, "2e-5", "AdamW's rate"),
    NUMBER("optimizer.beta1", beta1, 0, 0.999999, "0.9", "of the first moment"),
    NUMBER("optimizer.beta2", beta2, 0, 0.999999999, "0.999", "of the second moment"),
    NUMBER("optimizer.eps", eps, 0, 1, "1e-8", "beside the root of the second moment"),
    NUMBER("optimizer.weight_decay", weight_decay, 0, 10, "0.01",
           "decoupled, of every tensor that trains but log-variances"),
    NUMBER("optimizer.clip", clip, 0, 1e9, "1", "largest norm of the gradient; 0: no limit"),
    WORDS("optimizer.reset", reset, "never", "when moments begin as zero again", "never", "stage",
          "epoch"),

    WORDS("schedule.kind", schedule, "constant",
          "the rate after the warm-up (released: `linear`, to zero)", "constant", "linear",
          "cosine"),
    COUNT("schedule.warmup_steps", warmup_steps, 0, 4294967295.0, "0",
          "steps of rising rate (released: 20)"),
    WORDS("schedule.warmup", warmup, "linear",
          "how it rises; `log`: ln(i + 1) / ln(n), as DeepSpeed's WarmupLR", "linear", "log"),
    BOOL("schedule.zero_first", zero_first, "false",
         "the first step of a warm-up has rate 0 (released: true)"),
    WORDS("schedule.length", length, "steps",
          "what a decay takes for the length of the run: its optimizer `steps`, or its "
          "`micro-batches`, so that it never ends, as the released code does by mistake",
          "steps", "micro-batches"),
    NUMBER("schedule.min_ratio", min_ratio, 0, 1, "0", "of optimizer.lr, where a decay ends"),

    WORDS("loss.kind", loss, "mse",
          "between a latent and its target; `stable`: 0.5 mse + 0.3 cosine + 0.2 kl (the released "
          "code takes mse whatever it is told)",
          "mse", "cosine", "kl", "huber", "stable"),
    WORDS("loss.reduction", reduction, "paper",
          "of mse and huber over the d numbers of a latent: `paper`: the sum, a squared norm; "
          "`released`: the mean",
          "paper", "released"),
    NUMBER("loss.vision", vision_weight, 0, 1e9, "by stage",
           "weight of the loss above (stage 1: 10; stage 2: 0, and no target is read)"),
    NUMBER("loss.lm", lm_weight, 0, 1e9, "1", "weight of the answer's cross entropy"),
    BOOL("loss.uncertainty", uncertainty, "false",
         "learn both weights as log-variances (Kendall 2018); in the released code this crashes"),

    ROW("rot.stage", ROT_KEY_INTEGER, stage, 1, 2, "1",
        "1: the head learns to draw; 2: the model learns to answer. Sets defaults and nothing else",
        0),
    OF(FOLDER, "rot.head", head, "by stage",
       "checkpoint whose head and special rows to begin with; stage 2 needs one, where the "
       "released code goes on with a random head if it is missing"),
    COUNT("rot.head_width", head_width, 1, 65536, "4096", "of a new head (released: 2048)"),
    BOOL("rot.train_head", train_head, "by stage", "stage 1: true; stage 2: false"),
    WORDS("rot.row_init", row_init, "released",
          "rows of <img_begin>, <img>, <img_end> that the model lacks: `released`: random, of norm "
          "sqrt(d), some 50 times a trained row's; `typical`: random, of the mean norm of the "
          "model's rows; `mean`: their mean",
          "released", "typical", "mean"),
    BOOL("rot.train_rows", train_rows, "false",
         "<img_begin> and <img_end> train too, as the released code says but does not"),
    COUNT("rot.max_latents", max_latents, 0, 1000000, "0",
          "a sample with more is an error; 0: no limit"),

    WORDS("thoughts.steps", step_rule, "by preset",
          "where a trace is cut into steps: at each `space` (GSM8k-Aug), `line` (GSM8K), "
          "`sentence` (ProsQA), second sentence: `pair` (ProntoQA)",
          "space", "line", "sentence", "pair"),
    COUNT("thoughts.per_step", thoughts_per_step, 1, 1024, "by preset",
          "latent thoughts (or pauses) for a step: Coconut's c_thought (gsm: 2, prosqa: 1)"),
    COUNT("thoughts.epochs_per_stage", epochs_per_stage, 1, 1000000, "by preset",
          "epochs before one step more is taken out (gsm: 3, prosqa: 5)"),
    COUNT("thoughts.max_stage", max_stage, 0, 1024, "by preset",
          "steps that are replaced at most; in later stages no step is left (gsm: 3, prosqa: 6)"),
    COUNT("thoughts.first_epoch", first_epoch, 0, 1000000, "by preset",
          "epoch of the curriculum that training begins with (gsm: 3, after training with CoT)"),
    BOOL("thoughts.curriculum", curriculum, "by method",
         "false: every step is taken out from the first epoch on (pause: false)"),
    BOOL("thoughts.pad_to_max", pad_to_max, "true",
         "a sample with fewer steps than thoughts.max_stage gets as many thoughts all the same"),
    BOOL("thoughts.group_per_step", group_per_step, "false",
         "so far a sample gets no more groups of thoughts than it has steps; the published code "
         "gives it as many as the stage says before the last one, whatever pad_to_max is"),
    NUMBER("thoughts.uniform", uniform, 0, 1, "0",
           "share of the samples that are of a random stage: Coconut's uniform_prob"),
    NUMBER("icot.per_epoch", icot_per_epoch, 0, 1e6, "8", "tokens more that go in every epoch"),
    NUMBER("icot.smoothing", icot_smoothing, 0, 1e6, "4",
           "o more go with a probability in proportion to e^(-smoothing o); 0: none"),
    ROW("icot.all_beyond", ROT_KEY_INTEGER, icot_all_beyond, -1, 1e9, "-1",
        "the whole chain goes where more than these would; -1: never", 0),

    COUNT("checkpoint.every", save_every, 0, 4294967295.0, "0",
          "steps between checkpoints beside those at the end of epochs; 0: none"),
    COUNT("checkpoint.keep", keep, 0, 1000000, "2",
          "newest ones that stay, beside the best; 0: all"),
    COUNT("valid.every", valid_every, 0, 4294967295.0, "0",
          "steps between validations; 0: at the end of epochs"),
    COUNT("valid.patience", patience, 0, 1000000, "0",
          "end after so many validations without a better loss; 0: go on"),
    COUNT("log.every", log_every, 1, 1000000, "1", "steps of a line of train.jsonl"),
};
const size_t rot_n_train_keys = sizeof rot_train_keys / sizeof *rot_train_keys;

// As Coconut's published configs have them: no schedule, no clipping, moments forgotten at every
// epoch (the README says: at every stage).
static void coconut_defaults(rot_train_config *c, bool prosqa)
{
    bool stages = c->method == ROT_METHOD_COCONUT || c->method == ROT_METHOD_NO_THOUGHTS;
    c->seed = 0;
    c->tuning = ROT_TUNE_FULL;
    c->shuffle = ROT_SHUFFLE_EPOCH;
    c->bucket = false;
    c->batch = 32;
    c->average = ROT_AVERAGE_MICRO_BATCHES;
    c->lr = 1e-4;
    c->clip = 0;
    c->reset = stages ? ROT_RESET_EPOCH : ROT_RESET_NEVER;
    c->vision_weight = 0;
    c->train_head = false;
    c->step_rule = prosqa ? 2 : 0;
    c->thoughts_per_step = prosqa ? 1 : 2;
    c->epochs_per_stage = prosqa ? 5 : 3;
    c->max_stage = prosqa ? 6 : 3;
    c->first_epoch = stages && !prosqa ? 3 : 0;
    c->epochs = (prosqa ? 50 : 25) - c->first_epoch; // the published number counts from 0
    c->curriculum = stages;
}

void rot_train_defaults(rot_train_config *c, rot_train_preset preset, rot_train_method method,
                        int stage)
{
    bool released = preset == ROT_TRAIN_ROT_RELEASED, first = stage == 1;
    c->method = method;
    c->stage = stage;
    c->seed = released ? 42 : 0;
    c->backend = "auto";
    c->tuning = first ? ROT_TUNE_NONE : ROT_TUNE_LORA;
    c->lora_r = 16;
    c->lora_alpha = 32;
    c->lora_dropout = 0.05;
    c->dropout = true;
    c->lora_targets = "q_proj,k_proj,v_proj,o_proj";
    c->split = "train";
    c->shuffle = released ? ROT_SHUFFLE_ONCE : ROT_SHUFFLE_EPOCH;
    c->bucket = !released;
    c->epochs = released || !first ? 2 : 1;
    c->batch = 16;
    c->accumulate = released ? 4 : 1;
    c->rest = released ? ROT_REST_CARRY : ROT_REST_STEP;
    c->average = released ? ROT_AVERAGE_MICRO_BATCHES : ROT_AVERAGE_SAMPLES;
    c->lr = 2e-5;
    c->beta1 = 0.9;
    c->beta2 = 0.999;
    c->eps = 1e-8;
    c->weight_decay = 0.01;
    c->clip = 1;
    c->schedule = released ? ROT_SCHEDULE_LINEAR : ROT_SCHEDULE_CONSTANT;
    c->warmup_steps = released ? 20 : 0;
    c->zero_first = released;
    c->length = released ? ROT_LENGTH_MICRO_BATCHES : ROT_LENGTH_STEPS;
    c->reduction = released ? ROT_REDUCE_RELEASED : ROT_REDUCE_PAPER;
    c->vision_weight = first ? 10 : 0;
    c->lm_weight = 1;
    c->head_width = released ? 2048 : 4096;
    c->train_head = first;
    c->keep = 2;
    c->log_every = 1;
    c->pad_to_max = true;
    c->icot_per_epoch = 8;
    c->icot_smoothing = 4;
    c->icot_all_beyond = -1;
    if (method != ROT_METHOD_ROT) coconut_defaults(c, preset == ROT_TRAIN_COCONUT_PROSQA);
}

/* ---- keys that need others ------------------------------------------------------------------- */

static bool no_lora(const rot_train_config *c)
{
    return c->tuning != ROT_TUNE_LORA;
}

static bool one_micro_batch(const rot_train_config *c)
{
    return c->accumulate == 1;
}

static bool constant(const rot_train_config *c)
{
    return c->schedule == ROT_SCHEDULE_CONSTANT;
}

static bool no_warmup(const rot_train_config *c)
{
    return c->warmup_steps == 0;
}

static bool no_decay_no_warmup(const rot_train_config *c)
{
    return constant(c) && no_warmup(c);
}

static bool no_vision(const rot_train_config *c)
{
    return c->vision_weight == 0 && !c->uncertainty;
}

static bool no_sum_over_d(const rot_train_config *c)
{
    return c->loss == ROT_LOSS_COSINE || c->loss == ROT_LOSS_KL;
}

static bool learned_weights(const rot_train_config *c)
{
    return c->uncertainty;
}

static bool head_given(const rot_train_config *c)
{
    return c->head != NULL;
}

static bool is_rot(const rot_train_config *c)
{
    return c->method == ROT_METHOD_ROT;
}

static bool is_not_rot(const rot_train_config *c)
{
    return !is_rot(c);
}

static bool is_not_icot(const rot_train_config *c)
{
    return c->method != ROT_METHOD_ICOT;
}

// CoT, no CoT and iCoT have nothing in the place of steps and no stages.
static bool no_thoughts(const rot_train_config *c)
{
    return is_rot(c) || c->method == ROT_METHOD_COT || c->method == ROT_METHOD_NO_COT ||
           !is_not_icot(c);
}

static bool no_stages(const rot_train_config *c)
{
    return no_thoughts(c) || !c->curriculum;
}

static bool nothing_in_their_place(const rot_train_config *c)
{
    return no_thoughts(c) || c->method == ROT_METHOD_NO_THOUGHTS;
}

static bool adapter_given(const rot_train_config *c)
{
    return c->adapter != NULL;
}

static bool all_rows_train(const rot_train_config *c)
{
    return c->tuning == ROT_TUNE_FULL;
}

static bool no_valid(const rot_train_config *c)
{
    return !c->valid;
}

const char *rot_train_key_without_effect(const rot_key *key, const rot_train_config *config)
{
    static const struct {
        const char *name; // of a key, or of a section with its dot
        bool (*holds)(const rot_train_config *config);
        const char *why;
    } rules[] = {
        {"lora.", no_lora, "without model.tuning: lora"},
        {"lora.r", adapter_given, "with model.adapter, which says it"},
        {"lora.alpha", adapter_given, "with model.adapter, which says it"},
        {"lora.targets", adapter_given, "with model.adapter, which says it"},
        {"rot.train_rows", all_rows_train, "with model.tuning: full, which trains every row"},
        {"train.rest", one_micro_batch, "with train.accumulate: 1"},
        {"train.average", one_micro_batch, "with train.accumulate: 1"},
        {"schedule.length", constant, "with schedule.kind: constant"},
        {"schedule.min_ratio", constant, "with schedule.kind: constant"},
        {"schedule.warmup", no_warmup, "with schedule.warmup_steps: 0"},
        {"schedule.zero_first", no_decay_no_warmup, "with a rate that is always the same"},
        {"loss.vision", learned_weights, "with loss.uncertainty: true"},
        {"loss.lm", learned_weights, "with loss.uncertainty: true"},
        {"loss.kind", no_vision, "with loss.vision: 0"},
        {"loss.reduction", no_vision, "with loss.vision: 0"},
        {"loss.reduction", no_sum_over_d, "with this loss.kind"},
        {"rot.head_width", head_given, "with rot.head, which says it"},
        {"valid.", no_valid, "without data.valid"},
        {"rot.", is_not_rot, "with this method"},
        {"loss.", is_not_rot, "with this method"},
        {"data.geometry", is_not_rot, "with this method"},
        {"icot.", is_not_icot, "with this method"},
        {"thoughts.steps", is_rot, "with this method"},
        {"thoughts.per_step", nothing_in_their_place, "with this method"},
        {"thoughts.pad_to_max", nothing_in_their_place, "with this method"},
        {"thoughts.group_per_step", nothing_in_their_place, "with this method"},
        {"thoughts.curriculum", no_thoughts, "with this method"},
        {"thoughts.max_stage", no_thoughts, "with this method"},
        {"thoughts.epochs_per_stage", no_stages, "without a curriculum"},
        {"thoughts.group_per_step", no_stages, "without a curriculum"},
        {"thoughts.uniform", no_stages, "without a curriculum"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        size_t n = strlen(rules[i].name);
        bool section = rules[i].name[n - 1] == '.';
        if (section ? strncmp(key->name, rules[i].name, n) : strcmp(key->name, rules[i].name))
            continue;
        if (rules[i].holds(config)) return rules[i].why;
    }
    return NULL;
}
