#!/bin/sh
# The store on a disk that is full, read-only or failing: an error that says so, nothing torn under a final
# name, and the next run ends with the undisturbed bytes.
set -u
BUILD=${BUILD:-build}
write="$BUILD/tests/test_shards_faults"
[ -x "$write" ] || { echo "no $write"; exit 77; }
dir=$(mktemp -d)
mounted=""
cleanup() {
    [ -z "$mounted" ] || umount "$dir/disk"
    rm -rf "$dir"
}
trap cleanup EXIT
fail() {
    echo "$*"
    cat "$dir/out" 2>/dev/null
    exit 1
}
run() { # run EXPECTED_CODE COMMAND...
    wanted=$1
    shift
    "$@" >"$dir/out" 2>&1
    code=$?
    [ "$code" = "$wanted" ] || fail "exit $code instead of $wanted: $*"
}
says() { grep -q "$1" "$dir/out" || fail "the message lacks '$1'"; }

run 0 "$write" write "$dir/whole"

mkdir "$dir/disk"
if mount -t tmpfs -o size=3m tmpfs "$dir/disk" 2>/dev/null; then
    mounted=yes
    run 1 "$write" write "$dir/disk/stage"
    says "no space"
    says "shard-0000"
    [ ! -e "$dir/disk/stage/stage.json" ] || fail "stage.json on a full disk"
    run 1 "$write" write "$dir/disk/stage" # still full
    mount -o remount,size=64m "$dir/disk"
    mount -o remount,ro "$dir/disk"
    run 1 "$write" write "$dir/disk/stage"
    says "Read-only"
    mount -o remount,rw "$dir/disk"
    run 0 "$write" write "$dir/disk/stage"
    diff -r "$dir/whole" "$dir/disk/stage" >"$dir/out" || fail "other bytes after a full disk"
else
    echo "mounting is not permitted: full and read-only disks left out"
fi

if ! strace -qq -e trace=none true 2>/dev/null; then
    [ -n "$mounted" ] || { echo "neither mount nor strace"; exit 77; }
    exit 0
fi
# LeakSanitizer cannot work under strace.
export ASAN_OPTIONS=detect_leaks=0
for fault in pwritev:error=EIO:when=1 pwritev:error=EIO:when=7 pwritev:error=ENOSPC:when=12 pwritev:retval=0:when=5 \
    fsync:error=EIO:when=1 fsync:error=ENOSPC:when=3 ftruncate:error=EIO:when=2 link:error=EIO:when=1 \
    link:error=EPERM:when=1+ rename:error=EIO:when=1 \
    pwritev:signal=KILL:when=9 fsync:signal=KILL:when=1 link:signal=KILL:when=2 unlink:signal=KILL:when=1; do
    rm -rf "$dir/s"
    strace -f -qq -o "$dir/log" -e "inject=$fault" "$write" write "$dir/s" >"$dir/out" 2>&1
    code=$?
    call=${fault%%:*}
    case $fault in
        *when=1+) [ $code = 0 ] || fail "$fault: exit $code" ;; # no hard links: rename instead
        *KILL*) [ $code -ge 128 ] || fail "$fault: exit $code" ;;
        *) [ $code = 1 ] || fail "$fault: exit $code" ;;
    esac
    case $fault in *KILL*) ;; *) grep -q "$call.*INJECTED" "$dir/log" || fail "$fault never came" ;; esac
    run 0 "$write" write "$dir/s"
    diff -r "$dir/whole" "$dir/s" >"$dir/out" || fail "$fault: other bytes afterwards"
done
