"""Stages that librotoscope writes, read by a reader that was written from FORMAT.md and by py-lmdb."""
import ctypes
import hashlib
import json
import os
import pathlib
import random
import struct

import lmdb
import numpy as np
import pytest
import zstandard

from store_reader import Corrupt, Dataset, Stage

TOP = pathlib.Path(__file__).resolve().parents[2]
CODECS = {"none": 0, "zstd": 1, "zstd-bf16": 2}


class Layout(ctypes.Structure):
    _fields_ = [("codec", ctypes.c_int), ("shard_samples", ctypes.c_uint32), ("commit_samples", ctypes.c_uint32)]


class Spec(ctypes.Structure):
    _fields_ = [("stage", ctypes.c_char_p), ("fingerprint", ctypes.c_ubyte * 32), ("content", ctypes.c_char_p),
                ("layout", Layout), ("rows", ctypes.c_uint64)]


class CRecord(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("dtype", ctypes.c_int), ("shape", ctypes.c_uint32 * 4),
                ("payload", ctypes.c_char_p), ("n_bytes", ctypes.c_size_t)]


class Err(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 1024)]


@pytest.fixture(scope="session")
def library():
    return ctypes.CDLL(str(TOP / os.environ.get("BUILD", "build") / "librotoscope.so"))


