"""rotoscope export and import: each format is read back by its own library; what is imported equals what was given."""
import io
import json

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from peer_package import ROWS, gaps, make_dataset, packed, plain, tiny  # noqa: F401

import rotoscope as rt


def test_npy(rotoscope, gaps, tmp_path):  # noqa: F811
    ds = rt.open(gaps)
    rotoscope("export", gaps, "--to", "npy", "-o", tmp_path / "a b")
    got = {name: np.load(tmp_path / "a b" / f"{name}.npy") for name in ("embeddings", "cu_seqlens", "index", "grid")}
    wanted = ds.batch(range(len(ds)))
    assert got["embeddings"].dtype == np.uint16 and np.array_equal(got["embeddings"], wanted.embeddings)
    assert np.array_equal(got["cu_seqlens"], wanted.cu_seqlens) and np.array_equal(got["index"], np.arange(len(ds)))
    assert [tuple(g) for g in got["grid"]] == [s["grid"][1:] for s in ds]
    done = rotoscope("export", gaps, "--to", "npy", "-o", tmp_path / "a b", check=False)
    assert done.returncode == 2 and b"there already" in done.stderr


def test_safetensors(rotoscope, packed, tmp_path):  # noqa: F811
    import torch

    ds = rt.open(packed)
    half = int(np.median(ds.K))
    rotoscope("export", packed, "--to", "safetensors", "-o", tmp_path / "x.safetensors", "--where", f"K<={half}",
              "--where", "index != 3", "--limit", "9")
    wanted = [i for i in range(ROWS) if ds.K[i] <= half and i != 3][:9]
    batch = ds.batch(wanted)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("embeddings"), batch.embeddings_torch)
        assert file.get_tensor("cu_seqlens").tolist() == batch.cu_seqlens.tolist()
        assert file.get_tensor("index").tolist() == wanted
        assert file.metadata()["root"] == ds.root


def test_png(rotoscope, gaps, tmp_path):  # noqa: F811
    ds = rt.open(gaps)
    rotoscope("export", gaps, "--to", "png", "-o", tmp_path / "png", "--where", "index>=5", "--where", "row<20")
    names = sorted(p.name for p in (tmp_path / "png").iterdir())
    assert names == [f"{i:09d}.png" for i in range(len(ds)) if i >= 5 and ds.row(i) < 20] and names
    for name in names:
        assert np.array_equal(np.asarray(Image.open(tmp_path / "png" / name)), ds.image(int(name[:-4])))


def test_jsonl(rotoscope, gaps, tmp_path):  # noqa: F811
    ds = rt.open(gaps)
    out = rotoscope("export", gaps, "--to", "jsonl", "-o", "-").stdout
    lines = [json.loads(line) for line in out.decode().splitlines()]
    assert len(lines) == len(ds)
    for line, s in zip(lines, ds):
        assert (line["id"], line["question"], line["cot"], line["answer"]) == (
            s["id"], s["question"], s["trace"], s["answer"])
        assert line["trace_ids"] == s["trace_ids"].tolist() and line["K"] == s["K"] and line["row"] == s["row"]
        assert (line["height"], line["width"]) == s["image"].shape
    rotoscope("export", gaps, "--to", "jsonl", "-o", tmp_path / "x.jsonl", "--where", "id=case-4")
    assert json.loads((tmp_path / "x.jsonl").read_text()) == lines[[s["id"] for s in ds].index("case-4")]
    with open(tmp_path / "log", "w") as log:  # standard output that is a file with something in it
        log.write("before\n")
        log.flush()
        import subprocess
        from peer_package import LIBRARY
        subprocess.run([LIBRARY.parent / "rotoscope", "export", gaps, "--to", "jsonl", "-o", "-", "--limit", "1"],
                       stdout=log, check=True)
    assert (tmp_path / "log").read_text().startswith('before\n{"index":0')


def test_jsonl_can_be_built_again(rotoscope, plain, make_dataset, tmp_path):  # noqa: F811
    out = rotoscope("export", plain, "--to", "jsonl", "-o", "-").stdout.decode()
    again = make_dataset("again", out.splitlines())
    roots = [json.loads(p.read_text())["splits"]["train"]["stages"]["images"]["root"] for p in (plain, again)]
    assert roots[0] == roots[1]


@pytest.mark.parametrize("arguments,word", [
    (["--to", "tfrecord", "-o", "x"], "no format"), (["--to", "npy", "-o", "x", "--where", "k<3"], "KEY"),
    (["--to", "npy", "-o", "x", "--where", "K~3"], "KEY"), (["--to", "npy", "-o", "x", "--where", "K<x"], "no number"),
    (["--to", "npy", "-o", "x", "--where", "id<x"], "texts"), (["--to", "npy", "-o", "x", "--limit", "x"], "number"),
    (["--to", "npy"], "-o OUT"), (["--to", "npy", "-o", "x", "--split", "nope"], "nope")])
def test_what_cannot_be_exported(rotoscope, plain, tmp_path, arguments, word):  # noqa: F811
    done = rotoscope("export", plain, *arguments, check=False, cwd=tmp_path)
    assert done.returncode in (1, 2) and word in done.stderr.decode() and not list(tmp_path.iterdir())


