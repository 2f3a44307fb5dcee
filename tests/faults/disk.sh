#!/bin/sh
# Disks: calls that fail, a full disk (and the look at it beforehand), a read-only root, a root in use, a
# reader beside a build, and an ext4 that is shut down in the middle.
[ "${SAN:-}" != tsan ] || { echo "too slow under TSan"; exit 77; }
. "$(dirname "$0")/../cli/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
. "$TOP/tests/faults/lib.sh"
faults io
faults late
faults reader

rows 64 >rows.jsonl
small="store: {shard_samples: 32, commit_samples: 8}"
config whole rows.jsonl "$small" "$encode"
expect 0 "" rotoscope build -q -c whole.yaml
want=$(root_of out-whole/whole.json)
at() { sed "s|^root:.*|root: $1|; s/whole/$2/g" whole.yaml >"$2.yaml"; } # at ROOT NAME
same() { [ "$(root_of "$1")" = "$want" ] || fail "$1: another root"; }

# A root that a build holds: repair does not touch it.
cp -r out-whole out-held
shard=$(find out-held/stages -path '*images-*' -name 'shard-*' | sort | head -n 1)
head -c 5000 "$shard" >cut && cat cut >"$shard"
python3 -c 'import fcntl, subprocess, sys
lock = open("out-held/.rotoscope/lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
sys.exit(subprocess.call(sys.argv[1:]))' "$ROTOSCOPE" repair out-held/whole.json >out.txt 2>err.txt
got=$?
[ "$got" = 1 ] && grep -q "using this root" err.txt || fail "repair of a root in use: exit $got: $(cat err.txt)"
expect 0 "bad records" rotoscope repair out-held/whole.json
same out-held/whole.json

# Another backend: an error that names both, and what does not need it is mended.
if [ "$("$ROTOSCOPE" doctor 2>/dev/null | grep -c -i onednn)" -gt 0 ]; then
    cp -r out-whole out-other
    shard=$(find out-other/stages -path '*embeds-*' -name 'shard-*' | sort | head -n 1)
    head -c 5000 "$shard" >cut && cat cut >"$shard"
    ROT_CPU=ref "$ROTOSCOPE" repair out-other/whole.json >out.txt 2>err.txt
    got=$?
    case $got in
        0) same out-other/whole.json ;; # the paths have the same bits
        2) [ "$(grep -o "'[^']*'" err.txt | sort -u | wc -l)" = 2 ] || fail "one backend named: $(cat err.txt)" ;;
        *) fail "repair without the backend: exit $got: $(cat err.txt)" ;;
    esac
fi

mounted=""
unmount() { for m in $mounted; do umount "$m" 2>/dev/null; done; mounted=""; }
trap 'unmount; rm -f "$SHIM"; rm -rf "$scratch"' EXIT
if [ "$(id -u)" != 0 ] || ! mkdir disk || ! mount -t tmpfs -o size=64m none disk 2>/dev/null; then
    echo "note: mounting is not permitted: full and read-only disks and the shutdown are not tried"
    finish
fi
mounted=disk

# Preflight: the disk is too small. Both numbers are said before the first sample: for all stages by the
# first rows, for the embeddings once more and exactly when the images are there.
at disk/root pre
sed '/^encode/d' pre.yaml >pre-images.yaml
sed 's/commit_samples: 8/commit_samples: 8, embeds_codec: zstd-bf16/' pre.yaml >pre-packed.yaml
said() { grep -q "$1 [0-9]* bytes, [0-9]* are free" err.txt || fail "preflight does not say both numbers: $(cat err.txt)"; }
for config in pre pre-packed pre-images; do
    size=500k
    [ $config = pre-images ] && size=12k
    mount -o remount,size=$size disk
    expect 1 "bytes" rotoscope build -q -c $config.yaml
    said "stages of split .* seem to need"
    [ -z "$(find disk -name 'shard-*')" ] || fail "$config: a sample was written before the preflight"
done
rm -rf disk/root
mount -o remount,size=64m disk
expect 0 "" rotoscope build -q -c pre-images.yaml
images=$(root_of disk/root/pre.json)
used=$(du -sk disk | cut -f1)
mount -o remount,size="$((used + 128))k" disk
expect 1 "bytes" rotoscope build -q -c pre.yaml
said "embeds of split .* need"
[ -z "$(find disk/root/stages -path '*embeds-*' -name 'shard-*')" ] || fail "a sample was written before the preflight"
mount -o remount,size=64m disk
expect 0 "" rotoscope build -q -c pre.yaml
same disk/root/pre.json

