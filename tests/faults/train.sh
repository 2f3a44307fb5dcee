#!/bin/sh
# Training that is killed at random moments, stopped by signals, and run on disks that are full: it ends in
# the same bits as a run that nothing happened to.
[ "${SAN:-}" != tsan ] || { echo "too slow under TSan"; exit 77; }
. "$(dirname "$0")/../cli/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
command -v python3 >/dev/null || { echo "no python3"; exit 77; }
export OMP_NUM_THREADS=1

store_to_train 2 24

# training NAME: NAME.yaml; 12 steps of 2 micro-batches, a checkpoint after each step
training() {
    name=$1
    shift
    cat >"$name.yaml" <<END
out: $name
model: {checkpoint: lm}
data: {dataset: out/d.json, valid: train}
train: {batch: 3, accumulate: 2, epochs: 3}
optimizer: {lr: 1e-3}
schedule: {kind: cosine, warmup_steps: 2}
rot: {head_width: 16}
checkpoint: {every: 1, keep: 2}
valid: {every: 5}
END
}
state() { # but how long the log is, whose lines hold seconds
    cat "$1/last/state.safetensors"
    grep -v log_bytes "$1/last/training_state.json"
}
timeless() { sed 's/, "samples_per_s.*//' "$1/train.jsonl"; }
same() { # same NAME: as the whole run
    state "$1" >got.state && state whole >want.state
    cmp -s got.state want.state || fail "$1: another state at the end"
    timeless "$1" >got.log && timeless whole >want.log
    cmp -s got.log want.log || fail "$1: another log"
    [ "$(find "$1" -maxdepth 1 -name '.tmp-*' | wc -l)" = 0 ] || fail "$1: leftovers"
}

training whole
expect 0 "12 steps" rotoscope train --threads 1 -c whole.yaml
[ "$(wc -l <whole/train.jsonl)" = 14 ] || fail "not 12 steps and 2 validations: $(cat whole/train.jsonl)"
[ "$(find whole -maxdepth 1 -name 'step-*' | wc -l)" -le 3 ] || fail "older checkpoints stay"
expect 0 "12 steps" rotoscope train --threads 1 -c whole.yaml # finished: nothing changes
cp -r whole again && same again

# killed NAME SIGNAL: until it ends by itself
killed() {
    rm -rf killed
    deaths=0
    while :; do
        "$ROTOSCOPE" train -q --threads 1 -c killed.yaml >out.txt 2>err.txt &
        pid=$!
        python3 -c 'import random, time; time.sleep(random.random() * 0.25)'
        kill -"$1" "$pid" 2>/dev/null
        wait "$pid"
        got=$?
        [ "$got" = 0 ] && break
        deaths=$((deaths + 1))
        case $1:$got in KILL:137 | TERM:75 | USR1:75 | TERM:143 | USR1:138) ;; *) fail "exit $got after $1: $(cat err.txt)" ;; esac
        [ "$deaths" -lt 200 ] || { fail "it never ends"; break; }
    done
    same killed
}
training killed
rounds=2
[ "${ROT_FAULTS:-}" = full ] && rounds=40
for round in $(seq "$rounds"); do
    killed KILL
done
killed TERM

# A disk that is full at any moment: the checkpoints that were there stay, and the run goes on from them.
if [ "$(id -u)" = 0 ] && mkdir disk && mount -t tmpfs -o size=64m none disk 2>/dev/null; then
    trap 'umount disk 2>/dev/null; rm -rf "$scratch"' EXIT
    training small
    sed -i 's|^out:.*|out: disk/run|' small.yaml
    full=0
    step=48
    [ "${ROT_FAULTS:-}" = full ] && step=8
    size=40
    while [ "$size" -lt 330 ]; do
        rm -rf disk/run
        mount -o remount,size="${size}k" disk
        "$ROTOSCOPE" train -q --threads 1 -c small.yaml >out.txt 2>err.txt
        got=$?
        case $got in
            0) ;;
            1) grep -qi "space" err.txt || fail "a disk of ${size}k: $(cat err.txt)" ;;
            *) fail "a disk of ${size}k: exit $got: $(cat err.txt)" ;;
        esac
        [ $got = 1 ] && full=$((full + 1))
        mount -o remount,size=64m disk
        expect 0 "" rotoscope train -q --threads 1 -c small.yaml
        rm -rf small && cp -r disk/run small
        same small
        size=$((size + step))
    done
    [ "$full" -gt 1 ] || fail "only $full disks were full"
    umount disk
    trap 'rm -rf "$scratch"' EXIT
else
    echo "note: mounting is not permitted: full disks are not tried"
fi
finish
