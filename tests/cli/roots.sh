#!/bin/sh
# What happens to a root: killed builds, two builds at once, a read-only root, a full disk, a second run.
[ "${SAN:-}" != tsan ] || { echo "too slow under TSan: the unit tests cover its threads"; exit 77; }
. "$(dirname "$0")/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
rows 96 >rows.jsonl
small="store: {shard_samples: 32, commit_samples: 8}"

config whole rows.jsonl "$small" "$encode"
expect 0 "" setsid "$ROTOSCOPE" build -q -c whole.yaml # no terminal
expect 0 "" rotoscope verify out-whole
want=$(root_of out-whole/whole.json)

# kill -9 in the middle, again and again: never anything that reads as complete, and the same root at the end.
sed 's/whole/killed/' whole.yaml >killed.yaml
kills=0
for delay in 0.05 0.1 0.2 0.3 0.4 0.5 0.6; do
    "$ROTOSCOPE" build -q -c killed.yaml >/dev/null 2>&1 &
    pid=$!
    sleep "$delay"
    kill -9 "$pid" 2>/dev/null && kills=$((kills + 1))
    wait "$pid" 2>/dev/null
    [ ! -e out-killed/killed.json ] || { rotoscope verify out-killed >/dev/null 2>&1 || fail "complete and not sound"; }
done
[ "$kills" -gt 2 ] || fail "only $kills kills"
expect 0 "" rotoscope build -q -c killed.yaml
[ "$(root_of out-killed/killed.json)" = "$want" ] || fail "another root after kills"
expect 0 "" rotoscope verify out-killed/killed.json
[ -z "$(find out-killed/stages -name '*.tmp*')" ] || fail "a finished build leaves unfinished shards"

# SIGTERM: the commit unit is finished, exit 75, and the next run goes on.
sed 's/whole/stopped/' whole.yaml >stopped.yaml
"$ROTOSCOPE" build -q -c stopped.yaml >/dev/null 2>err.txt &
pid=$!
sleep 0.4
kill -TERM "$pid" 2>/dev/null
wait "$pid"
got=$?
case $got in 75) ;; 0) echo "note: the build was done before the signal" ;; *) fail "SIGTERM: exit $got" ;; esac
expect 0 "" rotoscope build -q -c stopped.yaml
[ "$(root_of out-stopped/stopped.json)" = "$want" ] || fail "another root after SIGTERM"

# A closed stderr: its number is not given to a file of the root, which words would then go into.
config closed rows.jsonl "$small"
"$ROTOSCOPE" build -c closed.yaml >/dev/null 2>&- || fail "a build without stderr"
grep -rqF "rows/s" out-closed && fail "progress in a file of the root"
[ ! -s out-closed/.rotoscope/lock ] || fail "words in the lock"

# A plan, or a build that fails before its first row, makes no root.
expect 0 "new" rotoscope build -c whole.yaml --plan --set root=out-plan
expect 2 "nofont.ttf" rotoscope build -c whole.yaml --set root=out-plan --set 'render.fonts=[nofont.ttf]'
[ ! -e out-plan ] || fail "a root without a build"

# A second run of a finished build changes nothing, not even a file's time.
find out-whole -type f -exec stat -c '%n %Y %i %s' {} + | sort >before.txt
expect 0 "" rotoscope build -q -c whole.yaml
find out-whole -type f -exec stat -c '%n %Y %i %s' {} + | sort >after.txt
cmp -s before.txt after.txt || fail "a second run changes files"

# A byte flips: exit 3, a line that names the record's shard.
for stage in tokens images embeds; do
    rm -rf out-flip
    cp -r out-whole out-flip
    shard=$(find out-flip/stages -path "*$stage-*" -name 'shard-*' | sort | head -n 1)
    python3 - "$shard" <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(0, 2)
    n = f.tell()
    # In the middle of the file: a page of records.
    at = n // 2
    f.seek(at)
    b = f.read(64)
    f.seek(at)
    f.write(bytes(x ^ 0x55 for x in b))
END
    expect 3 "$stage-" rotoscope verify out-flip/whole.json
    expect 3 "" rotoscope verify out-flip
done
rm -rf out-flip
cp -r out-whole out-flip
shard=$(find out-flip/stages -path '*embeds-*' -name 'shard-*' | sort | head -n 1)
head -c "$(($(wc -c <"$shard") / 2))" "$shard" >cut && cat cut >"$shard"
expect 3 "embeds-" rotoscope verify out-flip/whole.json
rm "$shard"
expect 3 "embeds-" rotoscope verify out-flip/whole.json

