// In which order samples are read, and how they are cut into batches: a function of a seed, the
// same for any number of ranks and workers, that can be taken up anywhere from three numbers.
#ifndef ROTOSCOPE_ORDER_H
#define ROTOSCOPE_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

// A permutation of 0 .. n-1 for every epoch, computed for each index alone: nothing is stored,
// nothing shuffled. With `block` > 0 the order of blocks of that many neighbours is permuted, and
// the samples within each block: reads stay near each other on a disk that seeks.
typedef struct rot_order {
    uint64_t n, seed, block; // block 0: every sample may go anywhere
    bool shuffle;            // false: the samples as they are stored
} rot_order;

// The sample at `position` of `epoch`. position < n. Pure; any thread.
uint64_t rot_order_at(const rot_order *order, uint64_t epoch, uint64_t position);
// Where `sample` stands in `epoch`: the inverse.
uint64_t rot_order_position(const rot_order *order, uint64_t epoch, uint64_t sample);

// How the order is cut into batches. The order is taken in windows; a window is cut into batches
// alone.
typedef struct rot_batches_options {
    size_t size; // sizeof(rot_batches_options)
    rot_order order;
    uint64_t batch_size; // samples in a batch at most; 0: no limit (then budget > 0)
    // Merged tokens in a batch at most, by K; 0: no limit. A sample that is over it by itself
    // forms a batch.
    uint64_t budget;
    bool padded; // a batch costs its largest K times its samples, instead of the sum of K
    bool bucket; // batches of a window are of similar K, in shuffled order
    // Leave out the last step of an epoch if not every rank has a batch in it, and without a
    // budget a last batch of fewer than batch_size samples.
    bool drop_last;
    uint64_t window; // samples. 0: 64 batches, 4096 with a budget
    uint32_t rank, ranks;     // batch b of a step goes to rank b: 0, 1
    uint32_t worker, workers; // step t of a rank is made by its worker t mod workers: 0, 1
} rot_batches_options;

// Batches of one sample, not shuffled, one rank, one worker.
rot_batches_options rot_batches_options_default(void);

// Where a run stands, between two steps; the same on every rank. Another number of ranks or
// workers may go on from it: every sample that is left comes exactly once.
typedef struct rot_batches_state {
    uint64_t epoch;
    uint64_t position; // of the window's first sample in the order
    uint64_t batch;    // batches of that window that are done
    uint64_t digest;   // of what determines the batches (not rank, ranks, worker, workers)
} rot_batches_state;

typedef struct rot_batches rot_batches; // one thread at a time; memory for one window

// `k` (n): K of every sample, borrowed; may be NULL without budget and buckets.
// ROT_ERR_USAGE: options that make no sense; ROT_ERR_NO_MEMORY.
int rot_batches_open(const rot_batches_options *options, const uint32_t *k, rot_batches **out,
                     rot_err *err);
void rot_batches_close(rot_batches **batches);
// This rank's (and worker's) next batch; *samples belongs to `batches` until its next call. *n is
// 0 at the end of an epoch, and the next call begins the next epoch. Ranks that have no batch in
// the last step of an epoch see its end one step earlier than others.
void rot_batches_next(rot_batches *batches, const uint64_t **samples, size_t *n);
// The state after the step of the batch that rot_batches_next returned last (of all ranks' batches
// of that step); at the end of an epoch, the beginning of the next.
void rot_batches_get_state(const rot_batches *batches, rot_batches_state *out);
// ROT_ERR_USAGE: a state of other data, seed or cutting.
int rot_batches_set_state(rot_batches *batches, const rot_batches_state *state, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
