#!/bin/sh
# Builds by backend cuda on a device that the processor stands in for (cuda_device.c): a machine without
# a driver, with an old one, with too little memory, a device that fails in the middle, ranks and
# machines that differ. Exit codes, words, nothing lost.
[ "${SAN:-}" != tsan ] || { echo "not with TSan: the unit tests cover its threads"; exit 77; }
. "$(dirname "$0")/../cli/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
unset LOCAL_RANK OMPI_COMM_WORLD_LOCAL_RANK SLURM_LOCALID CUDA_VISIBLE_DEVICES ROT_CPU
ROT_CUDA_LIB=$BUILD/tests/cuda_device.so
export ROT_CUDA_LIB
rows 16 >rows.jsonl
expect 0 "" rotoscope init-model -q small --arch custom --depth 2 --width 128 --heads 2 --mlp 200 --out 64
cuda="encode: {checkpoint: small, geometry: native, backend: cuda}"
small="store: {shard_samples: 8, commit_samples: 4}"
config whole rows.jsonl "$small" "$cuda"
expect 0 "" rotoscope build -q -c whole.yaml
want=$(root_of out-whole/whole.json)
grep -q '"cuda sm_90 Emulated cublasLt 13.0.0 v1"' out-whole/stages/embeds-*/plan.json || fail "no identity in the stage"
grep -q "bias add: algorithm 1, rows 128 32 8 2" out-whole/stages/embeds-*/products.txt || fail "no algorithms in the stage"
expect 0 "" rotoscope verify -q out-whole
same() { [ "$(root_of "out-$1/$1.json")" = "$want" ] || fail "$1: another root"; }

# auto takes the device and gives the same stage.
config auto rows.jsonl "$small" "encode: {checkpoint: small, geometry: native}"
expect 0 "" rotoscope build -q -c auto.yaml
same auto

# A device asked for and absent. Nothing is made of the embeds, what there is stays.
config bad rows.jsonl "$small" "$cuda"
expect 2 "no NVIDIA driver" env ROT_FAKE_CUDA=none "$ROTOSCOPE" build -q -c bad.yaml
expect 2 "too old" env ROT_FAKE_CUDA=old "$ROTOSCOPE" build -q -c bad.yaml
expect 2 "no CUDA device" env ROT_FAKE_CUDA=empty "$ROTOSCOPE" build -q -c bad.yaml
expect 2 "nowhere.so" env ROT_CUDA_LIB=/nowhere.so "$ROTOSCOPE" build -q -c bad.yaml
expect 2 "rank 1 of this node" env LOCAL_RANK=1 "$ROTOSCOPE" build -q -c bad.yaml
expect 1 "60000000" env ROT_FAKE_CUDA_BYTES=60000000 "$ROTOSCOPE" build -q -c bad.yaml --set encode.device_memory=61
expect 1 "4000000" rotoscope build -q -c bad.yaml --set encode.device_memory=4
expect 1 "out of memory" env ROT_FAKE_CUDA_TAKEN=4294500000 "$ROTOSCOPE" build -q -c bad.yaml
expect 2 "no effect" rotoscope build -q -c bad.yaml --set encode.device_memory=61 --set encode.backend=ref
[ ! -e out-bad/bad.json ] || fail "a dataset without embeddings"
expect 0 "" rotoscope build -q -c bad.yaml
same bad

# The device fails in the middle, wherever: exit 1, and another run goes on where it stood.
for n in 1 20; do
    config "at$n" rows.jsonl "$small" "$cuda"
    expect 1 "illegal memory access" env ROT_FAKE_CUDA_FAIL=$n "$ROTOSCOPE" build -q -c "at$n.yaml"
    [ ! -e "out-at$n/at$n.json" ] || fail "a dataset after a failure"
    expect 0 "" rotoscope build -q -c "at$n.yaml"
    same "at$n"
    expect 0 "" rotoscope verify -q "out-at$n"
done

# Another version of the library is another backend; another choice of algorithms is refused.
config half rows.jsonl "$small" "$cuda"
expect 1 "illegal memory access" env ROT_FAKE_CUDA_FAIL=20 "$ROTOSCOPE" build -q -c half.yaml
expect 1 "chooses" env ROT_FAKE_CUDA_CHOICE=7 "$ROTOSCOPE" build -q -c half.yaml
grep -q "algorithm 1, " err.txt && grep -q "algorithm 7, " err.txt || fail "not both choices are named"
expect 0 "" rotoscope build -q -c half.yaml
same half
config two rows.jsonl "$small" "$cuda"
RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 ROT_FAKE_CUDA_DEVICES=2 "$ROTOSCOPE" build -q -c two.yaml >0.txt 2>&1 &
first=$!
RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 ROT_FAKE_CUDA_DEVICES=2 ROT_FAKE_CUDA_BLAS=130100 \
    "$ROTOSCOPE" build -q -c two.yaml >1.txt 2>&1
[ $? = 1 ] || fail "a rank with another library goes on"
grep -q "13.0.0" 1.txt && grep -q "13.1.0" 1.txt || fail "not both libraries are named: $(cat 1.txt)"
wait "$first" || fail "the other rank: $(cat 0.txt)"
same two

# Two ranks, two devices: the same store.
config both rows.jsonl "$small" "$cuda"
RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 ROT_FAKE_CUDA_DEVICES=2 "$ROTOSCOPE" build -q -c both.yaml &
first=$!
RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 ROT_FAKE_CUDA_DEVICES=2 "$ROTOSCOPE" build -q -c both.yaml || fail "the second rank"
wait "$first" || fail "the first rank"
same both

# Groups of 1,024 rows, each begun before the one before has ended, with images of that one among them; and one group
# to a shard: the same. A device that fails in the second group leaves what another run goes on with.
awk 'BEGIN { for (i = 0; i < 2300; i++)
    printf "{\"question\": \"?\", \"cot\": \"%d\", \"answer\": \"1\"}\n", (i < 900 || i >= 1200) ? i : i - 300 }' >many.jsonl
expect 0 "" rotoscope init-model -q narrow --arch custom --depth 1 --width 32 --heads 1 --mlp 32 --out 16
narrow="encode: {checkpoint: narrow, geometry: native, backend: cuda}"
config many many.jsonl "$narrow"
expect 0 "2300 images, 2000 of them encoded" rotoscope build -c many.yaml --profile
config shards many.jsonl "store: {shard_samples: 512}" "$narrow"
expect 0 "" rotoscope build -q -c shards.yaml
want=$(root_of out-many/many.json)
same shards
config broken many.jsonl "$narrow"
expect 1 "illegal memory access" env ROT_FAKE_CUDA_FAIL=1000 "$ROTOSCOPE" build -q -c broken.yaml
expect 0 "" rotoscope build -q -c broken.yaml
same broken
want=$(root_of out-both/both.json)

# repair encodes again what is damaged.
shard=$(find out-both/stages/embeds-* -name 'shard-00001.mdb')
printf 'x' | dd of="$shard" bs=1 seek=40000 conv=notrunc 2>/dev/null
expect 3 "" rotoscope verify -q out-both
expect 0 "" rotoscope repair -q out-both/both.json
same both
expect 0 "" rotoscope verify -q out-both
finish
