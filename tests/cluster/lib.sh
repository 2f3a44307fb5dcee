# For tests/cluster: an input, a build by one process to compare with, its root in $want. Source it.
. "$TOP/tests/cli/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
rows 96 >rows.jsonl
# By ref, some seconds on any machine: there is time to hit a rank while it encodes.
config whole rows.jsonl "store: {shard_samples: 8, commit_samples: 4}" "${encode/\{/{backend: ref, }"
rotoscope build -q --threads 1 -c whole.yaml || exit 1
want=$(root_of out-whole/whole.json)
fresh() { sed "s/whole/$1/" whole.yaml >"$1.yaml"; }
same() {
    [ "$(root_of "out-$1/$1.json")" = "$want" ] || fail "$1: another root"
    expect 0 "" rotoscope verify -q "out-$1"
}
