#!/bin/bash
# Open MPI with more ranks than processors, one of them killed.
TOP=$(cd "$(dirname "$0")/../.." && pwd)
command -v mpirun >/dev/null || { echo "no mpirun"; exit 77; }
if [ "${1:-}" != --in ]; then
    exec unshare -n -m -p -i --fork --kill-child --mount-proc bash "$TOP/tests/cluster/mpi.sh" --in
fi
set --
ip link set lo up
cd "$TOP" || exit 1
. tests/cluster/lib.sh
mkdir t
export TMPDIR=/tmp/rot-mpi.$$ OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 MPIRUN_FLAGS=--oversubscribe
mkdir "$TMPDIR"
fresh by8
expect 0 "" rotoscope submit -c by8.yaml --launcher mpi --array 8 --go
same by8
# A rank killed by 9 takes the others with it; the next run, of another size, goes on.
fresh killed
mpirun --oversubscribe --bind-to none -np 4 "$ROTOSCOPE" build -q --threads 1 -c killed.yaml >/dev/null 2>&1 &
tries=0
until [ "$(pgrep -cx rotoscope)" = 4 ] || [ $((tries += 1)) -gt 200 ]; do sleep .05; done
sleep .3
victim=$(pgrep -x rotoscope | sort -n | tail -n 1)
kill -9 "$victim" || fail "no rank to kill"
wait
expect 0 "" mpirun --oversubscribe --bind-to none -np 3 "$ROTOSCOPE" build -q --threads 1 -c killed.yaml
same killed
rm -rf "$TMPDIR"
finish
