#!/bin/sh
# rotoscope train: Coconut and what it is compared with. A run of each, its tokens, answers from it; a kill;
# keys that do not go together.
[ "${SAN:-}" != tsan ] || { echo "the decoder's threads have tests of their own"; exit 77; }
. "$(dirname "$0")/lib.sh"
export OMP_NUM_THREADS=1

rotoscope init-model --arch gpt2-tiny --width 32 --heads 2 --mlp 48 --depth 1 -q lm || exit 1
sed -i 's/_pdrop": 0.0/_pdrop": 0.1/' lm/config.json # as GPT-2 has it
[ "$(grep -c '_pdrop": 0.1' lm/config.json)" = 3 ] || fail "not three dropouts"
rotoscope init-data --like arithmetic --rows 12 --seed 1 -o rows.txt || exit 1
cat >store.yaml <<END
name: d
root: out
splits: {train: {files: [rows.txt], format: gsm8k-aug}}
tokenizer: {path: lm, layout: plain}
END
expect 0 "" rotoscope build -q -c store.yaml
cat >train.yaml <<END
preset: coconut-gsm
out: none
model: {checkpoint: lm}
data: {dataset: out/d.json}
train: {batch: 4, epochs: 3}
optimizer: {lr: 1e-3}
END
train() { rotoscope train --threads 1 -c train.yaml "$@"; }

# Every method trains; the first-listed ones bring their tokens along.
for method in coconut pause cot no-cot no-thoughts icot; do
    expect 0 "9 steps" train --set method=$method --set out=$method
    [ "$(wc -l <$method/train.jsonl)" = 9 ] || fail "$method: not a line per step"
    marks=$(grep -c '<|latent|>' $method/last/model/tokenizer.json)
    case $method in coconut | pause) want=1 ;; *) want=0 ;; esac
    [ "$marks" = $want ] || fail "$method: $marks tokens of latents, not $want"
done
latents() { sed -n "s/.*\"latents\": \([0-9]*\),.*/\1/p" "$1/train.jsonl" | tr '\n' ' '; }
# Samples have 2 to 6 steps. Epoch 3, where the preset begins, is stage 1: two latents for each of 4 samples.
[ "$(latents coconut)" = "8 8 8 8 8 8 8 8 8 " ] || fail "coconut's latents: $(latents coconut)"
[ "$(latents pause)" = "24 24 24 24 24 24 24 24 24 " ] || fail "pauses: $(latents pause)"
[ "$(latents icot)" = "0 0 0 0 0 0 0 0 0 " ] || fail "iCoT's latents: $(latents icot)"
# no-thoughts reads what Coconut reads but latents and marks, cot as many tokens in every epoch, iCoT fewer and fewer.
tokens() { # tokens RUN EPOCH: supervised in it
    sed -n "s/.*\"epoch\": $2,.*\"tokens\": \([0-9]*\),.*/\1/p" "$1/train.jsonl" | awk '{ n += $1 } END { print n }'
}
[ "$(tokens coconut 0)" = "$(tokens no-thoughts 0)" ] || fail "no-thoughts supervises other tokens than coconut"
[ "$(tokens cot 0)" = "$(tokens cot 2)" ] || fail "cot's tokens change"
[ "$(tokens icot 0)" -gt "$(tokens icot 1)" ] && [ "$(tokens icot 1)" -gt "$(tokens icot 2)" ] ||
    fail "iCoT takes nothing out"
[ "$(tokens no-cot 0)" -lt "$(tokens icot 2)" ] || fail "no-cot has steps"
# The same seed gives the same bits, whatever the threads.
expect 0 "" rotoscope train -q --threads 2 -c train.yaml --set method=coconut --set out=two
cmp -s coconut/last/state.safetensors two/last/state.safetensors || fail "two threads give other bits"
# Dropouts are the config's, the adapter's beside them.
expect 0 "" train --set method=coconut --set out=whole --set model.dropout=false
cmp -s coconut/last/state.safetensors whole/last/state.safetensors && fail "the model's dropout changes nothing"
adapt="--set method=cot --set model.tuning=lora --set model.dropout=false"
expect 0 "" train $adapt --set lora.targets=c_attn --set lora.r=4 --set out=lora
expect 0 "" train $adapt --set lora.targets=c_attn --set lora.r=4 --set out=undropped --set lora.dropout=0
cmp -s lora/last/state.safetensors undropped/last/state.safetensors && fail "the adapter's dropout changes nothing"
expect 0 "" train $adapt --set model.adapter=lora/last/adapter --set out=onward --set train.max_steps=1
# What was trained goes on, and answers; its tokens are in the tokenizer now.
expect 0 "" train --set out=next --set model.checkpoint=coconut/last/model --set train.max_steps=1
expect 0 "12 of 12" rotoscope generate --threads 1 -m coconut/last/model --method coconut --latents 6 -f gsm8k-aug rows.txt \
    -o p.jsonl --max-new-tokens 4
expect 0 "12 of 12" rotoscope generate --threads 1 -m pause/last/model --method pause --latents 6 -f gsm8k-aug rows.txt \
    -o p.jsonl --max-new-tokens 4

# A classifier that ends thinking: fitted to what the model thinks of its questions, read beside the model.
answer() { rotoscope generate -q --threads 1 -m coconut/last/model --method coconut --latents 6 -f gsm8k-aug rows.txt \
    -o p.jsonl --max-new-tokens 1 "$@"; }
