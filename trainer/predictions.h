// The file of predictions of a run that may be stopped: FILE.part grows line by line, FILE is
// there at the end.
#ifndef ROT_TRAINER_PREDICTIONS_H
#define ROT_TRAINER_PREDICTIONS_H

#include "trainer/generate.h"

typedef struct rot_predictions {
    char part[4096]; // its first line says of which run it is, the others are predictions
    int fd;          // of part, locked; -1: this run leaves none
    size_t done;     // predictions that an earlier start left
    rot_str lines;   // all predictions
    size_t n_written; // bytes of them that part has
} rot_predictions;

// Goes on with FILE.part of the same run, n questions of it; what stands behind its last whole line
// goes. `resume` false: nothing is kept between starts. ROT_ERR_USAGE: it is of another run, and
// what differs; ROT_ERR_LOCKED: another process writes it.
int rot_predictions_open(const rot_generator *generator, const rot_questions *questions, size_t n,
                         bool resume, rot_predictions *out, rot_err *err);
// What was appended to `lines` reaches the file.
int rot_predictions_flush(rot_predictions *predictions, rot_err *err);
// FILE has all lines, FILE.part goes.
int rot_predictions_finish(rot_predictions *predictions, const char *path, rot_err *err);
void rot_predictions_close(rot_predictions *predictions);

#endif
