# Starts a Ray cluster over the machines of a Slurm job, which ends with the job. To be sourced; it sets `address` and
# `total`, the number of the cluster's cores.
ray=.venv/bin/ray
cpus=${SLURM_CPUS_PER_TASK:-16}
# A port of this job's own: two jobs may share a machine.
port=$((20000 + SLURM_JOB_ID % 20000))
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}'):$port
total=$((cpus * ${#nodes[@]}))

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    "$ray" start --head --node-ip-address="${address%:*}" --port="$port" --num-cpus="$cpus" \
    --include-dashboard=false --disable-usage-stats --block &
if ((${#nodes[@]} > 1)); then
    sleep 15 # the head has to listen before the others come
    srun --nodes=$((${#nodes[@]} - 1)) --ntasks-per-node=1 --exclude="$head" --overlap \
        "$ray" start --address="$address" --num-cpus="$cpus" --disable-usage-stats --block &
fi
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap bash -c '
    for attempt in $(seq 60); do
        "$0" status --address="$1" 2>/dev/null | grep -q "$2.*CPU" && exit 0
        sleep 5
    done
    echo "error: the Ray cluster did not come up within five minutes" >&2
    exit 1' "$ray" "$address" "$total.0"
