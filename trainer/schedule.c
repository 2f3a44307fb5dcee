#include "trainer/schedule.h"

#include <math.h>

static double risen(const rot_train_config *config, double at, double warmup)
{
    if (at >= warmup) return 1;
    if (config->warmup == ROT_WARMUP_LOG) return log(at + 1) / log(warmup);
    return at / warmup;
}

double rot_schedule_rate(const rot_train_config *config, uint64_t step, uint64_t length)
{
    double warmup = config->warmup_steps, at = (double)step + (config->zero_first ? 0 : 1);
    if ((double)step < warmup) return config->lr * risen(config, at, warmup);
    double left = (double)length - warmup, done = left > 0 ? ((double)step - warmup) / left : 1;
    if (done > 1) done = 1;
    double share = 1;
    if (config->schedule == ROT_SCHEDULE_LINEAR) share = 1 - done;
    if (config->schedule == ROT_SCHEDULE_COSINE) share = (1 + cos(M_PI * done)) / 2;
    return config->lr * (config->min_ratio + (1 - config->min_ratio) * share);
}
