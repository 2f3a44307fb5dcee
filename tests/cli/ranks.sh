#!/bin/sh
# One root built by many ranks, as plain processes: any number of them, killed, stopped, in another number the
# next time; always the root hash of a build by one process.
[ "${SAN:-}" != tsan ] || { echo "too slow under TSan: the unit tests cover its threads"; exit 77; }
. "$(dirname "$0")/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
unset RANK WORLD_SIZE SLURM_STEP_ID SLURM_ARRAY_TASK_ID SLURM_ARRAY_TASK_COUNT
rows 64 >rows.jsonl
rows 12 >more.jsonl
small="store: {shard_samples: 8, commit_samples: 4}"
config whole rows.jsonl "$small" "$encode"
sed -i "s|^splits:.*|splits: {train: {files: [rows.jsonl], format: jsonl}, test: {files: [more.jsonl], format: jsonl}}|" \
    whole.yaml
expect 0 "" rotoscope build -q --threads 1 -c whole.yaml
want=$(root_of out-whole/whole.json)

# launch NAME N [OPTION...]: N ranks of a build in the background, their pids in $pids.
launch() {
    name=$1 n=$2
    shift 2
    pids="" r=0
    while [ "$r" -lt "$n" ]; do
        RANK=$r WORLD_SIZE=$n "$ROTOSCOPE" build -q --threads 1 -c "$name.yaml" "$@" >"$name.$r.txt" 2>&1 &
        pids="$pids $!"
        r=$((r + 1))
    done
}
# join CODES: every rank ends with one of these codes ("0 75").
join() {
    for pid in $pids; do
        wait "$pid"
        got=$?
        case " $1 " in *" $got "*) ;; *) fail "$name: a rank ends with $got, not $1"; tail -n 3 "$name".*.txt ;; esac
    done
}
# same NAME: it is the same store, sound, with nothing left over.
same() {
    [ "$(root_of "out-$1/$1.json")" = "$want" ] || fail "$1: another root"
    sed "s/$1/whole/g" "out-$1/$1.json" | grep -v sha256 >a.txt
    grep -v sha256 out-whole/whole.json >b.txt
    cmp -s a.txt b.txt || fail "$1: another dataset file"
    expect 0 "" rotoscope verify -q "out-$1"
    [ -z "$(find "out-$1/stages" -name '*.tmp*')" ] || fail "$1: unfinished shards are left"
    [ -z "$(ls -A "out-$1/.rotoscope/claims")" ] || fail "$1: claims are left: $(ls "out-$1/.rotoscope/claims")"
}
fresh() { sed "s/whole/$1/" whole.yaml >"$1.yaml"; }

for n in 1 2 8; do
    fresh "by$n"
    launch "by$n" "$n"
    join 0
    same "by$n"
done

# Every rank had a part: nobody waits for the first to do it all.
made=$(cat by2.?.txt | wc -c)
[ "$made" = 0 ] || fail "-q is not quiet"

# A finished build answers every rank at once and changes nothing.
find out-by2 -type f -exec stat -c '%n %Y %i %s' {} + | sort >before.txt
launch by2 3
join 0
find out-by2 -type f -exec stat -c '%n %Y %i %s' {} + | sort >after.txt
cmp -s before.txt after.txt || fail "a second run changes files"

# kill -9 of ranks in the middle, other numbers of ranks in between.
fresh killed
round=0
for n in 2 8 3; do
    round=$((round + 1))
    launch killed "$n"
    sleep "0.$((2 + round))"
    for pid in $pids; do kill -9 "$pid" 2>/dev/null; [ "$n" = 3 ] && break; done
    if [ "$n" = 3 ]; then join "0 137"; else join "0 137"; fi
done
launch killed 4
join 0
same killed

# A build alone takes up what killed ranks have left.
fresh alone
launch alone 4
sleep 0.5
kill -9 $pids 2>/dev/null
join "0 137"
expect 0 "" rotoscope build -q --threads 1 -c alone.yaml
same alone

# SIGUSR1: the commit unit is finished, exit 75, the next run goes on where it stood.
fresh drained
launch drained 2
sleep 0.4
kill -USR1 $pids 2>/dev/null
join "0 75"
[ -z "$(find out-drained/stages -name 'shard-*-*.tmp')" ] || fail "a drained shard still has an owner"
launch drained 3
join 0
same drained

# What killed ones have left beside a finished dataset is collected by gc.
cp -r out-drained out-left
stage=$(find out-left/stages -path '*embeds*' -name 'shard-00001.mdb' | head -n 1)
cp "$stage" "$stage.there-1-0.tmp"
echo '{}' >"${stage%/*}/stage.json.tmp.there-1-0"
echo '{}' >out-left/.rotoscope/memo.json.tmp.there-1-0
echo '{}' >out-left/drained.json.tmp.there-1-0
echo 'mine' >out-left/mine.tmp
echo '{}' >out-left/.rotoscope/claims/prepare.drained
expect 0 "shard-00001.mdb.there-1-0.tmp" rotoscope gc out-left
expect 0 "stage.json.tmp.there-1-0" rotoscope gc --remove out-left
expect 2 "gc takes a root, not a dataset" rotoscope gc out-left/drained.json
[ "$(find out-left -name '*.tmp*')" = out-left/mine.tmp ] || fail "gc leaves $(find out-left -name '*.tmp*')"
[ -z "$(ls -A out-left/.rotoscope/claims)" ] || fail "gc leaves claims"
expect 0 "" rotoscope verify -q out-left

