#!/bin/bash
# Eight ranks on two nodes, each node with a GlusterFS mount and a host name of its own: built at once, with
# ranks killed and another number of them in between, and with the server away for a while.
TOP=$(cd "$(dirname "$0")/../.." && pwd)
for tool in glusterfs glusterfsd; do
    command -v $tool >/dev/null || { echo "no $tool"; exit 77; }
done
[ -c /dev/fuse ] || { echo "no /dev/fuse"; exit 77; }
if [ "${1:-}" != --in ]; then
    exec unshare -n -m -p -u -i --fork --kill-child --mount-proc bash "$TOP/tests/cluster/gluster.sh" --in
fi
set --
ip link set lo up
cd "$TOP" || exit 1
. tests/cluster/lib.sh
D=$(mktemp -d /tmp/rot-gluster.XXXXXX) # a volume file takes no spaces
trap 'umount -l "$D/a" "$D/b" 2>/dev/null; kill $server 2>/dev/null; rm -rf "$scratch" "$D"' EXIT
mkdir "$D"/{brick,a,b,root}
volume() { # NAME TYPE LINE...
    printf 'volume %s\n type %s\n' "$1" "$2"
    shift 2
    printf ' %s\n' "$@" end-volume
}
{
    volume posix storage/posix "option directory $D/brick"
    volume locks features/locks "subvolumes posix"
    volume server protocol/server "option transport-type tcp" "option transport.socket.bind-address 127.0.0.1" \
        "option transport.socket.listen-port 24991" "option auth.addr.locks.allow 127.0.0.1" \
        "option auth-path locks" "subvolumes locks"
} >"$D/server.vol"
volume client protocol/client "option transport-type tcp" "option remote-host 127.0.0.1" \
    "option remote-port 24991" "option remote-subvolume locks" >"$D/client.vol"
serve() {
    glusterfsd -N -f "$D/server.vol" -l "$D/server.log" -p "$D/server.pid" &
    server=$!
    for _ in $(seq 100); do
        (exec 3<>/dev/tcp/127.0.0.1/24991) 2>/dev/null && return
        sleep .05
    done
    fail "the server does not start: $(tail -n 5 "$D/server.log")"
    finish
}
serve
for node in a b; do
    glusterfs -f "$D/client.vol" -l "$D/$node.log" "$D/$node"
    for _ in $(seq 100); do
        [ "$(stat -f -c %T "$D/$node" 2>/dev/null)" = fuseblk ] && break
        sleep .05
    done
    mountpoint -q "$D/$node" || { fail "no mount: $(tail -n 5 "$D/$node.log")"; finish; }
done

# launch NAME N [OPTION...]: ranks 0 to N-1, the even ones on node a, the odd ones on node b; pids in $pids.
launch() {
    name=$1 n=$2
    shift 2
    sed "s|^root:.*|root: $D/root/$name|; s/whole/$name/" whole.yaml >"$name.yaml"
    pids=() r=0
    while [ $r -lt "$n" ]; do
        node=a
        [ $((r % 2)) = 0 ] || node=b
        RANK=$r WORLD_SIZE=$n unshare -m -u bash -c 'hostname node-$1; mount --bind "$2/$1" "$2/root"; shift 2; exec "$@"' \
            node $node "$D" "$ROTOSCOPE" build -q --threads 1 --stale 3 -c "$name.yaml" "$@" >"$name.$r.txt" 2>&1 &
        pids+=($!)
        r=$((r + 1))
    done
}
# after N: so many shards of embeds are published.
after() {
    for _ in $(seq 1000); do
        [ "$(find "$D/brick/$name/stages" -path '*embeds*mdb' 2>/dev/null | wc -l)" -lt "$1" ] || return
        sleep .02
    done
    fail "$name: no $1 shards after 20 s"
}
# join CODES: every rank ends with one of these codes.
join() {
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null
        got=$?
        case " $1 " in *" $got "*) ;; *) fail "$name: a rank ends with $got, not $1: $(tail -qn 2 "$name".*.txt)" ;; esac
    done
}
# same_on_both NAME: both nodes see the same sound store, with nothing left over.
same_on_both() {
    for node in a b; do
        [ "$(root_of "$D/$node/$1/$1.json")" = "$want" ] || fail "$1: another root on node $node"
        expect 0 "" rotoscope verify -q "$D/$node/$1"
        [ -z "$(find "$D/$node/$1/stages" -name '*.tmp*')" ] || fail "$1: unfinished shards are left"
        [ -z "$(ls -A "$D/$node/$1/.rotoscope/claims")" ] || fail "$1: claims are left"
    done
}

launch plain 8
join 0
same_on_both plain

# Killed after so many shards, others start in another number.
launch hurt 8
after 2
kill -9 "${pids[@]}" || fail "no rank to kill"
join 137
launch hurt 3
after 5
kill -9 "${pids[@]}" || fail "no rank to kill"
join 137
launch hurt 5
join 0
same_on_both hurt

# All of one node killed while those of the other wait for it or work on.
launch node 8
after 2
kill -9 "${pids[1]}" "${pids[3]}" "${pids[5]}" "${pids[7]}" || fail "no node to kill"
join "0 137"
same_on_both node

# The server stands still, then goes on; it dies: ranks fail, and the next run, on the same mounts, finishes.
launch still 8
after 1
kill -STOP $server
sleep 2
kill -CONT $server
join 0
same_on_both still
launch gone 8
after 1
kill -9 $server
join "0 1"
wait $server 2>/dev/null
serve
for _ in $(seq 120); do ls "$D/a/gone" "$D/b/gone" >/dev/null 2>&1 && break; sleep .1; done
launch gone 8
join 0
same_on_both gone
finish
