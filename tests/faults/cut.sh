#!/bin/sh
# A shard that is cut short while a program reads it: an error that names the file, no signal. The program
# waits in the middle, because nobody takes what it writes; what is on its side then is cut.
. "$(dirname "$0")/../cli/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
. "$TOP/tests/faults/lib.sh"
rows 6000 >rows.jsonl
config cut rows.jsonl
expect 0 "" rotoscope build -q -c cut.yaml
mkfifo pipe
cut_while_reading() { # cut_while_reading WORD ENVIRONMENT...
    word=$1
    shift
    cp -r out-cut copy
    env "$@" "$ROTOSCOPE" export copy/cut.json --to jsonl -o - >pipe 2>err.txt &
    exec 3<pipe # from here on it writes, and soon it waits
    head -c 1000 <&3 >part.txt
    for shard in copy/stages/tokens-*/shard-*.mdb; do truncate -s 8192 "$shard"; done
    cat <&3 >>part.txt
    exec 3<&-
    wait $!
    code=$?
    [ "$code" = 3 ] || fail "exit $code, not 3 ($word)"
    grep -q "copy/stages/tokens-.*/shard-00000.mdb: .*$word" err.txt || fail "$(cat err.txt)"
    rm -r copy
}
cut_while_reading "cut short"
# The library does not see it: the program catches the signal.
cut_while_reading "the file was cut short, or cannot be read any more" LD_PRELOAD="$SHIM" FAULTS_BLIND=1
finish
