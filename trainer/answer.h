// Answers within what a model wrote, and whether they are right. Three rules stand side by side:
// the published Render-of-Thought code's (for comparison with its figures), a corrected one,
// Coconut's.
#ifndef ROT_TRAINER_ANSWER_H
#define ROT_TRAINER_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "rotoscope/error.h"

// The published extractor: the first of six patterns that is found anywhere, letters in any case;
// NUM is digits, a dot or none, digits or none, without a sign, and takes digits of any script:
//   "####" blanks NUM; "答案是" colon blanks NUM; "Therefore" comma? blanks NUM later on the line;
//   "Answer" colon blanks NUM; "$" NUM; NUM at the end. Otherwise the trimmed text.
// So it drops signs and thousands and compares "3/4" by its 4. `out` is appended to.
void rot_answer_released(const char *text, size_t n_bytes, rot_str *out);
// Its comparison, of extracted answers: as numbers within 1e-9 if both are some, else as strings.
bool rot_answer_released_equal(const char *a, size_t n_a, const char *b, size_t n_b);

// The corrected rule: what stands behind the last "###" (in the last \boxed{}, behind "answer is",
// "Answer:"), without dollars, units, percent signs, thousands commas and the LaTeX that does not
// change a value. Numbers, fractions and mixed numbers are equal by value (to 1e-9 of it), other
// answers by their text. Where the gold answer is a number and the text has no mark, the text's
// last number counts. *extracted is the compared part, appended.
int rot_answer_corrected(const char *text, size_t n_bytes, const char *gold, size_t n_gold,
                         rot_str *extracted, bool *right, rot_err *err);
// The form in which the corrected rule compares, appended.
int rot_answer_normal(const char *text, size_t n_bytes, rot_str *out, rot_err *err);
// The value of a normal form; false: it is no number.
bool rot_answer_value(const char *normal, double *value);

// Coconut's rules. The answer: behind the last '#', without commas, trimmed. The chain of thought:
// before the first '#', trimmed; right if it equals the gold steps with line feeds between them.
void rot_answer_coconut(const char *text, size_t n_bytes, rot_str *out);
bool rot_answer_coconut_chain(const char *text, size_t n_bytes, const char *const *steps,
                              size_t n_steps);

// As Python's str.strip(): blanks of Unicode at both ends.
void rot_answer_trim(const char **text, size_t *n_bytes);

#endif
