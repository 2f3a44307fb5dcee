# What the scripts of tests/cli share. Source it first: it changes into an empty folder (whose name has a
# space) that goes away at the end, and sets ROTOSCOPE, TOP. Not a test: not executable.
set -u
TOP=$(cd "$(dirname "$0")/../.." && pwd)
MAKE_BUILD=${BUILD:-build} # as make takes it: relative to TOP, because TOP may hold spaces
case $MAKE_BUILD in /*) BUILD=$MAKE_BUILD ;; *) BUILD=$TOP/$MAKE_BUILD ;; esac
ROTOSCOPE=$BUILD/rotoscope
[ -x "$ROTOSCOPE" ] || { echo "no program $ROTOSCOPE: make first"; exit 1; }
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" # as tests/run
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/a b"
cd "$scratch/a b" || exit 1
failures=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# expect CODE WORD COMMAND...: the exit code, and a word (fixed text) in what it says; "" for no word.
# What it said is in out.txt and err.txt.
expect() {
    code=$1 word=$2
    shift 2
    "$@" >out.txt 2>err.txt </dev/null
    got=$?
    if [ "$got" != "$code" ]; then
        fail "exit $got, not $code: $*"
        tail -n 5 out.txt err.txt
    elif [ -n "$word" ] && ! cat out.txt err.txt | grep -qF -- "$word"; then
        fail "no '$word' in what it says: $*"
        tail -n 5 out.txt err.txt
    fi
}

rotoscope() { "$ROTOSCOPE" "$@"; }

# The last line of every script.
finish() {
    [ "$failures" = 0 ] && exit 0
    echo "$failures failures"
    exit 1
}
