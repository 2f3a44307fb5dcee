#!/bin/sh
# make install: a program of someone else's compiles against what was installed and runs.
[ -z "${SAN:-}" ] || { echo "not with sanitizers: the library would need their runtime"; exit 77; }
. "$(dirname "$0")/lib.sh"

dest=$scratch/dest # neither make nor pkg-config takes a space here
expect 0 "" make -C "$TOP" --no-print-directory BUILD="$MAKE_BUILD" PREFIX=/opt/rot DESTDIR="$dest" install
for f in bin/rotoscope lib/librotoscope.a lib/librotoscope.so lib/librotoscope.so.0 lib/pkgconfig/rotoscope.pc \
    include/rotoscope/rotoscope.h share/rotoscope/configs/demo.yaml; do
    [ -f "$dest/opt/rot/$f" ] || fail "$f is not installed"
done
[ -z "$(find "$dest" -type f ! -path "$dest/opt/rot/*")" ] || fail "files outside PREFIX"
expect 0 "rotoscope 0." "$dest/opt/rot/bin/rotoscope" --version
if [ -e "$BUILD/librotoscope_cuda.so" ]; then # with cuBLASLt from where it was built with
    expect 0 "" env ROT_CUDA_LIB="$dest/opt/rot/lib/librotoscope_cuda.so" "$dest/opt/rot/bin/rotoscope" doctor --json
    ! grep -q "librotoscope_cuda\|cublasLt.so" out.txt err.txt || fail "the CUDA library does not load: $(cat out.txt)"
fi

export PKG_CONFIG_PATH="$dest/opt/rot/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$dest"
cat >program.c <<'END'
#include <rotoscope/rotoscope.h>
#include <stdio.h>
int main(void)
{
    rot_preprocessor p = rot_preprocessor_default();
    rot_grid grid;
    rot_err err = {0};
    if (rot_geometry_grid(ROT_GEOMETRY_RELEASED, &p, 1300, 32, &grid, &err) < 0) return 1;
    printf("K = %d\n", grid.k);
    return 0;
}
END
# shellcheck disable=SC2046
expect 0 "" cc -o program program.c $(pkg-config --cflags --libs rotoscope)
expect 0 "K = 110" env LD_LIBRARY_PATH="$dest/opt/rot/lib" ./program
grep -q "^Version: [0-9]" "$dest/opt/rot/lib/pkgconfig/rotoscope.pc" || fail "no version in the .pc file"
# Public headers also serve C++, each alone.
if command -v c++ >/dev/null; then
    for header in "$dest"/opt/rot/include/rotoscope/*.h; do
        echo "#include \"rotoscope/$(basename "$header")\"" >one.cc
        expect 0 "" c++ -fsyntax-only -I"$dest/opt/rot/include" one.cc
    done
fi
finish