# status: who works on what, who is gone, how to go on.
fresh seen
launch seen 2
tries=0
until [ "$(ls out-seen/.rotoscope/claims 2>/dev/null | grep -c '^embeds\|^rank')" -ge 3 ]; do
    [ $((tries += 1)) -lt 3000 ] || { fail "no rank at work"; break; }
    sleep 0.01
done
kill -STOP $pids
expect 0 "" rotoscope status --json out-seen
python3 - out.txt "${pids##* }" <<'END' || fail "status of stopped ranks: $(cat out.txt)"
import json, sys
status = json.load(open(sys.argv[1]))
claims = [c for s in status["stages"] for c in s.get("claims", [])] + status["preparing"]
assert status["building"] and claims and all(c["state"] == "running" for c in claims), claims
assert int(sys.argv[2]) in [c["pid"] for c in status["ranks"]]
assert status["go_on"].startswith("rotoscope build -c '")
END
kill -9 $pids
join 137
expect 0 " stale " rotoscope status out-seen
expect 0 "to go on: rotoscope build" rotoscope status out-seen
launch seen 2
join 0
same seen

# A killed rank is known to be gone at once, even if whoever started it has not asked for its exit code.
fresh unasked
launch unasked 2 --stale 3000
sleep 0.3
set -- $pids
kill -9 "$1" || fail "no rank to kill"
tries=0
while [ ! -e out-unasked/unasked.json ] && [ $((tries += 1)) -lt 600 ]; do sleep 0.1; done
[ -e out-unasked/unasked.json ] || { fail "a killed rank is waited for"; kill -9 "$2"; }
join "0 137"
same unasked

# The first rank is stopped while it prepares or encodes; the others take its work over and finish; it wakes
# up, finishes too: the same store.
for delay in 0.05 0.3 0.5; do
    fresh asleep
    rm -rf out-asleep
    launch asleep 3 --stale 0.6
    first=${pids%% [0-9]*}
    set -- $pids
    sleep "$delay"
    kill -STOP "$1"
    sleeper=$1
    pids="$2 $3"
    join 0
    [ "$(root_of out-asleep/asleep.json)" = "$want" ] || fail "another root beside a stopped rank"
    kill -CONT "$sleeper"
    pids=$sleeper
    join 0
    same asleep
done

# A build alone and ranks keep each other out.
fresh locked
mkdir -p out-locked/.rotoscope
: >out-locked/.rotoscope/lock
flock -s out-locked/.rotoscope/lock sleep 1.5 &
expect 1 "another build" rotoscope build -q -c locked.yaml
wait
flock -x out-locked/.rotoscope/lock sleep 6 &
holder=$!
RANK=0 WORLD_SIZE=2 expect 1 "no rank of ours" rotoscope build -q -c locked.yaml
kill $holder 2>/dev/null
wait

# What a launcher says must be whole; flags come first.
RANK=0 expect 2 "WORLD_SIZE" rotoscope build -q -c by2.yaml
SLURM_STEP_ID=0 SLURM_PROCID=3 expect 2 "SLURM" rotoscope build -q -c by2.yaml
expect 2 "belong together" rotoscope build -q -c by2.yaml --rank 1
expect 2 "rank 2 of 2" rotoscope build -q -c by2.yaml --rank 2 --ranks 2
RANK=0 expect 0 "" rotoscope build -q -c by2.yaml --rank 1 --ranks 2

# The first rank fails: the others say why and do not wait for it.
fresh bad
printf 'no json\n' >bad.jsonl
sed -i 's/rows.jsonl/bad.jsonl/' bad.yaml
launch bad 3 --stale 5
join 1
grep -q "bad.jsonl" bad.2.txt || fail "the last rank does not say what is wrong: $(cat bad.2.txt)"

# A machine with another backend refuses, and names both.
fresh mixed
launch mixed 1
join 0
rm -rf out-mixed/mixed.json out-mixed/stages/embeds-*
planned=$(sed -n 's/.*"backend": "\(.*\)".*/\1/p' out-mixed/.rotoscope/mixed.plan.json)
ROT_CPU=ref RANK=0 WORLD_SIZE=2 expect 1 "planned for backend '$planned'" rotoscope build -q -c mixed.yaml
grep -q "computes with 'ref" err.txt || fail "the other backend is not named: $(cat err.txt)"

# Unfinished shards on scratch: the same store, and nothing stays there.
fresh near
launch near 2 --scratch "$PWD/scr atch"
join 0
same near
[ -d "scr atch" ] && [ -z "$(ls -A "scr atch")" ] || fail "scratch is not empty or was not used"
fresh far
launch far 2 --scratch "$PWD/scr atch"
sleep 0.4
kill -TERM $pids 2>/dev/null
join "0 75"
rm -rf "scr atch" # another machine goes on
launch far 2 --scratch "$PWD/other"
join 0
same far

finish
