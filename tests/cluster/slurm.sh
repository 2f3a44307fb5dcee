#!/bin/bash
# A Slurm of one controller and two nodes in namespaces of its own, and what submit writes run by it: an array
# with a task killed by 9, one requeued by exit 75, and a node set down while its program runs on.
TOP=$(cd "$(dirname "$0")/../.." && pwd)
command -v slurmctld >/dev/null && command -v munged >/dev/null || { echo "no Slurm with munge"; exit 77; }
if [ "${1:-}" != --in ]; then
    exec unshare -n -m -p -u -i --fork --kill-child --mount-proc bash "$TOP/tests/cluster/slurm.sh" --in
fi
set --
cd "$TOP" || exit 1
. tests/cluster/lib.sh
D=$(mktemp -d /tmp/rot-slurm.XXXXXX)
trap 'rm -rf "$scratch" "$D"' EXIT
mkdir -p "$D"/{munge,state,spool/n1,spool/n2,log,run}
chmod 755 "$D" "$D/run"
chmod 700 "$D/munge"
hostname box
ip link set lo up
ip link add v0 type veth peer name v1
ip addr add 10.99.0.1/24 dev v0
ip link set v0 up
ip link set v1 up
echo '127.0.0.1 localhost box' >"$D/hosts"
mount --bind "$D/hosts" /etc/hosts
(umask 277; head -c 128 /dev/urandom >"$D/munge/key")
echo 'CgroupPlugin=cgroup/v1' >"$D/cgroup.conf"
tr ' ' '\n' >"$D/slurm.conf" <<END
ClusterName=t SlurmctldHost=box(127.0.0.1) SlurmUser=root SlurmdUser=root
AuthType=auth/munge CredType=cred/munge AuthInfo=socket=$D/run/munge.s,cred_expire=5
SlurmctldPort=16817 CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$D/state SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/run/ctld.pid SlurmdPidFile=$D/run/slurmd.%n.pid
SlurmctldLogFile=$D/log/ctld.log SlurmdLogFile=$D/log/slurmd.%n.log
ProctrackType=proctrack/pgid TaskPlugin=task/none JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none JobCompType=jobcomp/filetxt JobCompLoc=$D/log/jobcomp.txt
SelectType=select/cons_tres SelectTypeParameters=CR_CPU SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmctldTimeout=10 SlurmdTimeout=10 KillWait=2 ReturnToService=1 MaxArraySize=1001 PropagateResourceLimits=NONE
END
cat >>"$D/slurm.conf" <<END
NodeName=n[1-2] NodeHostname=box NodeAddr=127.0.0.1 Port=[16818-16819] CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=p Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$D/slurm.conf
daemon() { setsid "$@" >>"$D/log/out" 2>&1 </dev/null & }
daemon munged -F --key-file="$D/munge/key" --socket="$D/run/munge.s" --pid-file="$D/run/munge.pid" \
    --log-file="$D/munge/log" --seed-file="$D/munge/seed"
for _ in $(seq 100); do [ -S "$D/run/munge.s" ] && break; sleep .05; done
daemon slurmctld -D
daemon slurmd -D -N n1
daemon slurmd -D -N n2
start=$SECONDS
until [ "$(timeout 5 sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" = 2 ]; do
    [ $((SECONDS - start)) -lt 30 ] || { tail -20 "$D/log/out"; echo "Slurm does not start"; exit 1; }
    sleep .05
done

# finished SECONDS: no job is left.
finished() {
    start=$SECONDS
    while [ -n "$(squeue -h)" ]; do
        [ $((SECONDS - start)) -lt "$1" ] || { squeue; fail "jobs are left after $1 s"; scancel -u root; return; }
        sleep .2
    done
}
# running NAME: programs of at least two of its ranks run (one alone may be the prepare job), in $victims.
running() {
    start=$SECONDS
    until victims=$(pgrep -f "build -c .*$1.yaml" | sort -n) && [ "$(echo "$victims" | wc -l)" -ge 2 ]; do
        [ $((SECONDS - start)) -lt 20 ] || { fail "$1: its ranks do not run"; return; }
        sleep .02
    done
    sleep .4
}

fresh plain
expect 0 "" rotoscope submit -c plain.yaml --launcher slurm --array '4%4' --go
finished 90
same plain
expect 2 "MaxArraySize" rotoscope submit -c plain.yaml --launcher slurm --array 1002

# The same program in a step over both nodes; and in the steps of an array's tasks, ranks of one build.
fresh step
expect 0 "" srun --mpi=none -n 8 "$ROTOSCOPE" build -q --threads 1 -c step.yaml
same step
fresh steps
cat >steps.sbatch <<END
#!/bin/bash
#SBATCH --ntasks=4 --array=3-5:2 --output=steps-%a.log
srun --mpi=none "$ROTOSCOPE" build --threads 1 -c "$PWD/steps.yaml"
END
expect 0 "" sbatch steps.sbatch
finished 90
same steps
grep -q "rank 0 of 8 (Slurm array of steps)" steps-*.log || fail "other ranks: $(cat steps-*.log)"

# One task's program killed by 9, one told to drain: exit 75, requeued.
fresh hurt
sed -i 's/shard_samples: 8/shard_samples: 32/' hurt.yaml
expect 0 "" rotoscope submit -c hurt.yaml --launcher slurm --array 3 --requeue --go
running hurt
kill -9 $(echo "$victims" | tail -n 1) || fail "no rank to kill"
kill -USR1 $(echo "$victims" | head -n 1) || fail "no rank to drain"
finished 90
same hurt
grep "Name=hurt-embeds" "$D/log/jobcomp.txt" | grep -q "JobState=FAILED" || fail "no task failed"
grep -q "stopped in stage embeds" out-hurt/jobs/hurt-embeds-*.log || fail "no task drained"

# A node goes down while its program runs on (a stopped one, that wakes up after its work was done by others).
fresh down
expect 0 "" rotoscope submit -c down.yaml --launcher slurm --array 4 --requeue --go
running down
sleeper=$(echo "$victims" | head -n 1)
kill -STOP $sleeper || fail "no rank to stop"
scontrol update nodename=n2 state=down reason=test
sleep 6
kill -CONT "$sleeper" 2>/dev/null
finished 120
same down
finish
