#!/bin/bash
# Builds by two clients of a real NFS 4.2. The kernel of this machine may have no NFS, so server and clients run in
# a User Mode Linux, an ordinary program that needs no rights; tests/cluster/nfs_guest.sh is what happens in it.
TOP=$(cd "$(dirname "$0")/../.." && pwd)
for tool in linux.uml mkfs.ext4 exportfs rpc.mountd rpc.nfsd mount.nfs4 insmod ip; do
    PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null || { echo "no $tool"; exit 77; }
done
cd "$TOP" || exit 1
. tests/cluster/lib.sh
sed '/^render:/s/.*/render: {preset: rot-paper, size_px: 18}/; s/whole/other/' whole.yaml >other.yaml
expect 0 "" rotoscope build -q --threads 1 -c other.yaml
D=$(mktemp -d /tmp/rot-nfs.XXXXXX) # a kernel's command line takes no spaces
trap 'rm -rf "$scratch" "$D"' EXIT
mkdir "$D/out" "$D/uml"
cp "$TOP/tests/cluster/nfs_guest.sh" "$D/init.sh"
chmod +x "$D/init.sh"
{
    printf 'WORK=%q ROTOSCOPE=%q\n' "$PWD" "$ROTOSCOPE"
    echo "WANT=$want OTHER=$(root_of out-other/other.json)"
} >"$D/env"
linux() {
    timeout -s KILL "$1" linux.uml mem=512M rootfstype=hostfs rootflags=/ ro init="$2" con=null con0=null,fd:1 \
        ssl=null umid=u uml_dir="$D/uml/" quiet loglevel=1 "DIR=$D" </dev/null >"$D/console" 2>&1
}
# Whether it runs at all here (ptrace may be forbidden).
printf '#!/bin/sh\nmount -t proc proc /proc\nmount -t tmpfs tmpfs /mnt\nmount -t hostfs none /mnt -o "$DIR/out" && : >/mnt/runs\necho o >/proc/sysrq-trigger\nsleep 5\n' >"$D/try.sh"
chmod +x "$D/try.sh"
linux 30 "$D/try.sh"
[ -e "$D/out/runs" ] || { echo "User Mode Linux does not run here: $(tail -n 1 "$D/console")"; exit 77; }
linux 270 "$D/init.sh"
[ -z "${ROT_NFS_LOG:-}" ] || cat "$D/out/log"
[ "$(cat "$D/out/rc" 2>/dev/null)" = 77 ] && { tail -n 1 "$D/out/log"; exit 77; }
[ "$(cat "$D/out/rc" 2>/dev/null)" = 0 ] || fail "in the guest: $(cat "$D/out/log" 2>/dev/null || tail -n 20 "$D/console")"
finish
