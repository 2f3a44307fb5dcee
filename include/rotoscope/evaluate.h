// Scoring of predictions, whoever made them.
#ifndef ROTOSCOPE_EVALUATE_H
#define ROTOSCOPE_EVALUATE_H

#include <stddef.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rot_evaluate_options {
    size_t size;                    // sizeof(rot_evaluate_options)
    const char *const *predictions; // files of JSON lines (docs/evaluate.md)
    int n_predictions;
    // The gold answers (rotoscope/questions.h). NULL: the lines of predictions have their own.
    const char *questions, *format, *split;
    const char *tokenizer; // folder: counts the tokens of gold traces; NULL: as the lines say
    const char *samples;   // file: a line of JSON for every judged sample; NULL: none
} rot_evaluate_options;
// No files.
rot_evaluate_options rot_evaluate_options_default(void);

// Judges every prediction by three rules (the published one, a corrected one, Coconut's) and gives
// figures over questions and seeds as JSON, freed by the caller. A question without a prediction
// and a prediction that is an error are wrong. ROT_ERR_INPUT, with file and line: a line that is no
// prediction, an id that no question has or that is there twice under one seed.
int rot_evaluate(const rot_evaluate_options *options, char **json, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
