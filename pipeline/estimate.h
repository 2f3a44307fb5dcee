// What a build will cost: patches, bytes, arithmetic, time.
#ifndef ROT_PIPELINE_ESTIMATE_H
#define ROT_PIPELINE_ESTIMATE_H

#include "pipeline/dataset.h"

// Floating-point operations of the tower on one image (multiply and add count as two), merger
// included.
double rot_tower_flop(const rot_encoder_info *info, const rot_grid *grid);

// FLOP/s of the tower, as the last build with this backend and number of threads had it.
int rot_rate_remember(rot_job *job, const rot_encoder_info *info, double flop_per_second,
                      rot_err *err);
// 0: no build was measured yet.
double rot_rate_known(const rot_job *job, const rot_encoder_info *info);

#endif
