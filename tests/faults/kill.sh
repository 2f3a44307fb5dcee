#!/bin/sh
# kill -9 at random moments of builds and repairs.
[ "${SAN:-}" != tsan ] || { echo "too slow under TSan"; exit 77; }
. "$(dirname "$0")/../cli/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
. "$TOP/tests/faults/lib.sh"
[ "${ROT_FAULTS:-}" = full ] || TINY="" # short: up to images
faults kill
finish
