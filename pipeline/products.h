// products.txt in a stage's folder: how a library computes the tower's products, where it chooses
// (backend cuda). Written by the first who computes; everyone after must choose the same.
#ifndef ROT_PIPELINE_PRODUCTS_H
#define ROT_PIPELINE_PRODUCTS_H

#include "rotoscope/encoder.h"

// ROT_ERR_NOT_FOUND, with both named: this machine chooses otherwise.
int rot_products_check(const char *stage_dir, const rot_encoder *encoder, rot_err *err);

#endif
