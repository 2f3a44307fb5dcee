// A config with values put over it that were read elsewhere, as a sweep does.
#ifndef ROT_PIPELINE_CONFIG_LOAD_H
#define ROT_PIPELINE_CONFIG_LOAD_H

#include "pipeline/config_tree.h"
#include "rotoscope/config.h"

typedef struct rot_override {
    const char *key; // with dots
    const rot_node *value;
    const char *where; // of the key
} rot_override;

// As rot_config_load; overrides come after the sets, each over those before it. What they point to
// must outlive the config.
int rot_config_load_with(const char *path, const char *const *sets, int n_sets,
                         const rot_override *overrides, size_t n_overrides, rot_config **out,
                         rot_err *err);

#endif
