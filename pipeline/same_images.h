// Embeddings of images met lately, found again by what the images are: the tower runs once for
// images that are the same to the byte. Bounded: what was used longest ago goes first.
#ifndef ROT_PIPELINE_SAME_IMAGES_H
#define ROT_PIPELINE_SAME_IMAGES_H

#include "rotoscope/store.h"

enum { ROT_SAME_KEY = 32 };

// SHA-256 over an image record's shape and pixels: equal only if the images are.
void rot_same_key(const rot_record *image, uint8_t out[ROT_SAME_KEY]);

// One thread at a time.
typedef struct rot_same rot_same;
int rot_same_open(size_t budget_bytes, rot_same **out, rot_err *err);
void rot_same_close(rot_same **same);
// NULL: not there, or of another length. Valid until the next put.
const void *rot_same_find(rot_same *same, const uint8_t key[ROT_SAME_KEY], size_t n_bytes);
// Keeps a copy if there is room and memory for it; `key` is not there yet.
void rot_same_put(rot_same *same, const uint8_t key[ROT_SAME_KEY], const void *bytes,
                  size_t n_bytes);

#endif
