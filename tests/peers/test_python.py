"""The Python package: samples, ids, batches, errors, drawing. What it reads is compared with the program's own
`inspect`, and with shards read by lmdb and numpy."""
import ctypes
import gc
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from peer_package import LIBRARY, ROWS, TOP, gaps, make_dataset, packed, plain, row, tiny  # noqa: F401

import rotoscope as rt
from rotoscope import _lib


def inspect(rotoscope, path, index):
    return json.loads(rotoscope("inspect", path, index, "--json").stdout)


def test_samples_equal_what_inspect_says(rotoscope, plain):  # noqa: F811
    ds = rt.open(plain, "train")
    assert len(ds) == ROWS and ds.stages == ("tokens", "images", "embeds") and ds.skipped == 0
    for i in range(0, ROWS, 7):
        told = inspect(rotoscope, plain, i)
        s = ds[i]
        for key in ("id", "question", "trace", "answer"):
            assert s[key] == told[key]
        assert s["question"] == row(i)["question"]
        for key in ("question", "trace", "answer"):
            assert s[key + "_ids"].tolist() == told["ids"][key]
        assert s["K"] == told["embeds"]["k"] and s["embeddings"].shape == (told["embeds"]["k"], told["embeds"]["d"])
        assert list(s["grid"]) == told["embeds"]["grid"]
        first = s.embeddings_f32[0, :8]
        assert np.allclose(first, told["embeds"]["first_values"], rtol=1e-6)
        assert s["image"].shape == (told["image"]["height"], told["image"]["width"])


def test_the_image_is_the_one_that_render_draws(plain):  # noqa: F811
    ds = rt.open(plain)
    for i in (0, 5):
        assert np.array_equal(ds.image(i), rt.render(row(i)["cot"]))
        assert ds.image(i).min() < 100  # there is text


def test_deepstack_taps_lie_beside_the_embeddings(make_dataset, plain):  # noqa: F811
    taps = rt.open(make_dataset("taps", [json.dumps(row(i)) for i in range(3)], "encode.deepstack=true"))
    ds = rt.open(plain)
    assert taps.taps == 3 and ds.taps == 0 and taps.width == 4 * ds.width and "deepstack" not in ds[0]
    for i in range(3):
        s = taps[i]
        assert np.array_equal(s["embeddings"], ds.embeddings(i)) and np.array_equal(s["embeddings"], taps.embeddings(i))
        assert s["deepstack"].shape == (s["K"], 3, ds.width) and np.array_equal(s["deepstack"], taps.deepstack(i))
        both = np.concatenate([s["embeddings"], s["deepstack"].reshape(s["K"], -1)], axis=1)
        assert np.array_equal(taps.batch([i]).embeddings, both)


def test_packed_embeddings_are_the_same(plain, packed):  # noqa: F811
    a, b = rt.open(plain), rt.open(packed)
    assert np.array_equal(a.K, b.K)
    for i in range(ROWS):
        assert np.array_equal(a.embeddings(i), b.embeddings(i))
    assert not a.embeddings(0).flags.writeable and a.embeddings(0).base is not None  # a view of the store
    assert b.embeddings(0).flags.writeable
    every = np.arange(ROWS)
    assert np.array_equal(a.batch(every).embeddings, b.batch(every, threads=2).embeddings)


def test_values_are_those_in_the_shard(plain):  # noqa: F811
    import lmdb

    ds = rt.open(plain)
    stage = json.loads(plain.read_text())["splits"]["train"]["stages"]["embeds"]["path"]
    shard = plain.parent / stage / "shard-00000.mdb"
    with lmdb.open(str(shard), subdir=False, readonly=True, lock=False) as env, env.begin() as txn:
        value = next(iter(txn.cursor()))[1]
    assert ds.embeddings(0).tobytes() in value and ds.embeddings(1).tobytes() in value


