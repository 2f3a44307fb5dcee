#!/bin/bash
# The first process of a User Mode Linux started by tests/cluster/nfs.sh: an NFS 4.2 server and two mounts of it
# that share no cache, so two clients; then builds by ranks on both. The files of the host are there, read-only.
# The result goes to $DIR/out/rc, words to $DIR/out/log.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/dev/shm LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/shm
for d in /run /mnt /dev/shm; do mount -t tmpfs tmpfs $d; done
mkdir /mnt/{server,a,b,root,out}
mount -t hostfs none /mnt/out -o "$DIR/out"
exec >/mnt/out/log 2>&1
off() { # CODE: ends the machine
    echo "$1" >/mnt/out/rc
    sync
    echo o >/proc/sysrq-trigger
    sleep 60
}
. "$DIR/env"
ip link set lo up
modules=/usr/lib/uml/modules/$(uname -r)
[ -e "$modules/modules.dep" ] || { echo "no modules of $(uname -r)"; off 77; }
load() { # MODULE...: each after those that it needs
    for m; do
        line=$(grep "/$m\.ko:" "$modules/modules.dep")
        for f in $(echo ${line#*:} | tr ' ' '\n' | tac) ${line%%:*}; do
            n=$(basename "$f" .ko)
            grep -q "^${n//-/_} " /proc/modules || insmod "$modules/$f"
        done
    done
}
load nfsd nfs nfsv4 loop
V=/var/lib/nfs
mount -t tmpfs tmpfs $V
mkdir -p $V/{rpc_pipefs,v4recovery,sm}
touch $V/etab $V/rmtab
mount -t rpc_pipefs rpc_pipefs $V/rpc_pipefs
mount -t nfsd nfsd /proc/fs/nfsd
truncate -s 96M /dev/shm/disk
mkfs.ext4 -q -F /dev/shm/disk
mount -o loop /dev/shm/disk /mnt/server
exportfs -o rw,no_root_squash,insecure,fsid=0,no_subtree_check 127.0.0.1:/mnt/server
echo 10 >/proc/fs/nfsd/nfsv4gracetime
echo 10 >/proc/fs/nfsd/nfsv4leasetime
rpc.mountd -N 2 -N 3
rpc.nfsd -N 3 -V 4.2 2
for node in a b; do
    # Options as clusters have them: attributes and names may be believed for half a minute.
    mount -t nfs4 -o vers=4.2,nosharecache,hard 127.0.0.1:/ /mnt/$node || { echo "no NFS mount"; off 77; }
done
mkdir /dev/shm/work
cd /dev/shm/work || off 1
cp "$WORK/rows.jsonl" .
failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}
step() { echo "$(cut -d' ' -f1 /proc/uptime) $*"; }
root_of() { sed -n 's/^  "root": "\([0-9a-f]*\)".*/\1/p' "$1"; }
# on NODE COMMAND...: as on a host of its own, whose mount is /mnt/root
on() {
    unshare -m -u bash -c 'hostname node-$1; mount --bind /mnt/$1 /mnt/root; shift; exec "$@"' on "$@"
}
# launch NAME N: ranks 0 to N-1, the even ones on a, the odd ones on b; pids in $pids
launch() {
    name=$1 n=$2 pids=()
    [ -e "$name.yaml" ] || sed "s|^root:.*|root: /mnt/root/$name|; s/whole/$name/" "$WORK/whole.yaml" >"$name.yaml"
    for ((r = 0; r < n; r++)); do
        node=a
        [ $((r % 2)) = 0 ] || node=b
        RANK=$r WORLD_SIZE=$n on $node "$ROTOSCOPE" build -q --threads 1 --stale 6 -c "$name.yaml" \
            >"$name.$r.txt" 2>&1 &
        pids+=($!)
    done
}
join() { # CODES: every rank ends with one of these
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null
        got=$?
        case " $1 " in *" $got "*) ;; *) fail "$name: a rank ends with $got, not $1: $(tail -qn 2 "$name".*.txt)" ;; esac
    done
}
after() { # N: so many shards of embeds are there, as the server sees it
    for _ in $(seq 300); do
        [ "$(ls "/mnt/server/$name"/stages/embeds-*/shard-*.mdb 2>/dev/null | wc -l)" -lt "$1" ] || return
        sleep .05
    done
    fail "$name: no $1 shards"
}
# same NAME ROOT: on both clients, at once, whatever they believe; nothing is left over, no .nfs file either
same() {
    for node in a b; do
        on $node "$ROTOSCOPE" build -q --threads 1 -c "$1.yaml" >out.txt 2>&1 || fail "$1 on $node: $(cat out.txt)"
        on $node "$ROTOSCOPE" verify -q "/mnt/root/$1" >out.txt 2>&1 || fail "$1 on $node: $(cat out.txt)"
        [ "$(root_of "/mnt/$node/$1/$1.json")" = "$2" ] || fail "$1: another root on $node"
    done
    left=$(find "/mnt/server/$1" -name '*.tmp*' -o -name '.nfs*' -o -path '*/claims/*')
    [ -z "$left" ] || fail "$1: left over: $left"
}

# Both clients have looked for everything before it is there: negative entries.
mkdir /mnt/a/plain
for f in plain/plain.json plain/.rotoscope/plain.plan.json plain/stages; do
    stat /mnt/b/$f >/dev/null 2>&1 && fail "$f is there"
done
step plain
launch plain 4
join 0
step built
same plain "$WANT"

# Ranks of one client killed, what they hold open is removed by the other; then all killed; then others go on.
step killed
launch killed 4
after 2
kill -9 "${pids[1]}" "${pids[3]}"
join "0 137"
same killed "$WANT"
launch twice 4
after 3
kill -9 "${pids[@]}"
join 137
launch twice 3
join 0
same twice "$WANT"

# One client holds the dataset open while the other puts a new one in its place.
step replaced
exec 9</mnt/b/plain/plain.json
sed '/^render:/s/.*/render: {preset: rot-paper, size_px: 18}/' plain.yaml >new.yaml
mv new.yaml plain.yaml
on a "$ROTOSCOPE" build -q --threads 1 -c plain.yaml >out.txt 2>&1 || fail "replaced: $(cat out.txt)"
on b "$ROTOSCOPE" build -q --threads 1 -c plain.yaml >out.txt 2>&1 || fail "replaced, on the other client: $(cat out.txt)"
exec 9<&-
same plain "$OTHER"

# The server stops in the middle, and comes back after a while.
step stopped
launch stopped 4
after 2
rpc.nfsd 0
sleep 8
rpc.nfsd -N 3 -V 4.2 2
join 0
same stopped "$WANT"
step end
[ $failures = 0 ]
off $?
