#!/bin/sh
# doctor: what it finds, what it calls not ok, and that it leaves nothing behind.
. "$(dirname "$0")/lib.sh"

get() { python3 -c 'import json,sys
d=json.load(open("out.txt"))
for k in sys.argv[1:]: d=d[k]
print(d)' "$@"; }
is() { # is WANTED KEY...
    wanted=$1
    shift
    got=$(get "$@")
    [ "$got" = "$wanted" ] || fail "$*: '$got', not '$wanted'"
}

expect 0 "libraries" rotoscope doctor .
for library in FreeType HarfBuzz FriBidi fontconfig libpng zstd LMDB xxHash OpenSSL zlib libyaml Jansson PCRE2 \
    utf8proc oneDNN; do
    grep -q "$library [0-9n]" out.txt || fail "no version of $library"
done
grep -q "DejaVuSans.ttf" out.txt || fail "no font"

expect 0 "" rotoscope doctor --json .
is True file_system writable
is True file_system link
is True file_system sync_folder
is True file_system exists
[ -z "$(find . -name '.rotoscope-doctor*')" ] || fail "doctor left files"

# A root that is not made yet is judged by the folder above, and not made.
expect 0 "" rotoscope doctor --json "new/root"
is False file_system exists
is . file_system looked_at
[ ! -e new ] || fail "doctor made the root"

expect 0 "" env SLURM_CPUS_PER_TASK=1 "$ROTOSCOPE" doctor --json
is 1 threads available
expect 0 "" env ROT_CPU=ref "$ROTOSCOPE" doctor --json
is ref cpu ROT_CPU
is False cpu avx2

# GPUs: none, or an emulated pair, of which the rank takes its own.
expect 0 "none: the cuda backend" env ROT_CUDA_LIB=/nowhere.so "$ROTOSCOPE" doctor
expect 0 "12.2" env ROT_CUDA_LIB="$BUILD/tests/cuda_device.so" ROT_FAKE_CUDA=old "$ROTOSCOPE" doctor
expect 0 "" env ROT_CUDA_LIB="$BUILD/tests/cuda_device.so" ROT_FAKE_CUDA_DEVICES=2 LOCAL_RANK=1 "$ROTOSCOPE" doctor --json
[ "$(python3 -c 'import json; print([g["ours"] for g in json.load(open("out.txt"))["gpus"]])')" = "[False, True]" ] ||
    fail "not the rank's device"
expect 0 "by cuda sm_90 Emulated cublasLt 13.0.0 v1" env ROT_CUDA_LIB="$BUILD/tests/cuda_device.so" "$ROTOSCOPE" doctor

touch file
expect 1 "is a file, not a folder" rotoscope doctor file
expect 1 "cannot hold a root" rotoscope doctor /proc
expect 1 "not one of ref, avx2, avx512, amx" env ROT_CPU=sse9 "$ROTOSCOPE" doctor
expect 1 "NOT OK" sh -c 'ulimit -n 100; exec "$0" doctor' "$ROTOSCOPE"
expect 2 "one ROOT" rotoscope doctor a b

# A path that is no UTF-8 still gives JSON.
expect 0 "" rotoscope doctor --json "$(printf 'x\377')"
is 'x?' file_system path

expect 0 "render.size_px" rotoscope doctor --config-doc
expect 0 "size_px" rotoscope doctor --config-schema
python3 -m json.tool out.txt >/dev/null || fail "the schema is no JSON"
finish
