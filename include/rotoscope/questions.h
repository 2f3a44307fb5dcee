// Questions with their gold answers and steps: the evaluation sets, read whole.
#ifndef ROTOSCOPE_QUESTIONS_H
#define ROTOSCOPE_QUESTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

// What a ProsQA-like question is about: who is what. Nodes are numbered as `symbols` are.
typedef struct rot_question_graph {
    const char *const *symbols;
    int32_t n_nodes, n_edges;
    const int32_t (*edges)[2]; // from, to
    int32_t root, target, neg_target;
} rot_question_graph;

typedef struct rot_question {
    const char *id, *question, *trace, *answer; // UTF-8, NUL-terminated
    const char *const *steps; // of the trace: what the file says, else its equations or lines
    size_t n_steps;
    const rot_question_graph *graph; // NULL: the format has none
    uint32_t teacher_latents;        // K of a store's image of the trace; 0: not known
} rot_question;

typedef struct rot_questions rot_questions; // immutable; any thread

// `path`: a file in one of the formats of docs/input.md; under the format "store" a dataset's JSON
// file, of which `split` is read (NULL: it has one). ROT_ERR_USAGE: no such format, a split where
// there are none; ROT_ERR_INPUT: the first bad row, with file, line and cause.
int rot_questions_read(const char *path, const char *format, const char *split, rot_questions **out,
                       rot_err *err);
void rot_questions_free(rot_questions **questions);
size_t rot_questions_count(const rot_questions *questions);
// Question i < count; lives as long as the list.
const rot_question *rot_questions_get(const rot_questions *questions, size_t i);

#ifdef __cplusplus
}
#endif
#endif
