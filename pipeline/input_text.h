// How the formats cut a text into question, trace and answer. Spans point into the given text.
#ifndef ROT_PIPELINE_INPUT_TEXT_H
#define ROT_PIPELINE_INPUT_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct rot_span {
    const char *text;
    size_t n_bytes;
} rot_span;

rot_span rot_span_trim(rot_span span); // ASCII white space at both ends
// "trace #### answer", split at the last "####"; both trimmed. False: there is none.
bool rot_split_hashes(rot_span text, rot_span *trace, rot_span *answer);
// "question||trace #### answer", the question split off at the first "||".
bool rot_split_gsm8k_aug(rot_span line, rot_span *question, rot_span *trace, rot_span *answer);
// The content of the last \boxed{...} or \fbox{...}, braces nesting (a backslash takes the next
// character with it), or what follows "\boxed " up to "$". False: none, or its braces do not close.
bool rot_find_boxed(rot_span text, rot_span *answer);
// Copies `text` without its <<...>> marks; out holds text.n_bytes. Returns the length.
size_t rot_strip_calculator(rot_span text, char *out);
// A finite number as text that reads back as the same: as few digits as do, no exponent where the
// number has at most 21 digits before the point and 7 zeros behind it, no point for a whole one.
void rot_number_text(double value, char out[40]);

#endif
