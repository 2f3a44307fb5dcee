"""Batches of a store from Python, beside py-lmdb, np.memmap, safetensors, webdataset and MDS on the same payloads.

    build/venv/bin/python bench/read_peer.py [--build build] [--dir /tmp] [--rows N] [--rounds N] [--only PEER...]

Everything is in the page cache; each case reads every record (small ones five times), in batches of 32 that end in one
array of the process. All but webdataset read in random order. Time is the processor's, so that the machine may have other
work. Libraries that are not there are left out with a note. One TSV row per case: record bytes, samples per second (best
and median of --rounds), GB/s, how many times as fast ours is (median of the rounds, each beside ours of that round), cpu.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

BATCH = 32
D = {163840: 2560, 8192: 128}


def ours(ds, order, out):
    for i in range(0, len(order), BATCH):
        ds.batch(order[i:i + BATCH], out=out)


def py_lmdb(folder, payloads, n_bytes):
    import lmdb

    path = str(folder / "lmdb")
    env = lmdb.open(path, map_size=2 * len(payloads) * n_bytes + (1 << 26))
    with env.begin(write=True) as txn:
        for i, p in enumerate(payloads):
            txn.put(i.to_bytes(8, "big"), p.tobytes(), append=True)
    env.close()
    env = lmdb.open(path, readonly=True, lock=False)

    def copied(order, out):
        flat = out.reshape(BATCH, -1)
        with env.begin(buffers=True) as txn:
            for i in range(0, len(order), BATCH):
                for j, row in enumerate(order[i:i + BATCH]):
                    flat[j] = np.frombuffer(txn.get(int(row).to_bytes(8, "big")), np.uint16)

    return copied


def py_lmdb_same(folder, payloads, n_bytes):
    """The same shard through py-lmdb: two files of the same bytes may differ by a fifth in how memory holds them."""
    import lmdb

    if n_bytes < 65536:
        raise RuntimeError("small records lie in blocks")
    env = lmdb.open(str(next(folder.glob("stages/*/shard-00000.mdb"))), subdir=False, readonly=True, lock=False)

    def copied(order, out):
        flat = out.reshape(BATCH, -1)
        with env.begin(buffers=True) as txn:
            for i in range(0, len(order), BATCH):
                for j, row in enumerate(order[i:i + BATCH]):
                    flat[j] = np.frombuffer(txn.get(int(row).to_bytes(8, sys.byteorder)), np.uint16, offset=48)

    return copied


def memmap(folder, payloads, n_bytes):
    path = folder / "flat.bin"
    payloads.tofile(path)
    mapped = np.memmap(path, np.uint16, "r", shape=(len(payloads), n_bytes // 2))

    def rows(order, out):
        flat = out.reshape(BATCH, -1)
        for i in range(0, len(order), BATCH):
            np.take(mapped, order[i:i + BATCH], axis=0, out=flat, mode="clip")

    return rows


def safetensors(folder, payloads, n_bytes):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    path = str(folder / "all.safetensors")
    save_file({str(i): p for i, p in enumerate(payloads)}, path)
    file = safe_open(path, "numpy")

    def tensors(order, out):
        flat = out.reshape(BATCH, -1)
        for i in range(0, len(order), BATCH):
            for j, row in enumerate(order[i:i + BATCH]):
                flat[j] = file.get_tensor(str(row))

    return tensors


def webdataset(folder, payloads, n_bytes):
    import webdataset as wds

    path = str(folder / "all.tar")
    with wds.TarWriter(path) as sink:
        for i, p in enumerate(payloads):
            sink.write({"__key__": f"{i:08d}", "bin": p.tobytes()})

    def stream(order, out):
        flat = out.reshape(BATCH, -1)
        for i, sample in enumerate(wds.WebDataset(path, shardshuffle=False)):
            flat[i % BATCH] = np.frombuffer(sample["bin"], np.uint16)

    return stream


def mds(folder, payloads, n_bytes):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/peers"))
    import peer_torch  # noqa: F401  (it imports torchvision)
    from streaming import MDSWriter, StreamingDataset

    path = str(folder / "mds")
    with MDSWriter(out=path, columns={"x": "bytes"}) as sink:
        for p in payloads:
            sink.write({"x": p.tobytes()})
    ds = StreamingDataset(local=path, shuffle=False, batch_size=BATCH)

    def samples(order, out):
        flat = out.reshape(BATCH, -1)
        for i in range(0, len(order), BATCH):
            for j, row in enumerate(order[i:i + BATCH]):
                flat[j] = np.frombuffer(ds[int(row)]["x"], np.uint16)

    return samples


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def measure(folder, build, n_bytes, rows, rounds, only, cpu):
    import rotoscope

    path = folder / "bench.json"
    subprocess.run([build / "bench/read", "make", path, str(n_bytes), str(rows)], check=True, stdout=subprocess.DEVNULL)
    ds = rotoscope.open(path)
    out = np.empty((BATCH * n_bytes // 2 // D[n_bytes], D[n_bytes]), np.uint16)
    payloads = ds.batch(np.arange(rows)).embeddings.reshape(rows, -1)
    assert ds.K.max() * D[n_bytes] * 2 == n_bytes
    cases = {"rotoscope": lambda order, out: ours(ds, order, out)}
    for make in (py_lmdb, py_lmdb_same, memmap, safetensors, webdataset, mds):
        if only and make.__name__ not in only:
            continue
        try:
            cases[make.__name__] = make(folder, payloads, n_bytes)
        except (ImportError, RuntimeError) as e:
            print(f"read_peer: without {make.__name__}: {e}", file=sys.stderr)
    seconds = {name: [] for name in cases}
    times = 5 if n_bytes < 65536 else 1  # else other readers' leavings in the caches would be a part of it
    for seed in range(rounds + 1):
        order = rotoscope.permutation(rows, seed=seed)
        for name, read in cases.items():  # one after another, so that all see the same machine
            begin = time.process_time()
            for _ in range(times):
                read(order, out)
            if seed:  # the first touches everything
                seconds[name].append((time.process_time() - begin) / times)
            if name != "webdataset":
                assert np.array_equal(out.reshape(BATCH, -1)[5], payloads[order[-BATCH + 5]]), name
    for name, s in seconds.items():
        best, median = rows / min(s), rows / statistics.median(s)
        ratio = statistics.median(theirs / ours for theirs, ours in zip(s, seconds["rotoscope"]))
        print(f"{name}\t{n_bytes}\t{best:.0f}\t{median:.0f}\t{median * n_bytes / 1e9:.2f}\t"
              f"{ratio:.2f}\t{cpu}", flush=True)


def main():
    top = pathlib.Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=top / "build")
    parser.add_argument("--dir", default="/tmp")
    parser.add_argument("--rows", type=int, default=4096, help="at most 4096, one shard")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="peers, such as py_lmdb")
    args = parser.parse_args()
    os.environ.setdefault("ROTOSCOPE_LIBRARY", str(args.build.resolve() / "librotoscope.so"))
    sys.path.insert(0, str(top / "python"))
    print("reader\trecord_bytes\tsamples_per_s_best\tsamples_per_s_median\tGB_per_s\tours_over_this\tcpu")
    for n_bytes in D:
        with tempfile.TemporaryDirectory(dir=args.dir) as folder:
            measure(pathlib.Path(folder), args.build.resolve(), n_bytes, args.rows, args.rounds, args.only, cpu_name())


if __name__ == "__main__":
    main()
