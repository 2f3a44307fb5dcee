#!/bin/sh
# tools/check-gpu without a GPU: refused, and as a dry run on the emulated device.
[ -z "${SAN:-}" ] || { echo "not with sanitizers: the program is the same"; exit 77; }
. "$(dirname "$0")/lib.sh"
unset LOCAL_RANK OMPI_COMM_WORLD_LOCAL_RANK SLURM_LOCALID CUDA_VISIBLE_DEVICES
check() { (cd "$TOP" && exec env BUILD="$MAKE_BUILD" "$@"); }
expect 2 "tools/check-gpu [--minutes N]" check tools/check-gpu --minutes
expect 2 "tools/check-gpu [--minutes N]" check tools/check-gpu --minutes x
expect 2 "tools/check-gpu [--minutes N]" check tools/check-gpu --wet-run
expect 0 "5 passed, 0 failed, 9 skipped" check tools/check-gpu --dry-run --minutes 0 --report "$PWD/r.txt" --folder "$PWD/f"
for part in "Emulated" "attention_equals_double" "2 builds" "racecheck: not in a dry run" "bench/encode_cuda.py"; do
    grep -q "$part" r.txt || fail "no $part in the report"
done
# A step that fails is said, and those after it run all the same.
expect 1 "encode: FAILED" check ROT_FAKE_CUDA_FAIL=20 tools/check-gpu --dry-run --minutes 0 --report "$PWD/r.txt" --folder "$PWD/g"
grep -q "illegal memory access" r.txt || fail "no cause in the report"
grep -q "bench/encode_cuda.py: not in a dry run" r.txt || fail "it stopped at a failure"
expect 2 "no NVIDIA driver" check ROT_FAKE_CUDA=none tools/check-gpu --dry-run --report "$PWD/r.txt" --folder "$PWD/h"
finish
