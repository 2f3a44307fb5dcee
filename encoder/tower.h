// The vision tower itself: patch rows in, merged tokens out, on a backend.
#ifndef ROT_ENCODER_TOWER_H
#define ROT_ENCODER_TOWER_H

#include "encoder/checkpoint.h"
#include "encoder/pack_cache.h"
#include "kernels/backend.h"
#include "rotoscope/encoder.h"
#include "rotoscope/geometry.h"

typedef struct rot_tower rot_tower;

// Packs the weights tensor by tensor from the checkpoint's map, which may be closed afterwards.
// ROT_ERR_FORMAT: a value that is not finite (or not in bfloat16 where that is the precision),
// named. ROT_ERR_UNSUPPORTED: a model_type without a family. The tower uses `backend` and does not
// own it. What `cache` has is taken from there, and kept mapped; what it lacks is written at the
// end. An empty one, {0}, has nothing and takes nothing.
int rot_tower_open(const rot_checkpoint *checkpoint, rot_backend *backend, bool deepstack,
                   rot_pack_cache *cache, rot_tower **out, rot_err *err);
void rot_tower_close(rot_tower **tower);

// ROT_ERR_UNSUPPORTED unless there is a family for this model_type; the message lists those there
// are.
int rot_tower_supports(const char *model_type, rot_err *err);

// Patch rows that one call should have at most, so that activations stay under the budget of
// memory; an image that alone has more is run alone.
size_t rot_tower_rows(const rot_tower *tower);

// What a batch is made of: pixels as below, or if they are NULL grey images that the backend cuts
// (rot_tower_cuts says whether it does).
typedef struct rot_tower_input {
    const float *pixels;
    const rot_pixel_image *images; // one per grid
    const rot_pixel_cut *cut;
} rot_tower_input;
bool rot_tower_cuts(const rot_tower *tower);

// One packed batch in two steps. `start` tells the backend all that is to be done and returns, on a
// processor when it is done; `finish` writes what `start` with the same slot (0 or 1) began. Two
// slots may be under way at once on a backend that has `send`, else one.
int rot_tower_start(rot_tower *tower, int slot, const rot_tower_input *input, const rot_grid *grids,
                    size_t n, rot_err *err);
int rot_tower_finish(rot_tower *tower, int slot, void *out, rot_err *err);
// Waits after each operation, so that its time is booked where it belongs.
void rot_tower_profile(rot_tower *tower, bool on);

// Both steps. pixels (sum of n_patches, patch values) as rot_geometry_pixels writes them,
// image after image; out (sum of K, out_width), with deepstack (sum of K, (1 + taps) out_width), in
// the backend's ACT type: float32 or bfloat16.
int rot_tower_run(rot_tower *tower, const float *pixels, const rot_grid *grids, size_t n, void *out,
                  rot_err *err);

// What packing the weights took, and their bytes as the checkpoint has them.
void rot_tower_loading(const rot_tower *tower, double *packing_seconds, size_t *weight_bytes);

// Time and work of each stage since the tower was opened; a table of *n entries owned by the tower.
const rot_encoder_stage *rot_tower_stages(const rot_tower *tower, size_t *n);

// tower_position.c. For grids whose sides are multiples of `merge`; rows in the order of the
// processors: block row, block column, row and column within the block.

// The learned table (side * side, width) at the corners-aligned positions of the grid: of which
// rows, out (grid_h * grid_w), and the sums in float32, out (rows, width).
void rot_tower_position_taps(int side, int merge, int grid_h, int grid_w, rot_taps *out);
void rot_tower_interpolate(const float *table, size_t width, const rot_taps *taps, size_t rows,
                           float *out);
// Cosines and sines (grid_h * grid_w, head_dim / 2) of the two-dimensional rotation: the first half
// of a row's angles belongs to its row index, the second to its column.
int rot_tower_rotations(double theta, int head_dim, int merge, int grid_h, int grid_w,
                        float *cosines, float *sines, rot_err *err);

#endif