# A disk that fills at any moment of a build; then of a repair.
step=60
[ "${ROT_FAULTS:-}" = full ] && step=8
size=20 full=0
while [ "$size" -lt 240 ]; do
    rm -rf disk/root
    mount -o remount,size="${size}k" disk
    "$ROTOSCOPE" build -q --no-preflight -c pre-images.yaml >out.txt 2>err.txt
    got=$?
    case $got in
        0) ;;
        1) grep -q -i "space" err.txt || fail "a disk of ${size}k: $(cat err.txt)" ;;
        *) fail "a disk of ${size}k: exit $got: $(cat err.txt)" ;;
    esac
    if [ -d disk/root ]; then
        rotoscope verify disk/root >out.txt 2>&1 || fail "a disk of ${size}k: $(cat out.txt)"
    fi
    [ $got = 1 ] && full=$((full + 1))
    mount -o remount,size=64m disk
    expect 0 "" rotoscope build -q -c pre-images.yaml
    [ "$(root_of disk/root/pre.json)" = "$images" ] || fail "a disk of ${size}k: another root"
    size=$((size + step))
done
[ "$full" -gt 1 ] || fail "only $full disks were full"
expect 0 "" rotoscope build -q -c pre.yaml
shard=$(find disk/root/stages -path '*embeds-*' -name 'shard-*' | sort | head -n 1)
head -c 9000 "$shard" >cut && cat cut >"$shard"
used=$(du -sk disk | cut -f1)
mount -o remount,size="$((used + 8))k" disk
"$ROTOSCOPE" repair disk/root/pre.json >out.txt 2>err.txt
got=$?
[ "$got" = 1 ] && grep -qi "space\|are free" err.txt || fail "repair on a full disk: exit $got: $(cat err.txt)"
mount -o remount,size=64m disk
expect 0 "" rotoscope repair disk/root/pre.json
same disk/root/pre.json

# A root that is read-only: a finished build answers, verify and reading work, repair of damage says why not.
shard=$(find disk/root/stages -path '*images-*' -name 'shard-*' | sort | head -n 1)
mount -o remount,ro disk
expect 0 "" rotoscope build -q -c pre.yaml
expect 0 "" rotoscope verify disk/root
expect 0 "" rotoscope inspect disk/root/pre.json 3
expect 0 "nothing to repair" rotoscope repair disk/root/pre.json
mount -o remount,rw disk
head -c 5000 "$shard" >cut && cat cut >"$shard"
mount -o remount,ro disk
expect 3 "images-" rotoscope verify disk/root
expect 1 "ead-only" rotoscope repair disk/root/pre.json
mount -o remount,rw disk
expect 0 "" rotoscope repair disk/root/pre.json
same disk/root/pre.json
unmount

# ext4, shut down as by a power failure (its ioctl drops what is not synced), mounted again.
truncate -s 32M e.img
if command -v mkfs.ext4 >/dev/null && mkfs.ext4 -qF e.img && mkdir ext && mount -o loop e.img ext 2>/dev/null; then
    mounted=ext
    at ext/root cut
    sed -i '/^encode/d' cut.yaml
    times=3
    [ "${ROT_FAULTS:-}" = full ] && times=20
    shutdowns=0
    while [ $shutdowns -lt $times ]; do
        rm -rf ext/root
        "$ROTOSCOPE" build -q -c cut.yaml >/dev/null 2>&1 &
        pid=$!
        python3 -c 'import fcntl, os, random, struct, time
time.sleep(random.random() * 0.2)
fcntl.ioctl(os.open("ext", os.O_RDONLY), 0x8004587d, struct.pack("I", 2))' || fail "the shutdown ioctl"
        wait "$pid"
        got=$?
        [ "$got" -le 3 ] || fail "a build on a disk that went away: exit $got"
        umount ext
        mount -o loop e.img ext || { fail "mounting again"; break; }
        if [ -d ext/root ]; then
            rotoscope verify ext/root >out.txt 2>&1 || fail "after a shutdown: $(cat out.txt)"
        fi
        expect 0 "" rotoscope build -q -c cut.yaml
        expect 0 "" rotoscope verify ext/root
        for f in $(cd out-whole && find stages -name 'shard-*.mdb' ! -path '*embeds*'); do
            cmp -s "out-whole/$f" "ext/root/$f" || fail "after a shutdown: $f differs"
        done
        shutdowns=$((shutdowns + 1))
    done
    unmount
else
    echo "note: no loop mount of an ext4: the shutdown is not tried"
fi
finish
