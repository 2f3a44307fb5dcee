#!/bin/sh
# The scripts that submit writes, as text; that they run is tests/cluster's business.
[ "${SAN:-}" != tsan ] || { echo "many processes, too slow under TSan: the unit tests cover their threads"; exit 77; }
. "$(dirname "$0")/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
unset SLURM_JOB_ID
PATH=/usr/bin:/bin # no scontrol of this machine's own beyond Debian's
rows 4 >rows.jsonl
config here rows.jsonl "$encode"
expect 0 "here.submit.sh" rotoscope submit -c here.yaml --launcher slurm --array '6%2' --partition p --time 1:00:00 \
    --gpus 1 --requeue --scratch '$TMPDIR/rot'
jobs=out-here/jobs
for f in prepare.sbatch array.sbatch finish.sbatch submit.sh; do
    bash -n "$jobs/here.$f" || fail "here.$f is no script"
done
has() { grep -qF -- "$2" "$jobs/here.$1" || fail "no '$2' in $1"; }
has array.sbatch "#SBATCH --array=0-5%2"
has array.sbatch "#SBATCH --gpus=1"
has array.sbatch "#SBATCH --signal=B:USR1@120"
has array.sbatch 'scontrol requeue "$SLURM_JOB_ID"'
has array.sbatch '--scratch "$TMPDIR/rot"'
has prepare.sbatch "--prepare"
has prepare.sbatch "#SBATCH --partition=p"
has finish.sbatch " verify '"
has submit.sh "--dependency=afterok:\$prepare"
has submit.sh "--dependency=afterany:\$array"
grep -q gpus "$jobs/here.prepare.sbatch" && fail "preparing asks for a GPU"
expect 0 "" rotoscope submit -c here.yaml --launcher slurm --array 3
grep -q "scontrol" "$jobs/here.array.sbatch" && fail "requeues without --requeue"
expect 0 "here.submit.sh" rotoscope submit -c here.yaml --launcher mpi --array 4
has submit.sh "mpirun --bind-to none"
has submit.sh "-np 4 "
SLURM_JOB_ID=7 expect 2 "job 7" rotoscope submit -c here.yaml --launcher slurm
expect 2 "MaxArraySize" rotoscope submit -c here.yaml --launcher slurm --array 5000000
expect 2 "1 <= W" rotoscope submit -c here.yaml --launcher slurm --array '2%3'
expect 2 "not one word" rotoscope submit -c here.yaml --launcher slurm --partition 'a b'
expect 2 "slurm or mpi" rotoscope submit -c here.yaml --launcher pbs
expect 2 "launcher" rotoscope submit -c here.yaml
# A sweep's scripts: the same jobs, each over all variants.
printf 'name: many\nbase: here.yaml\ngrid: {render.size_px: [16, 20]}\n' >many.yaml
expect 0 "many.submit.sh" rotoscope submit --sweep many.yaml --launcher slurm --array 2 --requeue
for f in prepare.sbatch array.sbatch finish.sbatch submit.sh; do
    bash -n "$jobs/many.$f" || fail "many.$f is no script"
done
grep -q " sweep '.*many.yaml' --rank 0 --ranks 1 --prepare" "$jobs/many.prepare.sbatch" || fail "no preparing sweep"
grep -q " sweep '.*many.yaml' &$" "$jobs/many.array.sbatch" || fail "no sweep in the array"
for v in 16 20; do grep -q " verify '.*many-size_px-$v.json'" "$jobs/many.finish.sbatch" || fail "$v is not verified"; done
# They run, here without Slurm: prepared by one, made by two tasks of an array, finished and verified.
expect 0 "" bash "$jobs/many.prepare.sbatch"
array="SLURM_ARRAY_TASK_COUNT=2 SLURM_ARRAY_TASK_MIN=3 SLURM_ARRAY_TASK_MAX=5 SLURM_ARRAY_TASK_STEP=2"
env $array SLURM_ARRAY_TASK_ID=3 bash "$jobs/many.array.sbatch" >task3.txt 2>&1 &
pid=$!
expect 0 "" env $array SLURM_ARRAY_TASK_ID=5 bash "$jobs/many.array.sbatch"
wait $pid || fail "the other task: $(cat task3.txt)"
[ -s out-here/sweeps/many.tsv ] || fail "the tasks leave no table"
expect 0 "" bash "$jobs/many.finish.sbatch"
expect 2 "exclude each other" rotoscope submit -c here.yaml --sweep many.yaml --launcher mpi
finish
