// The three tokens around and in the place of latent thoughts, as Coconut names them.
#ifndef ROT_TRAINER_THOUGHT_TOKENS_H
#define ROT_TRAINER_THOUGHT_TOKENS_H

#include "rotoscope/tokenizer.h"
#include "trainer/decoder.h"
#include "trainer/thoughts.h"

// <|start-latent|>, <|end-latent|>, <|latent|> of the tokenizer or, where it has none of them, the
// three ids behind its own; *extra: rows that a model of `rows` rows lacks for them.
// ROT_ERR_USAGE: it has some of them and not all.
int rot_thought_tokens_find(const rot_tokenizer *tokenizer, const char *checkpoint, int32_t rows,
                            rot_thought_tokens *out, uint32_t *extra, rot_err *err);
// Whether the tokenizer has them.
bool rot_thought_tokens_known(const rot_tokenizer *tokenizer);
// Their rows become those of the token "<<", as in Coconut's code.
int rot_thought_tokens_set_rows(const rot_tokenizer *tokenizer, const rot_thought_tokens *tokens,
                                rot_decoder *decoder, rot_err *err);
// Writes them into dir/tokenizer.json as special tokens, if they are not there.
int rot_thought_tokens_save(const char *dir, const rot_thought_tokens *tokens, rot_err *err);

#endif
