#!/bin/bash
# Usage: cluster/mpi.sh N CONFIG [MPIRUN OPTION...]
# --bind-to none: else a rank has one core for all its threads. Run it again until it exits 0.
n=$1 config=$2
shift 2
exec mpirun --bind-to none "$@" -np "$n" rotoscope build -c "$config"