class Library:
    def __init__(self, library, stage, codec, shard_samples, commit_samples, rows):
        self.lib = library
        self.spec = Spec(stage.encode(), (ctypes.c_ubyte * 32)(*range(32)), b'{"by": "a test"}',
                         Layout(CODECS[codec], shard_samples, commit_samples), rows)
        self.err = Err()

    def call(self, name, *args):
        code = getattr(self.lib, name)(*args, ctypes.byref(self.err))
        assert code == 0, self.err.message

    def folder(self):
        name = ctypes.create_string_buffer(64)
        self.lib.rot_stage_folder(ctypes.byref(self.spec), name)
        return name.value.decode()

    def write(self, root, records):
        folder = root / "stages" / self.folder()
        where, spec = str(folder).encode(), ctypes.byref(self.spec)
        digest = (ctypes.c_ubyte * 32)()
        for shard in range(-(-self.spec.rows // self.spec.layout.shard_samples)):
            writer, row = ctypes.c_void_p(), ctypes.c_uint64()
            self.call("rot_shard_writer_open", where, spec, shard, None, ctypes.byref(writer), ctypes.byref(row))
            for i in range(row.value, min((shard + 1) * self.spec.layout.shard_samples, self.spec.rows)):
                kind, dtype, shape, payload = records[i]
                record = CRecord(kind, dtype, (ctypes.c_uint32 * 4)(*shape), payload, len(payload))
                self.call("rot_shard_writer_append", writer, ctypes.c_uint64(i), ctypes.byref(record))
            self.call("rot_shard_writer_publish", ctypes.byref(writer))
        self.call("rot_stage_finish", where, spec, digest)
        return folder


def make_records(stage, n, seed):
    rng, records = random.Random(seed), []
    npr = np.random.default_rng(seed)
    for i in range(n):
        if rng.random() < 0.08:
            cause = rng.choice(["nul", "utf8", "zu groß"]).encode()
            records.append((4, 0, (len(cause), 0, 0, 0), cause))
        elif stage == "tokens":
            texts = [f"id{i}", "Was ist 1 + 1? ✓" * rng.randrange(4), "x" * rng.choice([0, 1, 900, 30000]), "2"]
            raw = [t.encode() for t in texts]
            ids = [npr.integers(0, 150000, rng.randrange(300), dtype=np.int32) for _ in range(3)]
            payload = b"".join(a.tobytes() for a in ids) + struct.pack("<4I", *map(len, raw)) + b"".join(raw)
            records.append((1, 3, (*map(len, ids), sum(map(len, raw))), payload))
        elif stage == "images":
            w, h, c = rng.choice([0, 1, 400, 1997, 20000]), rng.choice([1, 32, 40]), rng.choice([1, 1, 3])
            payload = (npr.random((w, h, c)) < 0.1).astype(np.uint8).tobytes()
            records.append((2, 0, (w, h, c, 0), payload))
        else:
            k, d = rng.choice([0, 1, 3, 40, 62]), rng.choice([1, 64, 2560])
            values = npr.normal(0, 1, (k, d)).astype(np.float32)
            if rng.random() < 0.2:
                records.append((3, 2, (k, d, 2, 2 * k), values.tobytes()))
            else:
                records.append((3, 1, (k, d, 2, 2 * k), (values.view(np.uint32) >> 16).astype("<u2").tobytes()))
    return records


@pytest.mark.parametrize("stage,codec", [("tokens", "zstd"), ("images", "zstd"), ("embeds", "none"),
                                         ("embeds", "zstd"), ("embeds", "zstd-bf16")])
def test_a_reader_written_from_the_format_reads_every_record(library, tmp_path, stage, codec):
    records = make_records(stage, 150, 7)
    folder = Library(library, stage, codec, 64, 16, len(records)).write(tmp_path, records)
    reader = Stage(folder)
    assert reader.verify() == len(records)
    assert reader.folder_name() == folder.name
    for row in random.Random(1).sample(range(len(records)), 60):
        kind, dtype, shape, payload = records[row]
        got = reader[row]
        assert (got.kind, got.shape, got.content) == ({1: "tokens", 2: "image", 3: "embeds", 4: "tombstone"}[kind],
                                                      shape, payload)
    if stage == "tokens":
        ids, texts = next(r for r in map(reader.__getitem__, range(len(records))) if r.kind == "tokens").tokens()
        assert texts[0].startswith("id") and texts[3] == "2" and all(i.max(initial=0) < 150000 for i in ids.values())


def test_py_lmdb_walks_a_shard_and_finds_no_free_page(library, tmp_path):
    records = make_records("embeds", 400, 3)
    folder = Library(library, "embeds", "none", 4096, 1, len(records)).write(tmp_path, records)
    path = folder / "shard-00000.mdb"
    with lmdb.open(str(path), readonly=True, lock=False, subdir=False) as env, env.begin() as txn:
        assert [struct.unpack("<Q", k)[0] for k, _ in txn.cursor()] == [*range(400), 2**64 - 1]
        stat, info = env.stat(), env.info()
        assert stat["entries"] == 401 and stat["depth"] == 2 and stat["psize"] == 4096
        used = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] + 2
        assert used == info["last_pgno"] + 1 == path.stat().st_size // 4096
        env.copy(str(tmp_path / "copy.mdb"), compact=True)  # liblmdb's own walk over every page


def test_the_root_does_not_depend_on_the_codec(library, tmp_path):
    records = make_records("embeds", 80, 5)
    stages = [Stage(Library(library, "embeds", codec, shard, 8, 80).write(tmp_path, records))
              for codec, shard in (("none", 80), ("zstd", 40), ("zstd-bf16", 16))]
    assert len({s.info["root"] for s in stages}) == 1
    assert len({s.info["file_bytes"] for s in stages}) == 3


def write_dataset(root, stages, name="tiny.json"):
    digest, entries = hashlib.sha256(), {}
    for stage in sorted(stages, key=["tokens", "images", "embeds"].index):
        info = Stage(stages[stage]).info
        digest.update(b"train\0" + stage.encode() + b"\0" + bytes.fromhex(info["root"]))
        entries[stage] = {"path": f"stages/{stages[stage].name}", "root": info["root"], "fingerprint": info["fingerprint"]}
    last = Stage(stages[list(entries)[-1]]).info
    split = {"rows": last["rows"], "samples": last["samples"], "skipped": last["skipped"], "stages": entries}
    data = {"format": 1, "name": "tiny", "root": digest.hexdigest(), "splits": {"train": split}}
    (root / name).write_text(json.dumps(data))
    return root / name


@pytest.fixture
def store(library, tmp_path):
    stages = {}
    for stage in ("tokens", "images", "embeds"):
        records = make_records(stage, 40, 11)
        stages[stage] = Library(library, stage, "zstd" if stage != "embeds" else "none", 16, 8, 40).write(tmp_path, records)
    return write_dataset(tmp_path, stages), stages


def test_verify_and_the_reader_agree_on_a_whole_dataset(rotoscope, store):
    dataset, _ = store
    Dataset(dataset).verify()
    for path in (dataset, dataset.parent):
        done = rotoscope("verify", "--json", path)
        assert json.loads(done.stdout) == {"datasets": 1, "stages": 3, "records": 120, "unfinished": 0, "bad": 0, "ok": True}


def test_verify_names_what_is_bad_and_exits_3(rotoscope, store):
    dataset, stages = store
    shard = stages["embeds"] / "shard-00001.mdb"
    data = bytearray(shard.read_bytes())
    at = next(p for p in range(8192, len(data), 4096)  # a lone record of embeddings: page header, header, payload
              if data[p + 16 : p + 20] == b"ROT1" and data[p + 21] == 3)
    data[at + 64 + 30] ^= 4
    shard.write_bytes(data)
    done = rotoscope("verify", dataset, check=False)
    assert done.returncode == 3
    assert b"shard-00001.mdb: row " in done.stdout
    done = rotoscope("verify", "--json", dataset.parent, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 3 and lines[-1]["bad"] == len(lines) - 1 and lines[0]["path"] == str(shard)
    with pytest.raises((Corrupt, zstandard.ZstdError)):
        Stage(stages["embeds"]).verify()


def test_verify_of_nothing_and_of_a_missing_path(rotoscope, tmp_path):
    done = rotoscope("verify", tmp_path)
    assert done.returncode == 0 and done.stdout == b"" and b"nothing to verify" in done.stderr
    done = rotoscope("verify", tmp_path / "nowhere", check=False)
    assert done.returncode == 2 and b"nowhere" in done.stderr


def test_bf16_is_compressed_to_70_percent_of_the_towers_distribution(library, tmp_path):
    rng = np.random.default_rng(0)
    scale = np.exp(rng.normal(0, 0.5, 2560))
    scale[rng.choice(2560, 8, replace=False)] *= rng.uniform(20, 50, 8)
    records = []
    for _ in range(32):
        values = (rng.normal(0, 1, (62, 2560)) * scale).astype(np.float32)
        records.append((3, 1, (62, 2560, 2, 124), (values.view(np.uint32) >> 16).astype("<u2").tobytes()))
    folder = Library(library, "embeds", "zstd-bf16", 64, 32, 32).write(tmp_path, records)
    reader = Stage(folder)
    reader.verify()
    stored = sum(header.n_stored for _, header, _ in reader.values(0) if header.kind == 3)
    ratio = stored / reader.info["payload_bytes"]
    print(f"zstd-bf16: {ratio:.4f} of raw; file {reader.info['file_bytes'] / reader.info['payload_bytes']:.4f}")
    assert ratio <= 0.70


def test_bf16_is_compressed_to_70_percent_of_a_random_checkpoints_output(rotoscope, tmp_path):
    """Rows of 2,560 numbers as the 4B shape has them, of a tower of three blocks."""
    rotoscope("init-model", "-q", "--arch", "custom", "--depth", "3", "--heads", "4", "--width", "256", "--mlp", "608",
              "--out", "2560", tmp_path / "ck")
    rows = [{"question": "?", "cot": f"{i} + 1 = {i + 1}. " * i, "answer": str(i)} for i in range(1, 5)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "c.yaml").write_text(
        "name: c\nroot: out\nsplits: {train: {files: [rows.jsonl], format: jsonl}}\nrender: {preset: rot-paper}\n"
        "tokenizer: {path: ck}\nencode: {checkpoint: ck}\nstore: {embeds_codec: zstd-bf16}\n")
    rotoscope("build", "-q", "-c", tmp_path / "c.yaml")
    reader = Stage(next((tmp_path / "out/stages").glob("embeds-*")))
    reader.verify()
    ratio = sum(h.n_stored for _, h, _ in reader.values(0) if h.kind == 3) / reader.info["payload_bytes"]
    print(f"zstd-bf16, random checkpoint: {ratio:.4f} of raw")
    assert 0.5 < ratio <= 0.70
