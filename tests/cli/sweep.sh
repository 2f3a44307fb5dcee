#!/bin/sh
# Many variants of one config: strictly read, planned, built into one root that shares its stages, resumed after
# signals and failures, by ranks, and a table whose figures are those of `stats`.
[ "${SAN:-}" != tsan ] || { echo "too slow under TSan: the unit tests cover its threads"; exit 77; }
. "$(dirname "$0")/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
unset RANK WORLD_SIZE SLURM_STEP_ID SLURM_ARRAY_TASK_ID SLURM_ARRAY_TASK_COUNT SLURM_JOB_ID
rows 12 >rows.jsonl
small="store: {shard_samples: 4, commit_samples: 2}"
config base rows.jsonl "$small" "$encode"
config pictures rows.jsonl
sweep() { # sweep NAME LINE...: NAME.yaml over base.yaml
    file=$1.yaml
    shift
    printf '%s\n' "$@" >"$file"
}
# figure FILE VARIANT COLUMN: a cell of a table of tab-separated values.
figure() {
    awk -F '\t' -v v="$2" -v c="$3" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == c) n = i } $1 == v { print $n }' "$1"
}

# A grid: the plan says what will be shared, the build shares it, a second run has nothing to do.
sweep grid "name: g" "base: base.yaml" "set: {root: 'out grid'}" "grid:" \
    "  render.size_px: [16, 20]" "  encode: {geometry: [released, native]}"
expect 0 "as g-size_px-16-geometry-released" rotoscope sweep grid.yaml --plan
[ ! -e "out grid" ] || fail "a plan makes the root"
expect 0 "g-size_px-20-geometry-native" rotoscope sweep grid.yaml
grep -q "as g-size_px-16-geometry-released" err.txt || fail "no plan before the start: $(cat err.txt)"
[ "$(ls -d "out grid"/stages/tokens-* | wc -l)" = 1 ] || fail "the tokens are not shared"
[ "$(ls -d "out grid"/stages/images-* | wc -l)" = 2 ] || fail "the pictures are not shared"
[ "$(ls -d "out grid"/stages/embeds-* | wc -l)" = 4 ] || fail "not four embeds"
expect 0 "" rotoscope verify -q "out grid"
expect 0 "" rotoscope stats "out grid"
[ "$(ls "out grid"/*.json | wc -l)" = 4 ] || fail "not four datasets"
find "out grid" -type f -exec stat -c '%n %Y %i %s' {} + | sort >before.txt
cp "out grid/sweeps/g.tsv" table.txt
expect 0 "" rotoscope sweep --tsv grid.yaml
cmp -s out.txt table.txt || fail "stdout is not the table beside the datasets, or a second run changes it"
find "out grid" -type f -exec stat -c '%n %Y %i %s' {} + | sort >after.txt
cmp -s before.txt after.txt || fail "a finished sweep writes: $(diff before.txt after.txt)"
expect 0 "" rotoscope sweep -q --json grid.yaml
python3 -c 'import json; assert json.load(open("out.txt")) == json.load(open("out grid/sweeps/g.json"))' ||
    fail "--json is another table"
grep -q '^| g-size_px-16-geometry-released ' "out grid/sweeps/g.md" || fail "no Markdown"

# The same store as a build of its own, and the figures that stats counts from every record.
expect 0 "" rotoscope build -q -c base.yaml --set render.size_px=16
[ "$(root_of out-base/base.json)" = "$(root_of "out grid/g-size_px-16-geometry-released.json")" ] || fail "another root"
rotoscope stats --json out-base/base.json >stats.json
python3 - "out grid/sweeps/g.json" <<'END' || fail "other figures than stats"
import json, sys
row = json.load(open(sys.argv[1]))["variants"][0]
split = json.load(open("stats.json"))[0]["splits"]["train"]
assert row["k"] == split["k"] and row["width_px"] == split["width_px"]
assert abs(row["text_tokens_per_vision_token"] - split["trace_tokens_per_vision_token"]) < 1e-5
assert row["bytes"] == sum(s["file_bytes"] for s in split["stages"].values())
assert row["too_large_share"] == 0 and row["missing_glyphs"] == 0 and row["seconds"] > 0, row
END

# Stopped by a signal: 75, and the next run goes on to the same roots. Ranks, too.
sed "s/out grid/out stop/" grid.yaml >stop.yaml
"$ROTOSCOPE" sweep -q --threads 1 stop.yaml >/dev/null 2>err.txt &
pid=$!
sleep 0.4
kill -TERM $pid 2>/dev/null
wait $pid
got=$?
case $got in 75) ;; 0) echo "note: the sweep was done before the signal" ;; *) fail "SIGTERM: exit $got: $(cat err.txt)" ;; esac
expect 0 "" rotoscope sweep -q stop.yaml
sed "s/out grid/out ranks/" grid.yaml >ranks.yaml
for r in 0 1; do
    RANK=$r WORLD_SIZE=2 "$ROTOSCOPE" sweep -q --threads 1 ranks.yaml >rank$r.txt 2>&1 &
    eval "pid$r=$!"