def test_batches_are_their_samples(plain):  # noqa: F811
    ds = rt.open(plain)
    b = ds.batch([5, -1, 5, 0])
    assert b.cu_seqlens.tolist() == np.cumsum([0] + [ds.K[i] for i in (5, ROWS - 1, 5, 0)]).tolist()
    for i, sample in enumerate((5, ROWS - 1, 5, 0)):
        assert np.array_equal(b[i], ds.embeddings(sample))
    assert np.array_equal(b.embeddings_f32[:b.K[0]], ds[5].embeddings_f32)
    empty = ds.batch([])
    assert empty.embeddings.shape == (0, ds.width) and empty.cu_seqlens.tolist() == [0]
    out = np.zeros((4000, ds.width), np.uint16)
    c = ds.batch([5, -1, 5, 0], out=out)
    assert np.array_equal(c.embeddings, b.embeddings) and c.embeddings.base is out
    with pytest.raises(ValueError, match="is needed"):
        ds.batch([5], out=np.zeros((1, ds.width), np.uint16))
    with pytest.raises(ValueError, match="is needed"):
        ds.batch([5], out=np.zeros((4000, ds.width), np.float32))
    with pytest.raises(ValueError, match="writable"):
        ds.batch([5], out=np.zeros((ds.width, 4000), np.uint16).T)
    with pytest.raises(IndexError):
        ds.batch([ROWS])
    with pytest.raises(ValueError):
        ds.batch([[1, 2]])


def test_only_integers_are_sample_numbers(plain):  # noqa: F811
    ds = rt.open(plain)
    for bad in (ds.K < 100, [1.5], np.array([2.0]), ["3"]):
        with pytest.raises(TypeError, match="integers"):
            ds.batch(bad)
        with pytest.raises(TypeError, match="integers"):
            ds.prefetch(bad)
    for bad in (1.5, "3", None):
        with pytest.raises(TypeError):
            ds[bad]
    assert len(ds.batch(np.flatnonzero(ds.K < 100))) == (ds.K < 100).sum()
    assert ds.batch(np.array([3], np.uint8)).index.tolist() == ds.batch(range(3, 4)).index.tolist() == [3]


def test_a_shard_cut_while_it_is_open_is_an_error(plain, tmp_path):  # noqa: F811
    shutil.copytree(plain.parent, tmp_path / "copy")
    ds = rt.open(tmp_path / "copy" / plain.name)
    for _ in range(2):  # everything was read and checked before
        ds.batch(range(ROWS))
    shard = next((tmp_path / "copy").glob("stages/embeds-*/shard-00001.mdb"))
    os.truncate(shard, 8192)
    for read in (lambda: ds.batch([20]), lambda: ds.batch(range(ROWS)), lambda: ds[20]):
        with pytest.raises(rt.CorruptError, match="shard-00001.mdb.*cut short"):
            read()
    assert len(ds.batch(range(16))) == 16


def test_a_scan_reads_everything_once(plain):  # noqa: F811
    ds = rt.open(plain)
    got = list(ds.scan(batch_size=7))
    assert np.concatenate([b.index for b in got]).tolist() == list(range(ROWS))
    assert np.array_equal(np.concatenate([b.embeddings for b in got]), ds.batch(range(ROWS)).embeddings)


def test_ids_and_rows(plain, gaps):  # noqa: F811
    for path in (plain, gaps):
        ds = rt.open(path)
        for i in range(len(ds)):
            s = ds[i]
            assert s["id"] == f"case-{s['row']}" and ds.by_id(s["id"])["index"] == i
            assert ds.sample_of_row(s["row"]) == i
        with pytest.raises(rt.NotFoundError, match="nobody"):
            ds.by_id("nobody")
    ds = rt.open(gaps)
    assert ds.rows == ROWS and ds.skipped == len([i for i in range(ROWS) if i % 7 == 2]) == ROWS - len(ds)
    with pytest.raises(LookupError, match="skipped"):
        ds.sample_of_row(2)
    with pytest.raises(rt.NotFoundError):
        ds.find("case-2")


def test_it_is_a_sequence(plain):  # noqa: F811
    ds = rt.open(plain)
    assert [s["index"] for s in ds[3:10:3]] == [3, 6, 9]
    assert ds[-1]["index"] == ROWS - 1 and ds[np.int64(4)]["index"] == 4
    assert sum(1 for _ in ds) == ROWS
    for bad in (ROWS, -ROWS - 1):
        with pytest.raises(IndexError):
            ds[bad]


