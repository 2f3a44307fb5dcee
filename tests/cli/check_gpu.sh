#!/bin/sh
# tools/check-gpu without a GPU: refused, and as a dry run on the emulated device.
[ -z "${SAN:-}" ] || { echo "not with sanitizers: the program is the same"; exit 77; }
. "$(dirname "$0")/lib.sh"
unset LOCAL_RANK OMPI_COMM_WORLD_LOCAL_RANK SLURM_LOCALID CUDA_VISIBLE_DEVICES
check() { (cd "$TOP" && exec env BUILD="$MAKE_BUILD" "$@"); }
expect 2 "tools/check-gpu [--minutes N]" check tools/check-gpu --minutes
expect 2 "tools/check-gpu [--minutes N]" check tools/check-gpu --minutes x
expect 2 "tools/check-gpu [--minutes N]" check tools/check-gpu --wet-run
expect 0 "5 passed, 0 failed, 11 skipped" check tools/check-gpu --dry-run --minutes 0 --report "$PWD/r.txt" --folder "$PWD/f"
for part in "Emulated" "attention_equals_double" "2 builds" "racecheck: not in a dry run" "bench/encode_cuda.py"; do
    grep -q "$part" r.txt || fail "no $part in the report"
done
# A step that fails is said, and those after it run all the same.
expect 1 "encode: FAILED" check ROT_FAKE_CUDA_FAIL=20 tools/check-gpu --dry-run --minutes 0 --report "$PWD/r.txt" --folder "$PWD/g"
grep -q "illegal memory access" r.txt || fail "no cause in the report"
grep -q "bench/encode_cuda.py: not in a dry run" r.txt || fail "it stopped at a failure"
# No step begins behind the limit, and the one that runs then is ended with all that it began.
expect 1 "doctor: NOT REACHED" check tools/check-gpu --dry-run --limit 0 --report "$PWD/r.txt" --folder "$PWD/l"
expect 1 "failed" check tools/check-gpu --dry-run --minutes 9 --limit 4 --report "$PWD/r.txt" --folder "$PWD/k"
grep -qE "soak of 9 minutes: (FAILED|NOT REACHED)" r.txt || fail "the soak went on"
ps -ef | grep -v grep | grep -F "$PWD/k" && fail "something still runs"
# What was packed does without the build.
if [ -e "$BUILD/librotoscope_cuda.so" ]; then
    expect 0 "" check make -s "$MAKE_BUILD/bench/encode"
    expect 0 "" env BUILD="$BUILD" "$TOP/tools/check-gpu" --pack p # of this folder
    cp "$BUILD/tests/cuda_device.so" p/tests/
    expect 0 "5 passed, 0 failed, 10 skipped" check BUILD=/nowhere PYTHON=python3 tools/check-gpu --packed "$PWD/p" --dry-run \
        --minutes 0 --folder "$PWD/q"
    grep -q "2 builds" p/gpu-report.txt || fail "no report beside what was packed"
    # The benchmark asks the library that was packed, not only the machine for a driver.
    ldconfig -p | grep -q libcuda.so.1 ||
        expect 1 "encode: no NVIDIA driver is here" p/bench/encode --device cuda q/tiny
fi
expect 2 "no NVIDIA driver" check ROT_FAKE_CUDA=none tools/check-gpu --dry-run --report "$PWD/r.txt" --folder "$PWD/h"
finish
