#!/bin/sh
# Scores from the command line: figures on stdout, samples in a file, exit codes.
[ "${SAN:-}" != tsan ] || { echo "one thread: nothing for TSan"; exit 77; }
. "$(dirname "$0")/lib.sh"

printf 'How many?||<<1+2=3>> #### 3\nAnd now?||<<3*4=12>> #### 1,200\n' >questions
printf '{"id": "0", "prediction": "assistant\\n### 3 ", "latents": 4}\n{"id": 1, "prediction": "### 1200"}\n' >good
printf '{"id": "0", "prediction": "### -3"}\n' >half

expect 0 '"pass_at_1": {' rotoscope evaluate -p good -f gsm8k-aug questions -o samples
[ -s err.txt ] && fail "words on stderr"
grep -q '"mean": 100' out.txt || fail "not all right"
[ "$(wc -l <samples)" = 2 ] || fail "not two samples"
grep -q '"released": {"answer": "1200", "right": false}' samples || fail "the published rule reads 1,200 as 200"
expect 0 '"failures": 1' rotoscope evaluate -p good -p half -f gsm8k-aug questions
grep -q '"seeds": \[' out.txt || fail "no seeds"

printf '{"id": "a", "prediction": "5", "ground_truth": "5"}\n' >own
expect 0 '"questions": 1' rotoscope evaluate --predictions own
expect 1 "'answer' is missing" rotoscope evaluate -p half
expect 1 "no question has the id" rotoscope evaluate -p own -f gsm8k-aug questions
expect 2 "which --predictions" rotoscope evaluate
expect 2 "of which --format" rotoscope evaluate -p good questions
expect 2 "there is no format 'x'" rotoscope evaluate -p good -f x questions
expect 2 "no such file" rotoscope evaluate -p nowhere
expect 2 "only a store has splits" rotoscope evaluate -p good -f gsm8k-aug --split a questions
: >empty
expect 1 "no predictions" rotoscope evaluate -p empty
expect 1 "" rotoscope evaluate -p own -o /no/such/folder/x
expect 0 "published rule" rotoscope evaluate --help

finish