def test_views_outlive_the_dataset(plain):  # noqa: F811
    ds = rt.open(plain)
    view, copy = ds.embeddings(3), ds.embeddings(3).copy()
    del ds
    gc.collect()
    assert np.array_equal(view, copy)
    with pytest.raises(ValueError):
        view[0, 0] = 1


def test_stages_can_be_chosen(plain):  # noqa: F811
    ds = rt.open(plain, stages=["embeds"])
    assert set(ds[0]) == {"index", "row", "embeddings", "K", "grid"}
    with pytest.raises(rt.NotFoundError):
        ds.tokens(0)
    assert ds.find("case-3") == 3
    with pytest.raises(rt.UsageError, match="pictures"):
        rt.open(plain, stages=["pictures"])


def read_all(ds, out):
    out.put([int(ds.batch([i]).embeddings.sum(dtype=np.uint64)) + ds.find(f"case-{i}") for i in range(ROWS)])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(plain, packed, method):  # noqa: F811
    context = multiprocessing.get_context(method)
    for path in (plain, packed):
        ds = rt.open(path)
        here = context.SimpleQueue()
        read_all(ds, here)
        wanted = here.get()
        workers = [context.Process(target=read_all, args=(ds, here)) for _ in range(2)]
        for w in workers:
            w.start()
        assert here.get() == wanted and here.get() == wanted
        for w in workers:
            w.join()
            assert w.exitcode == 0
    assert len(pickle.loads(pickle.dumps(ds))) == ROWS


def test_threads_read_the_same(packed):  # noqa: F811
    ds = rt.open(packed)
    wanted = [ds.embeddings(i).sum(dtype=np.uint64) for i in range(ROWS)]
    wrong = []

    def read():
        for i in range(300):
            if ds.embeddings(i * 7 % ROWS).sum(dtype=np.uint64) != wanted[i * 7 % ROWS]:
                wrong.append(i)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_damage_is_an_exception_that_names_the_row(plain, tmp_path):  # noqa: F811
    shutil.copytree(plain.parent, tmp_path / "out")
    path = tmp_path / "out" / plain.name
    stage = json.loads(path.read_text())["splits"]["train"]["stages"]["embeds"]["path"]
    shard = tmp_path / "out" / stage / "shard-00001.mdb"
    data = bytearray(shard.read_bytes())
    at = data.index(rt.open(plain).embeddings(20).tobytes())
    data[at + 5] ^= 4
    shard.write_bytes(data)
    ds = rt.open(path)
    ds[19]
    for call in (ds.embeddings, ds.__getitem__, lambda i: ds.batch([3, i])):
        with pytest.raises(rt.CorruptError, match="row 20") as e:
            call(20)
        assert e.value.name == "corrupt" and e.value.code == -14
    assert np.array_equal(rt.open(path, verify=False).embeddings(20)[1:], rt.open(plain).embeddings(20)[1:])
    shard.write_bytes(data[:8192])
    with pytest.raises(rt.CorruptError, match="shard-00001"):
        rt.open(path).embeddings(20)


def test_what_is_missing_is_said(plain, tmp_path):  # noqa: F811
    with pytest.raises(FileNotFoundError, match="none.json"):
        rt.open(tmp_path / "none.json")
    with pytest.raises(rt.NotFoundError, match="test"):
        rt.open(plain, "test")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(rt.RotoscopeError, match="bad.json: line 1"):
        rt.open(tmp_path / "bad.json")


def test_a_read_only_root_works_and_stays_as_it_is(plain, tmp_path):  # noqa: F811
    shutil.copytree(plain.parent, tmp_path / "out", ignore=shutil.ignore_patterns("*.idx"))
    ds = rt.open(tmp_path / "out" / plain.name, keep_index=False)
    assert ds.find("case-9") == 9 and len(ds.K) == ROWS
    assert not list((tmp_path / "out").rglob("*.idx"))
    ds = rt.open(tmp_path / "out" / plain.name)
    assert ds.find("case-9") == 9 and len(ds.K) == ROWS
    assert len(list((tmp_path / "out").rglob("*.idx"))) == 2


