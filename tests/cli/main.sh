#!/bin/sh
# The command line as a whole: verbs, help, exit codes, a stdout that cannot be written.
[ "${SAN:-}" != tsan ] || { echo "one process, or too slow: nothing for TSan to see"; exit 77; }
. "$(dirname "$0")/lib.sh"

expect 2 "usage: rotoscope VERB" rotoscope
expect 0 "build" rotoscope --help
expect 0 "build" rotoscope help
expect 0 "rotoscope 0." rotoscope --version
expect 2 "no verb 'biuld'" rotoscope biuld

rotoscope --help >help.txt
verbs=$(awk '$1 ~ /^[a-z-]+$/ && NR > 2 { print $1 }' help.txt)
for verb in build render tokenize encode inspect verify stats export import repair gc status why sweep submit report view \
    train generate evaluate init-model init-data doctor; do
    echo "$verbs" | grep -qx -- "$verb" || fail "$verb is not in the help"
done
for verb in $verbs; do
    expect 0 "rotoscope $verb" rotoscope "$verb" --help
    expect 2 "" rotoscope "$verb" --no-such-option
    [ ! -s out.txt ] || fail "$verb: a usage error on stdout"
    expect 2 "--threads" rotoscope "$verb" --threads 0
    for option in --json --quiet --verbose --threads; do
        rotoscope "$verb" --help | grep -q -- "$option" || fail "$verb does not take $option"
    done
done
# Data that cannot be written is a failure, never silence.
rotoscope --help >/dev/full 2>err.txt
[ $? = 1 ] || fail "help into a full disk"
grep -q "stdout" err.txt || fail "a full disk is not named"
rotoscope doctor --json >/dev/full 2>err.txt
[ $? = 1 ] || fail "doctor into a full disk"

"$ROTOSCOPE" --help >&- 2>err.txt
[ $? = 1 ] || fail "help into a closed stdout"
finish