done
wait $pid0 || fail "the first rank: $(cat rank0.txt)"
wait $pid1 || fail "the second rank: $(cat rank1.txt)"
for v in g-size_px-16-geometry-released g-size_px-20-geometry-native; do
    for root in stop ranks; do
        [ "$(root_of "out $root/$v.json")" = "$(root_of "out grid/$v.json")" ] || fail "$root: another root of $v"
    done
done
for column in k_mean width_p95 bytes; do
    [ "$(figure "out ranks/sweeps/g.tsv" g-size_px-20-geometry-native $column)" = \
        "$(figure table.txt g-size_px-20-geometry-native $column)" ] || fail "ranks: another $column"
done
expect 0 "" rotoscope verify -q "out ranks"

# A variant that fails does not lose the others; why stands in the table and on stderr.
printf '{"id": "a", "question": "q", "cot": "\\uffff1 = 1", "answer": "1"}\n' >>rows.jsonl
sweep glyphs "base: pictures.yaml" "k: released" "variants:" "  - {name: strict}" "  - {name: box, on: {missing_glyph: draw}}" \
    "  - {name: less, on.missing_glyph: skip}"
expect 1 "variant pictures-strict failed: " rotoscope sweep -q --tsv glyphs.yaml
grep -q "U+FFFF" err.txt || fail "no code point in: $(cat err.txt)"
[ "$(figure out.txt pictures-strict state)" = failed ] || fail "the failed variant is not in the table"
[ "$(figure out.txt pictures-box samples)" = 13 ] || fail "the second variant is lost"
[ "$(figure out.txt pictures-box missing_glyphs)" = 1 ] || fail "no box is counted"
[ "$(figure out.txt pictures-less samples)" = 12 ] || fail "the third variant is lost"
[ "$(figure out.txt pictures-less missing_glyphs)" = 1 ] || fail "no glyph of a skipped row is counted"
[ -n "$(figure out.txt pictures-box k_mean)" ] || fail "no K by the geometry that k names"

# What the geometry does not take is a share of the rows.
sweep large "base: pictures.yaml" "k: released" "set: {on.missing_glyph: skip}" "variants:" "  - {render: {height_px: 1}}"
expect 0 "" rotoscope sweep -q --tsv large.yaml
share=$(figure out.txt pictures-height_px-1 too_large)
[ "$share" = 0.9231 ] || fail "a line of 1 px is too large for no row: $share" # 12 of 13

# Strict: file, line, nearest key; nothing is made.
bad() { # bad CODE WORDS LINE...
    code=$1 words=$2
    shift 2
    sweep bad "base: base.yaml" "set: {root: out-bad}" "$@"
    expect "$code" "$words" rotoscope sweep -q bad.yaml
    grep -q "bad.yaml:[0-9]" err.txt || fail "no line in: $(cat err.txt)"
    [ ! -e out-bad ] || fail "a bad sweep made its root"
}
bad 2 "the nearest is 'variants'" "variant: [{render.size_px: 3}]"
bad 2 "the nearest is 'render.size_px'" "grid: {render.size_pz: [1, 2]}"
bad 2 "bad.yaml:3:25: render.size_px" "grid: {render.size_px: [a]}"
bad 2 "(variant base-size_px-400)" "grid: {render.size_px: [20, 400]}"
bad 2 "a list of values" "grid: {render.size_px: 20}"
bad 2 "has no effect with render.mode: page" "grid: {render.mode: [line, page], render.height_px: [16, 32]}"
bad 2 "variants share one root" "grid: {root: [a, b]}"
bad 2 "not both" "grid: {render.size_px: [16]}" "variants: [{render.size_px: 20}]"
bad 2 "grid or variants is missing"
bad 2 "given twice" "variants: [{render.size_px: 20, render: {size_px: 16}}]"
bad 2 "are the same" "grid: {render.size_px: [16, 16]}"
bad 2 "k has no effect" "k: released" "grid: {render.size_px: [16]}"
bad 2 "is taken by another" "variants: [{name: a}, {name: a, render.size_px: 16}]"
bad 2 "nosuch.ttf" "grid: {render.fonts: [[DejaVuSans.ttf], [nosuch.ttf]]}"
expect 2 "every variant overrides it" rotoscope sweep -q grid.yaml --set render.size_px=30
expect 2 "nothere.yaml" rotoscope sweep -q nothere.yaml
printf 'base: gone.yaml\n' >gone-base.yaml
expect 2 "gone-base.yaml:1:7: base: gone.yaml: no such file" rotoscope sweep gone-base.yaml
expect 2 "SWEEP.yaml is missing" rotoscope sweep

# The sweeps that the project ships, as they are.
for name in size height padding; do
    expect 0 "" rotoscope sweep -q --plan "$TOP/configs/sweeps/$name.yaml" --set root=out-samples
done
for name in mode paper; do
    expect 0 "" rotoscope sweep -q "$TOP/configs/sweeps/$name.yaml" --set root=out-samples
done
mean=$(figure out-samples/sweeps/mode.tsv mode-line width_mean)
[ -n "$mean" ] && [ "$mean" = "$(figure out-samples/sweeps/paper.tsv paper-paper width_mean)" ] ||
    fail "two sweeps of one setting differ"
finish
