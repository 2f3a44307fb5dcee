#!/bin/sh
# encode --pack-cache and encode.pack_cache: the same bytes out, with a file of packed weights, without,
# with a damaged one, by many processes at once, and where it cannot be written.
. "$(dirname "$0")/lib.sh"

"$ROTOSCOPE" init-model -q --arch tiny model >/dev/null || fail "init-model"
"$ROTOSCOPE" render -q "3 + 4 = 7" -o one.png || fail "render"
encode() { "$ROTOSCOPE" encode -m model one.png --threads 1 -o "$@"; }

expect 0 "" encode plain.safetensors
expect 0 "" encode cold.safetensors --pack-cache "new folder/packed"
expect 0 "" encode warm.safetensors --pack-cache "new folder/packed"
[ ! -s err.txt ] || fail "it has something to say of a sound file"
cmp plain.safetensors cold.safetensors || fail "other bits when the file is made"
cmp plain.safetensors warm.safetensors || fail "other bits when the file is read"
[ "$(ls "new folder/packed" | wc -l)" = 1 ] || fail "not one file of packed weights"
file=$(ls "new folder/packed"/*.packed)

cp "$file" sound
printf 'x' | dd of="$file" bs=1 seek=5000 conv=notrunc 2>/dev/null
expect 0 "the weights are packed again" encode again.safetensors --pack-cache "new folder/packed"
cmp plain.safetensors again.safetensors || fail "other bits with a damaged file"
cmp sound "$file" || fail "a damaged file stays"

for i in 1 2 3; do encode "many$i.safetensors" --pack-cache many >"many$i.txt" 2>&1 & done
wait
for i in 1 2 3; do
    cmp plain.safetensors "many$i.safetensors" || fail "other bits beside other processes"
    [ ! -s "many$i.txt" ] || fail "$(cat "many$i.txt")"
done
[ "$(ls many | wc -l)" = 1 ] || fail "many processes leave many files"

expect 0 "not kept" encode full.safetensors --pack-cache /proc/nothing
cmp plain.safetensors full.safetensors || fail "other bits where nothing can be written"
expect 2 "no effect" encode x.safetensors --pixels --pack-cache many

# In a config: relative to it, not in the fingerprint.
printf '{"question": "q", "cot": "1 + 1 = 2", "answer": "2"}\n' >rows.jsonl
printf 'name: d\nroot: out\nsplits: {s: {files: [rows.jsonl], format: jsonl}}\ntokenizer: {path: model}\nrender: {}\nencode: {checkpoint: model, pack_cache: kept}\n' >c.yaml
expect 0 "" "$ROTOSCOPE" build -q -c c.yaml --threads 1
[ "$(ls kept | wc -l)" = 1 ] || fail "a build keeps no packed weights"
stages=$(ls out/stages)
expect 0 "" "$ROTOSCOPE" build -q -c c.yaml --threads 1 --set 'encode.pack_cache=""'
[ "$stages" = "$(ls out/stages)" ] || fail "pack_cache is in a fingerprint"
expect 2 "pack_cache has no effect" "$ROTOSCOPE" build -q -c c.yaml --set encode.backend=cuda
finish
