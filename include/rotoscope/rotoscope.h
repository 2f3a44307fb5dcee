// Everything that librotoscope offers.
#ifndef ROTOSCOPE_H
#define ROTOSCOPE_H

#include "build.h"
#include "config.h"
#include "encoder.h"
#include "error.h"
#include "evaluate.h"
#include "export.h"
#include "generate.h"
#include "geometry.h"
#include "image.h"
#include "order.h"
#include "questions.h"
#include "reader.h"
#include "render.h"
#include "store.h"
#include "sweep.h"
#include "tokenizer.h"
#include "train.h"
#include "view.h"

#define ROT_VERSION "0.1.0"

#endif
