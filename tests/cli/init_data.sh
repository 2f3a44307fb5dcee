#!/bin/sh
# Synthetic data from the command line: options, exit codes, files, and that a build takes every kind.
[ "${SAN:-}" != tsan ] || { echo "many processes, too slow under TSan: the unit tests cover their threads"; exit 77; }
. "$(dirname "$0")/lib.sh"

for kind in gsm8k-aug:gsm8k-aug gsm8k:gsm8k prosqa:prosqa prontoqa:prontoqa arithmetic:gsm8k-aug; do
    like=${kind%%:*} format=${kind#*:}
    expect 0 "" rotoscope init-data --like "$like" --rows 200 --seed 5 -o "$like data"
    [ ! -s out.txt ] || fail "$like: words on stdout"
    rotoscope init-data --like "$like" --rows 200 --seed 5 -o - | cmp -s - "$like data" ||
        fail "$like: file and stdout differ"
    rotoscope init-data --like "$like" --rows 200 --seed 6 -o - | cmp -s - "$like data" &&
        fail "$like: two seeds, the same rows"
    printf '    %s: {files: ["%s data"], format: %s}\n' "$like" "$like" "$format" >>splits
done
ls | grep -q '\.tmp\.' && fail "a temporary file stays"
rotoscope init-data --rows 200 --seed 5 -o - | cmp -s - "gsm8k-aug data" || fail "gsm8k-aug is not the default"

rotoscope init-model tiny -q || fail "no tokenizer"
{
    echo "name: made"
    echo "root: out"
    echo "splits:"
    cat splits
    echo "tokenizer: {path: tiny}"
    echo "render: {preset: rot-paper}"
} >made.yaml
expect 0 "prosqa: 200 samples, 0 skipped" rotoscope build -c made.yaml
expect 0 "0 bad" rotoscope verify out

expect 2 "rows" rotoscope init-data -o x
expect 2 "where to" rotoscope init-data --rows 5
expect 2 "'0'" rotoscope init-data --rows 0 -o x
expect 2 "'-1'" rotoscope init-data --rows -1 -o x
expect 2 "'1e3'" rotoscope init-data --rows 1e3 -o x
expect 2 "'99999999999999999999'" rotoscope init-data --rows 5 --seed 99999999999999999999 -o x
expect 2 "'gsm9k'" rotoscope init-data --like gsm9k --rows 5 -o x
expect 2 "" rotoscope init-data --rows 5 -o x and-more
[ ! -e x ] || fail "a refused command made a file"
expect 1 "no/such/folder/x" rotoscope init-data --rows 5 -o no/such/folder/x
rotoscope init-data --rows 5 -o - >/dev/full 2>err.txt
[ $? = 1 ] || fail "into a full disk"
grep -q stdout err.txt || fail "a full disk is not named"
finish
