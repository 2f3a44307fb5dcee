// What a way of training is to the loop. A method opens its decoder and its data, says which
// parameters train and what samples of an epoch cost, and adds the gradient of one micro-batch.
// Everything else is the loop's: order, batching, accumulation, clipping, AdamW, the rate, logs,
// checkpoints, resuming, early stop.
//
// A method keeps nothing between micro-batches but its parameters: what happens in micro-batch i of
// epoch e is a function of the config, the parameters and (e, i). Whatever is drawn comes from
// base/random.h, from keys of seed, epoch and row. So a checkpoint is the parameters, the
// optimizer's moments and a place in the run; the loop writes and reads those itself, and a resumed
// run is bit for bit the one that was never stopped.
//
// To add a method: a file with its rot_method_ops, a row in rot_methods (method.c), a word of
// `method` and its keys in schemas/train_keys.c.
#ifndef ROT_TRAINER_METHOD_H
#define ROT_TRAINER_METHOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rotoscope/error.h"
#include "rotoscope/train.h"
#include "trainer/decoder.h"

typedef struct rot_method rot_method;

typedef enum rot_which { ROT_TRAIN_SPLIT, ROT_VALID_SPLIT } rot_which;

// One F32 tensor that trains. The method zeroes the gradients in zero_grad and adds to them in run;
// the loop changes the values and calls updated.
typedef struct rot_method_param {
    const char *name; // unique in the method: "head.1.weight", "model.layers.0…"
    int n_dims;
    int64_t shape[4];
    size_t n;
    float *value, *grad; // (n)
    bool decay;          // optimizer.weight_decay applies
} rot_method_param;

// What the loop has to know of an epoch before it cuts it into micro-batches.
typedef struct rot_epoch_plan {
    // What a training sample costs, to put similar ones together; owned by the method until the
    // next begin_epoch. NULL: all the same.
    const uint32_t *lengths;
    // Of a curriculum, from 0; the loop logs it and, if the config says so, clears the optimizer
    // when it changes.
    int stage;
} rot_epoch_plan;

typedef struct rot_micro_batch {
    rot_which which;
    uint64_t epoch, index; // of the micro-batch in its epoch
    const uint64_t *samples;
    size_t n;
    bool backward; // add the gradient of weight * (the loss: a mean over these samples)
    double weight;
} rot_micro_batch;

enum { ROT_METHOD_LOSSES = 6 };
// Means over the micro-batch's samples. `parts` in the order of ops->losses.
typedef struct rot_method_losses {
    double loss; // what is minimised
    double parts[ROT_METHOD_LOSSES];
    uint64_t tokens, latents; // supervised tokens and latent steps
    uint64_t data_ns;         // time spent waiting for the store
} rot_method_losses;

typedef struct rot_method_ops {
    const char *name; // the word of `method:`
    const char *const *losses; // names of the parts in logs: "vision_loss", "lm_loss", NULL

    // Opens decoder, tokenizer and readers and checks them against each other and the config:
    // ROT_ERR_USAGE with both values where a store does not fit the checkpoint.
    int (*open)(const rot_train_config *config, int threads, rot_method **out, rot_err *err);
    void (*close)(rot_method *method);

    // Called before the first micro-batch of an epoch that is run, also after resuming.
    int (*begin_epoch)(rot_method *method, uint64_t epoch, rot_epoch_plan *out, rot_err *err);
    // ROT_ERR_INPUT with the sample's id: a loss or gradient that is not finite, a sample that is
    // longer than the model's positions.
    int (*run)(rot_method *method, const rot_micro_batch *batch, rot_method_losses *out,
               rot_err *err);
    void (*zero_grad)(rot_method *method);
    int (*updated)(rot_method *method, rot_err *err); // the values of parameters were changed

    // Writes into `dir` (there, empty; the loop moves it into place) what others use: a head, an
    // adapter folder, a model folder.
    int (*save)(rot_method *method, const char *dir, rot_err *err);
    // Members for --plan and training_state.json, as JSON text of an object: the caller frees it.
    int (*describe)(rot_method *method, char **json, rot_err *err);
} rot_method_ops;

struct rot_method {
    const rot_method_ops *ops;
    rot_decoder *decoder;
    const rot_method_param *params; // in a fixed order
    size_t n_params;
    uint64_t n_samples[2]; // by rot_which; 0 without validation
};

// How a method opens the decoder: what model.* and lora.* say.
rot_decoder_options rot_method_decoder_options(const rot_train_config *config, int threads);

int rot_method_open(const rot_train_config *config, int threads, rot_method **out, rot_err *err);
void rot_method_close(rot_method **method);

#endif
