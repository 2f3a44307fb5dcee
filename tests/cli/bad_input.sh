#!/bin/sh
# Rows and files that are not what they should be: exit code, a word of the message, and what is there
# afterwards. Under fail nothing reads as complete; under skip the row is counted and the store is sound.
. "$(dirname "$0")/lib.sh"
. "$TOP/tests/cli/build_lib.sh"

# bad_row NAME WORD FILE: the build fails with the word and the line; with skip it is a counted tombstone.
bad_row() {
    name=$1 word=$2 file=$3
    config "$name" "$file"
    expect 1 "$word" rotoscope build -q -c "$name.yaml"
    grep -q "$file" err.txt || fail "$name: the file is not named"
    grep -q "7" err.txt || fail "$name: line 7 is not named"
    [ ! -e "out-$name/$name.json" ] || fail "$name: a dataset after a failed build"
    expect 0 "" rotoscope build -q -c "$name.yaml" --set on.bad_row=skip
    [ "$(skipped "out-$name/$name.json")" = 1 ] || fail "$name: not one skipped row"
    expect 0 "" rotoscope verify "out-$name/$name.json"
}

rows 12 >good.jsonl
with_line_7() { # with_line_7 TEXT: the good rows with line 7 replaced (printf format)
    head -n 6 good.jsonl
    printf "$1"'\n'
    tail -n +8 good.jsonl
}
row='{"id": "x", "question": "q", "cot": "%s", "answer": "a"}'

with_line_7 '{"id": "x", "question": ' | gzip >json.jsonl.gz
bad_row json "json.jsonl.gz" json.jsonl.gz
with_line_7 '{"id": "x", "question": "q", "cot": "a\377b", "answer": "a"}' >utf8.jsonl
bad_row utf8 "UTF-8" utf8.jsonl
with_line_7 '{"id": "x", "question": "q", "cot": "a\\u0000b", "answer": "a"}' >nul.jsonl
bad_row nul "0000" nul.jsonl
with_line_7 '{"id": "x", "question": "q", "cot": "a\\ud800b", "answer": "a"}' >surrogate.jsonl
bad_row surrogate "surrogate" surrogate.jsonl
with_line_7 '{"id": "r2", "question": "q", "cot": "c", "answer": "a"}' >twice.jsonl
bad_row twice "r2" twice.jsonl
with_line_7 '{"id": "x", "question": "q", "answer": "a"}' >key.jsonl
bad_row key "cot" key.jsonl
with_line_7 '{"id": "x", "question": "q", "cot": 7, "answer": "a"}' >type.jsonl
bad_row type "cot" type.jsonl

# A truncated gzip is no bad row: what is missing is unknown.
rows 2000 | gzip >whole.gz
head -c "$(($(wc -c <whole.gz) / 2))" whole.gz >cut.gz
config cut cut.gz "on: {bad_row: skip}"
expect 1 "cut.gz" rotoscope build -q -c cut.yaml
[ ! -e out-cut/cut.json ] || fail "a dataset from a truncated file"

# 12,000 characters: wider than the released geometry takes; skipped where asked.
long=$(awk 'BEGIN { for (i = 0; i < 12000; i++) printf "x" }')
with_line_7 "{\"id\": \"x\", \"question\": \"q\", \"cot\": \"$long\", \"answer\": \"a\"}" >long.jsonl
config long long.jsonl "$encode"
expect 1 "200" rotoscope build -q -c long.yaml
grep -qF "long.jsonl:7: byte $(head -n 6 long.jsonl | wc -c):" err.txt || fail "no place of a trace that is too wide"
[ ! -e out-long/long.json ] || fail "a dataset with an image that is too large"
expect 0 "" rotoscope build -q -c long.yaml --set on.too_large=skip
[ "$(skipped out-long/long.json)" = 1 ] || fail "the long row is not counted"
expect 0 "" rotoscope verify out-long/long.json
expect 0 "skipped" rotoscope inspect out-long/long.json 6

# A code point that the font lacks.
with_line_7 '{"id": "x", "question": "q", "cot": "\346\274\242", "answer": "a"}' >glyph.jsonl
config glyph glyph.jsonl
place="glyph.jsonl:7: byte $(head -n 6 glyph.jsonl | wc -c):"
expect 1 "U+6F22" rotoscope build -q -c glyph.yaml
grep -qF "$place" err.txt || fail "no place of a missing glyph"
expect 0 "$place" rotoscope build -c glyph.yaml --set on.missing_glyph=skip
[ "$(skipped out-glyph/glyph.json)" = 1 ] || fail "the row without a glyph is not counted"
expect 0 "" rotoscope build -q -c glyph.yaml --set on.missing_glyph=draw
[ "$(skipped out-glyph/glyph.json)" = 0 ] || fail "missing_glyph: draw skips"
expect 0 "" rotoscope verify out-glyph

# Empty input: no rows, no crash.
: >empty.jsonl
config empty empty.jsonl
rotoscope build -q -c empty.yaml >out.txt 2>err.txt
[ $? -lt 3 ] || fail "an empty file: exit code over 2"
finish
