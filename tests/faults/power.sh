#!/bin/sh
# Power failures, replayed from a log of writes and syncs: order kept, pages dropped, sectors dropped.
[ "${SAN:-}" != tsan ] || { echo "too slow under TSan"; exit 77; }
. "$(dirname "$0")/../cli/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
. "$TOP/tests/faults/lib.sh"
faults power
finish
