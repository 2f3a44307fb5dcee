// The effective config with a root of the caller's choice.
#ifndef ROT_PIPELINE_CONFIG_WRITE_H
#define ROT_PIPELINE_CONFIG_WRITE_H

#include "rotoscope/config.h"

// As rot_config_write, with `root` as the value of that key (NULL: the config's, made absolute). A
// config that lies in its root says "." and goes with it when the root is moved.
int rot_config_write_at(const rot_config *config, const char *root, char **text, rot_err *err);

#endif