expect 2 "stop.safetensors: no such file" answer --stop classifier
expect 0 "" answer --fit-stop 1
[ -s coconut/last/stop.safetensors ] || fail "no classifier beside the model"
expect 0 "" answer --stop classifier
# Samples have 2 to 6 steps. With 32 weights it knows most of the 12 samples that it was fitted to.
sed -n 's/.*"latents": \([0-9]*\),.*/\1/p' p.jsonl >counts
awk '{ print gsub(/<</, "") }' rows.txt >steps
equal=$(paste counts steps | awk '$1 == $2 { n++ } END { print n + 0 }')
[ "$equal" -ge 9 ] || fail "thoughts as many as steps in $equal of 12 samples"
expect 2 "is of Coconut's latents" rotoscope generate -m pause/last/model --method pause --stop classifier -f gsm8k-aug \
    rows.txt -o p.jsonl
expect 2 "nothing stops" answer --fit-stop 1 --stop token
expect 2 "has no effect with this stop" answer --classifier coconut/last/stop.safetensors
expect 1 "no weight and bias" answer --stop classifier --classifier lm/model.safetensors
cp coconut/last/stop.safetensors narrow && printf '\100' | dd of=narrow bs=1 seek=3 conv=notrunc 2>/dev/null
expect 1 "narrow" answer --stop classifier --classifier narrow
# The model that was trained goes on training: its folder has no other tensors than its own.
expect 0 "" train --set out=next --set model.checkpoint=coconut/last/model --set train.max_steps=2

# The curriculum moves on, the optimizer forgets where it does.
expect 0 "" train --set out=stages --set thoughts.epochs_per_stage=1 --set thoughts.first_epoch=1 --set optimizer.reset=stage
[ "$(latents stages)" = "8 8 8 16 16 16 24 24 24 " ] || fail "stages: $(latents stages)"
expect 0 "" train --set out=padded --set thoughts.epochs_per_stage=1 --set thoughts.first_epoch=1 \
    --set thoughts.group_per_step=true --set thoughts.pad_to_max=false
[ "$(latents padded)" != "$(latents stages)" ] || fail "samples of two steps have three groups of thoughts"

# Killed at any moment: the same bits.
timeless() { sed 's/, "samples_per_s.*//' "$1/train.jsonl"; }
deaths=0
for seconds in 0.03 0.06 0.1 0.15 0.2 0.3; do
    "$ROTOSCOPE" train -q --threads 1 -c train.yaml --set out=killed --set checkpoint.every=1 >out.txt 2>err.txt &
    pid=$!
    sleep $seconds
    kill -KILL $pid 2>/dev/null
    wait $pid || deaths=$((deaths + 1))
done
[ $deaths -gt 0 ] || fail "it was never killed"
expect 0 "9 steps" train --set out=killed --set checkpoint.every=1
cmp -s coconut/last/state.safetensors killed/last/state.safetensors || fail "another state after $deaths kills"
cmp -s coconut/last/model/model.safetensors killed/last/model/model.safetensors || fail "another model after kills"
timeless coconut >want && timeless killed >got && cmp -s want got || fail "another log after $deaths kills"

# Keys that do not go together: file, line and why.
refuse() { # refuse WORDS LINE...: lines of a config's own
    words=$1
    shift
    { cat train.yaml; printf '%s\n' "$@"; } >bad.yaml
    expect 2 "$words" rotoscope train -q -c bad.yaml --plan
    grep -q "bad.yaml:8" err.txt || fail "no line: $(cat err.txt)"
}
lines=$(wc -l <train.yaml)
[ "$lines" = 6 ] || fail "train.yaml has $lines lines"
refuse "icot.per_epoch has no effect with this method" "method: coconut" "icot: {per_epoch: 3}"
refuse "thoughts.uniform has no effect without a curriculum" "method: pause" "thoughts: {uniform: 0.3}"
refuse "thoughts.per_step has no effect with this method" "method: no-thoughts" "thoughts: {per_step: 3}"
refuse "thoughts.max_stage has no effect with this method" "method: icot" "thoughts: {max_stage: 1}"
refuse "rot.stage has no effect with this method" "method: coconut" "rot: {stage: 2}"
refuse "loss.vision has no effect with this method" "method: cot" "loss: {vision: 1}"
refuse "thoughts.steps: there is no 'sentences'; the nearest is 'sentence'" "method: cot" "thoughts: {steps: sentences}"
refuse "thoughts.max_stag" "method: coconut" "thoughts: {max_stag: 1}"
expect 2 "this preset is not for this method" train --set method=rot
expect 2 "adds tokens, which an adapter does not train" train --set model.tuning=lora
expect 2 "nothing trains" train --set method=cot --set model.tuning=none

# Graphs: six thoughts a sample in the last stage.
rotoscope init-data --like prosqa --rows 4 -o graphs.json && cat >graphs.yaml <<END
name: g
root: out
splits: {train: {files: [graphs.json], format: prosqa}}
tokenizer: {path: lm, layout: plain}
END
expect 0 "" rotoscope build -q -c graphs.yaml
expect 0 "" train --set preset=coconut-prosqa --set data.dataset=out/g.json --set out=graphs --set train.max_steps=1 \
    --set thoughts.first_epoch=30 --set train.batch=2
[ "$(latents graphs)" = "12 " ] || fail "six thoughts a graph: $(latents graphs)"

# The examples are configs.
for f in gsm prosqa; do
    expect 0 "done" rotoscope train --plan -c "$TOP/configs/train/coconut-$f.yaml" --set model.checkpoint=lm \
        --set data.dataset=out/d.json --set data.valid=train --set out=plan
done
finish
