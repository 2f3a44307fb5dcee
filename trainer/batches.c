#include "trainer/batches.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "rotoscope/order.h"

uint64_t rot_epoch_micro_batches(const rot_train_config *config, uint64_t n_samples)
{
    return (n_samples + config->batch - 1) / config->batch;
}

uint64_t rot_run_steps(const rot_train_config *config, uint64_t n_samples)
{
    uint64_t micro = rot_epoch_micro_batches(config, n_samples), each = config->accumulate;
    uint64_t steps = config->rest == ROT_REST_CARRY ? micro * config->epochs / each
                                                    : (micro + each - 1) / each * config->epochs;
    return config->max_steps && config->max_steps < steps ? config->max_steps : steps;
}

void rot_epoch_batches_free(rot_epoch_batches *batches)
{
    rot_free(batches->samples);
    rot_free(batches->starts);
    *batches = (rot_epoch_batches){0};
}

int rot_epoch_batches_make(const rot_train_config *config, uint64_t epoch, uint64_t n_samples,
                           const uint32_t *lengths, rot_epoch_batches *out, rot_err *err)
{
    rot_batches *batches = NULL;
    rot_batches_state state;
    rot_batches_options o = rot_batches_options_default();
    uint64_t n = rot_epoch_micro_batches(config, n_samples);
    int rc = 0;
    o.order = (rot_order){n_samples, config->seed, 0, config->shuffle != ROT_SHUFFLE_NONE};
    o.batch_size = config->batch;
    o.bucket = config->bucket && lengths;
    *out = (rot_epoch_batches){rot_calloc(n_samples + 1, sizeof *out->samples),
                               rot_calloc(n + 1, sizeof *out->starts), n};
    if (!out->samples || !out->starts)
        ROT_GO(rot_no_memory(err, n_samples * sizeof *out->samples, "the order of an epoch"));
    ROT_GO(rot_batches_open(&o, lengths, &batches, err));
    rot_batches_get_state(batches, &state);
    state.epoch = config->shuffle == ROT_SHUFFLE_EPOCH ? epoch : 0;
    ROT_GO(rot_batches_set_state(batches, &state, err));
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t *samples;
        size_t count;
        rot_batches_next(batches, &samples, &count);
        if (out->starts[i] + count > n_samples || !count)
            ROT_FAIL_GO(err, ROT_ERR_INTERNAL, "an epoch of other batches than were counted");
        memcpy(out->samples + out->starts[i], samples, count * sizeof *samples);
        out->starts[i + 1] = out->starts[i] + count;
    }
done:
    rot_batches_close(&batches);
    if (rc < 0) rot_epoch_batches_free(out);
    return rc;
}
