#!/bin/sh
# Fonts, checkpoints, tokenizers and configs that are missing or broken: always exit 1 or 2 with a word that
# says what, never a crash, and nothing that reads as complete.
. "$(dirname "$0")/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
rows 5 >rows.jsonl

config font rows.jsonl "render: {fonts: ['./missing.ttf']}"
expect 2 "missing.ttf" rotoscope build -q -c font.yaml
echo "this is no font" >text.ttf
config font rows.jsonl "render: {fonts: ['./text.ttf']}"
expect 2 "text.ttf" rotoscope build -q -c font.yaml
config font rows.jsonl "render: {fonts: ['No Such Family']}"
expect 2 "No Such Family" rotoscope build -q -c font.yaml
: >empty.ttf
config font rows.jsonl "render: {fonts: ['./empty.ttf']}"
expect 2 "empty.ttf" rotoscope build -q -c font.yaml
[ ! -e out-font/font.json ] || fail "a dataset without a font"

# Checkpoints.
broken_checkpoint() { # broken_checkpoint CODE WORD: over the folder ck
    config ck rows.jsonl "encode: {checkpoint: ck}"
    expect "$1" "$2" rotoscope build -q -c ck.yaml
    [ ! -e out-ck/ck.json ] || fail "a dataset from a broken checkpoint ($2)"
    rm -rf ck
    cp -r "$TINY" ck
}
broken_checkpoint 2 "ck"
weights=$(cd ck && ls ./*.safetensors | head -n 1)
rm "ck/config.json"
broken_checkpoint 2 "config.json"
rm ck/*.safetensors
broken_checkpoint 2 "safetensors"
size=$(wc -c <"ck/$weights")
head -c "$((size / 2))" "$TINY/$weights" >"ck/$weights"
broken_checkpoint 1 "$(basename "$weights")"
head -c 100 "$TINY/$weights" >"ck/$weights"
broken_checkpoint 1 "$(basename "$weights")"
: >"ck/$weights"
broken_checkpoint 1 "$(basename "$weights")"
edit() { # edit EXPRESSION: over the header h of the safetensors file
    python3 - "ck/$weights" "$1" <<'END'
import json, struct, sys
path, change = sys.argv[1:]
data = open(path, "rb").read()
n = struct.unpack("<Q", data[:8])[0]
h = json.loads(data[8:8 + n])
names = [k for k in h if k.endswith("blocks.0.attn.qkv.weight")]
exec(change)
text = json.dumps(h).encode()
open(path, "wb").write(struct.pack("<Q", len(text)) + text + data[8 + n:])
END
}
# Without the tensor and without its bytes: what is left is a whole file that lacks one tensor.
edit 'a, b = h.pop(names[0])["data_offsets"]
data = data[:8 + n + a] + data[8 + n + b:]
for t in h.values():
    if "data_offsets" in t: t["data_offsets"] = [o - (b - a) * (o >= b) for o in t["data_offsets"]]'
broken_checkpoint 1 "blocks.0.attn.qkv.weight"
edit 'h[names[0]]["shape"].reverse()'
broken_checkpoint 1 "blocks.0.attn.qkv.weight"
edit 'h[names[0]]["dtype"] = "I64"'
broken_checkpoint 1 "blocks.0.attn.qkv.weight"
edit 'h[names[0]]["data_offsets"] = [1 << 60, 1 << 61]'
broken_checkpoint 1 "blocks.0.attn.qkv.weight"
echo '{"model_type": "bert"}' >ck/config.json
broken_checkpoint 2 "bert"
echo '{"model_type": ' >ck/config.json
broken_checkpoint 1 "config.json"

# Tokenizers.
config tok rows.jsonl "render: {preset: rot-paper}"
mkdir tok
sed "s|^tokenizer:.*|tokenizer: {path: tok}|" tok.yaml >tok2.yaml
expect 2 "tok" rotoscope build -q -c tok2.yaml
echo '{"model": ' >tok/tokenizer.json
expect 2 "tokenizer.json" rotoscope build -q -c tok2.yaml
echo '{}' >tok/tokenizer.json
expect 2 "tokenizer.json" rotoscope build -q -c tok2.yaml
[ ! -e out-tok/tok.json ] || fail "a dataset from a broken tokenizer"

# Configs: the file, the line and the nearest key are named.
bad_config() { # bad_config WORD LINE
    config cf rows.jsonl "$2"
    expect 2 "$1" rotoscope build -q -c cf.yaml
    grep -q "cf.yaml:[0-9]" err.txt || fail "no line in: $(cat err.txt)"
    [ ! -e out-cf ] || fail "a bad config made its root"
}
bad_config "size_px" "render: {size_pz: 20}"
bad_config "size_px" "render: {size_px: large}"
bad_config "size_px" "render: {size_px: 1000}"
bad_config "width_px" "render: {width_px: 800}"
bad_config "encode" "encdoe: {checkpoint: x}"
bad_config "bad_row" "on: {bad_row: ignore}"
bad_config "shard_samples" "store: {shard_samples: 100, commit_samples: 64}"
# What it names and is opened later, too: the key, and the line that has it.
config named rows.jsonl "render:" "  fonts:" "    - DejaVuSans.ttf" "    - nosuchfont.ttf" \
    "encode:" "  checkpoint: 'an empty folder'" "  geometry: native"
mkdir "an empty folder"
expect 2 "named.yaml:8:7: render.fonts: font 'nosuchfont.ttf'" rotoscope build -q -c named.yaml
expect 2 "named.yaml:8:7: render.fonts: " rotoscope build -q -c named.yaml --plan
sed -i 's/nosuchfont.ttf/rows.jsonl/' named.yaml
expect 2 "named.yaml:8:7: render.fonts: " rotoscope build -q -c named.yaml
sed -i '/rows.jsonl$/d' named.yaml
expect 2 "named.yaml:9:15: encode.checkpoint: " rotoscope build -q -c named.yaml
sed -i "s/^tokenizer:.*/tokenizer: {path: 'an empty folder'}/" named.yaml
expect 2 "named.yaml:4:19: tokenizer.path: an empty folder/tokenizer.json" rotoscope build -q -c named.yaml
expect 2 "--set tokenizer.path=.: tokenizer.path: " rotoscope build -q -c named.yaml --set tokenizer.path=.
[ ! -e out-named ] || fail "a config that names what is missing made its root"
RANK=0 WORLD_SIZE=1 expect 2 "named.yaml:4:19: tokenizer.path: " rotoscope build -q -c named.yaml
expect 2 "nothere.yaml" rotoscope build -q -c nothere.yaml
config gone nothere.jsonl
expect 2 "nothere.jsonl" rotoscope build -q -c gone.yaml
expect 2 "--set" rotoscope build -q -c tok.yaml --set render.size_pz=3
printf 'name: [\n' >broken.yaml
expect 2 "broken.yaml:" rotoscope build -q -c broken.yaml

# Reports on what is not there.
for verb in verify stats status why report; do
    expect 2 "nothere" rotoscope $verb nothere
done
expect 2 "nothere" rotoscope inspect nothere 0
mkdir emptyroot
expect 2 "" rotoscope report emptyroot
finish
