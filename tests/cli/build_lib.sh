# For scripts that build: a tiny checkpoint, rows, configs. Source it after lib.sh. Not executable.

# The checkpoint is made once per build folder: it is the same bytes every time.
TINY=$BUILD/tests/tiny-checkpoint
if [ ! -e "$TINY/config.json" ]; then
    rm -rf "$TINY.$$"
    mkdir -p "$BUILD/tests"
    rotoscope init-model "$TINY.$$" --arch tiny --seed 1 >/dev/null || exit 1
    mv "$TINY.$$" "$TINY" 2>/dev/null || rm -rf "$TINY.$$"
fi
TOKENIZER=$TOP/configs/tokenizer-small

# rows N: that many good JSONL rows on stdout.
rows() {
    awk -v n="$1" 'BEGIN { for (i = 1; i <= n; i++)
        printf "{\"id\": \"r%d\", \"question\": \"What is %d + 1?\", \"cot\": \"%d + 1 = %d\", \"answer\": \"%d\"}\n",
            i, i, i, i + 1, i + 1 }'
}

# config NAME FILE [LINE...]: NAME.yaml over FILE with root out-NAME; stages up to images, or to embeds if
# a line is "encode: ...". Each LINE is a top-level line of YAML.
config() {
    name=$1 file=$2
    shift 2
    {
        echo "name: $name"
        echo "root: out-$name"
        echo "splits: {train: {files: ['$file'], format: jsonl}}"
        echo "tokenizer: {path: '$TOKENIZER'}"
        case " $* " in *" render:"* | render:*) ;; *) echo "render: {preset: rot-paper}" ;; esac
        for line in "$@"; do echo "$line"; done
    } >"$name.yaml"
}
encode="encode: {checkpoint: '$TINY', geometry: released}"

root_of() { # the dataset's root hash
    python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["root"])' "$1"
}
skipped() { # skipped DATASET: how many rows
    python3 -c 'import json,sys
print(sum(s["skipped"] for s in json.load(open(sys.argv[1]))["splits"].values()))' "$1"
}
# store_to_train DEPTH ROWS: a small language model in lm, and out/d.json, a store of that many rows as wide as it.
store_to_train() {
    rotoscope init-model --arch qwen3-tiny --width 32 --heads 2 --mlp 48 --depth "$1" -q lm || exit 1
    rotoscope init-model --arch tiny --out 32 -q tower || exit 1
    rows "$2" >rows.jsonl
    cat >store.yaml <<END
name: d
root: out
splits: {train: {files: [rows.jsonl], format: jsonl}}
tokenizer: {path: lm}
render: {thought_markers: false}
encode: {checkpoint: tower, geometry: native}
END
    expect 0 "" rotoscope build -q -c store.yaml
}
