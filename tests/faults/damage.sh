#!/bin/sh
# A flipped byte anywhere, a file cut or gone: verify names it, repair mends it, nothing crashes.
[ "${SAN:-}" != tsan ] || { echo "too slow under TSan"; exit 77; }
. "$(dirname "$0")/../cli/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
. "$TOP/tests/faults/lib.sh"
faults damage
finish
