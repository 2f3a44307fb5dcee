#!/bin/sh
# librotoscope_cuda.so as nvcc made it: code for each architecture, one symbol, and on a machine without a driver an
# error that says so.
. "$(dirname "$0")/lib.sh"
library=$BUILD/librotoscope_cuda.so
[ -e "$library" ] || { echo "not built for CUDA: no nvcc, or no cuBLASLt"; exit 77; }
unset ROT_CPU CUDA_VISIBLE_DEVICES

# The fat binary's entries: kind (2 machine code, 1 PTX), size of its header, size, at 28 the architecture.
cat >entries.py <<'END'
import struct, sys
data, found, at = open(sys.argv[1], "rb").read(), set(), 0
while (at := data.find(struct.pack("<IHH", 0xBA55ED50, 1, 16), at)) >= 0:
    end = at + 16 + struct.unpack_from("<Q", data, at + 8)[0]
    at += 16
    while at < end:
        kind, header, size = struct.unpack_from("<HxxIQ", data, at)
        found.add(f"{ {1: 'ptx', 2: 'sm'}.get(kind, kind) }_{struct.unpack_from('<I', data, at + 28)[0]}")
        at += header + size
print(*sorted(found))
END
expect 0 "ptx_100 sm_100 sm_80 sm_90" python3 entries.py "$library"
[ "$(nm -D --defined-only "$library" | awk '$2 == "T" { print $3 }')" = rot_cuda_driver_table ] ||
    fail "other symbols: $(nm -D --defined-only "$library")"

if ! ldconfig -p | grep -q libcuda.so.1; then
    expect 0 "none: the cuda backend: no NVIDIA driver is here (libcuda.so.1)" "$ROTOSCOPE" doctor
    expect 0 "none: no NVIDIA driver is here" env ROT_CUDA_LIB="$library" "$ROTOSCOPE" doctor
    expect 0 "" "$ROTOSCOPE" init-model -q --arch tiny m
    printf 'P5 32 32 255\n%1024s' '' >i.pgm
    expect 2 "no NVIDIA driver" env ROT_CUDA_LIB="$library" "$ROTOSCOPE" encode -m m i.pgm -o o --backend cuda
    [ ! -e o ] || fail "an output without a device"
    expect 0 "" env ROT_CUDA_LIB="$library" "$ROTOSCOPE" encode -q -m m i.pgm -o o # auto: by the processor
fi
finish
