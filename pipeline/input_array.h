// A JSON array as a stream of its elements, each as the text between the commas.
#ifndef ROT_PIPELINE_INPUT_ARRAY_H
#define ROT_PIPELINE_INPUT_ARRAY_H

#include "base/str.h"
#include "pipeline/input_stream.h"

typedef struct rot_element {
    uint64_t line, offset; // of its first byte
    bool too_long;         // over ROT_LINE_MAX_BYTES: the text is cut
} rot_element;

typedef enum rot_array_state {
    ROT_ARRAY_BEFORE,
    ROT_ARRAY_WITHIN,
    ROT_ARRAY_AFTER
} rot_array_state;

// 1: the next element, its text in `text`; 0: the array has ended. *state starts as BEFORE. An
// element may be broken JSON as long as its brackets and quotes close. ROT_ERR_INPUT: no array, or
// it does not end (file and byte).
int rot_array_next(rot_stream *stream, rot_array_state *state, rot_str *text, rot_element *out,
                   rot_err *err);

#endif
