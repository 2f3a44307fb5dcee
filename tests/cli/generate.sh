#!/bin/sh
# Answers from the command line: a small model, latents out, scores, exit codes.
[ "${SAN:-}" != tsan ] || { echo "the decoder's threads have tests of their own"; exit 77; }
. "$(dirname "$0")/lib.sh"

rotoscope init-model model --arch qwen3-tiny --depth 2 --seed 3 || fail "no model"
rotoscope init-data --like arithmetic --rows 5 --seed 1 -o questions || fail "no questions"
run() { expect "$@"; }

run 0 "5 of 5 questions" rotoscope generate -m model -f gsm8k-aug questions -o plain --max-new-tokens 4
[ "$(wc -l <plain)" = 5 ] || fail "not five predictions"
run 0 '"failures": 0' rotoscope evaluate -p plain -f gsm8k-aug questions

run 0 "" rotoscope generate -m model --method coconut --latents 3 -f gsm8k-aug questions -o c1 -q --max-new-tokens 4 \
    --latents-out l.safetensors --batch 2
[ -s err.txt ] && fail "words in spite of -q"
[ "$(wc -l <l.safetensors.tsv)" = 16 ] || fail "not a line for each latent"
grep -q '"0.latents"' l.safetensors || fail "no latents of question 0"
run 0 "" rotoscope generate -m model --method coconut --latents 3 -f gsm8k-aug questions -o c2 -q --max-new-tokens 4 \
    --threads 1
for f in c1 c2; do sed 's/"seconds": [0-9.]*//' $f >$f.bare; done
cmp -s c1.bare c2.bare || fail "batch or threads change answers"

run 2 "which model" rotoscope generate -f gsm8k-aug questions -o x
run 2 "where to" rotoscope generate -m model -f gsm8k-aug questions
run 2 "--stop takes" rotoscope generate -m model -f gsm8k-aug questions -o x --method coconut --stop soon
run 2 "--method takes" rotoscope generate -m model -f gsm8k-aug questions -o x --method guess
run 2 "has no effect" rotoscope generate -m model -f gsm8k-aug questions -o x --latents 3
run 2 "no graphs" rotoscope generate -m model -f gsm8k-aug questions -o x --method coconut --tree-out t
run 2 "" rotoscope generate -m nowhere -f gsm8k-aug questions -o x
[ -e x ] && fail "a file in spite of the error"

finish