# A build does not call a stage finished whose shard is gone: it makes it again, to the same root.
for stage in tokens images embeds; do
    rm -rf out-gone
    cp -r out-whole out-gone
    rm "$(find out-gone/stages -path "*$stage-*" -name 'shard-*' | sort | tail -n 1)"
    expect 3 "$stage-" rotoscope verify out-gone
    expect 0 "" rotoscope build -q -c whole.yaml --set root=out-gone
    expect 0 "" rotoscope verify out-gone
    [ "$(root_of out-gone/whole.json)" = "$want" ] || fail "another root after a shard was made again"
done

# Two builds on one root: one works, the other says so and touches nothing.
rows 4000 >many.jsonl
config both many.jsonl "$encode"
"$ROTOSCOPE" build -q -c both.yaml >/dev/null 2>&1 &
pid=$!
tries=0
while [ ! -e out-both/stages ] && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
expect 1 "another" rotoscope build -q -c both.yaml
kill -TERM "$pid" 2>/dev/null
wait "$pid"
got=$?
[ "$got" = 75 ] || fail "the first of two builds: exit $got, not 75"

# A root goes where it is moved to, its config with it: finished, on a read-only file system, and half built.
cp -a out-whole "moved away"
(cd "moved away" && find . -type f -exec sha256sum {} + | sort) >before.txt
mv out-whole out-hidden
expect 0 "moved away/whole.json" rotoscope build -c "moved away/whole.yaml"
(cd "moved away" && expect 0 "whole.json" rotoscope build -c whole.yaml && rm -f out.txt err.txt)
[ ! -e out-whole ] || fail "a moved root is built where it was"
(cd "moved away" && find . -type f -exec sha256sum {} + | sort) >after.txt
cmp -s before.txt after.txt || fail "a finished root is changed by a build after it was moved: $(diff before.txt after.txt)"
if [ "$(id -u)" = 0 ] && mkdir still && mount -t tmpfs none still 2>/dev/null; then
    cp -a "moved away" still/out
    mount -o remount,ro still
    expect 0 "" rotoscope build -q -c still/out/whole.yaml
    umount still
fi
rm -rf "moved away"/whole.* "moved away"/stages/embeds-*
expect 0 "" rotoscope build -q -c "moved away/.rotoscope/whole.yaml"
[ "$(root_of "moved away/whole.json")" = "$want" ] || fail "another root after it was moved"
grep -q '^root: "."' "moved away/whole.yaml" || fail "no relative root: $(grep ^root "moved away/whole.yaml")"
rm -f "moved away/whole.yaml"
expect 0 "" rotoscope repair -q "moved away/whole.json"
grep -q '^root: "."' "moved away/whole.yaml" || fail "repair: another root: $(grep ^root "moved away/whole.yaml")"
expect 0 "" rotoscope verify -q "moved away"
mv out-hidden out-whole

# A root that cannot be written.
config deep rows.jsonl
sed 's|^root:.*|root: /proc/rotoscope|' deep.yaml >proc.yaml
expect 1 "/proc/rotoscope" rotoscope build -q -c proc.yaml
: >afile
sed 's|^root:.*|root: afile|' deep.yaml >file.yaml
expect 1 "afile" rotoscope build -q -c file.yaml
if [ "$(id -u)" = 0 ] && mkdir ro && mount -t tmpfs -o ro none ro 2>/dev/null; then
    sed 's|^root:.*|root: ro/out|' deep.yaml >ro.yaml
    expect 1 "ro/out" rotoscope build -q -c ro.yaml
    umount ro
fi

# A stage that the dataset names and that is gone is corruption, whatever asks for it.
cp -r out-whole out-gone
rm -r out-gone/stages/embeds-*
for verb in "inspect out-gone/whole.json 0" "stats out-gone" \
    "report out-gone/whole.json -o gone.html" "export out-gone/whole.json --to npy -o gone" "verify out-gone"; do
    expect 3 "embeds-" rotoscope $verb
done
rm -r out-gone

# A full disk: exit 1 and "No space"; afterwards nothing reads as complete.
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=400k none small 2>/dev/null; then
    config full many.jsonl "$small"
    sed 's|^root:.*|root: small|' full.yaml >full2.yaml
    expect 1 "pace" rotoscope build -q --no-preflight -c full2.yaml
    [ ! -e small/full.json ] || fail "a dataset on a full disk"
    umount small
else
    echo "note: no mount here: the full disk and the read-only root are not tried"
fi
finish
