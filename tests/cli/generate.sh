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

# A run that is killed leaves what it has; the same command goes on behind it.
rotoscope init-data --like arithmetic --rows 300 --seed 2 -o many || fail "no questions"
ask="-m model --method coconut --latents 3 -f gsm8k-aug many --max-new-tokens 4 --temperature 1 --batch 1 --json"
run 0 "" rotoscope generate $ask -o whole
"$ROTOSCOPE" generate $ask -o cut 2>/dev/null &
pid=$!
for i in $(seq 2000); do
    [ -e cut.part ] && [ "$(wc -l <cut.part)" -gt 3 ] && break
    sleep 0.01
done
kill -9 $pid
wait $pid 2>/dev/null
[ -e cut.part ] || fail "no part of a run that was killed"
[ -e cut ] && fail "predictions of a run that was killed"
head -c -5 cut.part >torn && cp torn cut.part # a line that is not whole
left=$(($(wc -l <cut.part) - 1))
cp cut.part kept
run 2 "'latents' was 3, is 2" rotoscope generate $ask -o cut --latents 2
cp many other && sed -i "300s/Start/Begin/" other
run 2 "'questions' was" rotoscope generate -f gsm8k-aug other -o cut ${ask% -f*} ${ask#*many}
cmp -s cut.part kept || fail "a refused run touches what is there"
run 0 "{\"done\": $((left + 1)), \"total\": 300" rotoscope generate $ask -o cut --batch 1
[ -e cut.part ] && fail "a part beside the whole"
head -n $left cut >first
tail -n +2 kept | head -n $left | cmp -s - first || fail "what was there did not stay"
for f in whole cut; do sed 's/"seconds": [0-9.]*//' $f >$f.bare; done
cmp -s whole.bare cut.bare || fail "a run that was killed ends in other answers"

run 2 "which model" rotoscope generate -f gsm8k-aug questions -o x
run 2 "where to" rotoscope generate -m model -f gsm8k-aug questions
run 2 "--stop takes" rotoscope generate -m model -f gsm8k-aug questions -o x --method coconut --stop soon
run 2 "--method takes" rotoscope generate -m model -f gsm8k-aug questions -o x --method guess
run 2 "has no effect" rotoscope generate -m model -f gsm8k-aug questions -o x --latents 3
run 2 "no graphs" rotoscope generate -m model -f gsm8k-aug questions -o x --method coconut --tree-out t
run 2 "" rotoscope generate -m nowhere -f gsm8k-aug questions -o x
[ -e x ] && fail "a file in spite of the error"

finish
