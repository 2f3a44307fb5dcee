"""python -m rotoscope export: what the other libraries read back equals the store."""
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from peer_package import ROWS, TOP, gaps, make_dataset, packed, plain, tiny  # noqa: F401

import rotoscope as rt
from rotoscope.export import condition, export


def run(*args, code=0):
    done = subprocess.run([sys.executable, "-m", "rotoscope", *map(str, args)], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stderr


def pixels(data):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)))


def test_webdataset(gaps, tmp_path):  # noqa: F811
    wds = pytest.importorskip("webdataset")
    ds = rt.open(gaps)
    run("export", gaps, "--to", "webdataset", "-o", tmp_path / "a b")
    got = list(wds.WebDataset(str(tmp_path / "a b/000000.tar"), shardshuffle=False).decode())
    assert len(got) == len(ds)
    for item, sample in zip(got, ds):
        assert np.array_equal(item["embeddings.npy"], sample["embeddings"])
        assert np.array_equal(pixels(item["png"]) if isinstance(item["png"], bytes) else item["png"], sample["image"])
        for key in ("id", "question", "trace", "answer", "row", "K"):
            assert item["json"][key] == sample[key]
        assert item["json"]["trace_ids"] == sample["trace_ids"].tolist()
    assert "is there already" in run("export", gaps, "--to", "webdataset", "-o", tmp_path / "a b", code=2)


def test_parquet(packed, tmp_path):  # noqa: F811
    pq = pytest.importorskip("pyarrow.parquet")
    ds = rt.open(packed)
    half = int(np.median(ds.K))
    run("export", packed, "--to", "parquet", "-o", tmp_path / "x.parquet", "--where", f"K<={half}",
        "--where", "index!=3", "--limit", 9)
    wanted = [s for s in ds if s["K"] <= half and s["index"] != 3][:9]
    table = pq.read_table(tmp_path / "x.parquet")
    got = table.to_pylist()
    assert 0 < len(got) == len(wanted) < ROWS
    for item, sample in zip(got, wanted):
        values = np.frombuffer(item["embeddings"], np.uint16).reshape(item["K"], item["d"])
        assert item["dtype"] == "bfloat16" and np.array_equal(values, sample["embeddings"])
        assert np.array_equal(pixels(item["image"]), sample["image"])
        assert item["question_ids"] == sample["question_ids"].tolist() and tuple(item["grid"]) == sample["grid"]
        for key in ("id", "question", "trace", "answer", "row", "index"):
            assert item[key] == sample[key]
    assert json.loads(table.schema.metadata[b"rotoscope"])["root"] == ds.root
    run("export", packed, "--to", "parquet", "-o", tmp_path / "none.parquet", "--limit", 0)
    assert len(pq.read_table(tmp_path / "none.parquet")) == 0


def test_mds(plain, tmp_path):  # noqa: F811
    import peer_torch  # noqa: F401
    streaming = pytest.importorskip("streaming")

    ds = rt.open(plain)
    assert export(ds, "mds", tmp_path / "mds") == ROWS
    got = streaming.StreamingDataset(local=str(tmp_path / "mds"), shuffle=False, batch_size=1)
    assert len(got) == ROWS
    for i in range(ROWS):
        item, sample = got[i], ds[i]
        assert np.array_equal(item["embeddings"], sample["embeddings"]) and item["embeddings"].dtype == np.uint16
        assert np.array_equal(pixels(item["image"]), sample["image"])
        assert item["trace_ids"].tolist() == sample["trace_ids"].tolist() and item["K"] == sample["K"]
        for key in ("id", "question", "trace", "answer"):
            assert item[key] == sample[key]


def test_conditions(plain):  # noqa: F811
    sample = rt.open(plain)[5]
    for text, wanted in (("id==case-5", True), ("id = case-6", False), ("id != case-6", True), ("index<5", False),
                         ("index <= 5", True), ("K>0", True), ("trace_ids >= 1e9", False), ("height==32", True)):
        assert condition(text)(sample) is wanted, text
    for text, word in (("K", "KEY OP VALUE"), ("k<3", "keys are"), ("K<x", "no number"), ("id<3", "not possible")):
        with pytest.raises(ValueError, match=word):
            condition(text)
    with pytest.raises(ValueError, match="not open"):
        condition("height==32")(rt.open(plain, stages=["embeds"])[0])


def test_what_cannot_be_exported_is_said(plain, tmp_path):  # noqa: F811
    assert "none.json: no such file" in run("export", tmp_path / "none.json", "--to", "parquet", "-o", tmp_path / "x",
                                            code=2)
    assert "keys are" in run("export", plain, "--to", "webdataset", "-o", tmp_path / "y", "--where", "k<3", code=2)
    assert not (tmp_path / "y").exists()
    assert "invalid choice" in run("export", plain, "--to", "tfrecord", "-o", tmp_path / "x", code=2)
    (tmp_path / "no").mkdir()
    (tmp_path / "no/webdataset.py").write_text("raise ImportError('not today')\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "no"), os.environ["PYTHONPATH"]])}
    done = subprocess.run([sys.executable, "-m", "rotoscope", "export", plain, "--to", "webdataset", "-o", tmp_path / "z"],
                          capture_output=True, text=True, env=env)
    assert done.returncode == 2 and "pip install webdataset" in done.stderr