def test_verify_does_not_mind_the_indexes(rotoscope, plain):  # noqa: F811
    rt.open(plain).find("case-1")
    rotoscope("verify", plain)
    rotoscope("verify", plain.parent)


# ---- order ------------------------------------------------------------------------------------------------------


def test_permutation():
    p = rt.permutation(1000, seed=4, epoch=2)
    assert sorted(p) == list(range(1000)) and p.tolist() != list(range(1000))
    assert p.tolist() == rt.permutation(1000, seed=4, epoch=2).tolist()
    assert p.tolist() != rt.permutation(1000, seed=4, epoch=3).tolist()
    q = rt.permutation(1000, seed=4, block=100)
    assert len(set((q // 100)[:100])) == 1


def test_batches_resume_on_other_ranks(plain):  # noqa: F811
    ds = rt.open(plain)
    how = dict(k=ds.K, budget=300, bucket=True, seed=9, window=16)
    whole = [b.tolist() for b in rt.Batches(len(ds), **how)]
    assert sorted(sum(whole, [])) == list(range(ROWS))
    assert all(len(b) == 1 or ds.K[b].sum() <= 300 for b in whole)
    two = [rt.Batches(len(ds), rank=r, ranks=2, **how) for r in range(2)]
    got = [two[r].next().tolist() for _ in range(2) for r in range(2)]
    state = two[0].state_dict()
    assert state == two[1].state_dict() and json.loads(json.dumps(state)) == state
    three = [rt.Batches(len(ds), rank=r, ranks=3, **how) for r in range(3)]
    for b in three:
        b.load_state_dict(state)
    rest = [list(b) for b in three]
    for step in range(max(map(len, rest))):
        got += [b[step].tolist() for b in rest if step < len(b)]
    assert got == whole


def test_batches_refuse_what_makes_no_sense():
    b = rt.Batches(10, batch_size=2)
    with pytest.raises(rt.UsageError, match="seed"):
        b.load_state_dict(rt.Batches(10, batch_size=2, seed=1).state_dict())
    with pytest.raises(ValueError, match="not a state"):
        b.load_state_dict({"epoch": 1})
    with pytest.raises(rt.UsageError, match="K of every sample"):
        rt.Batches(10, budget=3)
    with pytest.raises(ValueError, match="values of K"):
        rt.Batches(10, budget=3, k=np.ones(4))
    with pytest.raises(ValueError, match="seed"):
        rt.Batches(10, seed=-1)
    with pytest.raises(rt.UsageError, match="rank"):
        rt.Batches(10, rank=2, ranks=2)
    assert list(rt.Batches(0, budget=3, k=np.ones(0))) == []


# ---- drawing, tokenizing ----------------------------------------------------------------------------------------


def test_render_equals_the_program(rotoscope, tmp_path):
    from PIL import Image

    for keys in ({}, {"size_px": 16, "text_color": "#ff0000"}, {"thought_markers": False, "newline": "marker"}):
        job = {"text": "Half of 84\nis 42.", **keys}
        (tmp_path / "jobs.jsonl").write_text(json.dumps(job) + "\n")
        rotoscope("render", "--jobs", tmp_path / "jobs.jsonl", "-o", tmp_path / "out")
        (file,) = (tmp_path / "out").iterdir()
        assert np.array_equal(rt.render(**job), np.asarray(Image.open(file)))
        file.unlink()


def test_render_and_tokenize_say_what_is_wrong(tiny, tmp_path):  # noqa: F811
    with pytest.raises(TypeError, match="size_pixels"):
        rt.render("x", size_pixels=3)
    with pytest.raises(ValueError, match="newline"):
        rt.render("x", newline="keeep")
    with pytest.raises(ValueError, match="#12345"):
        rt.render("x", text_color="#12345")
    with pytest.raises(rt.InputError):
        rt.render("a\ud800")
    with pytest.raises(rt.InputError, match="U\\+0000"):
        rt.render("a\0")
    with pytest.raises(FileNotFoundError):
        rt.render("x", fonts=[str(tmp_path / "none.ttf")])
    with pytest.raises(FileNotFoundError):
        rt.tokenize(tmp_path, "x")
    assert rt.tokenize(tiny, "").tolist() == []


def test_tokenize_equals_tokenizers(tiny):  # noqa: F811
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    texts = ["Half of 84 is 42.", "½ <|im_end|>x", "  a\n\nb"]
    for text, ids in zip(texts, rt.tokenize(tiny, texts)):
        assert ids.tolist() == theirs.encode(text, add_special_tokens=False).ids


# ---- the package itself -----------------------------------------------------------------------------------------


def test_structs_are_as_large_as_in_c():
    name = ctypes.c_char_p()
    sizes = {}
    while size := _lib.lib.rot_abi_size(len(sizes), ctypes.byref(name)):
        sizes[name.value.decode()] = size
    assert sizes == {key: ctypes.sizeof(value) for key, value in _lib.MIRRORED.items()}


def test_fields_are_where_c_has_them(tmp_path):
    """Sizes alone would not show two fields that changed places."""
    lines = []
    for name, mirror in _lib.MIRRORED.items():
        lines += [f'printf("{name} {field[0]} %zu\\n", offsetof({name}, {field[0]}));' for field in mirror._fields_]
    source = tmp_path / "offsets.c"
    source.write_text('#include <stddef.h>\n#include <stdio.h>\n#include "rotoscope/rotoscope.h"\nint main(void)\n{\n'
                      + "\n".join(lines) + "\n}\n")
    subprocess.run(["gcc", "-std=c17", f"-I{TOP}/include", "-o", tmp_path / "offsets", source], check=True)
    told = subprocess.run([tmp_path / "offsets"], capture_output=True, check=True, text=True).stdout.split("\n")
    here = [f"{name} {field[0]} {getattr(mirror, field[0]).offset}"
            for name, mirror in _lib.MIRRORED.items() for field in mirror._fields_]
    assert told[:-1] == here


def test_public_names_have_docstrings():
    import rotoscope.torch as rtt

    for module, names in ((rt, rt.__all__), (rtt, rtt.__all__)):
        assert module.__doc__
        for name in names:
            value = getattr(module, name)
            assert value.__doc__, name
            if isinstance(value, type) and not issubclass(value, BaseException):
                for member, method in vars(value).items():
                    if callable(method) and not member.startswith("_") and member != "batches":
                        assert method.__doc__ or member in ("load_state_dict", "dataset"), f"{name}.{member}"


def test_a_wheel_holds_the_library_and_works_elsewhere(plain, tmp_path):  # noqa: F811
    for part in ("python", "include"):
        shutil.copytree(TOP / part, tmp_path / "src" / part, ignore=shutil.ignore_patterns("__pycache__"))
    env = {**os.environ, "ROTOSCOPE_LIBRARY": str(LIBRARY)}
    env.pop("PYTHONPATH")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", tmp_path,
                    tmp_path / "src/python"], check=True, env=env)
    (wheel,) = tmp_path.glob("rotoscope-*.whl")
    assert "-py3-none-linux" in wheel.name
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "site", wheel],
                   check=True)
    env.pop("ROTOSCOPE_LIBRARY")
    code = ("import sys, rotoscope, rotoscope._lib as l; ds = rotoscope.open(sys.argv[1]); "
            "print(len(ds), l.lib._name); assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code, plain], env={**env, "PYTHONPATH": str(tmp_path / "site")},
                          capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split() == [str(ROWS), str(tmp_path / "site/rotoscope/librotoscope.so")]
    assert (tmp_path / "site/rotoscope/py.typed").exists()
    cuda = "librotoscope_cuda.so"
    assert (tmp_path / "site/rotoscope" / cuda).exists() == LIBRARY.with_name(cuda).exists()


def test_a_missing_library_is_said(tmp_path):
    env = {**os.environ, "ROTOSCOPE_LIBRARY": str(tmp_path / "none.so")}
    done = subprocess.run([sys.executable, "-c", "import rotoscope"], env=env, capture_output=True, text=True)
    assert done.returncode != 0 and "none.so: no such file" in done.stderr and "ROTOSCOPE_LIBRARY" in done.stderr
