#!/bin/sh
# rotoscope train: the plan, a run, its files; what it refuses and with which words.
. "$(dirname "$0")/../cli/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
export OMP_NUM_THREADS=1

expect 2 "-c TRAIN is missing" rotoscope train
expect 2 "no such file" rotoscope train -c none.yaml
expect 0 "" rotoscope train --keys
cmp -s out.txt "$TOP/docs/train-keys.md" || fail "docs/train-keys.md is old: make docs"

store_to_train 1 9
cat >one.yaml <<END
out: run
model: {checkpoint: lm}
data: {dataset: out/d.json}
train: {batch: 4, epochs: 2}
rot: {head_width: 16}
END
expect 0 "3 micro-batches an epoch, 6 steps, 0 done" rotoscope train -c one.yaml --plan
[ ! -e run ] || fail "a plan wrote something"
expect 0 "6 steps, 18 samples" rotoscope train -c one.yaml --threads 1
for f in head.safetensors tokens.safetensors state.safetensors training_state.json train.yaml rot.json; do
    [ -s "run/last/$f" ] || fail "no run/last/$f"
done
[ "$(wc -l <run/train.jsonl)" = 6 ] || fail "not a line per step"
expect 0 '"early_stop":false' rotoscope train -c one.yaml --json
expect 2 "optimizer.lr was 2e-05, now it is 0.1" rotoscope train -c one.yaml --set optimizer.lr=0.1
expect 2 "optimizer.lr was 2e-05, now it is 0.1" rotoscope train -c one.yaml --set optimizer.lr=0.1 --plan
expect 0 "6 steps, 6 done" rotoscope train -c one.yaml --plan
expect 2 "'optimizer.lr'" rotoscope train -c one.yaml --set optimizer.rl=0.1
expect 2 "no effect without model.tuning: lora" rotoscope train -c one.yaml --set lora.r=4
expect 2 "rot.head is missing" rotoscope train -c one.yaml --set rot.stage=2
expect 1 "no split 'dev'" rotoscope train -c one.yaml --set out=other --set data.split=dev

# Samples and stores that do not fit, by name.
expect 1 "sample 'r" rotoscope train --threads 1 -c one.yaml --set out=other --set rot.max_latents=1
grep -q "over rot.max_latents: 1" err.txt || fail "not why: $(cat err.txt)"
sed 's/^name: d/name: p/; s/path: lm/path: lm, layout: plain/' store.yaml >plain.yaml
expect 0 "" rotoscope build -q -c plain.yaml
expect 2 "layout 'plain'" rotoscope train -c one.yaml --set out=other --set data.dataset=out/p.json
sed '/^encode/d; s/^name: d/name: i/' store.yaml >images.yaml
expect 0 "" rotoscope build -q -c images.yaml
expect 2 "no embeds stage" rotoscope train -c one.yaml --set out=other --set data.dataset=out/i.json

# Stage II from it, with an adapter and with all weights.
expect 0 "" rotoscope train -q --threads 1 -c one.yaml --set out=lora --set rot.stage=2 --set rot.head=run/last \
    --set rot.head_width=4096 --set train.epochs=1
[ -s lora/last/adapter/adapter_model.safetensors ] || fail "no adapter"

# The adapter added to the model: the same latents, and others without it.
expect 0 "" rotoscope train -q --threads 1 -c one.yaml --set out=strong --set rot.stage=2 --set rot.head=run/last \
    --set rot.head_width=4096 --set train.epochs=1 --set optimizer.lr=1
expect 0 "" rotoscope merge -m lm --head strong/last -o merged --threads 1
latents() { # FILE MODEL HEAD
    expect 0 "" rotoscope generate -q --threads 1 ${2:+-m $2} --head "$3" --latents 3 --max-new-tokens 1 \
        -f store out/d.json --split train -o p --latents-out "$1"
}
latents beside lm strong/last
latents within "" merged
latents without lm run/last
apart() { # the largest distance of a norm of one from the other's, relative
    paste "$1.tsv" "$2.tsv" | awk 'NR > 1 { n = split($0, f, "\t"); a = f[4]; b = f[n / 2 + 4]; e = (a - b) / b
        if (e < 0) e = -e; if (e > most) most = e } END { print (most < 1e-5 ? "equal" : most > 1e-2 ? "other" : most) }'
}
[ "$(apart beside within)" = equal ] || fail "other latents of the merged model: $(apart beside within)"
[ "$(apart beside without)" = other ] || fail "the adapter changes nothing: $(apart beside without)"
expect 2 "merged is there already" rotoscope merge -m lm --head strong/last -o merged
expect 2 "which adapter" rotoscope merge -m lm -o none
expect 2 "adapter_config.json: no such file" rotoscope merge -m lm --head run/last -o none
[ -e none ] && fail "a folder in spite of the error"

# Stage II needs K alone: pictures give it, and the same run.
expect 0 "" rotoscope train -q --threads 1 -c one.yaml --set out=counted --set rot.stage=2 --set rot.head=run/last \
    --set rot.head_width=4096 --set train.epochs=1 --set data.dataset=out/i.json --set data.geometry=native
cmp -s lora/last/state.safetensors counted/last/state.safetensors || fail "another run without embeddings"
expect 2 "was trained on geometry 'native'" rotoscope train -c one.yaml --set out=other --set rot.stage=2 \
    --set rot.head=run/last --set rot.head_width=4096 --set data.dataset=out/i.json --set data.geometry=patch16
expect 0 "" rotoscope train -q --threads 1 -c one.yaml --set out=full --set rot.stage=2 --set rot.head=run/last \
    --set rot.head_width=4096 --set train.epochs=1 --set model.tuning=full
[ -s full/last/model/model.safetensors ] || fail "no model"
expect 0 "" rotoscope train -q --threads 1 -c one.yaml --set out=next --set model.checkpoint=full/last/model \
    --set train.max_steps=1

# The examples are configs; released's second stage needs its first's head.
for f in "$TOP"/configs/train/rot-*.yaml; do
    case $f in *stage2*) head="--set rot.head=run/last" ;; *) head="" ;; esac
    # shellcheck disable=SC2086
    expect 0 "done" rotoscope train --plan -c "$f" --set model.checkpoint=lm --set data.dataset=out/d.json \
        --set data.valid=train --set out=plan $head
done

# Early stop: nothing trains with a rate of 0, so that no validation is better than the first.
expect 0 '"early_stop":true' rotoscope train --json --threads 1 -c one.yaml --set out=early --set optimizer.lr=0 \
    --set data.valid=train --set train.epochs=9 --set valid.patience=2
grep -q '"step":9,' out.txt || fail "not after three epochs: $(cat out.txt)"

# A signal.
"$ROTOSCOPE" train -q --threads 1 -c one.yaml --set out=stopped --set train.epochs=100000 >out.txt 2>err.txt &
pid=$!
i=0
while [ ! -s stopped/train.jsonl ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
kill -USR1 "$pid"
wait "$pid"
got=$?
[ "$got" = 75 ] && [ -s stopped/last/training_state.json ] || fail "a signal: exit $got: $(cat err.txt)"

# Files that are broken.
cp -r run broken
head -c 3000 run/last/state.safetensors >cut && rm -f broken/step-*/state.safetensors
cp cut broken/step-00000006/state.safetensors
expect 1 "state.safetensors" rotoscope train -c one.yaml --set out=broken
cp run/last/state.safetensors broken/step-00000006/
echo '{"format": 1' >broken/step-00000006/training_state.json
expect 1 "training_state.json" rotoscope train -c one.yaml --set out=broken
finish