# ---- import -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["none", "zstd-bf16"])
def test_what_was_exported_comes_back_as_the_same_stage(rotoscope, gaps, tmp_path, codec):  # noqa: F811
    rotoscope("export", gaps, "--to", "safetensors", "-o", tmp_path / "x.safetensors")
    told = rotoscope("import", tmp_path / "x.safetensors", "--name", "back", "-o", tmp_path / "root", "--with", gaps,
                     "--codec", codec).stdout.decode().strip()
    rotoscope("verify", told)
    a, b = rt.open(gaps), rt.open(told)
    assert len(a) == len(b) and b.skipped == a.skipped
    for x, y in zip(a, b):
        assert x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x)
    assert b.by_id("case-5")["row"] == 5
    done = rotoscope("import", tmp_path / "x.safetensors", "--name", "back", "-o", tmp_path / "root", check=False)
    assert done.returncode == 2 and b"there already" in done.stderr


def test_arrays_of_every_shape_and_type(rotoscope, tmp_path):
    rng = np.random.default_rng(1)
    flat = rng.standard_normal((10, 6)).astype(np.float32)
    cu = np.array([0, 3, 3, 10])
    np.save(tmp_path / "flat.npy", flat)
    np.save(tmp_path / "half.npy", flat.astype(np.float16))
    np.save(tmp_path / "bits.npy", (flat.view(np.uint32) >> 16).astype(np.uint16))
    np.save(tmp_path / "cube.npy", flat.reshape(5, 2, 6))
    np.save(tmp_path / "cu.npy", cu)
    save_file({"x": flat, "cu_seqlens": cu}, tmp_path / "named.safetensors")

    def imported(name, *arguments):
        path = rotoscope("import", tmp_path / name, "--name", name.replace(".", "-"), "-o", tmp_path / "root",
                         *arguments).stdout.decode().strip()
        return rt.open(path)

    one = imported("flat.npy")
    assert len(one) == 10 and one.K.tolist() == [1] * 10 and np.array_equal(one.batch(range(10)).embeddings, flat)
    assert one[0]["embeddings"].dtype == np.float32 and set(one[0]) == {"index", "row", "K", "grid", "embeddings"}
    ragged = imported("half.npy", "--offsets", tmp_path / "cu.npy")
    assert ragged.K.tolist() == [3, 0, 7]
    assert np.array_equal(ragged.batch([0, 1, 2]).embeddings, flat.astype(np.float16).astype(np.float32))
    bits = imported("bits.npy", "--offsets", tmp_path / "cu.npy")
    assert np.array_equal(bits.embeddings(2), (flat.view(np.uint32) >> 16).astype(np.uint16)[3:])
    assert np.array_equal(imported("cube.npy").embeddings(1), flat[2:4])
    assert np.array_equal(imported("named.safetensors", "--tensor", "x").embeddings(2), flat[3:])
    rotoscope("verify", tmp_path / "root")


def test_files_that_make_no_sense(rotoscope, plain, tmp_path):  # noqa: F811
    def refused(data, word, *arguments, name="x.npy"):
        (tmp_path / name).write_bytes(data)
        done = rotoscope("import", tmp_path / name, "--name", "n", "-o", tmp_path / "root", *arguments, check=False)
        assert done.returncode in (1, 2), done
        assert word in done.stderr.decode(), done.stderr
        assert not (tmp_path / "root/n.json").exists()

    def npy(array):
        out = io.BytesIO()
        np.save(out, array)
        return out.getvalue()

    good = npy(np.ones((4, 3), np.float32))
    for n in (0, 5, 9, 40, 127, len(good) - 1):
        refused(good[:n], "x.npy")
    refused(good + b"x", "do not fit")
    refused(npy(np.ones((4, 3))), "<f8")
    refused(npy(np.ones(4, np.float32)), "two or three dimensions")
    refused(npy(np.asfortranarray(np.ones((4, 3), np.float32))), "C order")
    refused(good.replace(b"(4, 3)", b"(4,-3)"), "no shape")
    refused(good.replace(b"'shape': (4, 3), }   ", b"'shape': (99999999999999999999, 3)}"[:20] + b" "), "x.npy")
    for offsets, word in (([0, 5], "offset 1 is 5"), ([1, 4], "offset 0 is 1"), ([0, 3, 2, 4], "offset 2 is 2"),
                          ([0, 3], "last offset")):
        np.save(tmp_path / "cu.npy", np.array(offsets))
        refused(good, word, "--offsets", tmp_path / "cu.npy")
    refused(good, "40", "--with", plain)
    tensors = tmp_path / "t.safetensors"
    save_file({"embeddings": np.ones((4, 3), np.float32)}, tensors)
    good = tensors.read_bytes()
    for n in (0, 7, 8, 40, len(good) - 1):
        refused(good[:n], "y.safetensors", name="y.safetensors")
    refused(good.replace(b"F32", b"F64"), "F64", name="y.safetensors")
    refused(good.replace(b"[4,3]", b"[5,3]"), "offsets", name="y.safetensors")
    refused(good, "no tensor 'other'", "--tensor", "other", name="y.safetensors")
    assert load_file(tensors)["embeddings"].shape == (4, 3)
    assert rotoscope("import", tmp_path / "none.npy", "--name", "n", "-o", tmp_path, check=False).returncode == 2
