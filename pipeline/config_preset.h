// The presets of `render:`.
#ifndef ROT_PIPELINE_CONFIG_PRESET_H
#define ROT_PIPELINE_CONFIG_PRESET_H

#include "rotoscope/render.h"

// `word` is the index of a word of render.preset. Sets every option but missing_glyph.
void rot_config_preset(rot_render_options *options, int word);

#endif
