#!/bin/sh
# The tree follows its rules, and the program that says so sees each of them broken.
[ "${SAN:-}" != tsan ] || { echo "one process, or too slow: nothing for TSan to see"; exit 77; }
. "$(dirname "$0")/lib.sh"

expect 0 "" "$TOP/tools/lint"
cat err.txt

mkdir -p tree/tools tree/include/rotoscope tree/base tree/renderer tree/shards tree/cli tree/encoder
cp "$TOP/tools/lint" tree/tools/
lint() { (cd tree && GIT_CEILING_DIRECTORIES=$PWD/.. tools/lint); }
printf '#include "base/err.h"\n\nint x;\n' >tree/renderer/good.c
printf '// Says hello.\nint rot_hello(void);\n' >tree/include/rotoscope/good.h
expect 0 "" lint

broken() { # broken WORD FILE TEXT
    printf "$3" >"tree/$2"
    expect 1 "$1" lint
    grep -qF "$2" err.txt || fail "$2 is not named"
    rm "tree/$2"
}
broken "may not include shards/x.h" renderer/a.c '#include "shards/x.h"\n'
broken "may not include renderer/x.h" base/a.c '#include "renderer/x.h"\n'
broken "may not include base/err.h" cli/a.c '#include "base/err.h"\n'
broken "may not include tokenizer/x.h" encoder/a.c '# include "tokenizer/x.h"\n'
broken "has no folder" base/a.c '#include "err.h"\n'
broken "a public header stands alone" include/rotoscope/a.h '#include "base/err.h"\n'
broken "LMDB only in shards" renderer/a.c '#include <lmdb.h>\n'
broken "FreeType only in renderer" shards/a.c '#include <ft2build.h>\n'
broken "HarfBuzz only in renderer" cli/a.c '#include <hb-ft.h>\n'
broken "oneDNN only in kernels" encoder/a.c '#include <oneapi/dnnl/dnnl.h>\n'
broken "a tab" base/a.c 'int x;\tint y;\n'
broken "blanks at the end" base/a.c 'int x; \n'
broken "columns" base/a.c "// $(printf '%0100d' 0)\n"
broken "no comment above" include/rotoscope/a.h '\nint rot_nameless(int x);\n'
finish
