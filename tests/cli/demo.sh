#!/bin/sh
# The demo in a copy of its files: below a path with a space, without a terminal, twice.
[ "${SAN:-}" != tsan ] || { echo "one process, or too slow: nothing for TSan to see"; exit 77; }
. "$(dirname "$0")/lib.sh"

mkdir copy
cp -r "$TOP/configs" "$TOP/samples" copy/
mkdir copy/tools copy/build
cp "$TOP/tools/demo" copy/tools/
ln -s "$ROTOSCOPE" copy/build/rotoscope
demo() { BUILD=build setsid copy/tools/demo; }
expect 0 "out/demo/report.html" demo
grep -q "inspect" out.txt || fail "it does not say what to try next"
[ -s copy/out/demo/report.html ] || fail "no report"
[ -z "$(git -C "$TOP" status --porcelain -- out 2>/dev/null)" ] || fail "it wrote into the checkout"

# What it says to try works.
grep '^  build/rotoscope' out.txt >try.txt
[ "$(wc -l <try.txt)" -ge 5 ] || fail "too few things to try"
while IFS= read -r line; do
    (cd copy && sh -c "$line") >tried.txt 2>&1 || fail "what it says to try fails: $line: $(cat tried.txt)"
done <try.txt

find copy/out -type f ! -name report.html -exec stat -c '%n %Y %i %s' {} + | sort >before.txt
expect 0 "out/demo/report.html" demo
find copy/out -type f ! -name report.html -exec stat -c '%n %Y %i %s' {} + | sort >after.txt
cmp -s before.txt after.txt || fail "a second demo builds again"
finish
