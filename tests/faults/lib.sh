# What the scripts of tests/faults share, beside tests/cli/lib.sh and build_lib.sh: the Python half of the
# tests (standard library alone) and the library that makes calls fail. Not executable.
command -v python3 >/dev/null || { echo "no python3"; exit 77; }
SHIM=/tmp/rot-faults-shim-$$.so # LD_PRELOAD takes no space in a path, and a checkout may have one
cp "$BUILD/tests/faults_shim.so" "$SHIM" || exit 1
trap 'rm -f "$SHIM"; rm -rf "$scratch"' EXIT
export ROTOSCOPE TOP SHIM TINY
faults() { # faults KIND: in a folder of its own
    mkdir "$1" && (cd "$1" && python3 "$TOP/tests/faults/faults.py" "$1") || fail "$1"
}
# LeakSanitizer is the unit tests' business; a preloaded library comes before ASan's own.
export ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0
